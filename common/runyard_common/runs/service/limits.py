"""Limits: rules that admission obeys from the moment they are committed."""

from __future__ import annotations

from dataclasses import dataclass

from runyard_common.database.transaction import Tx
from runyard_common.identity.service import caps
from runyard_common.runs.queries import limit_changes, limits
from runyard_common.runs.queries.transitions import lock
from runyard_common.runs.rules.admission import Kind, Rule, Strategy
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.lifecycle import OCCUPIES_SLOTS
from runyard_common.values.errors import InvalidRequest, NotFound
from runyard_common.values.ids import token

#: Starts are kept this long, so no window may be longer. Seconds.
LONGEST_WINDOW = 86_400.0


@dataclass(frozen=True, slots=True)
class LimitRequest:
    """A limit that is asked for. `rate` is starts per `rate_seconds`; at least one bound is needed."""

    kind: str
    selector: str = "*"
    max_concurrent: int | None = None
    rate_count: int | None = None
    rate_seconds: float | None = None
    tokens_per_minute: int | None = None
    strategy: str = "enqueue"


def save(tx: Tx, org_id: str, wanted: LimitRequest, limit_id: str | None = None) -> Rule:
    """Create or replace a limit; running tasks that it binds are counted at once, none is ended.

    Errors: `InvalidRequest` invalid_limit (with the field), `NotFound` when `limit_id` is not this
    organisation's.
    """
    _check(wanted)
    limits.alter(tx, org_id)
    if limit_id is not None and not _own(tx, org_id, limit_id):
        raise NotFound("There is no such limit.", code="limit_not_found")
    if limit_id is None and org_id != "*":
        caps.check(tx, org_id, "limits")
    rule = Rule(
        limit_id or token("lim_", 8),
        org_id,
        Kind(wanted.kind),
        wanted.selector,
        wanted.max_concurrent,
        wanted.rate_count,
        wanted.rate_seconds,
        wanted.tokens_per_minute,
        Strategy(wanted.strategy),
    )
    return limit_changes.put(tx, rule)


def remove(tx: Tx, org_id: str, limit_id: str) -> None:
    """Delete a limit; what it kept queued is admitted. Error: `NotFound`."""
    if not limit_changes.discard(tx, org_id, limit_id):
        raise NotFound("There is no such limit.", code="limit_not_found")


def release_leaked(tx: Tx, at_most: int) -> int:
    """Delete the slots of tasks that are neither pending nor running: earlier versions left some. How many."""
    task_ids = limits.unowned(tx.conn, at_most)
    heads = lock(tx, task_ids) if task_ids else {}
    leaked = [id_ for id_ in task_ids if id_ not in heads or heads[id_].status not in OCCUPIES_SLOTS]
    keys = limits.release(tx, leaked) if leaked else []
    tx.freed.update(BlockedBy.limit(key) for key in keys)
    return len(keys)


def _own(tx: Tx, org_id: str, limit_id: str) -> bool:
    return any(rule.org_id == org_id for rule in limits.of_organisation(tx.scope(org_id), limit_id))


def _check(wanted: LimitRequest) -> None:
    if wanted.kind not in set(Kind):
        raise _invalid("kind", f"Use one of: {', '.join(Kind)}.")
    if wanted.strategy not in set(Strategy):
        raise _invalid("strategy", f"Use one of: {', '.join(Strategy)}.")
    if wanted.kind == Kind.KEY and not wanted.selector.startswith("/"):
        raise _invalid(
            "selector", "A key limit's selector is a JSON pointer into args, such as /customer/id."
        )
    if (wanted.rate_count is None) != (wanted.rate_seconds is None):
        raise _invalid("rate_seconds", "Give rate_count and rate_seconds together.")
    if wanted.rate_seconds is not None and not 0 < wanted.rate_seconds <= LONGEST_WINDOW:
        raise _invalid("rate_seconds", "A window is longer than 0 and at most 86,400 seconds.")
    bounds = (wanted.max_concurrent, wanted.rate_count, wanted.tokens_per_minute)
    if all(bound is None for bound in bounds):
        raise _invalid("max_concurrent", "Give max_concurrent, a rate, or tokens_per_minute.")
    if any(bound is not None and bound < 0 for bound in bounds):
        raise _invalid("max_concurrent", "A bound is 0 or more.")


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_limit", field=field)
