"""The runner, on small components of the tests' own."""

import types
from pathlib import Path

import pytest

from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration import fingerprint, graph, runner, selection, store
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.graph import Node
from pipeline.orchestration.view import Silent
from pipeline.parameters import parameters


@parameters
class Number:
    """A parameter for the tests."""

    value: int = 0


def component(run, **attributes):
    """Returns a module-like component; its code digest is that of a real, small module."""
    module = types.SimpleNamespace(
        __name__="pipeline.errors", OUTPUTS={"out": "Number"}, run=run, **attributes
    )
    return module


class Adder:
    """Adds its parameter to the sum of its inputs, and counts how often it ran."""

    def __init__(self, refusal=None, error=None):
        self.runs = 0
        self.refusal = refusal
        self.error = error

    def __call__(self, inputs, outputs, parameters, context):
        self.runs += 1
        total = parameters.value + sum(int((a.uri / "n").read_text()) for a in inputs.values())
        (outputs["out"].uri / "n").write_text(str(total))
        if self.error:
            raise self.error
        return Outcome(f"sum {total}", self.refusal)


def chain(*adders, values=None):
    values = values or [1] * len(adders)
    return [
        Node(
            f"C{number}",
            component(adder),
            Number(value=values[number]),
            {"in": (f"C{number - 1}", "out")} if number else {},
        )
        for number, adder in enumerate(adders)
    ]


def execute(nodes, root):
    return runner.execute(nodes, "test", root, Silent())


def test_each_component_reads_what_the_one_before_wrote(tmp_path):
    results = execute(chain(Adder(), Adder(), Adder()), tmp_path)
    assert [result.outcome.result for result in results.values()] == ["sum 1", "sum 2", "sum 3"]
    assert not any(result.cached for result in results.values())


def test_a_second_run_uses_everything_again(tmp_path):
    adders = [Adder(), Adder(), Adder()]
    first = execute(chain(*adders), tmp_path)
    second = execute(chain(*adders), tmp_path)
    assert [adder.runs for adder in adders] == [1, 1, 1]
    assert all(result.cached for result in second.values())
    assert [r.outputs for r in second.values()] == [r.outputs for r in first.values()]


def used(root):
    executions = store.Store(root)
    return [executions.last_used(name).id for name in ("C0", "C1")]


def test_what_a_run_used_last_is_known_made_or_used_again(tmp_path):
    def run(value):
        execute(chain(Adder(), Adder(), values=[value, 1]), tmp_path)
        return used(tmp_path)

    assert run(1) == [1, 2]
    assert run(2) == [3, 4]
    assert run(1) == [1, 2]


def test_an_execution_that_refuses_counts_as_used_and_one_that_fails_does_not(tmp_path):
    execute(chain(Adder(), Adder()), tmp_path)
    with pytest.raises(PipelineError, match="C1: no"):
        execute(chain(Adder(), Adder(refusal="no"), values=[1, 5]), tmp_path)
    assert used(tmp_path) == [1, 4]
    with pytest.raises(DataError):
        execute(chain(Adder(), Adder(error=DataError("cut")), values=[1, 9]), tmp_path)
    assert used(tmp_path) == [1, 4]


def test_a_changed_parameter_runs_what_depends_on_it_and_nothing_else(tmp_path):
    adders = [Adder(), Adder(), Adder()]
    execute(chain(*adders), tmp_path)
    results = execute(chain(*adders, values=[1, 5, 1]), tmp_path)
    assert [adder.runs for adder in adders] == [1, 2, 2]
    assert results["C2"].outcome.result == "sum 7"


def test_a_change_that_gives_the_same_bytes_stops_there(tmp_path):
    first, last = Adder(), Adder()
    middle = Adder()
    execute(chain(first, middle, last, values=[1, 1, 1]), tmp_path)
    execute(chain(first, middle, last, values=[2, 0, 1]), tmp_path)
    assert (first.runs, middle.runs, last.runs) == (2, 2, 1)


def test_changed_code_runs_again(tmp_path, monkeypatch):
    adder = Adder()
    execute(chain(adder), tmp_path)
    monkeypatch.setattr(fingerprint, "code", lambda module: {module: "edited"})
    execute(chain(adder), tmp_path)
    assert adder.runs == 2


def test_a_changed_library_runs_again(tmp_path, monkeypatch):
    adder = Adder()
    execute(chain(adder), tmp_path)
    monkeypatch.setattr(fingerprint, "libraries", lambda module: {"numpy": "9"})
    execute(chain(adder), tmp_path)
    assert adder.runs == 2


def test_what_lies_outside_the_graph_is_part_of_the_key(tmp_path):
    adder, outside = Adder(), ["one"]
    nodes = [Node("C0", component(adder, external=lambda parameters: outside[0]), Number())]
    execute(nodes, tmp_path)
    execute(nodes, tmp_path)
    assert adder.runs == 1
    outside[0] = "two"
    execute(nodes, tmp_path)
    assert adder.runs == 2


def test_a_component_that_may_not_be_cached_runs_every_time(tmp_path):
    adder = Adder()
    nodes = [Node("C0", component(adder, CACHEABLE=False), Number())]
    execute(nodes, tmp_path)
    execute(nodes, tmp_path)
    assert adder.runs == 2


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (DataError("shard 3 is cut"), DataError, "^C1: shard 3 is cut; not run for it: C2$"),
        (KeyError("x"), PipelineError, "^C1: KeyError: 'x'; not run"),
        (
            RuntimeError(
                "Graph execution error:\n\n  File a\n  File b\nshapes differ\n\t [[{{x}}]]"
            ),
            PipelineError,
            "^C1: RuntimeError: Graph execution error: … shapes differ; not run",
        ),
    ],
)
def test_a_failure_keeps_what_came_before_and_nothing_of_itself(tmp_path, error, kind, message):
    first, last = Adder(), Adder()
    with pytest.raises(kind, match=message):
        execute(chain(first, Adder(error=error), last), tmp_path)
    assert (last.runs, (tmp_path / "C1").exists()) == (0, False)

    execute(chain(first, Adder(), last), tmp_path)
    assert (first.runs, last.runs) == (1, 1)


def test_a_refusal_keeps_its_outputs_stops_the_run_and_is_asked_for_anew(tmp_path):
    first, gate, last = Adder(), Adder(refusal="3 anomalies"), Adder()
    for _ in range(2):
        with pytest.raises(PipelineError, match=r"^C1: 3 anomalies; not run for it: C2$"):
            execute(chain(first, gate, last), tmp_path)
    assert (first.runs, gate.runs, last.runs) == (1, 2, 0)
    assert (tmp_path / "C1" / "out" / "2" / "n").read_text() == "2"
    gate.refusal = None  # the cause was a passing one
    execute(chain(first, gate, last), tmp_path)
    assert last.runs == 1


def test_an_artifact_that_was_altered_is_not_built_upon(tmp_path):
    adders = [Adder(), Adder()]
    execute(chain(*adders), tmp_path)
    (tmp_path / "C0" / "out" / "1" / "n").write_text("9")  # of the same size
    with pytest.raises(DataError, match=r"C0/out/1: its files are not those that C0 wrote"):
        execute(chain(*adders, values=[1, 5]), tmp_path)
    (tmp_path / "C0" / "out" / "1" / "n").unlink()
    (tmp_path / "C0" / "out" / "1").rmdir()
    results = execute(chain(*adders, values=[1, 5]), tmp_path)
    assert results["C1"].outcome.result == "sum 6"


def test_a_root_that_cannot_be_written_to_is_wrong_use(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, not a directory"):
        execute(chain(Adder()), tmp_path / "file" / "below")
    with pytest.raises(UsageError, match="no permission to write"):
        execute(chain(Adder()), Path("/proc/nowhere"))


def test_ctrl_c_is_recorded_and_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        execute(chain(Adder(error=KeyboardInterrupt())), tmp_path)
    assert not (tmp_path / "C0").exists()
    assert not list((tmp_path / ".system" / "staging").iterdir())
    assert store.Store(tmp_path).executions([1])[1].state == store.CANCELED


def test_parameters_are_checked_before_anything_is_written_and_once_only(tmp_path):
    checked = []

    def check(parameters):
        checked.append(parameters.value)
        if parameters.value < 0:
            raise UsageError("value must not be negative")

    def nodes(value):
        return [
            Node("C0", component(Adder()), Number()),
            Node("C1", component(Adder(), check=check), Number(value=value)),
        ]

    with pytest.raises(UsageError, match="negative"):
        execute(nodes(-1), tmp_path / "root")
    assert not (tmp_path / "root").exists()
    execute(nodes(3), tmp_path / "root")
    execute(nodes(3), tmp_path / "root")
    assert checked == [-1, 3]


def test_two_nodes_that_wait_for_each_other_are_refused():
    one = Node("A", component(Adder()), Number(), {"in": ("B", "out")})
    two = Node("B", component(Adder()), Number(), {"in": ("A", "out")})
    with pytest.raises(graph.graphlib.CycleError):
        graph.order((one, two))


class Spans:
    """A source whose data have spans, and a reader that sees the span before."""

    def __init__(self):
        self.span, self.text = 0, ""
        self.read = []

    def write(self, inputs, outputs, parameters, context):
        (outputs["out"].uri / "n").write_text(self.text or str(self.span))
        outputs["out"].properties["span"] = self.span
        return Outcome("")

    def look(self, inputs, outputs, parameters, context):
        (outputs["out"].uri / "n").write_text("")
        before = inputs.get("previous")
        self.read.append((before.uri / "n").read_text() if before else None)
        return Outcome("")

    def run(self, root, span, text=""):
        self.span, self.text = span, text
        source = component(self.write, external=lambda parameters: (span, text))
        reader = component(self.look)
        nodes = (
            Node(
                "Reader",
                reader,
                Number(),
                {"in": ("Source", "out")},
                history={"previous": ("Source", "out")},
            ),
            Node("Source", source, Number()),
        )
        results = execute(graph.order(nodes), root)
        return results["Reader"].cached


def test_a_component_sees_what_was_written_for_the_greatest_span_before(tmp_path):
    spans = Spans()
    for span in (1, 5, 3, 4):
        assert not spans.run(tmp_path, span)
    # What was written between them for a later span is not of before.
    assert spans.read == [None, "1", "1", "3"]


def test_of_one_span_the_last_execution_counts_and_its_content_is_part_of_the_key(tmp_path):
    spans = Spans()
    spans.run(tmp_path, 1)
    spans.run(tmp_path, 2)
    assert spans.run(tmp_path, 2)  # nothing changed
    spans.run(tmp_path, 1, "corrected")
    assert not spans.run(tmp_path, 2)
    assert spans.read == [None, "1", None, "corrected"]


def test_a_span_whose_files_are_gone_is_passed_over_and_one_that_was_altered_refused(tmp_path):
    spans = Spans()
    for span in (1, 2):
        spans.run(tmp_path, span)
    (tmp_path / "Source" / "out" / "3" / "n").unlink()
    spans.run(tmp_path, 3)
    assert spans.read[-1] == "1"
    (tmp_path / "Source" / "out" / "5" / "n").write_text("9")  # of the same size
    with pytest.raises(DataError, match=r"Reader: .*Source/out/5: its files are not those that"):
        spans.run(tmp_path, 4)


def test_what_has_no_span_has_no_history(tmp_path):
    spans = Spans()
    spans.run(tmp_path, 1)
    source = component(Adder())
    nodes = [
        Node("Source", source, Number()),
        Node("Reader", component(spans.look), Number(), history={"previous": ("Source", "out")}),
    ]
    execute(nodes, tmp_path)
    assert spans.read == [None, None]


def test_a_component_learns_the_number_of_workers_and_its_figures_reach_the_view(tmp_path):
    seen, shown = [], []

    class Watching(Silent):
        def progress(self, component):
            return lambda done, total, **figures: shown.append((component, done, total, figures))

    def work(inputs, outputs, parameters, context):
        seen.append(context.workers)
        context.progress(3, 10, images_per_second="120")
        return Outcome("")

    nodes = [Node("C0", component(work), Number())]
    runner.execute(nodes, "test", tmp_path, Watching(), workers=3)
    assert seen == [3]
    assert shown == [("C0", 3, 10, {"images_per_second": "120"})]


def test_the_validator_is_given_the_statistics_of_the_span_before():
    from pipeline import config

    nodes = {node.name: node for node in graph.build(config.load())}
    assert nodes["ExampleValidator"].history == {
        "previous_statistics": ("StatisticsGen", "statistics")
    }


def test_what_is_held_against_a_limit_of_time_is_timed_alone():
    from pipeline import config

    def validator(*overrides):
        nodes = graph.build(config.load(overrides=overrides))
        return next(n for n in nodes if n.name == "InfraValidator"), nodes

    assert selection.independent(*validator())
    node, nodes = validator("infra_validator.max_p99_ms=50")
    beside = [other.name for other in nodes if selection.independent(other, nodes)]
    assert (node.after, beside) == (("Evaluator",), [])
