"""The agentbase front: rate limits by organisation, errors as its clients read them, and when they may retry."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.http import errors
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Described, Front, H, Handler, Routes
from runyard_common.values.errors import PaymentRequired, RunyardError, TooManyRequests
from runyard_common.values.models import Model


class AgentbaseFailure(Model):
    """A refusal or a failure."""

    error: str = Field(description="What is wrong.")
    code: str = Field(description="Stable: what programs branch on.")
    field: str | None = Field(None, description="Which part of the request.")


def render(_call: Call, error: RunyardError) -> Response:
    body: dict[str, Any] = {"error": error.message, "code": error.code}
    if error.field is not None:
        body["field"] = error.field
    if "errors" in error.details:
        body["errors"] = error.details["errors"]
    return reply(body, _status(error), errors.headers(error))


def _status(error: RunyardError) -> int:
    """No credits and an inactive account are 403 in this contract."""
    no_account = isinstance(error, PaymentRequired) or error.code in (
        "organisation_inactive",
        "organisation_erased",
    )
    return 403 if no_account else error.status


def started(call: Call) -> None:
    """From here on a repetition of the call would do its work twice: its headers keep clients from retrying."""
    call.response_headers["x-should-retry"] = "false"


#: What documents show: the group, and examples that a test sends to a server.
_DESCRIBED: Final = Described(
    tags={"agentbase": "The API of Agentbase: send a message and follow the events, with datastores."},
    examples={
        "AgentbaseDatastoreBody": {"name": "orders", "type": "documents"},
        "AgentbaseRunBody": {
            "message": "Which orders are late?",
            "system": "You are an assistant of the shop.",
            "mode": "fast",
            "rules": ["Answer in one sentence."],
        },
    },
    forms={"agentbase.index_document": {"file": "handbook.pdf", "datastore_id": "ds_3f9c2a"}},
)
AGENTBASE: Final = Front(
    "agentbase", ("", "/agentbase"), render, slashes=True, error=AgentbaseFailure, described=_DESCRIBED
)


class AgentbaseRoutes(Routes):
    """Operations that count against the organisation's rate, with the headers that show it."""

    def __init__(self) -> None:
        super().__init__(AGENTBASE, "agentbase")

    def on(self, method: str, path: str, permission: str | None, **options: Any) -> Callable[[H], H]:
        statuses = sorted({*options.pop("errors", ()), 400, 429})
        return super().on(method, path, permission, around=_throttled, errors=statuses, **options)


async def _throttled(handler: Handler, call: Call) -> Response:
    most = call.state.surface_rates[AGENTBASE.name]
    if most:
        status = await call.state.rates.hit(call.org_id, AGENTBASE.name, most)
        if status.remaining is not None and status.reset_s is not None:
            call.response_headers |= {
                "x-ratelimit-limit": str(status.limit),
                "x-ratelimit-remaining": str(status.remaining),
                "x-ratelimit-reset": str(int(time.time()) + status.reset_s),
            }
        if not status.allowed:
            raise TooManyRequests(
                f"More than {most} requests in a minute; try again later.", retry_after=status.reset_s
            )
    return await handler(call)
