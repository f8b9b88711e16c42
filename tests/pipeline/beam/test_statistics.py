import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.example import example_pb2

from pipeline.beam import execution
from pipeline.beam.statistics import CombineStatistics
from pipeline.records import examples, protos
from pipeline.records.examples import ImageExample

_EXAMPLES = st.builds(
    ImageExample,
    encoded=st.binary(max_size=30),
    format=st.sampled_from(["png", "jpeg"]),
    height=st.integers(1, 10**9),
    width=st.integers(1, 4096),
    label=st.integers(0, 3),
    text=st.sampled_from(["a", "b", "c"]),
    filename=st.just("x"),
)


def accumulate(found):
    combine = CombineStatistics()
    accumulator = combine.create_accumulator()
    for example in found:
        message = example_pb2.Example.FromString(examples.serialize(example))
        accumulator = combine.add_input(accumulator, message)
    return accumulator


@settings(deadline=None)
@given(st.lists(_EXAMPLES, min_size=1, max_size=12), st.integers(0, 12))
def test_statistics_do_not_depend_on_how_the_work_was_divided(found, cut):
    combine = CombineStatistics()
    whole = accumulate(found).to_proto("train")
    parts = [accumulate(found[cut:]), accumulate(found[:cut]), combine.create_accumulator()]
    assert combine.merge_accumulators(parts).to_proto("train") == whole

    heights = np.array([example.height for example in found], float)
    feature = protos.features(whole.datasets[0])[examples.HEIGHT].num_stats
    np.testing.assert_allclose(feature.mean, heights.mean(), rtol=1e-12)
    np.testing.assert_allclose(feature.std_dev, heights.std(), rtol=1e-6, atol=1e-3)
    assert (feature.min, feature.max) == (heights.min(), heights.max())
    texts = [example.text for example in found]
    strings = protos.features(whole.datasets[0])[examples.TEXT].string_stats
    assert {value.value: value.frequency for value in strings.top_values} == {
        text: texts.count(text) for text in texts
    }


def test_presence_is_measured_and_every_feature_of_the_records_is_there():
    example = ImageExample(b"png", "png", 3, 4, 1, "b", "name")
    accumulator = accumulate([example, example])
    incomplete = example_pb2.Example()
    incomplete.features.feature[examples.LABEL].int64_list.value.extend([1, 2, 3])
    accumulator.add(incomplete)
    dataset = accumulator.to_proto("train").datasets[0]
    features = protos.features(dataset)
    assert set(features) == {
        examples.IMAGE,
        examples.FORMAT,
        examples.FILENAME,
        examples.HEIGHT,
        examples.WIDTH,
        examples.LABEL,
        examples.TEXT,
        examples.KEY,
    }
    height = features[examples.HEIGHT].num_stats.common_stats
    assert (height.num_non_missing, height.num_missing) == (2, 1)
    label = features[examples.LABEL].num_stats.common_stats
    assert (label.min_num_values, label.max_num_values, label.tot_num_values) == (1, 3, 5)
    assert features[examples.IMAGE].bytes_stats.avg_num_bytes == 3
    assert features[examples.KEY].string_stats.avg_length == 64


def test_a_pipeline_that_fails_says_so_and_leaves_no_thread():
    import threading

    reports = []

    def fail(element):
        raise ValueError("broken element")

    with (
        pytest.raises(ValueError, match="broken element"),
        execution.pipeline(lambda done, total: reports.append(done), "test", 3) as pipeline,
    ):
        _ = pipeline | execution.beam.Create([1]) | execution.beam.Map(fail)
    assert not [thread for thread in threading.enumerate() if thread.name == "progress of test"]
