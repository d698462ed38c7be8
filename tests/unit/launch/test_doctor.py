"""What `runyard doctor` says of an installation's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.settings import Settings
from launch.doctor import Verdict, _datastores, _exposure, _home


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


def test_a_home_that_others_can_read_is_bad_and_the_cure_is_told(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("host", "0.0.0.0", "listens on 0.0.0.0 without TLS"),
        ("host", "::", "listens on :: without TLS"),
        ("broker_url", "redis://valkey:6379/1", "RUNYARD_BROKER_URL has no password"),
        ("redis_url", "redis://10.0.0.5", "RUNYARD_REDIS_URL has no password"),
        ("remote_control", True, "RUNYARD_REMOTE_CONTROL lets"),
        ("allow_private_urls", True, "RUNYARD_ALLOW_PRIVATE_URLS lets"),
        ("public_tools", "add, *", "RUNYARD_PUBLIC_TOOLS=* lets"),
    ],
)
def test_what_a_setting_opens_is_named(setting: str, value: object, named: str) -> None:
    closed = Settings(host="127.0.0.1", broker_url="redis://:secret@valkey:6379/1")
    assert _exposure(closed) == (Verdict.GOOD, "nothing is opened beyond the defaults")
    verdict, text = _exposure(closed.model_copy(update={setting: value}))
    assert verdict is Verdict.ODD
    assert named in text


def test_tls_in_front_is_enough_for_an_api_that_others_reach() -> None:
    settings = Settings(host="0.0.0.0", public_url="https://runs.example.com")
    assert _exposure(settings)[0] is Verdict.GOOD
