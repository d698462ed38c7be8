"""A protocol is added by a folder and one line: it submits, answers, refuses and calls back in its own words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.contract.callbacks import receiver
from tests.contract.live import Live
from tests.fakes.receiver import read_log
from tests.stack import PYTHONPATH
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)
LINE = "[runyard.surfaces]\ntoy = tests.contract.toy_protocol.surface:SURFACE\n"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server whose processes find the line, as if a package with it were installed."""
    folder = tmp_path_factory.mktemp("toy")
    installed = folder / "toy_protocol-1.0.dist-info"
    installed.mkdir()
    (installed / "entry_points.txt").write_text(LINE)
    with Live(folder, PYTHONPATH=os.pathsep.join((PYTHONPATH, str(folder)))) as running:
        yield running
        running.store.db.close()


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[httpx2.Client]:
    with live.client() as found:
        yield found


def ask(client: httpx2.Client, to: str, **headers: str) -> httpx2.Response:
    return client.post("/toy/ask", json={"to": to, "question": "how much?"}, headers=headers)


def test_it_submits_and_answers(client: httpx2.Client) -> None:
    answer = ask(client, "ledger")
    assert (answer.status_code, answer.json()["answer"]) == (200, {"total": 7})
    task = client.get(f"/tasks/{answer.json()['ticket']}").json()
    assert (task["front"], task["status"]) == ("toy", "completed")


def test_a_repeated_request_makes_one_run(client: httpx2.Client) -> None:
    first, again = (ask(client, "ledger", **{"idempotency-key": "the same"}) for _ in range(2))
    assert first.json() == again.json()


def test_it_refuses_in_its_own_words(client: httpx2.Client) -> None:
    answer = ask(client, "nothing-of-this-name")
    assert (answer.status_code, answer.json()["oops"]) == (404, "agent_not_found")
    assert client.get("/toy/nowhere").json()["oops"] == "route_not_found"


def test_its_webhooks_have_its_own_names_and_bodies(client: httpx2.Client, tmp_path: Path) -> None:
    with receiver(tmp_path) as url:
        wanted = {"url": url, "style": "toy", "events": ["toy.answered"]}
        made = client.post("/api/v1/webhooks", json=wanted)
        assert made.status_code == 201, made.text
        ticket = ask(client, "ledger").json()["ticket"]
        wait_until(lambda: read_log(tmp_path / "posts") != [], seconds=30)
        (post,) = read_log(tmp_path / "posts")
    assert post.json == {"toy": "toy.answered", "ticket": ticket, "answer": {"total": 7}}
    unknown = client.post("/api/v1/webhooks", json={"url": url, "style": "toy", "events": ["run.failed"]})
    assert unknown.json()["code"] == "invalid_events"


def test_it_is_documented(client: httpx2.Client) -> None:
    assert "/toy/ask" in client.get("/openapi.json?front=toy").json()["paths"]
