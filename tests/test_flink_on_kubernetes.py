"""The cluster of docs/deploy/flink.yaml fits the commands, the options and the files of this version."""

from pathlib import Path

import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.commands import options
from pipeline.engine import Engine

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"


@pytest.fixture(scope="module")
def cluster():
    """The objects by kind and name."""
    found = yaml.safe_load_all((DEPLOY / "flink.yaml").read_text())
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def pod(workload):
    return workload["spec"]["template"]["spec"]


def container(workload, name):
    own = pod(workload)
    every = [*own["containers"], *own.get("initContainers", [])]
    return next(each for each in every if each["name"] == name)


def configuration(container_):
    """Returns what Flink's image adds to its own configuration, and the job manager's address."""
    given = {each["name"]: each["value"] for each in container_["env"]}
    return yaml.safe_load(given["FLINK_PROPERTIES"]), given["JOB_MANAGER_RPC_ADDRESS"]


@pytest.fixture(scope="module")
def job_manager(cluster):
    return container(cluster["Deployment", "flink-job-manager"], "job-manager")


@pytest.fixture(scope="module")
def task_manager(cluster):
    return container(cluster["Deployment", "flink-task-manager"], "task-manager")


@pytest.fixture(scope="module")
def run(cluster):
    return container(cluster["Job", "ingest"], "run")


@pytest.fixture(scope="module")
def engine(run):
    """What the Job tells Beam."""
    said = dict(argument[2:].split("=", 1) for argument in run["args"][1:])
    given = [
        argument.removeprefix("--beam-option=")
        for argument in run["args"]
        if argument.startswith("--beam-option=")
    ]
    return Engine(runner=said["runner"], options=options.beam_options(given))


def test_the_run_and_the_workers_are_of_one_image_and_see_the_same_files(cluster, run):
    workers = container(cluster["Deployment", "flink-task-manager"], "workers")
    assert workers["image"] == run["image"]
    assert workers["volumeMounts"] == run["volumeMounts"]
    # Where the image works.
    assert f"WORKDIR {run['volumeMounts'][0]['mountPath']}\n" in (ROOT / "Dockerfile").read_text()
    claims = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    claim = next(each for each in claims if each["kind"] == "PersistentVolumeClaim")
    for workload in (cluster["Deployment", "flink-task-manager"], cluster["Job", "ingest"]):
        volume = next(each for each in pod(workload)["volumes"] if each["name"] == "files")
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_beam_takes_the_options_of_the_run(engine):
    found = PipelineOptions(flags=engine.flags, runner=engine.runner).get_all_options()
    assert found["parallelism"] == 32
    assert found["environment_type"] == "EXTERNAL"


def test_workers_are_asked_for_where_they_listen(cluster, engine):
    workers = container(cluster["Deployment", "flink-task-manager"], "workers")
    command, option, port = workers["args"]
    assert (command, option) == ("worker-pool", "--port")
    assert engine.options["environment_config"] == f"localhost:{port}"


def test_the_cluster_is_found_by_the_name_of_its_service(
    cluster, engine, job_manager, task_manager
):
    service = cluster["Service", "flink"]
    labels = cluster["Deployment", "flink-job-manager"]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert engine.master == f"flink:{ports['rest']}"
    assert configuration(job_manager)[1] == configuration(task_manager)[1] == "flink"
    # Those that Flink's image listens at.
    assert ports == {"rpc": 6123, "blob": 6124, "rest": 8081}
    server = container(cluster["Job", "ingest"], "job-server")
    assert f"--flink-master={engine.master}" in server["args"]


def test_there_are_as_many_slots_and_workers_as_the_run_asks_for(cluster, engine, task_manager):
    managers = cluster["Deployment", "flink-task-manager"]
    slots = configuration(task_manager)[0]["taskmanager.numberOfTaskSlots"]
    assert int(engine.options["parallelism"]) == managers["spec"]["replicas"] * slots
    assert int(engine.options["sdk_worker_parallelism"]) == slots
    assert container(managers, "workers")["resources"]["requests"]["cpu"] == str(slots)


def test_a_task_manager_has_the_memory_that_it_takes(task_manager):
    taken = configuration(task_manager)[0]["taskmanager.memory.process.size"]
    limit = task_manager["resources"]["limits"]["memory"]
    assert int(taken.removesuffix("g")) * 1024 <= int(limit.removesuffix("Mi"))


def test_a_job_that_lost_a_task_manager_is_tried_again(job_manager):
    assert configuration(job_manager)[0]["restart-strategy.type"] == "fixed-delay"


def test_flink_and_the_job_server_are_of_one_version(cluster, job_manager, task_manager):
    assert task_manager["image"] == job_manager["image"]
    minor = job_manager["image"].partition(":")[2]
    server = container(cluster["Job", "ingest"], "job-server")["image"]
    assert server.startswith(f"apache/beam_flink{minor}_job_server:")
