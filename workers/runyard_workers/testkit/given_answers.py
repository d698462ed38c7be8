"""Answers to what runs of a test ask, and the questions that get no answer in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runyard.testing import Decision
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.rules import Question
from runyard_common.human_tasks.service import answers
from runyard_workers.testkit.clock import Clock

_EXPIRE = "expire"


class GivenAnswers:
    """Answers what runs ask, in order or by the question's text. `asked` are the texts."""

    def __init__(
        self, store: Store, org_id: str, clock: Clock, given: Sequence[Any] | Mapping[str, Any]
    ) -> None:
        self._store, self._org, self._clock = store, org_id, clock
        self._by_text = given if isinstance(given, Mapping) else None
        self._in_order = [] if isinstance(given, Mapping) else list(given)
        self.asked: list[str] = []

    def answer(self, task_id: str) -> None:
        """Answer the first open question of a run, or let its time pass. `AssertionError` where there is no answer."""
        with self._store.read() as conn:
            question = questions.open_of(conn, task_id)[0]
        text = str(question.payload.get("text") or question.payload.get("action") or question.key)
        self.asked.append(text)
        answer = self._prepared(text)
        if isinstance(answer, Decision) and answer.action == _EXPIRE:
            self._expire(question, text)
            return
        with self._store.begin() as tx:
            if question.kind == "review":
                assert isinstance(answer, Decision), (
                    f"{text!r} is a review: answer approve(), reject() or edit()."
                )
                decision = answers.Decision(answer.action, answer.reason, answer.arguments, answer.result)
                answers.review(tx, self._org, task_id, decision, "test", question.id)
            else:
                answers.post_message(tx, self._org, task_id, answer, "test", question.id)

    def answer_another(self) -> bool:
        """Answer what a run that another has started asks, the oldest question first; whether one asks."""
        with self._store.read() as conn:
            open_ones = questions.inbox(OrgScope(conn, self._org), None, 1)
        if not open_ones:
            return False
        self.answer(open_ones[0].task_id)
        return True

    def _expire(self, question: Question, text: str) -> None:
        assert question.deadline_at is not None, f"{text!r} never expires: it has no timeout."
        self._clock.skip(question.deadline_at - self._clock.now() + 0.001)
        with self._store.begin() as tx:
            answers.expire(tx)

    def _prepared(self, text: str) -> Any:
        if self._by_text is not None:
            assert text in self._by_text, f"No answer to {text!r}: give one in `answers`."
            return self._by_text[text]
        assert self._in_order, f"No answer to {text!r}: give one in `answers`."
        return self._in_order.pop(0)
