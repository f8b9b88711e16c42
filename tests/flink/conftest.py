"""A cluster for the tests: two task managers of two slots, a job server, a pool of workers."""

import os
from pathlib import Path

import pytest

from tests.flink import cluster as clusters
from tests.flink import downloads

# Set by `make test-flink`, which was asked for a cluster: without one it fails.
_REQUIRED = "KERAS_RESNET_FLINK"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("flink")


@pytest.fixture(scope="session")
def distribution():
    """Flink and the job server of Beam."""
    try:
        return downloads.fetch()
    except downloads.MissingError as error:
        if os.environ.get(_REQUIRED):
            pytest.fail(f"no Flink cluster: {error}", pytrace=False)
        pytest.skip(f"no Flink cluster: {error}; `make test-flink` says how to get one")


@pytest.fixture(scope="session")
def cluster(distribution, tmp_path_factory):
    """A cluster that runs for all tests."""
    with clusters.running(distribution, tmp_path_factory.mktemp("cluster")) as running:
        yield running
