"""The README does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Returns the code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("example", blocks("python"))
def test_examples_run_as_they_stand(example, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "wide_resnet50_2" in done.stdout


def test_targets_and_files_that_are_named_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / path).is_file(), path


def test_every_component_is_explained_and_every_arrow_of_the_diagram_is_an_edge():
    from pipeline import config
    from pipeline.orchestration import graph

    (diagram,) = blocks("mermaid")
    nodes = {node.name: node for node in graph.build(config.load())}
    arrows = re.findall(r"^ *(\w+)\b.*--> (\w+)", diagram, re.MULTILINE)
    for name, node in nodes.items():
        assert f"| {name} |" in README
        assert name in {target for _, target in arrows}
        sources = {source for source, _ in node.inputs.values()} | set(node.after)
        assert {source for source, target in arrows if target == name} <= sources | {"images"}
