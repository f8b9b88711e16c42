"""TensorBoard's plugin for hyperparameters finds the trials of a search."""

import pytest
from tensorboard.plugins.hparams import api_pb2

from pipeline.tuning import hparams
from tests.pipeline.training.test_insight import sessions
from tests.pipeline.tuning import records


def test_the_plugin_shows_every_trial_that_was_trained(tmp_path):
    values = records.proposed(2, seed=5)
    record = records.searched(
        6,
        trials=(
            records.trial(
                7,
                values[0],
                state="FAILED",
                score=None,
                objective=(0.1, None),
                figures={},
                reason="diverged",
            ),
            records.trial(8, values[1], state="REJECTED", score=None, objective=(), figures={}),
        ),
    )
    for _ in range(2):  # written again, as when the process was killed before its end
        hparams.write(record, tmp_path)
    experiment, groups = sessions(tmp_path)
    assert {info.name for info in experiment.hparam_infos} == set(values[0])
    assert {info.name: info.type for info in experiment.hparam_infos} == {
        "learning_rate": api_pb2.DATA_TYPE_FLOAT64,
        "model_arguments.depths": api_pb2.DATA_TYPE_STRING,
        "random_shift": api_pb2.DATA_TYPE_FLOAT64,
    }
    found = {session.name: (group, session) for group in groups for session in group.sessions}
    trained = {one.id: one for one in record.trials if one.state != "REJECTED"}
    assert set(found) == set(trained)
    for name, (group, session) in found.items():
        trial = trained[name]
        assert group.hparams["learning_rate"].number_value == trial.values["learning_rate"]
        depths = group.hparams["model_arguments.depths"].string_value
        assert depths == str(trial.values["model_arguments.depths"])
        failed = trial.state == "FAILED"
        wanted = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
        assert session.status == wanted
        assert session.start_time_secs == trial.begin
        assert session.end_time_secs == trial.begin + trial.seconds
        measured = {one.name.tag: one for one in session.metric_values}
        assert ("final/eval_accuracy" in measured) != failed
        last = measured["eval_accuracy"]
        if failed:
            assert (last.training_step, last.value) == (1, pytest.approx(0.1))
        else:
            assert (last.training_step, last.value) == (3, pytest.approx(trial.score))
            assert measured["final/macs"].value == trial.macs
    # The values that won have been trained three times, and their mean is shown.
    (group,) = [group for group in groups if group.name == record.best]
    assert len(group.sessions) == 3
    assert len(groups) == len(trained) - 3
