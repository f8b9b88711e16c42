"""Why components run again, and the plan of a run."""

import os
import subprocess
import sys

import pytest

from pipeline.orchestration import fingerprint, plan, selection, store
from pipeline.orchestration.graph import Node
from tests.pipeline.orchestration.test_runner import Adder, Number, chain, component, execute


def planned(nodes, root, **options):
    found = plan.of(selection.select(nodes, **options), "test", root)
    return {one.component: (one.action, *one.why) for one in found}


def test_a_plan_says_what_would_run_and_writes_nothing(tmp_path):
    nodes = chain(Adder(), Adder(), Adder())
    assert planned(nodes, tmp_path) == dict.fromkeys(
        ("C0", "C1", "C2"), ("would run", "it never ended well here")
    )
    assert not list(tmp_path.iterdir())
    execute(nodes, tmp_path)
    assert {action for action, *_ in planned(nodes, tmp_path).values()} == {"unchanged"}
    found = planned(chain(Adder(), Adder(), Adder(), values=[1, 5, 1]), tmp_path)
    assert found["C0"][0] == "unchanged"
    assert found["C1"][2] == "parameter value: 1 → 5"
    assert found["C2"] == ("perhaps", "runs if C1 gives something else")
    assert found["C1"][1].startswith("since execution 2 of 20")
    assert len(store.Store(tmp_path).runs()) == 1


def test_the_plan_is_what_happens(tmp_path):
    adders = [Adder(), Adder(), Adder()]
    execute(chain(*adders), tmp_path)
    nodes = chain(*adders, values=[1, 5, 1])
    expected = planned(nodes, tmp_path)
    results = execute(nodes, tmp_path)
    for name, (action, *_) in expected.items():
        assert results[name].cached == (action == "unchanged"), name


def test_the_source_of_a_changed_input_is_named(tmp_path):
    execute(chain(Adder(), Adder()), tmp_path)
    execute(chain(Adder(), Adder(refusal="no"), values=[7, 1])[:1], tmp_path)
    _, since, line, cause = planned(chain(Adder(), Adder(), values=[7, 1]), tmp_path)["C1"]
    assert since.startswith("since execution 2 of ")
    assert line.startswith("input in: other content, which C0 wrote (execution 3 of ")
    assert cause == "  parameter value: 1 → 7"


def test_modules_libraries_and_what_lies_outside_are_named(tmp_path, monkeypatch):
    outside = {"baseline": "a" * 64}

    def nodes():
        return [Node("C0", component(Adder(), external=lambda parameters: outside), Number())]

    monkeypatch.setattr(fingerprint, "code", lambda module: {"a": "1", "b": "1", "c": "1"})
    monkeypatch.setattr(fingerprint, "libraries", lambda module: {"numpy": "1", "keras": "3"})
    execute(nodes(), tmp_path)
    monkeypatch.setattr(fingerprint, "code", lambda module: {"a": "1", "b": "2", "d": "1"})
    monkeypatch.setattr(fingerprint, "libraries", lambda module: {"numpy": "2", "tf": None})
    outside["baseline"] = "b" * 64
    _, _, *lines = planned(nodes(), tmp_path)["C0"]
    assert lines == [
        f"outside the graph baseline: {'a' * 12} → {'b' * 12}",
        "module b: edited",
        "module c: no longer imported",
        "module d: imported now",
        "library numpy: 1 → 2",
        "library keras: 3 → nothing",
        "library tf: nothing → None",
    ]


def test_what_is_not_used_again_although_nothing_changed_is_explained(tmp_path):
    nodes = chain(Adder(), Adder(refusal="3 anomalies"))
    with pytest.raises(Exception, match="3 anomalies"):
        execute(nodes, tmp_path)
    assert planned(nodes, tmp_path)["C1"] == (
        "would run",
        "nothing changed, but it refused, and is asked anew: 3 anomalies",
    )
    (tmp_path / "C0" / "out" / "1" / "n").unlink()
    action, why = planned(nodes, tmp_path)["C0"]
    assert (action, why) == (
        "would run",
        f"nothing changed, but {tmp_path}/C0/out/1 is gone, or was altered",
    )
    always = [Node("C0", component(Adder(), CACHEABLE=False), Number())]
    execute(always, tmp_path / "b")
    assert planned(always, tmp_path / "b")["C0"][1].startswith("it runs each time")


def test_parts_of_a_graph_are_planned_as_they_run(tmp_path):
    adders = [Adder(), Adder(), Adder()]
    nodes = chain(*adders)
    assert planned(nodes, tmp_path, only="C1")["C0"][0] == "missing"
    execute(nodes, tmp_path)
    found = planned(nodes, tmp_path, from_="C1", to="C1")
    assert found["C1"] == ("would run", "--from C1 was given")
    assert list(found) == ["C0", "C1"]
    found = planned(nodes, tmp_path, only="C2")
    assert [action for action, *_ in found.values()] == ["unchanged"] * 3


MODULES = {
    "a.py": "import helper\nfrom kit import part\n",
    "helper.py": "def value():\n    import deep\n    return deep.VALUE\n",
    "deep.py": "VALUE = 1\n",
    "b.py": "import alone\n",
    "alone.py": "",
    "kit/__init__.py": "",
    "kit/part.py": "from .inner import VALUE\n",
    "kit/inner.py": "VALUE = 1\n",
    "kit/unused.py": "",
    "job.py": """
import sys, types
from pathlib import Path
from pipeline.orchestration import runner
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.view import Silent
from pipeline.parameters import parameters

@parameters
class Nothing:
    pass

def run(inputs, outputs, parameters, context):
    (outputs["out"].uri / "n").write_text("the same whatever the code is")
    return Outcome("")

def node(name, inputs):
    module = types.SimpleNamespace(__name__=name.lower(), OUTPUTS={"out": "Any"}, run=run)
    return Node(name, module, Nothing(), inputs)

nodes = [node("A", {}), node("B", {}), node("Helper", {"in": ("A", "out")})]
results = runner.execute(nodes, "test", Path("root"), Silent())
print(*sorted(name for name, result in results.items() if not result.cached))
""",
}


def test_an_edit_runs_exactly_what_imports_the_module_however_deep_and_a_touch_nothing(tmp_path):
    for name, content in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    def ran():
        output = subprocess.check_output(
            [sys.executable, "job.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        return output.split()

    assert ran() == ["A", "B", "Helper"]
    for path in tmp_path.rglob("*.py"):
        os.utime(path, (1, 1))
    assert ran() == []
    for name, expected in (
        ("deep.py", ["A", "Helper"]),
        ("kit/inner.py", ["A"]),
        ("alone.py", ["B"]),
        ("kit/unused.py", []),
    ):
        with (tmp_path / name).open("a") as file:
            file.write("OTHER = 2\n")
        assert ran() == expected, name
