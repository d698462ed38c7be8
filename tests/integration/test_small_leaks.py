"""Small leaks, closed: links, keys made with tokens, URLs, metrics, datastores."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from runyard_common.identity.rules.roles import Role
from runyard_common.outbound import OutboundPolicy
from runyard_workers.agent.sql import Caps, QueryFailed, open_source
from runyard_workers.agent.sql.results import UNREACHABLE
from tests.api_server import Api
from tests.fakes.names import Names
from tests.members import key, organisation
from tests.stocked import link_to_a_question

AS_JSON = {"accept": "application/json"}  # and no stream of events
SECRET = "a secret that only these tests know, 43 long"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Api(
        tmp_path_factory.mktemp("leaks") / "home", jwt_secret=SECRET, metrics_token="let me count"
    ) as one:
        yield one


def with_token(api: Api, org_id: str, subject: str) -> httpx2.Client:
    """A client with a JWT of an organisation."""
    claims: dict[str, Any] = {"sub": subject, "org": org_id, "roles": ["owner"], "exp": time.time() + 600}
    return api.client(jwt.encode(claims, SECRET, "HS256"))


class TestLinks:
    def test_a_link_of_an_organisation_that_was_deactivated_shows_and_takes_nothing(self, api: Api) -> None:
        org_id = organisation(api)
        with api.client() as operator, api.client(key(api, org_id)) as client:
            manifest = {"name": "@leaks/one", "version": "1.0.0", "kind": "declared", "instructions": "hi"}
            client.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
            task = client.post("/api/v1/agents/@leaks/one/run", json={"query": "hi"}).json()["task_id"]
            token = link_to_a_question(api, task, org_id)
            path, bounds = f"/answer/{token}", f"/api/v1/ops/organisations/{org_id}"
            with api.client("") as guest:
                assert guest.get(path).status_code == 200
                operator.patch(bounds, json={"active": False}).raise_for_status()
                assert guest.get(path).status_code == 410
                assert guest.post(path, json={"answer": "yes"}).status_code == 410
                operator.patch(bounds, json={"active": True}).raise_for_status()
                assert guest.get(path).status_code == 200


class TestKeysMadeWithTokens:
    def test_they_end_after_thirty_days_and_what_they_make_ends_no_later(self, api: Api) -> None:
        with with_token(api, organisation(api), "ada") as client:
            body = {"name": "k", "role": "admin"}
            made = client.post("/api/v1/keys", json=body).raise_for_status().json()
            far = client.post("/api/v1/keys", json=body | {"expires_at": "2999-01-01T00:00:00Z"})
            soon = client.post("/api/v1/keys", json=body | {"expires_at": _in(3600)})
        assert made["created_by"] == "jwt:ada"
        assert _in(29 * 86_400) < made["expires_at"] < _in(31 * 86_400)
        assert (far.status_code, far.json()["code"]) == (400, "expires_too_late")
        assert soon.json()["expires_at"] < _in(3700)
        with api.client(soon.json()["key"]) as client:
            child = client.post("/api/v1/keys", json=body).raise_for_status().json()
            later = client.post("/api/v1/keys", json=body | {"expires_at": _in(7200)})
        assert child["expires_at"] == soon.json()["expires_at"]
        assert later.json()["code"] == "expires_too_late"

    def test_appstrates_do_too(self, api: Api) -> None:
        with with_token(api, organisation(api), "ada") as client:
            application = client.get("/api/applications").json()["data"][0]["id"]
            made = client.post("/api/api-keys", json={"applicationId": application, "name": "k"})
            [listed] = client.get("/api/api-keys").json()["apiKeys"]
        assert made.status_code == 201
        assert listed["expiresAt"] is not None

    def test_the_operators_own_live_on(self, api: Api) -> None:
        with api.client() as operator:
            assert operator.post("/api/v1/keys", json={"name": "k"}).json()["expires_at"] is None


def _in(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


class TestRates:
    def test_one_subject_in_two_organisations_has_two_rates(self, api: Api) -> None:
        with (
            with_token(api, organisation(api), "eve") as one,
            with_token(api, organisation(api), "eve") as two,
        ):
            body: dict[str, Any] = {}
            statuses = [one.post("/api/end-users", json=body).status_code for _ in range(61)]
            assert statuses[-1] == 429
            assert two.post("/api/end-users", json=body).status_code == 201


class TestUrls:
    @pytest.mark.parametrize("hidden", ["/services/T0/s3cret", "/hook?token=s3cret", "/?s3cret"])
    def test_who_may_not_write_a_url_sees_whose_it_is_and_no_secret_of_its_path_or_query(
        self, api: Api, hidden: str
    ) -> None:
        org_id, url = organisation(api), f"https://example.com{hidden}"
        with api.client(key(api, org_id)) as admin, api.client(key(api, org_id, Role.VIEWER)) as viewer:
            for path in _where_urls_are_shown(admin, url):
                whole = admin.get(path, headers=AS_JSON).raise_for_status().text
                seen = viewer.get(path, headers=AS_JSON).raise_for_status().text
                assert "s3cret" not in seen, path
                assert ("https://example.com/…" in seen) == ("https://example.com" in whole), path
            assert url in admin.get("/api/v1/webhooks").text, "who writes it reads it"
            assert "s3cret" not in admin.get("/api/v1/audit").raise_for_status().text
        with api.client(key(api, org_id, Role.MEMBER)) as member:
            agent = member.get("/api/v1/agents/@leaks/one").json()
            assert "…" not in agent["manifest"]["mcp_servers"][0]["url"]

    def test_an_address_without_a_path_is_shown_as_it_is(self, api: Api) -> None:
        org_id = organisation(api)
        with api.client(key(api, org_id)) as admin, api.client(key(api, org_id, Role.VIEWER)) as viewer:
            admin.post("/api/v1/webhooks", json={"url": "https://example.com/"}).raise_for_status()
            assert viewer.get("/api/v1/webhooks").json()["data"][0]["url"] == "https://example.com/"


def _where_urls_are_shown(admin: httpx2.Client, url: str) -> list[str]:
    """Store the URL wherever one may be; the routes that show it."""
    made = admin.post("/api/v1/webhooks", json={"url": url}).raise_for_status().json()
    events = {"scope": "organization", "url": url, "events": ["run.completed"]}
    theirs = admin.post("/api/webhooks", json=events).raise_for_status().json()
    admin.post(f"/api/v1/webhooks/{made['id']}/test").raise_for_status()
    manifest = {
        "name": "@leaks/one", "version": "1.0.0", "kind": "declared", "instructions": "hi",
        "mcp_servers": [{"name": "tools", "url": url}], "config": {"more": [url]},
    }  # fmt: skip
    admin.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
    servers = [{"serverName": "own", "serverUrl": url}]
    run = {"query": "hi", "callback": {"url": url}, "mcp_servers": servers}
    task = admin.post("/api/v1/agents/@leaks/one/run", json=run).raise_for_status().json()["task_id"]
    schedule = admin.post("/api/v1/schedules", json={"agent": "@leaks/one", "schedule": 3600, "run": run})
    at = f"/api/v1/schedules/{schedule.raise_for_status().json()['id']}"
    delivery = admin.get("/api/v1/deliveries").json()["data"][0]["id"]
    return [
        "/api/v1/webhooks", f"/api/v1/webhooks/{made['id']}", f"/api/webhooks/{theirs['id']}", "/api/webhooks",
        "/api/v1/deliveries", f"/api/v1/deliveries/{delivery}", f"/api/v1/webhooks/{made['id']}/deliveries",
        f"/tasks/{task}", f"/tasks/{task}/result", f"/tasks/{task}/deliveries", f"/tasks/{task}/summary",
        f"/tasks/{task}/messages", "/api/v1/tasks", f"/api/runs/{task}",
        f"/tasks/{task}/events",
        f"/api/runs/{task}/logs", "/api/v1/agents/@leaks/one", "/api/v1/agents", "/api/v1/agents/@leaks/one/versions",
        "/api/v3/agents", "/api/packages/agents/@leaks/one", "/api/packages/agents/@leaks/one/versions/1.0.0",
        "/api/v1/schedules", at, "/api/schedules", "/api/v1/sessions",
    ]  # fmt: skip


class TestMetrics:
    def test_they_ask_for_their_token_where_one_is_set(self, api: Api) -> None:
        with api.client("") as guest:
            assert guest.get("/metrics").status_code == 401
        with api.client("let me count") as collector:
            assert collector.get("/metrics").status_code == 200
        with api.client() as operator:
            assert operator.get("/metrics").status_code == 401


class TestDatastores:
    @pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
    def test_a_port_that_is_closed_silent_or_of_another_service_and_no_host_sound_the_same(
        self, tmp_path: Path, scheme: str
    ) -> None:
        closed = socket.socket()
        closed.bind(("127.0.0.1", 0))
        found = {
            name: _ask(f"{scheme}://u:p@{host}:{port}/d", tmp_path)
            for name, host, port in (
                ("closed", "127.0.0.1", closed.getsockname()[1]),
                ("unknown", "nowhere.example", 5432),
            )
        }
        closed.close()
        for name, banner in (("ssh", b"SSH-2.0-x\r\n"), ("http", b"HTTP/1.1 400 Bad\r\n\r\n"), ("gone", b"")):
            found[name] = _behind(banner, scheme, tmp_path)
        assert set(found.values()) == {UNREACHABLE}, found


def _ask(connection: str, folder: Path) -> str:
    source = open_source(connection, OutboundPolicy(allow_private=True), folder, resolver=Names())

    async def query() -> str:
        try:
            await source.query("SELECT 1", [], Caps(seconds=2), asyncio.to_thread)
        except QueryFailed as failure:
            return str(failure)
        return "answered"

    return asyncio.run(query())


def _behind(banner: bytes, scheme: str, folder: Path) -> str:
    """The failure for a server that sends this and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        async def serve() -> str:
            async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(banner)
                await writer.drain()
                writer.close()

            async with await asyncio.start_server(greet, sock=server):
                return await asyncio.to_thread(_ask, f"{scheme}://u:p@127.0.0.1:{port}/d", folder)

        return asyncio.run(serve())
