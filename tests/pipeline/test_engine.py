"""Which runners and options are taken, and what is said of those that are not."""

import pytest
from pydantic import ValidationError

from pipeline.engine import FLINK, LOCALLY, RUNNERS, Engine

EXTERNAL = {"environment_type": "EXTERNAL", "environment_config": "localhost:50000"}


def refusal(**arguments):
    with pytest.raises(ValidationError) as error:
        Engine(**arguments)
    return str(error.value)


def test_without_a_word_this_process_computes():
    assert Engine() == LOCALLY
    assert LOCALLY.is_local
    assert LOCALLY.flags == []


@pytest.mark.parametrize(
    ("runner", "why"),
    [
        ("DaskRunner", "drops tagged outputs"),
        ("DirectRunner", "may download a binary"),
        ("PrismRunner", "downloads a binary"),
        ("InteractiveRunner", "keeps every intermediate result"),
        ("flink", "expected one of " + ", ".join(RUNNERS)),
    ],
)
def test_a_runner_that_does_harm_is_refused_with_the_reason(runner, why):
    assert why in refusal(runner=runner)


@pytest.mark.parametrize("name", ["--flink_master", "flink-master", "Flink", ""])
def test_an_option_is_named_as_beam_names_it(name):
    assert name in refusal(runner=FLINK, options={name: "x"} | EXTERNAL)


@pytest.mark.parametrize("name", ["runner", "job_name", "direct_num_workers"])
def test_what_something_else_sets_is_no_option(name):
    assert f"{name} is set by" in refusal(runner=FLINK, options={name: "x"} | EXTERNAL)


def test_this_process_takes_no_options():
    assert "FnApiRunner takes none, found parallelism" in refusal(options={"parallelism": 2})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"flink_master": "flink:8081"}, "found no environment_type, expected one of EXTERNAL"),
        ({"flink_master": "f:1", "environment_type": "LOOPBACK"}, None),
        ({"flink_master": "f:1", "environment_type": "docker"}, "DOCKER needs environment_config"),
        ({"flink_master": "f:1", "environment_type": "EXTERNAL"}, "worker-pool"),
        ({"flink_master": "f:1", "environment_type": "PROCESS"}, "keras-resnet-worker"),
        ({"flink_master": "f:1", "environment_type": "MAGIC"}, "found environment_type MAGIC"),
        ({"flink_master": "f:1"} | EXTERNAL, None),
        ({}, None),
        ({"flink_master": "[local]"}, None),
        ({"environment_type": "DOCKER"}, "DOCKER needs environment_config"),
    ],
)
def test_workers_without_this_package_are_refused_before_anything_starts(options, why):
    if why is None:
        assert Engine(runner=FLINK, options=options).options == options
    else:
        assert why in refusal(runner=FLINK, options=options)


def test_options_reach_beam_as_its_command_line_has_them():
    options = {"parallelism": 4, "streaming": False, "experiments": ["a", "b"]} | EXTERNAL
    found = Engine(runner=FLINK, options=options | {"flink_submit_uber_jar": True})
    assert found.flags == [
        *("--parallelism=4", "--experiments=a", "--experiments=b"),
        *("--environment_type=EXTERNAL", "--environment_config=localhost:50000"),
        "--flink_submit_uber_jar",
    ]


@pytest.mark.parametrize("value", [1, "1", "1.0", 0.5, "true"])
def test_a_value_reaches_beam_as_it_was_written(value):
    assert Engine(runner=FLINK, options={"parallelism": value}).flags == [f"--parallelism={value}"]
