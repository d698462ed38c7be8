"""The console behind a proxy that serves it under a path, in a headless Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, expect

from tests.console import SECONDS
from tests.ports import free_port
from tests.prefix_proxy import proxied
from tests.stack import Stack

pytestmark = pytest.mark.timeout(400)


def test_the_console_works_under_a_path(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    public = f"http://127.0.0.1:{port}/runyard"
    with (
        Stack(tmp_path, RUNYARD_PUBLIC_URL=public) as stack,
        proxied(stack.url(), port) as proxy,
    ):
        task = stack.run("@demo/echo", {"n": 1}, seconds=60)
        page = browser.new_page()
        page.set_default_timeout(SECONDS)
        wrong: list[str] = []

        def note(message: ConsoleMessage) -> None:
            if message.type == "error" and "(Unauthorized)" not in message.text:  # it asks who is signed in
                wrong.append(message.text)

        page.on("console", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{public}/console/")
        page.get_by_label("API key").fill(stack.key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Runs")).to_be_visible(timeout=SECONDS)
        expect(page.locator("#link")).to_have_text("live", timeout=SECONDS)
        page.goto(f"{page.url.partition('#')[0]}#/runs/{task['task_id']}")
        expect(page.locator("#log li").first).to_be_visible(timeout=SECONDS)
        page.screenshot(path=tmp_path / "console.png")
        page.close()

        assert not wrong
        assert [path for path in proxy.seen if not path.startswith("/runyard/")] in ([], ["/favicon.ico"])
