"""The page on the configuration names every key, as the parameters are now."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from pipeline import config
from pipeline.orchestration import graph

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("maker", DOCS / "make_configuration.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_that_the_parameters_make(maker):
    page = maker.PAGE.read_text()
    assert maker.written(page) == page, "run python docs/make_configuration.py"


def test_every_key_of_every_component_has_its_row_and_every_default_is_the_one_that_holds(maker):
    tables = maker.PAGE.read_text().partition(maker.HEADING)[2]
    sections = {
        part.partition("`")[0]: part for part in tables.split("\n### `") if part.strip("\n")
    }
    chosen = config.validate({"name": "x", "example_gen": {}, "trainer": {}}, "test")
    for field in dataclasses.fields(chosen):
        value = getattr(chosen, field.name)
        if not dataclasses.is_dataclass(value):
            continue
        for inner in dataclasses.fields(value):
            (row,) = [
                line
                for line in sections[field.name].splitlines()
                if line.startswith(f"| `{inner.name}` |")
            ]
            default = getattr(value, inner.name)
            if default is None or isinstance(default, bool | int | float):
                shown = {None: "null", True: "true", False: "false"}.get(default, default)
                if isinstance(default, bool) or default is None:
                    assert f"| `{shown}` |" in row
                else:
                    assert f"| `{default}` |" in row
            # What it is for stands behind it.
            assert len(row.split("|")[-2].strip()) > 1
    for node in graph.build(config.load()):
        for key, kind in node.module.OUTPUTS.items():
            assert f"| `{node.name}.{key}` | {kind} |" in tables
