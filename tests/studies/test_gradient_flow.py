import numpy as np
import pytest

from studies.chapters import gradient_flow
from studies.chapters.gradient_flow import Plan, growth, network, zeroed
from studies.statistics import Decision
from studies.training import build
from studies.work import carry_out
from tests.studies import tiny

# The deepest is what the verdicts are on; only the other one is trained.
PLAN = Plan(depths=(8, 32), trained_depths=(8,), epochs=1, batch=16)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    setting = tiny.setting()
    runs = gradient_flow.runs(PLAN, setting)
    records = carry_out(runs, setting, tmp_path_factory.mktemp("flow"), tiny.Silent())
    results = {name: record["result"] for name, record in records.items()}
    return results, gradient_flow.report(PLAN, setting, results)


@pytest.mark.slow
def test_the_verdicts_are_those_of_the_papers(found):
    _, report = found
    assert [verdict.decision for verdict in report.verdicts] == [Decision.SUPPORTED] * 3
    assert len(report.tables[0].rows) == 6
    assert {chart.name for chart in report.charts} == {"start8", "start32", "trained8"}


@pytest.mark.slow
def test_identities_hand_on_all_of_the_gradient_unless_a_relu_follows(found):
    results, _ = found
    exact = results["preactivation32-seed0"]["start"]["passed"]
    # 15 blocks; of each stage neither the first nor the last.
    assert len(exact) == 9
    np.testing.assert_allclose(exact, 1, rtol=1e-6)
    masked = results["residual32-seed0"]["start"]["passed"]
    assert 0.5 < np.mean(masked) < 0.999
    assert max(results["plain32-seed0"]["start"]["passed"]) == 0


@pytest.mark.slow
def test_a_training_changes_what_is_measured(found):
    results, _ = found
    result = results["residual8-seed1"]
    assert growth(result["start"]) != growth(result["trained"])
    assert "trained" not in results["residual32-seed1"]


@pytest.mark.parametrize(
    ("kind", "change", "left"), [("plain", 1, 0), ("residual", 0, 1), ("preactivation", 0, 1)]
)
def test_zero_weights_pass_the_signal_through_shortcuts_alone(kind, change, left):
    model = build(network(kind, 14), (8, 8, 3), 10, seed=0)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    assert zeroed(model, images) == {"change": change, "left": left}


def test_growth_counts_powers_of_ten_from_the_last_block_to_the_first():
    assert growth({"norms": [100.0, 3.0, 0.1]}) == pytest.approx(3)
