"""Test agents in your own process, without any server: scripted models and people, simulated crashes.

    from runyard.testing import call, run

    def test_triage():
        result = run("agents/triage.yaml", {"ticket": "T-1"}, model=[call("lookup", id="T-1"), {"category": "billing"}])
        assert result.output == {"category": "billing"}

The run goes through the real engine on a database of its own, so a suspended or crashed run resumes as it would
in production. The engine is part of the server (``pip install "runyard[server]"``), and loaded when a test first runs.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, Unpack

from runyard import authoring
from runyard.authoring import AgentDefinition
from runyard.extras import MissingExtra
from runyard.recorded import Recorded
from runyard.recorded import recorded as recorded  # noqa: PLC0414 - type checkers see what is given on
from runyard.replays import NotReplayable, Replay

#: A decorated function, its definition, a registered name, a manifest, or the file that holds one.
Agent = Callable[..., Any] | AgentDefinition | Mapping[str, Any] | str | Path


@dataclass(frozen=True)
class Call:
    """The scripted model calls a tool. Several in a list are made side by side."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def call(tool: str, /, **arguments: Any) -> Call:
    """The scripted model calls `tool` with these arguments."""
    return Call(tool, arguments)


@dataclass(frozen=True)
class Decision:
    """What a person decides on a review."""

    action: str
    reason: str | None = None
    arguments: Any = None
    result: Any = None


def approve() -> Decision:
    """Let the step go ahead."""
    return Decision("approve")


def reject(reason: str = "") -> Decision:
    """Refuse the step."""
    return Decision("reject", reason=reason or None)


def edit(arguments: Any) -> Decision:
    """Let the step go ahead with other arguments."""
    return Decision("edit", arguments=arguments)


def redo() -> Decision:
    """A step with an unknown outcome is done again."""
    return Decision("redo")


def skip(result: Any) -> Decision:
    """A step with an unknown outcome counts as done, with this result."""
    return Decision("skip", result=result)


def expire() -> Decision:
    """The question or review gets no answer: its time passes, and what it declares for that comes about."""
    return Decision("expire")


#: Lets the time of the run that is under way pass.
PASSING: ContextVar[Callable[[float], Any]] = ContextVar("runyard_passing_time")


def pass_time(seconds: float) -> None:
    """Let time pass within a run's code, as if it had taken so long: deadlines and timeouts are over sooner.

    Raises `AssertionError` outside the code of a run of `run`.
    """
    passing = PASSING.get(None)
    assert passing is not None, "pass_time: call it in the code of an agent that `run` executes."
    passing(seconds)


@dataclass(frozen=True)
class Sent:
    """An event from outside. See `event`."""

    name: str
    data: Any = None
    key: str | None = None


def event(name: str, data: Any = None, *, key: str | None = None) -> Sent:
    """An event from outside, sent once a run waits for one of this name and key."""
    return Sent(name, data, key)


@dataclass(frozen=True)
class Prompt:
    """What a scripted model was asked: the system prompt, the last message, tool results, tools on offer."""

    system: str
    text: str
    results: tuple[Any, ...]
    tools: tuple[str, ...]


#: One answer of a scripted model: text, an object (the bound output), calls, an error to raise, or a function.
Turn = str | Mapping[str, Any] | Call | Sequence[Call] | Exception | Callable[[Prompt], Any]


@dataclass(frozen=True)
class Event:
    """One entry of the run's log."""

    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `error` is {code, message, cause, …}; `asked` is what people were asked, in order."""

    status: str
    output: Any
    error: Mapping[str, Any] | None
    events: tuple[Event, ...]
    asked: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    attempts: int
    usage: Mapping[str, Any]
    cost: float  # USD
    tokens: tuple[str, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)  # what `ctx.state` has at the end
    #: Its journal with all that its code was given, for `replay`; as JSON a file like those of `runyard tasks journal`.
    journal: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    writes: tuple[int, ...] = ()  # how many each attempt has made

    def of_type(self, type: str) -> list[Mapping[str, Any]]:
        """The data of the events of one type."""
        return [event.data for event in self.events if event.type == type]


@dataclass(frozen=True)
class Request:
    """A run to make. See `run`."""

    agent: Agent
    args: Any = None
    message: str | None = None
    model: Sequence[Turn] | Recorded = ()
    answers: Sequence[Any] | Mapping[str, Any] = ()
    events: Sequence[Sent] = ()
    history: Sequence[Mapping[str, Any]] = ()
    state: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    agents: Sequence[Agent] = ()
    crash_after: Sequence[int] = ()
    timeout: float = 60.0
    processes: bool = False


class Given(TypedDict, total=False):
    """What a run is given besides its arguments; see `run`."""

    message: str | None
    model: Sequence[Any] | Recorded  # of `Turn`s: a list of several kinds is one of objects to mypy
    answers: Sequence[Any] | Mapping[str, Any]
    events: Sequence[Sent]
    history: Sequence[Mapping[str, Any]]
    state: Mapping[str, Any]
    secrets: Mapping[str, str]
    files: Mapping[str, bytes]
    options: Mapping[str, Any]
    agents: Sequence[Agent]
    crash_after: int | Sequence[int]
    timeout: float
    processes: bool


def run(agent: Agent, args: Any = None, **more: Unpack[Given]) -> Outcome:
    """Run an agent to its end.

    message: the user's message. model: the answers of the scripted model, in order (see `Turn`), or `recorded(file)`.
    answers: what people answer, in order or by the question's text; for reviews `approve()`, `reject()`, `edit()`.
    events: what comes from outside (`event()`), each once a run waits for it; a wait without one times out where it
    may. history: earlier lines {role, type, content} of the conversation. state: what `ctx.state` has at the
    beginning. secrets: what `ctx.secret` finds. files: attachments by name. options: request options (rules,
    mcp_servers, …). agents: further agents this one runs or hands over to. crash_after: the process is lost after so
    many journal writes, once for each number. timeout: seconds (60). processes: agents that declare
    ``isolation="process"`` run in child processes, with their limits, as a worker runs them. By default they run in
    threads of the test's process, where what a test replaces is replaced for them, too.

    Raises `AssertionError` for a question without an answer, a script that ends too soon, a recorded conversation
    that is another, or a run that hangs.
    """
    return _on_a_loop(Request(agent, args, **_tidied(more)))


async def arun(agent: Agent, args: Any = None, **more: Unpack[Given]) -> Outcome:
    """As `run`, inside a running event loop."""
    outcome = await _engine().run(Request(agent, args, **_tidied(more)))
    assert isinstance(outcome, Outcome)
    return outcome


def crashes(agent: Agent, args: Any = None, *, most: int = 200, **more: Unpack[Given]) -> Iterator[Outcome]:
    """The outcomes of the run with its process lost behind each of its journal writes, one write after the other.

    As `run`, which it calls once to count the writes of each attempt, and once for each of them: `most` of them, as a
    run with more is better cut for a test. Answers, events and models are given to each of the runs again.
    """
    assert "crash_after" not in more, "crashes: it chooses `crash_after` itself."
    writes = run(agent, args, **more).writes
    assert sum(writes) <= most, (
        f"The run writes {sum(writes)} times: more than {most}. Cut it, or raise `most`."
    )
    for attempt, count in enumerate(writes):
        for write in range(1, count + 1):
            yield run(agent, args, **more | {"crash_after": (*[_NEVER] * attempt, write)})


#: More writes than a run makes.
_NEVER = 2**31


def occurrences(
    schedule: str, *, timezone: str = "UTC", after: datetime | None = None, count: int = 5
) -> list[datetime]:
    """The next due times of a schedule (a cron line, or a date) behind `after`, or behind now: as the scheduler will
    have them, with the zone's changes of the clock. 100 at most.

    Raises the server's `ScheduleError` for what is no schedule, `MissingExtra` without the server.
    """
    what = "Looking a schedule up in a test"
    rules = _part("runyard_common.schedules.rules.preview", what)
    texts = _part("runyard_common.schedules.rules.schedule_text", what)
    begin = (after or datetime.now(UTC)).timestamp()
    read = texts.parse_schedule(schedule, timezone, now=begin)
    return [datetime.fromisoformat(entry.local) for entry in rules.preview(read, begin, count)]


def replay(
    agent: Callable[..., Any] | AgentDefinition | str,
    journal: str | Path | Mapping[str, Any],
    *,
    files: Mapping[str, bytes] | None = None,
    timeout: float = 60.0,
) -> Replay:
    """Run an agent's present code on the recorded journal of a run, as its next attempt would, executing nothing that
    is new: whether it still fits, and what it would do next. `replay(…).check()` raises `AssertionError` where it does
    not.

    journal: a file that ``runyard tasks journal TASK`` or ``runyard replay TASK --save FILE`` wrote. files: what is in
    the run's attached files, by name. timeout: seconds. Code outside the calls of the context runs as ever.

    Raises `NotReplayable` for a file that is no recording, or an agent that is none.
    """
    engine = _part("runyard_workers.replaying")
    recorded = _part("runyard_workers.replaying.recorded")
    definition = agent if isinstance(agent, AgentDefinition) else _definition(agent)
    found = recorded.recording(recorded.document(journal))
    done = engine.run(definition, found, files, timeout)
    assert isinstance(done, Replay)
    return done


def _definition(agent: Callable[..., Any] | str) -> AgentDefinition:
    known = authoring.every_version() | authoring.registered()
    found = (
        known.get(agent) or known.get(f"@default/{agent}")
        if isinstance(agent, str)
        else authoring.definition_of(agent)
    )
    if found is None:
        raise NotReplayable(f"{agent!r} is no agent: decorate it with @agent, or import its module.")
    return found


def _tidied(more: Given) -> dict[str, Any]:
    crashes = more.get("crash_after")
    return {**more} | ({"crash_after": (crashes,)} if isinstance(crashes, int) else {})


def _engine() -> Any:
    # By name: this package is what authors install, and brings no server code with it.
    return _part("runyard_workers.testkit")


def _part(name: str, what: str = "Running an agent in a test") -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise MissingExtra(what, "server") from missing


#: What making the database and the engine may take before the run begins, and clearing up after it, in seconds.
_STARTING = 60.0
#: How long a loop may leave a call unanswered before it counts as blocked, in seconds.
_ANSWERING = 2.0


def _run_on(loop: asyncio.AbstractEventLoop, request: Request, began: threading.Event) -> Outcome:
    # Not `asyncio.run`: that waits for what the agent left running, in threads and in tasks, however long.
    try:
        outcome = loop.run_until_complete(_engine().run(request, began.set))
        assert isinstance(outcome, Outcome)
        return outcome
    finally:
        for left in asyncio.all_tasks(loop):
            left.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        clients = sys.modules.get("runyard.adapters.clients")
        if clients is not None:
            loop.run_until_complete(clients.close_connections())
        loop.close()


def _answers(loop: asyncio.AbstractEventLoop) -> bool:
    answered = threading.Event()
    try:
        loop.call_soon_threadsafe(answered.set)
    except RuntimeError:  # it is closed: the run has ended
        return True
    return answered.wait(_ANSWERING)


def _on_a_loop(request: Request) -> Outcome:
    """In a thread of its own, so that it works wherever a test runs."""
    if authoring._imported_for_process:
        raise AssertionError(
            "This module runs an agent while the process of an agent imports it, and would do so in that agent's "
            'process again. Put the call under `if __name__ == "__main__":`.'
        )
    done: list[Outcome] = []
    failed: list[BaseException] = []
    loop = _engine().new_loop()
    began = threading.Event()

    def work() -> None:
        try:
            done.append(_run_on(loop, request, began))
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)
        finally:
            began.set()

    thread = threading.Thread(target=work, name="runyard-testing", daemon=True)
    thread.start()
    began.wait(_STARTING)
    thread.join(request.timeout)
    if thread.is_alive() and _answers(loop):
        thread.join(_STARTING)
    if thread.is_alive():
        where = "".join(traceback.format_stack(sys._current_frames().get(thread.ident or 0), limit=5))
        raise AssertionError(
            f"The run did not end within {request.timeout:g} s, and its event loop does not answer:\n{where}"
        )
    if failed and not isinstance(failed[0], Exception):
        raise AssertionError(f"The run ended its process: {type(failed[0]).__name__}.") from failed[0]
    if failed:
        raise failed[0]
    return done[0]
