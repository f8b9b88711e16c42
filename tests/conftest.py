"""What all tests share: the real images, the rounds of the fault tests, and the order."""

import collections
import os
import signal
from pathlib import Path

import hypothesis
import pytest

# Both have to be set before the backend is imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf

    # Two devices for the tests of distributed training; this has to come before the first use.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
elif os.environ["KERAS_BACKEND"] == "jax":
    # Most of the time goes into compiling networks that then run once or twice. Level 0 is as fast,
    # but some of its code computes NaN; what the caller asks for comes later, and wins.
    os.environ["XLA_FLAGS"] = (
        f"--xla_backend_optimization_level=1 {os.environ.get('XLA_FLAGS', '')}".strip()
    )

# How long an example takes, and is made, says more of what else the machine does than of the code.
hypothesis.settings.register_profile(
    "patient",
    parent=hypothesis.settings.default,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("patient")

_REAL_IMAGES = "KERAS_RESNET_TEST_DATA"
_ROUNDS = 2


def pytest_configure() -> None:
    """Lets SIGINT interrupt: a shell has what it starts in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rounds", type=int, default=_ROUNDS, help="how often each fault test injects its fault"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives every test that asks for `round_` as many rounds as the command line says."""
    if "round_" in metafunc.fixturenames:
        metafunc.parametrize("round_", range(metafunc.config.getoption("--rounds")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the fast tests first, the slow ones behind them, the fault tests last.

    Of several processes each takes a file at a time. There the files with most slow tests come
    first, lest one of them is what the last process is busy with when the others have ended.
    """
    order = {"soak": 2, "slow": 1}
    costs = {
        item: max((order.get(m.name, 0) for m in item.iter_markers()), default=0) for item in items
    }
    items.sort(key=costs.get)
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = collections.Counter(item.path for item in items if costs[item])
        items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def two_replicas():
    """The strategy over both devices; there may be only one in a process."""
    from pipeline.training import strategy

    return strategy.make(strategy.MIRRORED)


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real images that the environment names."""
    folder = os.environ.get(_REAL_IMAGES)
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = f"{_REAL_IMAGES} names no folder of real images"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and in CI there has to be one")
    pytest.skip(reason)
