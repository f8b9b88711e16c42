import pytest

from pipeline.components import trainer
from pipeline.errors import DataError
from tests.pipeline import builders


def test_a_class_without_a_usable_training_image_is_named_before_anything_is_trained(tmp_path):
    source = builders.image_folder(tmp_path / "images")
    (source / "emu").mkdir()
    (source / "emu" / "page.png").write_text("<html>")
    written, _ = builders.examples(tmp_path / "examples", source)
    outputs = {key: builders.artifact(tmp_path / key) for key in trainer.OUTPUTS}
    with pytest.raises(DataError, match=r"no usable image of emu; .*quarantine.jsonl says which"):
        trainer.run(
            {"examples": written, "schema": builders.artifact(tmp_path / "schema")},
            outputs,
            trainer.Parameters(),
            builders.CONTEXT,
        )
    assert not any(list(output.uri.iterdir()) for output in outputs.values())
