"""One rule for exit codes: the same refusal has the same code by this machine's database and by a server's API."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from runyard import authoring
from runyard_common.identity.service.identity import hash_of
from runyard_launch.cli.main import app
from tests.contract.live import Live

Command = Callable[..., Result]
NOWHERE = "01a200be-0000-7000-8000-000000000000"
MANIFEST = 'name: "@codes/greeter"\nversion: 1.0.0\ninstructions: Greet.\n'


@pytest.fixture
def locally(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command on the installation's own machine, which asks its database."""

    def call(*words: str) -> Result:
        with monkeypatch.context() as patch:
            patch.setattr(authoring, "_registry", {})  # agents that other tests have declared in this process
            patch.setenv("RUNYARD_HOME", str(live.home))
            patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
            patch.chdir(tmp_path)
            return CliRunner().invoke(app, list(words))

    return call


@pytest.fixture
def remotely(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """A command on another machine, which asks the server with a key of the highest role."""
    key = live.store_key("owner")

    def call(*words: str) -> Result:
        with monkeypatch.context() as patch:
            patch.setenv("RUNYARD_HOME", str(tmp_path / "no-home"))
            patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
            patch.setenv("RUNYARD_URL", live.url())
            patch.setenv("RUNYARD_API_KEY", key)
            patch.chdir(tmp_path)
            return CliRunner().invoke(app, list(words))

    yield call
    with live.store.begin() as tx:
        tx.conn.execute(text("DELETE FROM api_keys WHERE key_hash = :hash"), {"hash": hash_of(key)})


def error(result: Result) -> dict[str, Any]:
    """The failure as programs read it: one object, alone."""
    assert result.stdout == ""
    return dict(json.loads(result.stderr)["error"])


REFUSALS = {
    "a key that is not there": ("keys revoke nosuch", "key_not_found", None),
    "a key by an id that no key has": (f"keys revoke {NOWHERE}", "key_not_found", None),
    "a key by an id that is no word": ("keys revoke 'a/b c%2F?x#y'", "key_not_found", None),
    "a key by an empty id": ("keys revoke ''", "invalid_usage", "key_id"),
    "a secret that is not there": ("secrets delete NO_SUCH_SECRET", "secret_not_found", "name"),
    "a secret by a name that is no word": ("secrets delete 'a/b c%2F?x#y'", "secret_not_found", "name"),
    "an address longer than any": (f"members invite {'a' * 400}@example.com", "invalid_usage", "email"),
    "a scope that is none": ("keys create x --scope runs:fly", "unknown_scope", "scopes[0]"),
    "a key without a name": ("keys create ''", "invalid_usage", "name"),
    "a key with a long name": (f"keys create {'n' * 201}", "invalid_usage", "name"),
    "a key for a time that is no number": ("keys create x --days nan", "invalid_usage", "days"),
    "a key for longer than anything lasts": ("keys create x --days 1e300", "invalid_usage", "days"),
    "a role that is none": ("keys create x --role king", "invalid_usage", "role"),
    "an address that is none": ("members invite notanemail", "invalid_email", "email"),
    "an empty address": ("members invite ''", "invalid_email", "email"),
    "an invitation to a role that is none": ("members invite a@example.com --role king", "invalid_usage", "role"),
}  # fmt: skip


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_the_same_by_the_database_and_over_http(
    locally: Command, remotely: Command, refusal: str
) -> None:
    words, code, field = REFUSALS[refusal]
    failures = [error(mode(*shlex.split(words), "--json")) for mode in (locally, remotely)]
    for failure in failures:
        assert (failure["exit_code"], failure["code"], failure.get("field")) == (2, code, field)
    local, remote = ({**failure, "request_id": None} for failure in failures)
    assert local == remote
    sentences = {mode(*shlex.split(words)).stderr for mode in (locally, remotely)}
    assert len(sentences) == 1


@pytest.mark.parametrize(
    "content",
    [
        "name: nothing at all: [",
        "",
        MANIFEST + "tools: [no_such_tool_anywhere]\n",
        MANIFEST + "version: nonsense\n",
    ],
)
def test_a_manifest_is_refused_with_one_exit_code(
    locally: Command, remotely: Command, tmp_path: Path, content: str
) -> None:
    manifest = tmp_path / "agent.yaml"
    manifest.write_text(content)
    for mode in (locally, remotely):
        assert error(mode("agents", "publish", str(manifest), "--json"))["exit_code"] == 2


def test_what_is_not_there_to_publish_is_refused_with_one_exit_code(
    locally: Command, remotely: Command, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("no_such_module_anywhere", str(tmp_path / "none.yaml"), str(tmp_path / "empty")):
        for mode in (locally, remotely):
            refusal = error(mode("agents", "publish", source, "--json"))
            assert refusal["exit_code"] == 2, source
            assert source in refusal["message"], "it names the source"


def test_what_is_done_ends_with_0_in_both_ways(locally: Command, remotely: Command, tmp_path: Path) -> None:
    manifest = tmp_path / "agent.yaml"
    manifest.write_text(MANIFEST)
    for number, mode in enumerate((locally, remotely)):
        made = mode("keys", "create", "ci", "--role", "viewer", "--json")
        assert made.exit_code == 0, made.stderr
        for words in (
            ["keys", "list"],
            ["keys", "revoke", json.loads(made.stdout)["id"]],
            ["members", "list"],
            ["members", "invite", f"new{number}@example.com"],
            ["agents", "list"],
            ["secrets", "list"],
        ):
            done = mode(*words, "--json")
            assert (done.exit_code, done.stderr) == (0, ""), done.stderr
    assert remotely("agents", "publish", str(manifest), "--json").exit_code == 0


def test_a_database_that_is_away_is_a_failure_and_no_refusal(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("RUNYARD_DATABASE_URL", f"sqlite:///{tmp_path}/none/x.db")
    for words in (
        "keys list",
        "keys revoke x",
        "members list",
        "members invite a@example.com",
        "agents list",
    ):
        failure = error(CliRunner().invoke(app, [*words.split(), "--json"]))
        assert (failure["exit_code"], failure["code"], failure["status"]) == (1, "database_unavailable", 503)
