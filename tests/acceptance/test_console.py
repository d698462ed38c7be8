"""The ops console as a person meets it: the real page in a headless Chromium, on real processes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from runyard_common.identity.service import sign_in_links
from tests.axe import violations
from tests.console import AGENTS, SECONDS, expect_toast, go, open_run
from tests.stack import Stack

pytestmark = pytest.mark.timeout(400)
HOSTILE = "<script>window.broken = 1</script>"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation with agents that need people."""
    with Stack(tmp_path_factory.mktemp("console"), agents=[str(AGENTS)]) as stack:
        yield stack


def test_only_the_key_opens_it_and_a_wrong_one_is_refused(browser: Browser, stack: Stack) -> None:
    page = browser.new_page()
    page.goto(stack.url("/console"))
    page.get_by_label("API key").fill("ry_wrong")
    page.get_by_role("button", name="Sign in with this key").click()
    expect(page.get_by_role("alert")).to_have_text("The server does not accept this key.", timeout=SECONDS)
    assert page.evaluate("sessionStorage.length") == 0
    expect(page.get_by_role("navigation")).to_be_hidden()
    page.close()


def test_a_person_joins_by_a_link_signs_out_and_in_and_acts_by_cookie(browser: Browser, stack: Stack) -> None:
    status, made = stack.request("POST", "/api/v1/invitations", {"email": "ada@example.com", "role": "admin"})
    assert status == 201
    page = browser.new_page()
    page.goto(f"{stack.url('/console')}#/invitation/{made['token']}")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Password").fill("a fine password")
    page.get_by_role("button", name="Join").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible(timeout=SECONDS)
    assert page.evaluate("document.cookie") == ""  # out of reach of scripts
    assert made["token"] not in page.url
    page.reload()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible(timeout=SECONDS)
    page.goto(f"{stack.url('/console')}#/agents/%40demo%2Fecho")
    page.get_by_label("Message").fill("by cookie")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".live pre")).to_contain_text("by cookie", timeout=SECONDS)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("E-mail").fill("ada@example.com")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("wrong", timeout=SECONDS)
    page.get_by_label("Password").fill("a fine password")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("navigation")).to_be_visible(timeout=SECONDS)
    assert page.evaluate("sessionStorage.getItem('runyard.key')") is None
    page.close()


def test_its_policy_forbids_scripts_of_others_and_markup_made_from_text(stack: Stack) -> None:
    for path in ("/console", "/console/console.js", "/console/console.css"):
        answer = httpx2.get(stack.url(path))
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy
        again = httpx2.get(stack.url(path), headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    page = httpx2.get(stack.url("/console")).text
    assert not re.search(r"<script(?![^>]* src=\"console/)|\son\w+=|https?://(?!www\.w3\.org)", page)
    assert httpx2.get(stack.url("/console/nothing.js")).status_code == 404


def test_a_run_made_elsewhere_appears_by_itself_and_filters_find_it(page: Page, stack: Stack) -> None:
    task_id = stack.submit("@demo/echo", {"n": 1}, query="Count the blue herons")
    row = page.locator(f'.row[data-key="{task_id}"]')
    expect(row).to_contain_text("completed")
    failed = stack.run("@demo/failer", {"code": "too_late"})["task_id"]
    page.get_by_role("group", name="Status").get_by_role("button", name="failed").click()
    expect(page.locator(f'.row[data-key="{failed}"]')).to_be_visible()
    expect(row).to_have_count(0)
    page.get_by_role("group", name="Status").get_by_role("button", name="all").click()
    page.keyboard.press("/")
    page.get_by_label("Search runs").fill("blue heron")
    expect(page.locator(".row")).to_have_count(1)
    expect(row).to_be_visible()


def test_a_run_shows_by_which_front_it_came(page: Page, stack: Stack) -> None:
    status, answer = stack.request("POST", "/api/agent/run", {"agentName": "echo", "args": {"n": 1}})
    assert status == 200, answer
    open_run(page, answer["agentExecutionId"])
    expect(page.locator(".sub").first).to_contain_text("via nara")


def test_what_agents_say_is_text_and_never_markup(page: Page, stack: Stack) -> None:
    task_id = stack.submit("@console/hostile", {})
    stack.until(task_id, "waiting_for_input")
    open_run(page, task_id)
    page.locator(".ask").get_by_role("button").first.click()
    expect(page.locator(".head .badge")).to_have_text("completed")
    expect(page.locator("pre", has_text=HOSTILE).first).to_be_attached()
    for section in ("inbox", "agents", "runs"):
        page.get_by_role("navigation").get_by_role("link", name=re.compile(section, re.IGNORECASE)).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(section.capitalize())
    assert page.locator("main script, main img").count() == 0
    assert page.evaluate("window.broken") is None


def test_a_failure_shows_its_authors_frames_and_folds_those_of_libraries(page: Page, stack: Stack) -> None:
    task_id = stack.submit("@console/fails", {})
    open_run(page, task_id)
    trace = page.locator(".card.bad .traceback")
    expect(trace).to_contain_text("JSONDecodeError")
    own = trace.locator("> ol > li")
    expect(own).to_have_count(1)
    expect(own.locator("code")).to_have_text(re.compile(r"^console_agents/failing\.py:\d+$"))
    expect(own.locator("pre")).to_have_text('return json.loads("{not json")')
    folded = trace.locator("> details")
    expect(folded.locator("summary")).to_have_text("3 frames of libraries")
    expect(folded.locator("li").first).to_be_hidden()
    folded.locator("summary").click()
    expect(folded.locator("li").first).to_be_visible()
    folded.evaluate("node => { node.dataset.drawn = 'before' }")
    stack.run("@demo/echo", {})  # any event of the organisation draws the page once more
    expect(trace.locator("> details[data-drawn]")).to_have_count(0)
    expect(folded.locator("li").first).to_be_visible()
    page.locator("#log li.fail summary").first.click()
    expect(page.locator("#log li.fail .traceback ol").first).to_be_visible()


def test_tokens_are_read_as_they_are_spoken_and_the_timeline_goes_on(page: Page, stack: Stack) -> None:
    task_id = stack.submit("@console/streamer", {})
    open_run(page, task_id)
    expect(page.locator("#tokens")).to_contain_text("a word a word")
    expect(page.locator("#waterfall")).to_contain_text("listen")
    stack.request("POST", f"/tasks/{task_id}/message", {"message": "enough"})
    expect(page.locator("#log li").last).to_contain_text("finish")
    expect(page.locator("#tokens")).to_have_text("")
    expect(page.get_by_text('"sent": "enough"')).to_be_visible()


def test_an_agent_is_run_by_its_form_answered_and_its_review_edited(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url('/console')}#/agents/{'@console/order'}".replace("@console/", "%40console%2F"))
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("item is required")
    page.get_by_label("item required").fill("Tea")
    page.get_by_label("size").select_option("large")
    page.get_by_label("count").fill("3")
    page.get_by_role("button", name="Add item").click()
    page.get_by_label("notes 1").fill("no sugar")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("link", name="Open the run").click()
    page.get_by_label("city").fill("Gent")
    page.get_by_label("floor").fill("2")
    page.keyboard.press("Enter")
    page.get_by_text("Edit, then approve").click()
    page.get_by_label("Arguments").fill('{"amount": 11}')
    page.get_by_role("button", name="Approve with these").click()
    expect(page.locator(".head .badge")).to_have_text("completed")
    task = stack.task(page.url.rpartition("/")[2])
    assert task["output"] == {
        "item": "Tea", "size": "large", "count": 3, "gift": False, "notes": ["no sugar"],
        "address": {"city": "Gent", "floor": 2}, "amount": 11,
    }  # fmt: skip


def test_the_form_of_an_authors_types_lets_choose_and_leave_out(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url('/console')}#/agents/%40console%2Fparcel")
    page.get_by_label("number").fill("12")
    page.get_by_label("Kind").select_option("Transfer")
    page.get_by_label("days").fill("30")
    page.get_by_role("button", name="Add back_to").click()
    page.get_by_label("street").fill("Market 1")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("link", name="Open the run").click()
    expect(page.locator(".head .badge")).to_have_text("completed")
    task = stack.task(page.url.rpartition("/")[2])
    assert task["output"] == {
        "pay": {"type": "transfer", "days": 30}, "to": None, "back_to": {"street": "Market 1"},
    }  # fmt: skip


def test_the_inbox_keeps_what_is_typed_while_others_come_and_go(page: Page, stack: Stack) -> None:
    first = stack.submit("@demo/invoice_check", {"lines": [{"amount": 1}]})
    stack.until(first, "waiting_for_input")
    page.get_by_role("link", name=re.compile("Inbox")).click()
    card = page.locator(".inbox .card", has=page.locator(f'a[href$="{first}"]'))
    card.get_by_label("Answer").fill("CC-1")
    second = stack.submit("@demo/invoice_check", {"lines": [{"amount": 2}]})
    expect(page.locator(f'.inbox a[href$="{second}"]')).to_be_visible()
    expect(card.get_by_label("Answer")).to_have_value("CC-1")
    card.get_by_role("button", name="Answer").click()
    expect(card.get_by_role("button", name="Reject")).to_be_visible()
    card.get_by_label("Reason").fill("wrong month")
    card.get_by_role("button", name="Reject").click()
    assert stack.until(first)["error"]["code"] == "rejected"
    expect(card).to_have_count(0)


def test_a_held_run_names_its_limit_and_is_cancelled(page: Page, stack: Stack) -> None:
    holder = stack.submit("@console/patient", {})
    stack.until(holder, "running")
    first = stack.submit("@console/patient", {})
    open_run(page, first)
    expect(page.locator(".card.hold")).to_contain_text("agent:@console/patient")
    expect(page.locator(".card.hold")).to_contain_text("Place 1 in the queue")
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(page.locator(".head .badge")).to_have_text("stopped")
    page.get_by_role("button", name="Run again").click()  # no step has finished: there is none to go on from
    page.wait_for_url(lambda url: first not in url)
    again = page.url.rpartition("/")[2]
    assert stack.task(again)["retry_of"] == first
    for task_id in (again, holder):
        stack.request("POST", f"/tasks/{task_id}/cancel", {})


def test_schedules_are_listed_and_acted_on(page: Page, stack: Stack) -> None:
    schedule = {"agent": "@demo/echo", "schedule": "0 6 * * *", "run": {"args": {"n": 3}}, "name": "Mornings"}
    status, _ = stack.request("POST", "/api/v1/schedules", schedule)
    assert status == 201
    page.get_by_role("link", name="Schedules").click()
    row = page.get_by_role("listitem").filter(has_text="Mornings")
    row.get_by_role("button", name="Run now").click()
    expect_toast(page, "Run now: done")
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    row.get_by_role("button", name="Resume").click()
    expect(row).to_contain_text("active")


def test_a_lost_api_is_shown_and_the_timeline_resumes_without_a_gap(page: Page, stack: Stack) -> None:
    task_id = stack.submit("@demo/sleeper", {"seconds": 4})
    open_run(page, task_id)
    stack.kill("api-1")
    expect(page.locator("#link")).to_have_text("reconnecting…")
    stack.start("api-1")
    stack.wait_ready()
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#log li").last).to_contain_text("finish")
    status, answer = stack.request("GET", f"/tasks/{task_id}/events", headers={"accept": "application/json"})
    assert status == 200
    assert page.locator("#log b").all_inner_texts() == [event["type"] for event in answer["data"]]


def test_many_pages_stay_live_and_leave_connections_free(page: Page, stack: Stack) -> None:
    task_id = stack.submit("@demo/sleeper", {"seconds": 8})
    open_run(page, task_id)
    others = []
    for _ in range(8):  # a browser opens six connections to one server
        other = page.context.new_page()
        other.goto(page.url.partition("#")[0])  # the key is a page's own
        other.get_by_label("API key").fill(stack.key)
        other.keyboard.press("Enter")
        expect(other.get_by_role("heading", name="Runs")).to_be_visible()
        open_run(other, task_id)
        others.append(other)
    for other in (page, *others):
        expect(other.locator("#log li").last).to_contain_text("finish")
        assert len(set(other.locator("#log b").all_inner_texts())) > 2


def test_a_hidden_page_gives_its_connection_back_and_goes_on_where_it_was(page: Page, stack: Stack) -> None:
    task_id = stack.submit("@console/streamer", {})
    open_run(page, task_id)
    show = """(state) => {
        Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    locks = "async () => (await navigator.locks.query()).held.map((lock) => lock.name).length"
    page.wait_for_function(f"({locks})().then((n) => n === 2)")
    page.evaluate(show, "hidden")
    page.wait_for_function(f"({locks})().then((n) => n === 0)")
    stack.request("POST", f"/tasks/{task_id}/message", {"message": "enough"})
    assert stack.until(task_id)["status"] == "completed"
    assert "finish" not in page.locator("#log b").all_inner_texts()
    page.evaluate(show, "visible")
    expect(page.locator("#log li").last).to_contain_text("finish")
    page.wait_for_function(f"({locks})().then((n) => n === 1)")  # the run's stream has ended


def test_it_fits_a_phone_and_is_used_by_keyboard_alone(page: Page, stack: Stack) -> None:
    stack.run("@demo/echo", {"n": 2}, query="A title that is much longer than any telephone is wide, " * 4)
    page.set_viewport_size({"width": 360, "height": 740})
    for section in ("inbox", "agents", "schedules", "webhooks", "limits", "workers", "runs"):
        page.goto(f"{stack.url('/console')}#/{section}")
        expect(page.get_by_role("heading", level=1)).to_have_text(section.capitalize())
        assert page.evaluate("document.documentElement.scrollWidth") == 360, section
    expect(page.locator(".row").first).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    chosen = page.evaluate("document.activeElement.dataset.key")
    page.keyboard.press("Enter")
    expect(page.locator("#log li").first).to_be_visible()
    assert page.url.endswith(chosen)


def test_a_one_time_link_signs_in_and_works_no_second_time(browser: Browser, stack: Stack) -> None:
    token = sign_in_links.make(stack.home, time.time())
    link = f"{stack.url('/console')}#/enter/{token}/agents/%40console%2Ffails"
    page = browser.new_page()
    page.goto(link)
    expect(page.get_by_role("navigation")).to_be_visible(timeout=SECONDS)
    assert token not in page.url
    expect(page.get_by_role("heading", level=1)).to_contain_text("@console/fails", timeout=SECONDS)
    page.reload()
    expect(page.get_by_role("navigation")).to_be_visible(timeout=SECONDS)
    other = browser.new_context().new_page()
    other.goto(link)
    expect(other.get_by_role("alert")).to_contain_text("runyard console", timeout=SECONDS)
    page.close()
    other.close()


def test_the_sections_are_accessible(page: Page, stack: Stack) -> None:
    for section in ("inbox", "agents", "schedules", "limits", "workers", "account", "runs"):
        go(page, section)
        expect(page.get_by_role("heading", level=1)).to_have_text(section.capitalize())
        assert violations(page) == [], section
