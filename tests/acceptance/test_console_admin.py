"""The administration pages of the console, every action at a desk's and at a telephone's width."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.axe import violations
from tests.console import AGENTS, WIDTHS, expect_toast, fits, go, sign_in, watched
from tests.stack import Stack

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation with one worker."""
    with Stack(tmp_path_factory.mktemp("admin"), agents=[str(AGENTS)]) as stack:
        yield stack


@pytest.fixture(params=WIDTHS, ids=lambda width: f"{width}px")
def page(request: pytest.FixtureRequest, browser: Browser, stack: Stack) -> Iterator[Page]:
    """A page signed in with the operator's key."""
    with watched(browser, request.param) as page:
        sign_in(page, stack)
        yield page


class Answering(BaseHTTPRequestHandler):
    """A receiver of webhooks that answers with its server's status."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), Answering)
    server.status = 200
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def open_page(page: Page, address: str, heading: str) -> None:
    """Open a page, which fits and is accessible."""
    go(page, address)
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    expect(page.locator("main table, main .empty, main form, main .card").first).to_be_visible()
    assert fits(page), address
    assert violations(page) == [], address


def row(page: Page, text: str) -> Locator:
    return page.locator("main tbody tr", has_text=text)


def press(place: Page | Locator, name: str) -> None:
    place.get_by_role("button", name=name, exact=True).click()


def confirm(page: Page, name: str) -> None:
    """Answer the question that is asked first; leaving it changes nothing."""
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    press(dialog, name)
    expect(dialog).to_have_count(0)


def kept(page: Page, label: str) -> str:
    """The secret that is shown once."""
    dialog = page.get_by_role("dialog")
    shown = dialog.get_by_label(label, exact=True)
    expect(shown).to_have_attribute("readonly", "")
    assert violations(page) == []
    text = shown.input_value()
    press(dialog, "I have kept it")
    expect(dialog).to_have_count(0)
    return text


def test_a_webhook_from_its_making_to_its_end(page: Page, stack: Stack, receiver: Any) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    open_page(page, "webhooks", "Webhooks")
    press(page, "New webhook")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Address").fill("not an address")
    press(dialog, "Make it")
    expect(dialog.locator("[aria-invalid]")).to_have_count(1)
    dialog.get_by_label("Address").fill(url)
    dialog.get_by_label("run.failed").check()
    expect(dialog.get_by_label("all events")).not_to_be_checked()
    assert violations(page) == []
    press(dialog, "Make it")
    assert kept(page, "The webhook's secret").startswith("whsec_")
    expect(page.get_by_role("heading", level=1)).to_have_text(url)
    press(page, "Test")
    expect(dialog.get_by_role("status")).to_contain_text("Delivered: the receiver answered 200")
    press(dialog, "Close")
    receiver.status = 503
    press(page, "Test")
    expect(dialog.get_by_role("status")).to_contain_text(re.compile("Not delivered: .*503"))
    press(dialog, "Close")
    expect(page.locator("main tbody tr")).to_have_count(2)
    assert fits(page)
    assert violations(page) == []
    press(page, "Change")
    dialog.get_by_label("Payload").select_option("summary")
    press(dialog, "Save")
    expect(page.locator("main dl").first).to_contain_text("without input and output")
    press(page, "Rotate secret")
    press(dialog, "Rotate secret")
    assert kept(page, "The webhook's new secret").startswith("whsec_")
    expect(page.locator("main .sub").first).to_contain_text("the secret before signs too")
    press(page, "Disable")
    confirm(page, "Leave it")
    press(page, "Disable")
    confirm(page, "Disable")
    expect(page.locator("main .sub").first).to_contain_text("disabled by hand")
    press(page, "given up")
    expect(page.locator("main tbody tr")).to_have_count(1)
    expect(page.locator("main tbody tr")).to_contain_text("given up: ")
    assert "state=dead" in page.url
    receiver.status = 200
    press(page, "Enable")
    press(page, "Send 1 given up again")
    confirm(page, "Send again")
    press(page, "delivered")
    expect(page.locator("main tbody tr")).to_have_count(2)
    first = page.locator("main tbody tr").first
    press(first, "Details")
    expect(dialog).to_contain_text("test.ping")
    expect(dialog.get_by_role("region", name="Attempts")).to_contain_text("200")
    assert violations(page) == []
    press(dialog, "Close")
    press(first, "Redeliver")
    expect_toast(page, "under the id it had")
    press(page, "Replay …")
    dialog.get_by_label("Which").select_option("")
    press(dialog, "Send them again")
    expect_toast(page, "on their way again")
    press(page, "Delete")
    confirm(page, "Delete")
    expect(page.get_by_role("heading", level=1)).to_have_text("Webhooks")
    expect(page.get_by_role("link", name=url)).to_have_count(0)
    press(page, "Rotate the callbacks' secret")
    press(dialog, "Rotate the callbacks' secret")
    kept(page, "New secret of the callbacks")


def test_a_limit_shows_its_usage_is_tried_before_it_is_changed_and_goes(page: Page, stack: Stack) -> None:
    runs = [stack.submit("@console/streamer", {}) for _ in range(2)]
    for run in runs:
        stack.until(run, "running")
    open_page(page, "limits", "Limits")
    press(page, "New limit")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Which one").fill("@console/streamer")
    press(dialog, "Save")
    expect(dialog.get_by_role("alert")).to_contain_text("max_concurrent")
    dialog.get_by_label("Runs at once").fill("5")
    press(dialog, "Save")
    expect(dialog).to_have_count(0)
    mine = row(page, "Agent @console/streamer")
    expect(mine).to_contain_text("2 of 5")
    press(mine, "Change")
    expect(dialog.get_by_role("status")).to_contain_text("2 in use, 0 waiting")
    dialog.get_by_label("Runs at once").fill("1")
    expect(dialog.get_by_role("status")).to_contain_text("With 1, 1 more run than it allows")
    assert violations(page) == []
    press(dialog, "Save")
    expect(mine).to_contain_text("2 of 1")
    held = stack.submit("@console/streamer", {})
    expect(mine.locator("td", has=page.locator("b"))).to_have_text("1")
    assert fits(page)
    press(mine, "Delete")
    confirm(page, "Delete")
    expect(mine).to_have_count(0)
    stack.until(held, "running")
    for run in (*runs, held):
        stack.request("POST", f"/tasks/{run}/cancel", {})


def test_a_worker_is_drained_takes_no_run_and_is_resumed(page: Page, stack: Stack) -> None:
    run = stack.submit("@console/streamer", {})
    stack.until(run, "running")
    open_page(page, "workers", "Workers")
    card = page.locator("section.card").first
    expect(card.get_by_role("link", name="@console/streamer")).to_have_attribute("href", f"#/runs/{run}")
    card.get_by_text("with their versions").click()
    expect(card).to_contain_text("@console/streamer@1.0.0")
    press(card, "Drain")
    confirm(page, "Leave it")
    press(card, "Drain")
    confirm(page, "Drain")
    expect(card.locator(".badge")).to_have_text("draining")
    later = stack.submit("@demo/echo", {"n": 1})
    stack.request("POST", f"/tasks/{run}/message", {"message": "enough"})
    stack.until(run)
    expect(card.locator(".badge")).to_have_text("drained")
    assert stack.task(later)["status"] == "pending"
    assert stack.processes["worker-1"].poll() is None  # it stays, idle
    assert violations(page) == []
    press(card, "Resume")
    expect(card.locator(".badge")).to_have_text("alive")
    assert stack.until(later)["status"] == "completed"


def test_a_key_is_made_shown_once_and_revoked(page: Page, stack: Stack) -> None:
    open_page(page, "keys", "Keys")
    press(page, "New key")
    dialog = page.get_by_role("dialog")
    press(dialog, "Make it")
    expect(dialog.locator("[aria-invalid]")).to_have_count(1)
    dialog.get_by_label("Name").fill("nightly")
    dialog.get_by_label("Role").select_option("viewer")
    dialog.get_by_label("Expires").select_option("30")
    dialog.get_by_label("runs:read").check()
    assert violations(page) == []
    press(dialog, "Make it")
    text = kept(page, "The key nightly")
    asked = {"authorization": f"Bearer {text}"}
    assert stack.request("GET", "/tasks?limit=1", headers=asked)[0] == 200
    assert stack.request("GET", "/api/v1/agents", headers=asked)[0] == 403
    mine = row(page, "nightly")
    expect(mine).to_contain_text("runs:read")
    expect(mine).to_contain_text("in 30 d")
    press(mine, "Revoke")
    confirm(page, "Revoke")
    expect(mine).to_have_count(0)
    assert stack.request("GET", "/tasks?limit=1", headers=asked)[0] == 401


def test_a_person_is_invited_joins_changes_role_and_is_removed(
    page: Page, browser: Browser, stack: Stack
) -> None:
    email = f"grace.{page.viewport_size['width'] if page.viewport_size else 0}@example.com"
    open_page(page, "members", "Members")
    for kind in ("withdrawn", "accepted"):
        press(page, "Invite")
        page.get_by_role("dialog").get_by_label("E-mail").fill(email)
        press(page.get_by_role("dialog"), "Invite")
        link = kept(page, "Link")
        if kind == "withdrawn":
            press(row(page, email), "Withdraw")
            confirm(page, "Withdraw")
            expect(row(page, email)).to_have_count(0)
    with watched(browser) as other:
        other.goto(f"{stack.url('/console')}#{link.partition('#')[2]}")
        other.get_by_label("Your name").fill("Grace")
        other.get_by_label("Password").fill("a fine password")
        press(other, "Join")
        expect(other.get_by_role("navigation")).to_be_visible()
        open_page(page, "members?", "Members")
        expect(row(page, email)).to_contain_text("Grace")
        page.get_by_label(f"Role of {email}").select_option("viewer")
        confirm(page, "Change role")
        expect_toast(page, "Changed.")
        other.reload()
        expect(other.locator("#who")).to_contain_text("viewer")
        for group in ("Members", "Keys", "Secrets", "Audit log"):  # only what a viewer may see
            expect(other.locator("nav").get_by_role("link", name=group)).to_have_count(0)
        go(other, "limits")
        expect(other.get_by_role("heading", level=1)).to_have_text("Limits")
        expect(other.get_by_role("button", name=re.compile("limit|Change|Delete"))).to_have_count(0)
        press(row(page, email), "Remove")
        confirm(page, "Remove")
        expect(row(page, email)).to_have_count(0)


def test_a_secret_is_set_changed_and_deleted_and_never_shown(page: Page, stack: Stack) -> None:
    open_page(page, "secrets", "Secrets")
    press(page, "New secret")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("STRIPE_KEY")
    press(dialog, "Set it")
    expect(dialog.locator("[aria-invalid]")).to_have_attribute("name", "value")
    dialog.get_by_label("Value").fill("a first value")
    press(dialog, "Set it")
    expect(row(page, "STRIPE_KEY")).to_contain_text("the key admin")
    press(row(page, "STRIPE_KEY"), "New value")
    expect(dialog.get_by_label("Value")).to_have_value("")
    dialog.get_by_label("Value").fill("a second value")
    press(dialog, "Set the value")
    expect_toast(page, "new value")
    assert "a second value" not in page.content()
    assert violations(page) == []
    press(row(page, "STRIPE_KEY"), "Delete")
    confirm(page, "Delete")
    expect(row(page, "STRIPE_KEY")).to_have_count(0)


def test_the_audit_log_is_filtered_by_its_address_and_paged(page: Page, stack: Stack) -> None:
    for number in range(60):
        body = {"value": f"value number {number}"}
        assert stack.request("PUT", "/api/v1/secrets/MANY", body)[0] == 200
    open_page(page, "audit?action=secret", "Audit log")
    expect(page.locator("main tbody tr")).to_have_count(50)
    expect(page.get_by_label("What", exact=True)).to_have_value("secret")
    press(page, "Older")
    expect(page.locator("main tbody tr").nth(59)).to_be_visible()
    page.get_by_label("What", exact=True).fill("nothing")
    press(page, "Show")
    expect(page.locator("main .empty")).to_contain_text("Nothing matches")
    assert "action=nothing" in page.url
    press(page, "Clear")
    expect(page.locator("main tbody tr").first).to_contain_text("the key admin")
    page.locator("main tbody tr").first.get_by_role("link", name="MANY").click()
    expect(page.get_by_label("Which object")).to_have_value("MANY")
    page.reload()
    expect(page.get_by_label("Which object")).to_have_value("MANY")


def test_the_organisation_is_set_up_and_the_operator_sees_to_all(page: Page, stack: Stack) -> None:
    open_page(page, "organisation", "Organisation")
    page.get_by_label("Name", exact=True).fill("Acme")
    page.get_by_label("Failed runs").fill("90")
    press(page, "Save")
    expect_toast(page, "Saved.")
    status, own = stack.request("GET", "/api/v1/organisation")
    assert (status, own["name"], own["retention"]["failed"]) == (200, "Acme", 90)
    press(page, "New organisation")
    dialog = page.get_by_role("dialog")
    name = f"Beta {page.viewport_size['width'] if page.viewport_size else 0}"
    dialog.get_by_label("Name").fill(name)
    press(dialog, "Make it")
    expect(dialog.locator("[aria-invalid]")).to_have_attribute("name", "owner_email")
    dialog.get_by_label("E-mail of its owner").fill("owner@example.com")
    press(dialog, "Make it")
    assert "#/invitation/" in kept(page, "Link")
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(row(page, "max_keys")).to_be_visible()
    press(page.locator(".head"), "Change")
    dialog.get_by_label("Balance, USD").fill("20")
    press(dialog, "Save")
    press(page, "Top up")
    dialog.get_by_label("USD to add").fill("5")
    press(dialog, "Add")
    expect(page.locator("main dl")).to_contain_text("25.00 USD")
    press(row(page, "max_keys"), "Change")
    dialog.get_by_label("At most").fill("7")
    press(dialog, "Save")
    expect(row(page, "max_keys")).to_contain_text("for this one")
    press(page, "Deactivate")
    confirm(page, "Deactivate")
    expect(page.locator("main dl")).to_contain_text("off")
    press(page, "Activate")
    expect(page.locator("main dl")).to_contain_text("active")
    assert fits(page)
    assert violations(page) == []
