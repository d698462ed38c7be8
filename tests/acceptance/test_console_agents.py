"""The console's pages of agents, sessions, the inbox and schedules: every action, on a screen and on a telephone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from tests.axe import violations
from tests.console import AGENTS, WIDTHS, fits, go, sign_in, watched
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)
MANIFEST = """name: "{name}"
version: 1.0.0
description: Summarises what it is given.
instructions: |
  Summarise the text in two sentences.
  Be brief.
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation with agents that take files, ask, and chat."""
    with Stack(tmp_path_factory.mktemp("work"), agents=[str(AGENTS)]) as stack:
        yield stack


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Browser, stack: Stack) -> Iterator[Page]:
    """A signed-in page on a screen or a telephone, light on the one and dark on the other."""
    scheme = "light" if request.param == WIDTHS[0] else "dark"
    with watched(browser, width=request.param, color_scheme=scheme) as page:
        sign_in(page, stack)
        yield page


def is_sound(page: Page) -> None:
    """The page as it is now fits its window and is accessible."""
    assert fits(page)
    assert violations(page) == []


def agree(page: Page, verb: str) -> None:
    """Answer the question of a dialog."""
    page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()


def press(page: Page, name: str) -> None:
    page.get_by_role("main").get_by_role("button", name=name, exact=True).click()


def section(page: Page, title: str) -> Locator:
    return page.locator("section.card", has=page.get_by_role("heading", name=title, exact=True))


def width(page: Page) -> int:
    size = page.viewport_size
    assert size is not None
    return size["width"]


def test_an_agent_is_published_compared_tagged_deactivated_and_deleted(page: Page, stack: Stack) -> None:
    name = f"@team/summary_{width(page)}"
    go(page, "agents")
    expect(page.locator(".row", has_text="@demo/echo")).to_be_visible()
    is_sound(page)
    page.get_by_role("link", name="Publish an agent").click()
    manifest = page.get_by_label("Manifest, YAML or JSON")
    manifest.fill("name: no name\n")
    press(page, "Publish")
    expect(page.get_by_role("alert")).to_be_visible()
    manifest.fill(MANIFEST.format(name=name))
    press(page, "Publish")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)

    page.get_by_role("link", name="Versions and tags").click()
    next_version = page.get_by_label("Manifest, YAML or JSON")
    expect(next_version).to_have_value(re.compile(r'version: "1\.0\.1"'))
    next_version.fill(next_version.input_value().replace("two sentences", "three sentences"))
    press(page, "Publish")
    difference = page.get_by_role("region", name="What changed")
    expect(difference.locator(".removed")).to_contain_text(["1.0.0", "two sentences"])
    expect(difference.locator(".added")).to_contain_text(["1.0.1", "three sentences"])
    page.get_by_label("After").select_option("1.0.0")
    expect(section(page, "Compare")).to_contain_text("Both have the same content.")

    page.get_by_label("New tag", exact=True).fill("1bad")
    press(page, "Set tag")
    expect(page.get_by_role("alert")).to_contain_text("not a version")
    page.get_by_label("New tag", exact=True).fill("stable")
    page.get_by_label("Version of the new tag").select_option("1.0.0")
    press(page, "Set tag")
    expect(page.get_by_label("Version of stable")).to_have_value("1.0.0")
    page.get_by_label("Version of stable").select_option("1.0.1")
    tags = f"/api/v1/agents/{quote(name, safe='')}/tags"
    wait_until(lambda: stack.request("GET", tags)[1]["data"]["stable"] == "1.0.1")
    is_sound(page)
    section(page, "Tags").get_by_role("button", name="Remove").click()
    agree(page, "Remove")
    expect(page.get_by_label("Version of stable")).to_have_count(0)

    older = section(page, "Versions").get_by_role("row").filter(has_text="1.0.0")
    older.get_by_role("button", name="Yank").click()
    agree(page, "Yank")
    expect(older).to_contain_text("yanked")
    older.get_by_role("button", name="Restore").click()
    expect(older).not_to_contain_text("yanked")
    page.get_by_role("link", name="Definition").click()
    expect(page.locator("pre")).to_contain_text("three sentences")

    press(page, "Deactivate")
    agree(page, "Deactivate")
    expect(page.locator(".head .badge")).to_have_text("deactivated")
    page.get_by_role("link", name="Try it").click()
    expect(section(page, "Try it")).to_contain_text("Activate it to run it.")
    press(page, "Activate")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
    press(page, "Delete")
    agree(page, "Delete")
    expect(page.get_by_role("heading", level=1)).to_have_text("Agents")
    page.keyboard.press("/")
    page.get_by_label("Search agents").fill(f"summary_{width(page)}")
    expect(page.get_by_text("No agent is called so.")).to_be_visible()
    expect(page).to_have_url(re.compile(f"q=summary_{width(page)}"))


def test_the_draft_of_an_agent_is_published(page: Page, stack: Stack) -> None:
    status, made = stack.request(
        "POST", "/api/v1/agents", {"name": f"Clerk {width(page)}", "system_prompt": "Be kind."}
    )
    assert status == 201, made
    go(page, f"agents/{quote(made['full_name'], safe='')}?tab=versions")
    press(page, "Publish the draft")
    expect(page.get_by_role("button", name="Publish the draft")).to_have_count(0)
    expect(page.get_by_role("row").nth(1)).to_contain_text("current")


def test_an_agent_is_tried_with_files_options_a_dry_run_and_an_earlier_input(
    page: Page, stack: Stack
) -> None:
    stack.run("@work/reader", {"lines": 7}, query="As before, please")
    go(page, "agents/%40work%2Freader")
    recent = page.get_by_label("Fill in from a recent run")
    recent.select_option(recent.locator("option", has_text="As before").first.get_attribute("value"))
    expect(page.get_by_label("lines")).to_have_value("7")
    expect(page.get_by_label("Message")).to_have_value("As before, please")
    press(page, "Dry run")
    expect(page.get_by_text("It would start at once.")).to_be_visible()
    chosen: list[FilePayload] = [
        {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"},
        {"name": "b.txt", "mimeType": "text/plain", "buffer": b"b"},
    ]
    page.get_by_label("Files").set_input_files(chosen)
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Version", exact=True).fill("9")
    press(page, "Run")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Version", exact=True).fill("1.0.0")
    page.get_by_label("At most, seconds").fill("60")
    session = f"try {width(page)}"
    page.get_by_label("Session").fill(session)
    is_sound(page)
    press(page, "Run")
    answer = page.locator(".live")
    expect(answer.locator("pre")).to_contain_text("b.txt")
    expect(answer.locator("pre")).to_contain_text('"lines": 7')
    expect(section(page, "Recent runs").get_by_role("listitem")).not_to_have_count(0)
    task_id = answer.get_attribute("data-run")
    assert (
        stack.task(str(task_id))["session_id"]
        == stack.request("GET", f"/api/v1/sessions/{quote(session)}")[1]["id"]
    )
    page.get_by_label("Files").set_input_files([])
    page.get_by_label("Start in, seconds").fill("86400")
    press(page, "Run")
    page.get_by_role("link", name="open the schedule").click()
    expect(page.locator(".head .badge")).to_have_text("active")


def test_a_tried_agent_streams_asks_and_is_cancelled_in_place(page: Page, stack: Stack) -> None:
    go(page, "agents/%40console%2Fstreamer")
    press(page, "Run")
    expect(page.locator(".live .speech")).to_contain_text("a word a word")
    is_sound(page)
    press(page, "Cancel")
    expect(page.locator(".live .badge")).to_have_text("stopped")
    go(page, "agents/%40work%2Fplanner")
    press(page, "Run")
    page.locator(".live").get_by_label("Answer").fill("Friday")
    page.keyboard.press("Enter")
    expect(page.locator(".live .answer")).to_have_text("Friday")
    page.locator(".live").get_by_role("link", name="Open the run").click()
    expect(page.locator("#log li").last).to_contain_text("finish")


def test_a_session_is_a_chat_that_is_renamed_forked_cleared_and_deleted(page: Page, stack: Stack) -> None:
    key = f"chat {width(page)}"
    stack.run("@work/chat", {}, query="Hello", session_id=key)
    go(page, "sessions")
    page.get_by_label("Filter sessions").fill(key)
    expect(page.locator(".row")).to_have_count(1)
    is_sound(page)
    page.locator(".row").click()
    chat = page.locator(".chat")
    expect(chat).to_contain_text("Message 1 was: Hello")
    box = page.get_by_label("Message to @work/chat")
    box.fill("And you?")
    box.press("Control+Enter")
    expect(chat).to_contain_text("Message 2 was: And you?")
    expect(page.locator(".live")).to_have_count(0)
    expect(section(page, "State")).to_contain_text('"count": 2')
    expect(section(page, "Runs").get_by_role("listitem")).to_have_count(2)
    is_sound(page)

    page.get_by_label("While a run is under way").select_option("reject")
    kept = f"/api/v1/sessions/{quote(key)}"
    wait_until(lambda: stack.request("GET", kept)[1]["strategy"] == "reject")
    press(page, "Rename")
    page.get_by_label("Name", exact=True).fill(f"{key}, renamed")
    agree(page, "Rename")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{key}, renamed")
    chat.get_by_role("button", name="Fork from here").nth(1).click()
    page.get_by_label("Name of the new session").fill(f"{key}, renamed")
    agree(page, "Fork")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("already")
    page.get_by_label("Name of the new session").fill(f"{key}, fork")
    agree(page, "Fork")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{key}, fork")
    expect(chat).to_contain_text("Message 1 was: Hello")
    expect(chat).not_to_contain_text("And you?")
    press(page, "Clear")
    agree(page, "Clear")
    expect(chat).to_have_text("No message yet.")
    press(page, "Delete")
    agree(page, "Delete")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sessions")
    assert stack.request("GET", f"/api/v1/sessions/{quote(key + ', fork')}")[0] == 404


def made_by_another(stack: Stack, amount: int) -> str:
    """A run that waits, started with a key that is not the page's."""
    key = stack.request("POST", "/api/v1/keys", {"name": f"another {time.time()}"})[1]["key"]
    body = {"args": {"lines": [{"amount": amount, "text": "Ink"}]}}
    headers = {"authorization": f"Bearer {key}"}
    made = stack.request("POST", "/api/v1/agents/%40demo%2Finvoice_check/run", body, headers=headers)
    task_id: str = made[1]["task_id"]
    stack.until(task_id, "waiting_for_input")
    return task_id


def test_the_inbox_shows_the_input_puts_what_is_due_first_and_is_used_by_keyboard(
    page: Page, stack: Stack
) -> None:
    size = width(page)
    invoice = stack.submit("@demo/invoice_check", {"lines": [{"amount": size, "text": f"Paper {size}"}]})
    stack.until(invoice, "waiting_for_input")
    planned = stack.submit("@work/planner", {}, query=f"Plan the week {size}")
    stack.until(planned, "waiting_for_input")
    go(page, "inbox")
    card = page.locator("[data-id]", has=page.locator(f'a[href$="{invoice}"]'))
    plan = page.locator("[data-id]", has=page.locator(f'a[href$="{planned}"]'))
    expect(card).to_contain_text(f"Paper {size}")
    expect(plan).to_contain_text("@work/planner 1.0.0")
    expect(page.locator("[data-id]").first).to_contain_text(f"Plan the week {size}")
    another = made_by_another(stack, size)
    foreign = page.locator("[data-id]", has=page.locator(f'a[href$="{another}"]'))
    expect(foreign).to_be_visible()
    page.get_by_role("button", name="mine").click()
    expect(foreign).to_have_count(0)
    expect(card).to_be_visible()
    is_sound(page)
    page.reload()
    expect(card).to_be_visible()
    expect(foreign).to_have_count(0)
    page.get_by_role("button", name="mine").click()
    expect(foreign).to_be_visible()
    stack.request("POST", f"/tasks/{another}/cancel", {})
    expect(foreign).to_have_count(0)
    page.get_by_role("button", name=re.compile("reviews")).click()
    expect(card).to_have_count(0)
    page.get_by_role("button", name=re.compile("questions")).click()
    page.get_by_label("Agent").select_option("@demo/invoice_check")
    expect(plan).to_have_count(0)
    page.reload()
    expect(card).to_be_visible()
    expect(plan).to_have_count(0)
    page.get_by_label("Agent").select_option("")
    page.clock.set_fixed_time(datetime.now(UTC) + timedelta(hours=2))
    page.get_by_role("button", name=re.compile("overdue")).click()
    expect(plan).to_contain_text("overdue")
    expect(card).to_have_count(0)
    page.locator("h1").click()
    page.keyboard.press("j")
    expect(plan).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("Friday")
    page.keyboard.press("Enter")
    expect(plan).to_have_count(0)
    assert stack.until(planned)["output"] == "Friday"
    stack.request("POST", f"/tasks/{invoice}/cancel", {})


def test_a_schedule_is_made_with_a_preview_edited_run_paused_and_deleted(page: Page, stack: Stack) -> None:
    name = f"Mornings {width(page)}"
    go(page, "schedules")
    page.get_by_role("link", name="New schedule").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Agent").select_option("@work/reader")
    page.get_by_label("Cron line").fill("61 6 * * *")
    coming = section(page, "Next times")
    expect(coming.get_by_role("alert")).to_be_visible()
    page.get_by_label("Common times").select_option("0 9 * * *")
    page.get_by_label("Time zone").fill("Europe/Brussels")
    expect(coming.get_by_role("listitem")).to_have_count(8)
    expect(coming.get_by_role("listitem").first).to_contain_text("09:00")
    page.get_by_label("lines").fill("3")
    page.get_by_label("Message").fill(f"Every day {width(page)}")
    is_sound(page)
    press(page, "Make the schedule")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    schedule_id = page.url.rpartition("/")[2]
    status, _ = stack.request(
        "PATCH",
        f"/api/v1/schedules/{schedule_id}",
        {"run": {"args": {"lines": 3}, "query": f"Every day {width(page)}", "metadata": {"by": "test"}}},
    )
    assert status == 200
    press(page, "Run now")
    run = page.get_by_role("row").filter(has_text=f"Every day {width(page)}")
    expect(run).to_contain_text("completed")
    is_sound(page)
    page.get_by_role("link", name="Edit").click()
    expect(page.get_by_label("lines")).to_have_value("3")
    page.get_by_label("lines").fill("4")
    page.get_by_label("Cron line").fill("30 7 * * *")
    page.get_by_label("Ends after so many runs").fill("0")
    press(page, "Save")
    expect(page.locator(".refusal")).to_be_visible()
    page.get_by_label("Ends after so many runs").fill("9")
    press(page, "Save")
    expect(section(page, "Next").get_by_role("listitem").first).to_contain_text("07:30")
    status, stored = stack.request("GET", f"/api/v1/schedules/{schedule_id}")
    assert (status, stored["run"]["args"], stored["max_fires"]) == (200, {"lines": 4}, 9)
    assert stored["run"]["metadata"] == {"by": "test"}  # no field of the form shows it
    assert (stored["timezone"], stored["schedule"]) == ("Europe/Brussels", "30 7 * * *")

    press(page, "Backfill")
    page.get_by_label("From", exact=True).fill("2026-03-02T00:00")
    page.get_by_label("Until").fill("2026-03-04T00:00")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Show the times").click()
    expect(dialog.get_by_role("listitem")).to_have_count(2)
    is_sound(page)
    dialog.get_by_role("button", name="Make 2 runs").click()
    expect(dialog).to_have_count(0)
    expect(section(page, "History").get_by_role("row").filter(has_text="backfilled")).to_have_count(2)

    page.get_by_role("link", name="← Schedules").click()
    row = page.get_by_role("listitem").filter(has_text=name)
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    page.get_by_role("group", name="State").get_by_role("button", name="paused").click()
    expect(row).to_be_visible()
    row.get_by_role("button", name="Resume").click()
    page.get_by_role("group", name="State").get_by_role("button", name="all").click()
    expect(row).to_contain_text("active")
    is_sound(page)
    page.get_by_role("link", name="Calendar").click()
    expect(page.locator(".days a", has_text=name)).not_to_have_count(0)
    page.get_by_role("button", name="This week").click()
    expect(page.locator(".days > li")).to_have_count(7)
    is_sound(page)
    go(page, f"schedules/{schedule_id}")
    press(page, "Delete")
    agree(page, "Delete and stop its run")
    expect(page.get_by_role("heading", level=1)).to_have_text("Schedules")
    assert stack.request("GET", f"/api/v1/schedules/{schedule_id}")[0] == 404


def test_a_schedule_runs_once_at_a_date_or_after_a_delay(page: Page, stack: Stack) -> None:
    for kind in ("date", "delay"):
        go(page, "schedules?new=%40work%2Freader")
        page.get_by_label("Runs", exact=True).select_option(kind)
        expect(page.get_by_label("Cron line")).to_be_hidden()
        if kind == "date":
            page.get_by_label("Date and time").fill("2040-01-31T09:00")
        else:
            page.get_by_label("Delay").fill("36")
            page.get_by_label("Unit").select_option("hours")
        expect(section(page, "Next times").get_by_role("listitem")).to_have_count(1)
        press(page, "Make the schedule")
        expect(page.locator(".head .badge")).to_have_text("active")
        status, stored = stack.request("GET", f"/api/v1/schedules/{page.url.rpartition('/')[2]}")
        assert (status, stored["kind"]) == (200, kind)
        assert stored["schedule"] in ("2040-01-31T09:00", 36 * 3600)
        page.get_by_role("link", name="← Schedules").click()


def test_a_viewer_is_offered_nothing_that_is_refused(page: Page, stack: Stack) -> None:
    made = stack.request("POST", "/api/v1/keys", {"name": f"viewer {time.time()}", "role": "viewer"})[1]
    asked = stack.submit("@work/planner", {}, query="Seen by a viewer")
    stack.until(asked, "waiting_for_input")
    stack.run("@work/chat", {}, query="Hi", session_id="viewed")
    schedule = {"agent": "@work/reader", "schedule": "0 6 * * *", "run": {"args": {}}, "name": "Viewed"}
    kept = stack.request("POST", "/api/v1/schedules", schedule)[1]["id"]
    page.evaluate("sessionStorage.clear()")
    page.reload()
    sign_in(page, stack, made["key"])
    session = stack.request("GET", "/api/v1/sessions/viewed")[1]["id"]
    for address, shown in (
        ("agents", "@work/chat"), ("agents/%40work%2Fchat", "You need runs:create"),
        (f"sessions/{session}", "Message 1 was: Hi"),
        ("inbox", "Seen by a viewer"), ("schedules", "Viewed"), (f"schedules/{kept}", "Viewed"),
        ("agents/%40work%2Fchat?tab=versions", "latest"),
    ):  # fmt: skip
        go(page, address)
        expect(page.get_by_role("main")).to_contain_text(shown)
        acts = page.get_by_role("main").locator("button:not(.chip), form, a.button:not([data-key=view])")
        assert acts.all_inner_texts() == [], address
    stack.request("POST", f"/tasks/{asked}/cancel", {})
    stack.request("DELETE", f"/api/v1/schedules/{kept}")
