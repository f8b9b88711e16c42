import numpy as np
import pytest

import keras_resnet


def test_variables_have_readable_paths():
    model = keras_resnet.create("cifar_resnet20", shortcut="B")
    paths = [variable.path for variable in model.variables]
    assert paths[0] == "stem/conv1/kernel"
    assert "stage2_block1/shortcut/conv/kernel" in paths
    assert paths[-1] == "classifier/bias"
    assert len(set(paths)) == len(paths)


def test_images_of_any_size_go_in():
    model = keras_resnet.create("cifar_resnet20", input_shape=(None, None, 3))
    for size in (33, 40):
        probabilities = np.asarray(model(np.zeros((2, size, size + 3, 3), "float32")))
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "trainable", "non_trainable"),
    [("cifar_resnet20", 269_722, 1_376), ("cifar_resnet110", 1_727_962, 8_096)],
)
def test_parameters_of_the_built_network(name, trainable, non_trainable):
    model = keras_resnet.create(name)
    assert sum(variable.size for variable in model.trainable_variables) == trainable
    assert sum(variable.size for variable in model.non_trainable_variables) == non_trainable
