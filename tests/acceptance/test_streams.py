"""The short form of `make bench ONLY=streams`: clients of a real api hang up and resume, and miss nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.bench_streams import run

pytestmark = pytest.mark.timeout(120)


def test_clients_that_keep_reconnecting_see_every_event_once(tmp_path: Path) -> None:
    verdict = run(tmp_path, clients=60, tasks=12, seconds=3.0, rate=5.0, churn=0.5)
    print(verdict)
    assert verdict.wrong == []
    assert sum(map(len, verdict.seen.ended.values())) == 60
    assert verdict.seen.reconnects >= 30
    assert verdict.seen.frames == 5 * (verdict.events + 3 * 12), "submit, claim and finish as well"
