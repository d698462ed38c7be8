"""Run declared agents: the workflows, the conversation, and the structured output taken from both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from runyard.errors import AgentError
from runyard_common.agents.rules.workflows import Step, Workflow
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Store
from runyard_common.datastores.service.datastores import INDEX_DOCUMENT
from runyard_common.outbound import GuardedClient, OutboundPolicy
from runyard_common.runs.rules.journal import Step as Entry
from runyard_common.schemas import outputs
from runyard_common.schemas.outputs import OutputContract
from runyard_common.sessions.rules import Line
from runyard_common.settings import Settings
from runyard_workers.agent import events
from runyard_workers.agent.failures import ModelRefused, OutputInvalid
from runyard_workers.agent.indexing import index
from runyard_workers.agent.loop import prompt
from runyard_workers.agent.loop.conversation import converse
from runyard_workers.agent.loop.models import Models, Prices, ProviderModels
from runyard_workers.agent.loop.run import Run
from runyard_workers.agent.loop.session import FINAL, ModelSession
from runyard_workers.agent.services import Services
from runyard_workers.agent.workflows import WorkflowRun
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.children import Children
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.executor import Result
from runyard_workers.documents.extraction_pool import ExtractionPool

#: How a model fails that gives no object at all, or none that is whole.
_GAVE_NONE: Final = ("output_invalid", "model_misbehaved", "model_no_answer", "model_output_truncated")


class DeclaredRunner:
    """One per worker process, called once per attempt. Create it on the event loop that runs them."""

    def __init__(
        self, settings: Settings, store: Store, writer: GroupCommit, models: Models | None = None
    ) -> None:
        """`models` replaces the providers' models (tests give scripted ones).

        Raises `ConfigurationError` for prices or allowed hosts that cannot be read.
        """
        policy = OutboundPolicy.of(settings)
        self._models = models or ProviderModels(settings)
        self._prices = Prices(settings.model_prices)
        self._services = Services(
            settings,
            store,
            policy,
            GuardedClient(policy, max_answer_bytes=settings.max_answer_bytes),
            ExtractionPool(),
            Children(store),
        )

    async def __call__(self, attempt: Attempt, context: RunContext) -> Result:
        """Run one attempt to its result. Raises `Suspended`, `Cancelled`, or the error that ends it."""
        if (attempt.manifest.get("config") or {}).get("builtin") == INDEX_DOCUMENT:
            return await index(self._services, attempt, context)
        run = Run(self._services, self._models, self._prices, attempt, context)
        try:
            return await _carry_out(run)
        finally:
            await run.tools.aclose()

    async def aclose(self) -> None:
        """Close connections and child processes."""
        await self._models.aclose()
        await self._services.guard.aclose()
        self._services.files.close()


async def _carry_out(run: Run) -> Result:
    for entry in run.attempt.replay.entries:
        if entry.state != "begun":
            run.attempt.replay.recall(entry.key, entry.kind)
    await run.read_images()
    run.results = await _workflows(run)
    main = ModelSession(run, run.plan.output)
    output = await converse(main, await run.first_agent(), run.history())
    lines: tuple[Line, ...] = ()
    if run.plan.output is not None:
        lines = (Line("assistant", "agent_response", output),)
    if run.plan.final_output is not None:
        output = await _final_output(main, run.plan.final_output, output)
    return Result(output, lines)


async def _workflows(run: Run) -> list[tuple[Workflow, dict[str, Any]]]:
    """Carry out the workflows, one after the other, before the agent answers."""
    found = []
    for number, flow in enumerate(run.plan.workflows):
        steps = WorkflowRun(run.attempt, flow, number, partial(_step, run, flow))
        found.append((flow, await steps.run()))
    return found


async def _step(run: Run, flow: Workflow, prefix: str, step: Step, inputs: Mapping[str, Any]) -> Any:
    contract = None
    if step.output_schema is not None:
        field = f"workflows.{flow.id}.{step.id}.output_schema"
        contract = outputs.from_schema(step.output_schema, field=field)
    session = ModelSession(run, contract, prefix, {"workflow": flow.id, "step": step.id})
    return await converse(session, run.plan.agent.name, [], prompt.step_task(flow, step, inputs))


async def _final_output(main: ModelSession, contract: OutputContract, answer: Any) -> Any:
    """The structured output; `answer`, the conversation's own, where a schema that is a guide led to none."""
    run, key = main.run, "final_output"
    entry = await run.attempt.recorded(key)
    if entry is not None:
        return entry.value
    task = f"Now give {contract.title}: the structured result of this whole conversation."
    session = ModelSession(run, contract, FINAL, {"phase": key})
    try:
        output = await converse(session, run.plan.agent.name, main.messages, task)
        content, violations = output, [one.to_json() for one in contract.violations(contract.wrap(output))]
    except (OutputInvalid, ModelRefused) as failure:
        if not contract.lenient or failure.code not in _GAVE_NONE:
            raise
        output, content, violations = answer, None, [_none_given(failure)]
    event = events.final_output(contract.title, content, violations)
    await run.attempt.end(Entry(key, "value", contract.name, "read"), output, events=(event,))
    return output


def _none_given(failure: AgentError) -> dict[str, str]:
    return {"field": "output", "code": str(failure.code), "message": failure.message}
