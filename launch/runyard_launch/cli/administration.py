"""Keys and members, by the database of this machine's installation or by a server's API, whichever is meant.

A server is meant by `--url`, `--key-file`, RUNYARD_URL or a profile (see `runyard_launch.cli.remote`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from urllib.parse import quote

import typer

from runyard_common.identity.rules.roles import Role
from runyard_launch.cli.remote import ask, connected, is_remote
from runyard_launch.cli.terminal import Row, instant
from runyard_launch.problems import CommandFailed

if TYPE_CHECKING:
    from runyard import Client

DEFAULT: str = "default"
Org = Annotated[
    str,
    typer.Option(
        "--org",
        help="The organisation, by id or name, of this machine's installation; a server acts for the key's own.",
    ),
]


class Administration(Protocol):
    """What the commands need. Rows have the fields of the commands' JSON; times are RFC 3339 texts."""

    def create_key(self, name: str, role: Role, scopes: list[str] | None, days: float | None) -> Row:
        """Make a key; its text is in `key`."""

    def keys(self, revoked: bool) -> list[Row]:
        """List keys, also revoked ones if wanted."""

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key."""

    def invite(self, email: str, role: Role) -> Row:
        """Invite a person; the `link` works once."""

    def members(self) -> list[Row]:
        """List the members, then the invitations that wait."""


@contextmanager
def administered(url: str, key_file: Path | None, org: str = DEFAULT) -> Iterator[Administration]:
    """The administration of an organisation. What goes wrong inside is a `CommandFailed`."""
    if is_remote(url, key_file):
        with connected(url, key_file) as client:
            yield HttpAdministration(client, org)
    else:
        from runyard_launch.cli.installation import DatabaseAdministration, opened, organisation

        with opened() as (store, settings):
            yield DatabaseAdministration(store, settings, organisation(store, org).id)


_PAGE = 100


class HttpAdministration:
    """The organisation of the client's key."""

    def __init__(self, client: Client, org: str = DEFAULT) -> None:
        if org != DEFAULT:
            raise CommandFailed(
                "A server acts for the organisation of the key that it is sent: leave --org out, and use a key of "
                "that organisation.",
                "invalid_usage",
                2,
                field="org",
            )
        self._client = client

    def create_key(self, name: str, role: Role, scopes: list[str] | None, days: float | None) -> Row:
        """Make a key, which reaches no further than the client's."""
        expires = instant(time.time() + days * 86_400) if days is not None else None
        body = {"name": name, "role": role.value, "scopes": scopes, "expires_at": expires}
        made = ask(self._client, "POST", "/keys", body)
        return {"id": made["id"], "role": made["role"], "key": made["key"]}

    def keys(self, revoked: bool) -> list[Row]:
        """All keys that are not revoked, newest first."""
        if revoked:
            raise CommandFailed(
                "A server lists the keys that are valid: leave --revoked out, or run it on the server's machine.",
                "invalid_usage",
                2,
                field="revoked",
            )
        return [
            row | {"scopes": "all" if row["scopes"] is None else row["scopes"], "revoked_at": None}
            for row in self._pages("/keys")
        ]

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key."""
        ask(self._client, "DELETE", f"/keys/{quote(key_id, safe='')}")

    def invite(self, email: str, role: Role) -> Row:
        """Invite a person."""
        made = ask(self._client, "POST", "/invitations", {"email": email, "role": role.value})
        return {name: made[name] for name in ("id", "email", "role", "link")}

    def members(self) -> list[Row]:
        """Members, then invitations."""
        joined = [
            {
                "user_id": row["id"],
                "email": row["email"],
                "name": row["name"],
                "role": row["role"],
                "since": row["created_at"],
                "state": "member",
            }
            for row in self._pages("/members")
        ]
        invited = ask(self._client, "GET", "/invitations")["data"]
        return joined + [
            {
                "user_id": None,
                "email": row["email"],
                "name": "",
                "role": row["role"],
                "since": row["created_at"],
                "state": "invited",
            }
            for row in invited
        ]

    def _pages(self, path: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = ask(self._client, "GET", path, limit=_PAGE, cursor=cursor)
            rows += page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return rows
