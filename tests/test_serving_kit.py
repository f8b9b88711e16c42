"""What runs TF Serving, as far as can be told without Docker, Kubernetes and the server itself."""

import os
import re
import stat
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from pipeline import launch
from pipeline.serving import configs, push
from tests.pipeline.serving import rest_server
from tests.pipeline.serving.models import saved_model

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"
NAME = {"app.kubernetes.io/name": "tf-serving"}

# All flags of `tensorflow_model_server`, from TF Serving's model_servers/main.cc.
FLAGS = {
    *("port", "grpc_socket_path", "rest_api_port", "rest_api_num_threads"),
    *("rest_api_timeout_in_ms", "rest_api_enable_cors_support", "enable_batching"),
    *("allow_version_labels_for_unavailable_models", "batching_parameters_file"),
    *("enable_per_model_batching_parameters", "model_config_file"),
    *("model_config_file_poll_wait_seconds", "model_name", "model_base_path"),
    *("num_load_threads", "num_unload_threads", "max_num_load_retries"),
    *("load_retry_interval_micros", "file_system_poll_wait_seconds", "flush_filesystem_caches"),
    *("tensorflow_session_parallelism", "tensorflow_session_config_file"),
    *("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"),
    *("use_alts_credentials", "ssl_config_file", "platform_config_file"),
    *("per_process_gpu_memory_fraction", "saved_model_tags", "grpc_channel_arguments"),
    *("grpc_max_threads", "enable_model_warmup", "num_request_iterations_for_warmup", "version"),
    *("monitoring_config_file", "remove_unused_fields_from_bundle_metagraph"),
    *("prefer_tflite_model", "num_tflite_pools", "num_tflite_interpreters_per_pool"),
    *("enable_signature_method_name_check", "xla_cpu_compilation_enabled"),
    *("xla_gpu_compilation_enabled", "enable_profiler", "thread_pool_factory_config_file"),
    *("mixed_precision", "skip_initialize_tpu", "enable_grpc_healthcheck_service"),
    *("enable_serialization_as_tensor_content",),
}
# What a server has to be told so that it does what docs/push.md says.
TOLD = {
    "port": "8500",
    "rest_api_port": "8501",
    "model_config_file": f"{configs.SERVING_ROOT}/{configs.MODELS}",
    "model_config_file_poll_wait_seconds": "30",
    "allow_version_labels_for_unavailable_models": "true",
    "enable_batching": "true",
    "batching_parameters_file": f"{configs.SERVING_ROOT}/{configs.BATCHING}",
    "monitoring_config_file": f"{configs.SERVING_ROOT}/{configs.MONITORING}",
}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def cluster():
    """The objects of kubernetes.yaml by kind and name."""
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    named = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(named) == len(found)
    return named


@pytest.fixture(scope="module")
def pod(cluster):
    return cluster["Deployment", "tf-serving"]["spec"]["template"]


def told(arguments):
    """The flags of a command by their names."""
    found = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    assert all(argument.startswith("--") for argument in arguments)
    return found


def test_the_pushed_files_are_those_that_servers_are_told_to_read(tmp_path):
    push.push(saved_model(tmp_path / "a"), tmp_path / "saved_models" / "m")
    for name in ("model_config_file", "batching_parameters_file", "monitoring_config_file"):
        file = tmp_path / "saved_models" / Path(TOLD[name]).relative_to(configs.SERVING_ROOT)
        assert file.is_file()
        # Whoever the server runs as, it may read them.
        assert file.stat().st_mode & stat.S_IROTH
    version = tmp_path / "saved_models" / "m" / "1"
    assert all(path.stat().st_mode & stat.S_IROTH for path in version.rglob("*"))
    assert version.stat().st_mode & stat.S_IXOTH


@pytest.mark.parametrize(("name", "tag"), [("serving", ""), ("serving-gpu", "-gpu")])
def test_the_services_serve_what_is_pushed(compose, name, tag):
    service = compose["services"][name]
    assert service["image"] == f"tensorflow/serving:${{TF_SERVING:-latest}}{tag}"
    assert told(service["command"]) == TOLD
    # Else `docker compose up` would start them beside the worker.
    assert service["profiles"] == [name]
    assert service["volumes"] == [f"./saved_models:{configs.SERVING_ROOT}:ro"]
    assert {port.rpartition(":")[2] for port in service["ports"]} == {"8500", "8501"}
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert ("deploy" in service) == (tag != "")
    if tag:
        assert service["deploy"] == compose["services"]["worker"]["deploy"]


def test_flags_anywhere_in_the_texts_are_flags_of_the_server():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for block in re.findall(r"```\w*\n(.*?)```", path.read_text(), re.DOTALL):
            for command in re.findall(
                r"(?:tensorflow/serving|tensorflow_model_server)\S*((?:[^\n]*\\\n)*[^\n]*)", block
            ):
                assert set(re.findall(r" --(\w+)", command)) <= FLAGS, path
    assert set(TOLD) <= FLAGS


def script(command):
    """A script in docker-compose.yml as the container gets it: `$$` is how Compose writes `$`."""
    return command.replace("$$", "$")


def test_the_server_is_started_when_all_its_files_are_there(compose, tmp_path):
    service = compose["services"]["serving"]
    bash, option, text, name = service["entrypoint"]
    assert (bash, option) == ("bash", "-c")
    program = tmp_path / "bin" / "tensorflow_model_server"
    program.parent.mkdir()
    program.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    models = tmp_path / "models"
    models.mkdir()
    there = script(text).replace(f" {configs.SERVING_ROOT}/", f" {models}/")
    started = subprocess.Popen(
        [bash, option, there, name, *service["command"]],
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for file in (configs.MODELS, configs.BATCHING):
            (models / file).touch()
        time.sleep(1.5)
        assert started.poll() is None
        (models / configs.MONITORING).touch()
        printed, _ = started.communicate(timeout=30)
    finally:
        started.kill()
    assert printed.splitlines() == service["command"]
    assert started.returncode == 0


def test_the_health_check_tells_a_server_that_answers_from_others(compose):
    check = compose["services"]["serving"]["healthcheck"]
    kind, *command = check["test"]
    assert kind == "CMD"
    assert f"/dev/tcp/127.0.0.1/{TOLD['rest_api_port']}" in command[-1]
    assert f"GET {configs.METRICS} " in command[-1]

    def healthy(port):
        there = script(command[-1]).replace("/8501 ", f"/{port} ")
        done = subprocess.run([*command[:-1], there], capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    with rest_server.Server().running() as server:
        port = int(server.url.rpartition(":")[2])
        server.answer = lambda request: rest_server.Answer(b"requests 1\n")
        assert healthy(port)
        assert server.requests[0].path == configs.METRICS
        server.answer = lambda request: rest_server.error(503, "not yet")
        assert not healthy(port)
    assert not healthy(port)


def test_prometheus_asks_where_the_servers_answer(compose):
    service = compose["services"]["prometheus"]
    file, inside, mode = service["volumes"][0].split(":")
    assert (inside, mode) == ("/etc/prometheus/prometheus.yml", "ro")
    assert (ROOT / file).samefile(DEPLOY / "prometheus.yml")
    (job,) = yaml.safe_load((ROOT / file).read_text())["scrape_configs"]
    assert job["metrics_path"] == configs.METRICS
    (target,) = [target for one in job["static_configs"] for target in one["targets"]]
    host, port = target.split(":")
    assert port == TOLD["rest_api_port"]
    for name in ("serving", "serving-gpu"):
        assert host in compose["services"][name]["networks"]["default"]["aliases"]


def test_the_pods_serve_what_is_pushed(cluster, pod, compose):
    (container,) = pod["spec"]["containers"]
    (waits,) = pod["spec"]["initContainers"]
    assert container["command"] == ["tensorflow_model_server"]
    assert told(container["args"]) == TOLD
    for one in (container, waits):
        assert one["image"].partition(":")[0] == "tensorflow/serving"
        (mount,) = one["volumeMounts"]
        assert (mount["mountPath"], mount["readOnly"]) == (configs.SERVING_ROOT, True)
    # What the container of Compose waits for, too.
    entrypoint = compose["services"]["serving"]["entrypoint"][2]
    pattern = r"-f (\S+)"
    assert re.findall(pattern, waits["command"][-1]) == re.findall(pattern, entrypoint)
    assert set(re.findall(pattern, entrypoint)) == {
        v for n, v in TOLD.items() if "file" in n and "/" in v
    }


def test_the_claim_is_the_one_that_training_on_kubernetes_pushes_to(cluster, pod):
    from pipeline import config

    (volume,) = pod["spec"]["volumes"]
    claim = volume["persistentVolumeClaim"]["claimName"]
    assert cluster["PersistentVolumeClaim", claim]["spec"]["accessModes"] == ["ReadWriteMany"]
    job = list(yaml.safe_load_all(launch.kubernetes(["run"], 1, "image", "n", claim)))[-1]
    (theirs,) = job["spec"]["template"]["spec"]["volumes"]
    assert theirs["persistentVolumeClaim"]["claimName"] == claim
    (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
    # The claim is the working directory there.
    assert mount["subPath"] == str(config.load().pusher.destination)


def test_names_ports_and_paths_of_the_cluster_fit_together(cluster, pod):
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert ports == {"grpc": TOLD["port"], "rest": TOLD["rest_api_port"]}
    assert pod["metadata"]["labels"] == NAME
    selectors = [
        cluster["Deployment", "tf-serving"]["spec"]["selector"]["matchLabels"],
        cluster["PodDisruptionBudget", "tf-serving"]["spec"]["selector"]["matchLabels"],
        *(one["spec"]["selector"] for (kind, _), one in cluster.items() if kind == "Service"),
    ]
    assert selectors == [NAME] * 4
    for (kind, _), one in cluster.items():
        if kind == "Service":
            for port in one["spec"]["ports"]:
                assert str(port["port"]) == ports[port["targetPort"]]
    assert cluster["Service", "tf-serving-pods"]["spec"]["clusterIP"] == "None"
    target = cluster["HorizontalPodAutoscaler", "tf-serving"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in cluster
    # The autoscaler reckons with what is requested, and would fight a fixed number.
    assert "cpu" in container["resources"]["requests"]
    assert "replicas" not in cluster["Deployment", "tf-serving"]["spec"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (way,) = {"tcpSocket", "httpGet"} & set(container[probe])
        assert container[probe][way]["port"] in ports
        assert container[probe][way].get("path", configs.METRICS) == configs.METRICS
    slept = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert slept < pod["spec"]["terminationGracePeriodSeconds"]


def test_both_ways_of_scraping_pods_name_the_port_and_the_path(pod):
    annotations = pod["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": TOLD["rest_api_port"],
        "prometheus.io/path": configs.METRICS,
    }
    monitor = yaml.safe_load((DEPLOY / "podmonitor.yaml").read_text())
    assert monitor["spec"]["selector"]["matchLabels"] == NAME
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("rest", configs.METRICS)


def test_the_files_are_the_ones_that_the_text_is_about():
    texts = [(ROOT / "docs" / name).read_text() for name in ("tf-serving.md", "flink.md")]
    named = set(re.findall(r"\]\(deploy/([^)]+)\)", "".join(texts)))
    assert named == {path.name for path in DEPLOY.iterdir()}
