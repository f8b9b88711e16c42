"""TF Serving's configuration files: models and labels, batching, monitoring.

The messages are built here from their names and types: the wheel `tensorflow-serving-api` is large,
imports TensorFlow, and has the first of the three only. Text protos hold names, so that the numbers
of the fields matter to nobody; the tests compare them with the wheel's all the same.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.message import Message

from pipeline import files
from pipeline.errors import DataError
from pipeline.serving import labels
from pipeline.serving.labels import Ledger
from pipeline.serving.versions import SAVED_MODEL, versions

MODELS = "models.config"
BATCHING = "batching.config"
MONITORING = "monitoring.config"

# Where TF Serving's container looks for models.
SERVING_ROOT = "/models"
METRICS = "/monitoring/prometheus/metrics"

# The greatest batch that is put together from requests that came one by one.
MAX_BATCH = 32
# Batches that may wait for a free core, of as many images each, before requests are refused.
_MAX_ENQUEUED = 100

_LOCK = ".lock"
_PACKAGE = "tensorflow.serving"
_WRITTEN_BY = "# Written by keras-resnet-pipeline, {}.\n"

_Field = descriptor_pb2.FieldDescriptorProto


def _message(
    name: str, *described: tuple[str, int, int | str], repeated: Collection[str] = ()
) -> descriptor_pb2.DescriptorProto:
    """Returns a message with fields of (name, number, type or the name of a message)."""
    proto = descriptor_pb2.DescriptorProto(name=name)
    for field_name, number, kind in described:
        added = proto.field.add(name=field_name, number=number)
        added.label = _Field.LABEL_REPEATED if field_name in repeated else _Field.LABEL_OPTIONAL
        if isinstance(kind, str):
            added.type, added.type_name = _Field.TYPE_MESSAGE, kind
        else:
            added.type = kind
    return proto


def _messages() -> dict[str, type[Message]]:
    """Returns the class of each message by its name, from a pool that nobody else sees."""
    file = descriptor_pb2.FileDescriptorProto(
        name="pipeline/serving/configs.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    source = _message("FileSystemStoragePathSourceConfig")
    policy = _message(
        "ServableVersionPolicy",
        ("latest", 100, f".{_PACKAGE}.{source.name}.ServableVersionPolicy.Latest"),
    )
    policy.nested_type.append(_message("Latest", ("num_versions", 1, _Field.TYPE_UINT32)))
    source.nested_type.append(policy)

    model = _message(
        "ModelConfig",
        ("name", 1, _Field.TYPE_STRING),
        ("base_path", 2, _Field.TYPE_STRING),
        ("model_platform", 4, _Field.TYPE_STRING),
        ("model_version_policy", 7, f".{_PACKAGE}.{source.name}.ServableVersionPolicy"),
        ("version_labels", 8, f".{_PACKAGE}.ModelConfig.VersionLabelsEntry"),
        repeated=("version_labels",),
    )
    entry = _message(
        "VersionLabelsEntry", ("key", 1, _Field.TYPE_STRING), ("value", 2, _Field.TYPE_INT64)
    )
    entry.options.map_entry = True
    model.nested_type.append(entry)

    wrapped = ".google.protobuf.Int64Value"
    file.message_type.extend(
        [
            source,
            model,
            _message(
                "ModelConfigList",
                ("config", 1, f".{_PACKAGE}.ModelConfig"),
                repeated=("config",),
            ),
            _message("ModelServerConfig", ("model_config_list", 1, f".{_PACKAGE}.ModelConfigList")),
            _message(
                "BatchingParameters",
                ("max_batch_size", 1, wrapped),
                ("batch_timeout_micros", 2, wrapped),
                ("max_enqueued_batches", 3, wrapped),
            ),
            _message(
                "PrometheusConfig", ("enable", 1, _Field.TYPE_BOOL), ("path", 2, _Field.TYPE_STRING)
            ),
            _message("MonitoringConfig", ("prometheus_config", 1, f".{_PACKAGE}.PrometheusConfig")),
        ]
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    names = ("ModelServerConfig", "BatchingParameters", "MonitoringConfig")
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in names
    }


_MESSAGES = _messages()


def models_text(
    models: Mapping[str, tuple[Collection[int], Ledger]],
    before: str | None,
    root: str | None,
    *,
    new: str = SERVING_ROOT,
) -> str:
    """Returns the text of `models.config`.

    Servers follow the highest versions by themselves, so that a new one is loaded before any label
    names it; how many of them is what `Ledger.num_versions` says.

    Args:
        models: The versions that are there, and the labels, of each model by its name.
        before: The present text, or None.
        root: The directory below which servers see the models. None keeps the path that a model
            has in `before`.
        new: The directory for models that `before` does not know, where `root` is None; by default
            the container's.

    Raises:
        DataError: `before` is no such configuration, or has what this program does not write.
    """
    paths = {}
    if before is not None:
        paths = {model.name: model.base_path for model in parse_models(before, MODELS)}
    config = _MESSAGES["ModelServerConfig"]()
    for name, (present, ledger) in sorted(models.items()):
        path = f"{(root or new).rstrip('/')}/{name}"
        model = config.model_config_list.config.add(
            name=name,
            base_path=paths.get(name, path) if root is None else path,
            model_platform="tensorflow",
        )
        model.model_version_policy.latest.num_versions = ledger.num_versions(present)
        for label, number in ledger.labels.items():
            model.version_labels[label] = number
    return _WRITTEN_BY.format("anew by every push") + text_format.MessageToString(config)


def parse_models(text: str, source: str) -> list[Message]:
    """Returns the models that `models.config` lists.

    Raises:
        DataError: It is no such configuration, or has what this program does not write.
    """
    try:
        config = text_format.Parse(text, _MESSAGES["ModelServerConfig"]())
    except text_format.ParseError as error:
        raise DataError(
            f"{source}: was not written by this program ({' '.join(str(error).split())}); give "
            "yours another name, because each push writes this one anew"
        ) from None
    return list(config.model_config_list.config)


def batching_text() -> str:
    """Returns the text of `batching.config`.

    The threads are left to the server, which takes one per core; no request waits for others when
    a core is free (TF Serving's batching guide, on CPU-only servers).
    """
    parameters = _MESSAGES["BatchingParameters"]()
    parameters.max_batch_size.value = MAX_BATCH
    parameters.batch_timeout_micros.value = 0
    parameters.max_enqueued_batches.value = _MAX_ENQUEUED
    return _WRITTEN_BY.format("once; yours to change") + text_format.MessageToString(parameters)


def monitoring_text() -> str:
    """Returns the text of `monitoring.config`: metrics for Prometheus on the REST port."""
    config = _MESSAGES["MonitoringConfig"]()
    config.prometheus_config.enable = True
    config.prometheus_config.path = METRICS
    return _WRITTEN_BY.format("once; yours to change") + text_format.MessageToString(config)


def once() -> dict[str, str]:
    """Returns the texts of the files that are written where they are missing, and then left."""
    return {BATCHING: batching_text(), MONITORING: monitoring_text()}


def check(destination: Path) -> None:
    """Raises DataError when `models.config` in `destination` is not this program's to write."""
    before = _present_text(destination)
    if before is not None:
        parse_models(before, str(destination / MODELS))


def write(destination: Path, root: str | None = None) -> None:
    """Writes the three files for the models below `destination`, each by one rename.

    Args:
        destination: Holds one directory per model, which holds one directory per version.
        root: The directory below which servers see the models; see `models_text`.

    Raises:
        DataError: A file there is damaged, or `models.config` was written by somebody else.
    """
    # Each writer reads all labels under the lock, so that the last one has them all.
    with files.locked(destination / _LOCK):
        for name in (MODELS, BATCHING, MONITORING):
            for leftover in destination.glob(f".{name}.*"):
                leftover.unlink()  # of a process that died while it wrote
        models = {}
        for base in destination.iterdir():
            present = versions(base)
            if base.name[0] != "." and any(
                (base / str(number) / SAVED_MODEL).is_file() for number in present
            ):
                models[base.name] = (present, labels.load(base, present))
        before = _present_text(destination)
        text = models_text(models, before, root)
        if text != before:  # servers read a file that has changed
            files.write_text(destination / MODELS, text)
        for name, text in once().items():
            if not (destination / name).exists():
                files.write_text(destination / name, text)


def _present_text(destination: Path) -> str | None:
    path = destination / MODELS
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not text in UTF-8; move it away") from None
