import os

import pytest

from tests.pipeline.reporting import browser


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is; without it a test is skipped, but in CI it fails."""
    if found := browser.program():
        return found
    reason = "Chromium is not installed (Debian: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and in CI it has to be")
    pytest.skip(reason)
