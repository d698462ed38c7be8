"""An organisation is erased: nothing of it is left, nothing of others is touched, and a killed erasure goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update

from runyard_common.agents.service import agents
from runyard_common.database.columns import dump
from runyard_common.database.transaction import Store, Tx
from runyard_common.files import FileStore, open_files
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.actors import OPERATOR
from runyard_common.privacy.queries import removal
from runyard_common.privacy.queries.removal import Remover
from runyard_common.privacy.rules.marks import ERASED
from runyard_common.privacy.rules.ownership import RULES
from runyard_common.privacy.service import erasures
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.specs import CallbackTo, RunSpec
from runyard_common.runs.service import submissions
from runyard_common.settings import Settings
from runyard_common.tables import metadata
from runyard_common.tables.query import (
    Audit,
    Delivery,
    Lane,
    Member,
    Organisation,
    QueueSample,
    Statistic,
    StoredFile,
    Task,
    User,
)
from runyard_common.values.errors import Conflict, Forbidden, NotFound
from runyard_common.values.ids import uuid7
from tests import databases, owned_rows, pruning
from tests.clockwork import Clockwork

OPERATORS, OURS, THEIRS = "operators-organisation", "our-organisation", "their-organisation"


class Killed(BaseException):
    """Ends the call as a kill does: no error of the product's is one."""


@dataclass
class Site:
    """Two organisations with rows in every table, and the operator's."""

    store: Store
    settings: Settings

    @property
    def files(self) -> FileStore:
        return open_files(self.settings.files)

    def erase(self, **options: Any) -> erasures.Erased:
        """Erase ours at once."""
        given = (self.store, self.settings, OURS, OPERATOR, lambda what, count: None)
        return erasures.erase(*given, **{"wait": 0.0, "settle": 0.0} | options)

    def content(self, text: bytes, *orgs: str, age: float = 7200.0) -> str:
        """Store a content that these organisations have, renewed so many seconds ago; its hash."""
        sha256 = self.files.put(text).sha256
        path = Path(self.settings.files) / sha256[:2] / sha256
        os.utime(path, (time.time() - age, time.time() - age))
        with self.store.begin() as tx:
            for org in orgs:
                row = tx.conn.execute(select(StoredFile).where(StoredFile.org_id == org)).mappings().all()[0]
                new = dict(row) | {"id": f"{sha256[:20]}-{org}", "sha256": sha256}
                tx.conn.execute(insert(StoredFile), new)
        return sha256


@pytest.fixture
def site(database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(removal, "BREATH", 0.0)
    db = databases.opened(database_url)
    with db.begin() as conn:
        for table in reversed(metadata.sorted_tables):
            conn.execute(table.delete())
        conn.execute(
            insert(Organisation),
            {"id": OPERATORS, "name": "default", "created_at": 1.0, "weight": 1.0, "active": True},
        )
        owned_rows.fill(conn, OURS, rows=3)
        owned_rows.fill(conn, THEIRS, rows=3)
    yield Site(Store(db), Settings(home=home))
    db.close()


def every_row(conn: Connection, holds: str) -> dict[str, list[str]]:
    """Each row of each table that has this text somewhere, by table."""
    found: dict[str, list[str]] = {}
    for name, table in metadata.tables.items():
        for row in conn.execute(select(table)):
            text = repr([_plain(value) for value in row])
            if holds in text:
                found.setdefault(name, []).append(text)
    return {name: sorted(texts) for name, texts in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, BlockedBy):
        return value.stored
    return dump(value) if isinstance(value, dict | list) else value


def test_nothing_of_the_organisation_is_left_but_an_entry_of_the_audit_log(site: Site) -> None:
    with site.store.read() as conn:
        theirs = every_row(conn, THEIRS)
        assert set(every_row(conn, OURS)) >= {n for n, rule in RULES.items() if rule.column}
    done = site.erase()
    with site.store.read() as conn:
        left = every_row(conn, OURS)
        entries = conn.execute(select(Audit.__table__).where(Audit.org_id == OPERATORS)).all()
        after = every_row(conn, THEIRS)
    assert {name: len(rows) for name, rows in left.items()} == {"audit": 1}
    (entry,) = entries
    assert (entry.actor, entry.action, entry.object_id) == ("operator", "organisation.erase", OURS)
    assert set(entry.data) == {"began_at", "rows"}
    theirs.pop("outbox")  # wake-ups of earlier versions: a pending task is its own
    assert after == theirs
    assert done.counts["tasks"] == done.counts["events"] == 3
    assert done.persons == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # PostgreSQL's are autovacuum's
def test_sqlites_files_have_nothing_of_the_organisation_in_freed_places(site: Site) -> None:
    file = Path(site.store.db.url.removeprefix("sqlite:///"))
    text = f'"of":"{OURS}"'.encode()
    site.store.db.empty_log()
    assert text in file.read_bytes()
    site.erase()
    assert not file.with_name(f"{file.name}-wal").read_bytes()
    assert text not in file.read_bytes()
    assert THEIRS.encode() in file.read_bytes()


def test_a_killed_erasure_goes_on_where_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    content = site.content(b"ours alone", OURS)
    transact, done, kills = Remover.transact, None, 0
    while done is None:
        left = 20 * (kills + 1)  # further than the time before

        def limited(self: Remover, work: Any) -> int:
            nonlocal left
            left -= 1
            if not left:
                raise Killed
            return transact(self, work)

        monkeypatch.setattr(Remover, "transact", limited)
        try:
            done = site.erase()
        except Killed:
            kills += 1
            with site.store.read() as conn:
                found = identity.organisation(conn, OURS)
            assert erasures.was_erased(site.store, OURS) if found is None else not found.active
    assert kills > 2
    assert not site.files.exists(content)
    with site.store.read() as conn:
        assert set(every_row(conn, OURS)) == {"audit"}
        assert len(every_row(conn, THEIRS)["tasks"]) == 3


def test_a_kill_between_the_last_rows_and_the_organisation_leaves_one_entry(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(tx: Tx, org_id: str) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(removal, "remove_itself", kill)
        with pytest.raises(Killed):
            site.erase()
    site.erase()
    assert site.erase().counts == {}, "it may be looked at once more"
    with pytest.raises(NotFound, match="no such organisation"), site.store.begin() as tx:
        erasures.begin(tx, OURS)
    with site.store.read() as conn:
        assert len(every_row(conn, OURS)["audit"]) == 1


def test_what_others_rows_say_of_the_organisation_goes_too(site: Site) -> None:
    numbers = {"submitted": 1, "completed": 1, "failed": 0, "stopped": 0, "turns": 0, "input_tokens": 0}
    numbers |= {"output_tokens": 0, "cached_tokens": 0, "cost_micros": 0}
    place = {"step": 60, "at": 600}
    blocker = {"kind": "blocker", "name": "end_user:ann", "peak": 3} | place
    with site.store.begin() as tx:
        tx.conn.execute(
            insert(Statistic), {"org_id": "*", "kind": "organisation", "name": OURS} | place | numbers
        )
        for org, total in (("*", 5), (OURS, 3)):
            tx.conn.execute(insert(QueueSample), blocker | {"org_id": org, "total": total})
        only_ours = {"name": "end_user:bob", "total": 3}
        for org in ("*", OURS):
            tx.conn.execute(insert(QueueSample), blocker | {"org_id": org} | only_ours)
        tx.conn.execute(insert(Lane), {"lane": "*", "weight": 1.0, "vtime": 1.0, "passed": OURS})
        identity.audit(tx, OPERATORS, OPERATOR, "organisation.allot", OURS, {"weight": 2.0})
    site.erase()
    with site.store.read() as conn:
        assert {name: len(rows) for name, rows in every_row(conn, OURS).items()} == {"audit": 1}
        kept = conn.execute(
            select(QueueSample.name, QueueSample.total).where(QueueSample.org_id == "*")
        ).all()
    assert kept == [("end_user:ann", 2)]


def test_a_person_with_another_place_stays_with_that_alone(site: Site) -> None:
    person = owned_rows.user_of(THEIRS)
    with site.store.begin() as tx:
        tx.conn.execute(
            insert(Member), {"org_id": OURS, "user_id": person, "role": "member", "created_at": 1.0}
        )
        # One who was theirs once, and is ours alone now, did something there.
        tx.conn.execute(
            update(Task).where(Task.org_id == THEIRS).values(created_by=f"user:{owned_rows.user_of(OURS)}")
        )
        identity.audit(
            tx, THEIRS, f"user:{owned_rows.user_of(OURS)}", "sign_in.succeed", owned_rows.user_of(OURS),
            {"address": "192.0.2.7", "second_factor": None},
        )  # fmt: skip
    assert erasures.plan(site.store, OURS).persons == 1
    site.erase()
    with site.store.read() as conn:
        assert set(conn.execute(select(User.id)).scalars()) == {person}
        places = conn.execute(select(Member.org_id).where(Member.user_id == person)).scalars().all()
        makers = set(conn.execute(select(Task.created_by)).scalars())
        entry = conn.execute(select(Audit.__table__).where(Audit.action == "sign_in.succeed")).one()
    assert places == [THEIRS]
    assert makers == {ERASED}
    assert (entry.actor, entry.object_id, entry.data) == (
        ERASED,
        ERASED,
        {"address": ERASED, "second_factor": None},
    )


def test_contents_go_unless_another_has_them_or_may_be_about_to(site: Site) -> None:
    ours = site.content(b"ours alone", OURS)
    shared = site.content(b"of both", OURS, THEIRS)
    fresh = site.content(b"just now", OURS, age=60.0)
    folder = site.settings.home / "datastores" / OURS
    folder.mkdir(parents=True)
    (folder / "sales.db").write_bytes(b"rows")
    done = site.erase()
    assert not site.files.exists(ours)
    assert site.files.exists(shared)
    assert done.fresh_files == {fresh}
    assert done.files == 1
    assert not folder.exists()


def test_a_plan_counts_and_changes_nothing(site: Site) -> None:
    with site.store.read() as conn:
        before = every_row(conn, OURS)
    plan = erasures.plan(site.store, OURS)
    assert (plan.counts["tasks"], plan.counts["agent_tags"], plan.persons) == (3, 3, 1)
    assert set(plan.counts) | {"members"} == {
        name for name in before if name not in ("users", "config_versions", "outbox")
        and RULES[name].column != "user_id"
    }  # fmt: skip
    with site.store.read() as conn:
        assert every_row(conn, OURS) == before


def test_the_operators_own_organisation_stays(site: Site) -> None:
    with pytest.raises(Conflict, match="cannot be erased"), site.store.begin() as tx:
        erasures.begin(tx, OPERATORS)


def test_a_run_without_a_caller_is_refused_once_the_organisation_is_closed(clock: Clockwork) -> None:
    pruning.run(clock)
    clock.transact(lambda tx: erasures.begin(tx, clock.org))
    with clock.begin() as tx:
        ref = agents.resolve(tx.scope(clock.org), "@test/echo").ref
        (answer,) = submissions.submit(tx, [RunSpec(uuid7(), clock.org, ref, "child", {"message": "x"})])
    assert isinstance(answer, Forbidden)
    assert answer.code == "organisation_erased"
    assert len(pruning.left(clock)) == 1


def test_what_runs_is_stopped_and_its_callbacks_are_not_sent(clock: Clockwork, home: Path) -> None:
    called = CallbackTo("https://example.com/hook", None)
    running = pruning.run(clock, None, callback=called)
    deliveries = []

    def note(what: str, count: int) -> None:
        with clock.store.read() as conn:
            deliveries.append(conn.execute(select(func.count()).select_from(Delivery)).scalar_one())

    with clock.store.read() as conn:
        assert conn.execute(select(func.count()).select_from(Delivery)).scalar_one() == 0
    given = (clock.store, Settings(home=home), clock.org, OPERATOR, note)
    done = erasures.erase(*given, wait=0.0, settle=0.0)
    assert done.stopped == 1
    assert set(deliveries) == {0}, "of the stop there is none either"
    assert running not in pruning.left(clock)
