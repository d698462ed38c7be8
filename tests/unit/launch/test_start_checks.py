"""What a process refuses at its start, `runyard doctor` calls failed; what doctor calls good, processes take."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest

import runyard_api.__main__ as api
import runyard_scheduler.__main__ as scheduler
from runyard_common import start_checks
from runyard_common.database import migrate
from runyard_common.database.start_checks import Process
from runyard_common.settings import PREFIX, Settings
from runyard_common.values.errors import ConfigurationError
from runyard_launch.cli.doctor import Finding, Verdict, findings
from runyard_launch.problems import SettingsProblem
from runyard_launch.supervisor import preflight
from tests.launching import ROOT

pytestmark = pytest.mark.processes

API, WORKER, SCHEDULER, MIGRATE = Process.API, Process.WORKER, Process.SCHEDULER, Process.MIGRATE
EVERY = frozenset(Process)
SERVING = EVERY - {MIGRATE}

#: A wrong value, and the processes that cannot work with it.
WRONG: list[tuple[str, str, frozenset[Process]]] = [
    ("ALLOWED_ORIGINS", "null", frozenset({API})),
    ("ALLOWED_ORIGINS", "https://app.example/path", frozenset({API})),
    ("ALLOWED_ORIGINS", "https://app.example:port", frozenset({API})),
    ("ALLOWED_ORIGINS", "https://me:pw@app.example", frozenset({API})),
    ("JWT_SECRET", "short", frozenset({API, WORKER})),
    ("SECRET_KEY", ",", EVERY),
    ("SECRET_KEY", "short", EVERY),
    ("SECRET_KEY", "long enough to be one of them,short", EVERY),
    ("ALLOWED_HOSTS", "10.0.0.1/8", SERVING),
    ("ALLOWED_HOSTS", "https://hooks.corp", SERVING),
    ("FILES_URL", "ftp://somewhere/files", SERVING),
    ("FILES_URL", "s3://", SERVING),
    ("FILES_URL", "s3://bucket?endpoint=here", SERVING),
    ("FILES_URL", "s3://bucket?colour=red", SERVING),
    ("MODEL_PRICES", "a lot", frozenset({API, WORKER})),
    ("MODEL_PRICES", '{"m": {"input": 1}}', frozenset({API, WORKER})),
    ("MODEL_PRICES", '{"m": {"input": 1, "output": -1}}', frozenset({API, WORKER})),
    ("MODEL", "no-such-model", SERVING),
    ("MODEL_MAX", "unknown:model", SERVING),
    ("MODEL_FALLBACKS", "openai:gpt, unknown:model", SERVING),
    ("REDIS_URL", "redis://127.0.0.1:1?socket_timeout=soon", SERVING),
    ("REDIS_URL", "redis://127.0.0.1:1?colour=red", SERVING),
    ("REDIS_URL", "rediss://127.0.0.1:1?ssl_cert_reqs=maybe", EVERY),
    ("REDIS_URL", "rediss+sentinel://a,b/0?master_name=m&ssl_ca_certs=/nowhere/ca.pem", SERVING),
    ("REDIS_URL", "redis+sentinel://a,b/0", EVERY),
    ("BROKER_URL", "amqps://127.0.0.1:1//?ssl_ca_certs=/nowhere/ca.pem", SERVING),
    ("BROKER_QUEUE_TYPE", "mirrored", EVERY),
    ("BROKER_URL", "kafka://127.0.0.1", EVERY),
    ("BROKER_URL", "redis://127.0.0.1:1?socket_timeout=soon", SERVING),
    ("DATABASE_URL", "postgresql://127.0.0.1:1/x?colour=red", EVERY),
    ("DATABASE_URL", "mysql://127.0.0.1/x", EVERY),
    ("DATABASE_URL", "sqlite:////nowhere/at/all/runyard.db", EVERY),
    ("HOME", "/dev/null/home", EVERY),
    ("HOME", "/dev/null", EVERY),
    ("HOST", "no such host", frozenset({API})),
    ("HOST", "192.0.2.1", frozenset({API})),
    ("PORT", "99999", EVERY),
    ("PUBLIC_URL", "agents.example", EVERY),
    ("AGENTS", "/nowhere/agents", frozenset({WORKER})),
    ("AGENTS", "no_such_module", frozenset({WORKER})),
    ("AGENTS", "tests.no_such_module", frozenset({WORKER})),
    ("AGENTS", "tests/conftest.txt", frozenset({WORKER})),
    ("TRUSTED_PROXIES", "everywhere", EVERY),
    ("TRUSTED_PROXIES", "0.0.0.0/0", EVERY),
    ("OIDC_ISSUER", "http://id.example", EVERY),
    ("OIDC_ISSUER", "https://id.example", EVERY),  # without a client id
    ("LOG_LEVEL", "loud", EVERY),
    ("MODEL_BASE_URL", "here", EVERY),
    ("ANTHROPIC_BASE_URL", "here", EVERY),
    ("GOOGLE_BASE_URL", "ftp://here", EVERY),
    ("JWT_JWKS_URL", "keys.example", EVERY),
    ("DATABASE_POOLER", "session", EVERY),
    ("REMOTE_CONTROL", "perhaps", EVERY),
    ("LEASE_SECONDS", "0", EVERY),
    ("MAX_KEYS", "-1", EVERY),
    ("REQUESTS_PER_MINUTE", "many", EVERY),
    ("SURFACE_REQUESTS_PER_MINUTE", "600", EVERY),
    ("SURFACE_REQUESTS_PER_MINUTE", '{"agentbased": 600}', frozenset({API})),
    ("PROT", "8000", EVERY),
]
RIGHT = [
    ("ALLOWED_ORIGINS", "https://app.example, http://localhost:3000/"),
    ("ALLOWED_ORIGINS", "*"),
    ("JWT_SECRET", "x" * 32),
    ("SECRET_KEY", "a key of sixteen characters, and another of as many"),
    ("ALLOWED_HOSTS", "hooks.corp:8443, 10.1.0.0/16"),
    ("FILES_URL", "s3://bucket/prefix?endpoint=http://127.0.0.1:1"),
    ("MODEL_PRICES", '{"m": {"input": 1, "output": 2}}'),
    ("MODEL", "local"),
    ("MODEL", "openai:anything"),  # its key may be missing here: see the doctor's line on models
    ("AGENTS", "tests/acceptance/console_agents, tests.waiting, tests"),
    ("LOG_LEVEL", "WARNING"),
    ("SURFACE_REQUESTS_PER_MINUTE", '{"agentbase": 600}'),
    ("JWT_JWKS_URL", "https://keys.example/jwks?of=us"),
]


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNYARD_PORT", "0")


def _worker() -> None:
    """What `runyard_workers.app` reads first; imported here it would stay for all other tests."""
    try:
        start_checks.settings_for(WORKER)
    except ConfigurationError:
        sys.exit(2)


STARTS: dict[Process, Callable[[], object]] = {
    API: api.main,
    WORKER: _worker,
    SCHEDULER: scheduler.main,
    MIGRATE: lambda: sys.exit(migrate.main([])),
}


@pytest.fixture
def never_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that end where they would begin to serve; a start that came so far has accepted its settings."""

    def begin(*_: object, **__: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(api, "server_of", begin)
    monkeypatch.setattr(scheduler, "open_duties", begin)
    monkeypatch.setattr(migrate, "_dispatch", begin)
    monkeypatch.setattr("runyard_common.telemetry.configure", lambda level: None)


def _exit_code(start: Callable[[], object]) -> object:
    try:
        start()
    except SystemExit as ended:
        return ended.code
    return 0


def _verdict() -> Verdict:
    return max((finding.verdict for finding in _of_settings()), key=[Verdict.GOOD, Verdict.BAD].index)


def _of_settings() -> Iterator[Finding]:
    """The doctor's first lines; those behind them examine servers."""
    return takewhile(lambda finding: finding.part == "settings", findings())


@pytest.mark.usefixtures("never_begun")
@pytest.mark.parametrize(("name", "value", "refusing"), WRONG)
def test_a_value_that_a_process_refuses_at_its_start_is_failed_for_the_doctor_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, refusing: frozenset[Process]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(PREFIX + name, value)
    assert {process for process, start in STARTS.items() if _exit_code(start) == 2} == refusing
    (finding,) = _of_settings()
    assert finding.verdict is Verdict.BAD
    assert PREFIX + name in finding.text or name == "OIDC_ISSUER"
    with pytest.raises(SettingsProblem):  # and `runyard up` starts nothing
        preflight.check_start(preflight.read_settings())


@pytest.mark.usefixtures("never_begun")
@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_a_value_that_every_process_takes_is_good_for_the_doctor(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(PREFIX + name, value)
    assert [_exit_code(start) for start in STARTS.values()] == [0, 0, 0, 0]
    assert _verdict() is Verdict.GOOD
    preflight.check_start(preflight.read_settings())


@pytest.mark.usefixtures("never_begun")
def test_a_port_that_another_program_uses_ends_the_api_and_up_and_is_good_for_the_doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("RUNYARD_PORT", str(port))
        assert {process for process, start in STARTS.items() if _exit_code(start) == 2} == {API}
        assert f"runyard api: RUNYARD_PORT: {port} on 127.0.0.1 is taken." in capsys.readouterr().err
        assert _verdict() is Verdict.GOOD, "it may be this installation that listens there"
        with pytest.raises(SettingsProblem):
            preflight.with_port(preflight.read_settings())


@pytest.mark.usefixtures("never_begun")
@pytest.mark.parametrize(
    ("file", "content", "refusing"),
    [
        ("secret.key", b"", EVERY),
        ("secret.key", b"short", EVERY),
        ("secret.key", b"\xff\xfe" * 20, EVERY),
        ("jwt.secret", b"\n", frozenset({API, WORKER})),
        ("jwt.secret", b"short", frozenset({API, WORKER})),
    ],
)
def test_a_secret_in_the_home_that_cannot_be_used_is_failed_too(
    home: Path, file: str, content: bytes, refusing: frozenset[Process]
) -> None:
    (home / file).write_bytes(content)
    assert {process for process, start in STARTS.items() if _exit_code(start) == 2} == refusing
    assert _verdict() is Verdict.BAD


def test_the_checks_make_nothing(home: Path) -> None:
    settings = Settings(home=home)
    assert list(start_checks.problems(settings)) == []
    assert list(home.iterdir()) == []


def test_every_wrong_value_is_reported_not_only_the_first(tmp_path: Path) -> None:
    wrong = Settings(home=tmp_path, allowed_origins="null", jwt_secret="short", secret_key=",")
    assert [problem.field for problem in start_checks.problems(wrong)] == [
        "RUNYARD_SECRET_KEY", "RUNYARD_JWT_SECRET", "RUNYARD_ALLOWED_ORIGINS",
    ]  # fmt: skip


@pytest.mark.parametrize("setting", ["RUNYARD_BIND", "RUNYARD_MEMORY"])
def test_a_former_name_of_compose_is_refused_with_its_present_one(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv(setting, "1")
    with pytest.raises(SettingsProblem, match=f"{setting} is (PUBLISH_ADDRESS|CONTAINER_MEMORY) now"):
        preflight.read_settings()


def test_an_env_file_that_is_no_text_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"RUNYARD_MODEL=\xff\xfe\n")
    with pytest.raises(SettingsProblem, match=r"\.env, line 1: RUNYARD_MODEL"):
        preflight.read_settings()


def _run(module: str, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], env=os.environ | given, cwd=ROOT,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        (
            "SECRET_KEY",
            ["runyard_api", "runyard_workers", "runyard_scheduler", "runyard_common.database.migrate"],
        ),
        ("ALLOWED_ORIGINS", ["runyard_api"]),
        ("AGENTS", ["runyard_workers"]),
    ],
)
def test_the_processes_themselves_end_with_2_and_one_sentence_and_the_doctor_with_1(
    name: str, modules: list[str]
) -> None:
    wrong = {PREFIX + name: {"AGENTS": "/nowhere"}.get(name, ","[: name == "SECRET_KEY"] or "null")}
    for module in modules:
        ended = _run(module, RUNYARD_BROKER_URL="memory://", **wrong)
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.startswith("runyard ")
        assert PREFIX + name in ended.stderr
        assert ended.stderr.count("\n") == 1
    if modules == ["runyard_workers"]:
        celery = _run(
            "celery", "-A", "runyard_workers.app", "worker", RUNYARD_BROKER_URL="memory://", **wrong
        )
        assert celery.returncode == 2, celery.stderr
        assert PREFIX + name in celery.stderr.splitlines()[-1]
    examined = _run("runyard_launch.cli", "doctor", **wrong)
    assert examined.returncode == 1
    assert "Traceback" not in examined.stderr
    assert PREFIX + name in examined.stdout
