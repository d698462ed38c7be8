"""A member who sends what is costly again and again, and how long the others wait meanwhile.

The short form of `tests/benchmarks/bench_hostile.py`: hostile spells and quiet ones take turns, so that all else
the machine does counts for both.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.benchmarks.bench_hostile import key_of_new_organisation
from tests.stack import ROOT, Stack

#: A ratio of waits means something on a machine that does nothing else: `make chaos` runs it, alone.
pytestmark = pytest.mark.chaos

SPELLS = 6
#: Seconds of a spell: several turns of one hostile input.
SPELL = 0.7


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("hostile"), RUNYARD_REQUESTS_PER_MINUTE="0") as running:
        yield running


@pytest.mark.parametrize("name", ["wide_json", "small_json", "unique", "yaml"])
def test_others_are_answered_in_about_their_usual_time(stack: Stack, name: str) -> None:
    key = key_of_new_organisation(stack, "", "hostile")
    seconds = str(SPELL * SPELLS * 4)
    command = [sys.executable, "-m", "tests.benchmarks.hostile_load", name, stack.url(), key, seconds]
    quiet: list[float] = []
    loaded: list[float] = []
    with (
        httpx2.Client(base_url=stack.url(), timeout=30) as stranger,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as hostile,
    ):
        try:
            assert hostile.stdout is not None
            assert hostile.stdout.readline() == "ready\n"
            for _ in range(SPELLS):
                hostile.send_signal(signal.SIGCONT)
                loaded += waits(stranger)
                hostile.send_signal(signal.SIGSTOP)
                time.sleep(0.3)  # what it had sent is worked off
                quiet += waits(stranger)
        finally:
            hostile.kill()
    # Without turns and rests it was 3 to 4 times as long, and the slowest 60 times.
    assert statistics.median(loaded) < 2.5 * statistics.median(quiet)


def waits(stranger: httpx2.Client) -> list[float]:
    """How long /healthz took to answer, again and again for one spell, in seconds."""
    found: list[float] = []
    until = time.monotonic() + SPELL
    while time.monotonic() < until:
        began = time.monotonic()
        stranger.get("/healthz").raise_for_status()
        found.append(time.monotonic() - began)
        time.sleep(0.005)
    return found
