"""The account page of the console, and what a person has to do before the console opens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console import AGENTS, NOTE_TOASTS, SECONDS, expect_toast
from tests.fakes.oidc_provider import provider
from tests.stack import Stack

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation with single sign-on."""
    with provider() as issuer:
        settings: dict[str, Any] = {"RUNYARD_OIDC_ISSUER": issuer, "RUNYARD_OIDC_CLIENT_ID": "console"}
        settings["RUNYARD_OIDC_CLIENT_SECRET"] = "a secret"
        with Stack(tmp_path_factory.mktemp("account"), agents=[str(AGENTS)], **settings) as stack:
            yield stack


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A browser of its own, in which an error of a script fails the test."""
    context = browser.new_context()
    context.add_init_script(NOTE_TOASTS)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert wrong == []


def join(page: Page, stack: Stack, email: str, password: str) -> None:
    status, made = stack.request("POST", "/api/v1/invitations", {"email": email, "role": "admin"})
    assert status == 201, made
    page.goto(f"{stack.url('/console')}#/invitation/{made['token']}")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Join").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def sign_in(page: Page, stack: Stack, email: str, password: str) -> None:
    page.goto(stack.url("/console"))
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_a_person_ends_their_other_sign_ins_and_changes_the_password(
    browser: Browser, page: Page, stack: Stack
) -> None:
    join(page, stack, "eve@example.com", "a fine password")
    other = browser.new_context().new_page()
    sign_in(other, stack, "eve@example.com", "a fine password")
    expect(other.get_by_role("heading", name="Runs")).to_be_visible(timeout=SECONDS)
    page.get_by_role("link", name="Account").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("127.0.0.1")
    expect(page.locator("tbody")).to_contain_text("Chrome on Linux")
    page.get_by_role("button", name="End", exact=True).click()
    expect(rows).to_have_count(1)
    other.reload()
    expect(other.get_by_label("E-mail")).to_be_visible(timeout=SECONDS)
    other.context.close()
    page.get_by_label("Present password").fill("a fine password")
    page.get_by_label("New password").fill("qwertyuiop")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("alert")).to_contain_text("guessed too easily")
    page.get_by_label("New password").fill("three plain herons")
    page.get_by_role("button", name="Change the password").click()
    expect_toast(page, "Changed.")


def test_a_password_that_the_operator_set_is_changed_before_the_console_opens(
    page: Page, stack: Stack
) -> None:
    join(page, stack, "forgot@example.com", "a fine password")
    command = [sys.executable, "-m", "runyard_launch.cli", "members", "set-password", "forgot@example.com"]
    typed = "set by the operator\nset by the operator\n"
    subprocess.run(command, input=typed, env=stack.env, text=True, check=True, capture_output=True)
    page.goto("about:blank")
    sign_in(page, stack, "forgot@example.com", "set by the operator")
    page.get_by_label("Present password").fill("set by the operator")
    page.get_by_label("New password").fill("my own quiet herons")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def test_a_person_sets_up_an_authenticator_and_signs_in_with_its_code_and_a_recovery_code(
    page: Page, stack: Stack
) -> None:
    join(page, stack, "totp@example.com", "a fine password")
    page.get_by_role("link", name="Account").click()
    page.locator("#factor-password").fill("a fine password")
    page.get_by_role("button", name="Set up an authenticator").click()
    expect(page.get_by_alt_text("QR code of the secret")).to_be_visible()
    page.wait_for_function(
        "[...document.images].some((one) => one.alt.startsWith('QR') && one.naturalWidth > 0)"
    )
    totp = pyotp.TOTP(page.locator("#secret").inner_text())
    page.get_by_label("Code of the authenticator").fill(totp.now())
    page.get_by_role("button", name="Confirm").click()
    codes = page.locator("#recovery").inner_text().split()
    assert len(codes) == 10
    page.get_by_role("button", name="I have kept them").click()
    expect(page.locator("#factor")).to_contain_text("10 recovery codes are left")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("E-mail").fill("totp@example.com")
    page.get_by_label("Password").fill("a fine password")
    page.get_by_role("button", name="Sign in", exact=True).click()
    code = page.get_by_label("Code of the authenticator")
    code.fill("000000")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The code is wrong")
    code.fill(codes[0])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Account")).to_be_visible()


def test_where_an_organisation_requires_one_it_is_set_up_before_the_console_opens(
    page: Page, stack: Stack
) -> None:
    join(page, stack, "late@example.com", "a fine password")
    required = {"second_factor_required": True}
    assert stack.request("PATCH", "/api/v1/organisation", required)[0] == 200
    try:
        page.reload()
        page.get_by_label("Password").fill("a fine password")
        page.get_by_role("button", name="Set up an authenticator").click()
        totp = pyotp.TOTP(page.locator("#secret").inner_text())
        page.get_by_label("Code of the authenticator").fill(totp.now())
        page.get_by_role("button", name="Confirm").click()
        page.get_by_role("button", name="I have kept them").click()
        expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    finally:
        stack.request("PATCH", "/api/v1/organisation", {"second_factor_required": False})


def consent(page: Page, subject: str) -> None:
    page.locator("input[name=sub]").fill(subject)
    page.locator("form button, form input[type=submit]").first.click()


def test_a_person_links_single_sign_on_and_signs_in_by_it(page: Page, stack: Stack) -> None:
    claims = {"email": "sso@example.com", "email_verified": True}
    assert httpx2.put(f"{stack.env['RUNYARD_OIDC_ISSUER']}/users/sso", json=claims).is_success
    join(page, stack, "sso@example.com", "a fine password")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in with single sign-on").click()
    consent(page, "sso")
    expect(page.get_by_role("alert")).to_contain_text("sign in with its password, then link it")
    sign_in(page, stack, "sso@example.com", "a fine password")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.get_by_role("link", name="Account").click()
    page.get_by_role("button", name="Link single sign-on").click()
    consent(page, "sso")
    expect(page.locator("#sign-on")).to_contain_text("opens this account")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in with single sign-on").click()
    consent(page, "sso")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
