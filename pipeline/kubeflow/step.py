"""What one step does in its container.

The compiler copies the source of the function into the specification, so that it stands alone: it
imports what it needs itself, and its parameters and their types are those of the step.
"""


def run_component(component: str, configuration: str, modules: str, directory: str) -> None:
    """Runs one component of the graph, on what the steps before have left in the root.

    Args:
        component: Its name.
        configuration: The configuration of the whole run, as JSON.
        modules: Path to source of the modules that lie beside the configuration, as JSON.
        directory: The working directory, on a volume that all steps share.
    """
    import json
    import pathlib
    import subprocess
    import sys
    import tempfile

    pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for path, source in json.loads(modules).items():
            file = pathlib.Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
        file = pathlib.Path(folder, "pipeline.yaml")
        file.write_text(configuration, encoding="utf-8")
        command = [sys.executable, "-m", "pipeline", "run", str(file), "--only", component]
        code = subprocess.run(command, cwd=directory, check=False).returncode
    if code:
        sys.exit(code)
