"""The second factor of a person: an authenticator's codes with the password, and recovery codes."""

from __future__ import annotations

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.cookies import SignedIn
from runyard_api.access.sign_in_attempts import Attempt
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, when
from runyard_api.native.identity import sign_in
from runyard_api.native.identity.account import ACCOUNT, signed_in
from runyard_common.identity.queries import members, second_factors
from runyard_common.identity.rules import one_time_codes
from runyard_common.identity.service import second_factors as service
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values.errors import Unauthorized

routes = NativeRoutes("sign-in")
PATH = "/me/second-factor"


class SecondFactorView(schemas.Shape):
    """Whether a person has a second factor."""

    enrolled: bool
    enrolled_at: str | None
    recovery_codes_left: int


class PasswordProof(Strict):
    """The password, to show that the person themselves asks."""

    password: str = Field(max_length=1024)


class BothProofs(PasswordProof):
    """Password and code."""

    code: str = Field(max_length=64, description="Of the authenticator, or a recovery code.")


class CodeProof(Strict):
    """A code."""

    code: str = Field(max_length=64, description="Six digits of the authenticator.")


class Enrolment(schemas.Shape):
    """A secret for an authenticator, shown once. It counts once it is confirmed."""

    secret: str
    uri: str = Field(description="otpauth://…, which authenticators read.")
    qr: str = Field(description="The same as an image: a data: address.")


class RecoveryCodeList(schemas.Shape):
    """Recovery codes, shown once: each replaces the authenticator once."""

    recovery_codes: list[str]


@routes.get(
    PATH,
    "account:read",
    front=ACCOUNT,
    answers=[Answer(200, "Your second factor.", SecondFactorView)],
)
async def get_second_factor(call: Call) -> Response:
    """Read whether you have a second factor, and how many recovery codes are left. A key or token has none."""
    person, reader = await signed_in(call), call.state.reader
    if person is None:
        return reply({"enrolled": False, "enrolled_at": None, "recovery_codes_left": 0})
    found = await reader.one(lambda conn: second_factors.get(conn, person.user_id))
    left = await reader.one(lambda conn: second_factors.recovery_codes(conn, person.user_id))
    since = found.confirmed_at if found else None
    return reply(
        {"enrolled": since is not None, "enrolled_at": since and when(since), "recovery_codes_left": left}
    )


@routes.post(
    PATH,
    "account:write",
    front=ACCOUNT,
    body=PasswordProof,
    answers=[Answer(201, "A secret to give to an authenticator; confirm it with a code.", Enrolment)],
    errors=(409, 429),
)
async def enrol_second_factor(call: Call) -> Response:
    """Begin with a second factor. Nothing changes until POST /me/second-factor/confirm."""
    import segno

    body = await call.json(PasswordProof)
    person = await _person(call)
    await _check_password(call, person, body.password)
    secret = await call.state.write(service.enrol, person.user_id, call.state.sealer)
    uri = one_time_codes.uri(secret, person.email)
    qr = segno.make(uri, error="m").svg_data_uri(scale=4, light="white")
    return reply({"secret": secret, "uri": uri, "qr": qr}, 201)


@routes.post(
    f"{PATH}/confirm",
    "account:write",
    front=ACCOUNT,
    body=CodeProof,
    answers=[
        Answer(200, "Sign-ins need a code from now on; every other one of yours has ended.", RecoveryCodeList)
    ],
    errors=(409, 429),
)
async def confirm_second_factor(call: Call) -> Response:
    """Confirm the second factor with a code of the authenticator. Keep the recovery codes: they are shown once."""
    body = await call.json(CodeProof)
    person = await _person(call)
    attempt = Attempt.of_sign_in(person.token_hash)
    await call.state.sign_ins.check(attempt)
    codes = await call.state.write(
        service.confirm, person.user_id, body.code, call.state.sealer, person.token_hash, call.actor
    )
    if codes is None:
        await _refuse_code(call, person, attempt)
    await call.state.sign_ins.succeeded(attempt)
    call.state.cookies.forget_all()
    return reply({"recovery_codes": codes})


@routes.post(
    f"{PATH}/recovery-codes",
    "account:write",
    front=ACCOUNT,
    body=BothProofs,
    answers=[Answer(200, "New recovery codes; the earlier ones count no longer.", RecoveryCodeList)],
    errors=(429,),
)
async def renew_recovery_codes(call: Call) -> Response:
    """Make new recovery codes."""
    person = await _proved(call, await call.json(BothProofs))
    codes = await call.state.write(service.renew_recovery_codes, person.user_id, call.actor)
    return reply({"recovery_codes": codes})


@routes.post(
    f"{PATH}/remove",
    "account:write",
    front=ACCOUNT,
    body=BothProofs,
    answers=[Answer(204, "The password alone counts from now on.")],
    errors=(429,),
)
async def remove_second_factor(call: Call) -> Response:
    """Take your second factor away. Organisations that require one are closed to you from then on."""
    person = await _proved(call, await call.json(BothProofs))
    await call.state.write(service.remove, person.user_id, call.actor)
    call.state.cookies.forget_all()
    return Response(status_code=204)


async def _person(call: Call) -> SignedIn:
    person = await signed_in(call)
    assert person is not None
    return person


async def _proved(call: Call, body: BothProofs) -> SignedIn:
    """The person, who has given password and code. Errors: `Unauthorized` wrong_password, wrong_code."""
    person = await _person(call)
    await _check_password(call, person, body.password)
    attempt = Attempt.of_sign_in(person.token_hash)
    if await call.state.write(service.use, person.user_id, body.code, call.state.sealer) is None:
        await _refuse_code(call, person, attempt)
    await call.state.sign_ins.succeeded(attempt)
    return person


async def _check_password(call: Call, person: SignedIn, password: str) -> None:
    kept = await call.state.reader.one(lambda conn: members.person(conn, person.user_id))
    if kept is not None and kept.password_hash is None:
        return  # single sign-on alone opens the account
    attempt = Attempt.of_sign_in(person.token_hash)
    if not await sign_in.matches(call, attempt, password, kept.password_hash if kept else None):
        await sign_in.note_failure(
            call, attempt, person.email, kept.id if kept else None, "wrong_present_password"
        )
        raise Unauthorized("The password is wrong.", code="wrong_password", field="password")


async def _refuse_code(call: Call, person: SignedIn, attempt: Attempt) -> None:
    await call.state.sign_ins.failed(attempt)
    await sign_in.note_failure(call, attempt, person.email, person.user_id, "wrong_code")
    raise sign_in.wrong_code()
