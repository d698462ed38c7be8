"""Checking a person's password: with pauses after failures, at the same speed for unknown people, and audited."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import structlog
from sqlalchemy import Connection
from starlette.responses import Response

from runyard_api.access import cookies, devices
from runyard_api.access.sign_in_attempts import Attempt
from runyard_api.http.call import Call
from runyard_common.identity.queries import members, second_factors
from runyard_common.identity.queries.members import PersonRow
from runyard_common.identity.rules import passwords
from runyard_common.identity.service import logins as service
from runyard_common.identity.service import second_factors as factors
from runyard_common.identity.service.logins import Origin, SignIn
from runyard_common.values.errors import RunyardError, Unauthorized
from runyard_common.values.networks import network_of, shown

log = structlog.get_logger()
FRONT: Final = "native"


@dataclass(frozen=True, slots=True)
class Proved:
    """A person who has proved who they are: their row, and the id of their device when it was known before.

    `factor` is how the code of their second factor was known; None for who has none.
    """

    person: PersonRow
    device: str | None
    attempt: Attempt
    factor: str | None = None


def origin_of(call: Call) -> Origin:
    """Where the call comes from, for records."""
    return Origin(shown(call.address), call.headers.get("user-agent", "")[:300], FRONT)


async def prove(call: Call, email: str, password: str, code: str | None, refusal: RunyardError) -> Proved:
    """The person of this address, whose password this is; else `refusal`, with the failure counted and audited.

    Errors also: `TooManyRequests` too_many_sign_ins, `Unauthorized` second_factor_needed or wrong_code.
    """
    state, token = call.state, devices.token_of(call.headers)
    attempt, device = Attempt.of(email, call.address), None
    if token is None:
        await state.sign_ins.check(attempt)
    person, factor = await state.reader.one(lambda conn: _person(conn, email))
    if (known := devices.known(token, state.sealer, person, state.now())) is not None:
        own = Attempt.of(email, call.address, known)
        if not await state.sign_ins.is_paused(own):  # one that failed too often is as good as unknown
            attempt, device = own, known
    if not await matches(call, attempt, password, person.password_hash if person else None):
        await note_failure(call, attempt, email, person.id if person else None, "wrong_password")
        raise refusal
    assert person is not None
    proved = Proved(person, device, attempt)
    return replace(proved, factor=await _code_of(call, proved, code)) if factor else proved


def _person(conn: Connection, email: str) -> tuple[PersonRow | None, bool]:
    """The person of an address, and whether they have a second factor."""
    person = members.person_by_email(conn, email)
    factor = second_factors.get(conn, person.id if person else "")  # asked for unknown people too
    return person, factor is not None and factor.confirmed_at is not None


async def _code_of(call: Call, proved: Proved, code: str | None) -> str:
    """How the code was known. The password alone clears no count, so that it buys no further guesses of codes."""
    if not code:
        raise Unauthorized(
            "Send the code of your second factor in `code`, or a recovery code.",
            code="second_factor_needed",
            field="code",
        )
    async with call.state.codes:
        await call.state.sign_ins.check(proved.attempt)
        known = await call.state.write(factors.use, proved.person.id, code, call.state.sealer)
        if known is None:
            await call.state.sign_ins.failed(proved.attempt)
    if known is None:
        await note_failure(call, proved.attempt, proved.person.email, proved.person.id, "wrong_code")
        raise wrong_code()
    return known


async def matches(call: Call, attempt: Attempt, password: str, kept: str | None) -> bool:
    """Whether the password is the one kept; `TooManyRequests` too_many_sign_ins.

    Asked again once it is this call's turn: of many attempts sent at once only the free ones are tried.
    """
    await call.state.sign_ins.check(attempt)
    async with call.state.hashing.slot(_network(call), attempt.whose):
        await call.state.sign_ins.check(attempt)
        right: bool = await call.state.in_thread(passwords.matches, password, kept)
        if not right:
            await call.state.sign_ins.failed(attempt)
    return right


async def note_failure(call: Call, attempt: Attempt, email: str, user_id: str | None, cause: str) -> None:
    """Audit a failed attempt. Known and unknown people cost the same: one transaction."""
    state, origin = call.state, origin_of(call)
    pause = await state.sign_ins.pause_s(attempt)
    log.warning(
        "A sign-in failed.", action="sign_in", cause=cause, address=origin.address, known=user_id is not None,
        person=user_id, pause_s=round(pause),
    )  # fmt: skip
    noted = user_id is not None or await state.sign_ins.notes_unknown()
    await state.write(service.note_failure, state.org_id, user_id, email, cause, origin, noted)


async def begin(call: Call, proved: Proved, password: str) -> SignIn:
    kept = proved.person.password_hash
    outdated = kept is not None and passwords.outdated(kept)
    fresh = await hash_password(call, password) if outdated else None
    made = await call.state.write(
        service.begin, proved.person.id, kept, fresh, origin_of(call), proved.factor
    )
    await succeeded(call, proved)
    return made


async def succeeded(call: Call, proved: Proved) -> None:
    """Forget earlier failures of the person from here."""
    await call.state.sign_ins.succeeded(proved.attempt)
    origin = origin_of(call)
    log.info(
        "A person signed in.", action="sign_in", person=proved.person.id, address=origin.address,
        known_device=proved.device is not None,
    )  # fmt: skip


async def remember_device(call: Call, response: Response, user_id: str, device: str | None) -> None:
    """Let the browser keep that this person has signed in with it."""
    person = await call.state.reader.one(lambda conn: members.person(conn, user_id))
    if person is not None and person.password_hash is not None:
        secure = cookies.is_https(call.scope, call.state.settings)
        devices.give(response, call.state.sealer, person, device, call.state.now(), secure)


async def hash_password(call: Call, password: str) -> str:
    """What is kept of a password."""
    network = _network(call)
    async with call.state.hashing.slot(network, f"new:{network}"):
        return await call.state.in_thread(passwords.hashed, password)


async def check_new(call: Call, password: str, field: str, email: str, *about: str) -> None:
    """`InvalidRequest` weak_password for a new password that is easily guessed; see `passwords.check`."""
    network = _network(call)
    async with call.state.hashing.slot(network, f"new:{network}"):
        await call.state.in_thread(passwords.check, password, field, email, about)


def _network(call: Call) -> str:
    return network_of(call.address)


def wrong_password() -> Unauthorized:
    """The one answer to an unknown address and to a wrong password."""
    return Unauthorized("The e-mail address or the password is wrong.", code="wrong_password")


def wrong_code() -> Unauthorized:
    """The answer to a code that is wrong or was used before."""
    return Unauthorized(
        "The code is wrong, or was used before: wait for the authenticator's next one.",
        code="wrong_code",
        field="code",
    )
