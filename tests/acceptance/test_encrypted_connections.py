"""PostgreSQL, Redis and RabbitMQ over TLS with an authority of our own: one installation on all three, and what
`runyard doctor` reports of each that is not as its URL has it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from runyard_common.broker.application import FORMAT, WAKE, QueueNames, application, consume
from runyard_common.settings import Settings
from runyard_launch.cli import doctor
from runyard_launch.cli.doctor import Verdict
from runyard_launch.supervisor import process
from tests.fakes.authority import Authority
from tests.servers import Postgres, RabbitMQ, ServerMissing
from tests.servers.rabbitmq import _PROGRAMS
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.timeout(240), pytest.mark.postgres, pytest.mark.rabbitmq]
#: What docs/operations.md gives a user of Redis.
RULES = "~runyard* ~_kombu.* ~unacked* &runyard* +@all -@admin -@dangerous"
DATABASE, REDIS, BROKER = "RUNYARD_DATABASE_URL", "RUNYARD_REDIS_URL", "RUNYARD_BROKER_URL"


@dataclass
class Servers:
    """Their URLs by setting, and the broker."""

    urls: dict[str, str]
    rabbitmq: RabbitMQ
    redis: Any  # typed in part


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("authority")
    authority = Authority(folder)
    certificate, trusted = authority.certificate("localhost"), folder / "authority.pem"
    trusted.write_text(authority.pem)
    postgres, rabbitmq = _postgres(certificate), RabbitMQ(certificate)
    port, child = _redis(folder, certificate)
    admin: Any = redis.Redis("localhost", port, password="of-the-admin", ssl=True, ssl_ca_certs=str(trusted))
    try:
        postgres.start()
        rabbitmq.start()
        wait_until(lambda: _answers(admin))
        admin.execute_command("ACL", "SETUSER", "runyard", "on", ">of-runyard", *RULES.split())
        urls = {
            DATABASE: f"postgresql://postgres@localhost:{postgres.port}/postgres"
            f"?sslmode=verify-full&sslrootcert={trusted}",
            REDIS: f"rediss://runyard:of-runyard@localhost:{port}/0?ssl_ca_certs={trusted}",
            BROKER: f"{rabbitmq.url}?ssl_ca_certs={trusted}",
        }
        yield Servers(urls, rabbitmq, admin)
    except ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    finally:
        admin.close()
        process.end(child, grace=5)
        rabbitmq.stop()
        postgres.stop()


def _postgres(certificate: Path) -> Postgres:
    made = Postgres()
    own = made.base / "localhost.pem"
    shutil.copy(certificate, own)
    own.chmod(0o600)
    if made.user:
        shutil.chown(own, made.user)
    made.settings |= {"ssl": "on", "ssl_cert_file": str(own), "ssl_key_file": str(own)}
    return made


def _redis(folder: Path, certificate: Path) -> tuple[int, subprocess.Popen[bytes]]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("No Redis: install redis-server, or leave it out with TEST_WITHOUT=redis.", pytrace=False)
    port = process.free_port()
    options = {
        "port": "0", "tls-port": str(port), "bind": "127.0.0.1", "tls-cert-file": str(certificate), "save": "",
        "tls-key-file": str(certificate), "tls-auth-clients": "no", "requirepass": "of-the-admin", "dir": str(folder),
        "tls-ca-cert-file": str(folder / "authority.pem"),
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return port, process.spawn([program, *arguments], log=folder / "redis.log")


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_an_installation_works_over_tls_with_a_redis_user_of_few_rights_and_quorum_queues(
    servers: Servers, tmp_path: Path
) -> None:
    with Stack(
        tmp_path, database_url=servers.urls[DATABASE], broker_url=servers.urls[BROKER],
        redis_url=servers.urls[REDIS], RUNYARD_REQUESTS_PER_MINUTE="100000", RUNYARD_BROKER_QUEUE_TYPE="quorum",
    ) as stack:  # fmt: skip
        assert stack.request("GET", "/readyz")[1]["status"] == "ok"
        task_id = stack.submit("@demo/invoice_check", {"lines": [{"amount": 2.5}]})
        stack.until(task_id, "waiting_for_input")
        assert stack.request("POST", f"/tasks/{task_id}/message", {"message": "Berlin"})[0] in (200, 202)
        stack.until(task_id, "awaiting_review")
        with psycopg.connect(servers.urls[DATABASE]) as connection:
            plain = "SELECT count(*) FROM pg_stat_ssl NATURAL JOIN pg_stat_activity WHERE NOT ssl AND client_port > 0"
            assert connection.execute(plain).fetchone() == (0,)
        queues = _queues(servers.rabbitmq)
        ours = {name: kind for name, kind in queues.items() if name.startswith("runyard.")}
        assert len(ours) == 4
        assert set(ours.values()) == {"quorum"}
        assert not [name for name in queues if name.startswith("celery_delayed")]
        refused = servers.redis.execute_command("ACL", "LOG")
        assert refused == []
        logs = "".join(log.read_text() for log in stack.logs.iterdir())
        for sign in ("NOPERM", "NOT_IMPLEMENTED", "PRECONDITION_FAILED", "Traceback"):
            assert sign not in logs


def test_a_redis_user_of_few_rights_is_enough_for_the_broker(servers: Servers) -> None:
    app = application(Settings(broker_url=servers.urls[REDIS]))
    names = QueueNames.of("an installation")
    app.send_task(WAKE, args=[FORMAT], queue=names.runs)
    consume(app, "an installation")
    received: list[str] = []
    with app.connection_for_read() as connection, app.amqp.TaskConsumer(connection) as consumer:
        consumer.callbacks = [lambda _, message: received.append(message.delivery_info["routing_key"])]
        while not received:
            connection.drain_events(timeout=30)
    assert received == [names.runs]
    assert servers.redis.execute_command("ACL", "LOG") == []


def _queues(rabbitmq: RabbitMQ) -> dict[str, str]:
    """The type of each queue."""
    command = [str(_PROGRAMS / "rabbitmqctl"), "-q", "list_queues", "name", "type", "--formatter", "json"]
    found = subprocess.run(command, env=rabbitmq.env, check=True, timeout=60, capture_output=True, text=True)
    return {queue["name"]: queue["type"] for queue in json.loads(found.stdout)}


@pytest.mark.parametrize(
    ("part", "name", "right", "wrong", "hint"),
    [
        ("database", DATABASE, "localhost", "127.0.0.1", "server certificate for"),
        ("database", DATABASE, "&sslrootcert=", "&application_name=", "sslrootcert"),
        ("redis", REDIS, "?ssl_ca_certs=", "?client_name=", "certificate"),
        ("settings", REDIS, "ssl_ca_certs=", "ssl_ca_certs=/nowhere", "cannot read"),
        ("redis", REDIS, "of-runyard@", "wrong@", "refuses the user or password"),
        ("broker", BROKER, "?ssl_ca_certs=", "?ssl_none=", "certificate"),
        ("broker", BROKER, "guest:guest", "guest:wrong", "refuses the user or password"),
    ],
)
def test_the_doctor_names_what_is_wrong(
    part: str, name: str, right: str, wrong: str, hint: str,
    servers: Servers, home: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(home)
    for setting, url in servers.urls.items():
        monkeypatch.setenv(setting, url.replace(right, wrong, 1) if setting == name else url)
    monkeypatch.setenv("RUNYARD_HOME", str(home))
    found = next(finding for finding in doctor.findings() if finding.part == part)
    print(found.text)
    assert found.verdict is Verdict.BAD
    assert hint in found.text
    assert name in found.text
    assert "of-runyard" not in found.text
