import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from studies import cli, table
from studies.errors import StudyError
from studies.report import Report, Study, Verdict
from studies.statistics import Decision
from studies.work import Run

ROOT = Path(__file__).parents[2]


def study(perform):
    """A study of one run."""

    def report(plan, setting, results):
        verdict = Verdict("It runs", "none", str(results["run"]), Decision.SUPPORTED)
        return Report((verdict,))

    return Study(
        *("tiny", "A tiny study", "Text.", "Nobody, 2026"),
        *(None, None, lambda plan, setting: [Run("run", {}, perform)], report),
    )


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs the command line; returns its exit code."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(perform, *arguments):
        monkeypatch.setattr(table, "STUDIES", {"tiny": study(perform)})
        monkeypatch.setattr(sys, "argv", ["studies", *arguments])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    yield run
    signal.signal(signal.SIGTERM, handler)


def works(data, desk):
    return {"seen": data.name}


def test_a_study_runs_and_the_second_time_nothing_is_left_to_do(command, capsys, tmp_path):
    arguments = ("run", "tiny", "--quick", "--seeds", "1", "--out", "here")
    assert command(works, *arguments) == 0
    shown = capsys.readouterr().out
    assert "100%  run: done" in shown
    assert "It runs: supported" in shown
    assert (tmp_path / "here" / "tiny" / "quick-digits" / "index.html").is_file()

    def fails(data, desk):
        raise AssertionError

    assert command(fails, *arguments) == 0
    assert "run: done before" in capsys.readouterr().out


def failed(data, desk):
    raise StudyError("it is broken")


def terminated(data, desk):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def interrupted(data, desk):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("perform", "code", "told"),
    [
        (failed, 1, "error: it is broken"),
        (terminated, 75, "goes on from the last whole epoch"),
        (interrupted, 130, "goes on from the last whole epoch"),
    ],
)
def test_exit_codes_say_how_it_ended(command, capsys, perform, code, told):
    assert command(perform, "run", "tiny") == code
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "tinny"), "there is no study 'tinny', perhaps 'tiny'"),
        (("run", "tiny", "--data", "nowhere"), "there is no such folder"),
        (("run", "tiny", "--seeds", "0"), "--seeds"),
        (("walk",), "walk"),
    ],
)
def test_wrong_use_ends_with_2_and_says_what_is_wrong(command, capsys, arguments, told):
    assert command(works, *arguments) == 2
    assert told in capsys.readouterr().err


def test_the_studies_are_listed_without_keras_or_a_backend():
    program = (
        "import sys; from studies import cli\n"
        "try: cli.main()\n"
        "finally: print({'keras', 'tensorflow', 'jax', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *listed, loaded = done.stdout.splitlines()
    assert [line.split()[0] for line in listed] == [*table.STUDIES]
    assert loaded == "set()"


def test_every_study_has_the_name_that_it_is_listed_by():
    assert [study.name for study in table.STUDIES.values()] == [*table.TITLES]
    assert [study.title for study in table.STUDIES.values()] == [*table.TITLES.values()]
    assert "tiny" not in table.STUDIES


@pytest.mark.slow
def test_a_study_runs_on_jax_without_tensorflow_and_without_the_pipeline(tmp_path):
    program = """
        import sys
        for absent in ("tensorflow", "pipeline", "tensorboard"):
            sys.modules[absent] = None
        from pathlib import Path
        from studies import networks, table, work
        from tests.studies import tiny
        setting = tiny.setting(seeds=(0,))
        training = tiny.training(epochs=1, depths=(1,), widths=(4,))
        network = networks.Network("one", "One", training.config, training.recipe)
        runs = networks.trainings([network], setting)
        records = work.carry_out(runs, setting, Path(sys.argv[1]), tiny.Silent())
        print(len([*table.STUDIES.values()]), records["one-seed0"]["environment"]["backend"])
    """
    # `find_spec` must not find it either.
    program = textwrap.dedent(program).replace(
        "from pathlib import Path",
        "import importlib.util as util\nfound = util.find_spec\n"
        "util.find_spec = lambda name, *rest: "
        "None if name == 'tensorflow' else found(name, *rest)\nfrom pathlib import Path",
        1,
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "10 jax" in done.stdout
    assert not (tmp_path / "logs").exists()
