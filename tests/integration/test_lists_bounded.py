"""Every answer of every route is bounded in bytes for any amount that is stored; pages lead to all of it."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard_api.fronts import operations
from runyard_api.http.operations import Operation
from runyard_common.database import pages
from tests.api_server import Api
from tests.large_rows import ROWS, fill
from tests.problems import check_problem
from tests.stocked import Stocked

#: The budget of a page in these tests, and what no answer may exceed: small fields come on top of it.
BUDGET = 1_000_000
MOST = 2 * BUDGET
_STREAM = "text/event-stream"
_JSON = {"accept": "application/json"}


def filled(api: Api) -> Stocked:
    """An api whose organisation has many large rows of every kind."""
    stocked = Stocked(api)
    ids = stocked.ids
    fill(api, ids["task_id"], ids["session_id"], ids["agent"], ids["schedule_id"])
    return stocked


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stocked]:
    with pytest.MonkeyPatch.context() as patch, Api(tmp_path_factory.mktemp("large") / "home") as api:
        patch.setattr(pages, "MOST_BYTES", BUDGET)
        yield filled(api)


def _reads() -> list[Operation]:
    """Every route that reads, but those that only stream and those of one stored file or secret link."""
    found = [each for each in operations() if each.method == "GET" or each.handler.__name__ == "get_messages"]
    return [each for each in found if not _streams(each) and not {"{file_id}", "{token}"} & _parts(each)]


def _parts(operation: Operation) -> set[str]:
    return set(operation.path.split("/"))


def _streams(operation: Operation) -> bool:
    return all(answer.media_type == _STREAM for answer in operation.answers if answer.status == 200)


def _parameters(operation: Operation) -> dict[str, Any]:
    """The largest page the route gives."""
    if operation.name == "agentbase.get_messages":
        return {"session": "talk"}
    field = operation.query.model_fields.get("limit") if operation.query else None
    if field is None:
        return {}
    most = next((m.le for m in field.metadata if hasattr(m, "le")), 100)
    return {"limit": most}


@pytest.mark.parametrize("operation", _reads(), ids=lambda each: each.name)
def test_no_answer_is_larger_than_a_page_may_be(stocked: Stocked, operation: Operation) -> None:
    with stocked.api.client() as client:
        answer = client.request(
            operation.method, stocked.path(operation), params=_parameters(operation),
            headers=_JSON,
        )  # fmt: skip
    assert answer.status_code == 200, answer.text[:300]
    assert len(answer.content) <= MOST, f"{operation.name} answers {len(answer.content):,} bytes"


_PAGED = [
    each for each in _reads() if each.query is not None and "cursor" in each.query.model_fields
]  # fmt: skip


@pytest.mark.parametrize("operation", _PAGED, ids=lambda each: each.name)
def test_cursors_lead_through_all_pages_without_a_gap_or_a_repeat(
    stocked: Stocked, operation: Operation
) -> None:
    with stocked.api.client() as client:
        one_by_one = _walk(client, stocked.path(operation), 7)
        whole = _walk(client, stocked.path(operation), 100)
    assert one_by_one == whole
    assert len(whole) == len(set(whole))


@pytest.mark.parametrize("operation", _PAGED, ids=lambda each: each.name)
def test_a_cursor_that_no_page_gave_is_refused(stocked: Stocked, operation: Operation) -> None:
    with stocked.api.client() as client:
        for forged in ('{"a":1}', "-1", "nan", "inf", "1e400", "~", "x" * 140, "\x00", "é"):
            cursor = base64.urlsafe_b64encode(forged.encode()).decode()
            answer = client.get(stocked.path(operation), params={"cursor": cursor})
            check_problem(answer, 400, "invalid_cursor", "cursor")


def _walk(client: httpx2.Client, path: str, limit: int) -> list[str]:
    found: list[str] = []
    parameters: dict[str, str | int] = {"limit": limit}
    while True:
        page = client.get(path, params=parameters).raise_for_status().json()
        found += [str(item.get("id") or item.get("task_id") or item.get("due_at")) for item in page["data"]]
        assert page["data"] or not page["has_more"]
        if not page["has_more"]:
            return found
        parameters["cursor"] = page["next_cursor"]


def test_a_log_is_read_on_from_the_last_number(stocked: Stocked) -> None:
    path, after, numbers = f"/tasks/{stocked.ids['task_id']}/events", 0, []
    with stocked.api.client() as client:
        while True:
            parameters = {"after": after, "limit": 1000}
            page = client.get(path, params=parameters, headers={"accept": "application/json"}).json()
            numbers += [event["seq"] for event in page["data"]]
            after = page["next_after"]
            if not page["has_more"]:
                break
    assert numbers[-ROWS:] == list(range(1001, 1001 + ROWS))
    assert len(numbers) == len(set(numbers))


def test_a_stream_replays_large_events_page_by_page_and_leaves_none_out(stocked: Stocked) -> None:
    url = f"/tasks/{stocked.ids['task_id']}/events"
    with stocked.api.client() as client, client.stream("GET", url) as stream:
        seen, end = "", time.monotonic() + 50
        for piece in stream.iter_text():
            seen += piece
            if f"id: {1000 + ROWS}\n" in seen or time.monotonic() > end:
                break
    numbers = [int(number) for number in re.findall(r"^id: (\d+)$", seen, re.MULTILINE)]
    assert numbers[-ROWS:] == list(range(1001, 1001 + ROWS))


def test_older_lines_of_a_long_conversation_are_read_with_before(stocked: Stocked) -> None:
    path = f"/api/v1/sessions/{stocked.ids['session_id']}/messages"
    lines: list[dict[str, Any]] = []
    before = None
    with stocked.api.client() as client:
        while True:
            parameters = {"limit": 1000} | ({"before": before} if before is not None else {})
            page = client.get(path, params=parameters).raise_for_status().json()
            lines = page["data"] + lines
            before = page["data"][0]["seq"]
            if not page["has_more"]:
                break
    numbers = [line["seq"] for line in lines]
    assert numbers == sorted(set(numbers))
    assert numbers[-ROWS:] == list(range(1001, 1001 + ROWS))


def test_a_fork_takes_the_whole_conversation_along(stocked: Stocked) -> None:
    with stocked.api.client() as client:
        made = client.post(f"/api/v1/sessions/{stocked.ids['session_id']}/fork").raise_for_status().json()
    assert made["lines"] >= ROWS


@pytest.mark.postgres
def test_the_bounds_hold_on_postgresql_too(
    tmp_path: Path, fresh_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_BYTES", BUDGET)
    with Api(tmp_path / "home", fresh_database()) as api:
        stocked = filled(api)
        with api.client() as client:
            sizes = {
                each.name: len(
                    client.get(stocked.path(each), params=_parameters(each), headers=_JSON).content
                )
                for each in _reads()
                if each.method == "GET"
            }
            at = {"last-event-id": f"1.0/{stocked.ids['task_id']}/1"}
            with client.stream("GET", "/api/v1/events", headers=at) as stream:
                text = ""
                for piece in stream.iter_text():
                    text += piece
                    if text.count("id: ") >= ROWS:
                        break
    assert {name: size for name, size in sizes.items() if size > MOST} == {}
