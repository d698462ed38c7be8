"""Keys and members, by the database of this machine's installation or by a server's API, whichever is meant.

A server is meant by `--url`, `--key-file`, RUNYARD_URL or a profile (see `runyard_launch.target`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from runyard_common.identity.rules.roles import Role

DEFAULT: str = "default"
Org = Annotated[
    str,
    typer.Option(
        "--org",
        help="The organisation, by id or name, of this machine's installation; a server acts for the key's own.",
    ),
]
Row = dict[str, Any]


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
    from runyard_launch import target

    if url or key_file or target.remote() is not None:
        from runyard_launch.administration_http import HttpAdministration
        from runyard_launch.remote import connected

        with connected(url, key_file) as client:
            yield HttpAdministration(client, org)
    else:
        from runyard_launch.administration_database import DatabaseAdministration
        from runyard_launch.installation import opened, organisation

        with opened() as (store, settings):
            yield DatabaseAdministration(store, settings, organisation(store, org)["id"])


def instant(at: float | None) -> str | None:
    """A time as lists show it: RFC 3339 in UTC, to the second."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
