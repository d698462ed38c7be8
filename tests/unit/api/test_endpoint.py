"""The log of answers that are failures."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from starlette.responses import Response
from starlette.types import Message
from structlog.testing import capture_logs

from runyard_api.http.call import Call
from runyard_api.http.endpoint import Endpoint
from runyard_api.http.operations import Operation
from runyard_api.surfaces.nugen.front import NUGEN
from runyard_common.values.errors import RunyardError, WaitTimeout


@pytest.mark.parametrize(
    ("error", "status", "level"),
    [(WaitTimeout("Later."), 504, "info"), (RunyardError("Broken."), 500, "error")],
)
@pytest.mark.anyio
async def test_an_expected_timeout_is_no_error_in_the_log(
    error: RunyardError, status: int, level: str
) -> None:
    async def fail(_call: Call) -> Response:
        raise error

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    uncounted = SimpleNamespace(check=lambda address: None)
    app = SimpleNamespace(state=SimpleNamespace(runyard=SimpleNamespace(open_rates=uncounted)))
    scope = {
        "type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "query_string": b"", "headers": [],
        "app": app, "request_id": "req_1",
    }  # fmt: skip
    endpoint = Endpoint([Operation(NUGEN, "t", "GET", "/x", fail, None, "s", "d")])

    with capture_logs() as logged:
        await endpoint(scope, receive, send)

    assert sent[0]["status"] == status
    assert [(entry["log_level"], entry["code"]) for entry in logged] == [(level, error.code)]
