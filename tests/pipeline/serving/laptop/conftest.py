"""What the tests of the laptop server share: it takes seconds to make."""

from pathlib import Path

import pytest

from tests.pipeline.serving import networks


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """The SavedModel of a network whose answers differ from image to image."""
    folder = tmp_path_factory.mktemp("exported")
    return networks.artifact(folder, networks.network()).uri / "Format-Serving"
