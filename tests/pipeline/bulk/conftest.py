import pytest

from tests.pipeline.bulk import models


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder with one version of a SavedModel."""
    return models.save(tmp_path_factory.mktemp("model") / "lengths")
