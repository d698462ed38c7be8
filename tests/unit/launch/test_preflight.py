"""What cannot work is reported in one sentence, before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from runyard_common.settings import Settings
from runyard_launch.problems import SettingsProblem, StartFailed, StartProblem
from runyard_launch.supervisor import home as homes
from runyard_launch.supervisor import preflight


def test_a_taken_port_names_the_setting_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = Settings(port=port)
        with pytest.raises(SettingsProblem, match=f"RUNYARD_PORT: {port} on 127.0.0.1 is taken") as caught:
            preflight.with_port(settings)
        assert caught.value.exit_code == 2
        preflight.check_start(settings)  # doctor, beside an installation that serves


def test_an_address_of_another_machine_names_the_setting_to_change() -> None:
    with pytest.raises(SettingsProblem, match="RUNYARD_HOST"):
        preflight.with_port(Settings(host="192.0.2.1", port=0))


def test_port_0_becomes_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_PORT", "0")
    assert preflight.with_port(preflight.read_settings()).port > 0


def test_a_bad_setting_is_named_and_exits_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_PROT", "8001")
    with pytest.raises(SettingsProblem, match="RUNYARD_PROT") as caught:
        preflight.read_settings()
    assert caught.value.exit_code == 2


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartProblem, match=r"file/home cannot be written .*RUNYARD_HOME"):
        homes.open_home(tmp_path / "file" / "home")


def test_one_launcher_uses_a_home(home: Path) -> None:
    opened = homes.open_home(home)
    another = pytest.raises(StartProblem, match=r"Another `runyard up` \(process \d+\)")
    with homes.locked(opened), another, homes.locked(opened):
        pass
    with homes.locked(opened):
        pass


def test_a_sqlite_database_in_a_missing_folder_is_named(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/none/r.db")
    with pytest.raises(SettingsProblem, match=r"none/r\.db does not exist"):
        preflight.check_database(settings)


@pytest.mark.parametrize("scheme", ["mysql", "postgresql+asyncpg"])
def test_another_kind_of_database_or_driver_is_refused_without_the_password(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("RUNYARD_DATABASE_URL", f"{scheme}://user:hunter2@somewhere/db")
    with pytest.raises(SettingsProblem, match="postgresql:// or sqlite:///") as caught:
        preflight.read_settings()
    assert "hunter2" not in str(caught.value)


def test_an_unreachable_postgresql_is_one_sentence() -> None:
    settings = Settings(database_url="postgresql://unknown@127.0.0.1:1/none")
    with pytest.raises(StartFailed, match=r"does not answer .*RUNYARD_DATABASE_URL") as caught:
        preflight.check_database(settings)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
