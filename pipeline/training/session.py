"""One training: verified records, the network under its strategy, the epochs, the checkpoints."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline import files
from pipeline.components.trainer import Parameters
from pipeline.errors import DataError, Stopped, UsageError
from pipeline.orchestration import fingerprint
from pipeline.orchestration.artifact import Context
from pipeline.records.manifest import Manifest
from pipeline.training import (
    determinism,
    insight,
    network,
    optimization,
    order,
    precision,
    records,
    settings,
    strategy,
)
from pipeline.training.augmentation import Augmentation
from pipeline.training.checkpoint import Checkpoint, Checkpoints
from pipeline.training.inputs import Images, Share
from pipeline.training.interruption import Interruption
from pipeline.training.loop import Loop, Objective
from pipeline.training.preprocessing import Preprocessing
from pipeline.training.telemetry import Logs, Profiler

TENSORBOARD = "tensorboard"
SETTINGS = "settings.json"

_MIB = 1 << 20
# How often images are shown while training, and how many, at most.
_SAMPLES, _SHOWN = 10, 16
_POLICIES = (precision.FLOAT32, precision.BFLOAT16, precision.FLOAT16)
# What TensorFlow raises when another worker has died.
_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


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


def train(
    root: Path,
    contents: Manifest,
    parameters: Parameters,
    expected: Preprocessing,
    destination: Path,
    context: Context,
) -> Trained:
    """Trains on the split `train`, and evaluates on `eval`, if there is one, after every epoch.

    Goes on from the last checkpoint in `context.state`.

    Args:
        root: The Examples artifact.
        contents: Its manifest.
        parameters: Those of Trainer.
        expected: What the network is to expect of its input.
        destination: Directory that receives the settings and the TensorBoard logs.
        context: Shows loss and accuracy while it works.

    Raises:
        DataError: The records do not match their manifest, or the checkpoints are of another
            training.
        UsageError: The batch cannot be shared out among the replicas.
        Stopped: The process was told to end, or another worker has gone.
        FloatingPointError: The loss is no longer finite.
    """
    chosen = strategy.make(parameters.strategy)
    replicas = chosen.num_replicas_in_sync
    if parameters.batch_size % replicas:
        raise UsageError(
            f"trainer.batch_size {parameters.batch_size}: cannot be shared out equally among "
            f"{replicas} replicas"
        )
    deterministic = parameters.deterministic
    if deterministic is None:
        deterministic = not strategy.has_gpu()
    with contextlib.ExitStack() as stack:
        stack.enter_context(determinism.held(deterministic))
        interruption = stack.enter_context(Interruption())
        splits = {}
        for split in ("train", "eval"):
            if split == "train" or (split in contents.splits and contents.splits[split].examples):
                opened = records.open_split(root, contents, split)
                splits[split] = stack.enter_context(contextlib.closing(opened))
        state = context.state or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(_stopped_by_lost_worker(chosen))
        training = _Training(
            chosen, splits, contents, parameters, expected, deterministic, state, context
        )
        training.run(interruption)
        return training.finish(destination)


@contextlib.contextmanager
def _stopped_by_lost_worker(chosen: tf.distribute.Strategy) -> Iterator[None]:
    """Raises Stopped in place of what TensorFlow raises when another worker has died."""
    try:
        yield
    except _LOST_WORKER as error:
        if strategy.workers(chosen) == 1:
            raise
        raise Stopped(
            "another worker has gone; start all of them again, and the training goes on from its "
            f"last checkpoint ({str(error).strip().splitlines()[-1]})"
        ) from error


class _Training:
    """What belongs together while a training runs."""

    def __init__(
        self,
        chosen: tf.distribute.Strategy,
        splits: dict[str, records.Records],
        contents: Manifest,
        parameters: Parameters,
        expected: Preprocessing,
        deterministic: bool,
        state: Path,
        context: Context,
    ):
        self._strategy = chosen
        self._parameters = parameters
        self._expected = expected
        self._classes = contents.classes
        self._context = context
        self._state = state
        self._worker = strategy.worker(chosen)
        self._agreement = strategy.Agreement(chosen)
        self._checkpoints = Checkpoints(
            state / "checkpoints",
            _fingerprint(contents, parameters, expected),
            parameters.keep_last,
            context.say,
        )
        resumed = self._latest()
        self._precision = self._agreed_precision(resumed)

        examples = len(splits["train"])
        self._steps_per_epoch = max(1, round(examples / parameters.batch_size))
        self._steps = self._steps_per_epoch * parameters.epochs
        replicas = chosen.num_replicas_in_sync
        synchronized = parameters.bn_synchronized and replicas > 1
        xla = settings.xla(parameters.xla, strategy.has_gpu(), synchronized)

        keras.utils.set_random_seed(parameters.seed)
        with chosen.scope():
            self.model = network.build(
                parameters, len(contents.classes), self._precision.policy, synchronized
            )
            optimizer = optimization.optimizer(parameters, self._steps_per_epoch, self._steps)
            scaled = self._precision.policy == precision.FLOAT16
            loss_scale = precision.LossScale() if scaled else None
        augmentation = Augmentation(
            parameters.random_shift,
            parameters.random_flip,
            parameters.random_rotation,
            parameters.random_zoom,
        )
        self._loop = Loop(
            chosen,
            self.model,
            optimizer,
            parameters.batch_size,
            Objective(
                expected,
                parameters.weight_decay,
                parameters.label_smoothing,
                augmentation,
                parameters.seed,
            ),
            loss_scale=loss_scale,
            ema_decay=parameters.ema_decay,
            jit_compile=xla.on,
            deterministic=deterministic,
        )
        self._images = {
            "train": Images(
                splits["train"],
                expected,
                parameters.random_crop,
                parameters.seed,
                augmentation.interpolates,
            )
        }
        if "eval" in splits:
            self._images["eval"] = Images(splits["eval"], expected)
        self._cache()
        self._settings = settings.effective(
            chosen,
            parameters,
            self._precision,
            xla,
            deterministic=deterministic,
            synchronized=synchronized,
            expected=expected,
            steps_per_epoch=self._steps_per_epoch,
            images=self._images,
        )
        for line in settings.lines(self._settings):
            context.say(line)

        self._step = 0
        self._shown: dict[str, float] = {}
        self._evaluated = 0
        self._best: dict[str, Any] | None = None
        if resumed:
            self._restore(resumed)
            self._context.say(f"going on after step {self._step:,} of {self._steps:,}")
        self._saved = self._step
        self._saved_at = time.monotonic()
        self._waited = self._looped = 0.0

    def run(self, interruption: Interruption) -> None:
        """Trains to the last step.

        Raises:
            Stopped: SIGTERM.
            KeyboardInterrupt: Ctrl-C.
        """
        images = self._images["train"]
        weights = optimization.class_weights(self._parameters.class_weights, images.labels)
        rows, start = self._order(images), self._step
        batches = self._distributed(
            lambda share: images.training(rows, share, start, self._steps, weights)
        )
        held_out = self._held_out()
        logs = None if self._worker else self._logs(rows)
        rounds = self._loop.fit(
            batches, start, self._steps, self._steps_per_epoch, self._parameters.steps_per_loop
        )
        with contextlib.closing(logs or contextlib.ExitStack()), contextlib.closing(rounds):
            if logs:
                logs.begin(self._step, self._settings, self.model, asdict(self._parameters))
            self._context.progress(self._step, self._steps, **self._shown)
            self._evaluate_if_due(held_out, logs)
            for progress in rounds:
                interruption.arm()
                self._step = progress.step
                self._shown |= {"loss": progress.loss, "accuracy": progress.accuracy}
                self._waited += progress.input_wait
                self._looped += progress.seconds
                if logs:
                    logs.training(progress)
                if self._agreement.total(int(interruption.received is not None)):
                    self._stop(interruption)
                improved = self._evaluate_if_due(held_out, logs)
                wait = self._waited / self._looped
                self._context.progress(self._step, self._steps, **self._shown, input_wait=wait)
                if self._save_is_due(improved):
                    self._save()
            if logs:
                logs.finish(self._results(), self._step)

    def _results(self) -> dict[str, float]:
        """Returns loss and accuracy of the weights that are exported."""
        best = self._best if self._parameters.export == "best" else None
        return dict(best["figures"] if best else self._shown)

    def finish(self, destination: Path) -> Trained:
        """Writes what is kept beside the model, and returns what was trained."""
        figures = self._results()
        if self._worker:
            return Trained(self.model, figures, self._parameters.epochs, self._worker)
        if self._parameters.export == "best" and self._best and self._best["step"] != self._step:
            self._restore(self._checkpoints.load(self._best["step"]))
        if self._looped:
            figures["input_wait"] = self._waited / self._looped
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
        found = self._checkpoints.latest()
        step = found.step if found else 0
        if self._agreement.total(step) != step * strategy.workers(self._strategy):
            raise DataError(
                f"{self._checkpoints.directory}: the workers do not find the same checkpoints in "
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

    def _cache(self) -> None:
        """Decodes once what is the same each time and fits into memory."""
        left = self._parameters.cache_mb * _MIB
        for name, images in self._images.items():
            size = images.decoded_bytes
            if size is not None and size <= left:
                left -= size
                if size > 64 * _MIB:
                    self._context.say(f"decoding {len(images):,} images of {name} into memory")
                images.cache()

    def _order(self, images: Images) -> order.Order:
        if self._parameters.sampling == "balanced":
            return order.Balanced(images.labels, self._parameters.seed)
        return order.Shuffled(len(images), self._parameters.seed)

    def _distributed(self, make: Callable[[Share], tf.data.Dataset]) -> tf.data.Dataset:
        """Lets every process feed its own replicas, and nothing else."""

        def feed(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = context.num_replicas_in_sync // context.num_input_pipelines
            return make(
                Share(
                    self._parameters.batch_size,
                    context.num_replicas_in_sync,
                    local,
                    context.input_pipeline_id * local,
                )
            )

        return self._strategy.distribute_datasets_from_function(feed)

    def _held_out(self) -> tf.data.Dataset | None:
        images = self._images.get("eval")
        return self._distributed(images.evaluation) if images else None

    def _logs(self, rows: order.Order) -> Logs:
        """Returns where the training is logged."""
        size, expected = self._parameters.batch_size, self._expected
        # As if the batch were that of so many replicas, of which the first is shown.
        shown = max(number for number in range(1, _SHOWN + 1) if size % number == 0)
        share = Share(size, size // shown)

        def samples(step: int) -> np.ndarray:
            (batch,) = self._images["train"].training(rows, share, step, step + 1)
            return self._loop.seen(batch).numpy() * expected.std + expected.mean

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
            self._insight(rows),
        )

    def _insight(self, rows: order.Order) -> insight.Insight | None:
        """Returns what measures the gradient flow, on the part of a batch that a replica computes
        at once."""
        if not self._parameters.insight_every:
            return None
        size = self._parameters.batch_size
        share = Share(size, insight.parts(size, self._strategy.num_replicas_in_sync))

        def examples(step: int) -> insight.Example:
            (batch,) = self._images["train"].training(rows, share, step, step + 1)
            return self._loop.prepared(batch)

        return insight.Insight(
            self.model,
            tf.nn.softmax_cross_entropy_with_logits,
            examples,
            self._parameters.insight_every,
            self._step,
            self._context.say,
        )

    def _evaluate_if_due(self, held_out: tf.data.Dataset | None, logs: Logs | None) -> bool:
        """Evaluates at the end of an epoch, once; returns whether it is the best so far."""
        due = self._step % self._steps_per_epoch == 0 and self._step > self._evaluated
        if held_out is None or not due:
            return False
        images = self._images["eval"]
        share = Share(self._parameters.batch_size)
        evaluation = self._loop.evaluate(held_out, images.evaluation_steps(share))
        self._evaluated = self._step
        self._shown |= {"eval_accuracy": evaluation.accuracy, "eval_loss": evaluation.loss}
        if logs:
            logs.evaluation(self._step, evaluation)
        if self._best and evaluation.accuracy <= self._best["figures"]["eval_accuracy"]:
            return False
        self._best = {"step": self._step, "figures": dict(self._shown)}
        return True

    def _save_is_due(self, improved: bool) -> bool:
        every, seconds = self._parameters.checkpoint_steps, self._parameters.checkpoint_seconds
        return (
            self._step == self._steps
            or (improved and self._parameters.export == "best")
            or bool(every and self._step // every > self._saved // every)
            or bool(seconds and time.monotonic() - self._saved_at >= seconds)
        )

    def _save(self) -> None:
        """Writes a checkpoint, if this is the chief."""
        if not self._worker:
            self._checkpoints.save(
                self._step,
                {name: np.asarray(v.numpy()) for name, v in self._loop.variables.items()},
                {
                    "precision": asdict(self._precision),
                    "shown": self._shown,
                    "evaluated": self._evaluated,
                    "best": self._best,
                },
                protected=[self._best["step"]] if self._best else [],
            )
        self._saved = self._step
        self._saved_at = time.monotonic()

    def _restore(self, checkpoint: Checkpoint) -> None:
        variables = self._loop.variables
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        found = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        if shapes != found:
            different = min(set(shapes.items()) ^ set(found.items()))[0]
            raise DataError(
                f"{self._checkpoints.directory}: the checkpoint of step {checkpoint.step:,} is of "
                f"another network, which differs in {different}; remove the directory"
            )
        with self._strategy.scope():
            for name, variable in variables.items():
                variable.assign(checkpoint.tensors[name])
        self._step = checkpoint.step
        self._shown = dict(checkpoint.facts["shown"])
        self._evaluated = checkpoint.facts["evaluated"]
        self._best = checkpoint.facts["best"]

    def _stop(self, interruption: Interruption) -> None:
        """Saves and leaves."""
        where = f"after step {self._step:,} of {self._steps:,}"
        kept = "nothing of it is kept"
        if self._context.state:
            self._save()
            kept = "the same command goes on from there"
        self._agreement.total(0)  # nobody leaves while the chief still writes
        signal = interruption.received
        if signal is not None and signal.name == "SIGINT":
            raise KeyboardInterrupt
        name = signal.name if signal else "the signal to another worker"
        raise Stopped(f"stopped by {name} {where}; {kept}")


def _fingerprint(contents: Manifest, parameters: Parameters, expected: Preprocessing) -> str:
    """Returns a digest of everything that the weights depend on, apart from code and hardware."""
    splits = {
        name: [shard.crc32c for shard in split.shards]
        for name, split in contents.splits.items()
        if name in ("train", "eval")
    }
    return fingerprint.digest(
        [asdict(parameters), asdict(expected), list(contents.classes), splits]
    )
