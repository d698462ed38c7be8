"""The console's pages of figures over time: Overview and Usage, by eye, by table and by link."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests import axe, console_pictures
from tests.console import SECONDS, WIDTHS, sign_in, watched
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation with some ended runs, one of them failed, that its scheduler has rolled up."""
    with Stack(tmp_path_factory.mktemp("overview"), agents=[str(console_pictures.AGENTS)]) as stack:
        for number in range(3):
            stack.run("@demo/echo", {"n": number})
        stack.run("@demo/failer", {"code": "too_late"})
        wait_until(lambda: _ended(stack) == 4, seconds=120)
        yield stack


def _ended(stack: Stack) -> int:
    _, found = stack.request("GET", "/api/v1/statistics/runs")
    return int(found["total"]["completed"] + found["total"]["failed"]) if found else 0


def _figure(page: Page, text: str) -> Locator:
    return page.locator("#sums div").filter(has_text=re.compile(text)).locator("b")


def _submitted(page: Page) -> int:
    """The sum of the table's second column: they may have begun in two steps of the time."""
    rows = page.get_by_role("region", name="Runs", exact=True).get_by_role("row")
    return sum(int(text) for text in rows.locator(":nth-child(2)").all_inner_texts() if text.isdigit())


def _fits(page: Page) -> bool:
    return bool(page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_overview_shows_what_runs_did_and_links_to_those_that_failed(
    browser: Browser, stack: Stack, width: int
) -> None:
    with watched(browser, width) as page:
        sign_in(page, stack)
        page.goto(stack.url("/console") + "#/overview?since=1h")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible(timeout=SECONDS)
        expect(_figure(page, "submitted")).to_have_text("4")
        expect(_figure(page, "completed")).to_have_text("3")
        expect(_figure(page, r"failed \(25")).to_have_text("1")
        expect(page.locator(".plot canvas").first).to_be_visible()
        page.get_by_text("As a table of Runs").click()
        wait_until(lambda: _submitted(page) == 4)
        assert _fits(page)
        assert axe.violations(page) == []
        page.get_by_role("button", name="30 d").click()
        expect(page).to_have_url(re.compile("since=30d"))
        expect(_figure(page, "submitted")).to_have_text("4")
        page.get_by_role("link", name="too_late").click()
        expect(page.get_by_role("heading", name="Runs")).to_be_visible(timeout=SECONDS)
        expect(page).to_have_url(re.compile("status=failed"))
        expect(page.get_by_role("link", name="failed @demo/failer")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("button", name="30 d")).to_have_attribute(
            "aria-pressed", "true", timeout=SECONDS
        )


@pytest.mark.parametrize(("width", "scheme"), [(WIDTHS[0], "dark"), (WIDTHS[1], "light")])
def test_usage_is_shown_by_agent_and_by_key_over_time(
    browser: Browser, stack: Stack, width: int, scheme: str
) -> None:
    with watched(browser, width, color_scheme=scheme) as page:
        sign_in(page, stack)
        page.goto(stack.url("/console") + "#/usage?since=1h&show=runs")
        expect(page.get_by_role("heading", name="Runs by agent")).to_be_visible(timeout=SECONDS)
        listed = page.locator("#usage tbody tr")
        expect(listed.filter(has_text="@demo/echo").get_by_role("cell").nth(6)).to_have_text("3")
        expect(listed.filter(has_text="@demo/failer").get_by_role("cell").nth(7)).to_have_text("1")
        expect(page.locator(".legend li").first).to_be_visible()
        assert _fits(page)
        assert axe.violations(page) == []
        page.get_by_label("By", exact=True).select_option("key")
        expect(page.get_by_role("heading", name="Runs by api key")).to_be_visible()
        expect(listed).to_have_count(1)
        expect(page).to_have_url(re.compile("by=key"))


def test_the_pictures_in_the_documentation_are_of_these_pages(browser: Browser, stack: Stack) -> None:
    task_id = console_pictures.seed(stack)
    with watched(browser, console_pictures.WIDTH) as page:
        sign_in(page, stack)
        for name, parts in console_pictures.stored().items():
            console_pictures.show(page, name, task_id)
            shown = console_pictures.settled_outline(page, parts)
            assert shown == parts, f"The page of {name} has changed: make screenshots, and look at them."
