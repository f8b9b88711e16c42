"""The work of the studies itself, in networks of eight layers."""

import dataclasses

import numpy as np
import pytest

from keras_resnet.analysis import count
from studies.chapters import lesion, stochastic_depth, wide_vs_deep
from studies.networks import epoch_seconds, trainings
from studies.statistics import Decision
from studies.table import STUDIES
from studies.timing import step_seconds
from studies.training import Trained, build
from studies.work import Setting, carry_out
from tests.studies import tiny


@pytest.mark.slow
def test_a_lesion_is_measured_and_leaves_the_network_as_it_was():
    data = tiny.images(train=64, test=64)
    plan = lesion.Plan(
        depth=14, epochs=1, batch_size=32, swaps=(1, 3), keep=0.5, images=32, warmup_epochs=0.0
    )
    training = tiny.training(depths=(2, 3, 3))
    batches = training.recipe.batches(data.train.images, data.train.labels, classes=10)
    evaluation = batches.evaluation(data.test.images, data.test.labels)
    model = build(training.config, data.shape, 10, seed=0)
    before = tiny.weights(model)
    trained = Trained(model, {}, batches, evaluation, data, seed=0)
    found = lesion.lesions(model, trained, plan)
    for one, other in zip(tiny.weights(model), before, strict=True):
        np.testing.assert_array_equal(one, other)
    logits = np.concatenate([np.array(model(evaluation[number][0])) for number in range(2)])
    wrong = 100 * np.mean(logits.argmax(axis=-1) != data.test.labels)
    assert found["whole"] == pytest.approx(wrong)
    assert set(found["single"]) == {
        *("stage1_block1", "stage1_block2"),
        *("stage2_block2", "stage2_block3", "stage3_block2", "stage3_block3"),
    }
    assert len(found["shuffled"]) == 2
    # Of eight blocks four are kept; the first point is the whole network.
    assert [point["blocks"] for point in found["pruned"]] == [8, 7, 6, 5, 4]
    assert found["pruned"][0]["error"] == pytest.approx(found["whole"])
    assert found["pruned"][0]["macs"] == count(training.config, (8, 8, 3)).macs


@pytest.mark.slow
def test_steps_of_networks_that_take_turns_are_timed():
    data = tiny.images()
    training = tiny.training()
    model = build(training.config, data.shape, 10, seed=0)
    training.recipe.compile(model, steps_per_epoch=10)
    seconds = step_seconds([model, model], data, batch=16, steps=3)
    # Two to warm up for each.
    assert int(model.optimizer.iterations) == 2 * (2 + 3)
    assert [len(own) for own in seconds] == [3, 3]
    assert min(min(own) for own in seconds) > 0


@pytest.mark.slow
def test_a_study_of_trained_networks_runs_from_work_to_report(tmp_path):
    study = STUDIES["degradation"]
    setting = tiny.setting(seeds=(0,))
    plan = dataclasses.replace(study.quick, depths=(8, 14), epochs=1, batch_size=32)
    runs = [run for run in study.runs(plan, setting) if run.name.startswith("plain8")]
    records = carry_out(runs, setting, tmp_path, tiny.Silent())
    result = records["plain8-seed0"]["result"]
    assert set(result) == {"loss", "error", "test_loss", "test_error", "seconds"}
    assert list((tmp_path / "logs" / "plain8-seed0").rglob("events.out.tfevents*"))
    assert not list((tmp_path / "checkpoints").iterdir())
    others = {run.name: result for run in study.runs(plan, setting)}
    report = study.report(plan, setting, others)
    # One seed has no spread.
    assert {verdict.decision for verdict in report.verdicts} == {Decision.UNDECIDED}


def test_only_the_network_with_stochastic_depth_skips_blocks_and_nothing_else_differs():
    known = stochastic_depth.networks(STUDIES["stochastic-depth"].full, tiny.setting())
    constant, stochastic = known["constant"].config, known["stochastic"].config
    assert stochastic.drop_path_mode == "batch"
    assert dataclasses.replace(stochastic, drop_path_rate=0.0) == constant
    assert STUDIES["stochastic-depth"].full.survival == pytest.approx(0.745, abs=5e-4)


def test_wide_and_deep_networks_are_of_like_size():
    setting = tiny.setting()
    for plan in (wide_vs_deep.STUDY.quick, wide_vs_deep.STUDY.full):
        sizes = {
            name: network.cost(setting.data).trainable
            for name, network in wide_vs_deep.networks(plan, setting).items()
        }
        for deep in plan.deep:
            assert min(abs(np.log(sizes[wide] / sizes[deep])) for wide in plan.wide) < np.log(1.2)


def test_the_first_epoch_which_compiles_is_left_out_of_the_time():
    setting = Setting(tiny.images(), (0,), True)
    known = stochastic_depth.networks(STUDIES["stochastic-depth"].quick, setting)["constant"]
    results = {"constant-seed0": {"seconds": [60.0, 2.0, 1.0, 3.0]}}
    assert epoch_seconds(known, setting, results).mean == 2.0
    assert len(trainings([known], setting)) == 1
