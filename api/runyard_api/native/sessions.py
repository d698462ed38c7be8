"""Sessions: conversations across tasks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import NativeRoutes, Paging, Parameters, cursor, page, when
from runyard_api.native.runs.tasks import message_json
from runyard_common.database.pages import Page
from runyard_common.database.rows import OrgScope
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.run_request import Strict
from runyard_common.sessions.queries import messages, sessions, state
from runyard_common.sessions.rules import Message, Session, state_scope
from runyard_common.sessions.service import sessions as service
from runyard_common.values.errors import NotFound

routes = NativeRoutes("sessions")


class SessionView(schemas.Shape):
    """A conversation."""

    id: str
    session_id: str
    key: str = Field(description="The caller's own name for it.")
    agent_id: str | None
    end_user_id: str | None
    strategy: Literal["enqueue", "reject", "interrupt"]
    lines: int = Field(description="The number of its last line.")
    forked_from: str | None
    created_at: str
    updated_at: str


class SessionPage(schemas.Page):
    """A page of sessions, newest first."""

    data: list[SessionView]  # type: ignore[assignment]


def session_json(row: Session) -> dict[str, Any]:
    return {
        "id": row.id,
        "session_id": row.id,
        "key": row.key,
        "agent_id": row.agent_id,
        "end_user_id": row.end_user_id,
        "strategy": row.strategy,
        "lines": row.last_seq,
        "forked_from": row.forked_from,
        "created_at": when(row.created_at),
        "updated_at": when(row.updated_at),
    }


async def _session(call: Call) -> Session:
    """The session the path names, by its id or the caller's own name; `NotFound` session_not_found."""
    name = call.params["session_id"]
    found = await call.read(lambda scope: sessions.get(scope, name) or sessions.find(scope, name))
    if found is None:
        raise NotFound("There is no such session.", code="session_not_found", field="session_id")
    return found


class SessionListParameters(Paging):
    """Which sessions, and which page of them."""

    q: str | None = Field(None, max_length=200, description="Part of the key, in any case.")


@routes.get(
    "/sessions",
    "sessions:read",
    query=SessionListParameters,
    answers=[Answer(200, "A page of sessions.", SessionPage)],
)
async def list_sessions(call: Call) -> Response:
    """List sessions, newest first.

    With q a page may have fewer sessions than limit, or none, and has_more all the same: it has looked at 20,000 of
    them, and goes on behind them with next_cursor.
    """
    given = call.query(SessionListParameters)
    if given.q:
        found = await call.read(sessions.search, given.q, given.limit, given.before)
        end = None if found.end is None else cursor(found.end)
        data = [session_json(row) for row in found.sessions]
        return reply({"data": data, "has_more": end is not None, "next_cursor": end})
    rows = await call.read(sessions.page, given.limit + 1, given.before)
    return reply(page([session_json(row) for row in rows], given.limit, [row.id for row in rows]))


class SessionWithState(SessionView):
    """A conversation, and what agents keep for its next run."""

    state: dict[str, Any] = Field(description="The values of `ctx.state`, by name.")


@routes.get(
    "/sessions/{session_id}", "sessions:read", answers=[Answer(200, "The session.", SessionWithState)]
)
async def get_session(call: Call) -> Response:
    """Read a session, with the values that agents keep in it."""
    session = await _session(call)
    kept = await call.read(lambda scope: state.values(scope.conn, state_scope(session.id, "")))
    return reply(session_json(session) | {"state": kept})


class MessageParameters(Parameters):
    """How much of a conversation."""

    limit: int = Field(1000, ge=1, le=10_000, description="Of a longer one the newest lines.")
    before: int | None = Field(None, ge=0, description="Only lines before this number (`seq`), to read on.")


@routes.get(
    "/sessions/{session_id}/messages",
    "sessions:read",
    query=MessageParameters,
    answers=[Answer(200, "The conversation.", schemas.MessageList)],
)
async def get_session_messages(call: Call) -> Response:
    """Read a session's conversation, oldest line first.

    Of more than 8 MB the newest lines; has_more: there are older ones, which ?before= gives.
    """
    given = call.query(MessageParameters)
    id_ = (await _session(call)).id

    def read(scope: OrgScope) -> tuple[Page[Message], dict[str, str]]:
        found = messages.of_session(scope, id_, given.limit, given.before)
        return found, tasks.versions(scope, {row.task_id for row in found if row.task_id is not None})

    rows, versions = await call.read(read)
    lines = [message_json(row, versions.get(row.task_id or "")) for row in rows]
    return reply({"data": lines, "has_more": rows.more})


class ForkBody(Strict):
    """How to fork."""

    up_to: int | None = Field(None, ge=0, description="Take the lines up to this number; by default all.")
    key: str | None = Field(
        None, min_length=1, max_length=255, description="Your own name for the new session."
    )


@routes.post(
    "/sessions/{session_id}/fork",
    "sessions:write",
    body=ForkBody,
    body_optional=True,
    headers=("Idempotency-Key",),
    answers=[Answer(201, "The new session.", SessionView)],
)
async def fork(call: Call) -> Response:
    """Begin a new session with this one's conversation and the values that agents keep in it."""
    body = await call.optional_json(ForkBody)
    id_ = (await _session(call)).id

    return await idempotency.create(
        call,
        lambda tx: service.fork(tx, call.org_id, id_, body.up_to, body.key),
        lambda made: reply(session_json(made), 201),
    )


class Cleared(schemas.Shape):
    """What was erased."""

    session_id: str
    erased: int


@routes.post(
    "/sessions/{session_id}/clear",
    "sessions:write",
    answers=[Answer(200, "The conversation is erased.", Cleared)],
)
async def clear(call: Call) -> Response:
    """Erase a session's conversation; the session stays, and the values that agents keep in it."""
    id_ = (await _session(call)).id
    return reply(
        {
            "session_id": id_,
            "erased": await call.write(service.clear, id_, call.actor),
        }
    )


class SessionChange(Strict):
    """What to change; what is left out stays."""

    strategy: Literal["enqueue", "reject", "interrupt"] | None = Field(
        None, description="What becomes of a second run while one of the session is under way."
    )
    key: str | None = Field(
        None, min_length=1, max_length=255, description="Your own name for it, by which runs then find it."
    )


@routes.patch(
    "/sessions/{session_id}",
    "sessions:write",
    body=SessionChange,
    answers=[Answer(200, "The session.", SessionView)],
    errors=(409,),
)
async def change_session(call: Call) -> Response:
    """Change a session: its name, and what becomes of a second run while one of the session is under way.

    Runs that name it by its id find it as before. A name that another session has answers 409 session_exists.
    """
    body = await call.json(SessionChange)
    id_ = (await _session(call)).id
    return reply(session_json(await call.write(service.change, id_, body.strategy, body.key, call.actor)))


@routes.delete(
    "/sessions/{session_id}",
    "sessions:delete",
    answers=[Answer(204, "It is gone.")],
    errors=(409,),
)
async def delete_session(call: Call) -> Response:
    """Delete a session with its conversation and the values that agents keep in it; its tasks stay."""
    id_ = (await _session(call)).id
    await call.write(service.remove, id_, call.actor)
    return Response(status_code=204)
