"""Members for tests: accounts of an organisation, signed in by cookie without the price of hashing a password."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from runyard_common.identity.queries import identity, members
from runyard_common.identity.rules import passwords
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity as keys
from runyard_common.identity.service import logins
from runyard_common.identity.service.identity import KeyRequest
from runyard_common.identity.service.logins import SignIn
from tests import documented
from tests.api_server import Api

#: A password at a cost that tests can pay (2^4 rounds), and what is kept of it.
PASSWORD = "as good as any other"
KEPT = "scrypt$4$8$1$c2FsdHNhbHRzYWx0c2FsdA==$PlZ24mx995TMMwgoarXfilS/Xi7jUya6LLv/pimoBzk="


def hash_cheaply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let new hashes cost what `KEPT` does, for tests that sign in often: else the first sign-in renews it."""
    monkeypatch.setattr(passwords, "_LOG_N", 4)
    monkeypatch.setattr(passwords, "_P", 1)


def organisation(api: Api, name: str = "other") -> str:
    """A new organisation; its id."""
    with api.state.store.begin() as tx:
        return identity.insert_organisation(tx, name)


def person(api: Api, email: str, *places: tuple[str, Role], kept: str = KEPT) -> str:
    """An account with these places (organisation id and role); its id."""
    with api.state.store.begin() as tx:
        user_id = members.insert_person(tx, email, email.partition("@")[0], kept)
        for org_id, role in places:
            members.add(tx, org_id, user_id, role.value)
    return user_id


def key(api: Api, org_id: str, role: Role = Role.ADMIN, scopes: list[str] | None = None) -> str:
    """A key of an organisation."""
    with api.state.store.begin() as tx:
        return keys.create_key(tx, org_id, KeyRequest("k", role, scopes), "system", Role.OWNER).key


def sign_in(api: Api, user_id: str) -> SignIn:
    """A sign-in of a person."""
    with api.state.store.begin() as tx:
        found = members.person(tx.conn, user_id)
        assert found is not None
        return logins.begin(tx, user_id, found.password_hash)


def browser(api: Api, user_id: str, org_id: str | None = None, **headers: str) -> httpx2.Client:
    """A client with the cookie of a sign-in and its CSRF token, working for one organisation."""
    made = sign_in(api, user_id)
    given: dict[str, Any] = {"x-csrf-token": made.csrf, "cookie": f"runyard_session={made.token}"}
    if org_id is not None:
        given["x-org-id"] = org_id
    hooks = {"response": [documented.hook]}
    return httpx2.Client(base_url=api.url, headers=given | headers, timeout=30, event_hooks=hooks)
