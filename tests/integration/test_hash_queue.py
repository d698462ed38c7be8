"""Who waits for whom at hashing passwords: everybody behind their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from runyard_api.access.hash_queue import FOR_PERSON, HashQueue
from runyard_common.identity.rules import passwords
from runyard_common.identity.rules.roles import Role
from runyard_common.values.errors import TooManyRequests
from tests.api_server import Api
from tests.members import person
from tests.waiting import until

pytestmark = pytest.mark.anyio
PASSWORD = "a long enough passphrase"


async def occupy(queue: HashQueue, network: str, whose: str, order: list[str], go_on: asyncio.Event) -> None:
    async with queue.slot(network, whose):
        order.append(whose)
        await go_on.wait()


async def test_networks_take_turns_however_many_one_of_them_sends() -> None:
    queue, order, go_on = HashQueue(at_once=1), list[str](), asyncio.Event()
    many = [asyncio.create_task(occupy(queue, "loud", f"loud-{n}", order, go_on)) for n in range(20)]
    await asyncio.sleep(0)
    quiet = asyncio.create_task(occupy(queue, "quiet", "quiet", order, go_on))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*many, quiet)
    assert order.index("quiet") <= 2
    assert len(order) == 21


async def test_a_person_has_few_under_way_and_the_next_is_refused() -> None:
    queue, order, go_on = HashQueue(), list[str](), asyncio.Event()
    mine = [asyncio.create_task(occupy(queue, "n", "me", order, go_on)) for _ in range(FOR_PERSON)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests) as refused:
        async with queue.slot("another network", "me"):
            raise AssertionError("it was let in")
    assert (refused.value.code, refused.value.retry_after) == ("too_many_sign_ins", 2)
    other = asyncio.create_task(occupy(queue, "n", "another", order, go_on))
    go_on.set()
    await asyncio.gather(*mine, other)
    async with queue.slot("n", "me"):
        pass


async def test_who_leaves_while_waiting_takes_no_turn_away() -> None:
    queue, order, go_on = HashQueue(at_once=1), list[str](), asyncio.Event()
    first, left, last = (
        asyncio.create_task(occupy(queue, "n", whose, order, go_on)) for whose in ("first", "left", "last")
    )
    await asyncio.sleep(0)
    left.cancel()
    go_on.set()
    await asyncio.gather(first, last)
    assert order == ["first", "last"]
    async with asyncio.timeout(50), queue.slot("n", "next"):
        pass


async def test_a_turn_given_to_one_that_is_cancelled_just_then_goes_on() -> None:
    queue = HashQueue(at_once=1)
    async with queue.slot("n", "first"):
        waiting = asyncio.create_task(occupy(queue, "n", "cancelled", [], asyncio.Event()))
        await asyncio.sleep(0)
    waiting.cancel()  # it has the turn and does not know it yet
    async with asyncio.timeout(50), queue.slot("n", "next"):
        pass


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path / "home") as server:
        yield server


async def test_a_person_who_signs_in_again_and_again_rightly_keeps_no_other_out(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = passwords.hashed(PASSWORD)
    for name in ("loud", "quiet"):
        person(api, f"{name}@example.com", (api.state.org_id, Role.MEMBER), kept=kept)
    base, go_on, matches = str(api.client("").base_url), threading.Event(), passwords.matches

    def matches_later(password: str, kept: str | None) -> bool:
        assert go_on.wait(50)
        return matches(password, kept)

    monkeypatch.setattr(passwords, "matches", matches_later)

    async def sign_in(client: httpx2.AsyncClient, name: str) -> int:
        given = {"email": f"{name}@example.com", "password": PASSWORD}
        return (await client.post("/api/v1/login", json=given)).status_code

    async with httpx2.AsyncClient(base_url=base, timeout=60) as client:
        loud = [asyncio.create_task(sign_in(client, "loud")) for _ in range(40)]
        await until(lambda: sum(one.done() for one in loud) == 40 - FOR_PERSON)
        quiet = asyncio.create_task(sign_in(client, "quiet"))
        go_on.set()
        assert await quiet == 200
        answers = await asyncio.gather(*loud)
    assert set(answers) == {200, 429}
    assert answers.count(200) == FOR_PERSON
