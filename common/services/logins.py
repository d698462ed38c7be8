"""Sign-ins of people: a token told once to a cookie, kept as its hash, that lasts while it is used."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from common.domain.errors import Unauthorized
from common.services.identity import hash_of
from common.store import logins, members
from common.store.transaction import Tx

#: A sign-in ends after so long without a call, and at the latest so long after it began. Seconds.
IDLE: Final = 12 * 3600.0
LONGEST: Final = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in just made: the only time its token is known."""

    token: str
    csrf: str
    user_id: str


def begin(tx: Tx, user_id: str, seen_hash: str, new_hash: str | None = None) -> SignIn:
    """Sign in a person whose password matched `seen_hash`; `new_hash` replaces one made at an old cost.

    Error: `Unauthorized` wrong_password when the password was changed meanwhile.
    """
    person = members.person(tx.conn, user_id)
    if person is None or person["password_hash"] != seen_hash:
        raise Unauthorized("The password was changed meanwhile.", code="wrong_password")
    if new_hash is not None:
        members.set_password(tx, user_id, new_hash)
    made = SignIn(secrets.token_urlsafe(32), secrets.token_urlsafe(32), user_id)
    logins.add(
        tx,
        {
            "token_hash": hash_of(made.token),
            "user_id": user_id,
            "csrf": made.csrf,
            "expires_at": tx.now + IDLE,
        },
    )
    return made


def end(tx: Tx, token_hash: str) -> None:
    """Sign out."""
    logins.remove(tx, token_hash)


def change_password(tx: Tx, user_id: str, password_hash: str, keep: str | None = None) -> None:
    """Set a person's password; every sign-in but the one of the hash `keep` ends."""
    members.set_password(tx, user_id, password_hash)
    logins.remove_others(tx, user_id, keep)


def until(created_at: float, used_at: float) -> float:
    """When a sign-in that was used at an instant expires."""
    return min(used_at + IDLE, created_at + LONGEST)
