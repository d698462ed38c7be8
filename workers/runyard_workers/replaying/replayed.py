"""An attempt that lives from its journal alone: what is not in there ends it, before anything is done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from runyard.checkpoints import CheckpointLog, PastCheckpoints
from runyard.errors import JournalMismatch
from runyard.replays import Difference, Named
from runyard_common.human_tasks.rules import Question
from runyard_common.runs.rules.journal import ASKED, CONCURRENT, INSIDE, TOGETHER, JournalEntry, Step
from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.service import steps
from runyard_common.runs.service.attempts import Asked
from runyard_workers.agent_code import values
from runyard_workers.attempts.attempt import Attempt, Ended, Suspended
from runyard_workers.attempts.checkpoints import RunCheckpoints
from runyard_workers.attempts.children import Children
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.replay import UNORDERED, replayed
from runyard_workers.attempts.turns import Turns

#: Writes that only note what the journal's own entries have come to, or what the code reports.
_NOTES = (steps.end, steps.emit)
#: Calls that have no entry of their own: what they do has.
_WITHOUT_ENTRY = ("map", "gather")
_OURS = (ASKED, CONCURRENT, INSIDE, TOGETHER, "task_id", "until", "turn", "calls")


class ReplayedAttempt(Attempt):
    """Notes in `found` what the code has asked for, in `stopped` the first call that is new, in `misfit` why the code
    does not fit."""

    def note_all(self) -> None:
        """Begin with nothing noted."""
        self.found: dict[str, JournalEntry] = {}
        self.stopped: Named | None = None
        self.misfit: tuple[JournalMismatch, Named] | None = None
        self.differences: list[Difference] = []

    async def recall(self, key: str, kind: str, concurrent: bool = False) -> JournalEntry | None:
        """As of `Attempt`; a call that is not on record ends the replay."""
        try:
            entry = await Attempt.recall(self, key, kind, concurrent)
        except JournalMismatch as misfit:
            self.misfit = self.misfit or (misfit, named(key, kind))
            raise
        begun = self.replay.entry(key)
        if entry is not None or begun is not None:
            self.found[key] = entry or begun  # type: ignore[assignment]
        elif kind not in _WITHOUT_ENTRY:
            await self._stop(named(key, kind))
        return entry

    async def first(self, step: Step, do: Callable[[Step], Awaitable[Any]]) -> Any:
        """As of `Attempt`, without doing anything that is not on record."""
        await self.ready()
        known = self.replay.entry(step.key)
        if known is not None:
            self._compare(known, step)
        entry = await self.recall(step.key, step.kind)
        if entry is None:  # it was under way, and would be done again
            await self._stop(named(step.key, step.kind))
        assert entry is not None
        return replayed(entry, step.name)

    def _compare(self, known: JournalEntry, step: Step) -> None:
        call = named(step.key, step.kind)
        if known.effect != step.effect:
            self.differences.append(Difference(call, "effect", known.effect, step.effect))
        before, now = known.detail or {}, step.detail or {}
        for name in before.keys() & now.keys():
            if name not in _OURS and before[name] != now[name]:
                self.differences.append(Difference(call, name, before[name], now[name]))

    def compare_question(self, key: str, now: Mapping[str, Any]) -> None:
        """Note what was asked otherwise, in a question or review that is on record."""
        asked = next((one for one in self.claimed.answers if one.key == key), None)
        if asked is None:
            return
        for what, value in now.items():
            if asked.payload.get(what) != value:
                self.differences.append(Difference(question(asked), what, asked.payload.get(what), value))

    async def _stop(self, call: Named) -> NoReturn:
        """End the replay here, once the rest of the code has got as far as it can."""
        self.stopped = self.stopped or call
        await self.siblings.settle()
        raise Suspended(Ended(Outcome.HANDED_OVER))

    async def _write(self, batch: Callable[..., Any], command: Any) -> Any:
        if batch in _NOTES:
            return None
        await self._stop(Named("", "write", type(command).__name__))

    def token(self, data: dict[str, Any]) -> None:
        pass


def named(key: str, kind: str) -> Named:
    """A call by its key: `name#2` without its number, and without what a kind puts before it."""
    name = key.rpartition("#")[0] or key
    for prefix in ("model:", "tool:", "run:", "start:", "map:", "event:", "review:", "state."):
        name = name.removeprefix(prefix)
    return Named(key, kind, name)


def question(asked: Asked | Question) -> Named:
    """A question or review by what it is about."""
    name = asked.payload.get("action") or asked.payload.get("text") or asked.key
    return Named(asked.key, asked.kind, str(name))


class ReplayedContext(RunContext):
    """See `runyard.Context`."""

    def _refuse_misfit(self, asked: Asked) -> None:
        attempt = self._attempt
        assert isinstance(attempt, ReplayedAttempt)
        try:
            super()._refuse_misfit(asked)
        except JournalMismatch as misfit:
            attempt.misfit = attempt.misfit or (misfit, question(asked))
            raise

    def _compare_question(self, key: str, now: Mapping[str, Any]) -> None:
        attempt = self._attempt
        assert isinstance(attempt, ReplayedAttempt)
        attempt.compare_question(key, now)

    async def secret(self, name: str) -> str:
        """No secret is in a recording, and nothing that is executed needs one: a text in its place."""
        return f"<secret {values.name(name, 'ctx.secret')}>"

    def checkpoint_log(self, name: str) -> CheckpointLog:
        """See `Context.checkpoint_log`."""
        attempt = self._attempt
        assert isinstance(attempt, ReplayedAttempt)
        return _ReplayedCheckpoints(attempt, values.name(name, "ctx.checkpoint_log"), self._own_turns)


class _ReplayedCheckpoints(RunCheckpoints):
    """A library goes on from its last checkpoint at once: so the replay ends before it does."""

    def __init__(self, attempt: ReplayedAttempt, name: str, turns: Callable[[], Turns]) -> None:
        super().__init__(attempt, name, turns)
        self._replayed = attempt
        attempt.found |= {
            entry.key: entry
            for entry in attempt.replay.entries
            if entry.kind == UNORDERED and entry.key.startswith(f"{self._prefix}/")
        }

    async def previous(self) -> PastCheckpoints | None:
        """See `CheckpointLog`. The session's other runs are in no recording."""
        return None

    @contextmanager
    def code_of(self, library: str) -> Iterator[None]:
        """See `CheckpointLog`."""
        yield self._stop(f"{library} behind checkpoint {self._last}")

    async def write(self, about: Mapping[str, Any], value: Any, **more: Any) -> int:
        """See `CheckpointLog`."""
        return self._stop(f"checkpoint {self._last + 1}")

    def _stop(self, what: str) -> NoReturn:
        self._replayed.stopped = self._replayed.stopped or Named(self._prefix, UNORDERED, what)
        raise Suspended(Ended(Outcome.HANDED_OVER))


class RecordedChildren(Children):
    """Children whose ends are in the recording."""

    def __init__(self, ended: Mapping[str, Any]) -> None:
        self._ended = ended

    async def result(self, child_id: str) -> dict[str, Any] | None:
        """See `Children.result`."""
        return self._ended.get(child_id)

    async def results(self, child_ids: Any) -> dict[str, dict[str, Any]]:
        """See `Children.results`."""
        return {id_: self._ended[id_] for id_ in child_ids if id_ in self._ended}
