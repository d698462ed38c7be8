"""A process knows by itself when its lease may be over."""

from __future__ import annotations

import asyncio

import pytest

from runyard_workers.isolation.lease import Lease

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_is_counted_from_before_its_renewal_was_sent() -> None:
    clock = Clock()
    lease = Lease(10.0, clock)
    asked = lease.now()
    clock.now += 9
    assert lease.valid
    lease.renewed(asked)  # the answer took nine seconds: the database counts from somewhere in between
    clock.now += 1
    assert not lease.valid


def test_a_late_answer_to_an_older_renewal_does_not_shorten_the_lease() -> None:
    clock = Clock()
    lease = Lease(10.0, clock)
    clock.now += 5
    lease.renewed(lease.now())
    lease.renewed(100.0)
    clock.now += 9
    assert lease.valid


async def test_those_that_wait_go_on_with_the_next_renewal() -> None:
    clock = Clock()
    lease = Lease(1.0, clock)
    clock.now += 5
    waiting = asyncio.create_task(lease.changed())
    await asyncio.sleep(0)
    assert not waiting.done()
    await asyncio.to_thread(lease.renewed, clock.now)
    await asyncio.wait_for(waiting, 50)
    assert lease.valid
