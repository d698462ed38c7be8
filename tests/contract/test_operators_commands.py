"""Schedules, webhooks, limits, workers and usage on the command line, against a live server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from runyard_launch.cli.main import app
from tests.contract.live import Live

Command = Callable[..., Any]


@pytest.fixture
def invoke(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A command on another machine, with an admin's key."""
    monkeypatch.setenv("RUNYARD_HOME", str(tmp_path / "no-home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("RUNYARD_URL", live.url())
    monkeypatch.setenv("RUNYARD_API_KEY", live.key)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.fixture
def runyard(invoke: Callable[..., Result]) -> Command:
    """The JSON of a command that succeeds."""

    def call(*words: str) -> Any:
        result = invoke(*words, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return call


class Accepting(BaseHTTPRequestHandler):
    """Accepts every delivery."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    """A server of callbacks."""
    server = HTTPServer(("127.0.0.1", 0), Accepting)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_schedule_from_its_preview_to_its_end(
    live: Live, runyard: Command, invoke: Callable[..., Result]
) -> None:
    times = runyard("schedules", "preview", "0 9 * * mon-fri", "--timezone", "Europe/Berlin", "--count", "3")
    assert ["T09:00:00" in time["local"] for time in times] == [True] * 3
    words = (
        "@demo/echo",
        "0 9 * * mon-fri",
        "--timezone",
        "Europe/Berlin",
        "--name",
        "Morning",
        "--args",
        '{"n": 1}',
    )
    made = runyard("schedules", "create", *words)
    assert runyard("schedules", "preview", made["id"], "--count", "3") == times
    assert runyard("schedules", "pause", made["id"], "--reason", "a holiday")["paused_reason"] == "a holiday"
    assert made["id"] in [row["id"] for row in runyard("schedules", "list", "--state", "paused")]
    assert runyard("schedules", "resume", made["id"])["state"] == "active"
    task = runyard("schedules", "trigger", made["id"])["task_id"]
    assert live.until(task, "completed")["output"] == {"message": None, "args": {"n": 1}}
    assert [fire["task_id"] for fire in runyard("schedules", "fires", made["id"])] == [task]
    late = runyard(
        "schedules",
        "backfill",
        made["id"],
        "--since",
        "2026-03-02",
        "--until",
        "2026-03-04T12:00Z",
        "--limit",
        "2",
    )
    assert [run["local"][:16] for run in late["data"]] == ["2026-03-02T09:00", "2026-03-03T09:00"]
    assert late["next_since"].startswith("2026-03-04T08:00")
    assert all(live.until(run["task_id"], "completed") for run in late["data"])
    assert invoke("schedules", "list").stdout.count("Morning") == 1  # a table for people
    assert runyard("schedules", "delete", made["id"])["deleted"] is True
    assert made["id"] not in [row["id"] for row in runyard("schedules", "list")]


def test_a_webhook_is_tried_and_its_deliveries_are_sent_once_more(
    live: Live, runyard: Command, invoke: Callable[..., Result], receiver: HTTPServer
) -> None:
    url = f"http://127.0.0.1:{receiver.server_address[1]}/hook"
    made = runyard("webhooks", "create", url, "--event", "run.completed", "--summary")
    assert made["secret"].startswith("whsec_")
    assert runyard("webhooks", "test", made["id"])["state"] == "success"
    task = live.run("@demo/echo", {"n": 2})["task_id"]
    found = runyard("webhooks", "deliveries", made["id"])
    assert task in [row["task_id"] for row in found]
    assert [row["id"] for row in runyard("webhooks", "deliveries", "--task", task)] == [found[0]["id"]]
    receiver.shutdown()
    receiver.server_close()
    refused = invoke("webhooks", "test", made["id"], "--json")
    error = json.loads(refused.stderr)["error"]
    assert (refused.exit_code, error["code"]) == (1, "not_delivered")
    assert "could not be reached" in error["message"]
    new = runyard("webhooks", "rotate", made["id"])
    assert new["secret"] not in ("", made["secret"])
    assert runyard("webhooks", "disable", made["id"])["active"] is False
    assert runyard("webhooks", "enable", made["id"])["active"] is True
    again = runyard("webhooks", "replay", made["id"], "--state", "success")
    assert again["count"] == len(again["delivery_ids"]) > 0
    assert runyard("webhooks", "delete", made["id"])["deleted"] is True
    assert made["id"] not in [row["id"] for row in runyard("webhooks", "list")]


def test_a_limit_keeps_what_a_second_setting_does_not_name(
    runyard: Command, invoke: Callable[..., Result]
) -> None:
    first = runyard("limits", "set", "agent", "@demo/echo", "--concurrent", "500", "--rate", "1000/60")
    second = runyard("limits", "set", "agent", "@demo/echo", "--concurrent", "700")
    assert second["id"] == first["id"]
    assert (second["max_concurrent"], second["rate_count"], second["rate_seconds"]) == (700, 1000, 60.0)
    assert "1000 in 60 s" in invoke("limits", "list").stdout
    assert invoke("limits", "set", "agent", "--rate", "often").exit_code == 2
    runyard("limits", "delete", first["id"])
    assert first["id"] not in [row["id"] for row in runyard("limits", "list")]


def test_workers_the_queue_and_usage_are_shown(
    live: Live, runyard: Command, invoke: Callable[..., Result]
) -> None:
    assert runyard("workers", "list")[0]["state"] == "alive"
    assert runyard("workers", "queue")["workers"] >= 1
    worker = runyard("workers", "list")[0]["id"]
    assert runyard("workers", "drain", worker)["state"] in ("draining", "drained")
    assert runyard("workers", "resume", worker)["state"] == "alive"
    assert live.run("@demo/echo", {"n": 1})["status"] == "completed"
    report = runyard("usage", "--by", "model", "--since", "7d")
    assert report["by"] == "model"
    for words in (("workers", "list"), ("workers", "queue"), ("usage", "--since", "2026-01-01")):
        assert invoke(*words).exit_code == 0
    refused = invoke("usage", "--since", "yesterday", "--json")
    assert json.loads(refused.stderr)["error"]["field"] == "since"


def test_tasks_are_watched_their_logs_written_and_run_once_more(
    live: Live, runyard: Command, invoke: Callable[..., Result]
) -> None:
    task = live.run("@demo/echo", {"n": 3})["task_id"]
    seen = [
        json.loads(line) for line in invoke("tasks", "watch", "--seconds", "0", "--json").stdout.splitlines()
    ]
    assert {"task_id": task, "status": "completed"} in [
        {k: row[k] for k in ("task_id", "status")} for row in seen
    ]
    assert task in invoke("tasks", "watch", "--seconds", "0", "--agent", "@demo/echo").stdout
    again = runyard("tasks", "retry", task)
    assert live.until(again["task_id"], "completed")["output"]["args"] == {"n": 3}
    assert invoke("tasks", "retry", task, "--follow").exit_code == 0
    assert invoke("tasks", "logs", task).exit_code == 0
    assert invoke("tasks", "logs", task, "--level", "loud").exit_code == 2
