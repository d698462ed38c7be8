"""Persons: what there is of one, in an archive; and the erasure of their account and of their name elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity, members
from runyard_common.identity.queries.members import PersonRow
from runyard_common.identity.rules import emails
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service.identity import DEFAULT
from runyard_common.privacy.queries import naming, removal
from runyard_common.privacy.queries.removal import Remover
from runyard_common.privacy.rules import marks
from runyard_common.privacy.service import archives
from runyard_common.privacy.service.exports import Exported, manifest
from runyard_common.settings import Settings
from runyard_common.values.errors import Conflict, NotFound

Progress = Callable[[str, int], None]
#: The action of the entry in the audit log that stays.
ERASED = "user.erase"


class AccountNotFound(NotFound):
    """No person has this address."""

    code = "account_not_found"


@dataclass(slots=True)
class Erased:
    """What went of a person: rows by table, and rows that have a neutral mark in their place now."""

    counts: dict[str, int] = field(default_factory=dict)
    marked: int = 0


def named(conn: Connection, email: str) -> PersonRow:
    """The person of this address; `AccountNotFound`."""
    found = members.person_by_email(conn, emails.normalised(email))
    if found is None:
        raise AccountNotFound(f"There is no account for {email}.", field="email")
    return found


def export(db: Database, settings: Settings, email: str, target: Path, progress: Progress) -> Exported:
    """Write what there is of a person: the account, and every row that names them as who did it.

    Errors: `AccountNotFound`, and those of `archives.made`.
    """
    done = Exported()
    with archives.made(target) as archive, db.snapshot() as conn:
        person = named(conn, email)
        at = db.now(conn)
        for name in naming.tables():
            found = naming.rows(conn, name, person.id, person.email)
            done.counts[name] = archive.lines(name, found, _counting(progress, name))
        subject = {"person": {"id": person.id, "email": person.email, "name": person.name}}
        archive.end(manifest(settings, subject, at, done))
    return done


def _counting(progress: Progress, name: str) -> Callable[[int], None]:
    return lambda count: progress(name, count)


def only_here(conn: Connection, org_id: str, user_ids: list[str]) -> list[str]:
    """Those of these members of an organisation that belong to no other."""
    if not user_ids:
        return []
    elsewhere = removal.members_elsewhere(conn, org_id, user_ids)
    return [user_id for user_id in user_ids if user_id not in elsewhere]


def check_may_go(conn: Connection, user_id: str) -> None:
    """`Conflict` last_owner while an organisation has no other owner: it would be out of anyone's hands."""
    sole = [
        place.name
        for place in members.organisations_of(conn, user_id)
        if place.role == Role.OWNER and members.owners(conn, place.id) == 1
    ]
    if sole:
        raise Conflict(
            f"This person is the last owner of {', '.join(sole)}. Make another member an owner first, or erase it.",
            code="last_owner",
            field="email",
        )


def erase(store: Store, email: str, actor: str, progress: Progress) -> Erased:
    """Delete a person's account and places; a neutral mark takes their place as who did something.

    Ended at any point it goes on when begun again: the account is deleted last. It is audited as `actor` with the
    operator. Errors: `AccountNotFound`, `Conflict` last_owner.
    """
    with store.begin() as tx:
        person = named(tx.conn, email)
        check_may_go(tx.conn, person.id)
        naming.shut_out(tx, [person.id], [person.email])
        naming.forget_places(tx, [person.id])
    remover = Remover(store, progress)
    done = Erased(remover.counts)
    done.marked = naming.mark_all(remover, naming.Persons.of([person]))
    erase_many(store, remover, [person.id], marked=True)
    with store.begin() as tx:
        operators = identity.organisation_named(tx.conn, DEFAULT)
        if operators is not None:
            identity.audit(tx, operators.id, actor, ERASED, marks.ERASED, {"marked": done.marked})
    return done


def erase_many(store: Store, remover: Remover, user_ids: Collection[str], marked: bool = False) -> None:
    """Delete these persons' accounts with all that is theirs; the accounts last."""
    if not user_ids:
        return
    ids = sorted(user_ids)
    with store.begin() as tx:
        persons = [found for user_id in ids if (found := members.person(tx.conn, user_id)) is not None]
        naming.shut_out(tx, ids, [person.email for person in persons])
    if not marked:
        naming.mark_all(remover, naming.Persons.of(persons))
    for name in naming.of_persons():
        remover.rows(name, naming.condition(name, ids))
