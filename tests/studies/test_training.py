import dataclasses
import json

import numpy as np
import pytest

from studies import training as trainings
from studies.errors import Stopped, UsageError
from studies.training import train
from tests.studies import tiny


def stop_after(epochs):
    """Raises when so many epochs are done, as a signal would."""
    seen = []

    def report(share, text):
        seen.append(share)
        if len(seen) == epochs:
            raise Stopped("asked to")

    return report


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Curves and weights of a training that was not stopped, on a network of its own."""
    trainings._last = None
    folder = tmp_path_factory.mktemp("whole")
    trained = train(tiny.training(seed=1, epochs=3), tiny.images(), tiny.desk(folder))
    return trained.curves, tiny.weights(trained.model)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(whole, tmp_path, monkeypatch):
    """It begins on a network that another seed has used, and ends on one of its own."""
    curves, weights = whole
    used = trainings._last
    with pytest.raises(Stopped):
        train(
            tiny.training(seed=0, epochs=3),
            tiny.images(),
            tiny.desk(tmp_path / "other", stop_after(1)),
        )
    with pytest.raises(Stopped):
        train(tiny.training(seed=1, epochs=3), tiny.images(), tiny.desk(tmp_path, stop_after(2)))
    assert trainings._last is used
    monkeypatch.setattr(trainings, "_last", None)
    shares = []
    desk = tiny.desk(tmp_path, lambda share, text: shares.append(share))
    resumed = train(tiny.training(seed=1, epochs=3), tiny.images(), desk)
    assert shares == [1.0]
    assert {len(curve) for curve in resumed.curves.values()} == {3}
    np.testing.assert_allclose(resumed.curves["loss"], curves["loss"], rtol=1e-5)
    for one, other in zip(tiny.weights(resumed.model), weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_state_of_another_training_is_not_taken_up(tmp_path):
    with pytest.raises(Stopped):
        train(tiny.training(seed=0, epochs=3), tiny.images(), tiny.desk(tmp_path, stop_after(1)))
    shares = []
    desk = tiny.desk(tmp_path, lambda share, text: shares.append(share))
    train(tiny.training(seed=1, epochs=3), tiny.images(), desk)
    assert len(shares) == 3


def test_a_broken_state_is_named(tmp_path):
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\3\4 not quite")
    with pytest.raises(UsageError, match=r"checkpoint\.npz must be the state"):
        train(tiny.training(epochs=3), tiny.images(), tiny.desk(tmp_path))


def test_a_training_stops_when_its_time_is_over(tmp_path):
    with pytest.raises(Stopped, match="goes on from here"):
        train(tiny.training(epochs=3), tiny.images(), tiny.desk(tmp_path, deadline=0.0))
    assert (tmp_path / "checkpoint.npz").is_file()


def test_what_a_training_depends_on_is_json_and_complete():
    one = tiny.training()
    assert json.loads(json.dumps(one.settings)) == one.settings
    names = {field.name for field in dataclasses.fields(one)}
    assert names == set(one.settings)
