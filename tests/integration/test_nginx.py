"""The files of deploy/nginx in Debian's nginx, before a real api: TLS, events at once, the caller's own address."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard import Context
from tests.api_server import Api, settled, workers_of
from tests.fakes.authority import Authority
from tests.ports import free_port
from tests.prefix_proxy import NGINX
from tests.stack import ROOT
from tests.waiting import wait_until

FILES = ROOT / "deploy" / "nginx"
HOST = "localhost"  # which resolves here; the files say agents.example.com
MAIN = """
{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {sites}
}}
"""
#: A host that serves other things, too.
OTHER = """
server {{
  listen 443 ssl;
  ssl_certificate /etc/ssl/runyard/fullchain.pem; ssl_certificate_key /etc/ssl/runyard/privkey.pem;
  location / {{ return 200 "the company's page"; }}
  include {path};
}}
"""

pytestmark = pytest.mark.timeout(180)


class Site:
    """Where nginx listens, and the api behind it."""

    def __init__(self, api: Api, port: int, plain: int, authority: Authority) -> None:
        self.api, self.plain = api, plain
        self.url = api.settings.public_url
        self.tls = authority.client()
        self.port = port

    def client(self, **headers: str) -> httpx2.AsyncClient:
        """A caller from outside."""
        return httpx2.AsyncClient(
            base_url=self.url,
            verify=self.tls,
            timeout=60,
            headers={"authorization": f"Bearer {self.api.key}"} | headers,
        )


@contextmanager
def started(folder: Path, prefix: str = "") -> Iterator[Site]:
    """nginx with the files as they are, but for addresses, ports and where they lie."""
    if "nginx" in os.environ.get("TEST_WITHOUT", "").split(","):
        pytest.skip("TEST_WITHOUT=nginx")
    assert NGINX.exists(), "nginx is not installed: tools/test-servers.sh brings it"
    port, plain = free_port(), free_port()
    authority = Authority(folder)
    certificate = authority.certificate(HOST)
    settings = {
        "public_url": f"https://{HOST}:{port}{prefix}", "trusted_proxies": "127.0.0.1",
        "model": "openai:scripted", "model_base_url": "http://127.0.0.1:9/v1",
    }  # fmt: skip
    with Api(folder / "home", **settings) as api:
        site = (FILES / "runyard.conf").read_text()
        if prefix:  # of the file for a host of its own, the upstream alone
            site = site.partition("}\n")[0] + "}\n" + OTHER.format(path=folder / "runyard-path.conf")
        for name in ("runyard-proxy.conf", "runyard-path.conf"):
            (folder / name).write_text(_moved((FILES / name).read_text(), folder))
        site = _moved(site, folder).replace("127.0.0.1:8000", api.url.removeprefix("http://"))
        site = re.sub(r"/etc/ssl/runyard/\w+\.pem", str(certificate), site)
        site = re.sub(r"^ *listen \[::\].*\n", "", site, flags=re.MULTILINE)  # IPv6 may be off
        site = site.replace("listen 443", f"listen 127.0.0.1:{port}").replace(
            "listen 80", f"listen 127.0.0.1:{plain}"
        )
        (folder / "nginx.conf").write_text(
            MAIN.format(folder=folder, sites=site, user="user root;" if os.geteuid() == 0 else "")
        )
        command: list[str | Path] = [
            NGINX,
            "-p",
            folder,
            "-c",
            folder / "nginx.conf",
            "-e",
            folder / "error.log",
        ]
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: _listens(port) or running.poll() is not None)
            assert running.poll() is None, (folder / "error.log").read_text()
            yield Site(api, port, plain, authority)
        finally:
            running.terminate()
            running.wait(50)


def _moved(text: str, folder: Path) -> str:
    """The files lie in the test's folder."""
    return text.replace("/etc/nginx/snippets", str(folder)).replace("agents.example.com", HOST)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with started(tmp_path_factory.mktemp("nginx")) as found:
        yield found


@pytest.fixture(scope="module")
def under_a_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with started(tmp_path_factory.mktemp("path"), "/runyard") as found:
        yield found


async def check_names_with_slashes(client: httpx2.AsyncClient) -> None:
    found = await client.get("/api/v1/sessions/a%2Fb")
    assert found.json()["code"] == "session_not_found", "%2F is part of a name: the route is found"


async def frames(client: httpx2.AsyncClient, task: str, first: asyncio.Event) -> list[str]:
    """The kinds of a run's events, to its end; `first` is set with the first that arrives."""
    kinds: list[str] = []
    async with client.stream(
        "GET", f"/tasks/{task}/events", headers={"accept": "text/event-stream"}
    ) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                kinds.append(json.loads(line.removeprefix("data:")).get("type", "end"))
                first.set()
    return kinds


@pytest.mark.anyio
@pytest.mark.parametrize("which", ["site", "under_a_path"])
async def test_events_of_a_run_arrive_before_it_ends(which: str, request: pytest.FixtureRequest) -> None:
    site: Site = request.getfixturevalue(which)
    may_end = asyncio.Event()

    async def waits(ctx: Context, args: dict[str, Any]) -> str:
        await may_end.wait()
        return "done"

    async with workers_of(site.api) as workers, site.client() as client:
        run = f"/api/v1/agents/{workers.publish(waits)}/run"
        accepted = await client.post(run, json={"args": {}})
        assert accepted.status_code == 202, accepted.text
        first = asyncio.Event()
        following = asyncio.create_task(frames(client, accepted.json()["task_id"], first))
        await asyncio.wait_for(first.wait(), 40)
        task = (await client.get(f"/tasks/{accepted.json()['task_id']}")).json()
        assert task["status"] in ("pending", "running"), "an event came while the run was under way"
        assert not following.done()
        may_end.set()
        kinds = await asyncio.wait_for(following, 40)
        assert kinds[-2:] == ["finish", "end"]
        await settled(client, accepted.json()["task_id"], "completed")


@pytest.mark.anyio
async def test_the_callers_address_counts_and_none_that_it_makes_up(site: Site) -> None:
    made_up = {"x-forwarded-for": "203.0.113.7", "forwarded": "for=203.0.113.7", "x-real-ip": "203.0.113.7"}
    body = {"email": "unknown@example.com", "password": "a wrong password of some length"}
    async with site.client(**made_up) as client:
        del client.headers["authorization"]
        refused = await client.post("/api/v1/login", json=body)
        assert refused.status_code == 401, refused.text
    counted = json.dumps(
        [str(key) for counts in site.api.state.sign_ins.counts for key in vars(counts).values()]
    )
    assert "203.0.113" not in counted
    assert "127.0.0" in counted


@pytest.mark.anyio
async def test_it_is_tls_alone_and_cookies_and_links_are_for_it(site: Site) -> None:
    async with httpx2.AsyncClient(timeout=30) as client:
        plain = await client.get(f"http://127.0.0.1:{site.plain}/docs?a=1", headers={"host": HOST})
    assert (plain.status_code, plain.headers["location"]) == (308, f"https://{HOST}/docs?a=1")
    async with site.client() as client:
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert "max-age" in ready.headers["strict-transport-security"]
        assert (await client.get("/metrics")).status_code == 404
        await check_names_with_slashes(client)


@pytest.mark.anyio
async def test_api_and_console_work_under_a_path_beside_other_things(under_a_path: Site) -> None:
    async with under_a_path.client() as client:
        assert (await client.get(f"https://{HOST}:{under_a_path.port}/")).text == "the company's page"
        console = await client.get("/console/", follow_redirects=True)
        assert str(console.url) == f"{under_a_path.url}/console"
        parts = re.findall(r'(?:href|src)="(?!data:|#)([^"]+)"', console.text)
        assert parts
        for part in parts:
            assert (await client.get(console.url.join(part))).status_code == 200, part
        document = (await client.get("/openapi.json")).json()
        assert document["servers"][0]["url"] == "/runyard"
        await check_names_with_slashes(client)
        assert (await client.get("/metrics")).status_code == 404


@pytest.mark.anyio
async def test_a_body_over_the_bound_is_refused_by_nginx_or_the_api_and_one_below_is_not(site: Site) -> None:
    bound = re.search(r"client_max_body_size (\d+)m", (FILES / "runyard-proxy.conf").read_text())
    assert bound is not None
    assert int(bound[1]) * 2**20 == site.api.settings.max_upload_bytes
    file = ("big.txt", b"x" * 3_000_000)  # above nginx's own default of 1 MB
    async with site.client() as client:
        manifest = {"name": "@test/chat", "instructions": "Chat.", "model": "openai:scripted"}
        made = await client.post("/api/v1/agents/manifests", json=manifest)
        assert made.is_success, made.text
        accepted = await client.post("/api/v1/agents/@test/chat/run", files={"file": file})
        assert accepted.status_code == 202, accepted.text
