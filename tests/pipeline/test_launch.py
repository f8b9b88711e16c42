"""Supervision of workers, with small programs in their place."""

import json
import signal
import sys
import threading
import time

import pytest
import yaml

from pipeline import launch
from pipeline.errors import PipelineError, UsageError

_HEAD = """
import json, os, signal, sys, time
from pathlib import Path
task = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
folder = Path(sys.argv[1])
tries = folder / f"tries-{task}"
number = len(tries.read_text()) if tries.exists() else 0
tries.write_text("x" * (number + 1))
"""


def supervisor(tmp_path, body, workers=2, restarts=2):
    said = []
    program = [sys.executable, "-c", _HEAD + body]
    return launch.Supervisor(
        [str(tmp_path)], workers, restarts, tmp_path / "logs", said.append, program
    ), said


def tries(tmp_path, index):
    return len((tmp_path / f"tries-{index}").read_text())


def test_all_workers_know_each_other_and_end(tmp_path):
    body = "(folder / f'config-{task}').write_text(os.environ['TF_CONFIG'])"
    running, said = supervisor(tmp_path, body, workers=3)
    assert running.run() == 0
    configs = [json.loads((tmp_path / f"config-{index}").read_text()) for index in range(3)]
    assert [config["task"] for config in configs] == [
        {"type": "worker", "index": index} for index in range(3)
    ]
    (addresses,) = {tuple(config["cluster"]["worker"]) for config in configs}
    assert len(set(addresses)) == 3
    assert said == []


def test_a_killed_worker_brings_all_to_their_end_and_all_start_again(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_GRACE", 1.0)
    body = """
if number == 0 and task == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if number == 0:
    time.sleep(60)  # hangs, as a worker that waits for a dead one may
"""
    running, said = supervisor(tmp_path, body)
    begin = time.monotonic()
    assert running.run() == 0
    assert time.monotonic() - begin < 30
    assert (tries(tmp_path, 0), tries(tmp_path, 1)) == (2, 2)
    assert said == ["worker 0 ended with SIGKILL, worker 1 ended with SIGKILL; attempt 1 of 3"]


def test_workers_that_keep_dying_are_given_up_with_their_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_GRACE", 0.5)
    body = """
if task == 1:
    print("the disk is full", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""
    running, said = supervisor(tmp_path, body, restarts=1)
    with pytest.raises(PipelineError, match=r"2 attempts; .*worker-1.log: the disk is full"):
        running.run()
    assert len(said) == 2


@pytest.mark.parametrize("code", [1, 2])
def test_wrong_use_and_failures_are_not_tried_again(tmp_path, code, monkeypatch):
    monkeypatch.setattr(launch, "_GRACE", 0.5)
    running, _ = supervisor(tmp_path, f"sys.exit({code})")
    assert running.run() == code
    assert tries(tmp_path, 0) == 1


def test_sigterm_is_passed_on_and_the_code_says_start_again(tmp_path):
    body = """
signal.signal(signal.SIGTERM, lambda *unused: sys.exit(75))
(folder / f"ready-{task}").touch()
time.sleep(60)
"""
    running, _ = supervisor(tmp_path, body)

    def stop():
        while not all((tmp_path / f"ready-{index}").exists() for index in range(2)):
            time.sleep(0.05)
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=stop).start()
    assert running.run() == 75
    assert tries(tmp_path, 0) == 1


def test_the_commands_for_several_hosts_differ_in_the_index_alone():
    first, second = launch.commands(["run", "my.yaml"], ["a", "b:99"])
    assert first.startswith("a: TF_CONFIG='")
    assert first.endswith("' python -m pipeline run my.yaml")
    config = json.loads(second.partition("'")[2].rpartition("'")[0])
    assert config == {
        "cluster": {"worker": ["a:12345", "b:99"]},
        "task": {"type": "worker", "index": 1},
    }


def test_the_job_for_kubernetes_gives_each_pod_its_index():
    text = launch.kubernetes(["run", "my.yaml"], 3, "registry/image:1", "training", "files")
    service, job = yaml.safe_load_all(text)
    assert service["spec"]["clusterIP"] == "None"
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (3, 3, "Indexed")
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "pipeline", "run", "my.yaml"]
    index, config = container["env"]
    assert index["name"] == "JOB_COMPLETION_INDEX"
    # Kubernetes puts the value of an earlier variable in place of $(NAME).
    filled = json.loads(config["value"].replace("$(JOB_COMPLETION_INDEX)", "2"))
    assert filled["task"] == {"type": "worker", "index": 2}
    assert filled["cluster"]["worker"][2] == "training-2.training:12345"


def test_who_is_a_peer():
    assert not launch.is_peer({})
    assert not launch.is_peer({"TF_CONFIG": launch.cluster(["a:1", "b:1"], 0)})
    assert launch.is_peer({"TF_CONFIG": launch.cluster(["a:1", "b:1"], 1)})
    with pytest.raises(UsageError, match="expected JSON such as"):
        launch.is_peer({"TF_CONFIG": "worker 1"})
