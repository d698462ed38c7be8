"""Why runs are not stored: what is looked up, by their places in the batch. The last reason of a run counts.

Errors: `InvalidRequest` invalid_deadline, datastore_not_found; `PaymentRequired` quota_exceeded; `Forbidden`
tool_not_open; `Conflict` too_many_schedules, too_many_sessions, too_many_stored_files, storage_full;
`TooManyRequests` backlog_full; `StaleFence` (the parent's attempt is over); `ConfigurationChanged` (look again).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection

from runyard_common.agents.rules.tool_access import NOT_OPENED
from runyard_common.agents.service import tools
from runyard_common.database import advisory
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.datastores import queries as datastores
from runyard_common.identity.rules.caps import STORAGE
from runyard_common.identity.service import caps
from runyard_common.runs.queries import tasks, transitions
from runyard_common.runs.rules import deadlines
from runyard_common.runs.rules.run_request import Knowledge
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import sessions_of_runs
from runyard_common.schedules.queries import new_schedules
from runyard_common.values.errors import (
    ConfigurationChanged,
    Forbidden,
    InvalidRequest,
    PaymentRequired,
    RunyardError,
    StaleFence,
    TooManyRequests,
)

Refused = dict[int, RunyardError]


def of_changes(tx: Tx, specs: Sequence[RunSpec], numbers: Mapping[str, int]) -> Refused:
    """Which runs were judged by what is not so any more. Where an organisation's number has changed, what has not
    concerned a run is no reason to judge it again: others may publish agents all the time."""
    return {
        index: ConfigurationChanged()
        for index, spec in enumerate(specs)
        if spec.judged is not None
        and spec.judged.at != numbers[spec.org_id]
        and not spec.judged.still(tx.scope(spec.org_id))
    }


def of_requests(tx: Tx, specs: Sequence[RunSpec], broke: Collection[str]) -> Refused:
    """What the runs bring and need: judged before their sessions are made. `broke` are out of balance."""
    refused: Refused = new_schedules.refusals(tx, [spec.schedules for spec in specs])
    return (
        refused
        | of_lookups(tx, specs, broke)
        | caps.refusals(tx, "sessions", sessions_of_runs.new(tx.conn, specs))
    )


def of_lookups(tx: Tx, specs: Sequence[RunSpec], broke: Collection[str]) -> Refused:
    """What needs no lock, so that a preview judges it too. `broke` are out of balance."""
    refused: Refused = {}
    for index, spec in enumerate(specs):
        if spec.requested and spec.org_id in broke:
            refused[index] = PaymentRequired()
        late = deadlines.refusal(spec.deadline_at, tx.now) if spec.requested else None
        if late is not None:  # on the database's clock
            refused[index] = late
        missing = of_names(tx.conn, spec.org_id, spec.tools, spec.knowledge)
        if missing is not None:
            refused[index] = missing
    return refused


def of_names(
    conn: Connection, org_id: str, wanted: Sequence[str], knowledge: Knowledge | None
) -> RunyardError | None:
    """Why a run cannot have what it names, if it cannot: tools that are not open, datastores that are not there."""
    try:
        tools.check_open(OrgScope(conn, org_id), wanted, NOT_OPENED)  # what the setting opens was left out
    except Forbidden as closed:
        return closed
    return None if knowledge is None else _of_datastores(conn, org_id, knowledge)


def _of_datastores(conn: Connection, org_id: str, wanted: Knowledge) -> InvalidRequest | None:
    """Why these datastores cannot be used, if they cannot: one that is not there, a query without a database."""
    if not wanted.datastores:
        return None
    stores = datastores.named(OrgScope(conn, org_id), [name for _, name in wanted.datastores])
    known = {key for store in stores for key in (store.id, store.name)}
    for field, name in wanted.datastores:
        if name not in known:
            return _no_datastore(f"There is no datastore {name!r}; POST /create-datastore makes one.", field)
    databases = {key for store in stores if store.type == "database" for key in (store.id, store.name)}
    for field, name, asked in wanted.queries:
        if not databases or (asked is not None and asked not in databases):
            whole = f"{field}.datastore" if asked is not None and field != "agent" else field
            message = f"The query {name!r} has no database to run on; name one in `datastores`."
            return _no_datastore(message, whole)
    return None


def _no_datastore(message: str, field: str) -> InvalidRequest:
    return InvalidRequest(message, code="datastore_not_found", field=field)


def of_stored(tx: Tx, specs: Sequence[RunSpec]) -> Refused:
    """What is counted, once the limits are locked."""
    return _full_backlogs(tx, specs) | _full_storage(tx, specs) | _stale_parents(tx, specs)


def _full_backlogs(tx: Tx, specs: Sequence[RunSpec]) -> dict[int, RunyardError]:
    """Refuse what goes over an organisation's bound: exactly for bounds below 1,000, roughly above (`_capacity`)."""
    left: dict[str, int] = {}
    refused: dict[int, RunyardError] = {}
    exact = {s.org_id for s in specs if s.max_queued is not None and s.max_queued < _EXACT_BELOW}
    advisory.lock(tx, [f"backlog|{org_id}" for org_id in exact])  # whichever processes submit
    for index, spec in enumerate(specs):
        if spec.max_queued is None:
            continue
        if spec.org_id not in left:
            left[spec.org_id] = _capacity(tx, spec.org_id, spec.max_queued)
        left[spec.org_id] -= 1
        if left[spec.org_id] < 0:
            refused[index] = TooManyRequests(
                f"The organisation's backlog holds {spec.max_queued} runs, its bound; submit again later.",
                code="backlog_full",
                retry_after=5,
            )
    for org_id, more in left.items():
        _counted[org_id] = _counted[org_id]._replace(left=more)
    return refused


#: Bounds below this are exact.
_EXACT_BELOW: Final = 1000


class _Counted(NamedTuple):
    """A look at a backlog: when, how many more runs its bound allowed, whether less than half of it waited."""

    at: float
    left: int
    low: bool


_NEVER: Final = _Counted(0.0, 0, False)
#: The last look of this process at each organisation's backlog.
_counted: dict[str, _Counted] = {}


def _capacity(tx: Tx, org_id: str, bound: int) -> int:
    """How many more runs may wait. Far from a large bound one count a second will do, and near it one for every so
    many runs as it allows: counting a backlog of thousands in every transaction would cost more than storing the
    run. Where less than half waited, the database need only confirm that it is so still, which costs no round trip."""
    known, half = _counted.get(org_id, _NEVER), bound // 2
    far = known.left > bound // 10
    lasts = 0.0 if bound < _EXACT_BELOW else 1.0 if far else min(1.0, bound / 200_000)
    if 0 <= tx.now - known.at < lasts:
        return known.left
    if tx.retried and lasts and far and known.low:
        tx.require(tasks.waiting(org_id, half) < half, otherwise=lambda: _counted.pop(org_id, None))
        counted = _Counted(tx.now, bound - half, True)
    else:
        count = tasks.backlog(tx.conn, org_id, bound)
        counted = _Counted(tx.now, bound - count, count < half)
    _counted[org_id] = counted
    return counted.left


def _full_storage(tx: Tx, specs: Sequence[RunSpec]) -> dict[int, RunyardError]:
    """Refuse runs whose files go over what an organisation may store."""
    refused: dict[int, RunyardError] = {}
    before: dict[
        str, list[int]
    ] = {}  # the sizes of files of runs before in this transaction, not counted yet
    for index, spec in enumerate(specs):
        if not (files := spec.input.get("files")):
            continue
        sizes = [*before.get(spec.org_id, ()), *(f["size"] for f in files)]
        try:
            caps.check(tx, spec.org_id, "stored_files", len(sizes))
            caps.check(tx, spec.org_id, STORAGE, sum(sizes))
        except RunyardError as refusal:
            refused[index] = refusal
        else:
            before[spec.org_id] = sizes
    return refused


def _stale_parents(tx: Tx, specs: Sequence[RunSpec]) -> dict[int, RunyardError]:
    fenced = {i: s for i, s in enumerate(specs) if s.parent_id is not None and s.parent_fence is not None}
    if not fenced:
        return {}
    heads = transitions.lock(tx, (s.parent_id for s in fenced.values() if s.parent_id))
    refused: dict[int, RunyardError] = {}
    for index, spec in fenced.items():
        assert spec.parent_fence is not None
        if not transitions.owns(heads.get(spec.parent_id or ""), spec.parent_fence):
            refused[index] = StaleFence(task_id=spec.parent_id, attempt=spec.parent_fence.attempt)
    return refused
