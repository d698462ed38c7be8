"""Running a workflow: steps concurrently where their dependencies allow, each journaled, retried, or skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from runyard.errors import AgentError, ProviderError
from runyard_common.agents.rules.workflows import Step, Workflow
from runyard_common.runs.rules.journal import Step as Entry
from runyard_workers.agent import events
from runyard_workers.attempts.attempt import Attempt, Suspended

#: Performs one try of a step: its journal prefix, the step, and the results of the steps it depends on.
Perform = Callable[[str, Step, Mapping[str, Any]], Awaitable[Any]]
_LONGEST_ERROR = 1000


class WorkflowFailed(AgentError):
    """A step of a workflow failed, and it was not optional."""

    code = "workflow_step_failed"


class WorkflowRun:
    """One workflow of one attempt; `index` numbers it among the run's workflows."""

    def __init__(self, attempt: Attempt, workflow: Workflow, index: int, perform: Perform) -> None:
        self._attempt = attempt
        self._workflow = workflow
        self._prefix = f"w{index}"
        self._numbers = {step.id: number for number, step in enumerate(workflow.steps)}
        self._perform = perform
        self._results: dict[str, dict[str, Any]] = {}
        self._running: dict[asyncio.Task[dict[str, Any]], Step] = {}
        self._waiting: list[Suspended] = []

    async def run(self) -> dict[str, dict[str, Any]]:
        """The result of each step, ``{status: completed, output}`` or ``{status: skipped, error}``.

        Raises `WorkflowFailed`, or `Suspended` once no step can go on without a person.
        """
        flow = self._workflow
        await self._note("started", events.workflow(flow.id, "started", name=flow.name))
        try:
            while self._begin_ready():
                done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._collect(task)
        finally:
            await self._cancel_running()
        if self._waiting:
            raise Suspended.merged(self._waiting)
        statuses = {step.id: self._results[step.id]["status"] for step in flow.steps}
        await self._note("completed", events.workflow(flow.id, "completed", steps=statuses))
        return self._results

    def _begin_ready(self) -> bool:
        """Start what can start; whether anything runs."""
        begun = {step.id for step in self._running.values()} | self._results.keys()
        if not self._waiting:
            for step in self._workflow.ready(self._results.keys(), begun):
                self._running[asyncio.create_task(self._step(step), name=f"step-{step.id}")] = step
        return bool(self._running)

    def _collect(self, task: asyncio.Task[dict[str, Any]]) -> None:
        step = self._running.pop(task)
        try:
            self._results[step.id] = task.result()
        except Suspended as waits:
            self._waiting.append(waits)

    async def _cancel_running(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    # -- one step ------------------------------------------------------------------------------------------

    async def _step(self, step: Step) -> dict[str, Any]:
        key = self._key(step)
        entry = await self._attempt.recorded(key)
        if entry is not None:
            return dict(entry.value)
        await self._note(f"s{self._numbers[step.id]}:started", self._event(step, "started", name=step.name))
        result = await self._tries(step)
        more = {k: v for k, v in result.items() if k == "error"} | (
            events.shown("output", result["output"]) if "output" in result else {}
        )
        logged = self._event(step, result["status"], **more)
        await self._attempt.end(Entry(key, "value", step.id, "idempotent"), result, events=(logged,))
        return result

    async def _tries(self, step: Step) -> dict[str, Any]:
        inputs = {name: self._results[name] for name in step.depends_on}
        tried = self._failures(step)
        while True:
            if tried >= step.max_attempts:
                last = await self._attempt.recorded(self._key(step, tried))
                return self._given_up(step, str(last.value if last is not None else None))
            try:
                output = await self._perform(f"{self._key(step)}@{tried + 1}", step, inputs)
                return {"status": "completed", "output": output}
            except Exception as error:
                if step.max_attempts == 1 and not step.optional and isinstance(error, ProviderError):
                    raise  # the whole attempt is tried again, under the provider budget
                tried += 1
                reason = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
                if tried >= step.max_attempts:
                    return self._given_up(step, reason, error)
                await self._failed_try(step, tried, reason)
            await asyncio.sleep(step.delay(tried))

    def _failures(self, step: Step) -> int:
        tried = 0
        while self._attempt.replay.entry(self._key(step, tried + 1)) is not None:
            tried += 1
        return tried

    async def _failed_try(self, step: Step, tried: int, reason: str) -> None:
        event = self._event(step, "retrying", attempt=tried, error=reason, delay_s=step.delay(tried))
        entry = Entry(self._key(step, tried), "value", step.id, "idempotent")
        await self._attempt.end(entry, reason, events=(event,))

    def _given_up(self, step: Step, reason: str, error: Exception | None = None) -> dict[str, Any]:
        if step.optional:
            return {"status": "skipped", "error": reason}
        raise WorkflowFailed(
            f"Step {step.id!r} of workflow {self._workflow.id!r} failed: {reason}",
            workflow=self._workflow.id,
            step=step.id,
            error=getattr(error, "code", None) or type(error).__name__,
        ) from error

    def _key(self, step: Step, failed_try: int = 0) -> str:
        return f"{self._prefix}.s{self._numbers[step.id]}" + (f"!{failed_try}" if failed_try else "")

    def _event(self, step: Step, status: str, **more: Any) -> events.Event:
        return events.workflow_step(self._workflow.id, step.id, status, **more)

    async def _note(self, name: str, event: events.Event) -> None:
        """Log something once, however often the run is resumed."""
        key = f"{self._prefix}:{name}"
        if self._attempt.replay.entry(key) is None:
            await self._attempt.end(Entry(key, "value", name, "read"), None, events=(event,))
