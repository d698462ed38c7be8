"""The session of a run that names one by key: found, or made in the transaction that stores the run."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.admission import Strategy
from runyard_common.runs.rules.specs import RunSpec, SessionRef
from runyard_common.sessions.queries import sessions
from runyard_common.sessions.rules import Session
from runyard_common.values.ids import is_uuid


def new(conn: Connection, specs: Sequence[RunSpec]) -> dict[int, tuple[str, Hashable]]:
    """The sessions that are yet to be made, by their runs' places: the organisation, and what distinguishes them."""
    return {
        index: (spec.org_id, (spec.session.scope, spec.session.key))
        for index, spec in enumerate(specs)
        if spec.session is not None and _find(conn, spec.org_id, spec.session) is None
    }


def placed(tx: Tx, specs: Sequence[RunSpec], refused: Collection[int]) -> list[RunSpec]:
    """The specs with their sessions; a run's own strategy counts for it alone. Refused ones make none."""
    ids = [None if index in refused else _ensure(tx, spec) for index, spec in enumerate(specs)]
    strategies = sessions.strategies(tx.conn, {id_ for id_ in ids if id_ is not None})
    found: list[RunSpec] = []
    for spec, id_ in zip(specs, ids, strict=True):
        if id_ is None or spec.session is None:
            found.append(spec)
            continue
        strategy = spec.session.strategy or strategies.get(id_, Strategy.ENQUEUE)
        found.append(replace(spec, session_id=id_, session_strategy=strategy))
    return found


def known(conn: Connection, spec: RunSpec) -> RunSpec:
    """The spec with its session, if that is there already."""
    found = None if spec.session is None else _find(conn, spec.org_id, spec.session)
    if spec.session is None or found is None:
        return spec
    strategy = spec.session.strategy or Strategy(found.strategy)
    return replace(spec, session_id=found.id, session_strategy=strategy)


def _ensure(tx: Tx, spec: RunSpec) -> str | None:
    wanted = spec.session
    if wanted is None:
        return None
    found = _find(tx.conn, spec.org_id, wanted) if is_uuid(wanted.key) else None
    if found is not None:
        return found.id
    strategy = wanted.strategy or Strategy.ENQUEUE
    agent_id, end_user_id = spec.agent.agent_id, spec.end_user_id
    return sessions.ensure(tx, spec.org_id, wanted.key, wanted.scope, agent_id, end_user_id, strategy)


def _find(conn: Connection, org_id: str, wanted: SessionRef) -> Session | None:
    return sessions.named(OrgScope(conn, org_id), wanted.key, wanted.scope)
