"""Spans of runs that have ended, and of attempts that were lost: written by the process whose transaction it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runyard_common import tracing
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries.traced import EndedRun, LostAttempt
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.tracing import wake_ups
from runyard_common.tracing.wake_ups import ReadyRun

if TYPE_CHECKING:
    from runyard_common.tracing.recorder import Recorder


def note_ready(tx: Tx) -> None:
    """What it left to the workers waits for the message that wakes one; the host's clock may be off the database's."""
    ahead = tx.db.clock.offset_s
    wake_ups.note(replace(one, at=one.at + ahead) for one in tx.over if isinstance(one, ReadyRun))


def write(over: Sequence[EndedRun | LostAttempt | ReadyRun]) -> None:
    """Write what a transaction has noted, now that it has committed."""
    recorder = tracing.active()
    if recorder is None:
        return
    for one in over:
        if isinstance(one, EndedRun):
            _write_run(recorder, one)
        elif isinstance(one, LostAttempt):
            _write_lost(recorder, one)


def _write_run(recorder: Recorder, run: EndedRun) -> None:
    failed = run.status not in (Status.COMPLETED.value, Status.STOPPED.value)
    error = run.error if run.status != Status.COMPLETED.value else None
    usage = run.usage or {}
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": run.agent_id,
        "gen_ai.agent.name": run.agent_name,
        "gen_ai.agent.version": run.version or None,
        "gen_ai.conversation.id": run.session_id,
        "gen_ai.request.model": run.model,
        "gen_ai.usage.input_tokens": usage.get("input_tokens"),
        "gen_ai.usage.output_tokens": usage.get("output_tokens"),
        "runyard.task.id": run.id,
        "runyard.task.parent_id": run.parent_id,
        "runyard.organisation.id": run.org_id,
        "runyard.surface": run.front,
        "runyard.status": run.status,
        "runyard.attempts": run.attempt,
        "runyard.cost_micros": run.cost_micros or None,
        "runyard.cause": error.get("cause") if error else None,
        **{f"runyard.retries.{cause}": used for cause, used in (run.retries or {}).items()},
    }
    code = str((error or {}).get("code") or run.status) if failed else None
    recorder.write_run(_trace(recorder, run), attributes, run.created_at, run.finished_at, code)


def _write_lost(recorder: Recorder, lost: LostAttempt) -> None:
    recorder.write_attempt(
        _trace(recorder, lost),
        lost.attempt,
        {
            "runyard.task.id": lost.id,
            "runyard.attempt": lost.attempt,
            "runyard.worker.id": lost.worker,
            "runyard.outcome": "lost",
            "runyard.loss": lost.loss,
        },
        lost.began_at,
        lost.lost_at,
        "worker_lost",
    )


def _trace(recorder: Recorder, of: EndedRun | LostAttempt) -> Any:
    return recorder.trace_of(of.id, of.traceparent, of.agent_name)
