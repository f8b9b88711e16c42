"""Trains one network by a recipe with one seed, and goes on where it was stopped."""

import dataclasses
import io
import json
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_resnet
from keras_resnet import ResNetConfig
from keras_resnet.recipes import Batches, Recipe
from studies import files, tensorboard
from studies.data import Data
from studies.errors import UsageError
from studies.work import Desk

_CIFAR_SIDE = 32

# What the record keeps of each epoch.
_CURVES = {
    "loss": lambda logs: logs["loss"],
    "error": lambda logs: 100 * (1 - logs["accuracy"]),
    "test_loss": lambda logs: logs["val_loss"],
    "test_error": lambda logs: 100 * (1 - logs["val_accuracy"]),
}


@dataclass(frozen=True)
class Training:
    """A training: what it does follows from these and the data.

    Args:
        config: The network.
        recipe: How it is trained; its epochs and its batch size count.
        seed: Of the first weights, of the order of the images and of what is done to them.
    """

    config: ResNetConfig
    recipe: Recipe
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        """What it depends on, as JSON."""
        return {
            "config": self.config.to_dict(),
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
        }


@dataclass
class Trained:
    """A network after its training.

    Args:
        model: The network. The next training of a network of the same kind takes it over.
        curves: For each epoch: training `loss` in nats and `error` in percent, `test_loss`,
            `test_error`, and the `seconds` of its steps and of its test. The training's are means
            over the epoch, of augmented images.
        batches: The images that it was trained on.
        evaluation: Those it was tested on.
        data: Both, as they are.
        seed: Of the training.
    """

    model: keras.Model
    curves: dict[str, list[float]]
    batches: Batches
    evaluation: Batches
    data: Data
    seed: int


def build(config: ResNetConfig, shape: tuple[int, int, int], classes: int, seed: int) -> Any:
    """Returns a network that puts out logits; the seed determines its weights."""
    keras.utils.set_random_seed(seed)
    return keras_resnet.ResNet(
        config, input_shape=shape, classes=classes, classifier_activation=None, seed=seed
    )


def train(training: Training, data: Data, desk: Desk) -> Trained:
    """Trains; after every epoch the state is kept, and a later call goes on from there.

    Args:
        training: What to train.
        data: With what.
        desk: Where the state is kept, and who is told.

    Raises:
        Stopped: If it was asked to stop.
    """
    recipe = training.recipe
    batches = recipe.batches(
        data.train.images, data.train.labels, classes=data.classes, seed=training.seed
    )
    evaluation = batches.evaluation(data.test.images, data.test.labels)
    model = _compiled(training, data, len(batches))
    state = _State(model, training, data, desk.checkpoint)
    curves = state.restored()
    begun = len(curves["loss"])
    for _ in range(begun):
        batches.on_epoch_end()
    keeper = _Keeper(state, curves, desk)
    model.fit(
        batches,
        epochs=recipe.epochs,
        initial_epoch=begun,
        # The batches are shuffled by their seed; Keras would draw their order from a state of its own.
        shuffle=False,
        validation_data=evaluation,
        callbacks=[keeper, *tensorboard.callbacks(desk.logs)],
        verbose=0,
    )
    return Trained(model, curves, batches, evaluation, data, training.seed)


_last: tuple[Any, keras.Model] | None = None


def _compiled(training: Training, data: Data, steps: int) -> keras.Model:
    """Returns the network with the weights of its seed, ready for `fit`.

    To compile a deep network takes longer than a small study trains it. So the network of the last
    training is used again where only the seed differs, with the weights of a new one and with an
    optimizer at its beginning.
    """
    global _last
    key = (training.config, training.recipe, steps, data.shape, data.classes)
    fresh = build(training.config, data.shape, data.classes, training.seed)
    if _last is None or _last[0] != key:
        training.recipe.compile(fresh, steps_per_epoch=steps, epochs=training.recipe.epochs)
        fresh.optimizer.build(fresh.trainable_variables)
        _last = key, fresh
        return fresh
    model = _last[1]
    for variable, new in zip(model.variables, fresh.variables, strict=True):
        variable.assign(new)
    for variable in model.optimizer.variables:
        variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
    return model


class _State:
    """A training between two epochs, in a file."""

    def __init__(self, model: keras.Model, training: Training, data: Data, path: Path):
        self._model, self._path = model, path
        self._settings = {
            **training.settings,
            "data": data.checksum,
            "backend": keras.config.backend(),
        }

    def keep(self, curves: dict[str, list[float]]) -> None:
        content = io.BytesIO()
        arrays = {
            f"variable{number}": keras.ops.convert_to_numpy(variable)
            for number, variable in enumerate(self._variables())
        }
        told = json.dumps({"settings": self._settings, "curves": curves})
        np.savez(content, told=np.array(told), **arrays)
        files.write_bytes(self._path, content.getvalue())

    def restored(self) -> dict[str, list[float]]:
        """Puts the model where the file says; returns its curves, empty ones without a file."""
        empty: dict[str, list[float]] = {name: [] for name in (*_CURVES, "seconds")}
        if not self._path.is_file():
            return empty
        try:
            with np.load(self._path, allow_pickle=False) as kept:
                told = json.loads(str(kept["told"]))
                if told["settings"] != self._settings:
                    return empty
                for number, variable in enumerate(self._variables()):
                    variable.assign(kept[f"variable{number}"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"{self._path} must be the state of a training, but cannot be read ({error}); "
                "remove it to train from the beginning"
            ) from None
        return told["curves"]

    def _variables(self) -> list[Any]:
        return [*self._model.variables, *self._model.optimizer.variables]


class _Keeper(keras.callbacks.Callback):
    """After each epoch: keeps the state, tells how it went, and stops if that was asked."""

    def __init__(self, state: _State, curves: dict[str, list[float]], desk: Desk):
        super().__init__()
        self._state, self._curves, self._desk = state, curves, desk
        self._begin = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name, value in _CURVES.items():
            self._curves[name].append(float(value(logs)))
        self._curves["seconds"].append(time.perf_counter() - self._begin)
        self._state.keep(self._curves)
        done, epochs = epoch + 1, self.params["epochs"]
        loss, error = self._curves["loss"][-1], self._curves["test_error"][-1]
        self._desk.progress(
            done / epochs, f"epoch {done} of {epochs}, loss {loss:.3f}, test error {error:.1f} %"
        )


def shortened(
    recipe: Recipe,
    epochs: int,
    data: Data,
    batch_size: int | None = None,
    warmup_epochs: float | None = None,
) -> Recipe:
    """Returns a recipe for other images and fewer epochs.

    Args:
        recipe: Of a paper, for CIFAR.
        epochs: Passes over the images.
        data: Digits are neither mirrored nor shifted by half of their width.
        batch_size: Images of a step; the learning rate follows as the recipe says.
        warmup_epochs: Of the learning rate.
    """
    return dataclasses.replace(
        recipe,
        epochs=epochs,
        batch_size=batch_size or recipe.batch_size,
        learning_rate=recipe.learning_rate_at(batch_size),
        warmup_epochs=recipe.warmup_epochs if warmup_epochs is None else warmup_epochs,
        random_shift=recipe.random_shift if data.side >= _CIFAR_SIDE else 0,
        random_flip=recipe.random_flip and data.mirrored,
    )
