"""The console where something comes between: a page that is left, a server that is away, a dialog without an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.console import AGENTS, WIDTHS, fits, go, open_run, sign_in, watched
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

CHOICES = """
from runyard import agent


@agent("@choices/one")
async def one(ctx, args):
    return await ctx.ask("Which?", options=["short", "C" * 120])
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation with agents that need people, one of which offers a long option."""
    file = tmp_path_factory.mktemp("agents") / "choices.py"
    file.write_text(CHOICES)
    with Stack(tmp_path_factory.mktemp("console"), agents=[str(AGENTS), str(file)]) as stack:
        yield stack


def test_a_page_that_is_left_while_it_reloads_after_an_action_reports_no_error(
    page: Page, stack: Stack
) -> None:
    waiting = stack.submit("@console/order", {"item": "Tea", "size": "small"})
    stack.until(waiting, "waiting_for_input")
    go(page, "runs")
    page.get_by_role("checkbox", name=re.compile(waiting[-12:])).check()
    page.get_by_role("button", name="Cancel selected").click()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/v1/tasks?*", hold)
    page.get_by_role("dialog").get_by_role("button", name="Cancel them").click()
    expect(page.locator(".result")).to_have_text("Cancelled 1 run.")
    wait_until(lambda: page.evaluate("1") and held)
    go(page, "schedules")
    expect(page.get_by_role("heading", level=1)).to_have_text("Schedules")
    expect(page.locator(".toast")).to_have_count(0)
    page.unroute_all(behavior="ignoreErrors")


def test_a_page_that_the_server_cannot_send_is_shown_once_it_can(page: Page) -> None:
    page.route("**/console/pages/workers.js", lambda route: route.abort())
    go(page, "workers")
    expect(page.get_by_text("The server cannot be reached.")).to_be_visible()
    page.unroute("**/console/pages/workers.js")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Workers")


def test_a_dialog_is_gone_with_its_page_but_what_is_shown_once_stays_until_it_is_kept(page: Page) -> None:
    go(page, "limits")
    page.get_by_role("button", name="New limit").click()
    expect(page.get_by_role("dialog", name="New limit")).to_be_visible()
    go(page, "webhooks")
    expect(page.get_by_role("heading", level=1)).to_have_text("Webhooks")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="New webhook").click()
    page.get_by_role("dialog").get_by_label("Address").fill("http://127.0.0.1:18999/hook")
    page.get_by_role("dialog").get_by_label("run.failed").check()
    page.get_by_role("dialog").get_by_role("button", name="Make it").click()
    secret = page.get_by_role("dialog", name="The webhook's secret")
    expect(secret).to_be_visible()
    for _ in range(3):  # browsers close a dialog at the second one, unless its page keeps the key from them
        page.keyboard.press("Escape")
    expect(secret).to_be_visible()
    secret.get_by_role("button", name="I have kept it").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_what_was_typed_for_a_schedule_is_kept_when_another_agent_is_chosen(page: Page) -> None:
    go(page, "schedules?new=@demo/echo")
    page.get_by_label("Arguments").fill('{"i": 1}')
    page.get_by_label("Agent", exact=True).select_option("@demo/failer")
    wait_until(lambda: page.get_by_label("Arguments").count() == 1)
    expect(page.get_by_label("Arguments")).to_have_value(re.compile(r'"i":\s*1'))


@pytest.mark.parametrize("width", WIDTHS)
def test_an_option_of_a_hundred_letters_stays_on_the_page(browser: Browser, stack: Stack, width: int) -> None:
    waiting = stack.submit("@choices/one", {})
    stack.until(waiting, "waiting_for_input")
    with watched(browser, width) as page:
        sign_in(page, stack)
        open_run(page, waiting)
        expect(page.get_by_role("button", name="C" * 120)).to_be_visible()
        wait_until(lambda: fits(page))  # pages come in parts
        page.get_by_role("button", name="short").click()
        assert stack.until(waiting, "completed")["output"] == "short"


def test_a_viewer_who_opens_the_form_of_a_schedule_by_its_address_is_shown_the_schedules(
    browser: Browser, stack: Stack
) -> None:
    _, made = stack.request("POST", "/api/v1/keys", {"name": "looks", "role": "viewer"})
    with watched(browser) as page:
        sign_in(page, stack, made["key"])
        go(page, "schedules?new=@demo/echo")
        expect(page.get_by_role("heading", level=1)).to_have_text("Schedules")
        expect(page.get_by_role("button", name="Make the schedule")).to_have_count(0)
