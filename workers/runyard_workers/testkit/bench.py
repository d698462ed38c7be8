"""A database, the agents, and one run of the first."""

from __future__ import annotations

import asyncio
import mimetypes
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runyard import json_form, testing
from runyard.authoring import AgentDefinition, every_version, newest
from runyard.recorded import Recorded
from runyard.testing import Agent, Event, Outcome, Prompt, Request
from runyard_common.agents.rules.manifests import Manifest, parse
from runyard_common.agents.service import agents
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.files import open_files
from runyard_common.identity.queries import secrets
from runyard_common.runs.queries import events, queued, tasks, waits, workers
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.blocked_by import RETRY
from runyard_common.runs.rules.lifecycle import ACTIVE, SUSPENDED
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import admissions, claims, rescues, sent_events, submissions
from runyard_common.runtime import NoNotifier, Runtime
from runyard_common.sessions.queries import messages, sessions, state
from runyard_common.sessions.rules import Message, state_scope
from runyard_common.sessions.service import recordings
from runyard_common.settings import Settings
from runyard_common.stream.live import Live
from runyard_common.values.ids import uuid7
from runyard_workers.agent.turns import OwnLoops
from runyard_workers.agent_code.sources import manifest_of
from runyard_workers.attempts.executor import execute
from runyard_workers.attempts.preparation import Preparation
from runyard_workers.isolation.run_threads import RunThreads
from runyard_workers.processes.pool import ProcessPool
from runyard_workers.testkit.clock import Clock, of_clock
from runyard_workers.testkit.conversation import UNNAMED, Conversation
from runyard_workers.testkit.given_answers import GivenAnswers
from runyard_workers.testkit.losses import CountingWriter, until_ended
from runyard_workers.testkit.published import Published
from runyard_workers.testkit.recorded_turns import RecordedLoops, of_environment
from runyard_workers.testkit.variations import Variations

#: Every back-off and sleep is over by then, in seconds.
_FAR: Final = 20 * 365 * 86400.0


@dataclass
class _Heard:
    """The live tokens of the run."""

    tokens: list[str] = field(default_factory=list)

    def token(self, task_id: str, attempt: int, data: dict[str, Any]) -> None:
        """Note a piece of the answer; thinking and a call's arguments are not it."""
        if data.get("kind", "text") == "text":
            self.tokens.append(str(data.get("text", "")))


class Bench:
    """A database, the agents, and one run of the first."""

    def __init__(self, folder: Path, request: Request) -> None:
        self._request = request
        given = request.model
        self._conversation = Conversation(given) if isinstance(given, Recorded) else None
        file = folder / "runyard.db"
        self._definitions = every_version()
        self._main, *self._others = [self._manifest(one) for one in (request.agent, *request.agents)]
        self._published = Published(file, self._definitions, self._main)
        self._org, self._sealer = self._published.org_id, self._published.sealer
        self._clock = Clock()
        database = Database(f"sqlite:///{file}", disposable=True)
        self._runtime = Runtime(of_clock(database, self._clock), Live(""), NoNotifier())
        self._store, self._writer = self._runtime.store, self._runtime.writer
        self._files = open_files(str(folder / "files"))
        # The author tests their own agents in their own process: every tool that is registered there is theirs.
        self._settings = Settings(home=folder, model="scripted", allow_private_urls=True, public_tools="*")
        if self._conversation is not None:
            self._providers = of_environment(folder / "models")
            named = {"model": UNNAMED, "model_prices": self._providers.model_prices}
            self._settings = self._settings.model_copy(update=named)
        self._variations = Variations(self._clock.now)
        self._variations.add_secrets(request.secrets)
        self._rules = PublishRules.of(self._settings, self._sealer)
        self._heard = _Heard()
        self._prompts: list[Prompt] = []
        self._crashes = list(request.crash_after)
        self._writes: list[int] = []
        self._answers = GivenAnswers(self._store, self._org, self._clock, request.answers)
        self._events = list(request.events)
        self._threads = RunThreads(32)
        self._processes: ProcessPool | None = None
        self._runner: Any = None

    async def go(self) -> Outcome:
        """Drive the run to its end."""
        if self._request.processes:
            self._processes = ProcessPool()
        task_id = await asyncio.to_thread(self._submit)
        while (task := self._task(task_id)).finished_at is None:
            if task.status in SUSPENDED:
                self._answers.answer(task_id)
            elif not await self._claim_and_execute() and not self._answers.answer_another():
                await asyncio.to_thread(self._pass_time)
            if self._conversation is not None and self._conversation.misfit is not None:
                raise AssertionError(self._conversation.misfit)
        outcome = self._outcome(task)
        if self._conversation is not None:
            self._conversation.end(outcome.error["message"] if outcome.error else None)
        return outcome

    async def close(self) -> None:
        """Give everything back."""
        if self._processes is not None:
            await self._processes.close()
        if self._runner is not None:
            await self._runner.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._runtime.close)

    # -- submitting ----------------------------------------------------------------------------------------

    def _submit(self) -> str:
        if self._conversation is not None:
            self._conversation.agent = self._main.name
        self._published.publish(self._store, self._rules)
        files = [self._attach(name, data) for name, data in self._request.files.items()]
        with self._store.begin() as tx:
            for manifest in self._others:
                agents.publish(tx, self._org, manifest, shared=True, rules=self._rules)
            record = agents.publish(tx, self._org, self._main, shared=True, rules=self._rules)
            for name, value in self._request.secrets.items():
                secrets.put(tx, self._org, name, self._sealer.seal(value), "test")
            spec = RunSpec(
                task_id=uuid7(),
                org_id=self._org,
                agent=record.ref,
                front="native",
                input={
                    "message": self._request.message,
                    "args": json_form.convert(self._request.args),
                    "options": dict(self._request.options),
                    "files": files,
                },
                session_id=self._session(tx),
            )
            refused = submissions.submit(tx, [spec])[0]
        if isinstance(refused, Exception):
            raise refused
        return spec.task_id

    def _session(self, tx: Tx) -> str | None:
        if not self._request.history and not self._request.state:
            return None
        session_id = sessions.ensure(tx, self._org, "test")
        messages.insert_many(tx, [self._message(tx, session_id, line) for line in self._request.history])
        for name, value in self._request.state.items():
            state.put(tx, self._org, state_scope(session_id, ""), name, json_form.convert(value))
        return session_id

    def _message(self, tx: Tx, session_id: str, line: Mapping[str, Any]) -> Message:
        role, type_, content = line["role"], line["type"], line["content"]
        return Message(uuid7(), self._org, None, None, session_id, role, type_, content, tx.now)

    def _manifest(self, given: Agent) -> Manifest:
        """The manifest of an agent in any of its forms; a Python agent's function becomes known here."""
        if isinstance(given, AgentDefinition):
            self._definitions[given.versioned] = given
            return parse(given.manifest)
        if isinstance(given, Mapping):
            return parse(dict(given))
        if isinstance(given, str | Path):
            return self._named(given)
        found = next((d for d in self._definitions.values() if d.fn is given), None)
        assert found is not None, f"{given!r} is no agent: decorate it with @agent."
        return parse(found.manifest)

    def _named(self, given: str | Path) -> Manifest:
        path = Path(given)
        if path.suffix in (".yaml", ".yml", ".json"):
            return manifest_of(path)
        known = self._definitions | newest(self._definitions.values())
        for name in (str(given), f"@default/{given}"):
            if name in known:
                return parse(known[name].manifest)
        raise AssertionError(
            f"There is no agent {given!r}: import its module, or give the file of its manifest."
        )

    def _attach(self, name: str, data: bytes) -> dict[str, Any]:
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        sha256 = self._files.put(data).sha256
        return {"id": uuid7(), "name": name, "media_type": kind, "size": len(data), "sha256": sha256}

    # -- running -------------------------------------------------------------------------------------------

    async def _claim_and_execute(self) -> bool:
        """Carry out one attempt of a run; whether there was one that can go on."""
        worker_id = uuid7()
        claimed = await asyncio.to_thread(self._claim, worker_id)
        if not claimed:
            return False
        attempt, runner = await Preparation(
            self._store,
            self._writer,
            self._heard,
            self._files,
            self._sealer,
            self._definitions,
            self._threads,
            self._declared,
            capture=False,  # a test's output is its author's
            loops=self._loops(),
            processes=self._processes,
        )(claimed[0])
        self._variations.add_secrets(attempt.secrets)
        writer = CountingWriter(self._writer, self._crashes.pop(0) if self._crashes else None)
        attempt.writer = writer  # type: ignore[assignment]
        loop = asyncio.get_running_loop()
        token = testing.PASSING.set(lambda seconds: loop.call_soon_threadsafe(pass_time, seconds))
        running = asyncio.create_task(execute(attempt, runner))
        testing.PASSING.reset(token)

        def pass_time(seconds: float) -> None:
            self._clock.skip(seconds)
            if attempt.ends_at is not None:
                attempt.ends_at -= seconds
                if attempt.ends_at < time.monotonic():
                    attempt.leave("timeout")
                    if not attempt.interruptions.defer(running.cancel):
                        running.cancel()

        await until_ended(running, writer.dead)
        self._writes.append(writer.writes)
        if writer.dead.is_set() and self._conversation is not None:
            self._conversation.lose()
        await asyncio.to_thread(self._rescue)
        return True

    def _claim(self, worker_id: str) -> list[claims.Claimed]:
        """Let everything through that waits for a limit or a child, then take one task."""
        with self._store.read() as conn:
            blockers = queued.blockers(conn, "", 1000)
            ended, _ = waits.ended_children(conn, ("", ""), 1000)
        with self._store.begin() as tx:
            admissions.admit_due(tx)
            # A commit has this done behind it, which on a busy machine may not have begun yet.
            admissions.admit_parents(tx, ended)
            for by in blockers:
                admissions.admit_next(tx, by)
        with self._store.begin() as tx:
            workers.enlist(tx, worker_id, "test", 1, 1, 0.0)
            answer = claims.claim(tx, [claims.Claim(worker_id, 1)])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer.claimed

    def _pass_time(self) -> None:
        """Nothing can run: send the next event that a run waits for, or let the time pass that one waits for."""
        with self._store.begin() as tx:
            if self._send(tx):
                return
            waiting = queued.due(tx.conn, tx.now + _FAR, 1)
            names = [wait.name for wait in waits.expected(tx.conn, self._org)]
            assert waiting, (
                f"No event {names[0]!r}: give one in `events`."
                if names
                else f"Nothing can run: what is waited for does not come. {self._unended(tx)}"
            )
            due = waiting[0].available_at or 0.0
            if waiting[0].blocked_by == RETRY:
                tx.now = due  # a test need not wait for it, and its deadlines do not count it
            else:
                self._clock.skip(due - tx.now)
                tx.now = max(due, tx.now)
            admissions.admit_tasks(tx, waiting)

    def _unended(self, tx: Tx) -> str:
        """The runs that have not ended, each with what it waits for."""
        found = tasks.page(tx.scope(self._org), Filter(statuses=tuple(ACTIVE)), 10)
        named = (
            f"{one.agent_name} is {one.status}" + (f" ({one.blocked_by.label})" if one.blocked_by else "")
            for one in found
        )
        return "; ".join(named) + "."

    def _send(self, tx: Tx) -> bool:
        """Send the first of the events that some run waits for."""
        for wait in waits.expected(tx.conn, self._org):
            for given in self._events:
                if given.name == wait.name and wait.address == (
                    f"key:{given.key}" if given.key is not None else ""
                ):
                    self._events.remove(given)
                    new = sent_events.NewEvent(given.name, given.data, key=given.key)
                    sent_events.send(tx, self._org, new, "test")
                    return True
        return False

    def _rescue(self) -> None:
        """The worker is gone, whether it ended its run or was lost with it."""
        with self._store.begin() as tx:
            tx.now += 1.0
            for worker_id in rescues.declare_lost(tx):
                rescues.rescue(tx, worker_id)

    def _loops(self) -> OwnLoops:
        if self._conversation is None:
            return OwnLoops(self._settings)
        return RecordedLoops(self._providers, self._conversation, self._variations)

    async def _declared(self) -> Any:
        if self._runner is None:
            from runyard_workers.agent.loop.runner import DeclaredRunner

            models = self._models()
            self._prompts = models.prompts
            self._runner = DeclaredRunner(self._settings, self._store, self._writer, models)
        return self._runner

    def _models(self) -> Any:
        if self._conversation is None:
            from runyard_workers.agent.loop.scripted import ScriptedModels

            assert not isinstance(self._request.model, Recorded)
            return ScriptedModels(self._request.model)
        from runyard_workers.agent.loop.models import ProviderModels
        from runyard_workers.testkit.recorded_models import RecordedModels

        inner = ProviderModels(self._providers) if self._conversation.recording else None
        return RecordedModels(self._conversation, self._variations, inner, self._providers.model)

    # -- the end -------------------------------------------------------------------------------------------

    def _task(self, task_id: str) -> Task:
        with self._store.read() as conn:
            return tasks.load(conn, [task_id])[task_id]

    def _outcome(self, task: Task) -> Outcome:
        with self._store.read() as conn:
            scope = OrgScope(conn, task.org_id)
            logged = events.after(scope, task.id, 0, 100_000)
            recorded = recordings.whole(scope, task.id)
            kept = state.values(conn, state_scope(task.session_id, task.id))
        error = task.error if task.status == "failed" else None
        if error and "The script has no answer" in error["message"]:
            raise AssertionError(error["message"])
        return Outcome(
            task.status.value,
            task.output,
            error,
            tuple(Event(e["type"], e["data"]) for e in logged),
            tuple(self._answers.asked),
            tuple(self._prompts),
            task.attempt,
            task.usage or {},
            task.cost_micros / 1_000_000,
            tuple(self._heard.tokens),
            kept,
            recorded,
            tuple(self._writes),
        )
