"""The system's own lookup: shared by overlapping callers, never waited for by the ones that gave up."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from typing import Any

import pytest

from runyard_common.outbound import SystemResolver
from runyard_common.outbound.errors import DnsFailed
from tests.waiting import until

pytestmark = pytest.mark.anyio


class SlowLookups:
    """A name server that answers on a signal of the test; getaddrinfo itself cannot be made slow."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def getaddrinfo(self, host: str, port: int, **options: Any) -> list[Any]:
        self.asked.append(host)
        self.go.wait(60)
        if host.startswith("no"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> SlowLookups:
    slow = SlowLookups()
    monkeypatch.setattr(socket, "getaddrinfo", slow.getaddrinfo)
    return slow


async def test_localhost_is_looked_up_for_real() -> None:
    assert set(await SystemResolver().resolve("localhost", 80)) <= {"127.0.0.1", "::1"}


async def test_a_name_that_cannot_be_is_a_dns_failure() -> None:
    with pytest.raises(DnsFailed, match="could not be resolved"):
        await SystemResolver().resolve("a" * 64 + ".test", 80)


async def test_overlapping_lookups_of_one_name_share_an_answer(lookups: SlowLookups) -> None:
    resolver = SystemResolver()
    callers = [asyncio.create_task(resolver.resolve("hooks.test", 80)) for _ in range(20)]
    await asyncio.sleep(0)
    lookups.go.set()

    assert await asyncio.gather(*callers) == [["127.0.0.1"]] * 20
    assert lookups.asked == ["hooks.test"]
    await resolver.resolve("hooks.test", 80)
    assert lookups.asked == ["hooks.test"] * 2


async def test_a_failed_lookup_fails_every_caller_and_is_not_remembered(lookups: SlowLookups) -> None:
    resolver = SystemResolver()
    lookups.go.set()
    outcomes = await asyncio.gather(
        *(resolver.resolve("no.test", 80) for _ in range(3)), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes] == [DnsFailed] * 3
    with pytest.raises(DnsFailed, match="Name or service not known"):
        await resolver.resolve("no.test", 80)
    assert len(lookups.asked) == 2


async def test_a_caller_that_gives_up_is_free_at_once_and_harms_no_other(lookups: SlowLookups) -> None:
    resolver = SystemResolver()
    patient = asyncio.create_task(resolver.resolve("hooks.test", 80))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver.resolve("hooks.test", 80), 0.05)

    lookups.go.set()
    assert await patient == ["127.0.0.1"]


async def test_a_failure_without_a_waiter_makes_no_noise(lookups: SlowLookups) -> None:
    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    resolver = SystemResolver()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver.resolve("no.test", 80), 0.02)
    lookups.go.set()
    await until(lambda: not any(thread.name.startswith("dns") for thread in threading.enumerate()))
    await asyncio.sleep(0.01)  # the thread's last word reaches the loop
    gc.collect()

    assert noise == []


async def test_dead_names_up_to_the_limit_do_not_hold_up_a_living_one(lookups: SlowLookups) -> None:
    resolver = SystemResolver(parallel=8)
    dead = [asyncio.create_task(resolver.resolve(f"no{n}.test", 80)) for n in range(7)]
    await until(lambda: len(lookups.asked) == 7)
    blocked, lookups.go = lookups.go, threading.Event()
    lookups.go.set()

    assert await asyncio.wait_for(resolver.resolve("hooks.test", 80), 30) == ["127.0.0.1"]
    blocked.set()
    assert all(isinstance(each, DnsFailed) for each in await asyncio.gather(*dead, return_exceptions=True))


async def test_more_dead_names_than_slots_delay_a_living_one_by_a_moment_once(lookups: SlowLookups) -> None:
    resolver = SystemResolver(parallel=2, quick=0.05)
    blocked = lookups.go
    dead = [asyncio.create_task(resolver.resolve(f"no{n}.test", 80)) for n in range(2)]
    await until(lambda: set(resolver._slow) == {"no0.test", "no1.test"})
    dead += [asyncio.create_task(resolver.resolve(f"no{n}.test", 81)) for n in range(2)]  # in the other line
    await until(lambda: len(lookups.asked) == 4)
    lookups.go = threading.Event()
    lookups.go.set()

    assert await asyncio.wait_for(resolver.resolve("hooks.test", 80), 30) == ["127.0.0.1"]
    assert not any(task.done() for task in dead)
    blocked.set()
    assert all(isinstance(each, DnsFailed) for each in await asyncio.gather(*dead, return_exceptions=True))


async def test_a_name_that_answers_again_leaves_the_line_of_the_slow(lookups: SlowLookups) -> None:
    resolver = SystemResolver(quick=0.05)
    first = asyncio.create_task(resolver.resolve("hooks.test", 80))
    await until(lambda: "hooks.test" in resolver._slow)
    lookups.go.set()
    assert await first == ["127.0.0.1"]
    resolver._quick = 60.0
    await resolver.resolve("hooks.test", 80)
    assert not resolver._slow
