"""Fixtures of `runyard.testing` for pytest, which finds them by the entry point of this package.

Nothing is imported before a test asks for one of them: a project that does not use them pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def runyard_run() -> Callable[..., Any]:
    """`runyard.testing.run`: run an agent to its end, in this process."""
    from runyard.testing import run

    return run


@pytest.fixture
def runyard_arun() -> Callable[..., Any]:
    """`runyard.testing.arun`: the same inside a running event loop."""
    from runyard.testing import arun

    return arun


@pytest.fixture
def runyard_crashes() -> Callable[..., Any]:
    """`runyard.testing.crashes`: the outcomes of a run whose process is lost behind each of its writes."""
    from runyard.testing import crashes

    return crashes


@pytest.fixture
def runyard_replay(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`runyard.testing.replay`: an agent's code on a recorded journal. A relative path begins at the test's file."""
    from pathlib import Path

    from runyard.testing import replay

    def replayed(agent: Any, journal: Any, **more: Any) -> Any:
        given = journal if not isinstance(journal, str | Path) else request.path.parent / journal
        return replay(agent, given, **more)

    return replayed
