"""The findings of `runyard doctor` on an installation's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard_common.settings import Settings
from runyard_launch.cli.doctor import Verdict, _datastores, _exposures, _home, _model
from runyard_launch.supervisor import exposure


def test_sqlite_files_that_belong_to_no_organisation_are_named(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert _datastores(settings)[0] is Verdict.GOOD
    file = tmp_path / "datastores" / "org-a" / "shop.db"
    file.parent.mkdir(parents=True)
    file.touch()
    assert _datastores(settings)[0] is Verdict.GOOD
    (tmp_path / "datastores" / "old.db").touch()
    verdict, text = _datastores(settings)
    assert verdict is Verdict.ODD
    assert text.startswith("old.db in datastores/ itself")


def test_a_home_that_others_can_read_is_bad_and_the_cure_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    assert _home(Settings(home=home)) == (
        Verdict.BAD, f"{home} is open to other users of this machine: chmod 700 {home}",
    )  # fmt: skip
    home.chmod(0o710)
    assert _home(Settings(home=home))[0] is Verdict.BAD
    home.chmod(0o700)
    assert _home(Settings(home=home))[0] is Verdict.GOOD
    (home / "admin.key").touch()
    (home / "admin.key").chmod(0o644)
    assert "admin.key can be read by others" in _home(Settings(home=home))[1]


ON_LOOPBACK = {"host": "127.0.0.1", "public_url": ""}
CLOSED = Settings(
    host="0.0.0.0", public_url="https://runs.example.com", metrics_token="let me count", model="openai:some",
    broker_url="redis://:secret@valkey:6379/1",
)  # fmt: skip


def _opened(settings: Settings) -> list[str]:
    """What the doctor warns of; each is a line of its own."""
    return [one.text for one in exposure.of_settings(settings, {}) if not one.intended]


@pytest.mark.parametrize(
    ("given", "named", "cure"),
    [
        ({"public_url": ""}, "listens on 0.0.0.0 without TLS", "RUNYARD_PUBLIC_URL=https://"),
        ({"host": "::", "public_url": "http://runs.example.com"}, "listens on :: without TLS", "proxy with TLS"),
        ({"host": "127.0.0.1", "public_url": "http://runs.example.com"}, "leads to the api without TLS", "https"),
        ({"metrics_token": ""}, "/metrics answers without a token", "set RUNYARD_METRICS_TOKEN"),
        (
            {"metrics_port": "9464", "metrics_host": "0.0.0.0", "metrics_token": ""} | ON_LOOPBACK,
            "RUNYARD_METRICS_PORT is open on 0.0.0.0 without a token",
            "set RUNYARD_METRICS_TOKEN",
        ),
        ({"broker_url": "redis://valkey:6379/1"}, "RUNYARD_BROKER_URL has no password", "set one"),
        ({"broker_url": "amqp://me@rabbit:5672//"}, "RUNYARD_BROKER_URL has no password", "set one"),
        ({"redis_url": "redis://10.0.0.5"}, "RUNYARD_REDIS_URL has no password", "set one"),
        ({"remote_control": True}, "RUNYARD_REMOTE_CONTROL lets", "leave it off"),
        ({"allow_private_urls": True}, "RUNYARD_ALLOW_PRIVATE_URLS lets", "turn it off"),
        ({"allowed_hosts": "10.1.0.0/16, couch.corp"}, "reach 10.1.0.0/16, couch.corp", "with their port"),
        ({"public_tools": "add, *"}, "RUNYARD_PUBLIC_TOOLS=* lets", "name the tools"),
        ({"public_tools": "add"}, "RUNYARD_PUBLIC_TOOLS opens add", "name@organisation-id"),
        ({"allowed_origins": "https://a.example, *"}, "RUNYARD_ALLOWED_ORIGINS=* lets", "name the origins"),
        ({"jwt_jwks_url": "https://keys.example"}, "lets every token", "RUNYARD_JWT_ISSUER and RUNYARD_JWT_AUDIENCE"),
        ({"jwt_jwks_url": "https://keys.example", "jwt_issuer": "i"}, "lets every token", "set RUNYARD_JWT_AUDIENCE"),
        ({"jwt_secret": "x" * 32}, "lets every token signed with it in", "set RUNYARD_JWT_AUDIENCE"),
        ({"oidc_issuer": "https://id.example", "oidc_client_id": "c"}, "lets everyone", "OIDC_ALLOWED_DOMAINS"),
        ({"model": "local"}, "small one for development", "set RUNYARD_MODEL"),
    ],
)  # fmt: skip
def test_what_a_setting_opens_is_named(given: dict[str, object], named: str, cure: str) -> None:
    assert _opened(CLOSED) == []
    (text,) = _opened(CLOSED.model_copy(update=given))
    assert named in text
    assert cure in text


@pytest.mark.parametrize(
    "given",
    [
        {"jwt_jwks_url": "https://keys.example", "jwt_issuer": "i", "jwt_audience": "a"},
        {"jwt_secret": "x" * 32, "jwt_audience": "a"},
        {"oidc_issuer": "https://id.example", "oidc_client_id": "c", "oidc_allowed_domains": "example.com"},
        {"allowed_origins": "https://app.example"},
        {"broker_url": "redis://127.0.0.1:6379/1", "redis_url": "unix:///run/valkey.sock"},
        {"model": "", "model_base_url": "https://models.example/v1"},
    ],
)
def test_what_is_closed_enough_is_not_warned_of(given: dict[str, object]) -> None:
    assert _opened(CLOSED.model_copy(update=given)) == []


def test_each_thing_that_is_open_is_a_line_of_its_own() -> None:
    several = CLOSED.model_copy(update={"metrics_token": "", "remote_control": True, "public_tools": "*"})
    lines = [finding for finding in _exposures(several) if finding.verdict is Verdict.ODD]
    assert [finding.part for finding in lines] == ["open"] * 3
    assert not any("; /metrics" in finding.text for finding in lines)


def test_what_is_open_by_design_is_known_and_no_warning() -> None:
    known = [finding for finding in _exposures(CLOSED) if finding.verdict is Verdict.GOOD]
    assert any("/docs and /openapi.json answer without a key" in finding.text for finding in known)
    assert all(finding.verdict is Verdict.GOOD for finding in _exposures(CLOSED))


def test_an_api_that_this_machine_alone_reaches_opens_nothing() -> None:
    (line,) = _exposures(Settings(host="127.0.0.1"))
    assert (line.verdict, line.text) == (Verdict.GOOD, "nothing is opened beyond the defaults")


def test_tls_in_front_is_enough_for_an_api_that_others_reach() -> None:
    assert _opened(CLOSED) == []


def test_a_model_whose_key_is_missing_is_a_warning_because_processes_start_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    verdict, text = _model(Settings(model="openai:some"))
    assert verdict is Verdict.ODD
    assert "OPENAI_API_KEY" in text
