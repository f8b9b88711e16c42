"""The weights that Google hosts: those of keras.applications, and ResNet-RS of tf.keras.

Files and digests are those of Keras 3.15 and tf-keras, the accuracies those of keras.io. The cached
files are the very ones of keras.applications.
"""

from keras_resnet.weights.records import ImageFormat, WeightsRecord

_HOST = "https://storage.googleapis.com/tensorflow/keras-applications"

# The weights of V1 come from Caffe: the channels turned round, their means over 0 to 255 taken off.
_CAFFE = ImageFormat(
    224,
    None,
    224,
    None,
    "bilinear",
    mean=(103.939, 116.779, 123.68),
    std=(1.0, 1.0, 1.0),
    scale=1.0,
    channels="bgr",
)
_MINUS_ONE_TO_ONE = ImageFormat(
    224, None, 224, None, "bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)

# Name in keras.applications, MD5, top-1 accuracy in percent.
_APPLICATIONS = (
    ("resnet50", "2cb95161c43110f7111970584f804107", 74.9),
    ("resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.4),
    ("resnet152", "100835be76be38e30d865e96f2aaae62", 76.6),
    ("resnet50v2", "3ef43a0b657b3be2300d5770ece849e0", 76.0),
    ("resnet101v2", "6343647c601c52e1368623803854d971", 77.2),
    ("resnet152v2", "a49b44d1979771252814e80f8ec446f9", 78.0),
)

# Depth, image size, MD5; no accuracy is stated for these files.
_RESNET_RS = (
    (50, 160, "69d9d925319f00a8bdd4af23c04e4102"),
    (101, 160, "544b3434d00efc199d66e9058c7f3379"),
    (101, 192, "eb285be29ab42cf4835ff20a5e3b5d23"),
    (152, 192, "8d72a301ed8a6f11a47c4ced4396e338"),
    (152, 224, "31a46a92ab21b84193d0d71dd8c3d03b"),
    (152, 256, "ba6271b99bdeb4e7a9b15c05964ef4ad"),
    (200, 256, "a76930b741884e09ce90fa7450747d5f"),
    (270, 256, "20d575825ba26176b03cb51012a367a8"),
    (350, 256, "f4a039dc3c421321b7fc240494574a68"),
    (350, 320, "7ccb858cc738305e8ceb3c0140bee393"),
    (420, 320, "ae0eb9bed39e64fc8d7e0db4018dc7e8"),
)


def _application(name: str, md5: str, top1: float) -> WeightsRecord:
    file = f"{name}_weights_tf_dim_ordering_tf_kernels.h5"
    preactivation = name.endswith("v2")
    return WeightsRecord(
        architecture=f"keras_{name}",
        tag="imagenet",
        source="keras",
        url=f"{_HOST}/resnet/{file}",
        file=file,
        licence=None,
        images=_MINUS_ONE_TO_ONE if preactivation else _CAFFE,
        digest=f"md5:{md5}",
        top1=top1,
        stride_on="3x3" if preactivation else "1x1",
    )


def _resnet_rs(depth: int, image_size: int, md5: str) -> WeightsRecord:
    file = f"resnet-rs-{depth}-i{image_size}.h5"
    return WeightsRecord(
        architecture=f"resnetrs{depth}",
        tag=f"i{image_size}",
        source="keras",
        url=f"{_HOST}/resnet_rs/{file}",
        file=file,
        licence=None,
        images=ImageFormat(image_size, None, image_size, None, "bilinear"),
        digest=f"md5:{md5}",
    )


KERAS_RECORDS = (
    *(_application(*row) for row in _APPLICATIONS),
    *(_resnet_rs(*row) for row in _RESNET_RS),
)
