"""Runs whose artifacts were written by hand, as their components write them."""

import dataclasses
import json

import numpy as np
from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline import files
from pipeline.evaluation import assessment, output, verdict
from pipeline.evaluation.assessment import Sampling
from pipeline.evaluation.comparison import Rule
from pipeline.evaluation.thresholds import Thresholds
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.store import Store
from pipeline.records import examples, manifest, protos, tfrecord
from pipeline.records.examples import ImageExample
from pipeline.reporting import evaluation
from pipeline.training.events import Events
from tests.pipeline import builders
from tests.pipeline.evaluation import fakes

GRAPH = {
    "ExampleGen": (),
    "StatisticsGen": ("ExampleGen",),
    "SchemaGen": ("StatisticsGen",),
    "ExampleValidator": ("StatisticsGen", "SchemaGen"),
    "Trainer": ("ExampleGen", "StatisticsGen", "ExampleValidator"),
    "Evaluator": ("ExampleGen", "Trainer"),
    "InfraValidator": ("ExampleGen", "Trainer"),
    "Pusher": ("Trainer", "Evaluator", "InfraValidator"),
}
ANOMALY = {
    "name": "train:imbalance",
    "split": "train",
    "code": "imbalance",
    "feature": "image/class/text",
    "severity": "WARNING",
    "description": "image/class/text_of_a_feature: the largest class has 4 times the smallest",
    "waived": True,
}
COMMAND = "python -m pipeline run pets.yaml --set trainer.epochs=2"


def example(index, label, text, size=(12, 10)):
    """Returns an example with a picture of its own."""
    encoded = builders.encode(builders.noise(index, *size))
    return ImageExample(encoded, "png", *size, label, text, f"{text}/{index}.png")


def write_examples(root, splits, classes, **lists):
    """Writes an Examples artifact.

    Args:
        root: Its directory.
        splits: Split to its examples.
        classes: In label order.
        lists: Name of a file to its entries, or to the object in it.
    """
    found = {}
    for split, own in splits.items():
        file = root / f"Split-{split}" / "data_tfrecord-00000-of-00001"
        file.parent.mkdir()
        summary = tfrecord.write(file, map(examples.serialize, own))
        shard = manifest.Shard(file=file.relative_to(root).as_posix(), **vars(summary))
        counts = {text: sum(e.text == text for e in own) for text in classes}
        found[split] = manifest.Split(shards=(shard,), class_counts=counts)
    manifest.Manifest(classes=tuple(classes), splits=found).save(root)
    for name, content in lists.items():
        if isinstance(content, dict):
            files.write_json(root / f"{name}.json", content)
        else:
            lines = "".join(json.dumps(entry) + "\n" for entry in content)
            files.write_text(root / f"{name}.jsonl", lines)


def write_statistics(root, **splits):
    """Writes a histogram of brightness of each split, sizes, and the mean of the channels."""
    for split, buckets in splits.items():
        message = statistics_pb2.DatasetFeatureStatisticsList()
        dataset = message.datasets.add(name=split, num_examples=7)
        measured = dataset.features.add()
        measured.path.step.append("image/brightness")
        stats = measured.num_stats
        stats.min, stats.max, stats.mean = 8, 240, 123.4
        histogram = stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
        for low, count in buckets.items():
            histogram.buckets.add(low_value=low, high_value=low + 8, sample_count=count)
        image = dataset.features.add()
        image.path.step.append("image/encoded")
        image.bytes_stats.max_num_bytes = 1
        for number, channel in enumerate(protos.CHANNELS):
            for prefix in (protos.CHANNEL_MEAN, protos.CHANNEL_STD):
                image.custom_stats.add(name=prefix + channel, num=100 + number)
        path = root / f"Split-{split}" / "FeatureStats.pb"
        files.write_bytes(path, message.SerializeToString())


def write_training(root, steps=40):
    """Writes the events of a training, with what it was set to."""
    train, held_out = (Events(root / "tensorboard" / split, 0) for split in ("train", "eval"))
    train.image("augmented", builders.noise(5, 20, 20), 0)
    for step in range(2, steps + 1, 2):
        train.scalar("loss", 2.0 / step, step)
        train.scalar("accuracy", step / steps, step)
        train.scalar("learning_rate", 0.1, step)
        train.scalar("images_per_second", 100.0 + step, step)
        train.scalar("input_wait", 0.25, step)
    for step in (steps // 2, steps):
        held_out.scalar("loss", 1.0 / step, step)
        held_out.scalar("accuracy", 0.5, step)
    train.close()
    held_out.close()
    files.write_json(root / "settings.json", settings(steps))


def settings(steps=40):
    """Returns what a training says that it was set to."""
    return {
        "strategy": "MirroredStrategy",
        "devices": ["CPU:0"],
        "precision": {"policy": "float32", "reason": "no GPU"},
        "deterministic": True,
        "batch_size": 32,
        "steps": steps,
        "steps_per_epoch": steps // 2,
        "recipe": {
            "name": "default",
            "reference": "what a test trains with",
            "epochs": 2,
            "optimizer": "sgd",
            "learning_rate": 0.1,
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "weight_decay": 0.0005,
            "random_flip": True,
            "mixup": 0.2,
        },
        "rollbacks": [{"what": "the loss is nan", "first": 7, "last": 8, "to": 5, "images": []}],
    }


def assessed(classes, number=90, baseline=True, resamples=40, at_least=0.99):
    """Returns an assessment of predictions that are made up, and the verdict on it."""
    ours, labels = fakes.drawn(len(classes), number, 0, sharpness=5)
    theirs, _ = fakes.drawn(len(classes), number, 0, sharpness=4)
    features = {"image/brightness": list(np.arange(float(number)))}
    found = fakes.table(ours, labels, theirs if baseline else None, **features)
    keys = [example(index, 0, "").key for index in range(number)]
    found = dataclasses.replace(found, classes=tuple(classes), keys=keys)
    rule, thresholds = Rule(), Thresholds(accuracy=at_least)
    judged = assessment.assess(found, {"image/brightness": 3}, rule, Sampling(resamples))
    decided = verdict.decide(judged, thresholds, rule, "saved_models/pets/1" if baseline else "")
    return judged, decided, thresholds


def write_evaluation(root, blessing, judged, decided, thresholds):
    """Writes an evaluation, with the images of the worst mistakes, and its blessing."""
    given = judged.predictions
    rows = root / "part"
    with rows.open("w") as file:
        for index, label in enumerate(given.labels):
            row = {
                "key": given.keys[index],
                "filename": given.filenames[index],
                "class": given.classes[label],
                "predicted": given.classes[given.candidate.predicted[index]],
                "score": float(given.candidate.score[index]),
                "probability": float(given.candidate.own[index]),
            }
            file.write(json.dumps(row) + "\n")
    output.write(root, judged, [rows], verdict.comparison_as_json(decided), {})
    worst = evaluation.choose(judged, 6, 0).worst
    shown = {
        given.places[index]: example(index, 0, given.classes[given.labels[index]])
        for index in worst
    }
    output.write_mistakes(root, judged, worst, shown)
    name = "BLESSED" if decided.blessed else "NOT_BLESSED"
    files.write_json(blessing / name, verdict.as_json(decided, thresholds))


class Recorded:
    """A pipeline root with one run in it.

    Args:
        root: The pipeline root.
        config: The effective configuration.
        graph: Components with what they depend on.
    """

    def __init__(self, root, config=None, graph=None):
        self.store, self.graph = Store(root), graph or GRAPH
        config = {"name": "pets", "example_gen": {"source": "pets"}} | (config or {})
        self.run = self.store.begin_run(
            "pets", list(self.graph.items()), config, COMMAND, "0123abc"
        )
        self.made = {}

    def step(self, component, write=None, result="done", refusal=None, error="", **outputs):
        """Records an execution.

        Args:
            component: Its name.
            write: Is given the directory of each output by its key.
            result: Its result line.
            refusal: Why it refused.
            error: Why it failed; then it has no outputs.
            outputs: Output key to the properties of the artifact.
        """
        parameters = {"source": "pets"} if component == "ExampleGen" else {}
        read = {}
        for name in self.graph[component]:
            read |= self.made.get(name, {})
        dependencies = {
            "inputs": {key: artifact.digest for key, artifact in read.items()},
            "parameters": parameters,
            "libraries": {"PIL": "12.3.0", "yaml": None},
        }
        execution = self.store.begin(component, f"key of {component}", dependencies, read, self.run)
        if error:
            self.store.abandon(execution, "FAILED", error)
            return
        staged = {
            key: builders.artifact(self.store.staging(execution, key), **properties)
            for key, properties in outputs.items()
        }
        if write:
            write(**{key: made.uri for key, made in staged.items()})
        self.made[component] = self.store.complete(
            execution, staged, Outcome(result, refusal)
        ).outputs

    def end(self, state="COMPLETE", error=""):
        """Records that the run has ended."""
        self.store.end_run(self.run, state, error)


def pets(root, until="Pusher", classes=("cat", "dog"), config=None, at_least=0.5, baseline=True):
    """Records a run on images of `classes` as far as the component `until`.

    Args:
        root: The pipeline root.
        until: The last component that ended well.
        classes: Of the images.
        config: What the configuration has beside the source.
        at_least: The accuracy that the Evaluator wants.
        baseline: Whether there is a model in production.

    Returns:
        The run, which has not ended.
    """
    made = Recorded(root, config)
    splits = {
        name: [example(k + 100 * n, k % len(classes), classes[k % len(classes)]) for k in range(c)]
        for n, (name, c) in enumerate((("train", 15), ("eval", 4), ("test", 6)))
    }
    judged, decided, thresholds = assessed(classes, at_least=at_least, baseline=baseline)

    def ingest(examples):
        fates = {"seen": 28, "written": 25, "quarantined": 3, "duplicates": 0}
        none = dict.fromkeys(fates, 0)
        account = {"all": fates, "classes": {**dict.fromkeys(classes, none), classes[0]: fates}}
        refused = {"name": "pets/cut.jpg", "class": classes[0], "sha256": "c0", "reason": "damaged"}
        both = {"reason": "conflicting_labels", "classes": " and ".join(classes[:2])}
        twice = [{**refused, **both, "name": f"pets/{n}.jpg", "class": classes[n]} for n in (0, 1)]
        alike = {"kind": "near", "distance": 3, "class": classes[0], "other_class": classes[1]}
        pair = {
            "name": "pets/5.jpg",
            "split": "train",
            "other": "pets/6.jpg",
            "other_split": "eval",
        }
        write_examples(
            examples,
            splits,
            classes,
            account=account,
            quarantine=[refused, *twice],
            overlaps=[{**alike, **pair}],
        )

    def probe(blessing):
        found = {"blessed": True, "reasons": [], "backend": "a process", "images": 16}
        found |= {"max_difference": 2.42e-7, "latency_ms": {"1": {"p50": 2.31}, "8": {"p50": 9}}}
        files.write_json(blessing / "INFRA_BLESSED", found)

    def warn(anomalies):
        severe = {"name": "test:near_leakage", "code": "near_leakage", "split": "test"}
        stops = {**ANOMALY, **severe, "severity": "ERROR", "waived": False}
        files.write_json(anomalies / "anomalies.json", [ANOMALY, stops])

    def evaluate(evaluation, blessing):
        write_evaluation(evaluation, blessing, judged, decided, thresholds)

    names = json.dumps(list(splits))
    pushed = {"pushed": 1, "pushed_version": 7, "pushed_destination": "saved_models/pets/7"}
    steps = {
        "ExampleGen": (ingest, {"examples": {}}),
        "StatisticsGen": (
            lambda statistics: write_statistics(statistics, train={8: 5}, test={16: 2}),
            {"statistics": {"split_names": names}},
        ),
        "SchemaGen": (None, {"schema": {}}),
        "ExampleValidator": (warn, {"anomalies": {}}),
        "Trainer": (
            lambda model, model_run: write_training(model_run),
            {"model": {"architecture": "resnet18", "parameters": 11_180_000}, "model_run": {}},
        ),
        "Evaluator": (evaluate, {"evaluation": {}, "blessing": {}}),
        "InfraValidator": (probe, {"blessing": {}}),
        "Pusher": (None, {"pushed_model": {**pushed, "label": "stable", "digest": "d1"}}),
    }
    for name, (write, outputs) in steps.items():
        made.step(name, write, **outputs)
        if name == until:
            break
    return made
