"""POST /toy/ask: ask an agent, and have its answer."""

from __future__ import annotations

from functools import partial
from typing import Final

from pydantic import BaseModel
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer, Front, Routes
from runyard_api.submission import outcome, prepare, submit
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.values.errors import RunyardError


class ToyFailure(BaseModel):
    """A refusal."""

    oops: str
    why: str


class ToyQuestion(BaseModel):
    """Whom to ask what."""

    to: str
    question: str


class ToyAnswer(BaseModel):
    """What came of it."""

    ticket: str
    answer: object


def render(_call: Call, error: RunyardError) -> Response:
    """An error as this contract shows it."""
    return reply({"oops": error.code, "why": error.message}, error.status)


TOY: Final = Front("toy", ("/toy",), render, error=ToyFailure)
routes = Routes(TOY, "toy")


@routes.post(
    "/ask",
    "runs:create",
    body=ToyQuestion,
    headers=("Idempotency-Key",),
    answers=[Answer(200, "The agent has answered.", ToyAnswer)],
    errors=(400, 404, 422),
)
async def ask(call: Call) -> Response:
    """Ask an agent and wait for its answer."""
    given = await call.json(ToyQuestion)
    agent = await call.state.agents.find(call.org_id, given.to)
    request = RunRequest(message=given.question)
    run = await submit(call, partial(prepare, call, TOY.name, request, agent))
    task = await outcome(call, run.task_id)
    return reply({"ticket": task.id, "answer": task.output})
