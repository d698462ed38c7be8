"""The nara front: administrators only, and errors as its clients read them."""

from __future__ import annotations

from typing import Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.access.auth import Principal
from runyard_api.http import errors
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Described, Front, by_bearer_or_cookie
from runyard_common.identity.rules.roles import Role
from runyard_common.values.errors import Forbidden, RunyardError
from runyard_common.values.models import Model

#: What this contract calls what other fronts call otherwise.
_FIELDS: Final = {"agent": "agentName"}


class NaraFailure(Model):
    """A refusal or a failure."""

    success: bool = Field(False, description="Always false.")
    error: str = Field(description="What is wrong.")
    code: str = Field(description="Stable: what programs branch on.")
    field: str | None = Field(None, description="Which part of the request.")
    taskId: str | None = Field(None, description="The run, where there is one.")  # noqa: N815


async def by_admin(call: Call) -> Principal:
    """Who calls; `Forbidden` admin_required unless an administrator of the organisation calls."""
    who = await by_bearer_or_cookie(call)
    if who.role not in (Role.OWNER, Role.ADMIN):
        raise Forbidden(
            f"Running agents here needs the role admin; these credentials have {who.role}.",
            code="admin_required",
        )
    return who


def render(_call: Call, error: RunyardError) -> Response:
    body = {"success": False, "error": error.message, "code": error.code}
    if error.field is not None:
        body["field"] = _FIELDS.get(error.field, error.field)
    if "errors" in error.details:
        body["errors"] = error.details["errors"]
    if "task_id" in error.details:
        body["taskId"] = error.details["task_id"]
    return reply(body, error.status, errors.headers(error))


#: What documents show: the group, and examples that a test sends to a server.
_DESCRIBED: Final = Described(
    tags={"nara": "The API of Nara: run a functional agent and wait for its result."},
    examples={"NaraRunBody": {"agentName": "writer", "args": {"topic": "sales in January"}}},
)
NARA = Front("nara", ("/api/agent",), render, by_admin, slashes=True, error=NaraFailure, described=_DESCRIBED)
