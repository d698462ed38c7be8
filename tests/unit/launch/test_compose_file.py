"""What compose.yaml gives its containers: each setting, no password that is another's, and no right too many."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from runyard_common.agents.service.model_choice import KEYS
from runyard_common.settings import PREFIX, Settings
from runyard_launch.supervisor.models import BY_KEY
from tests.compose_file import PASSWORDS, ROOT, environment, filled, own_services, services

GIVEN = {name: f"the {name} of the servers" for name in PASSWORDS}
#: What the layout of the containers fixes against any `.env`.
FIXED = {
    "RUNYARD_HOME": "/var/lib/runyard", "RUNYARD_HOST": "0.0.0.0", "RUNYARD_PORT": "8000",
    "RUNYARD_ALIVE_FILE": "/tmp/alive",
}  # fmt: skip
SETTINGS = sorted(PREFIX + name.upper() for name in Settings.model_fields)
PROVIDER_KEYS = sorted({*BY_KEY, *(key for keys in KEYS.values() for key in keys)})
SERVERS = ("postgres", "valkey", "rabbitmq")


def test_the_file_starts_an_api_a_worker_and_a_scheduler_behind_the_migration() -> None:
    own = own_services()
    assert list(own) == ["migrate", "api", "worker", "scheduler"]
    assert [s["command"] for s in own.values()] == [["migrate"], ["api"], ["worker"], ["scheduler"]]
    for name in ("api", "worker", "scheduler"):
        assert own[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
        assert own[name]["volumes"] == own["migrate"]["volumes"]  # one home: one key, the same secrets


@pytest.mark.parametrize("service", ["migrate", "api", "worker", "scheduler"])
@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in FIXED])
def test_each_setting_in_the_env_file_reaches_each_container(service: str, name: str) -> None:
    assert environment(own_services()[service], GIVEN | {name: "as given"})[name] == "as given"


@pytest.mark.parametrize("service", ["migrate", "api", "worker", "scheduler"])
def test_so_does_each_key_of_a_provider_and_what_an_object_store_needs(service: str) -> None:
    given = dict.fromkeys([*PROVIDER_KEYS, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "as given")
    assert given.items() <= environment(own_services()[service], GIVEN | given).items()
    from_the_shell = environment(own_services()[service], GIVEN, dict.fromkeys(PROVIDER_KEYS, "of the shell"))
    assert {from_the_shell[name] for name in PROVIDER_KEYS} == {"of the shell"}


@pytest.mark.parametrize("service", ["migrate", "api", "worker", "scheduler"])
def test_what_the_layout_of_the_containers_fixes_wins(service: str) -> None:
    found = environment(own_services()[service], GIVEN | dict.fromkeys(FIXED, "elsewhere"))
    assert FIXED.items() <= found.items()


def test_without_an_env_file_of_settings_the_processes_find_the_servers_of_the_file() -> None:
    for service in own_services().values():
        found = environment(service, GIVEN)
        settings = {n: v for n, v in found.items() if n.startswith(PREFIX)}
        assert settings.keys() <= set(SETTINGS), "a name that is no setting would end every process"
        assert urlsplit(found["RUNYARD_DATABASE_URL"]).hostname == "postgres"
        assert urlsplit(found["RUNYARD_BROKER_URL"]).hostname == "valkey"
        assert found["RUNYARD_PUBLIC_URL"] == "http://localhost:8000"
    moved = environment(own_services()["worker"], GIVEN | {"PUBLISH_PORT": "9000"})
    assert moved["RUNYARD_PUBLIC_URL"] == "http://localhost:9000"


def test_names_of_compose_alone_do_not_look_like_settings() -> None:
    names = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    assert {name for name in names if name.startswith(PREFIX)} <= set(SETTINGS)
    assert {"PUBLISH_ADDRESS", "PUBLISH_PORT", "CONTAINER_MEMORY"} <= names
    ports = own_services()["api"]["ports"]
    assert [filled(port, {}) for port in ports] == ["127.0.0.1:8000:8000"]
    given = {"PUBLISH_ADDRESS": "0.0.0.0", "PUBLISH_PORT": "80", "RUNYARD_PORT": "9000"}
    assert [filled(port, given) for port in ports] == ["0.0.0.0:80:8000"]


@pytest.mark.parametrize("service", ["migrate", "api", "worker", "scheduler"])
def test_no_password_of_a_server_reaches_a_container_that_does_not_log_in_with_it(service: str) -> None:
    found = environment(own_services()[service], GIVEN)
    assert {name: found[name] for name in PASSWORDS} == dict.fromkeys(PASSWORDS, "")
    text = str(found)
    assert GIVEN["POSTGRES_PASSWORD"] not in text, "the superuser's is for the server only"
    assert GIVEN["RABBITMQ_PASSWORD"] not in text
    assert found["PGPASSWORD"] == GIVEN["DATABASE_PASSWORD"]


@pytest.mark.parametrize(
    ("server", "known"),
    [
        ("postgres", {"POSTGRES_PASSWORD", "DATABASE_PASSWORD"}),
        ("valkey", {"VALKEY_PASSWORD"}),
        ("rabbitmq", {"RABBITMQ_PASSWORD"}),
    ],
)
def test_a_server_knows_its_own_passwords_alone_and_will_not_start_without(
    server: str, known: set[str]
) -> None:
    service = services()[server]
    assert "env_file" not in service
    found = environment(service, GIVEN | {"OPENAI_API_KEY": "a key", "RUNYARD_SECRET_KEY": "a secret"})
    assert {name for name, value in GIVEN.items() if value in found.values()} == known
    assert "a key" not in found.values()
    assert "a secret" not in found.values()
    for name in known:
        with pytest.raises(KeyError, match=name):
            environment(service, {**GIVEN, name: ""})


def test_the_file_has_no_password_and_opens_nothing_to_other_machines() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert [name for name, service in services().items() if "ports" in service] == ["api"]
    for name in SERVERS:
        assert services()[name]["networks"] == ["servers"], "only the processes reach it"
    assert not re.search(r"://\w+:(?!\$)[^/@<\s]+@", text), "a password is in an address"


def test_no_container_has_a_capability_more_memory_or_more_processes_than_it_needs() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert re.fullmatch(r"\d+[mg]", filled(service["mem_limit"], {})), name
        assert service["pids_limit"] > 0
        assert service.get("read_only", False) == (name != "rabbitmq"), name
    for name in SERVERS:  # their images begin as root otherwise; Runyard's own names its account
        assert services()[name]["user"] == name
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert "\nUSER runyard\n" in dockerfile


def test_a_mark_in_the_file_that_compose_does_not_know_fails_this_reading() -> None:
    assert filled("${A:-x${B:-y}}z $${C}", {}) == "xyz ${C}"
    assert filled("${A:-x${B:-y}}", {"B": "b"}) == "xb"
    with pytest.raises(KeyError, match="D"):
        filled("${A:-${D:?give it}}", {})


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A folder with the scripts of `deploy/`, as a user has it."""
    (tmp_path / "deploy").mkdir()
    for name in ("secrets.sh", "postgres-role.sh"):
        (tmp_path / "deploy" / name).write_text((ROOT / "deploy" / name).read_text())
    return tmp_path


@pytest.mark.processes
def test_its_passwords_are_made_once_and_are_the_users_alone(deployment: Path) -> None:
    env = deployment / ".env"
    env.write_text("RUNYARD_MODEL=local\n")
    env.chmod(0o644)
    (deployment / "deploy" / "postgres-role.sh").chmod(0o600)
    made: list[set[str]] = []
    for _ in range(2):
        subprocess.run(["sh", deployment / "deploy" / "secrets.sh"], check=True)
        lines = dict(line.split("=") for line in env.read_text().splitlines())
        made.append({lines[name] for name in PASSWORDS})
    assert made[0] == made[1]
    assert len(made[0]) == len(PASSWORDS)
    assert {len(password) for password in made[0]} == {48}
    assert len(lines) == 1 + len(PASSWORDS), "what is there stays, and is not written twice"
    assert env.stat().st_mode & 0o777 == 0o600
    assert (deployment / "deploy" / "postgres-role.sh").stat().st_mode & 0o055 == 0o055


@pytest.mark.processes
def test_an_env_file_without_an_end_of_line_keeps_its_last_value_and_an_empty_password_is_made(
    deployment: Path,
) -> None:
    env = deployment / ".env"
    env.write_text("POSTGRES_PASSWORD=\nOPENAI_API_KEY=1")
    subprocess.run(["sh", deployment / "deploy" / "secrets.sh"], check=True)
    lines = dict(line.split("=") for line in env.read_text().splitlines())
    assert lines["OPENAI_API_KEY"] == "1"
    assert len(lines["POSTGRES_PASSWORD"]) == 48
    assert len(env.read_text().splitlines()) == 1 + len(PASSWORDS)


def test_what_is_secret_does_not_reach_an_image() -> None:
    assert {".env", ".env.*", "**/*.pem", "**/*.key"} <= set((ROOT / ".dockerignore").read_text().split())


@pytest.mark.processes
@pytest.mark.postgres
def test_the_role_of_the_processes_owns_its_database_and_is_no_superuser(
    fresh_database: Callable[[], str],
) -> None:
    admin = fresh_database()
    parts = urlsplit(admin)
    script = (ROOT / "deploy" / "postgres-role.sh").read_text()
    name = f"role_{parts.path.strip('/')}"
    script = re.sub(r"\b(ROLE|DATABASE|OWNER) runyard\b", rf"\1 {name}", script)  # the server is shared
    env = {
        "PATH": "/usr/bin:/bin", "PGHOST": str(parts.hostname), "PGPORT": str(parts.port),
        "POSTGRES_USER": str(parts.username), "DATABASE_PASSWORD": "it's \"quoted\" $1",
    }  # fmt: skip
    if parts.password:
        env["PGPASSWORD"] = parts.password
    try:
        subprocess.run(["sh", "-c", script], env=env, check=True, capture_output=True)
        with psycopg.connect(admin, dbname=name, user=name, password=env["DATABASE_PASSWORD"]) as conn:
            rights: Any = conn.execute(
                "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = %s",
                [name],
            ).fetchone()
            assert rights == (False, False, False, False)
            conn.execute("CREATE TABLE its_own (id int)")
    finally:
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {name}")
            conn.execute(f"DROP ROLE IF EXISTS {name}")
