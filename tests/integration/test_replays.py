"""Replays: the present code of an agent on the recorded journal of a run."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runyard import BlockingContext, Context, ModelTurn, agent, authoring
from runyard.replays import NotReplayable, Replay
from runyard.testing import replay
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database import pages
from runyard_common.database.rows import OrgScope
from runyard_common.human_tasks.service import answers
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.sessions.service import recordings
from runyard_common.values.errors import Forbidden
from runyard_common.values.ids import uuid7
from runyard_launch.cli.main import app
from runyard_scheduler.duties.admit import Admit
from tests.api_server import Api, workers_of
from tests.installation import Installation
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authoring, "_registry", {})


def refuse(*args: Any) -> Any:
    raise AssertionError("a replay executes nothing")


def recorded(site: Installation, task_id: str, sealer: Sealer | None = None) -> dict[str, Any]:
    """The recording of a run, as it comes out of a file."""
    with site.store.read() as conn:
        found = recordings.page(OrgScope(conn, site.org), task_id, 0, sealer)
    again: dict[str, Any] = json.loads(json.dumps(found))
    return again


def changed(code: Callable[..., Any], version: str = "2.0.0") -> Callable[..., Any]:
    """Another version of the recorded agent."""
    return agent("@replay/order", version=version)(code)


async def record(fn: Callable[..., Any], url: str) -> dict[str, Any]:
    """The recording of a run of `fn`, which asks something at its end."""
    async with Installation(url) as site:
        await site.engine()
        task_id = await site.submit(site.publish(fn, "@replay/order"), {"order": "A1"})

        def asks() -> bool:
            Admit(site.store).run_once(time.time())  # no scheduler runs here, and a wait may be over
            return site.task(task_id).status is Status.WAITING_FOR_INPUT

        await until(asks, 40)
        return recorded(site, task_id)


async def order(ctx: Context, args: dict[str, Any]) -> Any:
    """Uses most of what a context has."""
    price = await ctx.step("price", lambda: 100)
    text = await ctx.model_turn(
        "reply", lambda: ModelTurn("Dear customer", model="m", input_tokens=1, output_tokens=1)
    )
    note = await ctx.tool_call("note", {"text": text}, lambda given: given["text"], call_id="c1")
    await ctx.sleep(0.01)
    both = await ctx.gather(ctx.step("left", lambda: 1), ctx.step("right", lambda: 2))
    child = await ctx.run("@replay/part", {"n": 1})
    parts = await ctx.map("@replay/part", [{"n": 2}, {"n": 3}])
    await ctx.emit("priced", {"price": price})
    name = await ctx.ask("Your name?")
    approved = await ctx.review("send", {"price": price})
    return [price, note, both, child, parts, name, approved]


async def order_again(ctx: Context, args: dict[str, Any]) -> Any:
    """The same calls; none of their functions may be called."""
    price = await ctx.step("price", refuse)
    text = await ctx.model_turn("reply", refuse)
    note = await ctx.tool_call("note", {"text": text}, refuse, call_id="c1")
    await ctx.sleep(60)
    both = await ctx.gather(ctx.step("left", refuse), ctx.step("right", refuse))
    child = await ctx.run("@replay/part", {"n": 1})
    parts = await ctx.map("@replay/part", [{"n": 2}, {"n": 3}])
    await ctx.emit("priced", {"price": price})
    name = await ctx.ask("Your name?")
    approved = await ctx.review("send", {"price": price})
    return [price, note, both, child, parts, name, approved]


async def part(ctx: Context, args: dict[str, Any]) -> int:
    return int(args["n"])


async def test_a_whole_run_is_replayed_without_executing_anything(database_url: str) -> None:
    async with Installation(database_url) as site:
        await site.engine()
        site.publish(part, "@replay/part")
        task_id = await site.submit(site.publish(order, "@replay/order"), {})
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        waiting = recorded(site, task_id)
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "Ann", "me"))
        await site.until(task_id, Status.AWAITING_REVIEW)
        site.transact(lambda tx: answers.review(tx, site.org, task_id, answers.Decision("approve"), "me"))
        task = await site.ended(task_id)
        assert task.output == [100, "Dear customer", [1, 2], 1, [2, 3], "Ann", {"price": 100}]
        ended = recorded(site, task_id)
    changed(order_again)
    found = replay(order_again, ended).check()
    assert (found.went, found.output, found.differences) == ("completed", task.output, ())
    assert found.entries == found.of == len(ended["entries"])
    found = replay("@replay/order", waiting).check()
    assert (found.went, found.next and found.next.kind, found.next and found.next.name) == (
        "goes_on", "question", "Your name?",
    )  # fmt: skip


async def two_steps(ctx: Context, args: dict[str, Any]) -> Any:
    await ctx.step("first", lambda: 1)
    await ctx.step("second", lambda: 2)
    return await ctx.ask("Go on?")


async def test_a_call_that_the_journal_does_not_have_is_where_it_would_go_on(database_url: str) -> None:
    found = await record(two_steps, database_url)

    async def longer(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("first", refuse)
        await ctx.step("second", refuse)
        await ctx.step("third", refuse)

    what = replay(changed(longer), found).check()
    assert (what.went, str(what.next), what.entries) == ("goes_on", "step 'third' (third#1)", 2)
    assert "would go on with step 'third'" in str(what)


async def test_a_changed_order_is_named_with_the_line_of_the_code(database_url: str) -> None:
    found = await record(two_steps, database_url)

    async def renamed(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("first", refuse)
        await ctx.step("other", refuse)

    what = replay(changed(renamed), found)
    _assert_misfit(what, "step 'second' (second#1)", "step 'other' (other#1)")
    assert what.misfit is not None
    lines, first = inspect.getsourcelines(renamed)
    assert what.misfit.line == first + next(n for n, line in enumerate(lines) if "other" in line)
    assert Path(str(what.misfit.file)).name == Path(__file__).name
    with pytest.raises(AssertionError, match="does not fit"):
        what.check()


def _assert_misfit(what: Replay, journal: str, code: str) -> None:
    assert not what.fits
    assert what.misfit is not None
    assert (str(what.misfit.journal), str(what.misfit.code)) == (journal, code)


async def test_what_does_not_fit_is_named_even_where_the_code_catches_it(database_url: str) -> None:
    found = await record(two_steps, database_url)

    async def as_event(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("first", refuse)
        try:
            await ctx.step("third", refuse)
        except Exception:  # noqa: BLE001 - as authors do
            return "caught"

    _assert_misfit(
        replay(changed(as_event, "2.0.1"), found), "step 'second' (second#1)", "step 'third' (third#1)"
    )


async def test_code_that_ends_before_its_journal_does_not_fit(database_url: str) -> None:
    found = await record(two_steps, database_url)

    async def shorter(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.step("first", refuse)

    what = replay(changed(shorter), found)
    assert what.misfit is not None
    assert (str(what.misfit.journal), what.misfit.code) == ("step 'second' (second#1)", None)


async def test_code_without_a_compensation_that_is_registered_does_not_fit(database_url: str) -> None:
    async def undoes(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("first", lambda: 1)
        await ctx.on_failure("undo first", lambda: None)
        return await ctx.ask("on?")

    found = await record(undoes, database_url)

    async def no_more(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("first", refuse)
        return await ctx.ask("on?")

    what = replay(changed(no_more), found)
    assert what.misfit is not None
    assert "undo first" in str(what.misfit.journal)


async def test_an_error_of_the_code_itself_is_named(database_url: str) -> None:
    found = await record(two_steps, database_url)

    async def broken(ctx: Context, args: dict[str, Any]) -> Any:
        first = await ctx.step("first", refuse)
        return first["missing"]

    what = replay(changed(broken), found)
    assert what.misfit is not None
    assert "TypeError" in what.misfit.reason
    assert what.misfit.line == inspect.getsourcelines(broken)[1] + 2


async def test_changed_arguments_are_shown_where_the_journal_has_them(database_url: str) -> None:
    async def pays(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("pay", lambda amount: amount, 10, effect="irreversible")
        return await ctx.ask("Go on?")

    async def pays_more(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("pay", refuse, 20, effect="irreversible")
        return await ctx.ask("Go on?")

    found = await record(pays, database_url)
    what = replay(changed(pays_more), found).check()
    assert [str(one) for one in what.differences] == ["step 'pay' (pay#1): args was ['10'], is ['20']"]


async def test_plain_functions_and_events_are_replayed_too(database_url: str) -> None:
    def plain(ctx: BlockingContext, args: dict[str, Any]) -> Any:
        first = ctx.step("first", lambda: 1)
        paid = ctx.wait_for_event("paid", timeout=0.01, default="late")
        return [first, paid, ctx.ask("Go on?")]

    def plain_again(ctx: BlockingContext, args: dict[str, Any]) -> Any:
        first = ctx.step("first", refuse)
        paid = ctx.wait_for_event("paid", timeout=0.01, default="late")
        ctx.step("new", refuse)
        return [first, paid]

    found = await record(plain, database_url)
    what = replay(changed(plain_again), found).check()
    assert (str(what.next), what.entries) == ("step 'new' (new#1)", 2)


async def test_what_is_no_recording_cannot_be_tried(tmp_path: Path) -> None:
    changed(two_steps)
    for text, reason in (("{}", "no recording"), ("[]", "no recording"), ("nonsense", "no JSON")):
        (tmp_path / "journal.json").write_text(text)
        with pytest.raises(NotReplayable, match=reason):
            replay("@replay/order", tmp_path / "journal.json")
    with pytest.raises(NotReplayable, match="No such file"):
        replay("@replay/order", tmp_path / "missing.json")
    with pytest.raises(NotReplayable, match="is no agent"):
        replay("@replay/unknown", {})


async def test_credentials_of_a_request_are_not_in_a_recording(database_url: str) -> None:
    async def leaks(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("leak", lambda: "Bearer s3cret-token!")
        return await ctx.ask("Go on?")

    async with Installation(database_url) as site:
        await site.engine()
        secrets = site.sealer.seal({"mcp_servers": [{"auth": {"token": "s3cret-token"}}]})
        task_id = await site.submit(site.publish(leaks, "@replay/order"), {}, secrets=secrets)
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        found = recorded(site, task_id, site.sealer)
        assert found["entries"][0]["value"] == "Bearer ********!"
        assert "s3cret" not in json.dumps(found)


async def test_the_journal_of_another_organisations_agent_is_refused(database_url: str) -> None:
    async with Installation(database_url) as site:
        await site.engine()
        name = site.publish(two_steps, "@replay/order", org=uuid7())
        task_id = await site.submit(name)
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        with pytest.raises(Forbidden, match="another organisation's"):
            recorded(site, task_id)


async def test_a_long_journal_comes_in_pages(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def much(ctx: Context, args: dict[str, Any]) -> Any:
        for _ in range(5):
            await ctx.step("piece", lambda: "x" * 1000)
        return await ctx.ask("Go on?")

    async with Installation(database_url) as site:
        await site.engine()
        task_id = await site.submit(site.publish(much, "@replay/order"), {})
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        monkeypatch.setattr(pages, "MOST_BYTES", 2_500)
        found = recorded(site, task_id)
        sizes = [len(found["entries"])]
        while found["next"] is not None:
            with site.store.read() as conn:
                page = recordings.page(OrgScope(conn, site.org), task_id, found["next"])
            assert "task" not in page
            sizes.append(len(page["entries"]))
            found = found | {"entries": found["entries"] + page["entries"], "next": page["next"]}
        assert sizes == [2, 2, 1]

    async def much_again(ctx: Context, args: dict[str, Any]) -> Any:
        return [await ctx.step("piece", refuse) for _ in range(6)]

    assert str(replay(changed(much_again), found).check().next) == "step 'piece' (piece#6)"


async def test_a_library_that_goes_on_from_its_checkpoint_is_not_begun(database_url: str) -> None:
    async def keeps(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.checkpoint_log("graph").write({"n": 1}, {"state": 1})
        return await ctx.ask("Go on?")

    async def goes_on(ctx: Context, args: dict[str, Any]) -> Any:
        log = ctx.checkpoint_log("graph")
        assert await log.read(log.entries[-1].number) == {"state": 1}
        with log.code_of("Graphs"):
            refuse()

    found = await record(keeps, database_url)
    what = replay(changed(goes_on), found).check()
    assert what.next is not None
    assert (what.entries, what.next.name) == (1, "Graphs behind checkpoint 1")


async def test_code_that_blocks_ends_its_replay_at_the_limit(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await record(two_steps, database_url)
    released, ended = threading.Event(), threading.Event()

    async def blocks(ctx: Context, args: dict[str, Any]) -> Any:
        released.wait()
        ended.set()

    changed(blocks)
    try:
        with pytest.raises(NotReplayable, match=r"blocks: it did not come to an end within 1 s"):
            replay("@replay/order", found, timeout=1.0)
        assert not ended.is_set()  # it was not waited for
    finally:
        released.set()


async def test_a_secret_is_in_no_recording_and_keeps_no_replay(database_url: str) -> None:
    found = await record(two_steps, database_url)

    async def signs(ctx: Context, args: dict[str, Any]) -> Any:
        token = await ctx.secret("token")
        await ctx.step("first", refuse, token)
        await ctx.step("second", refuse)
        return await ctx.ask(f"Go on with {token}?")

    assert str(replay(changed(signs), found).check().next) == "question 'Go on with <secret token>?' (ask#1)"


CODE = """
from runyard import agent

@agent("@replay/order", version="2.0.0")
async def order(ctx, args):
    await ctx.step("first", exit)
    await ctx.step("{second}", exit)
    return await ctx.ask("Go on?")
"""


@pytest.mark.processes
async def test_the_command_replays_a_run_of_this_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNYARD_URL", "RUNYARD_API_KEY", "RUNYARD_PROFILE", "RUNYARD_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUNYARD_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    async with Installation(f"sqlite:///{tmp_path / 'runyard.db'}") as site:
        await site.engine()
        task_id = await site.submit(site.publish(two_steps, "@replay/order"), {})
        await site.until(task_id, Status.WAITING_FOR_INPUT)
    (tmp_path / "fits.py").write_text(CODE.format(second="second"))
    (tmp_path / "misfits.py").write_text(CODE.format(second="other"))

    def command(*words: str) -> Any:
        return CliRunner().invoke(app, ["replay", *words])

    saved = await asyncio.to_thread(command, task_id, "--save", "journal.json")
    assert saved.exit_code == 0, saved.output
    fits = await asyncio.to_thread(command, "journal.json", "--agents", "fits.py")
    assert (fits.exit_code, "would go on with question 'Go on?'" in fits.stdout) == (0, True), fits.output
    misfits = await asyncio.to_thread(command, "journal.json", "--agents", "misfits.py", "--json")
    found = json.loads(misfits.stdout)
    assert (misfits.exit_code, found["fits"]) == (1, False)
    assert found["misfit"]["line"] == 7
    assert found["misfit"]["file"].endswith("misfits.py")
    nothing = await asyncio.to_thread(command, "fits.py", "--agents", "fits.py", "--json")
    assert (nothing.exit_code, json.loads(nothing.stderr)["error"]["code"]) == (2, "not_replayable")


async def test_a_journal_is_read_over_http_by_its_own_organisation(home: Path) -> None:
    with Api(home) as api:
        async with workers_of(api, engines=1) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(two_steps, "@replay/order"), {})
            await site.until(task_id, Status.WAITING_FOR_INPUT)
            answer = await client.get(f"/tasks/{task_id}/journal")
            assert answer.status_code == 200, answer.text
            assert replay(two_steps, answer.json()).check().entries == 2
            missing = await client.get(f"/tasks/{uuid7()}/journal")
            assert (missing.status_code, missing.json()["code"]) == (404, "task_not_found")
