"""Signing in to the console with the one-time link that `runyard up` and `runyard console` print."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address

from pydantic import Field
from starlette.responses import Response

from runyard_api.access import cookies
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, when
from runyard_api.native.identity import sign_in
from runyard_api.native.schemas import RoleName
from runyard_common.identity.service import sign_in_links
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values.errors import Forbidden

routes = NativeRoutes("sign-in")


class SignInLinkBody(Strict):
    """The link's token."""

    token: str = Field(min_length=1, max_length=200)


class SignInLinkKey(schemas.Shape):
    """An API key for the console, which ends by itself."""

    key: str
    role: RoleName
    expires_at: str


@routes.post(
    "/login/link",
    None,
    body=SignInLinkBody,
    answers=[Answer(200, "The key, shown only here.", SignInLinkKey)],
    errors=(403, 404, 409),
)
async def sign_in_by_link(call: Call) -> Response:
    """Use a one-time link of the server's own machine.

    It works once, within ten minutes, and from that machine alone (403 `not_this_machine`). The key it gives has the
    role of the admin key and lasts twelve hours.
    """
    state = call.state
    cookies.check_same_site(call.method, call.headers, state.settings)
    if not _of_this_machine(call):
        raise Forbidden(
            "Sign-in links work on the server's own machine: sign in with a password or a key.",
            code="not_this_machine",
        )
    body = await call.json(SignInLinkBody)
    await asyncio.to_thread(sign_in_links.use, state.settings.home, body.token, time.time())
    origin = sign_in.origin_of(call)
    data = {"address": origin.address, "agent": origin.agent}
    made, ends = await state.write(sign_in_links.open_session, state.org_id, data)
    return reply({"key": made.key, "role": made.row.role, "expires_at": when(ends)})


def _of_this_machine(call: Call) -> bool:
    """Whether the caller's address is a loopback one, or the one that it called."""
    host, server = call.address, call.scope.get("server") or ("", 0)
    try:
        return ip_address(host).is_loopback or host == server[0]
    except ValueError:
        return False
