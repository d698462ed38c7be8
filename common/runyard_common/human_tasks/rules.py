"""What a suspended task waits for, as its row has it, and what follows when it is not answered in time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from runyard_common.values.errors import InvalidRequest

_OUTCOMES: Final = ("fail", "default")


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the user of a task, or a review by a person. Times are epoch seconds."""

    id: str
    org_id: str
    task_id: str
    key: str  # the journal entry the answer completes
    kind: str  # question, review
    payload: Any  # the document {text, schema, options …} or {action, arguments, step …}
    on_timeout: Any  # {outcome: fail | default | reject, value?}
    deadline_at: float | None
    created_at: float
    state: str = "open"  # open, answered, expired, cancelled
    answer: Any = None
    answered_by: str | None = None
    answered_at: float | None = None

    @property
    def by_engine(self) -> bool:
        """Whether the engine asked for itself: about a budget, or a step of unknown outcome."""
        return "!" in self.key


@dataclass(frozen=True, slots=True)
class AnswerLink:
    """A one-time link that answers one question. Times are epoch seconds."""

    token_hash: str
    org_id: str
    question_id: str
    expires_at: float
    used_at: float | None = None


def on_no_answer(on_timeout: Any, has_default: bool) -> str:
    """`fail` or `default`: as the agent names it, else by whether it gives a default.

    Error: `InvalidRequest` invalid_on_timeout, for another word, or for a default that would not be used.
    """
    if on_timeout is None:
        return "default" if has_default else "fail"
    if on_timeout not in _OUTCOMES:
        problem = f"on_timeout must be one of {', '.join(_OUTCOMES)}."
    elif on_timeout == "fail" and has_default:
        problem = 'on_timeout="fail" does not use the default: leave one of them out.'
    else:
        return str(on_timeout)
    raise InvalidRequest(problem, code="invalid_on_timeout", field="on_timeout")
