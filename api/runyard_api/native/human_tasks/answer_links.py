"""Answer by a one-time link: a page with a form, or JSON, without a key."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import parse_qs

from pydantic import ValidationError
from starlette.responses import HTMLResponse, Response

from runyard_api.http import request_body
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.native import schemas
from runyard_api.native.front import ROOTED, NativeRoutes
from runyard_api.native.human_tasks import answer_page
from runyard_api.native.human_tasks.human_tasks import MessageBody, ReviewBody
from runyard_api.native.runs.task_view import question as question_json
from runyard_common.database.rows import OrgScope
from runyard_common.human_tasks.rules import Question
from runyard_common.human_tasks.service import answer_links
from runyard_common.runs.queries import tasks
from runyard_common.values.errors import InvalidRequest, RunyardError

routes = NativeRoutes("human tasks")

_PAGE = ({"type": "string"}, "text/html")
_GONE = (
    Answer(404, "There is no such link.", *_PAGE),
    Answer(410, "It was used, has expired, or its question is no longer open.", *_PAGE),
)

_FORM = "application/x-www-form-urlencoded"
_LARGEST_FORM = 256 * 1024


class LinkAnswered(schemas.Shape):
    """The answer is stored."""

    task_id: str
    answered: Literal[True]


@routes.get(
    "/answer/{token}",
    None,
    prefixes=ROOTED,
    answers=[
        Answer(200, "The question, as a page with a form.", *_PAGE),
        Answer(200, "The question, when Accept is application/json.", schemas.Question),
        *_GONE,
    ],
    errors=(410,),
)
async def show_question(call: Call) -> Response:
    """Show the question behind a one-time link."""
    if call.accepts("application/json"):
        return reply(question_json(await _look(call)))
    try:
        return HTMLResponse(answer_page.ask(await _look(call)), headers=answer_page.HEADERS)
    except RunyardError as error:
        return _gone(error)


@routes.post(
    "/answer/{token}",
    None,
    body=MessageBody,
    prefixes=ROOTED,
    answers=[
        Answer(200, "Answered; a form gets a page.", LinkAnswered),
        Answer(200, "Answered; a form gets a page.", *_PAGE),
        Answer(400, "The answer does not fit; the page gives the reason.", *_PAGE),
        Answer(409, "Another answer came first.", *_PAGE),
        *_GONE,
    ],
    errors=(409, 410),
)
async def answer_question(call: Call) -> Response:
    """Answer the question behind a one-time link; the link ends with it."""
    if request_body.media_type(call.headers) == _FORM:
        return await _from_form(call)
    found = await _look(call)
    value = await _json_value(call, found)
    task_id = await call.state.write(answer_links.answer, call.params["token"], value)
    return reply({"task_id": task_id, "answered": True})


async def _look(call: Call) -> Question:
    token = call.params["token"]
    db = call.state.db
    return await call.state.reader.one(lambda conn: answer_links.look(conn, token, db.now(conn)))


async def _json_value(call: Call, found: Question) -> Any:
    if found.kind == "review":
        return (await call.json(ReviewBody)).decision
    return (await call.json(MessageBody)).message


async def _from_form(call: Call) -> Response:
    try:
        found = await _look(call)
    except RunyardError as error:
        return _gone(error)
    try:
        value = await _form_value(call, found)
        task_id = await call.state.write(answer_links.answer, call.params["token"], value)
    except InvalidRequest as refusal:
        page = answer_page.ask(found, refusal.message)
        return HTMLResponse(page, refusal.status, headers=answer_page.HEADERS)
    except RunyardError as error:
        return _gone(error)
    loaded = await call.state.reader.one(lambda conn: tasks.get(OrgScope(conn, found.org_id), task_id))
    assert loaded is not None
    return HTMLResponse(answer_page.done(loaded.status), headers=answer_page.HEADERS)


async def _form_value(call: Call, found: Question) -> Any:
    raw = await request_body.read(call.receive, call.headers, _LARGEST_FORM)
    try:
        fields = parse_qs(raw.decode(), max_num_fields=20, errors="strict")
    except ValueError:
        raise InvalidRequest("The form cannot be read.", code="bad_form") from None
    given = {name: values[-1] for name, values in fields.items()}
    if any("\0" in value for value in given.values()):
        raise InvalidRequest("NUL characters are refused.", code="nul_character")
    if found.kind != "review":
        return answer_page.value_of(found, given.get("message", ""))
    try:
        return ReviewBody.model_validate(
            {k: v for k, v in given.items() if k in ("action", "reason")}
        ).decision
    except ValidationError:
        raise InvalidRequest(
            "Choose one of the decisions.", code="invalid_decision", field="action"
        ) from None


def _gone(error: RunyardError) -> Response:
    return HTMLResponse(answer_page.gone(error.message), error.status, headers=answer_page.HEADERS)
