import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.example import example_pb2

from pipeline.records.example_proto import example_class

_FEATURES = st.dictionaries(
    st.text(max_size=5),
    st.one_of(
        st.lists(st.binary(max_size=5), max_size=3),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        st.lists(st.floats(width=32, allow_nan=False), max_size=3),
    ),
    max_size=4,
)


@given(_FEATURES)
def test_it_reads_and_writes_the_bytes_of_tensorflow(features):
    original = example_pb2.Example()
    for name, values in features.items():
        feature = original.features.feature[name]
        kind = type(values[0]) if values else int
        lists = {bytes: feature.bytes_list, float: feature.float_list, int: feature.int64_list}
        lists[kind].value.extend(values)
        lists[kind].SetInParent()
    encoded = original.SerializeToString(deterministic=True)
    message = example_class().FromString(encoded)
    assert message.SerializeToString(deterministic=True) == encoded
    for name, feature in original.features.feature.items():
        own = message.features.feature[name]
        assert own.WhichOneof("kind") == feature.WhichOneof("kind")
        assert list(own.int64_list.value) == list(feature.int64_list.value)
        assert list(own.float_list.value) == list(feature.float_list.value)
        assert list(own.bytes_list.value) == list(feature.bytes_list.value)


def test_it_does_not_import_tensorflow():
    program = (
        "import sys; from pipeline.beam.accumulators import summarize; summarize([b'']);"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'apache_beam')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
