import pickle
import re
import subprocess
from dataclasses import fields

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import api, config
from pipeline.components import trainer
from pipeline.errors import UsageError, UsageErrors
from tests.pipeline import builders


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
        ("trainer=3", "trainer: expected a mapping of keys to values; found 3"),
        ("epochs=3", r"unknown key 'epochs'; did you mean 'tuner.epochs' or 'trainer.epochs'\?"),
        ("trainer.random_crop=3", "expected a list, or input should be 'none'; found 3"),
        ("trainer.learning_rate=.inf", "trainer.learning_rate: .*finite number; found inf"),
        ("evaluator.thresholds.classes={7: {}}", "classes.7: keys have to be text"),
        (
            "evaluator.thresholds.slices.image/sise.accuracy=0.5",
            r"'image/sise' is none of evaluator.slices; did you mean 'image/size'\?",
        ),
        ("retries={Triner: 1}", "retries.Triner: there is no .* did you mean 'Trainer'?"),
        ("components.0.name=Mine", "components: expected a list; found {'0': {'name': 'Mine'}}"),
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
    assert str(caught.value).startswith(f"--set {override}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: expected a mapping of sections, found nothing"),
        ("- 1", ":1: expected a mapping of sections, found a list"),
        ("a: [", ":1: not YAML"),
        ("name: x\nname: y", ":2: the key 'name' stands twice, first in line 1"),
        ("a:\n\tb: 1", ":2: not YAML: a tab in column 1; expected spaces"),
        ("a: 1\n---\nb: 2", ":2: not YAML: a second document begins"),
        ("a: 1\n[b]: 2", ":2: not YAML: a list for a key"),
        ("a: 1\nb: 2026-13-45", ":2: not YAML: '2026-13-45' is no value: month must be"),
        ("a: 1\nb: !!python/name:os.system", ":2: not YAML: could not determine a constructor"),
        ("a: 1\nb: \0", r":2: not YAML: the character '\\x00' is not allowed"),
        ("[" * 5000, ":1: not YAML that can be read: nested too deeply"),
        (b"a: 1\nname: \xff", ":2: not YAML: not text in UTF-8"),
        ("name: x\ntrainer:", ":1: example_gen: missing; expected source or span or tfds"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message) as caught:
        config.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\n"
        "example_gen:\n"
        "  source: 3\n"
        "  splits: {train: 0.5, eval: 0.1, test: 0.1}\n"
        "trainer:\n"
        "  epochs: many\n"
        "  image_size:\n"
        "    - 32\n"
        "    - none\n"
        "  colour: red\n"
        "components:\n"
        "  - name: Mine\n"
        "    function: nowhere:run\n"
    )
    with pytest.raises(UsageErrors) as caught:
        config.load(path, ["pusher.keep_last=0", "trainer"])
    assert list(caught.value.lines) == [
        (
            "--set pusher.keep_last=0: pusher.keep_last: input should be greater than or equal to 1; "
            "found 0"
        ),
        "--set trainer: expected KEY=VALUE such as trainer.epochs=5",
        f"{path}:3: example_gen.source: input should be a valid string; found 3",
        (
            f"{path}:6: trainer.epochs: input should be a valid integer, unable to parse string as an "
            "integer; found 'many'"
        ),
        (
            f"{path}:9: trainer.image_size.1: input should be a valid integer, unable to parse string "
            "as an integer; found 'none'"
        ),
        (
            f"{path}:10: unknown key 'trainer.colour'; expected one of "
            f"{', '.join(field.name for field in fields(trainer.Parameters))}"
        ),
        (
            f"{path}:13: components.0.function: there is no module 'nowhere' beside the configuration, "
            "nor is it installed"
        ),
    ]
    assert pickle.loads(pickle.dumps(caught.value)).lines == caught.value.lines


def test_the_command_line_prints_a_line_for_each_and_exits_with_2(tmp_path):
    (tmp_path / "mine.yaml").write_text("name: x\nexample_gen:\n  sauce: y\ntrainer: 3\n")
    done = subprocess.run(
        [*builders.PYTHON, "run", "mine.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["error", "mine.yaml:3"],
        ["error", "mine.yaml:4"],
    ]
    assert "did you mean 'source'?" in lines[0]


def test_what_components_find_is_said_at_once_with_its_line_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nexample_gen:\n  source: nowhere\ntrainer:\n  model: resnet5\n  recipe: he\n"
    )
    with pytest.raises(UsageErrors) as caught:
        api.run(path)
    data, recipe = caught.value.lines
    assert data.startswith(f"{path}:3: data 'nowhere': no such folder or file")
    assert recipe.startswith(f"{path}:6: trainer.recipe 'he': ")
    with pytest.raises(UsageError, match=r"^--set trainer.recipe=she: trainer.recipe 'she': "):
        api.run(path, overrides=["trainer.recipe=she", "example_gen.source=digits"])
    chosen = config.load(path, values={"example_gen.source": "there", "trainer.recipe": "default"})
    with pytest.raises(UsageErrors, match=rf"^data 'there': .*\n{path}:5: trainer.model 'resnet5'"):
        api.run(chosen)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.json"))


def test_a_section_without_keys_is_one_of_defaults(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nexample_gen:\n  # source: digits\ntrainer:\nstatistics_gen:\n")
    assert config.load(path) == config.validate(
        {"name": "mine", "example_gen": {}, "trainer": {}}, "test"
    )


def test_a_value_that_is_given_is_named_once():
    with pytest.raises(UsageError, match=r"^workers: input should be greater than or equal to 1; "):
        config.load(values={"workers": 0})


def test_an_alias_is_known_by_its_own_line_and_merged_keys_by_those_of_the_original(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nexample_gen: &a {shards: 2}\ntrainer:\n  <<: *a\nstatistics_gen: *a\n"
    )
    with pytest.raises(UsageErrors) as caught:
        config.load(path)
    assert [line.removeprefix(f"{path}:").split(";")[0] for line in caught.value.lines] == [
        "2: unknown key 'trainer.shards'",
        "5: unknown key 'statistics_gen.shards'",
    ]


VALID = """\
name: mine
root: runs
example_gen:
  source: digits
  splits: {train: 0.8, eval: 0.1, test: 0.1}  # shares
  near: null
trainer:
  model: resnet18
  model_arguments: {depths: [1, 1, 1]}
  image_size: [64, 64]
  learning_rate: 5.0e-2
  random_crop: [0.5, 1.0]
evaluator:
  thresholds:
    accuracy: 0.5
    classes: {"0": {recall: 0.5}}
    slices:
      image/size: {accuracy: 0.4}
pusher:
  destination: "saved_models"
components: []
"""

# What a slip of the hand puts into a file, and what a hostile hand does.
PIECES = (
    *(
        "\t",
        " ",
        "\n",
        ":",
        "-",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "#",
        "'",
        '"',
        "|",
        ">",
        "%",
        "!",
    ),
    *("? ", "---\n", "<<: ", "null", ".nan", "1e999", "2026-02-31", "0x_", "0o9", "yes", "~"),
    *("!!int x", "!!float y", "!!binary =", "!!timestamp z", "!!set {a}", "\0", "\ud800", "\ufeff"),
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(VALID)), st.integers(0, 12), st.sampled_from(PIECES) | st.text()
        ),
        min_size=1,
        max_size=4,
    )
)
@example([(0, len(VALID), "- x")])
def test_a_broken_file_is_refused_with_lines_that_are_there(tmp_path_factory, edits):
    text = VALID
    for place, removed, piece in edits:
        text = text[:place] + piece + text[place + removed :]
    path = tmp_path_factory.getbasetemp() / "broken.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        assert config.load(path).name
    except UsageError as error:
        for line in getattr(error, "lines", (str(error),)):
            found = re.match(rf"{re.escape(str(path))}:(\d+): \S", line)
            assert found, line
            # YAML counts more characters as ends of lines than most.
            assert 1 <= int(found[1]) <= len(text.splitlines()) + 1
            assert "\n" not in line


def test_an_unknown_configuration_is_named_with_those_that_there_are():
    with pytest.raises(UsageError, match=r"'digitz': neither a YAML file nor .*\(.*\bdigits, "):
        config.load("digitz")
