"""Administration by a server's API, with an API key: the key's role and organisation decide what is possible."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from runyard import Client
from runyard_common.identity.rules.roles import Role
from runyard_launch.administration import DEFAULT, Row, instant
from runyard_launch.problems import CommandFailed
from runyard_launch.remote import ask

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
