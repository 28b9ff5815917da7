"""What several tests share."""

import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Let Ctrl-C reach the tested processes, even where a shell started us in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The developers' folder of real corpora and models; users do not have it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the developers' shared data is not on this machine")
    return folder
