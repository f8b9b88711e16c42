"""Keras Tuner's oracles, which propose the values of trials, made fit to be killed and to lose
trials.

What Keras Tuner 1.4.8 does, and what is done here instead:

- It writes `oracle.json` and one `trial.json` per trial in place and one after the other. A process
  that is killed meanwhile leaves half a file, a finished trial that is done again, or one that
  nobody does. Here nothing is written: `state` is one value, which `Search` writes by one rename.
- Its lock stays locked when an oracle raises, and nobody is served any more. Here one lock is held
  around every call, and what made it raise (failures in a row) is left to `Search`.
- Hyperband waits for so many *completed* trials of a round: where some failed, the bracket is given
  up, and the best of it never go on. Where a space has few values, it stops before the first
  halving. Here a failed trial is one of the worst of its round, and what there is is halved.
- The Gaussian process may take a running trial for one with the score of the one before it, never
  learns of failed ones, proposes what was tried already, begins its random numbers anew after a
  restart, and takes seconds for each proposal, one place at a time.
- Seed 0 is taken for none, and the draws of seed 1 are those of seed 0, one place further on.
"""

import math
import threading
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial as KerasTunerTrial
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from pipeline.tuning.parameters import Parameters
from pipeline.tuning.search import Proposal

_OWN = "tuner/"  # begins the names of what Hyperband notes among the values
_SEEDS_APART = 1_000_003
_SEEDS = 2**32 - 1
# Of the variance of the scores: two trainings with the same values do not score the same.
_NOISE = 1e-2
_FEWEST_RANDOM = 3
# How the most promising place is sought: among so many, and then so far around the best of them.
_PLACES = 2048
_REACHES = (0.1, 0.02, 0.004)
_RESTARTS = 4


class Oracle:
    """Proposes values and learns what came of them.

    The first proposal is the configuration as it is, for a whole training.

    Args:
        parameters: Those of Tuner.
        space: What may be proposed.
        default: The values of the configuration, as Keras Tuner has them; they may lie outside.
        epochs: Epochs of a whole training.
        direction: Whether the greatest or the smallest score is the best.
    """

    def __init__(
        self,
        parameters: Parameters,
        space: keras_tuner.HyperParameters,
        default: Mapping[str, Any],
        epochs: int,
        direction: Literal["min", "max"],
    ):
        self._objective = parameters.objective
        self._epochs = epochs
        self._lock = threading.Lock()
        self.space = space.get_config()["space"]
        self._asked = 0
        common = {
            "objective": keras_tuner.Objective(parameters.objective, direction),
            "hyperparameters": space,
            "allow_new_entries": False,
            "seed": 1 + parameters.seed * _SEEDS_APART % _SEEDS,
            "max_consecutive_failed_trials": math.inf,
        }
        match parameters.algorithm:
            case "hyperband":
                self._oracle = _Hyperband(
                    default,
                    max_epochs=epochs,
                    factor=parameters.factor,
                    hyperband_iterations=parameters.iterations,
                    **common,
                )
            case "bayesian":
                least = min(2 * len(space.space), parameters.max_trials // 3)
                self._oracle = _Bayesian(
                    default,
                    max_trials=None,
                    num_initial_points=max(_FEWEST_RANDOM, least),
                    alpha=_NOISE,
                    **common,
                )
            case "random":
                self._oracle = _Random(default, max_trials=None, **common)

    def propose(self) -> Proposal | Literal["wait", "stop"]:
        """Returns the next trial; or that one has to end first, or that there will be none."""
        with self._lock:
            self._asked += 1
            trial = self._oracle.create_trial(f"{self._asked}")
        if trial.status == TrialStatus.IDLE:
            return "wait"
        if trial.status == TrialStatus.STOPPED:
            return "stop"
        values = trial.hyperparameters.values
        return Proposal(
            trial.trial_id,
            {name: value for name, value in values.items() if not name.startswith(_OWN)},
            values.get(f"{_OWN}epochs", self._epochs),
            values.get(f"{_OWN}trial_id"),
            values.get(f"{_OWN}initial_epoch", 0),
        )

    def conclude(self, number: str, score: float | None, *, rejected: bool = False) -> None:
        """Learns how a trial ended.

        Args:
            number: The trial.
            score: None where it failed.
            rejected: Whether it was not even begun.
        """
        with self._lock:
            trial = self._oracle.trials[number]
            if trial.status != TrialStatus.RUNNING:
                return
            if score is None:
                ended = TrialStatus.FAILED
            else:
                ended = TrialStatus.COMPLETED
                self._oracle.update_trial(number, {self._objective: score})
            told = KerasTunerTrial(trial.hyperparameters, number, ended)
            self._oracle.end_trial(told)
            if rejected and isinstance(self._oracle, _Hyperband):
                self._oracle.replace(number)

    def hyperparameters(self, values: Mapping[str, Any]) -> keras_tuner.HyperParameters:
        """Returns the space with `values`, as Keras Tuner has them."""
        found = self._oracle.get_space()
        found.values = dict(values)
        return found

    def goes_on(self, number: str) -> bool:
        """Whether the training of an ended trial may be gone on with."""
        with self._lock:
            return isinstance(self._oracle, _Hyperband) and self._oracle.goes_on(number)

    @property
    def state(self) -> dict[str, Any]:
        """All that it knows, as JSON values."""
        with self._lock:
            trials = [trial.get_state() for trial in self._oracle.trials.values()]
            state = self._oracle.get_state()
            state["tried_so_far"].sort()  # out of a set
            return {"asked": self._asked, "oracle": state, "trials": trials}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        with self._lock:
            self._asked = state["asked"]
            trials = map(KerasTunerTrial.from_state, state["trials"])
            self._oracle.trials = {trial.trial_id: trial for trial in trials}
            self._oracle.set_state(state["oracle"])


class _Mended:
    """What all oracles do in another way: a mixin in front of one of Keras Tuner's."""

    def __init__(self, default: Mapping[str, Any], **settings: Any):
        super().__init__(**settings)
        self._default = dict(default)
        self.verbose = 0

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the values of the next trial, of the first one those of the configuration."""
        if not self.trials:
            return {"status": TrialStatus.RUNNING, "values": dict(self._default)}
        return super().populate_space(trial_id)

    def create_trial(self, tuner_id: str) -> KerasTunerTrial:
        """Returns the next trial; whoever asks never comes back under the same name."""
        trial = super().create_trial(tuner_id)
        self.tuner_ids.discard(tuner_id)
        return trial

    def save(self) -> None:
        """Writes nothing: `Oracle.state` is written as a whole."""

    def _save_trial(self, trial: KerasTunerTrial) -> None:
        """Writes nothing, either."""

    def _compute_values_hash(self, values: Mapping[str, Any]) -> str:
        own = {name: value for name, value in values.items() if not name.startswith(_OWN)}
        return super()._compute_values_hash(own)


class _Random(_Mended, RandomSearchOracle):
    """Random values, none of them twice."""


class _Bayesian(_Mended, BayesianOptimizationOracle):
    """A Gaussian process that knows of failures, and of what is being tried."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the values that promise most, of those that were not tried."""
        completed = [t for t in self.trials.values() if t.status == TrialStatus.COMPLETED]
        if not self.trials or len(completed) < self.num_initial_points:
            return super().populate_space(trial_id)
        # Of the trial's number: a search that was killed goes on as it would have.
        draw = np.random.default_rng([self.seed, len(self.trials)])
        with warnings.catch_warnings():
            # Where the scores hardly differ, the kernel's parameters end at their bounds.
            warnings.simplefilter("ignore")
            self.gpr = self._make_gpr()
            self.gpr.fit(*self._vectorize_trials())
            for place in self._promising(draw):
                values = self._vector_to_values(place)
                if not self._duplicate(values):
                    return {"status": TrialStatus.RUNNING, "values": values}
        return self._random_populate_space()

    def _make_gpr(self) -> GaussianProcessRegressor:
        return GaussianProcessRegressor(
            kernel=Matern(nu=2.5),
            n_restarts_optimizer=_RESTARTS,
            normalize_y=True,
            alpha=self.alpha,
            random_state=self.seed,
        )

    def _promising(self, draw: np.random.Generator) -> np.ndarray:
        """Returns places of the unit cube, those first where the score may be the smallest."""
        dimensions = len(self._nonfixed_space())
        places = draw.uniform(size=(_PLACES, dimensions))
        for reach in _REACHES:
            best = places[np.argsort(self._bound(places))[: _PLACES // 16]]
            near = np.repeat(best, 8, axis=0)
            near = np.clip(near + draw.normal(0.0, reach, near.shape), 0.0, 1.0)
            places = np.concatenate([best, near])
        return places[np.argsort(self._bound(places))]

    def _bound(self, places: np.ndarray) -> np.ndarray:
        """Returns how small the score may be (Srinivas et al., 2010, equation 6)."""
        means, spreads = self.gpr.predict(places, return_std=True)
        return means - self.beta * spreads

    def _vectorize_trials(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the places of all trials in the unit cube, and what is to be smallest."""
        sign = -1.0 if self.objective.direction == "max" else 1.0
        places, scores, failed, running = [], [], [], []
        for trial in self.trials.values():
            if (place := self._place(trial)) is None:
                continue
            if trial.status == TrialStatus.COMPLETED:
                places.append(place)
                scores.append(sign * trial.score)
            elif trial.status == TrialStatus.RUNNING:
                running.append(place)
            else:
                failed.append(place)
        worst, best = max(scores, default=0.0), min(scores, default=0.0)
        places += failed
        # As far behind the worst as that is behind the best.
        scores += [worst + (worst - best or abs(worst) or 1.0)] * len(failed)
        if running and places:
            gpr = self._make_gpr().fit(np.array(places), np.array(scores))
            means, spreads = gpr.predict(np.array(running), return_std=True)
            # Expected to be poor, lest the same is tried twice.
            places += running
            scores += list(means + spreads)
        return np.array(places), np.array(scores)

    def _place(self, trial: KerasTunerTrial) -> list[float] | None:
        """Returns where a trial is in the unit cube, None where it is outside."""
        place = []
        for entry in self._nonfixed_space():
            active = trial.hyperparameters.is_active(entry)
            value = trial.hyperparameters.values.get(entry.name) if active else entry.default
            try:
                position = entry.value_to_prob(value)
            except (TypeError, ValueError):  # nothing, or no value of a choice
                return None
            if not 0 <= position <= 1:
                return None
            place.append(position)
        return place


class _Hyperband(_Mended, HyperbandOracle):
    """Hyperband (Li et al., 2018, algorithm 1), whose rounds are closed by failures, too."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the values of the next trial, with what Hyperband notes of it."""
        if not self.trials:
            found = super().populate_space(trial_id)
            # It stands beside the brackets, at the full length that it is compared at.
            noted = {"epochs": self.max_epochs, "initial_epoch": 0}
            found["values"] |= {f"{_OWN}{name}": value for name, value in noted.items()}
            return found
        while True:
            for bracket in self._brackets:
                if found := self._begun(bracket, trial_id) or self._promoted(bracket, trial_id):
                    return found
            last = self._current_bracket == 0
            if self._exhausted() or (
                last and self._current_iteration + 1 >= self.hyperband_iterations
            ):
                return {"status": TrialStatus.IDLE if self.ongoing_trials else TrialStatus.STOPPED}
            self._increment_bracket_num()
            self._start_new_bracket()

    def replace(self, number: str) -> None:
        """Lets another trial take the place of one that was not even begun."""
        for bracket in self._brackets:
            first = bracket["rounds"][0]
            first[:] = [entry for entry in first if entry["id"] != number]

    def goes_on(self, number: str) -> bool:
        """Whether an ended trial may still go on into the next round of its bracket."""
        for bracket in self._brackets:
            for place, entries in enumerate(bracket["rounds"][:-1]):
                if number in (entry["id"] for entry in entries):
                    selected = [entry["past_id"] for entry in bracket["rounds"][place + 1]]
                    room = self._room(bracket, place + 1) > len(selected)
                    completed = self.trials[number].status == TrialStatus.COMPLETED
                    return completed and room and number not in selected
        return False

    def _begun(self, bracket: dict[str, Any], trial_id: str) -> dict[str, Any] | None:
        """Returns a new trial of the first round, None where it is full."""
        first = bracket["rounds"][0]
        if bracket.get("closed") or len(first) >= self._get_size(bracket["bracket_num"], 0):
            return None
        values = self._random_values()
        if values is None:
            bracket["closed"] = True
            return None
        first.append({"past_id": None, "id": trial_id})
        return self._trial(values, bracket, 0)

    def _promoted(self, bracket: dict[str, Any], trial_id: str) -> dict[str, Any] | None:
        """Returns a trial that goes on, None where it is not known yet which one that is."""
        for place in range(1, len(bracket["rounds"])):
            entries, before = bracket["rounds"][place], bracket["rounds"][place - 1]
            selected = {entry["past_id"] for entry in entries}
            room = self._room(bracket, place)
            left = [self.trials[one["id"]] for one in before if one["id"] not in selected]
            ended = [trial for trial in left if trial.status != TrialStatus.RUNNING]
            # So many that one of them is among the best of all, however the others end.
            if len(entries) >= room or len(ended) <= self._room(bracket, place - 1) - room:
                continue
            completed = [trial for trial in ended if trial.status == TrialStatus.COMPLETED]
            if not completed:
                continue
            choose = max if self.objective.direction == "max" else min
            best = choose(completed, key=lambda trial: trial.score)
            entries.append({"past_id": best.trial_id, "id": trial_id})
            values = {**best.hyperparameters.values, f"{_OWN}trial_id": best.trial_id}
            return self._trial(values, bracket, place)
        return None

    def _trial(self, values: dict[str, Any], bracket: dict[str, Any], place: int) -> dict[str, Any]:
        number = bracket["bracket_num"]
        values[f"{_OWN}epochs"] = self._get_epochs(number, place)
        values[f"{_OWN}initial_epoch"] = self._get_epochs(number, place - 1) if place else 0
        values[f"{_OWN}bracket"], values[f"{_OWN}round"] = number, place
        return {"status": TrialStatus.RUNNING, "values": values}

    def _room(self, bracket: dict[str, Any], place: int) -> int:
        """Returns how many trials a round will have: fewer where those before it failed."""
        size = self._get_size(bracket["bracket_num"], place)
        if not place:
            return len(bracket["rounds"][0]) if bracket.get("closed") else size
        before = bracket["rounds"][place - 1]
        failed = sum(self.trials[entry["id"]].status == TrialStatus.FAILED for entry in before)
        return min(size, self._room(bracket, place - 1) - failed)

    def _exhausted(self) -> bool:
        """Whether the space has no values that were not tried."""
        return any(bracket.get("closed") for bracket in self._brackets)
