"""Human tasks: messages, reviews, the inbox, and one-time answer links."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from pydantic import Field, model_validator
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import ROOTED, NativeRoutes, Paging, page, when
from runyard_api.native.runs.task_view import brief, question
from runyard_api.native.runs.tasks import task_id
from runyard_api.task_snapshot import snapshot
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.service import answer_links, answers
from runyard_common.human_tasks.service.answers import Decision, Reply
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.run_request import Strict
from runyard_common.values.errors import InvalidRequest

routes = NativeRoutes("human tasks")


class MessageBody(Strict):
    """A message to a task."""

    message: Any = Field(
        description="A text; where the question has a schema, a value that fits it.",
        json_schema_extra={"not": {"enum": [None, ""]}},
    )
    question_id: str | None = Field(
        None, max_length=64, description="Which question it answers, if several are open."
    )

    @model_validator(mode="after")
    def _is_not_empty(self) -> MessageBody:
        if self.message is None or self.message == "":
            raise ValueError("message is empty")
        return self


class MessageAccepted(schemas.Shape):
    """A message that was taken."""

    id: str
    message_id: str
    task_id: str
    status: schemas.StatusName
    answered: bool = Field(
        description="Whether it answered a question; otherwise the agent reads it at its next turn."
    )
    message: str


@routes.post(
    "/tasks/{task_id}/message",
    "runs:answer",
    body=MessageBody,
    prefixes=ROOTED,
    headers=("Idempotency-Key",),
    answers=[Answer(202, "The message is stored.", MessageAccepted)],
)
async def send_message(call: Call) -> Response:
    """Send a message to a task.

    It answers the open question of a waiting task; a running one reads it at its next turn. Of two answers
    to one question the first wins, the second gets 409 already_answered.
    """
    body = await call.json(MessageBody)
    id_ = task_id(call)

    actor = call.actor
    return await idempotency.create(
        call,
        lambda tx: answers.post_message(tx, call.org_id, id_, body.message, actor, body.question_id),
        lambda received: _received(id_, received),
    )


def _received(id_: str, received: Reply) -> Response:
    # An answered task waits for a worker, not for a limit, though it passes through `queued` on its way.
    resumed = received.answered and received.status is Status.QUEUED
    status = Status.PENDING if resumed else received.status
    text = (
        "Answered: the run goes on."
        if received.answered
        else "Received: the agent reads it at its next turn."
    )
    return reply(
        {"id": received.message_id, "message_id": received.message_id, "task_id": id_, "status": status.value,
         "answered": received.answered, "message": text}, 202,
    )  # fmt: skip


class ReviewBody(Strict):
    """A decision on a step that waits for one."""

    action: Literal["approve", "reject", "edit", "redo", "skip", "fail"] = Field(
        description="redo, skip and fail settle a step whose outcome is unknown."
    )
    reason: str | None = Field(None, max_length=10_000)
    arguments: Any = Field(None, description="For edit: what to run the step with instead.")
    result: Any = Field(None, description="For skip: what the step is to have returned.")
    review_id: str | None = Field(None, max_length=64, description="Which review, if several are open.")

    @property
    def decision(self) -> Decision:
        return Decision(self.action, self.reason, self.arguments, self.result)


@routes.post(
    "/tasks/{task_id}/review",
    "runs:review",
    body=ReviewBody,
    prefixes=ROOTED,
    answers=[Answer(200, "Decided; the task after it.", schemas.TaskBrief)],
    errors=(409,),
)
async def review(call: Call) -> Response:
    """Decide a review: approve, reject with a reason, or edit the arguments.

    A step whose outcome is unknown after a crash is settled with redo, skip (with a result) or fail.
    """
    body = await call.json(ReviewBody)
    id_ = task_id(call)
    await call.write(answers.review, id_, body.decision, call.actor, body.review_id)
    return reply(brief((await snapshot(call.state, call.org_id, id_)).task))


class Waiting(Paging):
    """Which questions and reviews."""

    created_by: str | None = Field(
        None, max_length=64, description="Who started their runs: key:<id> of an API key, or user:<id>."
    )


@routes.get(
    "/inbox",
    "inbox:read",
    query=Waiting,
    answers=[Answer(200, "A page of open questions and reviews.", schemas.HumanTaskPage)],
)
async def inbox(call: Call) -> Response:
    """List what waits for a person: open questions and reviews, oldest first."""
    given = call.query(Waiting)

    def look(scope: OrgScope) -> tuple[list[dict[str, Any]], bool]:
        found = questions.inbox(scope, given.before, given.limit + 1, given.created_by)
        known = tasks.by_ids(scope, {one.task_id for one in found})
        asked = [one for one in found if one.task_id in known]
        return [question(one) | {"task": brief(known[one.task_id])} for one in asked], found.more

    items, ended_early = await call.read(look)
    return reply(page(items, given.limit, [item["id"] for item in items], ended_early))


class LinkBody(Strict):
    """A link for a person without a key."""

    question_id: str | None = Field(
        None, max_length=64, description="Which question or review; by default the first."
    )
    expires_in: float = Field(
        answer_links.LIFETIME, gt=0, le=answer_links.LONGEST, description="Seconds until it ends."
    )


class LinkMade(schemas.Shape):
    """A link; it is shown only once."""

    url: str | None = Field(None, description="Not shown again to a repetition.")
    question_id: str
    expires_at: str


@routes.post(
    "/tasks/{task_id}/answer-links",
    "runs:answer",
    body=LinkBody,
    body_optional=True,
    prefixes=ROOTED,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "A one-time link.", LinkMade)],
)
async def make_link(call: Call) -> Response:
    """Make a one-time link by which a person without a key answers."""
    body = await call.optional_json(LinkBody)
    seen = await snapshot(call.state, call.org_id, task_id(call))
    open_ids = [one.id for one in seen.questions]
    chosen = body.question_id or next(iter(open_ids), None)
    base, actor = call.state.settings.base_url, call.actor

    def create(tx: Tx) -> answer_links.Link:
        # Not before: a repetition is answered as the first call was, though its question was answered meanwhile.
        if chosen is None or chosen not in open_ids:
            raise InvalidRequest(
                "This task has no such open question or review.",
                code="question_not_open",
                field="question_id",
            )
        return answer_links.create(tx, call.org_id, chosen, body.expires_in, actor)

    return await idempotency.create(
        call,
        create,
        lambda link: reply({"question_id": link.question_id, "expires_at": when(link.expires_at)}, 201),
        # The link goes to the caller, not into the answer that is kept for repetitions.
        lambda link, kept: reply(
            {"url": f"{base}/answer/{link.token}"} | orjson.loads(bytes(kept.body)), 201
        ),
    )
