"""What the studies say of results: made-up ones, so that every decision can be seen."""

import dataclasses
import json

import numpy as np
import pytest

from studies import page
from studies.chapters import bottleneck, degradation, lesion, stochastic_depth, wide_vs_deep
from studies.statistics import Decision
from studies.table import STUDIES
from tests.studies import tiny

SUPPORTED, CONTRADICTED, UNDECIDED = (
    Decision.SUPPORTED,
    Decision.CONTRADICTED,
    Decision.UNDECIDED,
)
# The network whose errors are expected to be the greater and the lesser ones, and the verdict.
ERRORS = {
    "bottleneck": ("basic", "bottleneck", 2),
    "wide-vs-deep": ("cifar-resnet44", "wrn-16-2", 1),
    "squeeze-excitation": ("without", "with", 1),
    "stochastic-depth": ("constant", "stochastic", 1),
}


def curves(run, seed, values):
    """Curves that end at the value of the network whose run it is, with a little spread."""
    end = next((value for name, value in values.items() if run.name.startswith(name)), 1.0)
    own = [end * (1 + 0.01 * seed)] * 2
    return dict.fromkeys(("loss", "error", "test_loss", "test_error", "seconds"), own)


def results(study, setting, values, **others):
    """A result for each run; `values` by the beginning of the run's name."""
    found = {}
    for run in study.runs(study.quick, setting):
        seed = int(run.name.partition("-seed")[2] or 0)
        found[run.name] = others.get(run.name) or curves(run, seed, values)
    return found


def steps(study, setting, seconds=lambda place: 1.0):
    """Times of the networks in their order, over the rounds."""
    networks = {"bottleneck": bottleneck, "stochastic-depth": stochastic_depth}
    module = networks.get(study.name, wide_vs_deep)
    known = module.networks(study.quick, setting)
    return {
        name: [seconds(place) * (1 + 0.01 * number) for number in range(3)]
        for place, name in enumerate(known)
    }


def timed(study, setting, **options):
    has_steps = study.name in ("bottleneck", "stochastic-depth", "wide-vs-deep")
    return {"steps": steps(study, setting, **options)} if has_steps else {}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("quick", [True, False])
def test_errors_are_decided_by_the_full_form_alone(name, quick):
    study, (greater, lesser, place) = STUDIES[name], ERRORS[name]
    setting = tiny.setting(seeds=(0, 1, 2), quick=quick)
    times = timed(study, setting)
    for values, expected in (
        ({greater: 9.0, lesser: 5.0}, SUPPORTED),
        ({greater: 5.0, lesser: 9.0}, CONTRADICTED),
        ({greater: 5.001, lesser: 5.0}, UNDECIDED),
    ):
        # A name may begin with another one.
        ordered = dict(sorted(values.items(), key=lambda item: -len(item[0])))
        report = study.report(study.quick, setting, results(study, setting, ordered, **times))
        verdict = report.verdicts[place]
        assert verdict.decision is (UNDECIDED if quick else expected)
        assert ("quick form cannot decide" in verdict.why) is quick
        assert str(values[greater])[:1] in verdict.seen


@pytest.mark.parametrize("quick", [True, False])
def test_pooling_is_decided_by_how_near_the_errors_are(quick):
    study, setting = STUDIES["pooling"], tiny.setting(seeds=(0, 1, 2), quick=quick)
    for values, expected in (
        ({"max": 5.0, "conv": 5.1}, SUPPORTED),
        ({"max": 5.0, "conv": 9.0}, CONTRADICTED),
    ):
        found = results(study, setting, values)
        (verdict,) = study.report(study.quick, setting, found).verdicts
        assert verdict.decision is (UNDECIDED if quick else expected)


def test_shortcuts_and_orders_need_every_difference():
    study, setting = STUDIES["shortcuts"], tiny.setting(seeds=(0, 1, 2), quick=False)
    errors = {"shortcutA": 9.0, "shortcutB": 8.0, "shortcutC": 7.0, "shortcutD": 7.0}
    errors |= {"full_preactivation": 8.0, "bn_after_addition": 10.0}
    found = study.report(study.quick, setting, results(study, setting, errors))
    assert [verdict.decision for verdict in found.verdicts] == [SUPPORTED, SUPPORTED]
    errors |= {"shortcutD": 8.0, "bn_after_addition": 8.0}
    found = study.report(study.quick, setting, results(study, setting, errors))
    assert [verdict.decision for verdict in found.verdicts] == [UNDECIDED, CONTRADICTED]


def test_degradation_is_decided_by_the_training_loss():
    study, setting = STUDIES["degradation"], tiny.setting(seeds=(0, 1, 2))
    values = {"plain20": 0.1, "plain56": 1.0, "resnet20": 0.1, "resnet56": 0.2}
    report = study.report(study.quick, setting, results(study, setting, values))
    decisions = [verdict.decision for verdict in report.verdicts]
    # What residual networks gain from depth and the test errors take the papers' trainings.
    assert decisions == [SUPPORTED, SUPPORTED, UNDECIDED, UNDECIDED]
    values = {"plain20": 1.0, "plain56": 0.1, "resnet20": 0.1, "resnet56": 0.2}
    report = study.report(study.quick, setting, results(study, setting, values))
    decisions = [verdict.decision for verdict in report.verdicts]
    assert decisions[:2] == [CONTRADICTED, CONTRADICTED]


def test_the_full_degradation_also_has_the_shapes_of_imagenet():
    setting = tiny.setting(quick=False)
    names = set(degradation.networks(STUDIES["degradation"].full, setting))
    assert names == {
        *("plain20", "plain56", "resnet20", "resnet56"),
        *("plain18", "plain34", "resnet18", "resnet34"),
    }


def test_costs_are_those_of_the_papers():
    assert bottleneck.vgg19().trainable == 143_667_240
    assert bottleneck.vgg19().macs == pytest.approx(19.632e9, rel=1e-4)
    assert bottleneck.imagenet("resnet152").macs == pytest.approx(11.282e9, rel=1e-4)
    setting = tiny.setting()
    for name, place in (("bottleneck", 0), ("bottleneck", 1), ("squeeze-excitation", 0)):
        study = STUDIES[name]
        found = results(study, setting, {}, **timed(study, setting))
        assert study.report(study.quick, setting, found).verdicts[place].decision is SUPPORTED


@pytest.mark.parametrize(
    ("name", "slower"), [("stochastic-depth", 0), ("wide-vs-deep", 1)], ids=lambda value: str(value)
)
def test_saved_time_is_decided_by_the_rounds(name, slower):
    study, setting = STUDIES[name], tiny.setting()
    for slow, expected in ((slower, SUPPORTED), (1 - slower, CONTRADICTED), (2, UNDECIDED)):
        times = timed(study, setting, seconds=lambda place, slow=slow: 1.0 + (place == slow))
        report = study.report(study.quick, setting, results(study, setting, {}, **times))
        assert report.verdicts[0].decision is expected


def test_an_error_of_a_paper_is_reached_within_half_a_point_on_its_images_alone():
    study, small = STUDIES["reproduction"], tiny.images()
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    split = dataclasses.replace(small.train, images=pictures, labels=np.arange(2))
    cifar = dataclasses.replace(small, train=split, test=split)
    for error, expected in ((8.9, SUPPORTED), (9.1, CONTRADICTED)):
        for data, quick in ((cifar, False), (cifar, True), (small, False)):
            setting = tiny.Setting(data, (0,), quick)
            found = results(study, setting, {"cifar-resnet20": error})
            verdict = study.report(study.quick, setting, found).verdicts[0]
            decided = data is cifar and not quick
            assert verdict.decision is (expected if decided else UNDECIDED)
    labels = [target.label for target in study.full.targets]
    assert labels[5] == "ResNet-110, stochastic depth, shortened to 164 epochs"


def test_a_thousand_layers_are_not_said_to_train_unless_they_did():
    study, setting = STUDIES["stochastic-depth"], tiny.setting(quick=False)
    plan = dataclasses.replace(study.quick, thousand_epochs=2)
    found = results(study, setting, {}, **timed(study, setting))
    assert study.report(study.quick, setting, found).verdicts[2].decision is UNDECIDED
    for error, expected in ((20.0, SUPPORTED), (88.0, UNDECIDED)):
        found["thousand"] = {"loss": [1.0], "test_error": [error]}
        assert study.report(plan, setting, found).verdicts[2].decision is expected


def test_a_network_that_needs_its_blocks_is_told_from_one_that_does_not():
    study, setting = STUDIES["lesion"], tiny.setting(seeds=(0, 1, 2))

    def result(seed, harm):
        found = {"whole": 5.0 + seed, "single": {"a": 5.0 + seed + harm, "b": 5.0 + 2 * harm}}
        found["shuffled"] = [5.0 + seed + harm] * 3
        found["pruned"] = [{"blocks": 2, "macs": 10, "error": 5.0}]
        return {**found, "loss": [0.1], "test_error": [5.0]}

    for harms, expected in (((60, 1), SUPPORTED), ((1, 60), CONTRADICTED)):
        found = {
            f"{kind}-seed{seed}": result(seed, harm)
            for kind, harm in zip(lesion.KINDS, harms, strict=True)
            for seed in setting.seeds
        }
        report = study.report(study.quick, setting, found)
        assert [verdict.decision for verdict in report.verdicts] == [expected] * 2


@pytest.mark.parametrize("name", ["degradation", "stochastic-depth"])
def test_a_page_holds_everything_and_needs_nothing(name, tmp_path):
    study, setting = STUDIES[name], tiny.setting()
    found = results(study, setting, {}, **timed(study, setting))
    report = study.report(study.quick, setting, found)
    record = {"environment": {"backend": "abacus 1"}, "seconds": 90.0}
    path = page.write(study, setting, report, {"a": record, "b": record}, tmp_path)
    text = path.read_text()
    for verdict in report.verdicts:
        assert verdict.claim.replace("'", "&#39;") in text
    assert text.count("<svg") == len(report.charts) == len(list(tmp_path.glob("charts/*.svg")))
    assert "2 runs, 3.0 minutes" in text
    assert text.count("abacus 1") == 1
    for outside in ("<script", "<link", 'src="http', 'href="http'):
        assert outside not in text


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("quick", [True, False])
def test_runs_have_names_and_settings_of_their_own(name, quick):
    study, setting = STUDIES[name], tiny.setting(quick=quick)
    runs = study.runs(study.plan(setting), setting)
    assert len({run.name for run in runs}) == len(runs)
    settings = [json.dumps(run.settings, sort_keys=True) for run in runs]
    assert len(set(settings)) == len(settings)
    assert all(np.isfinite(run.cost) and run.cost > 0 for run in runs)
