"""The networks of the peers."""

import keras
from keras import layers


def applications_resnet50(size: int, classes: int, activation: str | None) -> keras.Model:
    """Returns ResNet-50 of keras.applications, which has the stride in the first convolution."""
    return keras.applications.ResNet50(
        weights=None,
        input_shape=(size, size, 3),
        classes=classes,
        classifier_activation=activation,
    )


def keras_hub_resnet18(size: int, classes: int, activation: str | None) -> keras.Model:
    """Returns ResNet-18 of KerasHub."""
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(size, size, 3),
    )
    x = layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, _classifier(x, classes, activation))


def resnet20(classes: int, activation: str | None) -> keras.Model:
    """Returns ResNet-20 for images of 32×32 (He et al., 2015, section 4.2), with option A."""
    inputs = keras.Input((32, 32, 3))
    x = _activated(_convolution(16)(inputs))
    for filters in (16, 32, 64):
        for block in range(3):
            strides = 2 if filters > 16 and block == 0 else 1
            shortcut = x
            if strides == 2:
                shortcut = layers.AveragePooling2D(1, 2)(x)
                added = filters - x.shape[-1]
                shortcut = keras.ops.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, added)))
            x = _activated(_convolution(filters, strides=strides)(x))
            x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(_convolution(filters)(x))
            x = layers.Activation("relu")(layers.Add()([shortcut, x]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, _classifier(x, classes, activation))


def wrn_28_10(classes: int, activation: str | None) -> keras.Model:
    """Returns WRN-28-10 for images of 32×32 (Zagoruyko and Komodakis, 2016, table 1)."""
    inputs = keras.Input((32, 32, 3))
    x = _convolution(16)(inputs)
    for filters in (160, 320, 640):
        for block in range(4):
            strides = 2 if filters > 160 and block == 0 else 1
            before = _activated(x)
            shortcut = x
            if block == 0:
                shortcut = _convolution(filters, 1, strides)(before)
            x = _activated(_convolution(filters, strides=strides)(before))
            x = layers.Add()([shortcut, _convolution(filters)(x)])
    x = layers.GlobalAveragePooling2D()(_activated(x))
    return keras.Model(inputs, _classifier(x, classes, activation))


PLAIN = {"cifar_resnet20": resnet20, "wrn_28_10": wrn_28_10}


def _activated(x: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    return layers.Activation("relu")(x)


def _convolution(filters: int, size: int = 3, strides: int = 1) -> layers.Layer:
    return layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )


def _classifier(x: keras.KerasTensor, classes: int, activation: str | None) -> keras.KerasTensor:
    return layers.Dense(classes, activation=activation, dtype="float32")(x)
