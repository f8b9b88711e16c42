"""The weights on huggingface.co/timm, torchvision's among them.

Image formats and licences are those of timm 1.0.31, the accuracies of its published table of
ImageNet results. The files state no digest here: the hub states it with each download.
"""

from keras_resnet.weights.records import ImageFormat, WeightsRecord

_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

# By training: ResNet strikes back (a, b, c, d), RandAugment (ra), GluonCV, torchvision, ...
_RSB = ImageFormat(224, 0.95, 288, 1.0)
_RSB_160 = ImageFormat(160, 0.95, 224, 0.95)
_RSB_176 = ImageFormat(176, 0.9, 224, 1.0)
_RSB_HALF = ImageFormat(224, 0.95, 288, 1.0, **_HALF)
_RA = ImageFormat(224, 0.875, 288, 0.95)
_RA_256 = ImageFormat(256, 0.95, 320, 1.0)
_RA_26T = ImageFormat(256, 0.94, 320, 1.0)
_RA4 = ImageFormat(224, 0.9, 288, 1.0, **_HALF)
_RA4_224 = ImageFormat(224, 0.9, 224, 0.9, **_HALF)
_GLUON = ImageFormat(224, 0.875, 224, 0.875)
_TV = ImageFormat(224, 0.875, 224, 0.875, "bilinear")
_TV2 = ImageFormat(176, 0.875, 224, 0.965, "bilinear")
_FB = _CADENE = _TV


def _rs(image_size: int, crop: float, test_image_size: int) -> ImageFormat:
    return ImageFormat(image_size, crop, test_image_size, crop)


# Architecture, tag, images, top-1 accuracy in percent at the test size.
_ROWS = (
    ("resnet18", "a1_in1k", _RSB, 73.158),
    ("resnet18", "a2_in1k", _RSB, 72.372),
    ("resnet18", "a3_in1k", _RSB_160, 68.254),
    ("resnet18", "tv_in1k", _TV, 69.76),
    ("resnet18", "fb_ssl_yfcc100m_ft_in1k", _FB, 72.594),
    ("resnet18", "fb_swsl_ig1b_ft_in1k", _FB, 73.282),
    ("resnet18", "gluon_in1k", _GLUON, 70.838),
    ("resnet34", "a1_in1k", _RSB, 77.918),
    ("resnet34", "a2_in1k", _RSB, 77.158),
    ("resnet34", "a3_in1k", _RSB_160, 72.97),
    ("resnet34", "bt_in1k", _RA, 76.48),
    ("resnet34", "ra4_e3600_r224_in1k", _RA4, None),
    ("resnet34", "tv_in1k", _TV, 73.3),
    ("resnet34", "gluon_in1k", _GLUON, 74.578),
    ("resnet26", "bt_in1k", _RA, 76.366),
    ("resnet50", "a1_in1k", _RSB, 81.214),
    ("resnet50", "a1h_in1k", _RSB_176, 80.676),
    ("resnet50", "a2_in1k", _RSB, 80.772),
    ("resnet50", "a3_in1k", _RSB_160, 78.048),
    ("resnet50", "b1k_in1k", _RSB, 80.706),
    ("resnet50", "b2k_in1k", _RSB, 80.454),
    ("resnet50", "c1_in1k", _RSB, 80.912),
    ("resnet50", "c2_in1k", _RSB, 80.87),
    ("resnet50", "d_in1k", _RSB, 80.972),
    ("resnet50", "ram_in1k", _RA, 79.976),
    ("resnet50", "am_in1k", _GLUON, 78.998),
    ("resnet50", "ra_in1k", _RA, 79.836),
    ("resnet50", "bt_in1k", _RA, 79.64),
    ("resnet50", "tv_in1k", _TV, 76.13),
    ("resnet50", "tv2_in1k", _TV2, 80.85),
    ("resnet50", "fb_ssl_yfcc100m_ft_in1k", _FB, 79.234),
    ("resnet50", "fb_swsl_ig1b_ft_in1k", _FB, 81.182),
    ("resnet50", "gluon_in1k", _GLUON, 77.58),
    ("resnet101", "a1h_in1k", _RSB, 82.778),
    ("resnet101", "a1_in1k", _RSB, 82.322),
    ("resnet101", "a2_in1k", _RSB, 82.236),
    ("resnet101", "a3_in1k", _RSB_160, 79.814),
    ("resnet101", "tv_in1k", _TV, 77.376),
    ("resnet101", "tv2_in1k", _TV2, 81.89),
    ("resnet101", "gluon_in1k", _GLUON, 79.31),
    ("resnet152", "a1h_in1k", _RSB, 83.45),
    ("resnet152", "a1_in1k", _RSB, 82.732),
    ("resnet152", "a2_in1k", _RSB, 82.608),
    ("resnet152", "a3_in1k", _RSB_160, 80.546),
    ("resnet152", "tv_in1k", _TV, 78.322),
    ("resnet152", "tv2_in1k", _TV2, 82.288),
    ("resnet152", "gluon_in1k", _GLUON, 79.694),
    ("resnet50c", "gluon_in1k", _GLUON, 78.012),
    ("resnet101c", "gluon_in1k", _GLUON, 79.542),
    ("resnet152c", "gluon_in1k", _GLUON, 79.91),
    ("resnet18d", "ra2_in1k", _RA, 73.794),
    ("resnet18d", "ra4_e3600_r224_in1k", _RA4, None),
    ("resnet26d", "bt_in1k", _RA, 77.408),
    ("resnet34d", "ra2_in1k", _RA, 78.436),
    ("resnet50d", "ra2_in1k", _RA, 81.356),
    ("resnet50d", "ra4_e3600_r224_in1k", _RSB_HALF, None),
    ("resnet50d", "a1_in1k", _RSB, 81.45),
    ("resnet50d", "a2_in1k", _RSB, 81.164),
    ("resnet50d", "a3_in1k", _RSB_160, 78.722),
    ("resnet50d", "gluon_in1k", _GLUON, 79.078),
    ("resnet101d", "ra2_in1k", _RA_256, 83.016),
    ("resnet101d", "gluon_in1k", _GLUON, 80.426),
    ("resnet152d", "ra2_in1k", _RA_256, 83.684),
    ("resnet152d", "gluon_in1k", _GLUON, 80.476),
    ("resnet200d", "ra2_in1k", _RA_256, 83.964),
    ("resnet26t", "ra2_in1k", _RA_26T, 78.332),
    ("resnetv2_18", "ra4_e3600_r224_in1k", _RA4_224, 73.57),
    ("resnetv2_34", "ra4_e3600_r224_in1k", _RA4_224, 77.63),
    ("resnetv2_50", "a1h_in1k", _RSB_HALF, 81.398),
    ("resnetv2_101", "a1h_in1k", _RSB_HALF, 83.002),
    ("wide_resnet50_2", "racm_in1k", _RA, 82.28),
    ("wide_resnet50_2", "tv_in1k", _TV, 78.48),
    ("wide_resnet50_2", "tv2_in1k", _TV2, 81.606),
    ("wide_resnet101_2", "tv_in1k", _TV, 78.838),
    ("wide_resnet101_2", "tv2_in1k", _TV2, 82.498),
    ("resnext50_32x4d", "a1h_in1k", _RSB, 82.014),
    ("resnext50_32x4d", "a1_in1k", _RSB, 81.466),
    ("resnext50_32x4d", "a2_in1k", _RSB, 81.304),
    ("resnext50_32x4d", "a3_in1k", _RSB_160, 79.268),
    ("resnext50_32x4d", "ra_in1k", _RA, 80.698),
    ("resnext50_32x4d", "tv_in1k", _TV, 77.618),
    ("resnext50_32x4d", "tv2_in1k", _TV2, 81.182),
    ("resnext50_32x4d", "fb_ssl_yfcc100m_ft_in1k", _FB, 80.338),
    ("resnext50_32x4d", "fb_swsl_ig1b_ft_in1k", _FB, 82.174),
    ("resnext50_32x4d", "gluon_in1k", _GLUON, 79.36),
    ("resnext101_32x4d", "fb_ssl_yfcc100m_ft_in1k", _FB, 80.924),
    ("resnext101_32x4d", "fb_swsl_ig1b_ft_in1k", _FB, 83.232),
    ("resnext101_32x4d", "gluon_in1k", _GLUON, 80.34),
    ("resnext101_32x8d", "tv_in1k", _TV, 79.31),
    ("resnext101_32x8d", "tv2_in1k", _TV2, 82.832),
    ("resnext101_32x8d", "fb_wsl_ig1b_ft_in1k", _FB, 82.698),
    ("resnext101_32x8d", "fb_ssl_yfcc100m_ft_in1k", _FB, 81.606),
    ("resnext101_32x8d", "fb_swsl_ig1b_ft_in1k", _FB, 84.302),
    ("resnext101_64x4d", "c1_in1k", _RSB, 83.156),
    ("resnext101_64x4d", "tv_in1k", _TV, 82.992),
    ("resnext101_64x4d", "gluon_in1k", _GLUON, 80.6),
    ("seresnet50", "a1_in1k", _RSB, 81.102),
    ("seresnet50", "a2_in1k", _RSB, 81.106),
    ("seresnet50", "a3_in1k", _RSB_160, 77.028),
    ("seresnet50", "ra2_in1k", _RA, 81.284),
    ("seresnet152d", "ra2_in1k", _RA_256, 84.36),
    ("seresnext50_32x4d", "racm_in1k", _RA, 82.196),
    ("seresnext50_32x4d", "gluon_in1k", _GLUON, 79.91),
    ("seresnext101_32x4d", "gluon_in1k", _GLUON, 80.892),
    ("seresnext101_32x8d", "ah_in1k", _RSB, 84.186),
    ("legacy_seresnet18", "in1k", _GLUON, 71.766),
    ("legacy_seresnet34", "in1k", _CADENE, 74.808),
    ("legacy_seresnet50", "in1k", _CADENE, 77.644),
    ("legacy_seresnet101", "in1k", _CADENE, 78.386),
    ("legacy_seresnet152", "in1k", _CADENE, 78.66),
    ("resnetrs50", "tf_in1k", _rs(160, 0.91, 224), 79.896),
    ("resnetrs101", "tf_in1k", _rs(192, 0.94, 288), 82.284),
    ("resnetrs152", "tf_in1k", _rs(256, 1.0, 320), 83.702),
    ("resnetrs200", "tf_in1k", _rs(256, 1.0, 320), 84.444),
    ("resnetrs270", "tf_in1k", _rs(256, 1.0, 352), 84.428),
    ("resnetrs350", "tf_in1k", _rs(288, 1.0, 384), 84.714),
    ("resnetrs420", "tf_in1k", _rs(320, 1.0, 416), 85.006),
)


def _licence(tag: str) -> str:
    if tag.startswith("fb_"):
        return "cc-by-nc-4.0"
    return "bsd-3-clause" if tag.startswith("tv") else "apache-2.0"


TIMM_RECORDS = tuple(
    WeightsRecord(
        architecture=architecture,
        tag=tag,
        source="timm",
        url=f"timm/{architecture}.{tag}/resolve/main/model.safetensors",
        file=f"timm/{architecture}.{tag}.safetensors",
        licence=_licence(tag),
        images=images,
        top1=top1,
        stride_on="1x1" if architecture.startswith("legacy") else "3x3",
    )
    for architecture, tag, images, top1 in _ROWS
)
