"""A tiny trained network and what Trainer writes of it, for the tests of serving."""

import dataclasses
from pathlib import Path

import keras
import numpy as np

import keras_resnet
from pipeline.orchestration.artifact import Artifact
from pipeline.serving import export
from pipeline.training.preprocessing import Preprocessing
from tests.pipeline import builders

CLASSES = ("bird", "cat", "dog")
EXPECTED = Preprocessing(height=8, width=8, mean=(120.0,) * 3, std=(60.0,) * 3)


def network(size: int = 8) -> keras.Model:
    """Returns a network whose answers depend on the images as those of a trained one do."""
    keras.utils.set_random_seed(0)
    model = keras_resnet.create(
        "cifar_resnet20", depths=(1, 1, 1), input_shape=(size, size, 3), classes=3
    )
    generator = np.random.default_rng(0)
    # Moving statistics that are not 0 and 1, so that training and inference differ.
    for variable in model.non_trainable_weights:
        variable.assign(variable + generator.uniform(0, 0.3, variable.shape))
    return model


def artifact(folder: Path, model: keras.Model, preprocessing: Preprocessing = EXPECTED) -> Artifact:
    """Returns a Model artifact as Trainer writes it."""
    written = builders.artifact(folder, "Model")
    export.save(model, CLASSES, preprocessing, written.uri / "Format-Serving")
    (written.uri / "Format-Keras").mkdir()
    model.save(written.uri / "Format-Keras" / "model.keras")
    written.properties["preprocessing"] = dataclasses.asdict(preprocessing)
    return written
