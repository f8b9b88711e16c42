import subprocess
import sys
import textwrap

from pipeline.orchestration import fingerprint


def test_code_follows_imports_inside_functions_and_through_modules():
    found = fingerprint.code("pipeline.components.trainer")
    assert "pipeline.training.loop" in found  # imported by what trainer imports inside `run`
    assert "keras_resnet.factory" in found
    assert "pipeline.components.pusher" not in found
    assert "pipeline.cli" not in found


def test_code_of_one_component_does_not_reach_that_of_others():
    found = fingerprint.code("pipeline.components.schema_gen")
    assert not [name for name in found if name.startswith(("keras_resnet", "pipeline.training"))]
    assert not [name for name in found if "orchestration.runner" in name]


def test_libraries_are_those_that_the_code_imports():
    assert set(fingerprint.libraries("pipeline.components.trainer")) >= {"tensorflow", "keras"}
    ingest = fingerprint.libraries("pipeline.components.example_gen")
    assert set(ingest) >= {"apache_beam", "google_crc32c", "PIL", "sklearn"}
    assert "keras" not in ingest
    assert not set(ingest) & {"json", "pathlib"}
    assert None not in ingest.values()
    assert "google" in fingerprint.libraries("pipeline.components.schema_gen")  # protobuf


def test_backends_that_the_pipeline_does_not_use_do_not_matter():
    # They come with the tests alone; installing these must not train anew.
    assert not {"jax", "torch"} & set(fingerprint.libraries("pipeline.components.trainer"))


def test_an_edit_in_a_module_imported_by_an_imported_module_changes_the_digest(tmp_path):
    package = tmp_path / "pipeline"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("def run():\n    from pipeline import b\n    return b.c.VALUE\n")
    (package / "b.py").write_text("from pipeline import c\n")
    (package / "other.py").write_text("")
    program = textwrap.dedent(
        f"""
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("fingerprint", {fingerprint.__file__!r})
        fingerprint = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fingerprint)
        print(fingerprint.digest(fingerprint.code("pipeline.a")))
        """
    )

    def digest():
        return subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)

    (package / "c.py").write_text("VALUE = 1\n")
    before = digest()
    (package / "other.py").write_text("VALUE = 9\n")
    assert digest() == before
    (package / "c.py").write_text("VALUE = 2\n")
    assert digest() != before


def test_what_a_network_of_the_users_own_imports_from_its_folder_counts(tmp_path, monkeypatch):
    from pipeline.components import trainer

    (tmp_path / "my_network.py").write_text("import numpy\nimport my_blocks\n")
    (tmp_path / "my_blocks.py").write_text("from keras_resnet import ResNet\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = trainer.external(trainer.Parameters(model="my_network:build"))
    assert {"my_network", "my_blocks", "keras_resnet.factory"} <= set(found)
    assert "numpy" not in found
    assert trainer.external(trainer.Parameters(model="no_such_network:build")) is None
    assert trainer.external(trainer.Parameters()) is None
    assert fingerprint.libraries("my_network")["numpy"]


def test_of_an_installed_module_the_version_counts():
    assert set(fingerprint.code("yaml")) == {"yaml"}
    assert not [name for name in fingerprint.code("yaml") if name.startswith("numpy")]
    assert fingerprint.code("no_such_module.at_all") == {}
