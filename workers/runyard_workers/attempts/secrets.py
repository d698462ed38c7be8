"""The secrets of a run's organisation, read by its agent."""

from __future__ import annotations

from typing import Any

from runyard.errors import AgentError
from runyard_common.identity.queries import secrets
from runyard_workers.agent_code import values
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.patience import patiently
from runyard_workers.isolation.threads import in_engine_thread


async def read(attempt: Attempt, name: Any) -> str:
    """The value of a secret, which is redacted from now on. Raises `AgentError` secret_not_found."""
    name = values.name(name, "ctx.secret")
    await attempt.ready()

    def sealed() -> bytes | None:
        with attempt.store.read() as conn:
            return secrets.sealed(conn, attempt.task.org_id, name)

    found = await patiently(lambda: in_engine_thread(sealed), lambda: attempt.ended_by, attempt.task.id)
    if found is None or attempt.sealer is None:
        raise AgentError(
            f"ctx.secret {values.shown(name)}: the organisation has no such secret. Set it with `runyard secrets set` "
            "or PUT /secrets/<name>.",
            code="secret_not_found",
            name=name,
        )
    value = str(attempt.sealer.open(found))
    attempt.redact.add(value)
    return value
