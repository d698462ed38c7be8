"""The console's pictures in docs/images/console, and the outlines of the pages that they show.

`make screenshots` (``python -m tests.console_pictures``) makes all of them, with the same data each time. An outline is
what assistive technology finds on a page, without its data: headings, buttons, fields, columns. A test compares the
pages with the outlines that are stored, so that a picture of a page which has changed is noticed.
"""

from __future__ import annotations

import io
import json
import math
import random
import re
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text

from runyard_common.database.engine import Database
from tests.benchmarks.history import fill
from tests.console import SECONDS, chromium, fits, sign_in, watched
from tests.stack import ROOT, Stack
from tests.waiting import wait_until

AGENTS: Final = Path(__file__).parent / "acceptance" / "picture_agents.py"
FOLDER: Final = ROOT / "docs" / "images" / "console"
OUTLINES: Final = FOLDER / "outlines.json"
SCHEMES: Final = ("light", "dark")
WIDTH, HEIGHT = 1400, 900  # pixels
#: The pages, by the name of their pictures: the address behind `#/`, in which {task} is a finished run.
PAGES: Final = {
    "overview": "overview?since=7d",
    "runs": "runs",
    "run": "runs/{task}",
    "inbox": "inbox",
    "agent": "agents/%40acme%2Fresearch",
    "schedules": "schedules",
    "webhooks": "webhooks",
    "limits": "limits",
    "workers": "workers",
    "usage": "usage?since=7d&show=runs",
}
_COLOURS: Final = 256
_STORED, _DAYS, _DAY, _HOUR = 12_000, 7, 24, 3600.0
#: Names with an agent's or a worker's in them, and what is there when there is much.
_NAMED: Final = re.compile(r"@\w+/|\w · \d|^Show more$")
_SCHEDULES: Final[list[dict[str, Any]]] = [
    {
        "agent": "@acme/research",
        "schedule": "0 7 * * mon-fri",
        "name": "Morning digest",
        "run": {"args": {"company": "Globex"}},
    },
    {
        "agent": "@acme/fact_check",
        "schedule": "0 3 L * *",
        "name": "Month end",
        "run": {"args": {"claims": 8}},
    },
]
#: What makes up a page. Rows, cells and links are data, but for the links of the navigation.
_PART: Final = re.compile(
    r"""^\s*- ['"]?(heading|button|columnheader|textbox|searchbox|combobox|checkbox|spinbutton|tab) "(.*?)\"""",
    re.MULTILINE,
)
_DATA: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{20,}|\d+|\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b|\b(?:January|February|March|April"
    r"|May|June|July|August|September|October|November|December)\b"
)


#: Replaces a text in the page on show: the name of the machine that makes the pictures.
_RENAMED: Final = """([from, to]) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replace(`${from} ·`, `${to} ·`);
}"""


def seed(stack: Stack) -> str:
    """Make what the pictures show, at most once for an installation; the id of the finished run of `PAGES`."""
    stack.run("@acme/research", {"company": "Globex", "depth": "brief"})
    done = stack.run("@acme/research", {"company": "Initech", "depth": "full", "sources": 3})
    stack.run("@demo/failer", {"code": "ledger_closed", "message": "The ledger of October is closed."})
    stack.until(stack.submit("@acme/invoices", {"amount": 48.2}), "waiting_for_input")
    reviewed = stack.submit("@acme/invoices", {"amount": 1250})
    stack.until(reviewed, "waiting_for_input")
    _post(stack, f"/tasks/{reviewed}/message", {"message": "Office"})
    stack.until(reviewed, "awaiting_review")
    for body in _SCHEDULES:
        _post(stack, "/api/v1/schedules", {"timezone": "Europe/Berlin", **body})
    # Of an event that no run here has: nothing is sent.
    hook = {"url": "https://erp.example.com/runyard", "events": ["run.stopped"], "agent": "@acme/invoices"}
    _post(stack, "/api/v1/webhooks", hook)
    for kind, selector, most in (("agent", "@acme/research", 5), ("end_user", "*", 2)):
        _post(stack, "/api/v1/limits", {"kind": kind, "selector": selector, "max_concurrent": most})
    return str(done["task_id"])


def _post(stack: Stack, path: str, body: dict[str, Any]) -> None:
    status, answer = stack.request("POST", path, body)
    assert status < 300, (path, status, answer)


def outline(page: Page) -> list[str]:
    """The parts of the page on show, each once, in order; numbers, ids and dates are left out of their names."""
    found = _PART.findall(page.locator("body").aria_snapshot())
    parts = (f"{role}: {_DATA.sub('#', name)}" for role, name in found if not _NAMED.search(name))
    return list(dict.fromkeys(parts))


def show(page: Page, name: str, task_id: str) -> None:
    """Open the page of a picture, and wait until it is drawn."""
    page.goto(f"{page.url.partition('#')[0]}#/{PAGES[name].format(task=task_id)}")
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=SECONDS)


def settled_outline(page: Page, expected: list[str]) -> list[str]:
    """The outline of the page on show, once it is the expected one; or as it is after a while."""
    deadline = time.monotonic() + SECONDS / 1000
    while (found := outline(page)) != expected and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    return found


def stored() -> dict[str, list[str]]:
    """The outlines that the pictures have."""
    return dict(json.loads(OUTLINES.read_text()))


def _settled(page: Page) -> bytes:
    """The picture of the page, once it changes no more."""
    png = b""
    for _ in range(8):  # what counts seconds never rests
        page.evaluate(_RENAMED, [socket.gethostname(), "worker-host"])  # which the page may have drawn again
        before, png = png, page.screenshot(animations="disabled", caret="hide")
        if before == png:
            break
        page.wait_for_timeout(700)
    return png


def _small(png: bytes) -> bytes:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    counted: Any = image.getcolors(WIDTH * HEIGHT)  # pairs of a count and a colour
    common = [colour for _, colour in sorted(counted, reverse=True)[:_COLOURS]]
    palette = Image.new("P", (1, 1))  # the commonest colours as they are, others by the nearest of them
    palette.putpalette([part for colour in common for part in colour])
    image = image.quantize(palette=palette, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


_TIMES: Final = (
    "UPDATE tasks SET finished_at = finished_at + (rowid % 17) * 0.4, started_at = created_at + (rowid % 5) * 0.2"
    " WHERE id <> :id"
)


def _history(stack: Stack) -> None:
    """Runs of a month, more by day than by night, from one that really ran."""
    task_id = stack.run("@acme/fact_check", {"claims": 3})["task_id"]
    db = Database(f"sqlite:///{stack.home.resolve() / 'runyard.db'}")
    fill(db, task_id, _STORED)
    dice = random.Random(7)  # the same for every making
    gone = text("DELETE FROM tasks WHERE id = :id"), text("DELETE FROM events WHERE task_id = :id")
    with db.begin() as conn:
        rows_from = time.time() - _DAYS * _DAY * _HOUR  # what is summed up takes the scheduler its time
        rows = conn.execute(text("SELECT id, created_at FROM tasks WHERE id <> :id"), {"id": task_id}).all()
        for id_, at in rows:
            share = 0.2 + 0.8 * max(0.0, math.sin((at / _HOUR % _DAY - 6) / _DAY * 2 * math.pi))
            if at < rows_from or dice.random() > share:
                for statement in gone:
                    conn.execute(statement, {"id": id_})
        conn.execute(text(_TIMES), {"id": task_id})
    db.close()


def make(browser: Browser, stack: Stack, task_id: str) -> None:
    """Write the pictures and the outlines."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    outlines: dict[str, list[str]] = {}
    for scheme in SCHEMES:
        with watched(browser, WIDTH, color_scheme=scheme) as page:
            sign_in(page, stack)
            for name in PAGES:
                show(page, name, task_id)
                page.wait_for_timeout(1000)
                (FOLDER / f"{name}-{scheme}.png").write_bytes(_small(_settled(page)))
                assert fits(page)
                outlines[name] = outline(page)
    OUTLINES.write_text(json.dumps(outlines, indent=1) + "\n")


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium() as browser,
        Stack(Path(folder), agents=[str(AGENTS)], schedulers=0) as stack,
    ):
        _history(stack)
        stack.start("scheduler-1")
        task_id = seed(stack)
        wait_until(lambda: _rolled_up(stack), seconds=300, every=1)
        make(browser, stack, task_id)
    print(FOLDER)


def _rolled_up(stack: Stack) -> bool:
    """Whether the statistics have the newest runs too."""
    _, found = stack.request("GET", "/api/v1/statistics/runs")
    return bool(found and found["total"]["input_tokens"])


if __name__ == "__main__":
    main()
