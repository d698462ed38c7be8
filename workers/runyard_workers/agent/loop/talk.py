"""What one conversation of a run works with: shared by the library's hooks and the tools it calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.service.attempts import Asked
from runyard_common.schemas.outputs import OutputContract
from runyard_common.usage.queries.turns import Standing
from runyard_workers.agent.events import Event
from runyard_workers.agent.loop.models import Chosen
from runyard_workers.agent.loop.prices import Prices
from runyard_workers.agent.loop.transcript import Transcript
from runyard_workers.agent.tools import Toolbox, Waits, ask
from runyard_workers.attempts.attempt import Attempt, Ended, Suspended


@dataclass(slots=True)
class Talk:
    """A conversation under way. `before_turn` is asked before each model turn; it answers with what users said
    meanwhile and how the task stands, or raises to end the run."""

    attempt: Attempt
    transcript: Transcript
    prices: Prices
    before_turn: Callable[[int], Awaitable[tuple[list[str], Standing]]]
    model: Chosen
    agent: str
    toolbox: Toolbox = field(default_factory=Toolbox)
    contract: OutputContract | None = None
    streaming: bool = False
    max_tokens: int | None = None
    scope: dict[str, Any] = field(
        default_factory=dict
    )  # what its events say besides, such as the workflow's step
    asked: list[Asked] = field(default_factory=list)
    child_ids: list[str] = field(default_factory=list)
    transfers: dict[str, str] = field(default_factory=dict)  # tool name → agent
    violations: list[dict[str, str]] = field(default_factory=list)  # of the last invalid output

    @property
    def silent(self) -> frozenset[str]:
        """Tools whose calls are no conversation lines: the output's is written when it is valid, a question's
        when it is asked."""
        return frozenset({ask.NAME, *([self.contract.name] if self.contract else ())})

    def told(self, *logged: Event) -> tuple[Event, ...]:
        """Events as this conversation logs them."""
        return tuple((type_, {**data, **self.scope}) for type_, data in logged)

    def wait(self, waits: Waits) -> None:
        """A call has no result yet: the run leaves once its siblings have ended."""
        if waits.asked is not None:
            self.asked.append(waits.asked)
        if waits.child_id is not None:
            self.child_ids.append(waits.child_id)

    def suspension(self) -> Suspended:
        """What the run waits for: people first, then one child."""
        if self.asked:
            lines = tuple(
                {"role": "assistant", "type": "question", "content": asked.payload["text"]}
                for asked in self.asked
                if asked.kind == "question"
            )
            return Suspended.until(*self.asked, lines=lines)
        return Suspended(Ended(Outcome.WAITING, child_id=self.child_ids[0]))
