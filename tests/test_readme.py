"""The README and the longer texts do what they say."""

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
@pytest.mark.parametrize("text", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_the_examples_of_a_longer_text_run_one_after_the_other(text, tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    content = text.read_text()
    examples = re.findall(r"```(python|bash)\n(.*?)```", content, re.DOTALL)
    assert examples
    printed = ""
    for language, example in examples:
        program = ["bash", "-euo", "pipefail"] if language == "bash" else [sys.executable]
        done = subprocess.run(
            [*program, "-c", example],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    for shown in re.findall(r"```text\n(.*?)```", content, re.DOTALL):
        for line in shown.splitlines():
            assert line in printed


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
