"""The README and the longer texts do what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import keras_resnet
from keras_resnet import weights

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Returns the code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


# All share a process, since starting one takes seconds; each has names of its own.
_ONE_AFTER_THE_OTHER = """
import subprocess, sys
for language, code in {!r}:
    sys.stdout.flush()
    try:
        if language == "bash":
            subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
        else:
            exec(compile(code, "example", "exec"), {{"__name__": "__main__"}})
    except BaseException:
        print(code, file=sys.stderr)
        raise
"""


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
    done = subprocess.run(
        [sys.executable, "-c", _ONE_AFTER_THE_OTHER.format(examples)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for shown in re.findall(r"```text\n(.*?)```", content, re.DOTALL):
        for line in shown.splitlines():
            assert line in done.stdout


FINE_TUNING = next(example for example in blocks("python") if "prepare_finetuning" in example)
CLIENT = next(example for example in blocks("python") if "Client" in example)


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", [one for one in blocks("python") if one not in (FINE_TUNING, CLIENT)]
)
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


@pytest.mark.slow
def test_the_fine_tuning_runs_on_photos(tmp_path):
    """With weights of the right names and shapes in Keras' cache, but of random values."""
    photographs(tmp_path / "photos")
    path = tmp_path / "keras" / "models" / "timm" / "resnet18.a1_in1k.safetensors"
    path.parent.mkdir(parents=True)
    weights.to_timm(keras_resnet.create("resnet18", seed=1), path)
    done = subprocess.run(
        [sys.executable, "-c", FINE_TUNING],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_HOME": str(tmp_path / "keras")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Downloading" not in done.stderr
    tuned = keras.models.load_model(tmp_path / "photos.keras")
    assert tuned.output_shape == (None, 6)
    file = load_file(path)
    stem = keras.ops.convert_to_numpy(tuned.get_layer("stem").conv1.kernel)
    np.testing.assert_array_equal(stem.transpose(3, 2, 0, 1), file["conv1.weight"])
    last = keras.ops.convert_to_numpy(tuned.get_layer("stage4_block2").conv2.kernel)
    assert (last.transpose(3, 2, 0, 1) != file["layer4.1.conv2.weight"]).any()


@pytest.mark.slow
def test_the_client_asks_a_server_about_photos(tmp_path):
    from pipeline.serving import push
    from tests.pipeline.serving import networks
    from tests.pipeline.serving.laptop import running

    model = networks.artifact(tmp_path / "artifact", networks.network()).uri / "Format-Serving"
    push.push(model, tmp_path / "saved_models" / "digits")
    photographs(tmp_path / "all")
    (tmp_path / "all" / "class0").rename(tmp_path / "photos")
    with running.serve(tmp_path / "saved_models", tmp_path) as server:
        asked = CLIENT.replace("http://localhost:8501", server.url)
        assert asked != CLIENT
        done = subprocess.run(
            [sys.executable, "-c", asked],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(list((tmp_path / "photos").iterdir()))
    assert all(line.startswith("photos/") for line in lines)


def photographs(folder, classes=6, of_each=3):
    """Real ones where there are any, else noise."""
    data = Path(os.environ.get("KERAS_RESNET_TEST_DATA", "")) / "photos"
    real = sorted(path for path in data.glob("*") if path.is_dir())
    random = np.random.default_rng(0)
    for number in range(classes):
        (folder / f"class{number}").mkdir(parents=True)
        found = sorted(real[number].glob("*.jpg"))[:of_each] if real else []
        for file in found:
            shutil.copy(file, folder / f"class{number}")
        for other in range(of_each - len(found)):
            pixels = random.integers(0, 256, (96, 128, 3), dtype="uint8")
            Image.fromarray(pixels).save(folder / f"class{number}" / f"{other}.jpg")


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
