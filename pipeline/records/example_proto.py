"""The message `tf.train.Example` without TensorFlow, whose import takes seconds in every process."""

import functools

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_PACKAGE = "tensorflow"
_FILE = "example.proto"
_FIELD = descriptor_pb2.FieldDescriptorProto


@functools.cache
def example_class() -> type[Message]:
    """Returns the class of messages that are, byte for byte, `tf.train.Example`."""
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=_PACKAGE, syntax="proto3")
    for name, kind in (
        ("BytesList", _FIELD.TYPE_BYTES),
        ("FloatList", _FIELD.TYPE_FLOAT),
        ("Int64List", _FIELD.TYPE_INT64),
    ):
        _field(file.message_type.add(name=name), "value", 1, kind, repeated=True)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), start=1):
        message = "".join(part.capitalize() for part in name.split("_"))
        _field(feature, name, number, message).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, _FIELD.TYPE_STRING)
    _field(entry, "value", 2, "Feature")
    _field(features, "feature", 1, "Features.FeatureEntry", repeated=True)
    _field(file.message_type.add(name="Example"), "features", 1, "Features")
    # A pool of its own: TensorFlow registers the same names in the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


def _field(
    message: descriptor_pb2.DescriptorProto,
    name: str,
    number: int,
    kind: int | str,
    repeated: bool = False,
) -> descriptor_pb2.FieldDescriptorProto:
    """Adds a field of a scalar type, or of the message that `kind` names."""
    label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if isinstance(kind, str):
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = kind
    return field
