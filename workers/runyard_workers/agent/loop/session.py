"""One conversation of a run with a model: the agent that speaks, its tools, and what happens around each model turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic_ai.messages import ModelMessage, UserContent

from runyard_common.runs.rules.journal import JournalEntry
from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.rules.waits import Group
from runyard_common.runs.service.attempts import Asked
from runyard_common.schemas.outputs import OutputContract
from runyard_common.sessions.rules import Line
from runyard_common.usage.service import OPENING, StartTurn, TurnStart, start_turn
from runyard_workers.agent.events import Event
from runyard_workers.agent.failures import LimitReached
from runyard_workers.agent.loop import prompt
from runyard_workers.agent.loop.call_results import CallResults
from runyard_workers.agent.loop.models import Chosen
from runyard_workers.agent.loop.run import Run
from runyard_workers.agent.loop.transcript import Transcript
from runyard_workers.agent.plan import AgentConfig
from runyard_workers.agent.tools import Toolbox, Waits, ask
from runyard_workers.attempts.attempt import Ended, Suspended

#: Between the key of a turn and the number of what it read, in the journal's keys of messages.
_MESSAGES: Final = ":mail#"
#: The prefix of the session that gives the structured output of the whole.
FINAL: Final = "final"


class ModelSession:
    """The main conversation has no prefix; a workflow's step and the final output have sessions of their own."""

    # Of the agent that speaks now; `switch` sets them.
    agent: AgentConfig
    model: Chosen
    toolbox: Toolbox
    instructions: str
    specialists: dict[str, str]  # agents it may hand over to → description
    transfers: dict[str, str]  # tool name → agent
    asked: list[Asked]
    child_ids: list[str]
    violations: list[dict[str, str]]  # of its last invalid output

    def __init__(
        self,
        run: Run,
        contract: OutputContract | None,
        prefix: str = "",
        scope: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """`scope` is added to the session's events, such as the workflow's step."""
        self.run = run
        self.attempt = run.attempt
        self.contract = contract
        self.transcript = Transcript(run.attempt, prefix, run.images)
        self.messages: list[ModelMessage] = []
        self.final = prefix == FINAL
        self._main = not prefix
        self.streaming = self._main and run.plan.streaming
        self._scope = scope
        self.results = CallResults(run.attempt)
        self._messages_given = 0  # the turn whose messages are in its prompt already
        self._read_before = _messages_read(run.attempt.replay.entries)

    async def switch(self, name: str) -> None:
        """Let this agent speak from here on."""
        run = self.run
        self.agent = await run.agent(name)
        self.model = await run.model(self.agent)
        notes: list[str] = []
        self.toolbox = Toolbox()
        if not self.final:
            self.toolbox, notes = await run.tools.load(run.plan, self.agent)
        self.instructions = prompt.instructions(run.plan, self.agent, self.contract, notes)
        self.specialists = run.specialists(name) if self._main else {}
        self.transfers, self.asked, self.child_ids, self.violations = {}, [], [], []

    async def request(self) -> list[UserContent]:
        """The run's request as the model gets it, with its files and the results of its workflows."""
        await self.run.read_files()
        self.transcript.show(self.run.images)
        asked = prompt.first_prompt(self.run.plan, self.run.attached, self.model.sees_images)
        return [*asked, *(prompt.workflow_results(flow, found) for flow, found in self.run.results)]

    # -- before each turn ----------------------------------------------------------------------------------

    async def start_turn(self) -> tuple[list[str], int | None]:
        """What users wrote since the turn before, and their organisation's balance in millionths of a USD.

        Raises `Suspended`, `Cancelled` or `LimitReached` where the run must not go on.
        """
        attempt, most, turn = self.attempt, self.run.plan.most_turns, self.transcript.turn + 1
        await attempt.ready()
        if attempt.draining:
            raise Suspended(Ended(Outcome.HANDED_OVER))
        if turn > most:
            raise LimitReached(
                f"The run reached its limit of {most} model turns without an answer.",
                code="turn_limit",
                turns=most,
            )
        texts, started = await self._start(turn)
        spend = started.spend
        self.run.budget.check(turn, spend.spent_micros, spend.balance_micros)
        return texts, spend.balance_micros

    async def new_messages(self) -> list[str]:
        """What users wrote while the model gave its final answer: the conversation goes on with it."""
        if not self._main or self.attempt.replay.entry(f"{FINAL}:turn#1") is not None:
            return []
        turn = self.transcript.turn + 1
        texts, _ = await self._start(turn)
        self._messages_given = turn if texts else 0
        return texts

    async def _start(self, turn: int) -> tuple[list[str], TurnStart]:
        attempt = self.attempt
        pos = attempt.replay.next_pos()
        turn_key = self.transcript.turn_key(turn)
        opening = None
        if self._main and turn == 1 and attempt.replay.entry(OPENING) is None:
            opening = self.run.opening_line()
        results = await self.results.pop()
        key = f"{turn_key}{_MESSAGES}{pos}"
        command = StartTurn(attempt.task.id, attempt.fence, key, pos, self._main, opening, results)
        started: TurnStart = await attempt.write(start_turn, command)
        found = list(started.messages)
        if not (self._main and self._messages_given == turn):
            found = [*await self._already_read(turn_key), *found]
        return [one if isinstance(one, str) else str(one) for one in found], started

    async def _already_read(self, turn_key: str) -> list[Any]:
        """What earlier attempts have read of users' messages for this turn."""
        entries = [await self.attempt.recorded(key) for key in self._read_before.get(turn_key, ())]
        return [one for entry in entries if entry is not None for one in entry.value["said"]]

    # -- what the turn leads to ----------------------------------------------------------------------------

    @property
    def silent(self) -> frozenset[str]:
        """Tools whose calls are no conversation lines: the output's is written when it is valid, a question's
        when it is asked."""
        return frozenset({ask.NAME, *([self.contract.name] if self.contract else ())})

    def scoped(self, *logged: Event) -> tuple[Event, ...]:
        """Events as this session logs them."""
        return tuple((type_, {**data, **self._scope}) for type_, data in logged)

    def wait(self, waits: Waits) -> None:
        """A call has no result yet: the run leaves once its siblings have ended."""
        if waits.asked is not None:
            self.asked.append(waits.asked)
        if waits.child_id is not None:
            self.child_ids.append(waits.child_id)

    def suspension(self) -> Suspended:
        """What the run waits for: answers first, then all children, as the model gets their results together."""
        if not self.asked:
            return Suspended.waiting(Group(children=tuple(self.child_ids)))
        lines = tuple(
            Line("assistant", "question", asked.payload["text"])
            for asked in self.asked
            if asked.kind == "question"
        )
        return Suspended.until(*self.asked, lines=lines)


def _messages_read(entries: Iterable[JournalEntry]) -> dict[str, list[str]]:
    """Where the journal has what earlier attempts have read of users' messages, by the key of the turn it was for."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        turn, mark, _ = entry.key.rpartition(_MESSAGES)
        if mark:
            found.setdefault(turn, []).append(entry.key)
    return found
