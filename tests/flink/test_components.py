"""What a Flink cluster makes of the four components, beside what this process makes of them."""

import json

import pytest

from pipeline.errors import PipelineError, UsageError
from tests.flink.jobs import Jobs, content, engine
from tests.pipeline import builders
from tests.pipeline.evaluation import models

CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")


@pytest.fixture(scope="module")
def photos(real_images, tmp_path_factory):
    """A sixth of the photos, and among them files that are none."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for path in sorted((real_images / "photos" / name).iterdir())[::6]:
            (folder / name / path.name).write_bytes(path.read_bytes())
    (folder / "glass" / "cut.jpg").write_bytes(path.read_bytes()[:900])
    (folder / "metal" / "text.png").write_text("no picture")
    (folder / path.parent.name / "copy.jpg").write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Model artifact that says something of every photo."""
    root = tmp_path_factory.mktemp("model") / "Trainer" / "model" / "1"
    return models.model(root, (60.0, 90.0, 120.0, 150.0, 180.0), CLASSES).uri


@pytest.fixture(scope="module")
def here(photos, model, tmp_path_factory):
    """What this process writes, by the name of the artifact."""
    return everything(Jobs(tmp_path_factory.mktemp("here")), photos, model)


def everything(jobs, photos, model):
    examples = jobs.ingest(photos)
    return {
        "examples": content(examples),
        "statistics": content(jobs.statistics(examples)),
        "evaluation": content(jobs.evaluate(examples, model)),
        "predictions": content(jobs.infer(photos / "plastic", model)),
    }


def test_all_four_components_write_the_same_bytes_on_four_slots(
    cluster, photos, model, here, tmp_path
):
    there = everything(Jobs(tmp_path, engine(cluster, 4)), photos, model)
    for artifact, files in here.items():
        assert there[artifact].keys() == files.keys()
        assert [name for name in files if there[artifact][name] != files[name]] == []
    assert sum("data_tfrecord" in name for name in here["examples"]) == 9
    account = json.loads(here["examples"]["account.json"])["all"]
    assert account["quarantined"] >= 2
    assert account["duplicates"] >= 1
    assert {job["state"] for job in cluster.jobs()} == {"FINISHED"}


@pytest.mark.parametrize("slots", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_examples_do_not_depend_on_the_number_of_slots(cluster, photos, here, tmp_path, slots):
    assert content(Jobs(tmp_path, engine(cluster, slots)).ingest(photos)) == here["examples"]
    # And the images themselves are not sent from one stage to the next.
    images = sum(path.stat().st_size for path in photos.rglob("*.jpg"))
    assert 0 < cluster.bytes_between_stages(cluster.jobs()[-1]["jid"]) < images / 5


@pytest.mark.exhaustive
def test_workers_may_be_processes_of_the_task_managers_and_the_job_server_the_jobs_own(
    cluster, photos, here, tmp_path
):
    # The package need not be installed: a script is all that Flink starts.
    worker = tmp_path / "worker"
    command = " ".join([*builders.PYTHON[:2], "pipeline.beam.boot"])
    worker.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    worker.chmod(0o755)
    chosen = engine(
        cluster,
        2,
        environment_type="PROCESS",
        environment_config=json.dumps({"command": str(worker)}),
        flink_job_server_jar=str(cluster.distribution.jar),
        job_endpoint="",
    )
    assert content(Jobs(tmp_path, chosen).ingest(photos)) == here["examples"]


@pytest.mark.exhaustive
def test_a_cluster_within_the_job_server_needs_no_other(distribution, photos, here, tmp_path):
    from pipeline.engine import FLINK, Engine

    chosen = Engine(runner=FLINK, options={"flink_job_server_jar": str(distribution.jar)})
    assert content(Jobs(tmp_path, chosen).ingest(photos)) == here["examples"]


@pytest.mark.exhaustive
def test_what_a_worker_refuses_arrives_as_what_it_is(cluster, tmp_path):
    import apache_beam as beam

    from pipeline.beam import execution

    def refuse(element):
        raise UsageError(f"{element}: is not what was wanted; take another")

    context = Jobs(tmp_path, engine(cluster, 1)).context()
    with (
        pytest.raises(PipelineError, match=r"^7: is not what was wanted; take another$") as error,
        execution.pipeline(context, 1, tmp_path) as running,
    ):
        _ = running.pipeline | beam.Create([7]) | running.spread() | beam.Map(refuse)
    assert type(error.value) is UsageError
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_does_not_see_the_data_ends_the_job_and_names_them(cluster, tmp_path):
    import apache_beam as beam

    from pipeline.beam import execution

    context = Jobs(tmp_path, engine(cluster, 1)).context()
    unseen = tmp_path / "of this machine alone"
    with (
        pytest.raises(PipelineError, match=r"of this machine alone: not there on .* NFS"),
        execution.pipeline(context, 1, tmp_path, [unseen]) as running,
    ):
        _ = running.pipeline | beam.Create([7]) | running.spread() | beam.Map(print)


@pytest.mark.exhaustive
def test_lines_and_counts_of_workers_reach_the_person_who_watches(cluster, tmp_path):
    import apache_beam as beam

    from pipeline.beam import execution
    from pipeline.orchestration.artifact import Context

    said, done = [], []

    def work(element, reporter):
        import time

        reporter.tick(5)
        time.sleep(1)
        reporter.tick(5)
        reporter.say(f"{element} is odd")
        time.sleep(1.5)

    context = Context(
        "watched",
        lambda now, total, **figures: done.append(now),
        said.append,
        engine=engine(cluster, 1),
    )
    with execution.pipeline(context, 20, tmp_path) as running:
        _ = (
            running.pipeline
            | beam.Create([7])
            | running.spread()
            | beam.Map(work, running.reporter)
        )
    assert said == ["7 is odd"]
    assert {5, 10} & set(done)
    assert done[-1] == 20
