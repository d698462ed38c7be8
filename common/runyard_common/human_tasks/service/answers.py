"""Answer and decide: people's replies bring suspended tasks back, each question answered once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runyard_common.database.transaction import Tx
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.rules import Question
from runyard_common.identity.queries import identity
from runyard_common.identity.service import caps
from runyard_common.runs.queries import events, journal, open_calls, transitions
from runyard_common.runs.queries.journal import StepEnd
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.rules.tasks import Head
from runyard_common.runs.service.attempts import back_to_queue
from runyard_common.schemas import checks
from runyard_common.sessions.queries import messages
from runyard_common.values.errors import Conflict, IllegalTransition, InvalidRequest, NotFound, RunyardError

APPROVALS = ("approve", "reject", "edit")
_BATCH = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a message: its id, and the task's status after it."""

    message_id: str
    status: Status
    answered: bool  # whether it answered a question, or waits for the agent's next turn


def post_message(
    tx: Tx,
    org_id: str,
    task_id: str,
    value: Any,
    by: str | None,
    question_id: str | None = None,
    message_id: str | None = None,
) -> Reply:
    """A message to a task: the answer to its open question, or a line the running agent reads at its next turn.

    With several open questions `question_id` names one, or `value` is an object by question id. `message_id` is the id
    to give the message. Errors: `NotFound`; `Conflict` (ended, answered already, or under review); `InvalidRequest`
    invalid_answer (the answer does not fit the question's schema).
    """
    head = _locked(tx, org_id, task_id)
    if head.status is Status.WAITING_FOR_INPUT:
        return _answer(tx, head, value, by, question_id, message_id)
    if question_id is not None:
        raise Conflict("This question is not open any more.", code="already_answered", field="question_id")
    if head.status in (Status.RUNNING, Status.PENDING, Status.QUEUED):
        caps.check(tx, org_id, "unread_messages", of=task_id)
        posted = messages.post(tx, head, value, by, unread=True, id_=message_id)
        return Reply(posted, head.status, False)
    raise IllegalTransition(status=head.status.value, event=Event.ANSWER.value)


def _answer(
    tx: Tx, head: Head, value: Any, by: str | None, question_id: str | None, message_id: str | None
) -> Reply:
    waiting = {q.id: q for q in questions.open_of(tx.conn, head.id)}
    given = _assign(waiting, value, question_id)
    for id_, answer in given.items():
        schema = (waiting[id_].payload or {}).get("schema")
        if schema:
            _check(answer, schema, field="message", code="invalid_answer")
    for id_, answer in given.items():
        if not questions.close(tx, id_, "answered", answer, by):
            raise Conflict("This question was answered already.", code="already_answered")
    posted = messages.post(tx, head, value, by, unread=False, id_=message_id)
    if len(given) < len(waiting):
        return Reply(posted, head.status, True)
    status = _resume(tx, head, Event.ANSWER, {"by": by, "answers": given})
    return Reply(posted, status, True)


def _check(value: Any, schema: Any, *, field: str, code: str) -> None:
    """Refuse a reply that does not fit. Others wait for this transaction, so that the check is a short one.

    A schema that cannot be used, of a tool's server or of a question asked long ago, refuses nothing: the
    person who answers cannot correct it.
    """
    try:
        checks.check(value, schema, field=field, code=code, most_work=checks.QUICK)
    except InvalidRequest as refused:
        if refused.code not in checks.UNUSABLE:
            raise


def _assign(waiting: dict[str, Question], value: Any, question_id: str | None) -> dict[str, Any]:
    if question_id is not None:
        if question_id not in waiting:
            raise Conflict("This question is not open.", code="already_answered", field="question_id")
        return {question_id: value}
    by_name = {q.key: id_ for id_, q in waiting.items()} | {id_: id_ for id_ in waiting}
    if isinstance(value, dict) and value and all(name in by_name for name in value):
        return {by_name[name]: answer for name, answer in value.items()}
    if len(waiting) > 1:
        raise InvalidRequest(
            "Several questions are open: answer one by its question_id, or send an object of answers by question id.",
            code="invalid_answer",
            field="message",
            questions=sorted(waiting),
        )
    return {next(iter(waiting)): value}


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision on a review: approve, reject (with a reason), edit (with arguments);
    on an unknown outcome redo, skip (with a result) or fail."""

    action: str
    reason: str | None = None
    arguments: Any = None
    result: Any = None


def review(
    tx: Tx, org_id: str, task_id: str, decision: Decision, by: str | None, question_id: str | None = None
) -> Status:
    """Decide one open review of a task; it resumes when none is left open. The task's status after it.

    Errors: `NotFound`; `Conflict` (nothing to review, or decided already); `InvalidRequest` invalid_decision.
    """
    head = _locked(tx, org_id, task_id)
    if head.status is not Status.AWAITING_REVIEW:
        raise IllegalTransition(status=head.status.value, event=Event.DECIDE.value)
    waiting = {q.id: q for q in questions.open_of(tx.conn, task_id)}
    chosen = waiting.get(question_id or next(iter(waiting), ""))
    if chosen is None:
        raise Conflict("This review was decided already.", code="already_answered", field="question_id")
    status = decide(tx, head, chosen, decision, by, more_open=len(waiting) > 1)
    if by is not None:
        data = {"task_id": task_id, "action": decision.action, "reason": decision.reason}
        identity.audit(tx, org_id, by, "review.decide", chosen.id, data)
    return status


def decide(
    tx: Tx, head: Head, question: Question, decision: Decision, by: str | None, more_open: bool = False
) -> Status:
    """Record a decision and let the task go on, or end, accordingly."""
    payload = question.payload or {}
    allowed = tuple(payload.get("decisions") or APPROVALS)
    if decision.action not in allowed:
        raise InvalidRequest(
            f"Decide with one of: {', '.join(allowed)}.", code="invalid_decision", field="action"
        )
    schema = payload.get("schema")
    if decision.action == "edit":
        _check_edit(decision.arguments, payload.get("arguments"))
        if schema:
            _check(decision.arguments, schema, field="arguments", code="invalid_decision")
    answer = {
        "action": decision.action,
        "reason": decision.reason,
        "arguments": decision.arguments,
        "result": decision.result,
    }
    if not questions.close(tx, question.id, "answered", answer, by):
        raise Conflict("This review was decided already.", code="already_answered")
    if payload.get("kind") == "unknown_outcome":
        ended = _settle_step(tx, head, payload["step"], decision, by)
        if ended is not None:
            return ended
    if more_open:
        return head.status
    return _resume(tx, head, Event.DECIDE, {"by": by, "decision": decision.action, "reason": decision.reason})


def _check_edit(given: Any, proposed: Any) -> None:
    if given is None:
        raise InvalidRequest(
            "Send the arguments to run the step with; to run it as it is proposed, approve it.",
            code="invalid_decision",
            field="arguments",
        )
    if isinstance(proposed, dict) and not isinstance(given, dict):
        raise InvalidRequest(
            "The proposed arguments are an object: send one.", code="invalid_decision", field="arguments"
        )


def _settle_step(tx: Tx, head: Head, step: str, decision: Decision, by: str | None) -> Status | None:
    """Record in the journal what the operator decided about an irreversible step whose end was not seen."""
    if decision.action == "redo":
        journal.drop(tx, head.id, [step])
    elif decision.action == "skip":
        journal.end_many(tx, [StepEnd(head.id, step, decision.result)])
        _show_skipped(tx, head, step, decision.result)
    elif decision.action == "fail":
        error = {
            "code": "failed_by_operator",
            "message": decision.reason or "An operator failed this run.",
            "cause": "infrastructure",
            "attempt": head.attempt,
        }
        return _moved(
            tx, Change(head.id, Event.FAIL, data={"error": error, "by": by}, values={"error": error})
        )
    return None


def _show_skipped(tx: Tx, head: Head, step: str, result: Any) -> None:
    """Where the step is a tool call, the log shows its end: the agent goes on without making it again."""
    calls = open_calls.of(tx.conn, [head.id], tx.now).get(head.id, [])
    call = next((one for one in calls if _is_step_of(step, one)), None)
    if call is not None:
        ended = call | {"outcome": "ok", "result": result, "skipped": True}
        events.append(tx, {head.id: head}, [(head.id, open_calls.RESULT, ended)])


def _is_step_of(step: str, call: dict[str, Any]) -> bool:
    """Whether the step is this call's: a declared agent's, or one of a loop of the author's own."""
    own = f"tool:{call['tool']}/{call['id']}#"
    return step.endswith(f"turn#{call['turn']}/{call['id']}") or own in step


def _resume(tx: Tx, head: Head, event: Event, data: dict[str, Any]) -> Status:
    return _moved(tx, Change(head.id, event, data=data, values=back_to_queue(tx)))


def _moved(tx: Tx, change: Change) -> Status:
    answer = move(tx, [change])[0]
    if isinstance(answer, RunyardError):
        raise answer
    return answer.status


def _locked(tx: Tx, org_id: str, task_id: str) -> Head:
    head = transitions.lock(tx, [task_id]).get(task_id)
    if head is None or head.org_id != org_id:
        raise NotFound("There is no such task.", code="task_not_found")
    return head


def expire(tx: Tx) -> int:
    """Apply the declared outcome of questions and reviews past their deadline; how many there were."""
    overdue = questions.overdue(tx, _BATCH)
    for question in overdue:
        time_out(tx, question)
    return len(overdue)


def time_out(tx: Tx, question: Question) -> Status | None:
    """Apply the declared outcome of a question that was not answered in time: fail, default or reject."""
    head = transitions.lock(tx, [question.task_id]).get(question.task_id)
    rule = question.on_timeout or {"outcome": "fail"}
    if head is None or head.status not in (Status.WAITING_FOR_INPUT, Status.AWAITING_REVIEW):
        questions.close(tx, question.id, "expired", None, "system")
        return None
    others = len(questions.open_of(tx.conn, head.id)) > 1
    if rule["outcome"] == "reject":
        answer: Any = {
            "action": "reject",
            "reason": rule.get("reason", "Not decided in time."),
            "arguments": None,
            "result": None,
        }
    else:
        answer = rule.get("value")
    if not questions.close(tx, question.id, "expired", answer, "system"):
        return None
    if rule["outcome"] == "fail":
        error = {
            "code": "answer_timeout",
            "message": "Not answered in time.",
            "cause": "deadline",
            "attempt": head.attempt,
        }
        return _moved(tx, Change(head.id, Event.EXPIRE, data={"error": error}, values={"error": error}))
    if others:
        return head.status
    event = Event.ANSWER if head.status is Status.WAITING_FOR_INPUT else Event.DECIDE
    return _resume(tx, head, event, {"by": "system", "timed_out": True})
