"""The short form of `make chaos`: real processes killed while tasks run, then the counts."""

from __future__ import annotations

import pytest

from tests.chaos.runs import run


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("database", "broker"),
    [
        ("sqlite", "valkey"),
        pytest.param("postgres", "rabbitmq", marks=[pytest.mark.postgres, pytest.mark.rabbitmq]),
    ],
)
def test_nothing_is_lost_or_done_twice_while_processes_are_killed(database: str, broker: str) -> None:
    verdict = run(60, 14, database, broker, every=3.5, workers=2, apis=1)
    assert verdict.clean, str(verdict)
    assert verdict.statuses["completed"] == sum(verdict.statuses.values()), str(verdict)
