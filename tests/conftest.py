"""Fixtures that every test module may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cea import connecting, processes

# A suite that passed yesterday passes today: examples come from the test itself, not from chance, and how long one
# takes is no judgement. What is looked for beyond them is `make soak`'s to find.
FIXED = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("fixed", **FIXED)
settings.load_profile("fixed")

PATIENCE_S = 120.0  # a machine that stands still for seconds is no failure of what is tested
connecting.WAIT_S = processes.STOP_S = PATIENCE_S
processes.START_S = 2 * PATIENCE_S  # perhaps behind another process that compiles the same

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Looks for no garbage while collecting: what is imported stays, and to go through it again took a third."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def shared_data_folder() -> Path | None:
    """The folder of real market data: env CEA_DATA, else ``shared/data`` beside the repository; None when absent."""
    named = os.environ.get("CEA_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market data; the test is skipped, with the reason, where it is absent."""
    folder = shared_data_folder()
    if folder is None:
        pytest.skip("real market data is not here: set CEA_DATA to its folder, or put it into ../shared/data")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The project's root folder."""
    return REPOSITORY
