"""Several processes that train together, each started as the runner starts it."""

import json
import signal
import time

import keras
import numpy as np
import pytest

import keras_resnet  # noqa: F401  registers the layers of the exported model
from pipeline import launch
from pipeline.components import trainer
from pipeline.components.trainer import Parameters
from pipeline.errors import UsageError
from pipeline.records import manifest
from pipeline.training import session
from pipeline.training.preprocessing import Preprocessing
from tests.pipeline import builders
from tests.pipeline.training import data, job

pytestmark = pytest.mark.slow

# Without drop path and dropout, whose draws differ between replicas.
_NETWORK = {"depths": [1, 1, 1], "widths": [4, 4, 4], "stem_width": 4}
_PARAMETERS = {"model_arguments": _NETWORK, "epochs": 2}
_STEPS = 22
_LIMIT = 60


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("data"), train=88, eval=21).uri


def start(folder, examples, state, attempt, workers=2):
    """Starts all workers; the first one writes to `folder/ATTEMPT-0`."""
    addresses = [f"localhost:{port}" for port in launch._free_ports(workers)]
    return [
        job.start(
            folder,
            examples,
            state,
            outputs=folder / f"{attempt}-{index}",
            environment={"TF_CONFIG": launch.cluster(addresses, index)},
            strategy="multi_worker",
            **_PARAMETERS,
        )
        for index in range(workers)
    ]


def weights(outputs):
    model = keras.models.load_model(outputs / "model" / "Format-Keras" / "model.keras")
    return model.get_weights()


@pytest.fixture(scope="module")
def undisturbed(examples, tmp_path_factory):
    """The weights that two workers come to, and what each of them printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    printed = [job.finished(one) for one in start(folder, examples, folder / "state", "whole")]
    assert not (folder / "whole-1" / "model" / "Format-Keras").exists()
    return weights(folder / "whole-0"), printed


def test_two_workers_learn_what_one_process_learns(examples, undisturbed, tmp_path):
    found, (first, second) = undisturbed
    assert any("2 replicas, float32" in line for line in first)
    assert any("in each of 2 workers, 4 images per replica" in line for line in first)
    assert json.loads(first[-1])["architecture"] == "cifar_resnet20"
    assert second[-2] == "worker 1; the first one writes the model"

    parameters = Parameters(**job.PARAMETERS | _PARAMETERS | {"strategy": "one_device"})
    expected = Preprocessing(height=8, width=8, mean=parameters.mean, std=parameters.std)
    contents = manifest.load(examples)
    alone = session.train(
        examples, contents, parameters, expected, tmp_path, builders.CONTEXT
    ).model.get_weights()
    greatest = max(np.abs(value).max() for value in alone)
    for one, two in zip(alone, found, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-3 * greatest)


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.exhaustive)])
def test_a_killed_worker_ends_the_others_and_all_go_on_together(
    examples, undisturbed, tmp_path, victim
):
    state = tmp_path / "state"
    workers = start(tmp_path, examples, state, "killed")
    for line in workers[victim].stdout:
        if line.startswith("step ") and int(line[5:]) >= 9:
            break
    workers[victim].kill()  # and with it the process that trains
    workers[victim].communicate()
    begin = time.monotonic()
    survivor = workers[1 - victim]
    output, errors = survivor.communicate(timeout=_LIMIT)
    assert time.monotonic() - begin < _LIMIT
    assert survivor.returncode == 75, output + errors
    assert "error: another worker has gone; start all of them again" in output

    lines = [job.finished(one) for one in start(tmp_path, examples, state, "resumed")]
    for printed in lines:
        assert any(line.startswith("going on after step ") for line in printed)
    for one, two in zip(undisturbed[0], weights(tmp_path / "resumed-0"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_signal_to_one_worker_stops_all_of_them_after_saving(examples, tmp_path):
    state = tmp_path / "state"
    workers = start(tmp_path, examples, state, "stopped")
    for line in workers[1].stdout:
        if line.startswith("step ") and int(line[5:]) >= 3:
            break
    workers[1].send_signal(signal.SIGTERM)
    printed = [one.communicate(timeout=_LIMIT)[0] for one in workers]
    assert [one.returncode for one in workers] == [75, 75]
    steps = {
        line.split(" after step ")[1]
        for text in printed
        for line in text.splitlines()
        if line.startswith("error: stopped by ")
    }
    (where,) = steps
    assert where.endswith(f" of {_STEPS}; the same command goes on from there")
    assert (state / "checkpoints" / f"step-{int(where.split()[0]):08}").is_dir()


def test_without_a_cluster_it_says_how_to_start_one(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    parameters = Parameters(**job.PARAMETERS | {"strategy": "multi_worker"})
    with pytest.raises(UsageError, match=r"TF_CONFIG, .* is not set; .*pipeline launch"):
        trainer.run({}, {}, parameters, builders.CONTEXT)
