"""What is accumulated of examples, and the Beam pass that does so."""

import functools
import itertools
import pickle
import threading
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline.beam import accumulators, execution, measures, statistics
from pipeline.errors import PipelineError
from pipeline.orchestration.artifact import Context
from pipeline.records import examples, manifest, protos, tfrecord
from pipeline.records.example_proto import example_class
from pipeline.records.examples import ImageExample
from tests.pipeline import builders


@functools.cache
def picture(seed, format_):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*rng.integers(1, 9, 2), 3), np.uint8)
    return builders.encode(pixels, format_.upper())


def pixels_of(encoded):
    return np.asarray(builders.Image.open(builders.io.BytesIO(encoded)).convert("RGB"))


_EXAMPLES = st.builds(
    ImageExample,
    encoded=st.builds(picture, st.integers(0, 20), st.sampled_from(["png", "jpeg"])),
    format=st.sampled_from(["png", "jpeg"]),
    height=st.integers(1, 2**62),
    width=st.integers(1, 4096),
    label=st.integers(0, 3),
    text=st.sampled_from(["a", "b", "c"]),
    filename=st.text(min_size=1, max_size=3),
)


def summarize(found):
    return accumulators.summarize(examples.serialize(example) for example in found)


def dataset_of(found, **known):
    return found.to_proto("train", known).datasets[0]


@settings(deadline=None)
@given(st.lists(_EXAMPLES, min_size=1, max_size=12), st.integers(0, 12), st.randoms())
def test_the_bytes_do_not_depend_on_the_order_or_on_how_the_work_was_divided(found, cut, random):
    expected = summarize(found).to_proto("train").SerializeToString(deterministic=True)
    shuffled = random.sample(found, len(found))
    parts = [summarize(shuffled[cut:]), summarize([]), summarize(shuffled[:cut])]
    before = pickle.dumps(parts)
    whole = accumulators.merged([accumulators.merged(parts[:2]), parts[2]])
    assert whole.to_proto("train").SerializeToString(deterministic=True) == expected
    assert pickle.dumps(parts) == before


@settings(deadline=None)
@given(st.lists(_EXAMPLES, min_size=1, max_size=12))
def test_numbers_strings_and_channels_are_those_of_numpy(found):
    features = protos.features(dataset_of(summarize(found)))
    heights = np.array([example.height for example in found], float)
    numeric = features[examples.HEIGHT].num_stats
    np.testing.assert_allclose(numeric.mean, heights.mean(), rtol=1e-12)
    np.testing.assert_allclose(numeric.std_dev, heights.std(), rtol=1e-6, atol=1e-9 * heights.max())
    assert (numeric.min, numeric.max) == (heights.min(), heights.max())
    texts = [example.text for example in found]
    strings = features[examples.TEXT].string_stats
    assert {value.value: value.frequency for value in strings.top_values} == {
        text: texts.count(text) for text in texts
    }
    assert protos.frequencies(features[examples.TEXT]) == {
        text: texts.count(text) for text in texts
    }

    # Over all pixels of all images; sums of so few integers are exact in NumPy as well.
    pixels = np.concatenate([pixels_of(e.encoded).reshape(-1, 3) for e in found]).astype(np.int64)
    custom = protos.custom(features[examples.IMAGE])
    for index, channel in enumerate(protos.CHANNELS):
        values = pixels[:, index]
        assert custom[protos.CHANNEL_MEAN + channel].num == int(values.sum()) / len(values)
        assert custom[protos.CHANNEL_STD + channel].num == pytest.approx(values.std(), abs=1e-9)


@settings(deadline=None)
@given(st.lists(_EXAMPLES, min_size=1, max_size=8))
def test_histograms_count_every_value_between_edges_that_never_change(found):
    features = protos.features(dataset_of(summarize(found)))
    pictures = [measures.measure(example.encoded) for example in found]
    seen = {
        name: [found.measures[name] / measures.SCALE for found in pictures]
        for name in pictures[0].measures
    }
    seen[examples.HEIGHT] = [example.height for example in found]
    seen[examples.LABEL] = [example.label for example in found]
    for name, values in seen.items():
        (histogram,) = features[name].num_stats.histograms
        assert histogram.type == statistics_pb2.Histogram.STANDARD
        buckets = histogram.buckets
        for lower, upper in itertools.pairwise(buckets):
            assert lower.high_value == upper.low_value
        for bucket in buckets:
            inside = sum(bucket.low_value <= value < bucket.high_value for value in values)
            assert bucket.sample_count == inside
        assert sum(bucket.sample_count for bucket in buckets) == len(values)
        assert buckets[0].sample_count
        assert buckets[-1].sample_count


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_number_has_a_bucket_that_is_narrow_for_its_size(value):
    seen = accumulators.FeatureStatistics(statistics_pb2.FeatureNameStatistics.INT)
    seen.add_number(value)
    (index,) = seen.buckets
    low, high = seen.edges[index : index + 2]
    assert low <= value < high
    assert high - low <= max(1, (abs(value) + 1) / 3)


def test_a_derived_feature_says_so_and_has_all_its_figures():
    board = np.indices((8, 8)).sum(axis=0) % 2 * 255
    flat = np.full((8, 16, 3), 100, np.uint8)
    found = [
        ImageExample(builders.encode(pixels.astype(np.uint8)), "png", 8, 8, 0, "a", "x")
        for pixels in (np.repeat(board[..., None], 3, axis=2), flat)
    ]
    features = protos.features(dataset_of(summarize(found)))
    for name in (
        measures.ASPECT_RATIO,
        measures.BYTES,
        measures.BRIGHTNESS,
        measures.CONTRAST,
        measures.SHARPNESS,
    ):
        feature = features[name]
        assert feature.type == statistics_pb2.FeatureNameStatistics.FLOAT
        assert [step.step for step in feature.validation_derived_source.source_path] == [
            [examples.IMAGE]
        ]
        assert feature.num_stats.common_stats.num_non_missing == 2
    contrast = features[measures.CONTRAST].num_stats
    assert (contrast.mean, contrast.std_dev, contrast.min, contrast.max, contrast.num_zeros) == (
        63.75,
        63.75,
        0,
        127.5,
        1,
    )
    assert features[measures.ASPECT_RATIO].num_stats.mean == 1.5


def test_the_image_carries_the_statistics_of_tensorflow_data_validation_and_what_is_known():
    found = [
        ImageExample(builders.encode(builders.noise(1, 5, 7)), "png", 5, 7, 0, "a", "x"),
        ImageExample(builders.encode(builders.noise(2, 9, 4), "JPEG"), "jpeg", 9, 4, 0, "a", "y"),
        ImageExample(builders.encode(builders.noise(3, 9, 4), "JPEG"), "jpeg", 9, 4, 0, "a", "z"),
        ImageExample(b"no picture", "png", 9, 4, 0, "a", "broken"),
    ]
    known = {protos.LEAKED_EXACT: 3.0, protos.SUPPORTED_FRACTION: 0.5}
    custom = protos.custom(protos.features(dataset_of(summarize(found), **known))[examples.IMAGE])
    assert custom["domain_info"].str == "image_domain {}"
    assert (custom["image_max_width"].num, custom["image_max_height"].num) == (7, 9)
    buckets = custom["image_format_histogram"].rank_histogram.buckets
    assert [(bucket.label, bucket.sample_count) for bucket in buckets] == [
        ("jpeg", 2),
        ("UNKNOWN", 1),
        ("png", 1),
    ]
    assert custom[protos.LEAKED_EXACT].num == 3
    assert custom[protos.SUPPORTED_FRACTION].num == 0.5


def test_pictures_that_cannot_be_decoded_have_no_moments_of_channels(tmp_path):
    found = summarize([ImageExample(b"no picture", "png", 9, 4, 0, "a", "x")])
    statistics.write(tmp_path, {}, "train", found)
    artifact = builders.artifact(tmp_path, split_names='["train", "eval"]')
    for split in ("train", "eval"):
        with pytest.raises(protos.DataError, match=f"no channel moments of the split '{split}'"):
            protos.channel_moments(artifact, split)


def test_presence_is_measured_and_every_feature_of_the_records_is_there():
    encoded = builders.encode(builders.noise(1))
    example = ImageExample(encoded, "png", 3, 4, 1, "b", "name")
    incomplete = example_class()()
    incomplete.features.feature[examples.LABEL].int64_list.value.extend([1, 2, 3])
    payloads = [examples.serialize(example)] * 2 + [incomplete.SerializeToString()]
    features = protos.features(dataset_of(accumulators.summarize(payloads)))
    assert {
        name for name in features if not features[name].HasField("validation_derived_source")
    } == {
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
    image = features[examples.IMAGE].bytes_stats
    assert image.avg_num_bytes == image.max_num_bytes_int == len(encoded)
    assert features[examples.KEY].string_stats.avg_length == 64


def test_what_is_kept_does_not_grow_with_the_number_of_images():
    def size(number):
        return len(
            pickle.dumps(
                summarize(
                    ImageExample(picture(n % 10, "png"), "png", 3, 4, n % 3, "b", f"name {n}")
                    for n in range(number)
                )
            )
        )

    assert size(1000) < 1.05 * size(100)


def _records(root, splits):
    """Writes an Examples artifact of so many pictures per split, in two shards each."""
    contents = {}
    for split, count in splits.items():
        shards = []
        for shard in range(2):
            payloads = [
                examples.serialize(
                    ImageExample(picture(n, "png"), "png", 3, 4, n % 2, "ab"[n % 2], f"{n}")
                )
                for n in range(shard, count, 2)
            ]
            name = f"Split-{split}/data_tfrecord-{shard:05}-of-00002"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            summary = tfrecord.write(root / name, payloads)
            shards.append(manifest.Shard(file=name, **vars(summary)))
        contents[split] = manifest.Split(shards=tuple(shards), class_counts={})
    return manifest.Manifest(classes=("a", "b"), splits=contents)


def test_the_pass_reads_every_record_once_in_batches_and_reports_what_is_done(tmp_path):
    contents = _records(tmp_path / "examples", {"train": 20, "eval": 6, "test": 0})
    reports = []
    known = {"eval": {protos.LEAKED_NEAR: 2.0}}
    with (
        mock.patch.object(statistics, "_BATCH_EXAMPLES", 3),
        mock.patch.object(
            accumulators.measures, "measure", side_effect=measures.measure
        ) as decoded,
    ):
        statistics.run(
            tmp_path / "examples",
            contents,
            tmp_path / "out",
            Context("test", lambda done, total, **figures: reports.append((done, total))),
            known,
        )
    assert decoded.call_count == 26
    assert reports[-1] == (26, 26)
    assert not (tmp_path / "out" / "Split-test").exists()
    for split, count in (("train", 20), ("eval", 6)):
        expected = accumulators.summarize(
            payload
            for shard in contents.splits[split].shards
            for payload in tfrecord.read(tmp_path / "examples" / shard.file)
        ).to_proto(split, known.get(split))
        written = (tmp_path / "out" / f"Split-{split}" / "FeatureStats.pb").read_bytes()
        assert written == expected.SerializeToString(deterministic=True)
        message = statistics_pb2.DatasetFeatureStatisticsList.FromString(written)
        assert message.datasets[0].num_examples == count


def test_two_processes_write_the_bytes_that_one_writes(tmp_path):
    contents = _records(tmp_path / "examples", {"train": 40, "eval": 6})
    for workers in (1, 2):
        folder = tmp_path / f"{workers}"
        with mock.patch.object(statistics, "_BATCH_EXAMPLES", 3):
            statistics.run(tmp_path / "examples", contents, folder, Context("t", workers=workers))
    for split in ("train", "eval"):
        one, two = (tmp_path / f"{n}" / f"Split-{split}" / "FeatureStats.pb" for n in (1, 2))
        assert one.read_bytes() == two.read_bytes()


def test_batches_hold_so_many_examples_or_so_many_bytes(tmp_path):
    _records(tmp_path, {"train": 20})
    shard = ("train", str(tmp_path / "Split-train" / "data_tfrecord-00000-of-00002"))
    with mock.patch.object(statistics, "_BATCH_EXAMPLES", 4):
        assert [len(payloads) for _, payloads in statistics.batches(shard)] == [4, 4, 2]
    with mock.patch.object(statistics, "_BATCH_BYTES", 1):
        assert [len(payloads) for _, payloads in statistics.batches(shard)] == [1] * 10


def test_a_pipeline_that_fails_says_so_and_leaves_no_thread(tmp_path):

    def fail(element):
        raise ValueError("broken element")

    with (
        pytest.raises(PipelineError, match=r"^ValueError: broken element$"),
        execution.pipeline(Context("test"), 3, tmp_path) as running,
    ):
        _ = running.pipeline | execution.beam.Create([1]) | execution.beam.Map(fail)
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
