"""The console's pages of runs and of one run: every action, on a desk's screen and on a telephone."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.axe import violations
from tests.console import AGENTS, WIDTHS, expect_toast, fits, go, open_run, sign_in, watched
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation with agents that need people."""
    with Stack(tmp_path_factory.mktemp("console"), agents=[str(AGENTS)]) as stack:
        yield stack


@pytest.fixture(params=WIDTHS)
def wide(request: pytest.FixtureRequest, browser: Browser, stack: Stack) -> Iterator[Page]:
    """A signed-in page of each width."""
    with watched(browser, request.param, accept_downloads=True) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        sign_in(page, stack)
        yield page


class _Accepts(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def receiver() -> Iterator[str]:
    """The URL of a receiver of callbacks that takes all."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Accepts)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()


def row(page: Page, task_id: str) -> Locator:
    return page.locator("#runs li", has=page.locator(f'[data-key="{task_id}"]'))


def tab(page: Page, name: str) -> Locator:
    page.get_by_role("tab", name=name).click()
    return page.locator("#panel")


def bar(page: Page, name: str) -> Locator:
    """The row of the waterfall that has this name."""
    return page.locator("#waterfall summary", has=page.get_by_text(name, exact=True))


def looks_well(page: Page) -> None:
    assert fits(page)
    assert violations(page) == []


def errand(stack: Stack, **args: object) -> str:
    """A run of an errand that was answered, once it has ended."""
    task_id = stack.submit("@console/errand", {"to": "the harbour"} | args)
    stack.until(task_id, "waiting_for_input")
    stack.request("POST", f"/tasks/{task_id}/message", {"message": "nine"})
    stack.until(task_id)
    return task_id


def waiting_again(stack: Stack, task_id: str) -> str:
    """The run that repeats another, once it waits for an answer; an empty text until then."""
    _, page = stack.request("GET", "/api/v1/tasks?status=waiting_for_input&limit=100")
    ids = [task["task_id"] for task in page["data"]]
    return next((one for one in ids if stack.task(one)["retry_of"] == task_id), "")


def test_runs_are_found_by_filters_in_the_address_and_kept_as_a_view(wide: Page, stack: Stack) -> None:
    task = stack.run("@demo/echo", {"n": 4711}, session_id="birds")
    task_id, session = task["task_id"], task["session_id"]
    failed = stack.run("@demo/failer", {"code": "too_late"})["task_id"]
    go(wide, "runs")
    expect(row(wide, task_id)).to_contain_text('{"n":4711}')  # it has no title
    group = wide.get_by_role("group", name="Status")
    group.get_by_role("button", name="failed").click()
    expect(row(wide, task_id)).to_have_count(0)
    group.get_by_role("button", name="completed").click()
    expect(row(wide, task_id)).to_be_visible()
    expect(row(wide, failed)).to_be_visible()
    wide.get_by_label("Time range").select_option("Last hour")
    wide.get_by_text("More filters").click()
    wide.get_by_role("textbox", name="Session").fill(session)
    wide.keyboard.press("Enter")
    expect(row(wide, failed)).to_have_count(0)
    expect(row(wide, task_id)).to_be_visible()
    assert re.search(rf"status=failed%2Ccompleted&since=1h&session={session}$", wide.url)
    looks_well(wide)
    wide.get_by_text("Views", exact=True).click()
    wide.get_by_role("button", name="Save this view").click()
    wide.get_by_label("Name").fill("Birds")
    wide.keyboard.press("Enter")
    wide.get_by_role("button", name="Copy link").click()
    expect_toast(wide, "Link copied")
    assert wide.evaluate("navigator.clipboard.readText()") == wide.url
    go(wide, "runs")
    expect(row(wide, failed)).to_be_visible()
    wide.get_by_text("Views", exact=True).click()
    wide.get_by_role("link", name="Birds").click()
    expect(row(wide, failed)).to_have_count(0)
    expect(row(wide, task_id)).to_be_visible()
    wide.reload()
    expect(row(wide, task_id)).to_be_visible()
    expect(row(wide, failed)).to_have_count(0)
    wide.get_by_text("Views", exact=True).click()
    wide.get_by_role("button", name="Delete").click()
    expect(wide.get_by_role("link", name="Birds")).to_have_count(0)
    wide.get_by_label("Time range").select_option("Between…")
    wide.get_by_label("Created before").fill("2020-01-31T12:00")
    expect(wide.locator(".empty")).to_contain_text("No run matches these filters")


def test_columns_are_chosen_and_what_is_filtered_is_exported(wide: Page, stack: Stack) -> None:
    ran = [stack.run("@demo/echo", {"n": n}, session_id="export") for n in range(3)]
    ids, session = [task["task_id"] for task in ran], ran[0]["session_id"]
    go(wide, f"runs?session={session}")
    wide.get_by_text("Columns", exact=True).click()
    wide.get_by_role("checkbox", name="Version").check()
    wide.get_by_role("checkbox", name="Session").check()
    wide.get_by_role("checkbox", name="Id").uncheck()
    wide.reload()
    expect(row(wide, ids[0])).to_contain_text("1.0.0")
    expect(row(wide, ids[0]).locator(".cell-name")).to_have_text(["Version ", "Duration ", "Session "])
    looks_well(wide)
    written = {}
    for text in ("CSV", "JSON lines"):
        wide.locator("summary", has_text="Export").click()
        with wide.expect_download() as download:
            wide.get_by_role("button", name=text).click()
        written[text] = Path(download.value.path()).read_text()
        wide.locator("summary", has_text="Export").click()
    count = stack.request("GET", f"/api/v1/tasks?session_id={session}")[1]["data"]
    expect(wide.get_by_text(f"Exported {len(count)} runs.")).to_be_visible()
    rows = list(csv.DictReader(written["CSV"].splitlines()))
    lines = [json.loads(line) for line in written["JSON lines"].splitlines()]
    assert [one["task_id"] for one in rows] == [one["task_id"] for one in lines]
    assert {one["task_id"]: one["preview"] for one in rows}[ids[2]] == '{"n":2}'


def test_many_runs_are_cancelled_and_retried_after_a_question(wide: Page, stack: Stack) -> None:
    waiting = [stack.submit("@console/order", {"item": "Tea", "size": "small"}) for _ in range(3)]
    for task_id in waiting:
        stack.until(task_id, "waiting_for_input")
    done = stack.run("@demo/echo", {"n": 1})["task_id"]
    go(wide, "runs")
    for task_id in (*waiting[:2], done):
        row(wide, task_id).get_by_role("checkbox").check()
    chosen = wide.get_by_role("region", name="Selected runs")
    expect(chosen).to_contain_text("3 runs selected")
    looks_well(wide)
    chosen.get_by_role("button", name="Cancel selected").click()
    wide.get_by_role("dialog").get_by_role("button", name="Leave it").click()
    assert stack.task(waiting[0])["status"] != "stopped"
    chosen.get_by_role("button", name="Cancel selected").click()
    wide.get_by_role("dialog").get_by_role("button", name="Cancel them").click()
    expect(wide.locator(".result")).to_have_text("Cancelled 2 runs. 1 run had ended already.")
    expect(row(wide, waiting[0])).to_contain_text("stopped")
    assert stack.task(waiting[2])["status"] != "stopped"
    for task_id in (waiting[0], done):
        row(wide, task_id).get_by_role("checkbox").check()
    chosen.get_by_role("button", name="Retry selected").click()
    wide.get_by_role("dialog").get_by_role("button", name="Retry them").click()
    expect(wide.locator(".result")).to_have_text("Started 1 run again. 1 run neither failed nor was stopped.")
    again = wait_until(lambda: waiting_again(stack, waiting[0]))
    row(wide, waiting[0]).get_by_role("checkbox").check()
    chosen.get_by_role("button", name="Retry selected").click()
    wide.get_by_role("dialog").get_by_role("button", name="Retry them").click()
    expect(wide.locator(".result")).to_have_text("Started 0 runs again. 1 run left out, retried before.")
    go(wide, f"runs?error={stack.task(waiting[0])['error']['code']}")
    expect(wide.get_by_label("Error code")).to_be_visible()
    expect(row(wide, waiting[0])).to_be_visible()
    expect(row(wide, done)).to_have_count(0)
    looks_well(wide)
    go(wide, "runs")
    wide.get_by_role("group", name="Status").get_by_role("button", name="needs an answer").click()
    for task_id in (again, waiting[2]):
        expect(row(wide, task_id)).to_be_visible()
    expect(row(wide, done)).to_have_count(0)
    wide.get_by_role("checkbox", name="Select all shown").check()
    chosen.get_by_role("button", name="Cancel selected").click()
    wide.get_by_role("dialog").get_by_role("button", name="Cancel them").click()
    expect(wide.locator(".result")).to_contain_text("Cancelled")
    assert stack.until(waiting[2])["status"] == "stopped"


def test_a_waterfall_shows_what_a_run_did_and_opens_to_what_it_gave(wide: Page, stack: Stack) -> None:
    task_id = errand(stack)
    open_run(wide, task_id)
    for name in (
        "Run",
        "plan the way",
        "tiny-1",
        "weather",
        "Waited for an answer",
        "pack",
        "parcel 2",
        "@demo/echo",
    ):
        expect(bar(wide, name)).to_be_visible()
    expect(bar(wide, "Went on after waiting")).to_contain_text("completed")
    expect(wide.locator(".sub")).to_contain_text("paused 2 times")  # it waited: no try has failed
    expect(wide.locator(".sub")).not_to_contain_text("attempt")
    depth = "(node) => getComputedStyle(node).paddingLeft"
    inner, outer = (bar(wide, name).locator(".span-name").evaluate(depth) for name in ("parcel 1", "pack"))
    assert float(inner[:-2]) > float(outer[:-2])
    bar(wide, "tiny-1").click()
    expect(wide.locator("[data-span='model:choose#1']")).to_contain_text("812 in, 64 out")
    bar(wide, "weather").click()
    opened = wide.locator("#waterfall li", has=wide.get_by_text("weather", exact=True))
    expect(opened).to_contain_text('"place": "the harbour"')
    expect(opened).to_contain_text('"rain": false')
    looks_well(wide)
    wide.get_by_role("button", name="Copy link").click()
    link = wide.evaluate("navigator.clipboard.readText()")
    assert link == wide.url
    other = wide.context.new_page()
    other.goto(link)
    other.get_by_label("API key").fill(stack.key)
    other.keyboard.press("Enter")
    expect(other.locator("#waterfall details[open]")).to_contain_text('"rain": false')
    other.close()


def test_the_parts_of_a_run_have_tabs_with_addresses(wide: Page, stack: Stack) -> None:
    with receiver() as url:
        task_id = stack.submit("@console/errand", {"to": "the hill"}, callback={"url": url})
        stack.until(task_id, "waiting_for_input")
        open_run(wide, task_id)
        spoken = tab(wide, "Conversation")
        expect(spoken).to_contain_text("At what hour?")
        spoken.get_by_label("Message to the run").fill("ten")
        spoken.get_by_role("button", name="Send").click()
        expect(wide.locator(".head .badge")).to_have_text("completed")
        expect(spoken.locator(".spoken").last).to_contain_text('"packed": 2')
        looks_well(wide)
        logs = tab(wide, "Logs")
        expect(logs.locator("#lines li")).to_have_count(2)
        logs.get_by_label("Filter the log").fill("errand")
        expect(logs.locator("#lines li")).to_have_text(re.compile("An errand to the hill"))
        logs.get_by_label("Filter the log").fill("nothing like it")
        expect(logs).to_contain_text("No line of the log matches.")
        below = tab(wide, "Children")
        expect(below.locator(".leaf")).to_contain_text("completed")
        looks_well(wide)
        below.get_by_role("button", name="Its children").click()
        expect(below).to_contain_text("It started no run.")
        sent = tab(wide, "Deliveries")
        wide.reload()
        again = sent.get_by_role("button", name="Redeliver").first
        expect(again).to_be_visible()
        assert wide.url.endswith("tab=deliveries")
        looks_well(wide)
        again.click()
        expect_toast(wide, "It is sent again.")
        events = tab(wide, "Events")
        events.get_by_label("Type of event").select_option("ask")
        events.locator("summary").first.click()
        expect(events).to_contain_text('"type": "ask"')
        looks_well(wide)
        tab(wide, "Children").get_by_role("link", name="@demo/echo").click()
        expect(wide.get_by_role("heading", level=1)).to_have_text("@demo/echo")
        wide.get_by_role("link", name=task_id).click()
        expect(wide.get_by_role("heading", level=1)).to_have_text("@console/errand")


def test_a_run_goes_on_from_its_last_step_from_a_chosen_one_or_with_other_input(
    wide: Page, stack: Stack
) -> None:
    task_id = errand(stack, lost=True)
    open_run(wide, task_id)
    expect(wide.get_by_role("button", name="Retry from the last step")).to_have_class("primary")
    bar(wide, "parcel 2").click()
    wide.get_by_role("button", name="Run again from here").click()
    wide.get_by_role("dialog").get_by_role("button", name="Run again from here").click()
    expect(bar(wide, "Taken over from the run it repeats")).to_be_visible()
    expect(wide.locator(".head .badge")).to_have_text("failed")
    looks_well(wide)
    open_run(wide, task_id)
    wide.get_by_role("button", name="Change input").click()
    form = wide.get_by_role("dialog")
    expect(form.get_by_label("to required")).to_have_value("the harbour")
    looks_well(wide)
    form.get_by_label("lost").uncheck()
    form.get_by_label("parcels").fill("1")
    form.get_by_role("button", name="Run", exact=True).click()
    wide.locator("section.ask").get_by_role("button", name="ten").click()
    expect(wide.locator(".head .badge")).to_have_text("completed")
    assert stack.task(wide.url.rpartition("/")[2].partition("?")[0])["output"]["packed"] == 1
    wide.get_by_role("button", name="Run again", exact=True).click()
    expect(wide.locator("section.ask")).to_contain_text("At what hour?")
    wide.get_by_role("button", name="Cancel run").click()
    wide.get_by_role("dialog").get_by_role("button", name="Leave it").click()
    expect(wide.locator(".head .badge")).to_have_text("needs an answer")
    wide.get_by_role("button", name="Cancel run").click()
    wide.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(wide.locator(".head .badge")).to_have_text("stopped")


def test_a_viewer_is_offered_nothing_that_is_refused(browser: Browser, stack: Stack) -> None:
    asks = stack.submit("@console/order", {"item": "Tea", "size": "small"})
    ended = errand(stack)
    status, made = stack.request("POST", "/api/v1/keys", {"name": "looks", "role": "viewer"})
    assert status == 201, made
    with watched(browser) as page:
        sign_in(page, stack, made["key"])
        go(page, "runs")
        expect(row(page, ended)).to_be_visible()
        expect(page.locator(".pick")).to_have_count(0)
        open_run(page, asks)
        expect(page.locator("section.ask")).to_contain_text("Your role may not answer this.")
        expect(page.get_by_role("button", name="Cancel run")).to_have_count(0)
        open_run(page, ended)
        expect(page.locator(".head .actions button")).to_have_text(["Copy link"])
        bar(page, "weather").click()
        expect(page.get_by_role("button", name="Run again from here")).to_have_count(0)
    stack.request("POST", f"/tasks/{asks}/cancel", {})
