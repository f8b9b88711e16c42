"""The course of one training: its steps, evaluations, checkpoints and rollbacks."""

import contextlib
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.recipes import Recipe
from pipeline import files
from pipeline.components.trainer import Parameters
from pipeline.errors import DataError, Stopped
from pipeline.orchestration import fingerprint
from pipeline.orchestration.artifact import Context
from pipeline.records.manifest import Manifest
from pipeline.training import (
    health,
    initialization,
    network,
    optimization,
    precision,
    records,
    settings,
    strategy,
)
from pipeline.training.checkpoint import Checkpoint, UnwrittenError
from pipeline.training.feeding import Feed
from pipeline.training.health import Rollback, Trouble, Watch
from pipeline.training.insight import Insight
from pipeline.training.interruption import Interruption
from pipeline.training.loop import Loop, Objective
from pipeline.training.preprocessing import Preprocessing
from pipeline.training.saving import Saving
from pipeline.training.telemetry import Logs, Profiler

TENSORBOARD = "tensorboard"
SETTINGS = "settings.json"

# How often images are shown while training, at most.
_SAMPLES = 10
# Tells that a checkpoint is due apart from the number of workers that are told to stop.
_DUE = 1 << 32
_POLICIES = (precision.FLOAT32, precision.BFLOAT16, precision.FLOAT16)


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Args:
        model: Of the chief, maps preprocessed images to class probabilities, and computes in
            float32. Of other workers, what they trained.
        figures: Loss and accuracy, on both splits where there are two, after `epoch`; and the
            share of the time that steps waited for their input.
        epoch: The number of the epoch after which the weights were taken, from 1.
        worker: The number of this process among the workers; 0 is the chief.
    """

    model: keras.Model
    figures: dict[str, float]
    epoch: int
    worker: int = 0


class Training:
    """A training under way.

    Args:
        chosen: The strategy.
        splits: The records of `train` and perhaps of `eval`.
        contents: The manifest of the examples.
        parameters: Those of Trainer, settled.
        recipe: As it is trained.
        notices: What a person has to know of the recipe, in lines.
        expected: What the network expects of its input.
        deterministic: Whether operations are held to be deterministic.
        state: Where checkpoints and logs are kept.
        context: Shows loss and accuracy while it works.
    """

    def __init__(
        self,
        chosen: tf.distribute.Strategy,
        splits: dict[str, records.Records],
        contents: Manifest,
        parameters: Parameters,
        recipe: Recipe,
        notices: list[str],
        expected: Preprocessing,
        deterministic: bool,
        state: Path,
        context: Context,
    ):
        self._strategy = chosen
        self._parameters = parameters
        self._recipe = recipe
        self._expected = expected
        self._classes = contents.classes
        self._context = context
        self._state = state
        self._worker = strategy.worker(chosen)
        self._agreement = strategy.Agreement(chosen)
        self._saving = Saving(
            state / "checkpoints",
            _fingerprint(contents, parameters, recipe, expected),
            parameters.keep_last,
            context.say,
            writes=not self._worker,
        )
        resumed = self._latest()
        self._precision = self._agreed_precision(resumed)

        self._steps_per_epoch = max(1, round(len(splits["train"]) / recipe.batch_size))
        self._steps = self._until = self._steps_per_epoch * recipe.epochs
        replicas = chosen.num_replicas_in_sync
        synchronized = parameters.bn_synchronized and replicas > 1
        xla = settings.xla(parameters.xla, strategy.has_gpu(), synchronized)

        keras.utils.set_random_seed(parameters.seed)
        with chosen.scope():
            self.model = network.build(
                parameters, len(contents.classes), self._precision.policy, synchronized
            )
            initialization.prepare(self.model, parameters, resumed=bool(resumed))
            optimizer, self._rate_scale = optimization.optimizer(
                recipe,
                self._steps_per_epoch,
                initialization.learning_rates(self.model, parameters),
            )
            scaled = self._precision.policy == precision.FLOAT16
            loss_scale = precision.LossScale() if scaled else None
        augmentation = recipe.augmentation(crop=False, fill=expected.mean)
        self._loop = Loop(
            chosen,
            self.model,
            optimizer,
            recipe.batch_size,
            Objective(expected, recipe, augmentation, parameters.seed),
            loss_scale=loss_scale,
            ema_decay=recipe.ema_decay,
            clip_norm=recipe.clip_norm,
            accumulate=recipe.accumulate_steps,
            learning_rate_scale=self._rate_scale,
            jit_compile=xla.on,
            deterministic=deterministic,
        )
        self._feed = Feed(chosen, splits, parameters, recipe, augmentation, expected, context.say)
        self._settings = settings.effective(
            chosen,
            parameters,
            self._precision,
            xla,
            deterministic=deterministic,
            synchronized=synchronized,
            expected=expected,
            steps_per_epoch=self._steps_per_epoch,
            images=self._feed.images,
        )
        self._settings["recipe"] = recipe.to_dict()
        for line in (*settings.lines(self._settings), *notices):
            context.say(line)

        self._watch = Watch(
            len(contents.classes),
            parameters.explosion or None,
            parameters.explosion_steps,
            sigmoids=recipe.loss == "bce",
        )
        self._step = 0
        self._logged = True
        self._shown: dict[str, float] = {}
        self._evaluated = 0
        self._best: dict[str, Any] | None = None
        if resumed:
            self._restore(resumed)
            self._context.say(f"going on after step {self._step:,} of {self._steps:,}")
        self._rate = recipe.learning_rate
        self._unwritten = 0
        self._saved_at = time.monotonic()
        self._waited = self._looped = 0.0

    def run(
        self, interruption: Interruption, epochs: int | None = None, *, logged: bool = True
    ) -> dict[str, float]:
        """Trains to the last step, and returns loss and accuracy of the weights to be exported.

        Args:
            interruption: Notes what asks to stop.
            epochs: To the end of that one, with a checkpoint there; None for all.
            logged: Whether there are logs for TensorBoard; where there are none, what was measured
                by class is among what is returned.

        Raises:
            Stopped: SIGTERM.
            KeyboardInterrupt: Ctrl-C.
            FloatingPointError: The training is not in order, and going back did not help.
        """
        self._logged = logged
        if epochs is not None:
            self._until = self._steps_per_epoch * epochs
        trouble = None
        if self._saving.good is None:
            trouble = self._save()  # somewhere to go back to
        while trouble := trouble or self._stretch(interruption):
            self._roll_back(trouble)
            trouble = None
        return self._results()

    def _stretch(self, interruption: Interruption) -> Trouble | None:
        """Trains to where it ends, or to where something is out of order, which is returned."""
        batches, held_out = self._feed.training(self._step, self._until), self._feed.held_out()
        logs = self._logs() if self._logged and not self._worker else None
        rounds = self._loop.fit(
            batches,
            self._step,
            self._until,
            self._steps_per_epoch,
            self._parameters.steps_per_loop,
        )
        with contextlib.closing(logs or contextlib.ExitStack()), contextlib.closing(rounds):
            if logs:
                logs.begin(self._step, self._settings, self.model, asdict(self._parameters))
            self._context.progress(self._step, self._until, **self._shown)
            self._evaluate_if_due(held_out, logs)
            for progress in rounds:
                interruption.arm()
                self._step = progress.step
                self._rate = progress.learning_rate
                if trouble := self._watch.judge(progress):
                    return trouble
                self._shown |= {"loss": progress.loss, "accuracy": progress.accuracy}
                self._waited += progress.input_wait
                self._looped += progress.seconds
                if logs:
                    logs.training(progress)
                told, due = self._agreed(interruption)
                if told:
                    self._stop(interruption)
                improved = self._evaluate_if_due(held_out, logs)
                wait = self._waited / self._looped
                self._context.progress(self._step, self._until, **self._shown, input_wait=wait)
                if (self._save_is_due(improved) or due) and (trouble := self._save()):
                    return trouble
            if logs:
                logs.finish(self._results(), self._step)
        return None

    def _results(self) -> dict[str, float]:
        """Returns loss and accuracy of the weights that are exported."""
        best = self._best if self._parameters.export == "best" else None
        return dict(best["figures"] if best else self._shown)

    def _roll_back(self, trouble: Trouble) -> None:
        """Goes back to the last good checkpoint, with a smaller learning rate.

        Raises:
            FloatingPointError: That has been done often enough, or there is none.
        """
        self._agreement.total(0)  # nobody reads while the chief still writes
        history, names = self._saving.history, self._feed.names(max(0, trouble.first - 1))
        found = None
        if len(history) < self._parameters.rollbacks:
            found = self._saving.go_back()
        # The workers go where the chief goes.
        to = self._agreement.total(0 if self._worker or not found else found.step + 1) - 1
        if to < 0:
            raise FloatingPointError(
                health.given_up(trouble, len(history), self._rate, names, self._precision.policy)
            )
        if found is None or found.step != to:
            found = self._saving.load(to)
        self._saving.note(Rollback(trouble.what, trouble.first, trouble.last, to, names))
        self._restore(found)
        self._saved_at = time.monotonic()
        self._unwritten = 0
        self._context.say(
            f"{trouble.what} in {trouble.where}: going back to step {to:,} with "
            f"{self._parameters.rollback_factor:g} times the learning rate (rollback "
            f"{len(history)} of {self._parameters.rollbacks}); "
            f"{history.path.name} beside the checkpoints names the images"
        )

    def finish(self, destination: Path) -> Trained:
        """Writes what is kept beside the model, and returns what was trained."""
        figures = self._results()
        if self._worker:
            return Trained(self.model, figures, self._parameters.epochs, self._worker)
        if self._parameters.export == "best" and self._best and self._best["step"] != self._step:
            self._restore(self._saving.load(self._best["step"]))
        if self._looped:
            figures["input_wait"] = self._waited / self._looped
        self._settings["rollbacks"] = self._saving.history.entries
        files.write_json(destination / SETTINGS, self._settings)
        logs = self._state / TENSORBOARD
        if logs.is_dir():
            shutil.copytree(logs, destination / TENSORBOARD)
        with self._loop.averaged():
            served = network.served(self._parameters, self.model)
        epoch = self._step // self._steps_per_epoch
        return Trained(served, figures, epoch)

    def _latest(self) -> Checkpoint | None:
        """Returns the checkpoint to go on from, the same for all workers."""
        found = self._saving.latest()
        step = found.step + 1 if found else 0
        if self._agreement.total(step) != step * strategy.workers(self._strategy):
            raise DataError(
                f"{self._saving.directory}: the workers do not find the same checkpoints in "
                "it; it has to be on a file system that they share"
            )
        return found

    def _agreed_precision(self, resumed: Checkpoint | None) -> precision.Precision:
        """Returns the precision of the checkpoint, or else the one that the chief finds best."""
        if resumed:
            return precision.Precision(**resumed.facts["precision"])
        found = precision.resolve(self._parameters.precision)
        index = 0 if self._worker else _POLICIES.index(found.policy)
        agreed = _POLICIES[self._agreement.total(index)]
        reason = found.reason if agreed == found.policy else "what the first worker found best"
        return precision.Precision(agreed, reason)

    def _logs(self) -> Logs:
        """Returns where the training is logged."""
        expected = self._expected

        def samples(step: int) -> np.ndarray:
            seen = self._loop.seen(self._feed.shown(step)).numpy()
            return seen * expected.std + expected.mean

        directory, profiler = self._state / TENSORBOARD, None
        if steps := self._parameters.profile_steps:
            profiler = Profiler(directory / "train", steps, self._parameters.steps_per_loop)
        every = self._steps_per_epoch * -(-self._parameters.epochs // _SAMPLES)
        return Logs(
            directory,
            self._classes,
            self._step,
            self._evaluated,
            samples,
            every,
            profiler,
            self._insight(),
        )

    def _insight(self) -> Insight | None:
        """Returns what measures the gradient flow."""
        if not self._parameters.insight_every:
            return None
        return Insight(
            self.model,
            self._recipe.loss_per_example,
            lambda step: self._loop.prepared(self._feed.measured(step)),
            self._parameters.insight_every,
            self._step,
            self._context.say,
        )

    def _evaluate_if_due(self, held_out: tf.data.Dataset | None, logs: Logs | None) -> bool:
        """Evaluates at the end of an epoch, once; returns whether it is the best so far."""
        due = self._step % self._steps_per_epoch == 0 and self._step > self._evaluated
        if held_out is None or not due:
            return False
        evaluation = self._loop.evaluate(held_out, self._feed.evaluation_steps)
        self._evaluated = self._step
        self._shown |= {"eval_accuracy": evaluation.accuracy, "eval_loss": evaluation.loss}
        if not self._logged:
            self._shown |= {f"eval_{name}": found for name, found in evaluation.by_class.items()}
        if logs:
            logs.evaluation(self._step, evaluation)
        if self._best and evaluation.accuracy <= self._best["figures"]["eval_accuracy"]:
            return False
        self._best = {"step": self._step, "figures": dict(self._shown)}
        return True

    def _agreed(self, interruption: Interruption) -> tuple[bool, bool]:
        """Returns whether a worker was told to stop, and whether the chief's clock wants a
        checkpoint."""
        seconds = self._parameters.checkpoint_seconds
        waited = time.monotonic() - self._saved_at
        due = not self._worker and bool(seconds) and waited >= seconds
        told = interruption.received is not None
        due, told = divmod(self._agreement.total(_DUE * due + told), _DUE)
        return bool(told), bool(due)

    def _save_is_due(self, improved: bool) -> bool:
        every, last = self._parameters.checkpoint_steps, self._saving.good or 0
        last = max(last, self._unwritten)
        return (
            self._step == self._until
            or (improved and self._parameters.export == "best")
            or bool(every and self._watch.calm and self._step // every > last // every)
        )

    def _save(self, stopping: bool = False) -> Trouble | None:
        """Writes a checkpoint, if this is the chief; of what is out of order it writes none, and
        returns what it is.

        Raises:
            UnwrittenError: It is the last one, and could not be written.
        """
        variables = self._loop.variables
        tensors = {name: np.asarray(v.numpy()) for name, v in variables.items()}
        if name := health.not_finite(tensors):
            path = getattr(variables[name], "path", name)
            return Trouble(f"{path} holds what is no finite number", self._step, self._step)
        facts = {
            "precision": asdict(self._precision),
            "shown": self._shown,
            "evaluated": self._evaluated,
            "best": self._best,
            "watch": self._watch.state,
        }
        good = self._watch.calm and not stopping
        keep = self._best["step"] if self._best else None
        try:
            self._saving.save(self._step, tensors, facts, good, keep)
        except UnwrittenError as error:
            if self._step == self._until or stopping:
                raise
            self._unwritten = self._step
            self._context.say(f"warning: {error}; the training goes on meanwhile")
        self._saved_at = time.monotonic()
        return None

    def _restore(self, checkpoint: Checkpoint) -> None:
        variables = self._loop.variables
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        found = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        if shapes != found:
            different = min(set(shapes.items()) ^ set(found.items()))[0]
            raise DataError(
                f"{self._saving.directory}: the checkpoint of step {checkpoint.step:,} is of "
                f"another network, which differs in {different}; remove the directory"
            )
        with self._strategy.scope():
            for name, variable in variables.items():
                variable.assign(checkpoint.tensors[name])
        self._step = checkpoint.step
        self._shown = dict(checkpoint.facts["shown"])
        self._evaluated = checkpoint.facts["evaluated"]
        self._best = checkpoint.facts["best"]
        self._watch.state = checkpoint.facts["watch"]
        self._rate_scale.assign(self._parameters.rollback_factor ** len(self._saving.history))

    def _stop(self, interruption: Interruption) -> None:
        """Saves and leaves."""
        where = f"after step {self._step:,} of {self._steps:,}"
        kept = "nothing of it is kept"
        if self._context.state:
            kept = "the same command goes on from there"
            if self._save(stopping=True):
                kept = "the same command goes on from the last checkpoint that is in order"
        self._agreement.total(0)  # nobody leaves while the chief still writes
        signal = interruption.received
        if signal is not None and signal.name == "SIGINT":
            raise KeyboardInterrupt
        name = signal.name if signal else "the signal to another worker"
        raise Stopped(f"stopped by {name} {where}; {kept}")


def _fingerprint(
    contents: Manifest, parameters: Parameters, recipe: Recipe, expected: Preprocessing
) -> str:
    """Returns a digest of everything that the weights depend on, apart from code and hardware."""
    splits = {
        name: [shard.crc32c for shard in split.shards]
        for name, split in contents.splits.items()
        if name in ("train", "eval")
    }
    return fingerprint.digest(
        [asdict(parameters), recipe.to_dict(), asdict(expected), list(contents.classes), splits]
    )
