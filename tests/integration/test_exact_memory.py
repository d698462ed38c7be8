"""What an api remembers of agents, keys, limits and endpoints never outlives a change, by any process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from sqlalchemy import Connection, event, text

from runyard_common.agents.rules.manifests import Manifest, parse
from runyard_common.agents.service import agents
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service.identity import KeyRequest, create_key
from runyard_common.privacy.service import erasures
from runyard_common.runs.queries import configured
from runyard_common.runs.service.limits import LimitRequest
from runyard_common.runs.service.limits import save as save_limit
from runyard_common.settings import Settings
from tests.api_server import Api

_RUN: Final = "/api/v1/agents/@test%2Fecho/run"
_BODY: Final = {"args": {"n": 1}}
#: What a statement does, and to which table.
_WORDS: Final = re.compile(
    r"^\s*(SELECT|INSERT|UPDATE|DELETE)\b.*?\b(?:FROM|INTO|UPDATE)\s+(\w+)", re.DOTALL | re.IGNORECASE
)


@pytest.fixture
def other(api: Api) -> Iterator[Database]:
    """The database as another process has it open."""
    db = Database(api.settings.database)
    yield db
    db.close()


def _execute(db: Database, statement: str, **values: Any) -> None:
    with db.begin() as conn:
        assert conn.execute(text(statement), values).rowcount > 0


def _accept(client: httpx2.Client) -> dict[str, Any]:
    answer = client.post(_RUN, json=_BODY)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


@contextmanager
def _statements(db: Database) -> Iterator[list[str]]:
    """The statements that this process sends to a database."""
    sent: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    engines = [db.engine, db._read_engine, db._writing] if db.is_postgres else [db.engine]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


def test_an_accepted_run_costs_one_look_and_two_writes(api: Api, client: httpx2.Client) -> None:
    for _ in range(2):  # the first may meet what was remembered before the agent was published
        _accept(client)
    with _statements(api.state.db) as sent:
        _accept(client)
    about = [f"{found[1].upper()} {found[2]}" for s in sent if (found := _WORDS.match(s)) is not None]
    # The backlog, once a second; the clock; on PostgreSQL the lock on the limits, whose answer is not waited for.
    rare = ["SELECT tasks", "SELECT clock_timestamp", "SELECT unnest"]
    assert [s for s in about if s not in rare] == [
        "SELECT config_versions",
        "INSERT tasks",
        "INSERT events",
    ]


def test_every_table_that_is_remembered_has_triggers(
    api: Api, client: httpx2.Client, other: Database
) -> None:
    with _statements(other) as sent, other.read() as conn:
        scope = OrgScope(conn, api.state.org_id)
        configured.load(scope)
        agents.resolve(scope, "@test/echo", "latest")
        identity.key_by_hash(conn, "none")
        identity.organisation(conn, scope.org_id)
    read = {name for s in sent for name in re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", s)} - {"config_versions"}
    assert read == {
        "limits",
        "endpoints",
        "agents",
        "agent_versions",
        "agent_tags",
        "api_keys",
        "organisations",
        "members",
    }
    with other.read() as conn:
        assert read <= set(conn.execute(text(_TRIGGERS[other.is_postgres])).scalars())


_TRIGGERS: Final = {
    False: "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'config_%'",
    True: "SELECT relname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE tgname LIKE 'config_%'",
}


def test_an_agent_that_another_process_changes_is_seen_by_the_next_run(
    client: httpx2.Client, other: Database
) -> None:
    _accept(client)
    _execute(other, "UPDATE agents SET is_active = :no WHERE name = '@test/echo'", no=False)
    refused = client.post(_RUN, json=_BODY)
    assert (refused.status_code, refused.json()["code"]) == (403, "agent_inactive")
    _execute(other, "UPDATE agents SET is_active = :yes WHERE name = '@test/echo'", yes=True)
    _accept(client)  # a refusal is not remembered either


def test_a_version_that_another_process_publishes_is_the_one_that_runs_and_is_answered(
    api: Api, client: httpx2.Client, other: Database
) -> None:
    name = "@test/growing"
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        with Store(other).begin() as tx:
            agents.publish(tx, api.state.org_id, _manifest(name, version))
        accepted = client.post(f"/api/v1/agents/{name}/run", json={"query": "x"}).json()
        assert accepted["version"] == version
        stored = client.get(f"/tasks/{accepted['task_id']}").json()
        assert stored["version"] == version


def _manifest(name: str, version: str) -> Manifest:
    return parse({"name": name, "version": version, "instructions": "x"})


def test_a_limit_that_another_process_makes_or_lifts_binds_the_next_run(
    api: Api, client: httpx2.Client, other: Database
) -> None:
    assert _accept(client)["status"] == "pending"
    with Store(other).begin() as tx:
        rule = save_limit(tx, api.state.org_id, LimitRequest("agent", "@test/echo", max_concurrent=0))
    assert _accept(client)["status"] == "queued"
    _execute(other, "UPDATE limits SET max_concurrent = 100000 WHERE id = :id", id=rule.id)
    _execute(
        other,
        "UPDATE tasks SET status = 'stopped', held_by = NULL, finished_at = 1 WHERE status = 'queued'",
    )
    assert _accept(client)["status"] == "pending"
    _execute(other, "DELETE FROM limits WHERE id = :id", id=rule.id)


def test_an_endpoint_that_another_process_makes_hears_of_the_next_run(
    api: Api, client: httpx2.Client, other: Database
) -> None:
    made = client.post("/api/v1/webhooks", json={"url": "http://127.0.0.1:18999/hook", "events": ["*"]})
    assert made.status_code == 201, made.text
    id_ = made.json()["id"]
    heard = "SELECT count(*) FROM deliveries WHERE task_id = :task"

    def deliveries(task_id: str) -> int:
        with other.read() as conn:
            return int(conn.execute(text(heard), {"task": task_id}).scalar_one())

    assert deliveries(_accept(client)["task_id"]) > 0
    _execute(other, "UPDATE endpoints SET active = :no WHERE id = :id", no=False, id=id_)
    assert deliveries(_accept(client)["task_id"]) == 0
    _execute(other, "UPDATE endpoints SET active = :yes WHERE id = :id", yes=True, id=id_)
    assert deliveries(_accept(client)["task_id"]) > 0
    _execute(other, "DELETE FROM endpoints WHERE id = :id", id=id_)
    assert deliveries(_accept(client)["task_id"]) == 0


_USES: Final[dict[str, Callable[[httpx2.Client, str], httpx2.Response]]] = {
    "accept": lambda client, _: client.post(_RUN, json=_BODY),
    "accept, with a key of its own": lambda client, task: client.post(
        _RUN, json=_BODY, headers={"idempotency-key": task}
    ),
    "dry run": lambda client, _: client.post(f"{_RUN}?dry_run=1", json=_BODY),
    "bad request": lambda client, _: client.post(_RUN, json={"args": {"n": "no"}}),
    "task": lambda client, task: client.get(f"/tasks/{task}"),
    "no task": lambda client, task: client.get(f"/tasks/{task[:-4]}0000"),
    "list": lambda client, _: client.get("/tasks"),
    "cancel": lambda client, task: client.post(f"/tasks/{task}/cancel"),
}


@pytest.mark.parametrize("use", _USES)
def test_a_key_that_another_process_revokes_opens_nothing_more(
    api: Api, client: httpx2.Client, other: Database, use: str
) -> None:
    made = client.post("/api/v1/keys", json={"name": "short-lived", "role": "admin"})
    assert made.status_code == 201, made.text
    task = _accept(client)["task_id"]
    with api.client(made.json()["key"]) as holder:
        assert _USES[use](holder, task).status_code != 401
        before = api.count_tasks()
        _execute(other, "UPDATE api_keys SET revoked_at = 1 WHERE id = :id", id=made.json()["id"])
        refused = _USES[use](holder, task)
        assert (refused.status_code, refused.json()["code"]) == (401, "key_revoked")
        assert api.count_tasks() == before


def test_an_organisation_that_another_process_deactivates_is_shut_out(
    api: Api, client: httpx2.Client, other: Database
) -> None:
    _accept(client)
    org = "UPDATE organisations SET active = :active WHERE id = :id"
    _execute(other, org, active=False, id=api.state.org_id)
    refused = client.post(_RUN, json=_BODY)
    _execute(other, org, active=True, id=api.state.org_id)
    api.state.keys.forget_all()  # refusals are remembered for a moment
    assert (refused.status_code, refused.json()["code"]) == (401, "organisation_inactive")
    _accept(client)


def test_an_organisation_whose_erasure_begins_in_another_process_is_shut_out(
    api: Api, client: httpx2.Client, other: Database
) -> None:
    _accept(client)
    before = api.count_tasks()
    org = "UPDATE organisations SET settings = :settings WHERE id = :id"
    _execute(other, org, settings='{"erasing": 1.0}', id=api.state.org_id)
    refused = client.post(_RUN, json=_BODY)
    _execute(other, org, settings=None, id=api.state.org_id)
    api.state.keys.forget_all()
    assert (refused.status_code, refused.json()["code"]) == (401, "organisation_erased")
    assert api.count_tasks() == before
    _accept(client)


def test_a_key_of_an_organisation_that_another_process_erased_opens_nothing_more(
    api: Api, client: httpx2.Client, other: Database, tmp_path: Path
) -> None:
    made = client.post("/api/v1/organisations", json={"name": "leaver", "owner_email": "ann@example.com"})
    org_id = made.raise_for_status().json()["id"]
    with api.state.store.begin() as tx:
        wanted = KeyRequest("all", Role.ADMIN)
        key = create_key(tx, org_id, wanted, "operator", Role.OWNER).key
    with api.client(key) as holder:
        assert holder.get("/tasks").status_code == 200
        given = (Store(other), Settings(home=tmp_path), org_id, "operator", lambda what, count: None)
        erasures.erase(*given, wait=0.0, settle=0.0)
        refused = holder.get("/tasks")
        assert (refused.status_code, refused.json()["code"]) == (401, "key_unknown")
    _accept(client)


def test_a_balance_that_another_process_spends_is_seen_by_the_next_run(
    api: Api, client: httpx2.Client, other: Database
) -> None:
    _accept(client)
    spend = "UPDATE organisations SET balance_micros = :left WHERE id = :id"
    _execute(other, spend, left=0, id=api.state.org_id)
    refused = client.post(_RUN, json=_BODY)
    _execute(other, spend, left=None, id=api.state.org_id)
    assert refused.status_code == 402
    _accept(client)


def test_no_more_runs_than_a_limit_allows_begin_while_it_comes_and_goes(
    api: Api, client: httpx2.Client, other: Database
) -> None:
    """Each run is accepted under the limit before a change or under the one after it."""
    org, most = api.state.org_id, 3
    stop, wrong = threading.Event(), []

    def change() -> None:
        for round_ in range(20):
            with Store(other).begin() as tx:
                wanted = LimitRequest("agent", "@test/limited", max_concurrent=most - round_ % 2)
                save_limit(tx, org, wanted, rule.id)
        stop.set()

    def run() -> None:
        with api.client() as mine:
            while not stop.is_set():
                answer = mine.post("/api/v1/agents/@test%2Flimited/run", json={"query": "x"})
                if answer.status_code != 202:
                    wrong.append(answer.text)

    with Store(other).begin() as tx:
        agents.publish(tx, org, _manifest("@test/limited", "1.0.0"))
        rule = save_limit(tx, org, LimitRequest("agent", "@test/limited", max_concurrent=most))
    threads = [threading.Thread(target=work) for work in (change, run, run)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with other.read() as conn:
        assert _pending(conn, "@test/limited") <= most
        assert _pending(conn, "@test/limited") == _slots(conn)
    assert not wrong
    _execute(other, "DELETE FROM limits WHERE id = :id", id=rule.id)


def test_runs_are_accepted_while_others_publish_agents_all_the_time(
    api: Api, client: httpx2.Client, other: Database
) -> None:
    """Each publish raises the number; what has not concerned a run is no reason to refuse it."""
    stop = threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with Store(other).begin() as tx:
                agents.publish(
                    tx, api.state.org_id, _manifest(f"@test/import_{number % 20}", f"1.0.{number}")
                )

    importing = threading.Thread(target=publish)
    importing.start()
    try:
        answers = [client.post(_RUN, json=_BODY) for _ in range(40)]
    finally:
        stop.set()
        importing.join(30)
    assert [answer.status_code for answer in answers] == [202] * 40


def _pending(conn: Connection, agent: str) -> int:
    query = text("SELECT count(*) FROM tasks WHERE agent_name = :agent AND status = 'pending'")
    return int(conn.execute(query, {"agent": agent}).scalar_one())


def _slots(conn: Connection) -> int:
    return int(
        conn.execute(text("SELECT count(*) FROM slots WHERE limit_key LIKE '%@test/limited'")).scalar_one()
    )
