"""The image and its service, as far as can be told without Docker: they name what there is."""

import configparser
import json
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from packaging.specifiers import SpecifierSet

from pipeline import cli, config

ROOT = Path(__file__).parents[1]
_INSTRUCTIONS = {
    *(
        "FROM",
        "RUN",
        "ENV",
        "WORKDIR",
        "COPY",
        "USER",
        "VOLUME",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ),
}
# The keys of a service that are used here, as the Compose specification has them.
_SERVICE = {
    *("build", "image", "user", "init", "shm_size", "volumes", "deploy", "command"),
    *("stop_grace_period", "restart", "profiles"),
}


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, argument in instructions():
        if name == "FROM":
            image, _, stage = argument.partition(" AS ")
            assert re.fullmatch(r"python:3\.\d+-slim-\w+", image)
            current = found.setdefault(stage, [])
        current.append((name, argument))
    return found


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path at the top out of the build."""
    result = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and "/" not in line:
            pattern = line.removeprefix("!")
            if pattern in ("*", path):
                result = not line.startswith("!")
    return result


def environment() -> dict[str, str]:
    """What the worker finds in its environment."""
    (found,) = [argument for name, argument in stages()["worker"] if name == "ENV"]
    return dict(pair.split("=", 1) for pair in shlex.split(found))


def command(arguments: list[str]) -> typer.core.TyperCommand:
    """The command that the program's arguments begin with."""
    return typer.main.get_command(cli.app).commands[arguments[0]]


def test_instructions_are_known_and_python_is_a_version_that_is_supported():
    assert {name for name, _ in instructions()} <= _INSTRUCTIONS
    supported = SpecifierSet(setup()["options"]["python_requires"])
    for stage in stages().values():
        (version,) = re.findall(r"python:(3\.\d+)", stage[0][1])
        assert supported.contains(f"{version}.0")


def test_what_is_copied_exists_and_what_is_installed_is_declared():
    build = stages()["build"]
    for name, argument in build:
        if name == "COPY":
            *sources, _ = argument.split()
            for source in sources:
                assert (ROOT / source).exists(), source
                assert not ignored(source), source
    copied = " ".join(argument for name, argument in build if name == "COPY")
    packages = {line.rstrip("*") for line in setup()["options.packages.find"]["include"].split()}
    assert packages <= set(copied.split())
    installed = " ".join(argument for name, argument in build if name == "RUN")
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', installed)
    # kfp's executor starts the step in the image.
    assert {"pipeline", "gpu", "kfp"} == set(extras.split(","))
    assert set(extras.split(",")) <= set(setup()["options.extras_require"])
    assert "tensorflow[and-cuda]" in setup()["options.extras_require"]["gpu"]
    for name in (".git", ".venv", "runs", "tests", "saved_models"):
        assert ignored(name), name


def test_the_worker_is_no_root_and_starts_the_program():
    worker = stages()["worker"]
    names = [name for name, _ in worker]
    users = [argument for name, argument in worker if name == "USER"]
    assert users
    assert "root" not in users
    assert max(i for i, name in enumerate(names) if name == "USER") < names.index("ENTRYPOINT")
    last = dict(worker)
    assert json.loads(last["ENTRYPOINT"]) == ["python", "-m", "pipeline"]
    assert command(json.loads(last["CMD"]))
    check = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    assert check[:3] == ["python", "-m", "pipeline"]
    assert command(check[3:])
    made = " ".join(argument for name, argument in worker if name == "RUN")
    for volume in json.loads(last["VOLUME"]):
        assert volume in shlex.split(made)


@pytest.mark.parametrize("name", ["worker", "doctor"])
def test_a_service_mounts_and_runs_what_there_is(name):
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert {key for key in compose if not key.startswith("x-")} == {"services", "volumes"}
    service = compose["services"][name]
    assert set(service) <= _SERVICE
    assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert service["build"]["target"] in stages()
    assert command(service["command"])
    if service["command"][0] == "run":
        assert set(service["command"][1:]) <= set(config.embedded())
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    volumes = [re.fullmatch(r"(\S+?):(/[\w/]+)(:ro)?", volume) for volume in service["volumes"]]
    workdir = dict(stages()["worker"])["WORKDIR"]
    named = {volume[1]: volume[2] for volume in volumes if volume[1] in compose["volumes"]}
    made = [argument for name, argument in stages()["worker"] if name == "RUN"]
    assert named == {"weights": environment()["KERAS_HOME"]}
    assert f"--mode 1777 {named['weights']} " in " ".join(made)
    assert {volume[2] for volume in volumes} - set(named.values()) == {
        f"{workdir}/data",
        f"{workdir}/{config.load().root}",
        f"{workdir}/{config.load().pusher.destination}",
    }
