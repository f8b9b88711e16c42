import pytest

from pipeline import config
from pipeline.errors import UsageError


def test_the_embedded_default_is_valid_and_says_its_precision_and_strategy():
    found = config.load()
    assert found.name == "digits"
    assert (found.trainer.precision, found.trainer.strategy) == ("mixed_bfloat16", "mirrored")
    assert found.evaluator.thresholds.accuracy >= 0.97


def test_every_embedded_configuration_is_valid():
    assert "digits" in config.embedded()
    for name in config.embedded():
        assert config.load(name).name


def test_a_file_and_overrides_are_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nexample_gen: {source: digits}\ntrainer: {epochs: 3}\n")
    found = config.load(path, ["trainer.epochs=4", "trainer.model_arguments.depths=[1, 1, 1]"])
    assert found.trainer.epochs == 4
    assert found.trainer.model_arguments == {"depths": [1, 1, 1]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epoch=3", r"unknown key 'trainer.epoch'; did you mean 'epochs'\?"),
        ("trianer.epochs=3", r"unknown key 'trianer'; did you mean 'trainer'\?"),
        ("trainer.zzz=3", r"unknown key 'trainer.zzz'; expected one of model, "),
        ("trainer.epochs=many", "trainer.epochs: input should be a valid integer.*found 'many'"),
        ("trainer.epochs=0", "trainer.epochs: input should be greater than or equal to 1; found 0"),
        ("trainer.precision=float8", "'mixed_bfloat16' or 'mixed_float16'; found 'float8'"),
        ("trainer=3", "trainer: input should be a dictionary.*found 3"),
        ("trainer.epochs", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("name.x=3", "'name' is a value and has no keys below it"),
        ("trainer.epochs=[", "is not YAML"),
        ("trainer.std=[0, 1, 1]", "trainer.std.0: input should be greater than 0; found 0"),
        ("trainer.random_shift=40", "random_shift must be at most the image size"),
        ("trainer.model_arguments.classes=12", "must not hold classes: Trainer sets it"),
        ("name=../elsewhere", "name: string should match pattern"),
        ("example_gen.splits.train=0.9", "the shares of splits must add up to 1"),
        ("evaluator.thresholds.accuracyy=0.9", "did you mean 'accuracy'"),
    ],
)
def test_a_wrong_key_or_value_gives_one_line_that_names_it(override, message):
    with pytest.raises(UsageError, match=message) as caught:
        config.load("digits", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping of sections, found NoneType"),
        ("- 1", "expected a mapping of sections, found list"),
        ("a: [", "not YAML"),
        ("name: x\nname: y", "'name' twice"),
        (b"name: \xff", "not text in UTF-8"),
        ("name: x", "example_gen: missing; expected source or span or tfds_manual_dir …"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message) as caught:
        config.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_unknown_configuration_is_named_with_those_that_there_are():
    with pytest.raises(UsageError, match=r"'digitz': neither a YAML file nor .*\(.*\bdigits, "):
        config.load("digitz")
