"""The nugen front: errors as its clients read them."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.http import errors
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Described, Front
from runyard_common.values.errors import RunyardError
from runyard_common.values.models import Model

#: Refusals of a request's shape: 422 with a list. All other bad requests are 400 with a text.
_SHAPE: Final = {
    "missing_field": "missing",
    "invalid_field": "value_error",
    "bad_json": "json_invalid",
    "not_an_object": "dict_type",
    "missing_input": "missing",
    "unknown_parameter": "extra_forbidden",
    "duplicate_parameter": "value_error",
    "duplicate_field": "value_error",
    "nul_character": "value_error",
    "too_deep": "value_error",
    "too_many_values": "too_long",
}
#: What the contract counts among bad requests.
_UNFIT: Final = frozenset({"name_taken", "agent_is_code"})
_PART: Final = re.compile(r"[^.\[\]]+")
SESSION_HEADER: Final = "X-Session-ID"


class NugenDefect(Model):
    """One thing that is wrong with the request."""

    loc: list[str | int] = Field(description="Where: body, query or header, then the path to it.")
    msg: str
    type: str


class NugenFailure(Model):
    """A refusal or a failure."""

    detail: str | list[NugenDefect]
    code: str | None = Field(None, description="Stable: what programs branch on.")
    task_id: str | None = Field(None, description="The run, where there is one.")


def render(call: Call, error: RunyardError) -> Response:
    if error.status == 400 and error.code in _SHAPE:
        return reply({"detail": _defects(call, error)}, 422, errors.headers(error))
    body: dict[str, Any] = {"detail": error.message, "code": error.code}
    if "task_id" in error.details:
        body["task_id"] = error.details["task_id"]
    return reply(body, 400 if error.code in _UNFIT else error.status, errors.headers(error))


def _defects(call: Call, error: RunyardError) -> list[dict[str, Any]]:
    own = {"field": error.field or "", "code": error.code, "message": error.message}
    return [
        {
            "loc": _location(call, one["field"]),
            "msg": one["message"],
            "type": _SHAPE.get(one["code"], "value_error"),
        }
        for one in error.details.get("errors") or [own]
    ]


def _location(call: Call, field: str) -> list[str | int]:
    if field == SESSION_HEADER:
        return ["header", field]
    path: list[str | int] = [int(part) if part.isdigit() else part for part in _PART.findall(field)]
    where = "query" if call.method == "GET" else "body"
    return path if path[:1] == [where] else [where, *path]


#: What documents show: the group, and examples that a test sends to a server.
_DESCRIBED: Final = Described(
    tags={"nugen": "The API of Nugen: make agents, and run them and wait."},
    examples={
        "NugenChangeBody": {"agent_description": "Writes short reports.", "temperature": 0.2},
        "NugenCreateBody": {
            "agent_name": "report writer",
            "agent_description": "Writes reports.",
            "model": "openai:gpt-5-mini",
            "instructions": "You write short reports.",
        },
        "NugenRunBody": {"message": "Summarise the report in three sentences."},
    },
)
NUGEN = Front("nugen", ("/api/v3/agents",), render, slashes=True, error=NugenFailure, described=_DESCRIBED)
