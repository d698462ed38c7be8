"""An MCP server that refuses or is down is reported in the stream and to callbacks, with its cause (case s-12)."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.callbacks import complete, receiver
from tests.contract.frames import run
from tests.contract.live import Live
from tests.fakes.mcp_servers import mcp_process
from tests.fakes.model_server import reply
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def server(url: str, token: str = "wrong") -> dict[str, Any]:
    return {"serverName": "x", "serverUrl": url, "auth": {"type": "bearer", "token": token}}


def test_wrong_credentials_are_reported_in_the_stream_and_to_the_callback(
    admin: httpx2.Client, live: Live, tmp_path: Path
) -> None:
    question = uuid.uuid4().hex
    live.model.when(question, reply("ok"))
    with mcp_process(tmp_path, token="s3cret") as running, receiver(tmp_path) as url:
        frames = run(admin, question, mcp_servers=[server(running.url)], callback={"url": url, "headers": {}})
        posts = wait_until(lambda: complete(tmp_path / "posts"), seconds=30)

    [event] = [event for event in frames.events if event["type"] == "agent_event"]
    assert event["name"] == "mcp_server_failed"
    assert event["data"]["server"] == "x"
    assert (event["data"]["code"], event["data"]["http_status"]) == ("unauthorized", 401)
    assert "credentials" in event["data"]["error"]
    events = [post.json for post in posts or () if post.json["type"] == "agent_event"]
    assert [one["data"] for one in events] == [event["data"]]
    assert frames.types[-1] == "agent_completed"


def test_a_server_that_is_down_is_reported_too(admin: httpx2.Client, live: Live) -> None:
    question = uuid.uuid4().hex
    live.model.when(question, reply("ok"))

    frames = run(admin, question, mcp_servers=[server(f"http://127.0.0.1:{free_port()}/mcp")])

    [event] = [event for event in frames.events if event["type"] == "agent_event"]
    assert event["data"]["error"]
    assert event["data"]["http_status"] is None
