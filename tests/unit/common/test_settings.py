"""Settings: read from the environment, unknown names refused, documented completely."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runyard_common.environment import load
from runyard_common.settings import PREFIX, Settings
from runyard_common.values.addresses import masked
from runyard_common.values.errors import ConfigurationError

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_PORT", "8123")
    assert load().port == 8123


def test_the_environment_comes_before_the_env_file_and_an_empty_variable_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("RUNYARD_PORT=8200\nRUNYARD_HOST=::1\nrunyard_max_agents=7\n")
    monkeypatch.setenv("RUNYARD_PORT", "8123")
    monkeypatch.setenv("RUNYARD_HOST", "")
    settings = load(max_keys=3)
    assert (settings.port, settings.host, settings.max_agents, settings.max_keys) == (8123, "::1", 7, 3)
    assert settings.model_fields_set == {"port", "host", "max_agents", "max_keys"}


def test_only_what_is_loaded_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_PORT", "8123")
    assert Settings().port == 8000


def test_rates_of_surfaces_are_read_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_SURFACE_REQUESTS_PER_MINUTE", '{"agentbase": 600}')
    assert load().surface_requests_per_minute == {"agentbase": 600}


@pytest.mark.parametrize("text", ["600", "agentbase=600", '{"agentbase": -1}', '["agentbase"]'])
def test_rates_of_surfaces_that_cannot_be_read_name_their_variable(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("RUNYARD_SURFACE_REQUESTS_PER_MINUTE", text)
    with pytest.raises(ConfigurationError, match="RUNYARD_SURFACE_REQUESTS_PER_MINUTE: "):
        load()


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


def test_without_a_broker_the_error_names_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="runyard up"):
        _ = Settings(home=tmp_path).broker


@pytest.mark.parametrize("text", ["~/data", "$HOME/data", "${HOME}/data"])
@pytest.mark.parametrize("name", ["RUNYARD_HOME", "RUNYARD_FILES_URL", "RUNYARD_AGENTS"])
def test_a_folder_may_begin_with_the_user_s_home_in_the_environment_and_in_the_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    field = name.removeprefix(PREFIX).lower()

    monkeypatch.setenv(name, text)
    assert str(getattr(load(), field)) == f"{tmp_path}/data"
    monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"{name}={text}\n")
    assert str(getattr(load(), field)) == f"{tmp_path}/data"


def test_a_sqlite_url_may_hold_the_user_s_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert Settings(database_url="sqlite:///~/r.db").database == "sqlite:////home/ada/r.db"
    assert Settings(database_url="sqlite:///r.db").database == "sqlite:///r.db"


def test_a_folder_that_names_an_unset_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.setenv("RUNYARD_HOME", "$NOWHERE/data")
    with pytest.raises(ConfigurationError, match=r"RUNYARD_HOME: it names the variable \$NOWHERE"):
        load()


def test_an_empty_value_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(PREFIX + name.upper(), "")
    assert load() == Settings()


@pytest.mark.parametrize(
    ("name", "url", "hint"),
    [
        ("DATABASE_URL", "postgresql+asyncpg://user:hunter2@h/d", r"postgresql\+asyncpg://.* postgresql://"),
        ("DATABASE_URL", "mysql://user:hunter2@h/d", "postgresql:// or sqlite:///"),
        ("DATABASE_URL", "postgresql://user:hun%ter2@h/d", "percent-encoded"),
        ("DATABASE_URL", "postgresql://user:hunter2/x@h:5432/d", "percent-encoded"),
        ("DATABASE_URL", "user:hunter2@h/d", "it is no URL"),
        ("BROKER_URL", "redis+sentinel://:hunter2@h:26379", "master_name"),
        ("BROKER_URL", "sqs://key:hunter2@", "amqp://"),
        ("BROKER_URL", "redis://:hunter2/x@h:6379/0", "percent-encoded"),
        ("REDIS_URL", "redis+sentinel://:hunter2@h,g/0?master_name=m&db=2", "db is no parameter"),
        ("REDIS_URL", "redis+sentinel://:hunter2@h:x,g:1/0?master_name=m", "percent-encoded"),
        ("REDIS_URL", "rediss+sentinel://:hunter2@h/0?master_name=m&ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("REDIS_URL", "amqp://user:hunter2@h", "redis://"),
        ("REDIS_URL", "h:6379", "redis://"),
        ("PUBLIC_URL", "agents.example", "http://"),
        ("PUBLIC_URL", "https://user:hunter2@h/", "nothing more"),
        ("PUBLIC_URL", "https://h/?a=hunter2", "nothing more"),
    ],
)
def test_a_url_that_cannot_work_is_refused_in_words_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, hint: str
) -> None:
    monkeypatch.setenv(PREFIX + name, url)
    with pytest.raises(ConfigurationError, match=f"{PREFIX}{name}: .*{hint}") as caught:
        load()
    assert "hunter2" not in caught.value.message


def test_what_is_printed_of_the_settings_shows_no_secret() -> None:
    secret = Settings(
        database_url="postgresql://u:hunter2@h/d",
        jwt_secret="hunter2",
        secret_key="hunter2",
        model_api_key="hunter2",
    )
    assert "hunter2" not in repr(secret)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            'missing "=" after "postgresql+x://user:p@ss:w/rd@h:5/d"',
            'missing "=" after "postgresql+x://user:***@h:5/d"',
        ),
        ("redis://:pw@h:1/0 is away", "redis://:***@h:1/0 is away"),
        (
            "redis+sentinel://:pw@a:1,b:2/0?master_name=m&sentinel_password=pw&ssl_ca_certs=/ca",
            "redis+sentinel://:***@a:1,b:2/0?master_name=m&sentinel_password=***&ssl_ca_certs=/ca",
        ),
        ("http://h:8000/a?x=b@c", "http://h:8000/a?x=b@c"),
        ("no address", "no address"),
    ],
)
def test_passwords_of_addresses_are_left_out_of_texts(given: str, shown: str) -> None:
    assert masked(given) == shown


@pytest.mark.processes
def test_the_log_leaves_passwords_of_addresses_out() -> None:
    code = (
        "import structlog; from runyard_common import telemetry; telemetry.configure(); "
        "structlog.get_logger().warning('away', error='at amqp://u:hunter2@h')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=DOCUMENT.parents[1], capture_output=True, text=True, check=True
    )
    assert "amqp://u:***@h" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("host", "base", "local"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000", "http://[::1]:8000"),
        ("[::1]", "http://[::1]:8000", "http://[::1]:8000"),
        ("0.0.0.0", "http://localhost:8000", "http://127.0.0.1:8000"),
        ("::", "http://localhost:8000", "http://[::1]:8000"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:8000", "http://[fe80::1%25eth0]:8000"),
    ],
)
def test_links_name_an_address_that_can_be_opened(host: str, base: str, local: str) -> None:
    settings = Settings(host=host)
    assert (settings.base_url, settings.local_url) == (base, local)


def test_the_public_url_may_have_a_path() -> None:
    settings = Settings(public_url="https://agents.example/runyard/", host="0.0.0.0")
    assert settings.base_url == "https://agents.example/runyard"
    assert settings.path_prefix == "/runyard"
    assert Settings().path_prefix == ""


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


def test_what_is_foreign_in_the_env_file_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b'PORT=9\n=== "\nCAF\xe9=1\nB="open\nRUNYARD_PORT=${PORT}100\n')
    assert load().port == 9100
    assert "PORT" not in os.environ
    assert capfd.readouterr().err == ""


def test_a_folder_called_env_is_no_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").mkdir()
    assert load().port == 8000


@pytest.mark.parametrize("line", [b'RUNYARD_HOST="open', b"RUNYARD_HOST=caf\xe9"])
def test_a_setting_in_the_env_file_that_cannot_be_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"OTHER=1\n" + line + b"\n")
    with pytest.raises(ConfigurationError, match=r"\.env, line 2: RUNYARD_HOST"):
        load()
