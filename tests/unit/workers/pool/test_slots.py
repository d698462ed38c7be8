"""Slots, and a pool that is full."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from celery import Celery

from runyard_workers.pool import (
    Slots,
    async_task,
)
from tests.unit.workers.pool.consumer import plain, wait_until


class TestSlots:
    def test_a_full_pool_accepts_nothing_and_has_no_room(self, app: Celery, start: Any) -> None:
        release = asyncio.Event()

        @async_task(app, name="holds")
        async def holds() -> None:
            await release.wait()

        consumer = start(2)
        assert consumer.pool.has_room()
        running = [consumer.send(holds), consumer.send(holds)]
        for ticket in running:
            assert ticket.accepted.wait(5)
        assert not consumer.pool.has_room()
        assert consumer.pool.has_room(at_least=3)  # an autoscaler may still make a third
        third = consumer.send(holds)
        assert not third.accepted.wait(0.05)
        assert consumer.pool.info["waiting"] == 1
        consumer.pool.grow(1)
        assert third.accepted.wait(5)
        consumer.pool.loop.call_soon_threadsafe(release.set)
        wait_until(consumer.pool.has_room)
        consumer.pool.shrink(2)
        wait_until(lambda: consumer.pool.slots.limit == 1)
        with pytest.raises(ValueError, match="at least one"):
            consumer.pool.shrink(1)

    def test_slots_taken_by_others_count(self, app: Celery, start: Any) -> None:
        async def take(count: int) -> int:
            return int(consumer.pool.slots.take(count))

        consumer = start(3)
        taken = asyncio.run_coroutine_threadsafe(take(5), consumer.pool.loop).result(5)
        assert taken == 3
        assert not consumer.pool.has_room()
        ticket = consumer.send(plain(app, "patient", lambda: None))
        assert not ticket.accepted.wait(0.05)
        consumer.pool.loop.call_soon_threadsafe(consumer.pool.slots.release, 3)
        ticket.wait()

    def test_waiters_are_served_in_order_and_before_takers(self) -> None:
        async def scenario() -> list[str]:
            order: list[str] = []
            slots = Slots(1)
            await slots.acquire()

            async def wait(name: str) -> None:
                async with slots:
                    order.append(name)

            waiting = [asyncio.ensure_future(wait(name)) for name in ("first", "second")]
            await asyncio.sleep(0)
            slots.release()
            assert slots.take(1) == 0  # it belongs to those who wait
            await asyncio.gather(*waiting)
            assert slots.take(1) == 1
            return order

        assert asyncio.run(scenario()) == ["first", "second"]

    def test_a_slot_granted_to_a_cancelled_waiter_is_not_lost(self) -> None:
        async def scenario() -> int:
            slots = Slots(1)
            await slots.acquire()
            waiter = asyncio.ensure_future(slots.acquire())
            gone = asyncio.ensure_future(slots.acquire())
            await asyncio.sleep(0)
            gone.cancel()
            slots.release()  # granted to the waiter …
            waiter.cancel()  # … which leaves in the same breath
            await asyncio.gather(waiter, gone, return_exceptions=True)
            return slots.take(5)

        assert asyncio.run(scenario()) == 1

    def test_room_is_announced_once_when_a_full_pool_gets_some(self) -> None:
        calls: list[int] = []
        slots = Slots(2, on_room=lambda: calls.append(slots.free))
        slots.take(1)
        slots.release()
        assert calls == []
        slots.take(2)
        slots.release(2)
        assert calls == [2]
        slots.take(2)
        slots.resize(3)
        assert calls == [2, 1]

    def test_more_cannot_be_released_than_is_held(self) -> None:
        slots = Slots(2)
        slots.take(1)
        with pytest.raises(ValueError, match="2 slots released, 1 held"):
            slots.release(2)
