"""Several versions of one agent: each run is executed by the code of its own, or as newer code declares."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runyard import Context, agent, authoring
from runyard.authoring import AgentDefinition, every_version
from runyard.testing import run
from runyard_common.agents.service import agents
from runyard_common.database.rows import OrgScope
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import events, workers
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from runyard_workers.agent_code import catalogue, versions
from tests.installation import Installation

pytestmark = pytest.mark.anyio

NAME = "@side/order"


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authoring, "_registry", {})


def declare(version: str, step: str = "count", **options: Any) -> AgentDefinition:
    """A version of the agent, whose code asks between two steps that are named after `step`."""

    async def order(ctx: Context, args: dict[str, Any]) -> str:
        await ctx.step(f"{step} before", lambda: None)
        await ctx.ask("Go on?")
        return await ctx.step(f"{step} after", lambda: version)

    agent(NAME, version=version, **options)(order)
    return every_version()[f"{NAME}@{version}"]


def publish(site: Installation, *definitions: AgentDefinition) -> None:
    for definition in definitions:
        site.publish_definition(definition)


async def worker(
    site: Installation, *definitions: AgentDefinition, lease_seconds: float | None = None
) -> Any:
    """A worker process that has these, as it would start."""
    own = await asyncio.to_thread(catalogue.versions_of, site.store, site.org, definitions)
    more = await asyncio.to_thread(catalogue.carried_on, site.store, site.org, definitions, own)
    has = {one.versioned: one for one in definitions}
    return await site.engine(lease_seconds=lease_seconds, agents=own, resumes=more, has=has)


async def begun(site: Installation, version: str) -> str:
    """A run of a version that waits for an answer."""
    with site.store.read() as conn:
        ref = agents.resolve(OrgScope(conn, site.org), NAME, version).ref
    assert ref.version == version
    task_id = await site.submit(ref.version_id)
    await site.until(task_id, Status.WAITING_FOR_INPUT)
    return task_id


async def answered(site: Installation, task_id: str) -> Task:
    answer(site, task_id)
    return await site.ended(task_id)


def answer(site: Installation, task_id: str) -> None:
    site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "yes", "me"))


async def test_each_run_is_executed_by_its_own_version_in_one_worker(database_url: str) -> None:
    old, new = declare("1.0.0"), declare("2.0.0", step="sum", resumes="1.x")
    async with Installation(database_url) as site:
        publish(site, old, new)
        await worker(site, old, new)
        of_old, of_new = await begun(site, "1.0.0"), await begun(site, "2.0.0")
        assert (await answered(site, of_old)).output == "1.0.0"
        assert (await answered(site, of_new)).output == "2.0.0"
        assert site.task(of_old).version == "1.0.0"


async def test_newer_code_resumes_a_run_once_no_worker_has_its_version(database_url: str) -> None:
    old, new = declare("1.0.0"), declare("2.0.0", resumes=["^1.0"])
    async with Installation(database_url, lease_seconds=2.0) as site:
        publish(site, old, new)
        first = await worker(site, old, lease_seconds=60.0)  # that it is alive is never in doubt
        second = await worker(site, new)
        assert second._runnable.carried_on == ()
        ours, theirs = await begun(site, "1.0.0"), await begun(site, "1.0.0")
        assert (await answered(site, ours)).output == "1.0.0"
        site.engines.remove(first)
        await first.drain(4.0)
        task = await answered(site, theirs)
        assert (task.output, task.version, task.required_agent) == ("2.0.0", "2.0.0", f"{NAME}@2.0.0")
        with site.store.read() as conn:
            found = events.first(OrgScope(conn, site.org), theirs, ("rebind",))
        assert found is not None
        assert (found["data"]["from"], found["data"]["to"]) == ("1.0.0", "2.0.0")


async def test_a_run_that_was_rebound_stays_with_the_newer_version(database_url: str) -> None:
    """The old code would not know what the new code has journaled."""
    old = declare("1.0.0")
    async with Installation(database_url) as site:
        publish(site, old)
        first = await worker(site, old)
        task_id = await begun(site, "1.0.0")
        site.engines.remove(first)
        await first.drain(4.0)
        begun_again = asyncio.Event()

        async def asks_twice(ctx: Context, args: dict[str, Any]) -> str:
            await ctx.step("count before", lambda: None)
            await ctx.ask("Go on?")
            begun_again.set()
            return str(await ctx.ask("Sure?"))

        agent(NAME, version="2.0.0", resumes="1.x")(asks_twice)
        new = every_version()[f"{NAME}@2.0.0"]
        publish(site, new)
        await worker(site, new)
        answer(site, task_id)
        await asyncio.wait_for(begun_again.wait(), 20)
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        await worker(site, old)
        assert (await answered(site, task_id)).output == "yes"


async def test_code_that_resumes_what_it_does_not_fit_names_both_versions(database_url: str) -> None:
    old, new = declare("1.0.0"), declare("2.0.0", step="sum", resumes="1.x")
    async with Installation(database_url) as site:
        publish(site, old, new)
        first = await worker(site, old)
        task_id = await begun(site, "1.0.0")
        site.engines.remove(first)
        await first.drain(4.0)
        await worker(site, new)
        error = (await answered(site, task_id)).error
        assert error is not None
        assert error["code"] == "journal_mismatch"
        assert "began with version 1.0.0, and version 2.0.0 resumes it" in error["message"]
        assert (error["details"]["began_with"], error["details"]["version"]) == ("1.0.0", "2.0.0")


async def test_runs_of_a_dropped_version_fail_and_others_wait(database_url: str) -> None:
    one, two = declare("1.0.0"), declare("1.5.0")
    new = declare("2.0.0", drops="<1.2")
    async with Installation(database_url) as site:
        publish(site, one, two, new)
        first = await worker(site, one, two)
        dropped, waits = await begun(site, "1.0.0"), await begun(site, "1.5.0")
        site.engines.remove(first)
        await first.drain(4.0)
        await worker(site, new)
        answer(site, waits)
        task = await answered(site, dropped)
        assert task.error is not None
        assert (task.status, task.error["code"]) == (Status.FAILED, "version_dropped")
        assert "1.0.0" in task.error["message"]
        assert "2.0.0" in task.error["message"]
        assert site.task(waits).status is Status.PENDING
        await worker(site, two)
        assert (await site.ended(waits)).output == "1.5.0"


async def test_a_run_that_a_worker_would_rebind_does_not_count_as_left_behind(database_url: str) -> None:
    async with Installation(database_url) as site:
        site.transact(lambda tx: workers.enlist(tx, "w", "h", 1, 1, 60.0, [], [], [f"{NAME}@1.0.0"]))
        with site.store.read() as conn:
            fleet = workers.fleet(conn, site.db.now(conn))
        assert fleet.has(f"{NAME}@1.0.0")
        assert not fleet.has_code(f"{NAME}@1.0.0")
        assert not fleet.has(f"{NAME}@1.1.0")


async def test_a_worker_with_many_agents_resumes_too(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MANY_AGENTS", 0)
    old, new = declare("1.0.0"), declare("2.0.0", resumes="1.x")
    async with Installation(database_url) as site:
        publish(site, old, new)
        task_id = await site.submit(NAME, {})
        assert site.task(task_id).version == "2.0.0"
        with site.store.read() as conn:
            older = agents.resolve(OrgScope(conn, site.org), NAME, "1.0.0").ref.version_id
        tasks = [task_id, await site.submit(older)]
        await worker(site, new)
        for one in tasks:
            await site.until(one, Status.WAITING_FOR_INPUT)
            assert (await answered(site, one)).output == "2.0.0"


async def test_the_newest_of_a_workers_versions_is_current_also_where_another_was_published_last(
    database_url: str,
) -> None:
    async with Installation(database_url) as site:
        both = [declare("2.0.0"), declare("3.0.0-beta.1"), declare("1.0.0")]
        assert catalogue.bring(site.store, site.org, both, []) == [f"{NAME}@2.0.0"]
        fixed = [*both, declare("1.0.1")]
        assert catalogue.bring(site.store, site.org, fixed, []) == [f"{NAME}@2.0.0"]
        assert catalogue.publish(site.store, site.org, fixed, []) == 1
        with site.store.read() as conn:
            found = agents.resolve(OrgScope(conn, site.org), NAME).version.version
            older = agents.resolve(OrgScope(conn, site.org), NAME, "^1.0").version.version
        assert (found, older) == ("2.0.0", "1.0.1")


async def test_a_crash_resumes_on_the_version_that_began(database_url: str) -> None:
    old, new = declare("1.0.0"), declare("2.0.0", step="sum")
    async with Installation(database_url, lease_seconds=2.0) as site:
        publish(site, old, new)
        dies = await worker(site, old, new)
        task_id = await begun(site, "1.0.0")
        site.vanish(dies)
        await worker(site, old, new)
        assert (await answered(site, task_id)).output == "1.0.0"


def test_two_definitions_of_one_name_and_version_are_refused() -> None:
    declare("1.0.0")

    async def other(ctx: Context, args: dict[str, Any]) -> None: ...

    with pytest.raises(ValueError, match=rf"{NAME}: .*declare.* and .*other.*, both of version 1.0.0"):
        agent(NAME)(other)


def test_a_module_that_is_reloaded_leaves_no_version_behind() -> None:
    text = "from runyard import agent\n@agent('@side/re', version={!r})\nasync def work(ctx, args): ...\n"
    for version in ("1.0.0", "2.0.0"):
        exec(compile(text.format(version), "reloaded.py", "exec"), {"__name__": "reloaded"})
    assert list(every_version()) == ["@side/re@2.0.0"]


def test_a_child_that_is_given_as_an_older_function_runs_that_version() -> None:
    @agent("@side/part", version="1.0.0")
    async def part(ctx: Context, args: dict[str, Any]) -> str:
        return "old"

    @agent("@side/part", version="2.0.0")
    async def newer(ctx: Context, args: dict[str, Any]) -> str:
        return "new"

    @agent("@side/whole")
    async def whole(ctx: Context, args: dict[str, Any]) -> list[str]:
        return [await ctx.run(part, {}), await ctx.run(newer, {}), await ctx.run("@side/part", {})]

    assert run(whole).output == ["old", "new", "new"]


@pytest.mark.parametrize("option", ["resumes", "drops"])
def test_ranges_that_are_none_are_refused(option: str) -> None:
    with pytest.raises(TypeError, match=f"{option} takes a range of versions"):
        agent(NAME, **{option: 1})  # type: ignore[call-overload]
    for given, why in (
        ("one", "is no range"),
        (["1.x", "1.2.3.4"], "is no range"),
        ("=1.0.0", "its own version"),
    ):
        with pytest.raises(ValueError, match=f"{option} .*{why}"):
            agent(NAME, version="1.0.0", **{option: given})  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"'0\.x' is in both resumes and drops"):
        agent(NAME, resumes=["0.x", "2.x"], drops="0.x")
    declare("1.0.0", "count", **{option: "01.x"})  # only the server's library knows that it is none
    loaded = catalogue.load_each([])
    assert loaded.definitions == {}
    assert f"{NAME} ({option}): '01.x' is no range of versions" in loaded.broken[0]


def test_what_carries_a_run_on_is_the_newest_that_resumes_it_before_one_that_drops_it() -> None:
    two, three = declare("2.0.0", resumes="1.x"), declare("3.0.0", drops="1.x", resumes="2.x")
    known = {one.versioned: one for one in (two, three)}
    found = versions.code_for(known, NAME, "1.4.0")
    assert found == versions.Code(two, other_version=True)
    assert versions.code_for(known, NAME, "2.0.0+abcd") == versions.Code(two)
    assert versions.code_for(known, NAME, "2.1.0") == versions.Code(three, other_version=True)
    assert versions.code_for(known, NAME, "0.9.0") is None
