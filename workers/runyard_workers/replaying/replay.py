"""One replay: the code is called as in the run's next attempt, and what comes of it is judged."""

from __future__ import annotations

import asyncio
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from runyard.authoring import AgentDefinition, newest
from runyard.errors import JournalMismatch
from runyard.replays import Difference, Misfit, Named, NotReplayable, Replay
from runyard_common.database.engine import Database
from runyard_common.runs.rules.endings import REGISTERED
from runyard_common.runtime import NoNotifier, Runtime
from runyard_common.settings import Settings
from runyard_common.stream.live import Live
from runyard_workers.agent.turns import OwnLoops
from runyard_workers.agent_code.exceptions import one_line
from runyard_workers.agent_code.tracebacks import is_ours
from runyard_workers.agent_code.versions import Definitions, own
from runyard_workers.attempts.attempt import Ended, Suspended
from runyard_workers.attempts.failures import classify
from runyard_workers.attempts.python_agents import run_python
from runyard_workers.isolation.run_threads import RunThreads
from runyard_workers.replaying.recorded import Recording
from runyard_workers.replaying.replayed import (
    RecordedChildren,
    ReplayedAttempt,
    ReplayedContext,
    named,
    question,
)

_MANY: Final = 1_000_000


def chosen(agents: Definitions, recording: Recording) -> AgentDefinition:
    """The code to try: of several versions the newest. Raises `NotReplayable`."""
    name = recording.task.agent_name
    found = newest(agents.values()).get(name) or own(agents, name, recording.task.version)
    if found is None:
        known = ", ".join(sorted({one.name for one in agents.values()})) or "none"
        raise NotReplayable(f"There is no Python agent {name} here: name its module with --agents ({known}).")
    return found


async def replay(
    definition: AgentDefinition,
    recording: Recording,
    files: Mapping[str, bytes] | None = None,
    timeout: float = 60.0,
    begins: Callable[[], None] = lambda: None,
) -> Replay:
    """Call the code on the recording. Raises `NotReplayable` where it does not end within `timeout` seconds from when
    `begins` was called."""
    with tempfile.TemporaryDirectory(prefix="runyard-replay-", ignore_cleanup_errors=True) as folder:
        # It is never read, as all is in the recording; it has the clock.
        db = Database(f"sqlite:///{Path(folder) / 'runyard.db'}")
        runtime = Runtime(db, Live(""), NoNotifier())
        threads = RunThreads(8)
        try:
            attempt = ReplayedAttempt(
                recording.claimed, {}, runtime.store, runtime.writer, Live(""), {}, threads
            )
            attempt.note_all()
            context = ReplayedContext(
                attempt,
                recording.session,
                recording.files(files or {}),
                RecordedChildren(recording.children),
                _MANY,  # all that it reports counts as reported
                OwnLoops(Settings(home=Path(folder), model="scripted")),
            )
            begins()
            async with asyncio.timeout(timeout):
                return await _judged(attempt, definition, context, recording)
        except TimeoutError:
            raise NotReplayable(f"The code did not come to an end within {timeout:g} s.") from None
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(runtime.close)


async def _judged(
    attempt: ReplayedAttempt, definition: AgentDefinition, context: ReplayedContext, recording: Recording
) -> Replay:
    def made(fits: bool, went: str, **more: Any) -> Replay:
        return Replay(
            fits, went, definition.name, definition.version, recording.began_with, len(attempt.found),
            len(recording.entries), differences=tuple(attempt.differences), **more,
        )  # fmt: skip

    try:
        result = await run_python(attempt, definition, context)
    except Suspended as left:
        return _left(attempt, left, made)
    except Exception as error:  # noqa: BLE001 - an agent may raise anything
        return _raised(attempt, error, recording, made)
    if attempt.misfit is not None:
        return made(False, "completed", misfit=_misfit(attempt, attempt.misfit[0]))
    if unused := attempt.unused(REGISTERED):
        return made(False, "completed", misfit=_unused(attempt, unused[0]))
    _note_unasked(attempt)
    if recording.status == "completed" and recording.output != result.output:
        call = Named("", "output", definition.name)
        attempt.differences.append(Difference(call, "output", recording.output, result.output))
    return made(True, "completed", output=result.output)


def _left(attempt: ReplayedAttempt, left: Suspended, made: Callable[..., Replay]) -> Replay:
    """The code has come to the end of its journal."""
    if attempt.misfit is not None:
        return made(False, "goes_on", misfit=_misfit(attempt, attempt.misfit[0]))
    _note_unasked(attempt)
    following = attempt.stopped or _waits_for(left.ended)
    # What runs at once is compared at the end alone: an entry that is left may be one that nothing asks for any more.
    settled = attempt.stopped is not None or bool(left.ended.asked)
    skipped = attempt.unused(REGISTERED) if settled else []
    if skipped:
        place = _place(left)
        reason = "The journal has a finished entry that the code does not ask for."
        misfit = Misfit(reason, _named_entry(attempt, skipped[0]), following, *place)
        return made(False, "goes_on", misfit=misfit)
    return made(True, "goes_on", next=following)


def _note_unasked(attempt: ReplayedAttempt) -> None:
    """Answers that nothing asks for any more keep no run from going on, unless it asks something else."""
    for one in attempt.answers.unasked(attempt.claimed.answers):
        attempt.differences.append(Difference(question(one), "answer", one.answer, None))


def _waits_for(ended: Ended) -> Named | None:
    for asked in ended.asked:
        return question(asked)
    for group in ended.groups:
        for key in group.events:
            return named(key, "event")
        for child in group.children:
            return Named(child, "child", child)
        if group.until is not None:
            return Named("sleep", "sleep", "sleep")
    return None


def _raised(
    attempt: ReplayedAttempt, error: Exception, recording: Recording, made: Callable[..., Replay]
) -> Replay:
    if attempt.misfit is not None:
        return made(False, "failed", misfit=_misfit(attempt, attempt.misfit[0]))
    failure = classify(error)
    if failure.code == "file_not_recorded":
        raise NotReplayable(failure.message)
    if recording.status == "failed" and (recording.error or {}).get("code") == failure.code:
        return made(True, "failed")
    cause = error.__cause__ or error
    reason = f"The code raises {one_line(cause)}, where the recorded run did not."
    return made(False, "failed", misfit=Misfit(reason, None, None, *_place(cause)))


def _misfit(attempt: ReplayedAttempt, error: JournalMismatch) -> Misfit:
    assert attempt.misfit is not None
    asked = attempt.misfit[1]
    journaled = error.details.get("journaled")
    key = journaled[0] if journaled else asked.key
    reason = (
        "The code asks for a call that the journal does not have there."
        if journaled
        else "The code asks for another kind of call than the journal has."
    )
    return Misfit(reason, _named_entry(attempt, key), asked, *_place(error))


def _unused(attempt: ReplayedAttempt, key: str) -> Misfit:
    return Misfit(
        "The code ends without a finished entry that the journal has.", _named_entry(attempt, key), None
    )


def _named_entry(attempt: ReplayedAttempt, key: str) -> Named | None:
    entry = attempt.replay.entry(key)
    if entry is not None:
        return named(key, entry.kind)
    return next((question(one) for one in attempt.claimed.answers if one.key == key), None)


def _place(error: BaseException) -> tuple[str | None, int | None]:
    """The last line of the author's code on the way to where an error was raised."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_ours(f.filename)]
    return (frames[-1].filename, frames[-1].lineno) if frames else (None, None)
