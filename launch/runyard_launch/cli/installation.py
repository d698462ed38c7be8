"""The installation's own database: for commands that an operator, who needs no key, gives on its machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity, members
from runyard_common.identity.queries.identity import KeyRow, OrganisationRow
from runyard_common.identity.rules import emails
from runyard_common.identity.rules.actors import OPERATOR
from runyard_common.identity.rules.caps import Caps
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity as service
from runyard_common.identity.service import members as member_service
from runyard_common.identity.service.identity import KeyRequest
from runyard_common.identity.service.members import By
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError, RunyardError
from runyard_launch.cli.terminal import Row, instant
from runyard_launch.problems import CommandFailed, Outcome, refused
from runyard_launch.supervisor.preflight import read_settings


@contextmanager
def opened() -> Iterator[tuple[Store, Settings]]:
    """The store of these settings. What goes wrong inside is a `CommandFailed` or a `StartProblem`."""
    try:
        settings = read_settings()
        db = Database(settings.database)
        try:
            yield Store(db, caps=Caps.of(settings)), settings
        finally:
            db.close()
    except RunyardError as refusal:
        raise failure(refusal) from None
    except SQLAlchemyError as error:
        raise refused(
            f"The database does not answer, or has no tables (`runyard migrate`): {error.__class__.__name__}.",
            "database_unavailable",
            503,
        ) from None


def failure(error: RunyardError) -> CommandFailed:
    """The failure of a command that a service has refused: what a server's refusal of the same would be."""
    if isinstance(error, ConfigurationError):
        return CommandFailed(error.message, error.code, Outcome.REFUSED, field=error.field)
    return refused(error.message, error.code, error.status, field=error.field, retry_after=error.retry_after)


def organisation(store: Store, wanted: str) -> OrganisationRow:
    """The organisation of this id or name; `CommandFailed` where there is none."""
    with store.read() as conn:
        found = identity.organisation(conn, wanted) or identity.organisation_named(conn, wanted)
    if found is None:
        hint = " Start the api once: it makes the first." if wanted == service.DEFAULT else ""
        raise refused(
            f"There is no organisation {wanted!r}.{hint}", "organisation_not_found", 404, field="org"
        )
    return found


_KEY_FIELDS = ("id", "name", "prefix", "role", "created_by")
_KEY_TIMES = ("last_used_at", "expires_at", "revoked_at")


@dataclass(frozen=True)
class DatabaseAdministration:
    """One organisation of this installation."""

    store: Store
    settings: Settings
    org_id: str

    def create_key(self, name: str, role: Role, scopes: list[str] | None, days: float | None) -> Row:
        """Make a key that belongs to no person."""
        with self.store.begin() as tx:
            expires = tx.now + days * 86_400 if days is not None else None
            wanted = KeyRequest(name, role, scopes, expires)
            made = service.create_key(tx, self.org_id, wanted, OPERATOR, Role.OWNER)
        return {"id": made.id, "role": role.value, "key": made.key}

    def keys(self, revoked: bool) -> list[Row]:
        """All keys, newest first."""
        found: list[KeyRow] = []
        with self.store.read() as conn:
            scope = OrgScope(conn, self.org_id)
            while page := identity.keys(scope, 200, found[-1].id if found else None, with_revoked=revoked):
                found.extend(page)
        return [_key(row) for row in found]

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key."""
        with self.store.begin() as tx:
            service.revoke_key(tx, self.org_id, key_id, OPERATOR)

    def renew_admin_key(self, keep_old: bool) -> int:
        """Write a new admin key into the home; how many earlier ones were revoked."""
        with self.store.begin() as tx:
            old = [] if keep_old else _admin_keys(tx.scope(self.org_id))
            service.renew_admin_key(tx, self.org_id, self.settings.home)
            for key_id in old:
                service.revoke_key(tx, self.org_id, key_id, OPERATOR)
        return len(old)

    def invite(self, email: str, role: Role) -> Row:
        """Invite a person."""
        with self.store.begin() as tx:
            address = emails.normalised(email)
            made = member_service.invite(tx, self.org_id, address, role, By(OPERATOR, Role.OWNER))
        link = f"{self.settings.base_url}/console#/invitation/{made.token}"
        return {"id": made.row.id, "email": address, "role": role.value, "link": link}

    def members(self) -> list[Row]:
        """Members, then invitations."""
        with self.store.read() as conn:
            scope = OrgScope(conn, self.org_id)
            joined = members.members(scope, 10_000)
            invited = members.invitations(scope, self.store.db.now(conn))
        found = [
            {
                "user_id": row.user_id,
                "email": row.email,
                "name": row.name,
                "role": row.role,
                "since": instant(row.created_at),
                "state": "member",
            }
            for row in joined
        ]
        return found + [
            {
                "user_id": None,
                "email": row.email,
                "name": "",
                "role": row.role,
                "since": instant(row.created_at),
                "state": "invited",
            }
            for row in invited
        ]


def _key(row: KeyRow) -> Row:
    scopes = "all" if row.scopes is None else row.scopes
    times = {name: instant(getattr(row, name)) for name in _KEY_TIMES}
    return {name: getattr(row, name) for name in _KEY_FIELDS} | {"scopes": scopes} | times


def _admin_keys(scope: OrgScope) -> list[str]:
    """Keys that the installation made for its operator, by the first start or by `renew-admin`."""
    rows = identity.keys(scope, 10_000)
    return [row.id for row in rows if row.created_by == "system" and row.name == "admin"]
