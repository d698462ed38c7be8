"""The spans of an attempt: its claim, itself, and what it does; see `runyard_common.tracing`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from runyard_common import tracing
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.lifecycle import Outcome
from runyard_common.runs.rules.tasks import Failure, Task
from runyard_common.runs.service.attempts import Asked
from runyard_common.runs.service.claims import Claimed
from runyard_common.tracing.span import NO_SPAN, Span
from runyard_common.usage.queries import ModelTurn

if TYPE_CHECKING:
    from runyard_common.tracing.recorder import RunTrace

#: The journal's kinds as operations of the GenAI conventions.
_OPERATIONS: Final = {"model": "chat", "tool": "execute_tool"}
#: Providers by the names of those conventions, where ours is another.
_PROVIDERS: Final = {
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "grok": "x_ai",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "azure": "azure.ai.openai",
}


def of_attempt(claimed: Claimed, now: float) -> Span:
    """The span of an attempt that begins, from its claim on; that of the claim is written with it. `now` is the
    database's, in epoch seconds."""
    recorder = tracing.active()
    if recorder is None:
        return NO_SPAN
    task, number, at = claimed.task, claimed.task.attempt, claimed.at
    run = _trace(task)
    # The database's times, on the clock of this process.
    ahead = time.time() - now if at else 0.0
    began = at + ahead if at else time.time()
    known = {"runyard.task.id": task.id, "runyard.attempt": number, "runyard.worker.id": task.lease_owner}
    waited = known | {"runyard.lane": task.lane, "runyard.priority": task.priority}
    recorder.write("claim", waited, recorder.run(run), min(began, task.updated_at + ahead), began)
    return recorder.open_attempt(
        run,
        number,
        known | {"gen_ai.agent.name": task.agent_name, "gen_ai.agent.version": task.version},
        began,
    )


def end(
    span: Span, ended_by: str | None, outcome: Outcome, failure: Failure | None, asked: Sequence[Asked]
) -> None:
    """How the attempt ended. One that lost its task is written by who has found that out."""
    if span is NO_SPAN:
        return
    if ended_by == "lost":
        span.abandon()
        return
    span.set(runyard__outcome=outcome.value, runyard__left=ended_by)
    if outcome is Outcome.FAILED and failure is not None:
        span.set(runyard__cause=failure.cause.value, runyard__retryable=failure.retryable)
        span.fail(failure.code)
    for one in asked:
        span.event("asked", runyard__kind=one.kind)


def of_step(task: Task, step: Step, redact: Callable[[str], str]) -> Span:
    """The span of a step, model turn or tool call that is done now, not one that the journal has."""
    recorder = tracing.active()
    if recorder is None:
        return NO_SPAN
    operation = _OPERATIONS.get(step.kind)
    name = redact(step.name)
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.agent.name": task.agent_name,
        "gen_ai.conversation.id": task.session_id,
        "runyard.task.id": task.id,
        "runyard.step.effect": step.effect,
    }
    if step.kind == "tool":
        attributes["gen_ai.tool.name"] = name
    elif step.kind != "model":
        attributes["runyard.step.name"] = name
    return recorder.span(
        f"{operation or step.kind} {name}", attributes, "client" if step.kind == "model" else "internal"
    )


def of_turn(task: Task, model: str, agent: str) -> Span:
    """The span of a model turn that a declared agent begins; `model` is ``provider:name``."""
    recorder = tracing.active()
    if recorder is None:
        return NO_SPAN
    provider, _, name = model.rpartition(":")
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider) or None,
        "gen_ai.request.model": name,
        "gen_ai.agent.name": agent,
        "gen_ai.conversation.id": task.session_id,
        "runyard.task.id": task.id,
    }
    return recorder.span(f"chat {name}", attributes, "client")


def answered(span: Span, used: ModelTurn, finish_reason: str | None, number: int) -> None:
    """What a model turn has used."""
    if span is NO_SPAN:
        return
    span.set(
        gen_ai__response__model=used.model,
        gen_ai__response__finish_reasons=None if finish_reason is None else (finish_reason,),
        gen_ai__usage__input_tokens=used.input_tokens,
        gen_ai__usage__output_tokens=used.output_tokens,
        gen_ai__usage__cache_read__input_tokens=used.cached_tokens or None,
        runyard__turn=number,
        runyard__cost_micros=used.cost_micros or None,
    )


def traceparent(task: Task) -> str | None:
    """What runs that this attempt starts are stored with: its span, which is written even if this process dies."""
    recorder = tracing.active()
    return None if recorder is None else recorder.stored(recorder.attempt(_trace(task), task.attempt))


def _trace(task: Task) -> RunTrace:
    recorder = tracing.active()
    assert recorder is not None
    return recorder.trace_of(task.id, task.traceparent, task.agent_name)
