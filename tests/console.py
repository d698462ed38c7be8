"""The console in a headless Chromium: what its tests share. The fixtures are in tests/acceptance/conftest.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, expect, sync_playwright

from tests.stack import Stack

AGENTS = Path(__file__).parent / "acceptance" / "console_agents"
WIDTHS = (1400, 390)  # pixels: a desk's screen, a telephone
SECONDS = 20_000.0  # milliseconds, on a machine that is busy with other things
#: Keeps the text of each toast: it is on the page for seconds, which a test on a busy machine may miss.
NOTE_TOASTS = """
window.toasted = [];
new MutationObserver((changes) => {
  for (const node of changes.flatMap((change) => [...change.addedNodes])) {
    if (node.matches?.(".toast")) window.toasted.push(node.textContent);
  }
}).observe(document, { childList: true, subtree: true });
"""
_CHROMIUM = Path("/usr/bin/chromium")
_QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
_QUIET += ["--disable-component-update", "--disable-sync"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    if "chromium" in os.environ.get("TEST_WITHOUT", "").split(","):
        pytest.skip("TEST_WITHOUT=chromium")
    if not _CHROMIUM.exists():
        pytest.fail(
            "The console's tests need Chromium: apt-get install chromium, or leave them out by name: "
            "make test TEST_WITHOUT=chromium",
            pytrace=False,
        )
    with sync_playwright() as playwright:
        expect.set_options(timeout=SECONDS)  # also where a page is not of `watched`
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_QUIET)
        yield browser
        browser.close()


@contextmanager
def watched(browser: Browser, width: int | None = None, **context: Any) -> Iterator[Page]:
    """A page of a context of its own; an error in its script, or a breach of its policy, fails at the end.

    `context` is what `Browser.new_context` takes, such as `color_scheme="dark"`.
    """
    if width is not None:
        context["viewport"] = {"width": width, "height": 900}
    opened = browser.new_context(**context)
    opened.add_init_script(NOTE_TOASTS)
    page = opened.new_page()
    page.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    wrong: list[str] = []

    def script_error(error: Error) -> None:
        wrong.append(error.stack or str(error))

    def console_error(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    page.on("pageerror", script_error)
    page.on("console", console_error)
    yield page
    opened.close()
    assert wrong == []


def sign_in(page: Page, stack: Stack, key: str | None = None) -> None:
    """Open the console with a key, the stack's own unless another is given."""
    page.goto(stack.url("/console"))
    page.get_by_label("API key").fill(key or stack.key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Runyard")
    expect(page.locator("#link")).to_have_text("live")


def go(page: Page, address: str) -> None:
    """Open a page of the signed-in console by its address behind the `#/`, such as `limits`."""
    page.goto(f"{page.url.partition('#')[0]}#/{address}")


def open_run(page: Page, task_id: str) -> None:
    """Open a run's page and wait for its first event."""
    go(page, f"runs/{task_id}")
    expect(page.locator(".sub code", has_text=task_id)).to_be_visible()  # and no longer another run's
    expect(page.locator("#log li").first).to_be_visible()


def expect_toast(page: Page, text: str) -> None:
    """Wait until a toast with this text has been shown since the page was loaded, and forget those so far."""
    page.wait_for_function("(text) => window.toasted.some((shown) => shown.includes(text))", arg=text)
    page.evaluate("window.toasted.length = 0")


def fits(page: Page) -> bool:
    """Whether the page as a whole is no wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))
