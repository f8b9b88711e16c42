"""Components of a person's own in the configuration."""

import dataclasses
import sys
import textwrap

import pytest

from pipeline import api, config
from pipeline.errors import PipelineError, UsageError
from pipeline.orchestration import custom, fingerprint, graph, runner, store
from pipeline.orchestration.artifact import Artifact, Context
from pipeline.orchestration.view import Silent
from tests.pipeline import builders

COUNT = '''
"""Counts the images of a class, for a report."""

import json

from pipeline.errors import UsageError
from pipeline.orchestration.artifact import Outcome
from pipeline.parameters import parameters
from pipeline.records import manifest

INPUTS = {"examples": "Examples"}
OUTPUTS = {"report": "CountReport"}


@parameters
class Parameters:
    of: str
    least: int = 0


def check(parameters):
    if parameters.of == "nothing":
        raise UsageError("of 'nothing'")


def external(parameters):
    return "seen"


def run(inputs, outputs, parameters, context):
    contents = manifest.load(inputs["examples"].uri)
    count = sum(split.class_counts[parameters.of] for split in contents.splits.values())
    (outputs["report"].uri / "count.json").write_text(json.dumps(count))
    refusal = f"only {count}" if count < parameters.least else None
    return Outcome(f"{count} of {parameters.of}", refusal)


def also(inputs, outputs, parameters, context):
    return "also"


def wrong(inputs, outputs, parameters, context):
    return 3


def leaves(inputs, outputs, parameters, context):
    raise SystemExit(0)


def short(inputs, outputs):
    pass
'''

MINE = {
    "name": "Count",
    "function": "{module}:run",
    "inputs": {"examples": "ExampleGen.examples"},
    "parameters": {"of": "3"},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Returns what writes a configuration with components, beside their module."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = f"count_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(COUNT)

    def write(*components, text=None):
        path = tmp_path / "mine.yaml"
        import yaml

        values = builders.TINY_RUN | {"root": str(tmp_path / "runs"), "components": components}
        written = yaml.safe_dump(text or values, sort_keys=False)
        path.write_text(written.replace("{module}", module))
        return path

    return write


def lines_of(path, *overrides):
    with pytest.raises(UsageError) as caught:
        config.load(path, overrides)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def test_a_module_beside_the_configuration_runs_in_the_graph(project, tmp_path):
    path = project(MINE)
    first, second = (api.run(path, to="Count").components["Count"] for _ in range(2))
    count = int((first.outputs["report"].uri / "count.json").read_text())
    # The digits are 1,797 of 10 classes, of which hardly any is a copy.
    assert 150 < count < 190
    assert first.outcome.result == f"{count} of 3"
    assert first.outputs["report"].type == "CountReport"
    assert (first.cached, second.cached) == (False, True)
    refused = MINE | {"parameters": {"of": "3", "least": 1000}, "before": ["Trainer"]}
    with pytest.raises(PipelineError, match=rf"^Count: only {count}\b"):
        api.run(project(refused), to="Trainer")
    assert not (tmp_path / "runs" / "tiny" / "Trainer").exists()


def test_the_table_of_the_pipelines_own_components_is_that_of_the_graph():
    searching = "tuner.space.learning_rate={type: log, min: 0.01, max: 1.0}"
    nodes = graph.build(config.load(overrides=[searching, "bulk_inferrer.data=digits"]))
    assert {node.name: node.module for node in nodes} == custom.BUILT_IN


def test_what_is_read_and_waited_for_becomes_edges(project):
    second = {
        "name": "Second",
        "function": "{module}:also",
        "inputs": {"examples": "ExampleGen.examples"},
        "after": ["Count"],
        "before": ["Trainer"],
        "parameters": {"of": "1"},
    }
    nodes = {node.name: node for node in graph.build(config.load(project(second, MINE)))}
    assert nodes["Second"].inputs == {"examples": ("ExampleGen", "examples")}
    assert nodes["Second"].after == ("Count",)
    assert nodes["Trainer"].after == ("ExampleValidator", "Second")
    names = list(nodes)
    assert names.index("Count") < names.index("Second") < names.index("Trainer")
    assert nodes["Count"].parameters.of == "3"
    assert dataclasses.asdict(nodes["Count"].parameters) == {"of": "3", "least": 0}


def test_two_functions_of_one_module_are_two_components_to_the_cache(project):
    other = MINE | {"name": "Also", "function": "{module}:also"}
    one, two = custom.nodes(config.load(project(MINE, other)))
    assert one.module.__name__ == two.module.__name__
    assert one.module.external(one.parameters)["own"] == "seen"
    assert one.module.external(one.parameters) != two.module.external(two.parameters)


def test_a_line_of_text_is_an_outcome_and_nothing_else_is(project, tmp_path):
    also, wrong = custom.nodes(
        config.load(
            project(
                MINE | {"function": "{module}:also"},
                MINE | {"name": "Wrong", "function": "{module}:wrong"},
            )
        )
    )
    arguments = {}, {"report": Artifact("CountReport", tmp_path)}, None, Context("x")
    assert also.module.run(*arguments).result == "also"
    with pytest.raises(PipelineError, match="wrong returned int; expected an Outcome"):
        wrong.module.run(*arguments)


def test_a_component_that_ends_python_has_failed(project, tmp_path):
    (node,) = custom.nodes(config.load(project(MINE | {"function": "{module}:leaves"})))
    node = dataclasses.replace(node, inputs={})
    with pytest.raises(PipelineError, match=r"Count: .*:leaves ended Python with sys.exit\(0\)"):
        runner.execute([node], "test", tmp_path / "root", Silent())
    assert store.Store(tmp_path / "root").run(1).state == "FAILED"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "count"}, "name: expected a name such as ColourReport; found 'count'"),
        ({"name": "Trainer"}, "name: there is a component Trainer of the pipeline's own"),
        ({"function": "run"}, "function: expected module:function; found 'run'"),
        ({"function": "nowhere.at_all:run"}, "there is no module 'nowhere' beside"),
        ({"function": "{module}:runn"}, "has no function 'runn'; did you mean 'run'?"),
        ({"function": "{module}:short"}, "takes (inputs, outputs); expected (inputs, outputs, "),
        ({"function": "textwrap:dedent"}, "textwrap:dedent takes (text); expected"),
        ({"inputs": {"examples": "ExampleGen"}}, "expected COMPONENT.OUTPUT such as"),
        ({"inputs": {"examples": "ExampleGen.example"}}, "did you mean 'examples'?"),
        ({"inputs": {"examples": "ExmpleGen.examples"}}, "did you mean 'ExampleGen'?"),
        (
            {"inputs": {"examples": "Trainer.model"}},
            "is of type Model; {module}:run reads Examples",
        ),
        ({"inputs": {}}, "inputs.examples: missing; {module}:run reads examples, of type Examples"),
        (
            {"inputs": {"examples": "ExampleGen.examples", "x": "Trainer.model"}},
            "inputs.x: {module}:run has no such input; expected one of examples",
        ),
        ({"after": ["Triner"]}, "after.0: there is no component 'Triner'; did you mean 'Trainer'?"),
        ({"before": ["Count2"]}, "before.0: there is no component 'Count2'; did you mean 'Count'?"),
        ({"parameters": {}}, "parameters.of: missing; expected a value"),
        ({"parameters": {"of": "3", "leest": 1}}, "parameters.leest'; did you mean 'least'?"),
        ({"parameters": {"of": "3", "least": "x"}}, "least: input should be a valid integer"),
        ({"before": ["ExampleGen"]}, "wait for each other: "),
        ({"wants": 3}, "unknown key 'components.0.wants'; expected one of name, function, inputs"),
    ],
)
def test_what_is_wrong_with_a_component_is_said_with_its_line(project, change, message):
    path = project(MINE | change)
    (line,) = lines_of(path)
    module = f"count_{path.parent.name}"
    assert message.replace("{module}", module) in line
    number, _, rest = line.partition(": ")
    written = path.read_text().splitlines()
    key = next(iter(change))
    begins = next(n for n, text in enumerate(written, 1) if text.startswith("components:"))
    assert begins < int(number) <= len(written)
    if "missing" not in message and "each other" not in message:
        assert rest.split(":")[0].rpartition("components.0.")[2].startswith(key)


def test_two_of_one_name_and_a_circle_are_named(project):
    assert "there is a component Count above; rename it" in lines_of(project(MINE, MINE))[0]
    circle = [MINE | {"name": "One", "after": ["Two"]}, MINE | {"name": "Two", "after": ["One"]}]
    (line,) = lines_of(project(*circle))
    assert "One -> Two -> One" in line or "Two -> One -> Two" in line


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def run(:", "cannot be imported: SyntaxError"),
        ("import nothing_such", "cannot be imported: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("def run(i, o, p, c): return ''", "has no OUTPUTS that can be used"),
        ("OUTPUTS = ['x']\ndef run(i, o, p, c): return ''", "has no OUTPUTS that can be used"),
        ("OUTPUTS = {}\nINPUTS = 3\ndef run(i, o, p, c): return ''", "has no INPUTS that can be"),
        ("OUTPUTS = {}\nimport os", "has no function 'run'; nor any other"),
    ],
)
def test_a_module_that_is_none_is_said_to_be_so(project, tmp_path, source, message):
    name = f"broken_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(source)
    (line,) = lines_of(project(MINE | {"function": f"{name}:run", "inputs": {}, "parameters": {}}))
    assert message in line


def test_plain_dataclasses_and_none_do_for_parameters(project, tmp_path):
    name = f"plain_{tmp_path.name}"
    source = textwrap.dedent("""
        import dataclasses
        OUTPUTS = {}
        def run(inputs, outputs, parameters, context):
            return ""
    """)
    (tmp_path / f"{name}.py").write_text(source)
    bare = {"name": "Plain", "function": f"{name}:run"}
    (node,) = custom.nodes(config.load(project(bare)))
    assert node.parameters == custom.NoParameters()
    (line,) = lines_of(project(bare | {"parameters": {"x": 1}}))
    assert "unknown key 'components.0.parameters.x'; no key is expected here" in line

    name = f"dataclass_{tmp_path.name}"
    declared = "@dataclasses.dataclass(frozen=True)\nclass Parameters:\n    x: int = 0\n"
    (tmp_path / f"{name}.py").write_text(f"{source}\n{declared}")
    bare["function"] = f"{name}:run"
    (node,) = custom.nodes(config.load(project(bare | {"parameters": {"x": "7"}})))
    assert node.parameters.x == 7
    (line,) = lines_of(project(bare | {"parameters": {"y": 1}}))
    assert "unknown key 'components.0.parameters.y'; expected one of x" in line


def test_a_module_that_hides_another_is_refused(project, tmp_path):
    (tmp_path / "textwrap.py").write_text("OUTPUTS = {}\ndef run(i, o, p, c): return ''")
    (line,) = lines_of(project(MINE | {"function": "textwrap:run", "inputs": {}, "parameters": {}}))
    assert f"{tmp_path / 'textwrap.py'} is hidden by another module 'textwrap'" in line


def test_a_module_that_was_edited_since_it_was_loaded_is_loaded_again(project, tmp_path):
    path = project(MINE)
    assert config.load(path)
    (module,) = tmp_path.glob("count_*.py")
    module.write_text(module.read_text().replace("of: str", "of: str\n    most: int"))
    (line,) = lines_of(path)
    assert "components.0.parameters.most: missing" in line


def test_of_two_projects_in_one_process_each_has_its_own_module(project, tmp_path):
    codes = []
    sources = {"one": "OUTPUTS = {'one': 'One'}\n", "two": "OUTPUTS = {'two': 'Two'}\n"}
    for folder, source in sources.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same_name.py").write_text(f"{source}def run(i, o, p, c): return ''")
        own = MINE | {"function": "same_name:run", "inputs": {}, "parameters": {}}
        (tmp_path / folder / "mine.yaml").write_text(project(own).read_text())
        (node,) = custom.nodes(config.load(tmp_path / folder / "mine.yaml"))
        assert list(node.module.OUTPUTS) == [folder]
        # The first module's source is not taken for the second's.
        codes.append(fingerprint.code("same_name"))
    assert codes[0] != codes[1]
    assert [entry for entry in sys.path if entry.startswith(str(tmp_path))] == [
        str(tmp_path / "two")
    ]


def test_an_option_changes_a_parameter_of_a_component(project):
    found = config.load(project(MINE), ["components.0.parameters.of='5'"])
    assert custom.nodes(found)[0].parameters.of == "5"
    (line,) = lines_of(project(MINE), "components.1.parameters.of=5")
    assert line.endswith("'1' is no index of a list of 1, counted from 0")
