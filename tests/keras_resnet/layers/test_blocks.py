import keras
import numpy as np
import pytest

from keras_resnet.layers import BottleneckBlock, ResidualBlock


@pytest.mark.parametrize(("block", "filters"), [(ResidualBlock, 8), (BottleneckBlock, 2)])
def test_original_block_with_zero_residual_weights_is_relu_of_its_input(block, filters):
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 8)).astype("float32")
    y = block(filters)(x)  # zero_init_residual: the last gamma is zero
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(y), np.maximum(x, 0))


@pytest.mark.parametrize(("block", "filters"), [(ResidualBlock, 8), (BottleneckBlock, 2)])
def test_preactivation_block_with_zero_kernels_is_the_identity(block, filters):
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 8)).astype("float32")
    y = block(filters, order="full_preactivation", kernel_initializer="zeros")(x)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(y), x)


def test_identity_refuses_another_number_of_channels():
    with pytest.raises(ValueError, match=r"`kind`.*8 channels.*filters=16.*kind='identity'"):
        ResidualBlock(16)(np.zeros((1, 4, 4, 8), "float32"))
