import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(deadline=None)
@given(st.lists(_EXAMPLES, min_size=1, max_size=12), st.integers(0, 12))
def test_statistics_do_not_depend_on_how_the_work_was_divided(found, cut):
    combine = CombineStatistics()

    def accumulate(part):
        accumulator = combine.create_accumulator()
        for example in part:
            accumulator = combine.add_input(accumulator, example)
        return accumulator

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
