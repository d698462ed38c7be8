"""Tasks over the native API, on both databases: lists, cancelling, limits, sessions."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.problems import check_problem
from tests.waiting import wait_until

RUN = "/api/v1/agents/@test/echo/run"


def test_lists_page_and_filter(client: httpx2.Client) -> None:
    marker = "Zebra Crossing"
    ids = [
        client.post("/api/v1/agents/@test/chat/run", json={"query": f"{marker} {i}"}).json()["task_id"]
        for i in range(5)
    ]
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        given: dict[str, Any] = {"q": "zebra", "limit": 2} | cursor
        page = client.get("/api/v1/tasks", params=given).json()
        seen += [task["task_id"] for task in page["data"]]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ids[::-1]
    task = client.get(f"/tasks/{ids[2]}").json()
    at = task["created_at"]
    around = client.get("/tasks", params={"created_after": at, "created_before": at, "q": "zebra"}).json()[
        "data"
    ]
    assert [t["task_id"] for t in around] == [ids[2]]
    by_version = client.get("/tasks", params={"agent_id": task["agent_id"], "q": "zebra"}).json()["data"]
    by_agent = client.get("/tasks", params={"agent_id": task["agent_group_id"], "q": "zebra"}).json()["data"]
    assert len(by_version) == len(by_agent) == 5
    assert client.get("/tasks", params={"status": "completed,failed", "q": "zebra"}).json()["data"] == []
    assert len(client.get("/tasks", params={"status": "pending", "q": "ZEBRA"}).json()["data"]) == 5


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("limit=0", "invalid_field", "limit"),
        ("limit=101", "invalid_field", "limit"),
        ("limit=many", "invalid_field", "limit"),
        ("cursor=%21%21", "invalid_cursor", "cursor"),
        ("status=done", "invalid_field", "status"),
        ("status=", "invalid_field", "status"),
        ("agent_id=7", "invalid_id", "agent_id"),
        ("created_after=yesterday", "invalid_field", "created_after"),
        ("created_before=0001-01-01T00:00:00%2B23:59&created_after=9999-12-31T23:59:59-23:59", None, None),
        ("staus=failed", "unknown_field", "staus"),
        ("q=%00", "nul_character", "q"),
        ("limit=1&limit=2", "duplicate_parameter", "limit"),
    ],
)
def test_list_parameters_are_strict(
    client: httpx2.Client, query: str, code: str | None, field: str | None
) -> None:
    answer = client.get(f"/api/v1/tasks?{query}")
    if code is None:
        assert answer.status_code == 200
    else:
        check_problem(answer, 400, code, field)


def test_what_is_no_task_id_is_400_and_what_is_no_task_404(client: httpx2.Client) -> None:
    check_problem(client.get("/api/v1/tasks/7"), 400, "invalid_id", "task_id")
    missing = "00000000-0000-4000-8000-000000000000"
    check_problem(client.get(f"/api/v1/tasks/{missing}"), 404, "task_not_found", "task_id")
    check_problem(client.post(f"/api/v1/tasks/{missing}/cancel"), 404, "task_not_found", "task_id")


def test_an_unchanged_task_is_304(client: httpx2.Client) -> None:
    task_id = client.post(RUN, json={"args": {"n": 1}}).json()["task_id"]
    first = client.get(f"/tasks/{task_id}")
    again = client.get(f"/tasks/{task_id}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    client.post(f"/tasks/{task_id}/cancel")
    changed = client.get(f"/tasks/{task_id}", headers={"if-none-match": first.headers["etag"]})
    assert (changed.status_code, changed.json()["status"]) == (200, "stopped")


def test_any_tag_is_304_where_there_is_a_task(client: httpx2.Client) -> None:
    path = f"/tasks/{client.post(RUN, json={'args': {'n': 1}}).json()['task_id']}"
    for query in ("", "?wait=60"):
        answer = client.get(path + query, headers={"if-none-match": "*"})
        assert (answer.status_code, answer.content, bool(answer.headers["etag"])) == (304, b"", True)
    missing = "/tasks/00000000-0000-4000-8000-000000000000"
    check_problem(client.get(missing, headers={"if-none-match": "*"}), 404, "task_not_found", "task_id")


TITLES = (
    "ünïcode ÄÖ", "İstanbul ı", "ﬁne Straße", "ＦＵＬＬ width", "ΟΔΟΣ οδός", "emoji 🎉", "Кириллица", "Kelvin",
    "100% sure", "a_b", "back\\slash", "quote ' one", 'dq " two', "%", "_", "ISTANBUL Plain",
)  # fmt: skip
PARTS = (
    "äö", "ÄÖ", "ÜNÏCODE", "istanbul", "i̇stanbul", "strasse", "STRASSE", "fine", "ｆｕｌｌ", "full", "οδος", "🎉",
    "КИРИЛЛИЦА", "kelvin", "KELVIN", "%", "_", "\\", "'", '"', "0%", "A_B", "%%", "__", "' or 1=1 --", "a", "E", "x9",
)  # fmt: skip


def test_a_title_is_found_by_itself_and_by_its_parts_in_any_case(client: httpx2.Client) -> None:
    named: dict[str, str] = {}
    for title in TITLES:
        run = client.post("/api/v1/agents/@test/chat/run", json={"query": title}).json()
        assert run["title"] == title
        named[run["task_id"]] = title
    for part in (*TITLES, *PARTS):
        expected = {title for title in TITLES if part.casefold() in title.casefold()}
        for limit in (1, 100):
            found = _searched(client, {"q": part, "limit": limit})
            assert [named[id_] for id_ in found if id_ in named] == [
                t for t in TITLES[::-1] if t in expected
            ], part


def _searched(client: httpx2.Client, given: dict[str, Any]) -> list[str]:
    found: list[str] = []
    while True:
        page = client.get("/tasks", params=given).raise_for_status().json()
        found += [task["task_id"] for task in page["data"]]
        if not page["has_more"]:
            return found
        given = given | {"cursor": page["next_cursor"]}


def test_tasks_are_stopped_by_a_part_of_their_titles_in_any_case(client: httpx2.Client) -> None:
    queries = ["Größe", "GRÖSSE", "gross", "größer"]
    tasks = [client.post("/api/v1/agents/@test/chat/run", json={"query": q}).json() for q in queries]
    stopped = client.post("/tasks/cancel", json={"filter": {"q": "GRÖßE"}}).json()
    assert stopped["task_ids"] == [tasks[n]["task_id"] for n in (3, 1, 0)]


@pytest.mark.parametrize(
    "number",
    [
        "1.0",
        "+1",
        "-0",
        "-1",
        "1e3",
        "0x1",
        "1,2",
        "abc",
        "NaN",
        "\u0661",
        str(2**31),
        str(2**63),
        "9" * 5000,
    ],
)
def test_what_is_no_number_of_an_event_is_refused_by_header_and_parameter(
    client: httpx2.Client, number: str
) -> None:
    live = client.post(RUN, json={"args": {"n": 1}}).json()["task_id"]
    ended = client.post(RUN, json={"args": {"n": 1}}).json()["task_id"]
    client.post(f"/tasks/{ended}/cancel").raise_for_status()
    for path in (f"/tasks/{live}/events", f"/tasks/{ended}/events"):
        for accept in ("text/event-stream", "application/json"):
            by_header = [("accept", accept), ("last-event-id", number.encode())]
            _check_refused(client, path, {}, by_header, "invalid_cursor", "Last-Event-ID")
            _check_refused(client, path, {"after": number}, [("accept", accept)], "invalid_field", "after")


def _check_refused(
    client: httpx2.Client, path: str, given: dict[str, str], headers: Any, code: str, field: str
) -> None:
    with client.stream("GET", path, params=given, headers=headers) as answer:
        assert answer.status_code == 400  # what is streamed instead has no end
        answer.read()
        check_problem(answer, 400, code, field)


def test_nothing_is_behind_the_end_of_a_log(client: httpx2.Client) -> None:
    task_id = client.post(RUN, json={"args": {"n": 1}}).json()["task_id"]
    client.post(f"/tasks/{task_id}/cancel").raise_for_status()
    path = f"/tasks/{task_id}/events"
    check_problem(client.get(path, params={"after": " 1"}), 400, "invalid_field", "after")
    for number in ("100", "0000000100", str(2**31 - 1)):
        assert client.get(path, headers={"last-event-id": number}).status_code == 204
        assert client.get(path, params={"after": number}).status_code == 204
        page = client.get(path, params={"after": number}, headers={"accept": "application/json"}).json()
        assert (page["data"], page["next_after"]) == ([], int(number))


def test_cancel_is_idempotent_and_final(client: httpx2.Client) -> None:
    task_id = client.post(RUN, json={"args": {"n": 1}}).json()["task_id"]
    first = client.post(f"/tasks/{task_id}/cancel", json={"reason": "enough"})
    again = client.post(f"/tasks/{task_id}/cancel")
    assert (first.json()["status"], again.json()["status"]) == ("stopped", "stopped")
    task = client.get(f"/tasks/{task_id}").json()
    assert task["error"]["message"] == "enough"
    assert task["poll_after_ms"] is None
    check_problem(client.post(f"/tasks/{task_id}/message", json={"message": "hi"}), 409, "illegal_transition")


def test_tasks_are_stopped_and_retried_by_filter(client: httpx2.Client) -> None:
    for i in range(3):
        client.post("/api/v1/agents/@test/chat/run", json={"query": f"giraffe {i}"}).raise_for_status()
    stopped = client.post("/api/v1/tasks/cancel", json={"filter": {"q": "giraffe"}}).json()
    assert (stopped["count"], stopped["has_more"]) == (3, False)
    retried = client.post("/tasks/retry", json={"filter": {"q": "giraffe", "status": "stopped"}})
    assert (retried.status_code, retried.json()["count"]) == (202, 3)
    again = client.get(f"/tasks/{retried.json()['task_ids'][0]}").json()
    assert (again["status"], again["retry_of"] in stopped["task_ids"]) == ("pending", True)
    check_problem(client.post("/tasks/cancel", json={}), 400, "missing_field", "filter")
    check_problem(
        client.post("/tasks/cancel", json={"filter": {"sttus": "failed"}}),
        400,
        "unknown_field",
        "filter.sttus",
    )


def test_a_full_limit_queues_with_its_name_and_the_place_in_the_queue(client: httpx2.Client) -> None:
    agent = client.post("/api/v1/agents", json={"name": "narrow"}).json()
    limit = client.post(
        "/api/v1/limits", json={"kind": "agent", "selector": agent["full_name"], "max_concurrent": 1}
    )
    assert limit.status_code == 201, limit.text
    ids = [client.post("/api/v1/agents/narrow/run", json={"query": "x"}).json() for _ in range(3)]
    assert [task["status"] for task in ids] == ["pending", "queued", "queued"]
    assert ids[2]["queue"]["limit"] == "agent:@default/narrow"
    assert [task["queue"]["position"] for task in ids[1:]] == [1, 2]
    shown = client.get(f"/tasks/{ids[2]['task_id']}").json()
    assert shown["queue"] == ids[2]["queue"]
    assert shown["queue"]["basis"]
    assert shown["poll_after_ms"] >= 1000
    dry = client.post("/api/v1/agents/narrow/run?dry_run=1", json={"query": "x"}).json()
    assert (dry["would"], dry["held_by"]) == ("queue", "agent:@default/narrow")
    client.delete(f"/api/v1/limits/{limit.json()['id']}")
    assert client.get(f"/tasks/{ids[2]['task_id']}", params={"wait": 5}).json()["status"] in (
        "queued",
        "pending",
    )
    wait_until(lambda: client.get(f"/tasks/{ids[2]['task_id']}").json()["status"] == "pending")


def test_a_start_rate_is_part_of_the_estimate_and_of_when_to_ask_again(client: httpx2.Client) -> None:
    client.post("/api/v1/agents", json={"name": "paced"}).raise_for_status()
    wanted = {"kind": "agent", "selector": "paced", "rate_count": 2, "rate_seconds": 60}
    limit = client.post("/api/v1/limits", json=wanted).json()
    runs = [client.post("/api/v1/agents/paced/run", json={"query": "x"}).json() for _ in range(5)]
    queues = [run["queue"] for run in runs[2:]]
    assert [round(queue["estimate_s"], -1) for queue in queues] == [60, 60, 120]
    assert queues[0]["basis"] == "2 may start in 60 s, 2 have"
    assert client.get(f"/tasks/{runs[2]['task_id']}").json()["poll_after_ms"] > 20_000
    client.delete(f"/api/v1/limits/{limit['id']}").raise_for_status()


def test_a_limit_of_an_agent_counts_by_its_full_name_and_one_of_no_agent_is_refused(
    client: httpx2.Client,
) -> None:
    agent = client.post("/api/v1/agents", json={"name": "counted"}).json()
    wanted = {"kind": "agent", "max_concurrent": 1}
    for name in ("counted", agent["full_name"], "*"):
        made = client.post("/api/v1/limits", json=wanted | {"selector": name}).json()
        assert made["selector"] == ("*" if name == "*" else agent["full_name"])
        path = f"/api/v1/limits/{made['id']}"
        missing = wanted | {"selector": "@default/none"}
        check_problem(client.put(path, json=missing), 404, "agent_not_found", "selector")
        assert client.delete(path).status_code == 204
    check_problem(client.post("/api/v1/limits", json=missing), 404, "agent_not_found", "selector")


def test_a_limit_that_rejects_does_so_beside_one_that_queues(client: httpx2.Client) -> None:
    client.post("/api/v1/agents", json={"name": "both"}).raise_for_status()
    queueing = {"kind": "agent", "selector": "both", "max_concurrent": 1}
    rejecting = {"kind": "key", "selector": "/customer", "max_concurrent": 1, "strategy": "reject"}
    limits = [client.post("/api/v1/limits", json=limit).json() for limit in (queueing, rejecting)]
    try:
        answers = [
            client.post(f"/api/v1/agents/both/run{dry}", json={"args": {"customer": customer}})
            for customer, dry in (("a", ""), ("a", ""), ("a", "?dry_run=1"), ("b", ""))
        ]
        assert [answer.status_code for answer in answers] == [202, 409, 200, 202]
        check_problem(answers[1], 409, "limit_reached")
        assert (answers[2].json()["would"], answers[3].json()["status"]) == ("reject", "queued")
    finally:
        for limit in limits:
            client.delete(f"/api/v1/limits/{limit['id']}").raise_for_status()


def test_limits_are_made_read_replaced_and_deleted(client: httpx2.Client) -> None:
    made = client.post(
        "/api/v1/limits", json={"kind": "end_user", "rate_count": 5, "rate_seconds": 60}
    ).json()
    path = f"/api/v1/limits/{made['id']}"
    assert client.get(path).json() == made
    replaced = client.put(path, json={"kind": "end_user", "max_concurrent": 2, "strategy": "reject"}).json()
    assert (replaced["max_concurrent"], replaced["rate_count"]) == (2, None)
    assert made["id"] in [limit["id"] for limit in client.get("/api/v1/limits").json()["data"]]
    assert client.delete(path).status_code == 204
    check_problem(client.get(path), 404, "limit_not_found", "limit_id")
    check_problem(
        client.post("/api/v1/limits", json={"kind": "agent"}), 400, "invalid_limit", "max_concurrent"
    )
    assert [e["action"] for e in client.get("/api/v1/audit").json()["data"]][:3] == [
        "limit.delete", "limit.save", "limit.save",
    ]  # fmt: skip


def test_sessions_are_shared_by_their_name_and_their_id(client: httpx2.Client) -> None:
    run = "/api/v1/agents/@test/chat/run"
    first = client.post(run, json={"query": "a", "session_id": "chat 42"}).json()
    assert first["status"] == "pending"
    second = client.post(run, json={"query": "b", "session_id": "chat 42"}).json()
    assert second["session_id"] == first["session_id"]
    assert (second["status"], second["queue"]["limit"]) == ("queued", f"session:{first['session_id']}")
    by_id = client.post(
        run, json={"query": "c", "session_id": first["session_id"], "session_strategy": "reject"}
    )
    check_problem(by_id, 409, "limit_reached")
    session = client.get(f"/api/v1/sessions/{first['session_id']}").json()
    assert session == client.get("/api/v1/sessions/chat%2042").json()
    assert (session["key"], session["strategy"]) == ("chat 42", "enqueue")
    assert (
        client.patch("/api/v1/sessions/chat%2042", json={"strategy": "reject"}).json()["strategy"] == "reject"
    )
    fork = client.post("/api/v1/sessions/chat%2042/fork", json={"key": "branch"}).json()
    assert fork["forked_from"] == first["session_id"]
    check_problem(
        client.post("/api/v1/sessions/chat%2042/fork", json={"key": "branch"}), 409, "session_exists", "key"
    )
    check_problem(client.delete("/api/v1/sessions/chat%2042"), 409, "session_busy")
    assert client.delete("/api/v1/sessions/branch").status_code == 204
    check_problem(client.get("/api/v1/sessions/branch"), 404, "session_not_found", "session_id")


def test_a_session_gets_another_name_that_no_other_has(client: httpx2.Client) -> None:
    run = "/api/v1/agents/@test/chat/run"
    first = client.post(run, json={"query": "a", "session_id": "chat 43"}).json()["session_id"]
    client.post(run, json={"query": "b", "session_id": "chat 44"})
    path = f"/api/v1/sessions/{first}"

    check_problem(client.patch(path, json={"key": "chat 44"}), 409, "session_exists", "key")
    unchanged = client.patch(path, json={}).json()
    assert (unchanged["key"], unchanged["strategy"]) == ("chat 43", "enqueue")
    renamed = client.patch(path, json={"key": "Ada, invoices"}).json()
    assert (renamed["id"], renamed["key"], renamed["strategy"]) == (first, "Ada, invoices", "enqueue")
    assert client.post(run, json={"query": "c", "session_id": "Ada, invoices"}).json()["session_id"] == first
    assert client.post(run, json={"query": "d", "session_id": "chat 43"}).json()["session_id"] != first
