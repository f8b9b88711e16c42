"""Beam's RunInference over a SavedModel, shard by shard.

An element is a shard of the listing, and what is predicted of it are the files that it becomes: they
are written batch by batch, so that memory depends neither on the number of images nor on the size of
a shard, and appear by one rename under any runner, also where a bundle is tried twice. Beam's own
handlers for TensorFlow need `tensorflow_hub`, and take arrays.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler, RunInference

from pipeline.beam import execution
from pipeline.beam.reporter import Reporter
from pipeline.bulk import inputs, outputs
from pipeline.bulk.inputs import Row, Shard
from pipeline.bulk.outputs import Place
from pipeline.errors import PipelineError, UsageError
from pipeline.orchestration.artifact import Context
from pipeline.serving.predictor import Predictor

S = TypeVar("S")
T = TypeVar("T")

_END = object()
_FULL = (errno.ENOSPC, errno.EDQUOT)

# A batch ends when its files have so many bytes together, or with the one that exceeds it.
_BATCH_BYTES = 32 << 20
# Batches that have been read before they are asked about.
_READ_AHEAD = 2
# Batches in the model at once: one is decoded while the other is computed.
_ASKED_AT_ONCE = 2


@dataclass(frozen=True)
class Question:
    """What is asked about each image, and where the answers go; it is sent to the workers.

    Args:
        model: The directory of the SavedModel.
        name: Of the model, for the records.
        version: Of the model, or None.
        listing: What `inputs.write` wrote.
        place: Where the files go.
        batch_size: The most images of a call.
        top: How many classes are named; None for as many as the model names.
        probabilities: Whether those of all classes are written.
        features: Whether the signature `features` is asked in place of `serving_default`.
    """

    model: str
    name: str
    version: int | None
    listing: Path
    place: Place
    batch_size: int
    top: int | None
    probabilities: bool
    features: bool

    def absolute(self) -> "Question":
        """Returns the question with paths that mean the same in every working directory."""
        place = self.place
        return replace(
            self,
            model=str(Path(self.model).absolute()),
            listing=self.listing.absolute(),
            place=replace(
                place, directory=place.directory.absolute(), scratch=place.scratch.absolute()
            ),
        )

    @property
    def signature(self) -> str:
        """The name of the signature that is asked."""
        return "features" if self.features else "serving_default"


class Handler(ModelHandler[Shard, int, "Asked"]):
    """Loads the SavedModel, and turns shards into files; each gives the number of its images.

    Args:
        question: What is asked.
        reporter: Receives how many images are done.
    """

    def __init__(self, question: Question, reporter: Reporter):
        # Batches of images are cut within a shard: of shards, one at a time is enough.
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._question = question
        self._reporter = reporter

    def load_model(self) -> "Asked":
        """Returns the model, once in each process."""
        return Asked(self._question)

    def run_inference(
        self,
        batch: Sequence[Shard],
        model: "Asked",
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterable[int]:
        """Writes the files of shards."""
        return [self._infer(shard, model) for shard in batch]

    def get_num_bytes(self, batch: Sequence[Shard]) -> int:
        """Returns the bytes of the shards' lines in the listing."""
        return sum(shard.length for shard in batch)

    def get_metrics_namespace(self) -> str:
        """Returns the name under which Beam counts."""
        return "BulkInferrer"

    def _infer(self, shard: Shard, model: "Asked") -> int:
        rows = inputs.rows(inputs.line_of(self._question.listing, shard))
        batches = ahead(cut(rows, self._question.batch_size, _BATCH_BYTES), _READ_AHEAD)
        try:
            with ExitStack() as stack:
                sink = stack.enter_context(
                    outputs.writing(self._question.place, shard.number, model.encode)
                )
                stack.callback(batches.close)
                answered = mapped(lambda batch: (batch, model(batch)), batches, _ASKED_AT_ONCE)
                stack.callback(answered.close)
                for batch, answers in answered:
                    for row, answer in zip(batch, answers, strict=True):
                        if isinstance(answer, str):
                            sink.error(row.key, answer)
                        else:
                            sink.prediction(row.key, answer)
                    self._reporter.tick(len(batch))
        except OSError as error:
            if error.errno in _FULL:
                raise PipelineError(
                    f"the disk is full: shard {shard.number} of {self._question.place.count} does "
                    "not fit; free space, and the same command goes on with it"
                ) from None
            raise
        return shard.rows


class Asked:
    """A loaded model, and how its answers are stored.

    Args:
        question: What is asked.

    Raises:
        UsageError: There is no such model, or it cannot be asked this.
    """

    def __init__(self, question: Question):
        self._question = question
        self._predictor = Predictor(Path(question.model))
        if question.top is not None and question.top > self._predictor.top:
            raise UsageError(
                f"top {question.top}: the model names the {self._predictor.top} most probable "
                "classes"
            )
        self._answers = self._features if question.features else self._classes
        self._answers([])  # a model without this signature is found out before anything is read
        self.encode: outputs.Encode = (
            outputs.log_encoder(question.name, question.version, question.signature)
            if question.place.format == outputs.PREDICTION_LOG
            else outputs.as_json
        )

    def __call__(self, batch: Sequence[Row]) -> list[Mapping[str, Any] | str]:
        """Returns for each row what the model says by name, or a code."""
        answers = iter(self._within_memory([row.image for row in batch if not row.bad]))
        return [row.bad or next(answers) for row in batch]

    def _within_memory(self, images: list[bytes]) -> list[Mapping[str, Any] | str]:
        """Asks about all at once, or where memory does not suffice for that, half by half."""
        if not images:
            return []
        try:
            return self._answers(images)
        except tf.errors.ResourceExhaustedError as error:
            if len(images) == 1:
                raise PipelineError(
                    f"memory does not suffice for a batch of one image: {error.message}"
                ) from None
            half = len(images) // 2
            return self._within_memory(images[:half]) + self._within_memory(images[half:])

    def _classes(self, images: list[bytes]) -> list[Mapping[str, Any] | str]:
        found = self._predictor(images)
        top = self._question.top
        # One that is not finite makes others so; those of all are looked at in one go.
        finite = np.isfinite(found.probabilities).all(axis=-1).tolist()
        rows: list[Mapping[str, Any] | str] = []
        for number, error in enumerate(found.errors):
            if error or not finite[number]:
                rows.append(error or "not_finite")
                continue
            values = {"classes": found.classes[number][:top], "scores": found.scores[number][:top]}
            if self._question.probabilities:
                values["probabilities"] = found.probabilities[number]
            rows.append(values)
        return rows

    def _features(self, images: list[bytes]) -> list[Mapping[str, Any] | str]:
        vectors, errors = self._predictor.features(images)
        finite = np.isfinite(vectors).all(axis=-1).tolist()
        return [
            error or ({"features": vector} if good else "not_finite")
            for vector, error, good in zip(vectors, errors, finite, strict=True)
        ]


def run(
    question: Question, shards: Sequence[Shard], context: Context, data: Path | None = None
) -> None:
    """Writes the files of `shards`.

    Args:
        question: What is asked.
        shards: Those that are not done yet.
        context: Its progress receives how many of their images are done.
        data: A file or folder that all images lie in, which every worker has to see; None where
            they lie behind URIs.

    Raises:
        PipelineError: The model cannot be asked, or the disk is full.
        Stopped: SIGTERM.
    """
    total = sum(shard.rows for shard in shards)
    question = question.absolute()
    seen = [Path(question.model), question.listing, question.place.directory]
    seen += [data] if data else []
    with execution.pipeline(context, total, question.place.scratch, seen) as running:
        (
            running.pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> running.spread()
            | "Infer" >> RunInference(Handler(question, running.reporter))
        )


def cut(rows: Iterable[Row], size: int, most: int) -> Iterator[list[Row]]:
    """Yields rows in batches of `size`, or fewer where they have `most` bytes together."""
    batch: list[Row] = []
    total = 0
    for row in rows:
        batch.append(row)
        total += len(row.image)
        if len(batch) == size or total >= most:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def ahead(items: Iterator[T], most: int) -> Iterator[T]:
    """Yields `items`, of which a thread makes up to `most` before they are wanted."""
    with ThreadPoolExecutor(1, "reading ahead") as pool:
        pending = deque(pool.submit(next, items, _END) for _ in range(most))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(next, items, _END))
                yield item
        finally:
            for future in pending:
                future.cancel()


def mapped(function: Callable[[S], T], items: Iterator[S], at_once: int) -> Iterator[T]:
    """Yields `function` of each item in order, computed by threads, `at_once` at a time."""
    with ThreadPoolExecutor(at_once, "asking") as pool:
        pending: deque[Any] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) == at_once:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
