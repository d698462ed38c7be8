"""Commands for a server by URL, key and profile; and a home's admin key, which goes to that home's server alone."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner, Result

from runyard import AsyncClient, Client
from runyard_common.identity.rules import server_proof
from runyard_common.identity.service import sign_in_links
from runyard_launch.cli import profiles
from runyard_launch.cli.main import app
from runyard_launch.supervisor import home_server
from tests.contract.live import Live

Command = Callable[..., Result]


class Listener:
    """A program at a port that notes what it is sent. `relay`: it passes questions on to that server."""

    def __init__(self, relay: str = "") -> None:
        self.seen: list[dict[str, str]] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.seen.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(200)
                if relay:
                    asked = {server_proof.CHALLENGE: self.headers.get(server_proof.CHALLENGE, "")}
                    answer = httpx2.get(f"{relay}/healthz", headers=asked)
                    self.send_header(server_proof.PROOF, answer.headers[server_proof.PROOF])
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET  # noqa: N815 - the name that http.server calls

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def runyard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command on a machine without an installation."""
    monkeypatch.setenv("RUNYARD_HOME", str(tmp_path / "no-home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return lambda *words, **more: CliRunner().invoke(app, list(words), **more)


@pytest.fixture
def at_home(live: Live, runyard: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command on the machine of the installation."""
    monkeypatch.setenv("RUNYARD_HOME", str(live.home))
    monkeypatch.setenv("RUNYARD_PORT", str(live.ports["api-1"]))
    return runyard


def host(live: Live) -> str:
    return f"127.0.0.1:{live.ports['api-1']}"


def failure(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stderr.splitlines()[-1])["error"])


def test_url_and_key_come_from_variables_for_commands_and_clients(
    live: Live, runyard: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_URL", host(live))  # no scheme: http
    monkeypatch.setenv("RUNYARD_API_KEY", live.key_of("member"))
    submitted = runyard("run", "echo", "hello")
    assert submitted.exit_code == 0, submitted.stderr
    assert runyard("tasks", "show", submitted.stdout.strip(), "--json").exit_code == 0
    monkeypatch.setenv("RUNYARD_URL", f"http://{host(live)}/")
    with Client() as client:
        assert client.run("echo", {"n": 1}).output["args"] == {"n": 1}
    AsyncClient()
    with pytest.raises(ValueError, match="RUNYARD_API_KEY"):
        Client("http://127.0.0.1:1")  # the key is that of RUNYARD_URL


def test_the_key_of_one_server_is_not_sent_to_another(
    live: Live, runyard: Command, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_URL", host(live))
    monkeypatch.setenv("RUNYARD_API_KEY", live.key_of("member"))
    refused = runyard("tasks", "list", "--url", f"127.0.0.1:{listener.port}", "--json")
    assert (refused.exit_code, failure(refused)["code"]) == (2, "no_api_key")
    assert not [seen for seen in listener.seen if "authorization" in seen]


def test_an_agent_is_named_in_every_way_that_it_has(live: Live, at_home: Command) -> None:
    task = at_home("run", "echo", "hello").stdout.strip()
    with live.client() as client:
        agent_id = client.get(f"/api/v1/tasks/{task}").json()["agent_id"]
    for named in ("@demo/echo", "echo", agent_id):
        listed = at_home("tasks", "list", "--agent", named, "--limit", "100", "--json")
        assert listed.exit_code == 0, listed.stderr
        assert {row["agent"] for row in json.loads(listed.stdout)} == {"@demo/echo"}
        assert task in {row["task_id"] for row in json.loads(listed.stdout)}
    refused = at_home("tasks", "list", "--agent", "@demo/no_such", "--json")
    assert (refused.exit_code, failure(refused)["code"]) == (2, "agent_not_found")


def test_the_server_of_a_home_proves_itself_by_any_name(live: Live, at_home: Command) -> None:
    for url in ("", f"http://{host(live)}", host(live), f"localhost:{live.ports['api-1']}/"):
        assert at_home("tasks", "list", *(["--url", url] if url else [])).exit_code == 0
    for key in (live.home / server_proof.KEY_FILE, live.home / "admin.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_the_admin_key_is_not_sent_to_another_program_on_the_port(
    at_home: Command, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_PORT", str(listener.port))
    for words in (
        ["tasks", "list"],
        ["run", "echo"],
        ["tasks", "list", "--url", f"127.0.0.1:{listener.port}"],
    ):
        refused = at_home(*words, "--json")
        assert (refused.exit_code, failure(refused)["code"]) == (2, "not_this_home")
    assert listener.seen
    assert not [seen for seen in listener.seen if "authorization" in seen]


def test_a_program_that_asks_the_true_server_proves_nothing(
    live: Live, at_home: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Listener(relay=f"http://{host(live)}")
    try:
        monkeypatch.setenv("RUNYARD_PORT", str(relay.port))
        refused = at_home("tasks", "list", "--json")
        assert failure(refused)["code"] == "not_this_home"
        assert len(relay.seen) == 1
        assert "authorization" not in relay.seen[0]
    finally:
        relay.server.shutdown()
        relay.server.server_close()


def test_the_port_that_up_has_chosen_is_found_in_the_home(
    live: Live, at_home: Command, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_PORT", str(listener.port))  # where someone else listens
    home_server.write_address(live.home, f"http://{host(live)}")
    file = live.home / home_server.ADDRESS_FILE
    try:
        assert at_home("tasks", "list").exit_code == 0
        assert not listener.seen
        gone = json.loads(file.read_text()) | {
            "pid": 2**22 + 1
        }  # its process has ended: above the most there are
        file.write_text(json.dumps(gone))
        assert at_home("tasks", "list").exit_code == 2
    finally:
        file.unlink()


def test_a_server_is_kept_as_a_profile_once_its_key_has_worked(
    live: Live, runyard: Command, tmp_path: Path
) -> None:
    refused = runyard("login", host(live), input="no-such-key\n")
    assert refused.exit_code == 2
    assert not profiles.file().exists()
    made = runyard("login", host(live), "--name", "prod", "--json", input=live.key_of("admin") + "\n")
    assert made.exit_code == 0, made.stderr
    shown = json.loads(made.stdout)
    assert shown == {"profile": "prod", "url": f"http://{host(live)}", "role": "admin", "current": True}
    assert stat.S_IMODE(profiles.file().stat().st_mode) == 0o600
    assert profiles.file().is_relative_to(tmp_path)
    assert runyard("tasks", "list").exit_code == 0
    assert runyard("profiles", "use", "local").exit_code == 0
    assert runyard("tasks", "list").exit_code == 2
    assert runyard("--profile", "prod", "tasks", "list").exit_code == 0
    os.environ.pop("RUNYARD_PROFILE")
    listed = {one["name"]: one for one in json.loads(runyard("profiles", "list", "--json").stdout)}
    assert listed["prod"] == {"name": "prod", "url": f"http://{host(live)}", "current": False}
    assert runyard("logout", "prod").exit_code == 0
    assert json.loads(profiles.file().read_text())["profiles"] == {}


def test_arguments_that_do_not_fit_the_agents_schema_are_refused_before_a_run(
    live: Live, at_home: Command
) -> None:
    for given in ("[1]", "3", '"text"'):
        refused = at_home("run", "support_triage", "--args", given, "--json")
        error = failure(refused)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert (error["code"], error["field"], error["status"]) == ("invalid_input", "args", 400)
        assert "object" in error["message"]


def test_profiles_that_others_can_read_are_refused(live: Live, runyard: Command) -> None:
    assert runyard("login", host(live), input=live.key_of("viewer") + "\n").exit_code == 0
    profiles.file().chmod(0o644)
    refused = runyard("tasks", "list", "--json")
    assert (refused.exit_code, failure(refused)["code"]) == (2, "unsafe_profiles")


def test_keys_members_and_agents_of_a_server_are_administered_with_a_key(
    live: Live, runyard: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNYARD_URL", host(live))
    monkeypatch.setenv("RUNYARD_API_KEY", live.key_of("admin"))
    made = json.loads(runyard("keys", "create", "ci", "--role", "viewer", "--days", "1", "--json").stdout)
    listed = {row["id"]: row for row in json.loads(runyard("keys", "list", "--json").stdout)}
    assert (listed[made["id"]]["name"], listed[made["id"]]["role"]) == ("ci", "viewer")
    assert listed[made["id"]]["expires_at"]
    refused = runyard("keys", "create", "more", "--role", "owner", "--json")
    assert (refused.exit_code, failure(refused)["status"]) == (2, 403)
    assert runyard("keys", "revoke", made["id"]).exit_code == 0
    assert made["id"] not in runyard("keys", "list", "--json").stdout

    link = runyard("members", "invite", "new@example.com", "--role", "viewer").stdout
    assert "/console#/invitation/" in link
    waiting = {row["email"]: row["state"] for row in json.loads(runyard("members", "list", "--json").stdout)}
    assert waiting["new@example.com"] == "invited"

    manifest = tmp_path / "greeter.yaml"
    manifest.write_text('name: "@remote/greeter"\nversion: 1.0.0\ninstructions: Greet.\n')
    published = runyard("agents", "publish", str(manifest), "--json")
    assert published.exit_code == 0, published.stderr
    assert "@remote/greeter" in {
        row["agent"] for row in json.loads(runyard("agents", "list", "--json").stdout)
    }
    code = tmp_path / "agents.py"
    code.write_text("")
    assert failure(runyard("agents", "publish", str(code), "--json"))["code"] == "not_a_manifest"
    assert failure(runyard("keys", "list", "--org", "other", "--json"))["field"] == "org"


@pytest.mark.parametrize("named", ["by a key file", "by a URL", "by variables"])
def test_secrets_of_a_server_are_set_replaced_and_deleted_with_a_key(
    named: str,
    live: Live,
    at_home: Command,
    runyard: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "key").write_text(live.key_of("admin"))
    options = ["--json"]
    if named == "by variables":
        monkeypatch.setenv("RUNYARD_URL", host(live))
        monkeypatch.setenv("RUNYARD_API_KEY", live.key_of("admin"))
    else:
        options += ["--key-file", str(tmp_path / "key")]
        options += ["--url", host(live)] if named == "by a URL" else []

    def rows() -> dict[str, Any]:
        return {row["name"]: row for row in json.loads(runyard("secrets", "list", *options).stdout)}

    for value in ("firstSecretValue", "secondSecretValue"):
        put = runyard("secrets", "set", "REMOTE_KEY", *options, input=f"{value}\n")
        assert put.exit_code == 0, put.stderr
        assert json.loads(put.stdout)["name"] == "REMOTE_KEY"
        assert value not in put.stdout + put.stderr + json.dumps(rows())
    row = rows()["REMOTE_KEY"]
    assert row["updated_at"] > row["created_at"]
    refused = runyard("secrets", "set", "not a name", *options, input="value\n")
    assert (refused.exit_code, failure(refused)["status"]) == (2, 400)
    assert runyard("secrets", "delete", "REMOTE_KEY", *options).exit_code == 0
    assert "REMOTE_KEY" not in rows()
    gone = runyard("secrets", "delete", "REMOTE_KEY", *options)
    assert (gone.exit_code, failure(gone)["code"]) == (2, "secret_not_found")


def test_a_link_signs_in_once_on_the_servers_own_machine_and_is_audited(
    live: Live, at_home: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = json.loads(at_home("console", "--json").stdout)["url"]
    base, token = link.split("/console#/enter/")
    with httpx2.Client(base_url=base) as client:
        opened = client.post("/api/v1/login/link", json={"token": token})
        assert opened.status_code == 200
        assert opened.json()["role"] == "admin"
        bearer = {"authorization": f"Bearer {opened.json()['key']}"}
        assert client.get("/api/v1/tasks", headers=bearer).status_code == 200
        again = client.post("/api/v1/login/link", json={"token": token})
        assert (again.status_code, again.json()["code"]) == (404, "sign_in_link_not_found")
        actions = {row["action"] for row in client.get("/api/v1/audit", headers=bearer).json()["data"]}
        assert {"sign_in.link", "key.create"} <= actions
    late = sign_in_links.make(live.home, time.time() - sign_in_links.LASTS - 1)
    with httpx2.Client(base_url=base) as client:
        assert client.post("/api/v1/login/link", json={"token": late}).status_code == 404


def test_a_link_is_void_for_callers_from_elsewhere(live: Live) -> None:
    name = live.add_api(RUNYARD_TRUSTED_PROXIES="127.0.0.1")
    token = sign_in_links.make(live.home, time.time())
    with httpx2.Client(base_url=f"http://127.0.0.1:{live.ports[name]}") as client:
        far = {"x-forwarded-for": "203.0.113.9"}
        refused = client.post("/api/v1/login/link", json={"token": token}, headers=far)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_this_machine")
        assert client.post("/api/v1/login/link", json={"token": token}).status_code == 200, (
            "it was not used up"
        )
