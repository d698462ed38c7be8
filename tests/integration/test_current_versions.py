"""The current version of an agent is the newest that a live worker brings; where none brings any, it stays."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import update

from runyard_common.agents.queries import agents
from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents as service
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import limits, workers
from runyard_common.tables.query import Worker
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties.rescue import Rescue
from runyard_workers.agent_code import catalogue
from runyard_workers.membership import Membership
from tests import databases

Document = dict[str, Any]
AGENT = "@deploy/report"


def code(version: str, name: str = AGENT, **options: Any) -> Document:
    """The manifest of a Python agent."""
    return {"name": name, "version": version, "kind": "python", **options}


def declared(version: str) -> Document:
    """The manifest of a declared agent."""
    return {"name": AGENT, "version": version, "instructions": f"As {version} does."}


class Installation:
    """Workers that start and go, as their processes do it, without the processes."""

    def __init__(self, url: str) -> None:
        self.store = Store(databases.opened(url))
        self.org = uuid7()
        self.member: dict[str, Membership] = {}

    def start(self, *sources: Document) -> str:
        """A worker with these agents starts; its id."""
        brought = catalogue.bring(self.store, self.org, [], [parse(source) for source in sources])
        python = [one for one, source in zip(brought, sources, strict=True) if "kind" in source]
        return self.enlist(Membership(self.store, 10, 60.0, python, brought))

    def enlist(self, member: Membership) -> str:
        worker_id = uuid7()
        member.enlist(worker_id)
        self.member[worker_id] = member
        return worker_id

    def drain(self, worker_id: str) -> None:
        """It was asked to leave and still runs what it has."""
        self.member[worker_id].drain(worker_id)

    def stop(self, worker_id: str) -> None:
        """It leaves in order."""
        self.drain(worker_id)
        self.member[worker_id].retire(worker_id)

    def crash(self, worker_id: str) -> None:
        """It ends without a word, not noticed yet."""

    def kill(self, worker_id: str) -> None:
        """It ends without a word, and a scheduler finds that its lease has run out."""
        with self.store.begin() as tx:
            tx.conn.execute(update(Worker).where(Worker.id == worker_id).values(lease_expires_at=0.0))
        Rescue(self.store).run_once(time.time())

    def publish(self, source: Document) -> None:
        """As `runyard agents publish` does."""
        catalogue.publish(self.store, self.org, [], [parse(source)])

    def current(self, name: str = AGENT) -> str:
        """The version that a run gets which asks for none."""
        with self.store.read() as conn:
            return service.resolve(OrgScope(conn, self.org), name).version.version

    def newest_live(self) -> str | None:
        """The newest version of the agent that a worker brings, worked out from the rows alone."""
        with self.store.read() as conn:
            live = workers.brought(conn)
            agent = agents.by_name(OrgScope(conn, self.org), AGENT)
            assert agent is not None
            rows = agents.versions(conn, agent.id)
        return next((row.version for row in rows if f"{AGENT}@{row.version}" in live), None)


@pytest.fixture
def site(database_url: str) -> Iterator[Installation]:
    """An installation without a worker, on each database."""
    made = Installation(database_url)
    yield made
    made.store.db.close()


def test_the_first_deploy_makes_its_version_current(site: Installation) -> None:
    worker = site.start(code("1.0.0"))
    assert site.current() == "1.0.0"
    site.stop(worker)
    assert site.current() == "1.0.0"  # there is no other


def test_an_old_worker_that_restarts_in_a_rolling_deploy_changes_nothing(site: Installation) -> None:
    old, other_old = site.start(code("1.0.0")), site.start(code("1.0.0"))
    new = site.start(code("2.0.0"))
    assert site.current() == "2.0.0"
    for end in (site.stop, site.kill, site.crash):
        crashed = old
        end(old)
        assert site.current() == "2.0.0"
        old = site.start(code("1.0.0"))
        assert site.current() == "2.0.0"
    site.kill(crashed)
    newer = site.start(code("2.0.0"))
    for gone in (other_old, new, old):
        site.stop(gone)
        assert site.current() == "2.0.0"
    site.stop(newer)
    assert site.current() == "2.0.0"


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("order", ["old first", "new first", "rolling"])
def test_a_rollback_makes_the_old_version_current_and_the_new_one_may_come_again(
    site: Installation, end: str, order: str
) -> None:
    site.stop(site.start(code("1.0.0")))
    new = [site.start(code("2.0.0")), site.start(code("2.0.0"))]
    goes: Callable[[str], None] = getattr(site, end)
    steps: dict[str, list[Callable[[], Any]]] = {"old first": [], "new first": [], "rolling": []}
    start, ends = (lambda: site.start(code("1.0.0"))), [lambda one=one: goes(one) for one in new]
    steps["old first"] = [start, start, *ends]
    steps["new first"] = [*ends, start, start]
    steps["rolling"] = [start, ends[0], start, ends[1]]
    for step in steps[order]:
        step()
        assert site.current() == (site.newest_live() or "2.0.0")
    assert site.current() == "1.0.0"
    site.start(code("2.0.0"))
    assert site.current() == "2.0.0"


def test_a_killed_worker_counts_until_its_lease_has_run_out(site: Installation) -> None:
    new = site.start(code("2.0.0"))
    site.crash(new)
    site.start(code("1.0.0"), code("1.0.0", "@deploy/other"))
    site.start(code("0.9.0"))
    assert site.current() == "0.9.0"  # the code that was published last, not the highest number
    site.kill(new)
    assert site.current() == "0.9.0"


def test_a_worker_that_drains_brings_nothing_any_more(site: Installation) -> None:
    site.start(code("1.0.0"))
    new = site.start(code("2.0.0"))
    site.drain(new)
    assert site.current() == "1.0.0"
    site.stop(new)
    assert site.current() == "1.0.0"


def test_a_worker_that_was_declared_lost_and_is_alive_brings_its_version_again(site: Installation) -> None:
    site.start(code("1.0.0"))
    new = site.start(code("2.0.0"))
    site.kill(new)
    assert site.current() == "1.0.0"
    site.enlist(site.member[new])
    assert site.current() == "2.0.0"


def test_workers_of_other_projects_do_not_disturb_one_another(site: Installation) -> None:
    mine, theirs = site.start(code("2.0.0")), site.start(code("7.0.0", "@other/plan"))
    for worker in (mine, theirs):
        site.stop(worker)
        assert (site.current(), site.current("@other/plan")) == ("2.0.0", "7.0.0")
    site.start(code("1.0.0"))
    assert (site.current(), site.current("@other/plan")) == ("1.0.0", "7.0.0")


def test_an_agent_in_two_places_stays_while_one_of_them_is_left(site: Installation) -> None:
    site.start(code("1.0.0"))
    here, there = site.start(code("2.0.0")), site.start(code("2.0.0"), code("1.0.0", "@other/plan"))
    site.kill(here)
    assert site.current() == "2.0.0"
    site.stop(there)
    assert site.current() == "1.0.0"


def test_other_options_under_one_number_are_rolled_back_too(site: Installation) -> None:
    old = site.start(code("1.0.0", timeout=60))
    new = site.start(code("1.0.0", timeout=90))
    assert site.current().startswith("1.0.0+")
    site.stop(old)
    site.start(code("1.0.0", timeout=60))
    assert site.current().startswith("1.0.0+")
    site.stop(new)
    assert site.current() == "1.0.0"


def test_what_belongs_to_the_current_version_follows_it(site: Installation) -> None:
    site.start(code("1.0.0", description="Old.", max_concurrent=3))
    new = site.start(code("2.0.0", description="New."))

    def state() -> tuple[str, str | None, list[int | None]]:
        with site.store.read() as conn:
            agent = agents.by_name(OrgScope(conn, site.org), AGENT)
            assert agent is not None
            tags = agents.tags(conn, agent.id)
            rules = limits.of_organisation(OrgScope(conn, site.org), f"agent-{agent.id}")
            bound = [rule.max_concurrent for rule in rules]
            tagged = agents.version(conn, tags["latest"])
        return agent.description, tagged.version if tagged else None, bound

    assert state() == ("New.", "2.0.0", [])
    site.stop(new)
    assert state() == ("Old.", "1.0.0", [3])


def test_code_that_is_published_before_its_workers_is_current_once_one_has_it(site: Installation) -> None:
    site.publish(code("1.0.0"))
    assert site.current() == "1.0.0"  # no worker brings another
    old = site.start(code("1.0.0"))
    site.publish(code("2.0.0"))
    assert site.current() == "1.0.0"
    site.stop(old)
    site.start(code("2.0.0"))
    assert site.current() == "2.0.0"


def test_what_a_publish_of_a_declared_agent_chose_stays_until_a_worker_brings_a_newer_one(
    site: Installation,
) -> None:
    worker = site.start(declared("1.0.0"))
    site.publish(declared("2.0.0"))
    assert site.current() == "2.0.0"
    site.stop(worker)
    worker = site.start(declared("1.0.0"))
    assert site.current() == "2.0.0"
    site.publish(declared("1.0.0"))
    assert site.current() == "1.0.0"
    second = site.start(declared("2.0.0"))
    assert site.current() == "1.0.0"
    newer = site.start(declared("3.0.0"))
    assert site.current() == "3.0.0"
    for gone in (newer, second):
        site.stop(gone)
    assert site.current() == "1.0.0"
    assert site.newest_live() == "1.0.0"


def test_declared_agents_in_the_folders_of_workers_are_rolled_back_like_code(site: Installation) -> None:
    old, new = site.start(declared("1.0.0")), site.start(declared("2.0.0"))
    site.stop(old)
    site.start(declared("1.0.0"))
    assert site.current() == "2.0.0"
    site.stop(new)
    assert site.current() == "1.0.0"


def test_a_withdrawn_version_is_current_only_where_nothing_else_is_brought(site: Installation) -> None:
    old = site.start(code("1.0.0"))
    site.start(code("2.0.0"))
    with site.store.begin() as tx:
        agents.update_version(tx, service.resolve(tx.scope(site.org), AGENT).version.id, yanked=True)
    site.start(code("2.0.0"))
    assert site.current() == "1.0.0"
    site.stop(old)
    assert site.current() == "2.0.0"


def test_a_worker_of_an_earlier_version_brings_what_it_can_run(site: Installation) -> None:
    new = site.start(code("2.0.0"))
    site.publish(code("1.0.0"))
    site.enlist(Membership(site.store, 10, 60.0, [f"{AGENT}@1.0.0"], None))
    site.enlist(Membership(site.store, 10, 60.0, None, None))  # of one from before that
    site.stop(new)
    assert site.current() == "1.0.0"


def test_workers_that_start_at_once_agree(site: Installation) -> None:
    versions = ("1.0.0", "2.0.0", "3.0.0", "2.0.0")
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        site.stop(site.start(code(version)))
    for _ in range(5):
        start = Barrier(len(versions))

        def begin(version: str, start: Barrier = start) -> str:
            start.wait()
            return site.start(code(version))

        with ThreadPoolExecutor(len(versions)) as crowd:
            started = list(crowd.map(begin, versions))
        assert site.current() == "3.0.0"
        for gone in started:
            site.stop(gone)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_worker_may_start_while_the_last_newer_one_ends(site: Installation, end: str) -> None:
    site.stop(site.start(code("1.0.0")))
    for _ in range(5):
        new, start = site.start(code("2.0.0")), Barrier(2)
        assert site.current() == "2.0.0"

        def begin(start: Barrier = start) -> str:
            start.wait()
            return site.start(code("1.0.0"))

        def leave(new: str = new, start: Barrier = start) -> None:
            start.wait()
            getattr(site, end)(new)

        with ThreadPoolExecutor(2) as crowd:
            gone, old = crowd.submit(leave), crowd.submit(begin)
            gone.result()
        assert site.current() == "1.0.0"
        site.stop(old.result())


def test_after_concurrent_changes_the_newest_that_is_left_is_current(site: Installation) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        site.stop(site.start(code(version)))
    left = site.start(code("1.0.0"))

    def deploys(seed: int) -> list[str]:
        chance, mine = random.Random(seed), list[str]()
        for _ in range(12):
            if mine and chance.random() < 0.5:
                gone = mine.pop(chance.randrange(len(mine)))
                chance.choice([site.stop, site.kill])(gone)
            else:
                mine.append(site.start(code(chance.choice(["1.0.0", "2.0.0", "3.0.0"]))))
        return mine

    with ThreadPoolExecutor(4) as crowd:
        mine = [worker for left_over in crowd.map(deploys, range(4)) for worker in left_over]
    seen = [site.current()]
    assert seen[0] == site.newest_live()
    for gone in mine:
        site.stop(gone)
        assert site.current() == site.newest_live()
        seen.append(site.current())
    assert all(later <= earlier for earlier, later in pairwise(seen))
    assert seen[-1] == "1.0.0"
    site.stop(left)
