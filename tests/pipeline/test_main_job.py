"""The main job at full length: the figures that the README states."""

import re

import pytest

from tests.pipeline.test_cli import call


@pytest.mark.slow
def test_the_embedded_digits_reach_97_percent(tmp_path):
    done = call("run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"test accuracy ([\d.]+)% on 353 images", done.stdout).group(1))
    assert accuracy >= 97.0
    assert "MirroredStrategy with 1 replica, mixed_bfloat16" in done.stdout
    assert (tmp_path / "saved_models" / "digits" / "1" / "saved_model.pb").is_file()
