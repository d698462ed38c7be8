"""Money: a run that reaches its budget, or whose organisation has nothing left, waits for a person's top-up."""

from __future__ import annotations

from typing import Any

from runyard_common.runs.service.attempts import Asked
from runyard_workers.agent.failures import LimitReached
from runyard_workers.attempts.attempt import Attempt, Suspended

_SCHEMA = {
    "type": "object",
    "properties": {"budget": {"type": "number", "exclusiveMinimum": 0, "description": "New budget in USD."}},
    "required": ["budget"],
}


def micros(usd: Any) -> int | None:
    """USD as millionths; None for what is no positive amount."""
    if isinstance(usd, bool) or not isinstance(usd, int | float) or usd <= 0:
        return None
    return round(float(usd) * 1_000_000)


class Budget:
    """What a run may spend, with the top-ups people granted it so far."""

    def __init__(self, attempt: Attempt, limit_micros: int | None) -> None:
        """Raises `LimitReached` once a top-up was refused."""
        self._attempt = attempt
        self._step = limit_micros
        self.limit = limit_micros
        self._reviews = 0
        self._balance_reviews = 0
        self._apply_decisions()

    def check(self, turn: int, spent_micros: int, balance_micros: int | None) -> None:
        """Before a turn: raises `Suspended` for a review when the money is spent."""
        if self.limit is not None and spent_micros >= self.limit:
            raise Suspended.until(self._budget_review(turn, spent_micros))
        if balance_micros is not None and balance_micros <= 0:
            raise Suspended.until(self._balance_review(turn, balance_micros))

    def _apply_decisions(self) -> None:
        while (decided := self._attempt.answer(f"budget#{self._reviews + 1}")) is not None:
            self._reviews += 1
            self._apply(decided.answer or {})
        while (decided := self._attempt.answer(f"balance#{self._balance_reviews + 1}")) is not None:
            self._balance_reviews += 1
            if (decided.answer or {}).get("action") != "approve":
                raise LimitReached("The top-up of the balance was refused.", code="balance_exhausted")

    def _apply(self, decision: dict[str, Any]) -> None:
        if decision.get("action") == "approve" and self.limit is not None and self._step is not None:
            self.limit += self._step
        elif decision.get("action") == "edit":
            self.limit = micros((decision.get("arguments") or {}).get("budget")) or self.limit
        else:
            raise LimitReached(
                decision.get("reason") or "The run's budget is spent and its top-up was refused.",
                code="budget_exhausted",
            )

    def _budget_review(self, turn: int, spent_micros: int) -> Asked:
        assert self.limit is not None
        assert self._step is not None
        spent, limit, step = (n / 1_000_000 for n in (spent_micros, self.limit, self._step))
        payload = {
            "kind": "budget",
            "action": "top_up",
            "text": f"The run has spent ${spent:.6f} of its budget of ${limit:.6f}. Approve to add "
            f"${step:.6f}, edit to set another budget, or reject to end the run.",
            "arguments": {"budget": limit + step},
            "spent": spent,
            "budget": limit,
            "schema": _SCHEMA,
            "turn": turn,
        }
        return Asked(f"budget#{self._reviews + 1}", "review", payload)

    def _balance_review(self, turn: int, balance_micros: int) -> Asked:
        payload = {
            "kind": "balance",
            "action": "top_up",
            "text": "The organisation's balance is spent. Top it up and approve, or reject to end the run.",
            "arguments": {"balance": balance_micros / 1_000_000},
            "decisions": ["approve", "reject"],
            "turn": turn,
        }
        return Asked(f"balance#{self._balance_reviews + 1}", "review", payload)
