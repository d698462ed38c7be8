"""Sign-ins of people: a token that only a cookie holds, kept as its hash, valid while it is used."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity, logins, members
from runyard_common.identity.queries.logins import LoginRow, Use
from runyard_common.identity.rules.actors import ANONYMOUS, Actor, person_of
from runyard_common.identity.service.identity import hash_of
from runyard_common.values.errors import NotFound, Unauthorized
from runyard_common.values.json_text import JsonObject

#: A sign-in ends after so long without a call, and at the latest so long after it began. Seconds.
IDLE: Final = 12 * 3600.0
LONGEST: Final = 30 * 86_400.0
#: Sign-ins that a person may have at once: one more ends the oldest.
MOST: Final = 100


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in just made: the only time its token is known."""

    token: str
    csrf: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a person signs in: address of the network (None: unknown), the browser's own name, and the front."""

    address: str | None
    agent: str
    front: str


def begin(
    tx: Tx,
    user_id: str,
    seen_hash: str | None,
    new_hash: str | None = None,
    origin: Origin | None = None,
    factor: str | None = None,
    method: str | None = None,
) -> SignIn:
    """Sign in a person whose password matched `seen_hash`; `new_hash` replaces one made at an old cost.

    `method` is how they signed in, None by password; `factor` the second factor that was used. It is audited in each
    of their organisations when its origin is known.
    Error: `Unauthorized` wrong_password when the password was changed meanwhile.
    """
    person = members.person(tx.conn, user_id)
    if person is None or person.password_hash != seen_hash:
        raise Unauthorized("The password was changed meanwhile.", code="wrong_password")
    if new_hash is not None:
        members.set_password(tx, user_id, new_hash)
    made = SignIn(secrets.token_urlsafe(32), secrets.token_urlsafe(32), user_id)
    logins.add(
        tx,
        LoginRow(
            token_hash=hash_of(made.token),
            user_id=user_id,
            csrf=made.csrf,
            created_at=tx.now,
            expires_at=tx.now + IDLE,
            last_used_at=tx.now,
            address=origin.address if origin else None,
            agent=origin.agent if origin else None,
            method=method,
        ),
    )
    logins.keep_newest(tx, user_id, MOST)
    if origin is not None:
        data = {"address": origin.address, "agent": origin.agent, "second_factor": factor}
        note(tx, user_id, Actor(f"user:{user_id}", origin.front), "sign_in.succeed", data)
    return made


def note(tx: Tx, user_id: str, actor: str, action: str, data: JsonObject) -> None:
    """Audit what concerns a person, in each of their organisations."""
    for place in members.organisations_of(tx.conn, user_id):
        identity.audit(tx, place.id, actor, action, user_id, data)


def note_failure(
    tx: Tx, operator_id: str, user_id: str | None, email: str, cause: str, origin: Origin, noted: bool
) -> None:
    """Audit a failed sign-in: in each organisation of the person, else in the operator's, if it is `noted`."""
    actor = Actor(ANONYMOUS, origin.front)
    data = {"email": email, "cause": cause, "address": origin.address, "agent": origin.agent}
    if user_id is not None:
        note(tx, user_id, actor, "sign_in.fail", data)
    elif noted:
        identity.audit(tx, operator_id, actor, "sign_in.fail", "", data)


def end(tx: Tx, token_hash: str, user_id: str, actor: str) -> None:
    """Sign out."""
    logins.remove(tx, token_hash)
    note(tx, user_id, actor, "sign_in.end", {})


def public_id(token_hash: str) -> str:
    """The id by which a sign-in is shown; it leads back to neither the token nor its hash."""
    return "si_" + hash_of(f"sign-in:{token_hash}")[:32]


def end_one(tx: Tx, user_id: str, id_: str, actor: str) -> None:
    """End a sign-in of a person by its public id; `NotFound` sign_in_not_found."""
    found = [row.token_hash for row in logins.of_person(tx.conn, user_id, tx.now)]
    token_hash = next((each for each in found if public_id(each) == id_), None)
    if token_hash is None:
        raise NotFound("There is no such sign-in of yours.", code="sign_in_not_found", field="sign_in_id")
    logins.remove(tx, token_hash)
    note(tx, user_id, actor, "sign_in.revoke", {"sign_in": id_})


def end_others(tx: Tx, user_id: str, keep: str, actor: str) -> None:
    """End every sign-in of a person but the one of the hash `keep`."""
    ended = logins.remove_others(tx, user_id, keep)
    if ended:
        note(tx, user_id, actor, "sign_in.revoke", {"others": ended})


def change_password(tx: Tx, user_id: str, password_hash: str, keep: str | None, actor: str) -> None:
    """Set a person's password; every sign-in but the one of the hash `keep` ends.

    One that another person than its owner chooses must be changed before it opens anything.
    """
    members.set_password(tx, user_id, password_hash, must_change=person_of(actor) != user_id)
    logins.remove_others(tx, user_id, keep)
    note(tx, user_id, actor, "member.set_password", {})


def used(created_at: float, at: float) -> Use:
    """A use of a sign-in at an instant: until when the sign-in lasts by that."""
    return Use(at, min(at + IDLE, created_at + LONGEST))
