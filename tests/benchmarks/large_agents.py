"""Thousands of agents: what it costs to publish them, to start a worker that has them, and what its claims cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import text

from runyard.authoring import AgentDefinition
from runyard_common.agents.queries import agent_versions
from runyard_common.agents.rules.manifests import Manifest, parse
from runyard_common.agents.service.agents import resolve
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import workers
from runyard_common.runs.queries.workers import Health
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import submissions
from runyard_common.runs.service.claims import Batch, Claim, claim
from runyard_common.values.ids import uuid7
from runyard_workers.agent_code import catalogue
from runyard_workers.membership import Membership
from tests import databases

R = TypeVar("R")
ROUNDS = 30
_SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}


async def _work(ctx: Any, args: Any) -> None:
    """Does nothing."""


def python_agents(count: int) -> list[AgentDefinition]:
    """So many agents of Python code."""
    return [
        AgentDefinition(f"@bench/code{n:05}", "1.0.0", _work, True, "One of many.", _SCHEMA, _SCHEMA)
        for n in range(count)
    ]


def declared_agents(count: int) -> list[Manifest]:
    """So many agents of a manifest."""
    given = {"instructions": "You answer in one sentence.", "input": {"schema": _SCHEMA}}
    return [parse({"name": f"@bench/declared{n:05}"} | given) for n in range(count)]


class Fleet:
    """An organisation with so many Python agents and as many declared ones, and a worker that brings them."""

    def __init__(self, url: str, count: int) -> None:
        self.store, self.org, self.worker, self.count = Store(databases.opened(url)), uuid7(), uuid7(), count
        self.code = python_agents(count)
        self.costs: dict[str, float] = {}
        self._timed("publish, Python", self._bring)
        self._timed("publish, declared", lambda: self._bring((), declared_agents(count)))
        self._timed("publish again, Python", self._bring)
        self.agents = self._timed("versions", lambda: catalogue.versions_of(self.store, self.org, self.code))
        member = Membership(self.store, 100, 1e9, self.agents, self.agents)
        self._timed("enlist", lambda: member.enlist(self.worker))
        assert len(self.agents) == count
        if self.store.db.is_postgres:
            with self.store.db.engine.connect() as conn:
                conn.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))

    def _bring(
        self, code: Iterable[AgentDefinition] | None = None, manifests: Iterable[Manifest] = ()
    ) -> list[str]:
        given = self.code if code is None else code
        return catalogue.bring(self.store, self.org, given, manifests, refused=[])

    def _timed(self, name: str, work: Callable[[], R]) -> R:
        """Note the milliseconds of processor time that each agent took."""
        began = time.process_time()
        found = work()
        self.costs[name] = 1e3 * (time.process_time() - began) / self.count
        return found

    def submit(self, count: int) -> None:
        """So many runs of one of the agents."""
        with self.store.begin() as tx:
            ref = resolve(OrgScope(tx.conn, self.org), self.code[-1].name).ref
            specs = [RunSpec(uuid7(), self.org, ref, "native", {"args": {}}) for _ in range(count)]
            submissions.submit(tx, specs)

    def claim(self, slots: int) -> None:
        """One claim by the worker."""
        with self.store.begin() as tx:
            (batch,) = claim(tx, [Claim(self.worker, slots, self.agents)])
        assert isinstance(batch, Batch)
        assert len(batch.claimed) == slots

    def beat(self) -> None:
        """What a heartbeat writes and looks at."""
        with self.store.begin() as tx:
            workers.heartbeat(tx, self.worker, 1e9, Health(0, 100))
        with self.store.read() as conn:
            workers.fleet(conn, time.time()).lacks(self.agents)

    def page(self) -> None:
        """The first page of a list of agents."""
        with self.store.read() as conn:
            assert agent_versions.page(OrgScope(conn, self.org), ["draft", "published"], 51, None, None)


def compare(few_url: str, many_url: str, few: int, many: int) -> Iterable[str]:
    """Lines: what each costs with many agents, to what it costs with few."""
    fleets = Fleet(few_url, few), Fleet(many_url, many)
    for name in fleets[0].costs:
        of_few, of_many = (fleet.costs[name] for fleet in fleets)
        yield f"{name}, each: {of_many / of_few:.2f} ({of_many:.2f} ms)"
    for slots in (1, 50):
        for fleet in fleets:
            fleet.submit(slots * (ROUNDS + 1))
        yield _ratio(f"a claim of {slots}", fleets, partial(Fleet.claim, slots=slots))
    yield _ratio("a heartbeat", fleets, Fleet.beat)
    yield _ratio("a page of agents", fleets, Fleet.page)
    for fleet in fleets:
        fleet.store.db.close()


def _ratio(name: str, fleets: tuple[Fleet, Fleet], work: Callable[[Fleet], None]) -> str:
    seen: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 1):
        for took, fleet in zip(seen, fleets, strict=True):
            began = time.perf_counter()
            work(fleet)
            if number:  # statements are prepared
                took.append(time.perf_counter() - began)
    few, many = map(statistics.median, seen)
    return f"{name}: {many / few:.2f} ({1e3 * many:.1f} ms)"
