"""Settings: read from the environment, unknown names refused, documented completely."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.domain.errors import ConfigurationError
from common.settings import PREFIX, Settings, load

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_PORT", "8123")
    assert load().port == 8123


def test_an_unknown_setting_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_PROT", "8123")
    with pytest.raises(ConfigurationError, match="RUNYARD_PROT"):
        load()


def test_an_unknown_setting_in_the_env_file_is_an_error_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("RUNYARD_PORT=8200\nOTHER=1\nRUNYARD_PROT=1\n")
    with pytest.raises(ConfigurationError, match="RUNYARD_PROT"):
        load()


def test_an_impossible_value_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_WORKER_CONCURRENCY", "0")
    with pytest.raises(ConfigurationError, match="RUNYARD_WORKER_CONCURRENCY"):
        load()


def test_a_plain_postgres_url_gets_its_driver() -> None:
    url = Settings(database_url="postgresql://u@h/d").database
    assert url == "postgresql+psycopg://u@h/d"


def test_without_urls_everything_lives_in_the_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.database == f"sqlite:///{tmp_path / 'runyard.db'}"
    assert settings.files == str(tmp_path / "files")


def test_without_a_broker_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="runyard up"):
        _ = Settings(home=tmp_path).broker


@pytest.mark.documents
def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(RUNYARD_\w+)` \| ([^|]*) \|", DOCUMENT.read_text(), re.MULTILINE))
    wanted = {PREFIX + name.upper(): _default(field.default) for name, field in Settings.model_fields.items()}
    assert rows == wanted, "\n".join(
        f"| `{PREFIX + name.upper()}` | {_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    )


def _default(value: object) -> str:
    return "" if value == "" else f"`{str(value).lower() if isinstance(value, bool) else value}`"
