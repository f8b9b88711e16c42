"""One constructor for each network of `keras_resnet.SPECS`.

The wide residual networks for images of 32×32 have one between them, `WideResNet`.
"""

from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.factory import ResNet
from keras_resnet.variants import SPECS


def _constructor(constructor: str, spec: str) -> Callable[..., keras.Model]:
    """A function that builds one network, with the arguments of `keras.applications`."""

    def construct(
        include_top: bool = True,
        weights: Any = None,
        input_tensor: Any = None,
        input_shape: tuple[int | None, ...] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: Any = "softmax",
        name: str = spec,
    ) -> keras.Model:
        return ResNet(
            SPECS[spec],
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
        )

    construct.__name__ = construct.__qualname__ = constructor
    construct.__doc__ = (
        f"Builds `{spec}`. The arguments are those of `keras_resnet.ResNet`; "
        f"`keras_resnet.create({spec!r}, ...)` takes fields of the configuration besides."
    )
    return construct


ResNet18 = _constructor("ResNet18", "resnet18")
ResNet34 = _constructor("ResNet34", "resnet34")
ResNet26 = _constructor("ResNet26", "resnet26")
ResNet50 = _constructor("ResNet50", "resnet50")
ResNet101 = _constructor("ResNet101", "resnet101")
ResNet152 = _constructor("ResNet152", "resnet152")
ResNet200 = _constructor("ResNet200", "resnet200")
ResNet50C = _constructor("ResNet50C", "resnet50c")
ResNet101C = _constructor("ResNet101C", "resnet101c")
ResNet152C = _constructor("ResNet152C", "resnet152c")
ResNet18D = _constructor("ResNet18D", "resnet18d")
ResNet26D = _constructor("ResNet26D", "resnet26d")
ResNet34D = _constructor("ResNet34D", "resnet34d")
ResNet50D = _constructor("ResNet50D", "resnet50d")
ResNet101D = _constructor("ResNet101D", "resnet101d")
ResNet152D = _constructor("ResNet152D", "resnet152d")
ResNet200D = _constructor("ResNet200D", "resnet200d")
ResNet26T = _constructor("ResNet26T", "resnet26t")
ResNet50T = _constructor("ResNet50T", "resnet50t")
ResNet18V2 = _constructor("ResNet18V2", "resnetv2_18")
ResNet34V2 = _constructor("ResNet34V2", "resnetv2_34")
ResNet50V2 = _constructor("ResNet50V2", "resnetv2_50")
ResNet101V2 = _constructor("ResNet101V2", "resnetv2_101")
ResNet152V2 = _constructor("ResNet152V2", "resnetv2_152")
ResNet50DV2 = _constructor("ResNet50DV2", "resnetv2_50d")
KerasResNet50 = _constructor("KerasResNet50", "keras_resnet50")
KerasResNet101 = _constructor("KerasResNet101", "keras_resnet101")
KerasResNet152 = _constructor("KerasResNet152", "keras_resnet152")
KerasResNet50V2 = _constructor("KerasResNet50V2", "keras_resnet50v2")
KerasResNet101V2 = _constructor("KerasResNet101V2", "keras_resnet101v2")
KerasResNet152V2 = _constructor("KerasResNet152V2", "keras_resnet152v2")
WideResNet50 = _constructor("WideResNet50", "wide_resnet50_2")
WideResNet101 = _constructor("WideResNet101", "wide_resnet101_2")
ResNeXt50_32x4d = _constructor("ResNeXt50_32x4d", "resnext50_32x4d")
ResNeXt101_32x4d = _constructor("ResNeXt101_32x4d", "resnext101_32x4d")
ResNeXt101_32x8d = _constructor("ResNeXt101_32x8d", "resnext101_32x8d")
ResNeXt101_64x4d = _constructor("ResNeXt101_64x4d", "resnext101_64x4d")
SEResNet18 = _constructor("SEResNet18", "seresnet18")
SEResNet34 = _constructor("SEResNet34", "seresnet34")
SEResNet50 = _constructor("SEResNet50", "seresnet50")
SEResNet101 = _constructor("SEResNet101", "seresnet101")
SEResNet152 = _constructor("SEResNet152", "seresnet152")
SEResNet152D = _constructor("SEResNet152D", "seresnet152d")
SEResNeXt50_32x4d = _constructor("SEResNeXt50_32x4d", "seresnext50_32x4d")
SEResNeXt101_32x4d = _constructor("SEResNeXt101_32x4d", "seresnext101_32x4d")
SEResNeXt101_32x8d = _constructor("SEResNeXt101_32x8d", "seresnext101_32x8d")
LegacySEResNet18 = _constructor("LegacySEResNet18", "legacy_seresnet18")
LegacySEResNet34 = _constructor("LegacySEResNet34", "legacy_seresnet34")
LegacySEResNet50 = _constructor("LegacySEResNet50", "legacy_seresnet50")
LegacySEResNet101 = _constructor("LegacySEResNet101", "legacy_seresnet101")
LegacySEResNet152 = _constructor("LegacySEResNet152", "legacy_seresnet152")
ResNetRS50 = _constructor("ResNetRS50", "resnetrs50")
ResNetRS101 = _constructor("ResNetRS101", "resnetrs101")
ResNetRS152 = _constructor("ResNetRS152", "resnetrs152")
ResNetRS200 = _constructor("ResNetRS200", "resnetrs200")
ResNetRS270 = _constructor("ResNetRS270", "resnetrs270")
ResNetRS350 = _constructor("ResNetRS350", "resnetrs350")
ResNetRS420 = _constructor("ResNetRS420", "resnetrs420")
Plain18 = _constructor("Plain18", "plain18")
Plain34 = _constructor("Plain34", "plain34")
CifarResNet20 = _constructor("CifarResNet20", "cifar_resnet20")
CifarResNet32 = _constructor("CifarResNet32", "cifar_resnet32")
CifarResNet44 = _constructor("CifarResNet44", "cifar_resnet44")
CifarResNet56 = _constructor("CifarResNet56", "cifar_resnet56")
CifarResNet110 = _constructor("CifarResNet110", "cifar_resnet110")
CifarResNet1202 = _constructor("CifarResNet1202", "cifar_resnet1202")
CifarPlain20 = _constructor("CifarPlain20", "cifar_plain20")
CifarPlain32 = _constructor("CifarPlain32", "cifar_plain32")
CifarPlain44 = _constructor("CifarPlain44", "cifar_plain44")
CifarPlain56 = _constructor("CifarPlain56", "cifar_plain56")
CifarPlain110 = _constructor("CifarPlain110", "cifar_plain110")
CifarResNet110SD = _constructor("CifarResNet110SD", "cifar_resnet110_sd")
CifarResNet1202SD = _constructor("CifarResNet1202SD", "cifar_resnet1202_sd")
CifarPreResNet110 = _constructor("CifarPreResNet110", "cifar_preresnet110")
CifarPreResNet164 = _constructor("CifarPreResNet164", "cifar_preresnet164")
CifarPreResNet1001 = _constructor("CifarPreResNet1001", "cifar_preresnet1001")

__all__ = [
    "CifarPlain20",
    "CifarPlain32",
    "CifarPlain44",
    "CifarPlain56",
    "CifarPlain110",
    "CifarPreResNet110",
    "CifarPreResNet164",
    "CifarPreResNet1001",
    "CifarResNet20",
    "CifarResNet32",
    "CifarResNet44",
    "CifarResNet56",
    "CifarResNet110",
    "CifarResNet110SD",
    "CifarResNet1202",
    "CifarResNet1202SD",
    "KerasResNet50",
    "KerasResNet50V2",
    "KerasResNet101",
    "KerasResNet101V2",
    "KerasResNet152",
    "KerasResNet152V2",
    "LegacySEResNet18",
    "LegacySEResNet34",
    "LegacySEResNet50",
    "LegacySEResNet101",
    "LegacySEResNet152",
    "Plain18",
    "Plain34",
    "ResNeXt50_32x4d",
    "ResNeXt101_32x4d",
    "ResNeXt101_32x8d",
    "ResNeXt101_64x4d",
    "ResNet18",
    "ResNet18D",
    "ResNet18V2",
    "ResNet26",
    "ResNet26D",
    "ResNet26T",
    "ResNet34",
    "ResNet34D",
    "ResNet34V2",
    "ResNet50",
    "ResNet50C",
    "ResNet50D",
    "ResNet50DV2",
    "ResNet50T",
    "ResNet50V2",
    "ResNet101",
    "ResNet101C",
    "ResNet101D",
    "ResNet101V2",
    "ResNet152",
    "ResNet152C",
    "ResNet152D",
    "ResNet152V2",
    "ResNet200",
    "ResNet200D",
    "ResNetRS50",
    "ResNetRS101",
    "ResNetRS152",
    "ResNetRS200",
    "ResNetRS270",
    "ResNetRS350",
    "ResNetRS420",
    "SEResNeXt50_32x4d",
    "SEResNeXt101_32x4d",
    "SEResNeXt101_32x8d",
    "SEResNet18",
    "SEResNet34",
    "SEResNet50",
    "SEResNet101",
    "SEResNet152",
    "SEResNet152D",
    "WideResNet50",
    "WideResNet101",
]
