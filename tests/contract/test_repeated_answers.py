"""A request repeated with its Idempotency-Key gives back what it gave first, on every surface whose messages answer
questions, too: an answer begins no new run, and a question is not answered by its own repetition."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from runyard_common.identity.tables import Idempotency
from tests.contract.frames import run
from tests.contract.live import Live

pytestmark = pytest.mark.timeout(180)

NUGEN = "/api/v3/agents/run-agents/asks/run"


def unique(text: str) -> str:
    return f"{text}-{uuid.uuid4().hex[:8]}"


def newest(admin: httpx2.Client) -> Any:
    return [one["task_id"] for one in admin.get("/tasks", params={"limit": 2}).json()["data"]]


def send(admin: httpx2.Client, session: str, message: str, key: str) -> httpx2.Response:
    headers = {"x-session-id": session, "idempotency-key": key}
    return admin.post(NUGEN, json={"message": message}, headers=headers)


def test_nugens_question_and_answer_are_given_back_as_they_were(admin: httpx2.Client) -> None:
    session, asking, answering = unique("s"), unique("k"), unique("k")

    first = [send(admin, session, "hello", asking) for _ in range(2)]
    then = [send(admin, session, "green", answering) for _ in range(2)]
    again = send(admin, session, "hello", asking)
    after = newest(admin)

    assert [one.json()["response"] for one in (*first, again)] == ["Which colour?"] * 3
    assert [one.json()["response"] for one in then] == ["You like green."] * 2
    assert {one.headers["x-task-id"] for one in (*first, *then, again)} == {after[0]}


def test_nugens_answer_sent_many_times_at_once_is_one_answer(admin: httpx2.Client) -> None:
    session, key = unique("s"), unique("k")
    asked = send(admin, session, "hello", unique("k"))

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: send(admin, session, "green", key), range(6)))

    good = [one for one in answers if one.status_code == 200]
    assert good
    assert {one.json()["response"] for one in good} == {"You like green."}
    assert {one.headers["x-task-id"] for one in good} == {asked.headers["x-task-id"]} == {newest(admin)[0]}
    busy = [one.json()["code"] for one in answers if one.status_code != 200]
    assert set(busy) <= {"idempotency_in_progress"}


def test_nugens_key_with_another_session_is_another_request(admin: httpx2.Client) -> None:
    key = unique("k")
    send(admin, unique("s"), "hello", key)

    answer = send(admin, unique("s"), "hello", key)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")


def test_agentbases_question_and_answer_are_streamed_again_as_they_were(admin: httpx2.Client) -> None:
    def streamed(message: str, key: str, **params: str) -> list[dict[str, Any]]:
        with admin_with(admin, key):
            return run(admin, message, params={"agent": "asks"} | params).events

    asking, answering = unique("k"), unique("k")
    first, second = streamed("hello", asking), streamed("hello", asking)
    session = first[0]["session"]
    answered, repeated = (streamed("green", answering, session=session) for _ in range(2))

    assert first == second
    assert [e["type"] for e in first][-2:] == ["agent_waiting_for_input", "agent_completed"]
    assert [e["content"] for e in answered if e["type"] == "agent_response"] == ["You like green."]
    assert answered == repeated
    assert streamed("hello", asking) == first
    assert newest(admin)[0] == first[0]["task_id"]


class admin_with:  # noqa: N801 - it is used as a function is
    """Calls of the client carry this key within the block."""

    def __init__(self, client: httpx2.Client, key: str) -> None:
        self._client, self._key = client, key

    def __enter__(self) -> None:
        self._client.headers["idempotency-key"] = self._key

    def __exit__(self, *_: object) -> None:
        del self._client.headers["idempotency-key"]


@pytest.mark.parametrize("surface", ["nugen", "agentbase"])
def test_an_answer_whose_sender_died_before_it_was_kept_is_not_sent_twice(
    surface: str, admin: httpx2.Client, live: Live
) -> None:
    """The key's entry is put back to what it is before the answer is kept: another process takes over."""
    key, session = unique("k"), unique("s")
    if surface == "nugen":
        send(admin, session, "hello", unique("k"))
        first = send(admin, session, "green", key)
    else:
        session = run(admin, "hello", params={"agent": "asks"}).events[0]["session"]
        first = admin.post(
            "/", json=BACKGROUND, params={"session": session}, headers={"idempotency-key": key}
        )
    task_id = first.headers["x-task-id"]
    live.until(task_id, "completed")
    forget(live, key, message_of(live, task_id))

    if surface == "nugen":
        again = send(admin, session, "green", key)
        assert again.json()["response"] == "You like green."
    else:
        again = admin.post(
            "/", json=BACKGROUND, params={"session": session}, headers={"idempotency-key": key}
        )

    assert (again.status_code, again.headers["x-task-id"]) == (200, task_id)
    assert newest(admin)[0] == task_id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/agent/run", {"agentName": "gives", "args": {"value": 1}}),
        ("/", {"message": "hello", "background": True}),
        (NUGEN, {"message": "hello"}),
    ],
    ids=["nara", "agentbase", "nugen"],
)
def test_a_repeat_that_comes_before_the_first_is_stored_is_refused_for_a_moment(
    path: str, body: dict[str, Any], admin: httpx2.Client, live: Live
) -> None:
    key = unique("k")
    headers = {"idempotency-key": key, "x-session-id": unique("s")}
    assert admin.post(path, json=body, headers=headers).status_code == 200
    # Its process lives, and has stored nothing yet.
    forget(live, key, str(uuid.uuid4()), until=time.time() + 60)

    again = admin.post(path, json=body, headers=headers)

    assert (again.status_code, again.json()["code"]) == (409, "idempotency_in_progress")
    assert again.headers["retry-after"] == "1"
    assert "x-should-retry" not in again.headers


BACKGROUND = {"message": "green", "background": True}


def message_of(live: Live, task_id: str) -> str:
    """The id of the newest message to a task: the answer."""
    found = live.request("GET", f"/tasks/{task_id}/messages")[1]["data"]
    return str([one["id"] for one in found if one["role"] == "user"][-1])


def forget(live: Live, key: str, reserved: str, until: float = 1.0) -> None:
    """The answer kept for a key, as if its process had died before it was, or lives and has its lease `until` then."""
    with live.store.begin() as tx:
        values = {"status": None, "headers": {"reserved": reserved}, "lease_until": until}
        tx.conn.execute(update(Idempotency).where(Idempotency.key == key).values(**values))
