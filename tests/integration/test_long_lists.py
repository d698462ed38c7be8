"""A page, and a look for what to prune, cost what they show: the same however many rows there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import insert, select

from runyard_common.agents.queries import agents as agent_rows
from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import events, lanes, prune, queued, tasks, workers
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import ACTIVE, Status
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import cancellations, queues, submissions
from runyard_common.sessions.queries import sessions
from runyard_common.tables.query import Agent, AgentVersion, Delivery, Session, Task, TaskEvent
from runyard_common.values.ids import uuid7
from runyard_common.webhooks.queries import delivery_log
from tests import databases
from tests.sqlite_work import steps

FEW: Final = 3 * prune.LOOKED_AT // 2
MANY: Final = 4 * FEW
OTHER: Final = "org-other"
LATER: Final = 9e9


class Stock:
    """`count` rows of each kind, most of them of one organisation and ended."""

    def __init__(self, url: str, count: int) -> None:
        self.db = databases.opened(url)
        self.store, self.org = Store(self.db), uuid7()
        with self.store.begin() as tx:
            ref = agents.publish(tx, self.org, parse({"name": "@test/noop", "kind": "python"})).ref
            spec = RunSpec(uuid7(), self.org, ref, "native", {"args": {}}, session_id=uuid7())
            sessions.ensure(tx, self.org, "s", session_id=spec.session_id)
            submissions.submit(tx, [spec])
            self.task_id, self.agent_id, self.version_id = spec.task_id, ref.agent_id, ref.version_id
            self._fill(tx.conn, count)

    def _fill(self, conn: Any, count: int) -> None:
        row, session, version, agent = (
            dict(conn.execute(select(*table.__table__.c)).one()._mapping)
            for table in (Task, Session, AgentVersion, Agent)
        )
        ids = [uuid7() for _ in range(count)]
        ended = row | {"status": "completed", "finished_at": 1.0, "required_agent": None}
        some = [
            ended
            | {"id": id_, "session_id": f"session-{n}", "org_id": self.org if n % 9 else OTHER}
            | {"created_by": "key:busy" if n % 2 else "key:me", "title": f"Invoice {n}"}
            for n, id_ in enumerate(ids)
        ]
        conn.execute(insert(Task), some)
        conn.execute(
            insert(TaskEvent),
            [
                {"task_id": self.task_id, "seq": n, "type": "log", "attempt": 1, "data": {}, "at": 1.0}
                for n in range(2, count)
            ],
        )
        kept = [
            session | {"id": f"session-{n}", "key": f"k{n}", "updated_at": float(n), "org_id": self.org}
            for n in range(count)
        ]
        conn.execute(insert(Session), kept)
        sent = {
            "org_id": self.org, "endpoint_id": "wh", "receiver": "wh", "event_type": "task.completed", "host": "h",
            "order_key": "o", "order_seq": 1, "url": "https://h", "body": "{}", "state": "success", "attempt": 1,
            "next_at": 0.0, "updated_at": 1.0,
        }  # fmt: skip
        conn.execute(
            insert(Delivery),
            [
                sent | {"id": f"d{n:06}", "event_id": f"e{n}", "task_id": id_, "created_at": float(n)}
                for n, id_ in enumerate(ids)
            ],
        )
        made = [(f"agent-{n:06}", f"version-{n:06}") for n in range(count)]
        conn.execute(insert(AgentVersion), [version | {"id": v, "agent_id": a} for a, v in made])
        named = [agent | {"id": a, "name": f"@x/{a}", "slug": a, "version_id": v} for a, v in made]
        conn.execute(insert(Agent), named)

    def work(self, read: Callable[[OrgScope], object]) -> int:
        """How much a read takes."""

        def run() -> None:
            with self.store.read() as conn:
                read(OrgScope(conn, self.org))

        return steps(self.db, run)


@pytest.fixture(scope="module")
def stocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stock, Stock]]:
    folder: Path = tmp_path_factory.mktemp("lists")
    few, many = (Stock(f"sqlite:///{folder / str(count)}.db", count) for count in (FEW, MANY))
    yield few, many
    for stock in (few, many):
        stock.db.close()


def _tasks(**wanted: Any) -> Callable[[Stock], Callable[[OrgScope], object]]:
    return lambda stock: (
        lambda scope: tasks.page(
            scope,
            Filter(
                **{name: getattr(stock, of[1:]) if str(of)[:1] == "." else of for name, of in wanted.items()}
            ),
            20,
        )
    )


READS: dict[str, Callable[[Stock], Callable[[OrgScope], object]]] = {
    "tasks": _tasks(),
    "tasks that failed": _tasks(statuses=(Status.FAILED,)),
    "tasks that were stopped": _tasks(statuses=(Status.STOPPED,)),
    "tasks that run or wait": _tasks(statuses=(Status.RUNNING, Status.QUEUED)),
    "tasks of mixed statuses": _tasks(statuses=(Status.RUNNING, Status.FAILED)),
    "active tasks of an agent": _tasks(agent_id=".agent_id", statuses=tuple(ACTIVE)),
    "tasks of another agent": _tasks(agent_id="agent-none"),
    "tasks of a session": _tasks(session_id="session-7"),
    "tasks of an end user": _tasks(end_user_id="none"),
    "tasks that one caller made": _tasks(created_by="key:none"),
    "tasks that a caller of many made": _tasks(created_by="key:busy"),
    "tasks of a schedule": _tasks(schedule_id="none"),
    "children": _tasks(parent_id="none"),
    "active tasks of an agent, counted": lambda stock: (
        lambda scope: tasks.count(scope, Filter(agent_id=stock.agent_id, statuses=tuple(ACTIVE)))
    ),
    "events in the middle": lambda stock: lambda scope: events.after(scope, stock.task_id, FEW // 2, 100),
    "sessions": lambda stock: lambda scope: sessions.page(scope, 20),
    "sessions of another organisation": lambda stock: (
        lambda scope: sessions.page(OrgScope(scope.conn, OTHER), 20)
    ),
    "deliveries": lambda stock: lambda scope: delivery_log.page(scope, delivery_log.Filter(), 20),
    "deliveries further down": lambda stock: (
        lambda scope: delivery_log.page(scope, delivery_log.Filter(), 20, "d000100")
    ),
    "deliveries of a rare type": lambda stock: (
        lambda scope: delivery_log.page(scope, delivery_log.Filter(event_type="task.failed"), 20)
    ),
    "deliveries that are open": lambda stock: (
        lambda scope: delivery_log.page(scope, delivery_log.Filter(states=("pending", "dead")), 20)
    ),
    "agents": lambda stock: lambda scope: agent_rows.page(scope, 20),
    "an agent by its name": lambda stock: lambda scope: agents.resolve(scope, "@x/agent-000077"),
    "sessions to prune": lambda stock: (
        lambda scope: prune.idle_sessions(scope.conn, scope.org_id, LATER, prune.START, 10)
    ),
    "deliveries to prune": lambda stock: (
        lambda scope: prune.orphan_deliveries(scope.conn, scope.org_id, LATER, prune.START, 10)
    ),
    "the backlog": lambda stock: lambda scope: queues.backlog(scope.conn, LATER, 10, scope.org_id),
    "the backlog of all": lambda stock: lambda scope: queues.backlog(scope.conn, LATER, 10),
    "what waits to start": lambda stock: lambda scope: tasks.backlog(scope.conn, scope.org_id, 1000),
    "what is claimable and untouched": lambda stock: lambda scope: workers.unclaimed(scope.conn, LATER),
    "what limits block": lambda stock: lambda scope: queued.blockers(scope.conn, "", 200),
    "what is due": lambda stock: lambda scope: queued.due(scope.conn, LATER, 100),
    "what has no owner": lambda stock: lambda scope: tasks.ownerless(scope.conn, 100),
    "lanes with work": lambda stock: lambda scope: lanes.window(scope.conn),
    "what is over its deadline": lambda stock: (
        lambda scope: cancellations._unfinished(scope.conn, Task.deadline_at, LATER)
    ),
    "what is over its time to live": lambda stock: (
        lambda scope: cancellations._unfinished(scope.conn, Task.expires_at, LATER, Task.started_at.is_(None))
    ),
    "tasks to prune": lambda stock: (
        lambda scope: prune.any_task(scope.conn, scope.org_id, Status.COMPLETED, 0.5)
    ),
}


@pytest.mark.parametrize("name", READS)
def test_a_page_costs_what_it_shows(stocks: tuple[Stock, Stock], name: str) -> None:
    few, many = (stock.work(READS[name](stock)) for stock in stocks)
    assert many <= 1.2 * few + 20, (few, many)


def test_a_search_by_title_goes_on_behind_what_it_has_looked_at(
    stocks: tuple[Stock, Stock], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, _ = stocks
    monkeypatch.setattr(tasks, "SEARCHED", 500)
    wanted = Filter(title="INVOICE 77")
    titles: list[str | None] = []
    looks, before = 0, None
    with few.store.read() as conn:
        while looks == 0 or before is not None:
            found = tasks.search(OrgScope(conn, few.org), wanted, 5, before)
            assert len(found.tasks) <= 5
            titles, looks, before = titles + [task.title for task in found.tasks], looks + 1, found.end
        whole = tasks.page(OrgScope(conn, few.org), wanted, FEW)
    assert titles == [task.title for task in whole]
    assert "Invoice 77" in titles
    assert looks >= FEW // 500


def test_a_search_costs_no_more_than_what_it_looks_at(
    stocks: tuple[Stock, Stock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "SEARCHED", 500)
    nothing = Filter(title="no such title")
    few, many = (stock.work(lambda scope: tasks.search(scope, nothing, 20)) for stock in stocks)
    assert many <= 1.2 * few + 20, (few, many)


def test_a_total_counts_up_to_its_bound(stocks: tuple[Stock, Stock]) -> None:
    _, stock = stocks
    with stock.store.read() as conn:
        scope = OrgScope(conn, stock.org)
        assert tasks.count(scope, Filter(), 100) == 100
        assert tasks.count(scope, Filter()) == sum(1 for n in range(MANY) if n % 9) + 1


def test_a_page_by_offset_goes_on_where_the_one_before_ends(stocks: tuple[Stock, Stock]) -> None:
    few, _ = stocks
    with few.store.read() as conn:
        scope = OrgScope(conn, few.org)
        whole = [task.id for task in tasks.whole_page(scope, Filter(), 30)]
        parts = [task.id for at in (0, 10, 20) for task in tasks.whole_page(scope, Filter(), 10, at)]
    assert parts == whole


def test_a_look_for_what_to_prune_goes_through_all_in_the_end(stocks: tuple[Stock, Stock]) -> None:
    _, stock = stocks
    place, looks = prune.START, 0
    found: list[str] = []
    with stock.store.begin() as tx:
        tx.conn.execute(insert(Session), _idle(tx.conn, stock))
        while looks == 0 or place != prune.START:
            look = prune.idle_sessions(tx.conn, stock.org, LATER, place, 10)
            place, looks, found = look.place, looks + 1, found + look.ids
        removed = prune.remove_sessions(tx, found, LATER)
    assert looks >= MANY // prune.LOOKED_AT
    assert set(found) == {f"idle-{n}" for n in range(15)}
    assert removed == 15


def _idle(conn: Any, stock: Stock) -> list[dict[str, Any]]:
    """Sessions without tasks, in the middle of those that have some."""
    row = dict(conn.execute(select(*Session.__table__.c).where(Session.id == "session-7")).one()._mapping)
    at = float(MANY // 2)
    return [row | {"id": f"idle-{n}", "key": f"idle-{n}", "updated_at": at} for n in range(15)]
