import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from pipeline.errors import DataError
from pipeline.records import examples, protos
from tests.pipeline import builders


def test_a_damaged_schema_is_named_with_its_line(tmp_path):
    broken = builders.artifact(tmp_path)
    path = tmp_path / "schema.pbtxt"
    with pytest.raises(DataError, match=r"schema.pbtxt: missing"):
        protos.read_schema(broken)
    path.write_text("feature {\n  name: 'a'\n  typ: INT\n}\n")
    with pytest.raises(DataError, match=r"schema.pbtxt:3: not a schema: .*typ") as found:
        protos.read_schema(broken)
    assert "\n" not in str(found.value)
    path.write_text("feature {")
    with pytest.raises(DataError, match=r"schema.pbtxt:1: not a schema"):
        protos.read_schema(broken)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"schema.pbtxt: not a schema: not text"):
        protos.read_schema(broken)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"schema.pbtxt: cannot be read"):
        protos.read_schema(broken)
    with pytest.raises(DataError, match="has no list of values"):
        protos.classes(schema_pb2.Schema(), examples.TEXT)


def test_a_damaged_binary_is_named(tmp_path):
    path = tmp_path / "SchemaDiff.pb"
    with pytest.raises(DataError, match=r"SchemaDiff.pb: missing"):
        protos.read_binary(path, anomalies_pb2.Anomalies)
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(DataError, match=r"SchemaDiff.pb: not a tensorflow.metadata.v0.Anomalies"):
        protos.read_binary(path, anomalies_pb2.Anomalies)


def test_statistics_of_no_data_set_are_refused(tmp_path):
    artifact = builders.artifact(tmp_path, split_names='["train"]')
    (tmp_path / "Split-train").mkdir()
    (tmp_path / "Split-train" / "FeatureStats.pb").write_bytes(b"")
    with pytest.raises(DataError, match=r"FeatureStats.pb: 0 datasets; expected 1"):
        protos.read_statistics(artifact)


def test_the_moments_of_channels_come_from_the_split_that_was_asked_for(tmp_path):
    artifact = builders.artifact(tmp_path, split_names='["train", "eval"]')
    for offset, split in enumerate(("train", "eval")):
        message = statistics_pb2.DatasetFeatureStatisticsList()
        feature = message.datasets.add(num_examples=1).features.add()
        feature.path.step.append(examples.IMAGE)
        for number, channel in enumerate(protos.CHANNELS):
            feature.custom_stats.add(name=protos.CHANNEL_MEAN + channel, num=number + 10 * offset)
            feature.custom_stats.add(name=protos.CHANNEL_STD + channel, num=50 + number)
        path = tmp_path / f"Split-{split}" / "FeatureStats.pb"
        path.parent.mkdir()
        path.write_bytes(message.SerializeToString())
    assert protos.channel_moments(artifact) == ((0, 1, 2), (50, 51, 52))
    assert protos.channel_moments(artifact, "eval")[0] == (10, 11, 12)
    with pytest.raises(DataError, match="no channel moments of the split 'test'"):
        protos.channel_moments(artifact, "test")
