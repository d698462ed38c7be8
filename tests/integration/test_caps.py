"""Caps: an organisation has as many objects of a kind as it may, exactly, and learns which bound refused it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert, select

from runyard_common.datastores.service import datastores
from runyard_common.datastores.service.datastores import Upload
from runyard_common.human_tasks import tables
from runyard_common.human_tasks.service import answer_links
from runyard_common.identity.queries import holdings
from runyard_common.identity.rules.caps import CAPS, STORAGE
from runyard_common.tables.query import Organisation, Session
from runyard_common.values.ids import uuid7
from tests.api_server import Api
from tests.members import key, organisation

#: How many of each kind these organisations may have.
MOST = 3
Make = Callable[[httpx2.Client, int], httpx2.Response]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Api(
        tmp_path_factory.mktemp("caps") / "home", model="openai:x", model_base_url="http://127.0.0.1:9"
    ) as one:
        yield one


@pytest.fixture
def org_id(api: Api) -> str:
    return organisation(api)


@pytest.fixture
def client(api: Api, org_id: str) -> Iterator[httpx2.Client]:
    """A client of an organisation of its own, which has an agent and a run already."""
    with api.client(key(api, org_id)) as one:
        manifest = {"name": "@caps/one", "version": "1.0.0", "kind": "declared", "instructions": "hi"}
        one.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
        yield one


def bound(api: Api, org_id: str, **bounds: int | None) -> httpx2.Response:
    """Set an organisation's own bounds, as the operator."""
    with api.client(key(api, api.state.org_id)) as operator:
        return operator.patch(f"/api/v1/ops/organisations/{org_id}", json={"bounds": bounds})


def run(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    return client.post("/api/v1/agents/@caps/one/run", json={"query": "hi"} | fields)


def _version(client: httpx2.Client, n: int) -> httpx2.Response:
    manifest = {"name": "@caps/one", "version": f"2.0.{n}", "kind": "declared", "instructions": "hi"}
    return client.post("/api/v1/agents/manifests", json=manifest)


def _file(client: httpx2.Client, n: int) -> httpx2.Response:
    return client.post("/api/v1/agents/@caps/one/run", data={"query": "hi"}, files={"a": ("a.txt", b"x" * n)})


def _message(client: httpx2.Client, n: int) -> httpx2.Response:
    tasks = client.get("/tasks").json()["data"]
    task = tasks[0]["task_id"] if tasks else run(client).json()["task_id"]
    return client.post(f"/tasks/{task}/message", json={"message": "more"})


def _keyed(client: httpx2.Client, n: int) -> httpx2.Response:
    body = {"kind": "model", "selector": f"x{n}", "max_concurrent": 1}
    return client.post("/api/v1/limits", json=body, headers={"idempotency-key": f"k{n}"})


def _member(client: httpx2.Client, n: int) -> httpx2.Response:
    """A person accepts an invitation."""
    invited = client.post("/api/v1/invitations", json={"email": f"m{uuid7()}@example.com", "role": "member"})
    accept = {"token": invited.raise_for_status().json()["token"], "name": "m", "password": "enough of it 1"}
    return httpx2.post(client.base_url.join("/api/v1/invitations/accept"), json=accept)


MAKERS: dict[str, Make] = {
    "keys": lambda client, n: client.post("/api/v1/keys", json={"name": f"k{n}"}),
    "members": _member,
    "invitations": lambda client, n: client.post(
        "/api/v1/invitations", json={"email": f"i{n}@example.com", "role": "member"}
    ),
    "applications": lambda client, n: client.post("/api/applications", json={"name": f"a{n}"}),
    "end_users": lambda client, n: client.post("/api/end-users", json={"name": f"u{n}"}),
    "agents": lambda client, n: client.post("/api/v1/agents", json={"name": f"agent {n}"}),
    "versions": _version,
    "tags": lambda client, n: client.put(f"/api/v1/agents/@caps/one/tags/t{n}", json={"version": "1.0.0"}),
    "sessions": lambda client, n: run(client, session_id=f"s{n}"),
    "datastores": lambda client, n: client.post("/create-datastore", json={"name": f"d{n}", "type": "documents"}),
    "limits": lambda client, n: client.post(
        "/api/v1/limits", json={"kind": "model", "selector": f"x{n}", "max_concurrent": 1}
    ),
    "unread_messages": _message,
    "idempotent_answers": _keyed,
    "sent_events": lambda client, n: client.post("/api/v1/events", json={"name": "paid", "data": n}),
    "secrets": lambda client, n: client.put(f"/api/v1/secrets/S{n}", json={"value": "eight or more"}),
    "stored_files": _file,
    STORAGE: lambda client, n: _file(client, 1_000),
}  # fmt: skip
#: Made by services alone here: they need a question that is open, or an indexing run.
ELSEWHERE = {"links", "documents"}


def test_every_cap_has_a_test() -> None:
    assert set(MAKERS) | ELSEWHERE == set(CAPS)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_what_goes_over_a_cap_is_refused_with_its_code_and_what_to_do(
    api: Api, client: httpx2.Client, org_id: str, kind: str
) -> None:
    cap, most = CAPS[kind], MOST
    with api.state.store.read() as conn:
        of = (
            org_id
            if cap.of == "organisation"
            else client.get("/api/v1/agents/@caps/one").json()["agent_group_id"]
        )
        if kind == STORAGE:
            most = holdings.stored_bytes(conn, org_id) + 2_500
        before = 0 if cap.of == "task" else holdings.count(conn, kind, of, 0.0, 10)
    bound(api, org_id, **{cap.setting: most}).raise_for_status()
    left = 2 if kind == STORAGE else MOST - before
    for n in range(left):
        assert MAKERS[kind](client, n + 1).is_success, n
    refused = MAKERS[kind](client, 99)
    assert refused.status_code == 409, refused.text
    # appstrate has no such codes: its contract's general one is used, with the same sentence.
    assert refused.json()["code"] in (cap.code, "conflict")
    assert kind in ("applications", "end_users") or refused.json()["code"] == cap.code
    assert cap.remedy.split(",")[0] in refused.text
    bound(api, org_id, **{cap.setting: 10**9}).raise_for_status()
    assert MAKERS[kind](client, 100).is_success


def test_links_to_one_question_are_capped(api: Api, org_id: str) -> None:
    bound(api, org_id, max_links=MOST).raise_for_status()
    question: dict[str, Any] = {
        "id": uuid7(), "org_id": org_id, "task_id": uuid7(), "key": "q", "kind": "question", "payload": {},
        "state": "open", "created_at": 1.0,
    }  # fmt: skip
    with api.state.store.begin() as tx:
        tx.conn.execute(insert(tables.Question.__table__), question)
        for _ in range(MOST):
            answer_links.create(tx, org_id, question["id"])
        with pytest.raises(Exception, match="3 links to a question already"):
            answer_links.create(tx, org_id, question["id"])


def _upload(n: int) -> Upload:
    return Upload(uuid7(), f"{n:064x}", f"{n}.txt", "text/plain", 1)


def test_documents_of_one_datastore_are_capped(api: Api, client: httpx2.Client, org_id: str) -> None:
    bound(api, org_id, max_documents=MOST).raise_for_status()
    stores = [
        client.post("/create-datastore", json={"name": name, "type": "documents"}).json()["datastore_id"]
        for name in ("full", "empty")
    ]
    with api.state.store.begin() as tx:  # over HTTP each would wait for a worker to read it
        for n in range(MOST):
            datastores.index_document(tx, org_id, stores[0], _upload(n))
    form: dict[str, Any] = {"data": {"datastore_id": stores[0]}, "files": {"file": ("a.txt", b"x")}}
    refused = client.post("/index-document", **form)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_documents"), refused.text
    assert "Use another datastore" in refused.text
    with api.state.store.begin() as tx:
        found, _ = datastores.index_document(tx, org_id, stores[1], _upload(MOST))
    assert found.datastore_id == stores[1], "each datastore has its own"


def test_an_organisation_reads_its_bounds_and_the_operator_everybodys(
    api: Api, client: httpx2.Client, org_id: str
) -> None:
    bound(api, org_id, max_keys=7).raise_for_status()
    path = f"/api/v1/ops/organisations/{org_id}/bounds"
    mine = {one["name"]: one for one in client.get(path).raise_for_status().json()["data"]}
    assert mine["max_keys"] == {"name": "max_keys", "of": "organisation", "used": 1, "most": 7, "own": True}
    assert mine["max_agents"] | {"own": False} == mine["max_agents"]
    assert mine["max_agents"]["used"] == 1
    assert mine["max_storage_bytes"]["used"] > 0
    with api.client(key(api, api.state.org_id)) as operator:
        assert operator.get(path).json()["data"] == list(mine.values())
    foreign = client.get(f"/api/v1/ops/organisations/{api.state.org_id}/bounds")
    assert foreign.status_code == 404
    assert bound(api, org_id, max_things=1).json()["code"] == "invalid_field"
    bound(api, org_id, max_keys=None).raise_for_status()
    with api.state.store.read() as conn:
        assert conn.execute(select(Organisation.settings).where(Organisation.id == org_id)).scalar() is None


def test_room_comes_back_when_something_is_deleted(api: Api, client: httpx2.Client, org_id: str) -> None:
    bound(api, org_id, max_keys=2).raise_for_status()
    made = client.post("/api/v1/keys", json={"name": "a"}).raise_for_status().json()
    assert client.post("/api/v1/keys", json={"name": "b"}).status_code == 409
    client.delete(f"/api/v1/keys/{made['id']}").raise_for_status()
    assert client.post("/api/v1/keys", json={"name": "b"}).status_code == 201


def test_a_run_that_may_begin_no_session_is_refused_and_those_beside_it_are_not(
    api: Api, client: httpx2.Client, org_id: str
) -> None:
    bound(api, org_id, max_sessions=1).raise_for_status()
    assert run(client, session_id="first").status_code == 202
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda name=name: answers.append(run(client, session_id=name).status_code))
        for name in ("first", "second", "first", "third")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [202, 202, 409, 409]
    with api.state.store.read() as conn:
        assert len(conn.execute(select(Session.id).where(Session.org_id == org_id)).all()) == 1


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["keys", STORAGE])
def test_two_apis_together_never_go_over_a_cap(
    tmp_path: Path, fresh_database: Callable[[], str], kind: str
) -> None:
    url = fresh_database()
    with Api(tmp_path / "home", url) as one, Api(tmp_path / "home", url) as two:
        org_id = organisation(one)
        clients = [one.client(key(one, org_id)), two.client(key(one, org_id))]
        manifest = {"name": "@caps/one", "version": "1.0.0", "kind": "declared", "instructions": "hi"}
        clients[0].post("/api/v1/agents/manifests", json=manifest).raise_for_status()
        with one.state.store.read() as conn:
            before = holdings.count(conn, kind, org_id, 0.0, 10)
        most = before + 5 if kind == "keys" else before + 5_500
        bound(one, org_id, **{CAPS[kind].setting: most}).raise_for_status()
        answers: list[int] = []

        def make(client: httpx2.Client) -> None:
            answers.extend(MAKERS[kind](client, n).status_code for n in range(6))

        threads = [threading.Thread(target=make, args=(client,)) for client in clients for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
        assert sum(status < 300 for status in answers) == 5
        assert set(answers) <= {201, 202, 409}
        with one.state.store.read() as conn:
            assert holdings.count(conn, kind, org_id, 0.0, 100) <= most
