"""A person's archive and erasure: the account goes, and a neutral mark takes its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from sqlalchemy import func, insert, select, update

from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.actors import OPERATOR
from runyard_common.privacy.queries import naming, removal
from runyard_common.privacy.rules.marks import ERASED
from runyard_common.privacy.rules.ownership import RULES
from runyard_common.privacy.service import persons
from runyard_common.settings import Settings
from runyard_common.tables import metadata
from runyard_common.tables.query import ApiKey, Audit, Invitation, Member, Organisation, Task, TaskEvent, User
from runyard_common.values.errors import Conflict, NotFound
from tests import databases, owned_rows

OPERATORS, OURS, THEIRS = "operators-organisation", "our-organisation", "their-organisation"
EMAIL = "ann@example.com"
ANN = owned_rows.user_of(OURS)


@pytest.fixture
def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Ann is a member of two organisations, and is named in every column of theirs that names who did something."""
    monkeypatch.setattr(removal, "BREATH", 0.0)
    monkeypatch.setattr(naming, "_WINDOW", 10)
    db = databases.opened(database_url)
    with db.begin() as conn:
        for table in reversed(metadata.sorted_tables):
            conn.execute(table.delete())
        operators = {"id": OPERATORS, "name": "default", "created_at": 1.0, "weight": 1.0, "active": True}
        conn.execute(insert(Organisation), operators)
        owned_rows.fill(conn, OURS, rows=2)
        owned_rows.fill(conn, THEIRS, rows=2)
        conn.execute(update(User).where(User.id == ANN).values(email=EMAIL, name="Ann"))
        conn.execute(insert(Member), {"org_id": THEIRS, "user_id": ANN, "role": "owner", "created_at": 1.0})
        conn.execute(update(ApiKey).where(ApiKey.org_id == THEIRS).values(person_id=ANN, revoked_at=None))
        conn.execute(update(Invitation).where(Invitation.org_id == THEIRS).values(email=EMAIL))
        by = {"by": f"user:{ANN}", "reason": "enough"}
        conn.execute(update(TaskEvent).where(TaskEvent.task_id.contains(THEIRS)).values(data=by))
        for name, rule in RULES.items():
            table = metadata.tables[name]
            for column in rule.by:
                conn.execute(update(table).where(table.c.org_id == THEIRS).values({column: f"user:{ANN}"}))
    store = Store(db)
    with store.begin() as tx:
        data = {"email": EMAIL, "address": "192.0.2.7", "second_factor": None}
        identity.audit(tx, THEIRS, "anonymous", "sign_in.fail", ANN, data)
        identity.audit(
            tx, THEIRS, OPERATOR, "member.invite", "an-invitation", {"email": EMAIL, "role": "viewer"}
        )
    yield store
    db.close()


def owned_by_another(store: Store) -> None:
    with store.begin() as tx:
        for org in (OURS, THEIRS):
            owner = {"org_id": org, "user_id": f"owner-of-{org}", "role": "owner", "created_at": 1.0}
            tx.conn.execute(insert(Member), owner)


def everything(store: Store) -> str:
    with store.read() as conn:
        return "\n".join(
            f"{name}: {tuple(row)!r}"
            for name, table in metadata.tables.items()
            for row in conn.execute(select(table))
        )


def no_progress(what: str, count: int) -> None:
    """Ignored."""


def test_an_erased_person_is_named_nowhere_and_what_they_did_stays(store: Store) -> None:
    owned_by_another(store)
    done = persons.erase(store, EMAIL.upper(), OPERATOR, no_progress)
    left = everything(store)
    for trace in (ANN, EMAIL, "192.0.2.7"):
        assert trace not in left
    assert "enough" in left
    with store.read() as conn:
        assert set(conn.execute(select(Task.created_by).where(Task.org_id == THEIRS)).scalars()) == {ERASED}
        assert conn.execute(select(func.count()).select_from(Task)).scalar_one() == 4
        keys = conn.execute(select(ApiKey.name, ApiKey.revoked_at).where(ApiKey.org_id == THEIRS)).all()
        entry = conn.execute(select(Audit.__table__).where(Audit.action == "user.erase")).one()
    assert all(name == ERASED and revoked is not None for name, revoked in keys)
    assert (entry.org_id, entry.actor, entry.object_id) == (OPERATORS, "operator", ERASED)
    assert done.marked > 10
    with pytest.raises(NotFound, match="no account"):
        persons.erase(store, EMAIL, OPERATOR, no_progress)


def test_a_killed_erasure_of_a_person_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    owned_by_another(store)

    class Killed(BaseException):
        pass

    def kill() -> list[str]:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(naming, "of_persons", kill)
        with pytest.raises(Killed):
            persons.erase(store, EMAIL, OPERATOR, no_progress)
    persons.erase(store, EMAIL, OPERATOR, no_progress)
    assert ANN not in everything(store)


def test_the_last_owner_of_an_organisation_stays_until_there_is_another(store: Store) -> None:
    with pytest.raises(Conflict, match="last owner of organisations-their"):
        persons.erase(store, EMAIL, OPERATOR, no_progress)
    assert EMAIL in everything(store)


def test_an_archive_of_a_person_has_the_account_and_what_they_did(store: Store, home: Path) -> None:
    made = persons.export(store.db, Settings(home=home), EMAIL, home / "ann.zip", no_progress)
    with ZipFile(home / "ann.zip") as archive:
        manifest: Any = json.loads(archive.read("manifest.json"))
        (account,) = map(json.loads, archive.read("users.jsonl").splitlines())
        every = b"".join(archive.read(name) for name in archive.namelist()).decode()
    assert manifest["person"] == {"id": ANN, "email": EMAIL, "name": "Ann"}
    assert "password_hash" not in account
    assert owned_rows.SECRET not in every
    assert owned_rows.user_of(THEIRS) not in every
    assert (made.counts["tasks"], made.counts["members"], made.counts["logins"]) == (2, 2, 1)
    assert made.counts["audit"] == 3, "two that name the person, one about them"
