"""Fixtures every test may ask for: real servers, fresh databases; and an environment free of settings."""

from __future__ import annotations

import functools
import gc
import os
import signal
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpcore2
import hypothesis
import pytest
from typer import testing

from runyard_common.database.engine import Database
from tests import compiled_statements, databases, servers
from tests.fakes.redis_server import FakeRedis

PROVIDER_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY")

for name in [name for name in os.environ if name.startswith("RUNYARD_") or name in PROVIDER_KEYS]:
    del os.environ[name]


hypothesis.settings.register_profile("fast", max_examples=10)


@functools.cache
def _authorities(file: str | None, folder: str | None, trust_env: bool) -> ssl.SSLContext:
    return _read_authorities(_trust_env=trust_env)


# Thousands of clients are made here, and reading the authorities takes each ten times as long as a call on loopback.
_read_authorities = httpcore2.default_ssl_context
httpcore2.default_ssl_context = lambda *, _trust_env=True: _authorities(
    os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"), _trust_env
)

compiled_statements.share()

# Most of the time of many tests was waiting for the disk. No power cut ends this process and leaves its test to look.
Database.__init__.__kwdefaults__ = {"disposable": True}

# Typer builds all commands of `runyard` at each call of CliRunner, which takes longer than what most of them do.
vars(testing)["_get_command"] = functools.cache(vars(testing)["_get_command"])

gc.set_threshold(50_000, 20, 50)  # while they are collected, too

# A shell that starts the suite in the background has Ctrl-C ignored, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the modules that start processes, and mostly wait for them, among those that keep a processor busy.

    Parallel workers take modules in this order, and a machine that waits and one that computes in turn is slower.
    The contract suites' servers, which each worker starts once, come after the integration tests: they run until the
    session ends, and cost some processor while they wait.
    """
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    waiting = [name for name in modules if name.startswith("tests/acceptance/")]
    others = [name for name in modules if not name.startswith("tests/acceptance/")]
    others.sort(key=lambda name: not name.startswith("tests/integration/"))
    # The long ones are begun in the first four fifths: nothing long is left for the end, when the queue is empty.
    steps = [(number * 0.8 / len(waiting), name) for number, name in enumerate(waiting)]
    steps += [(number / len(others), name) for number, name in enumerate(others)]
    items[:] = [item for _, name in sorted(steps) for item in modules[name]]


def pytest_collection_finish() -> None:
    """Ten thousand tests are half a gigabyte that stays: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The process that began the session ends its servers; parallel workers only use them."""
    if not hasattr(session.config, "workerinput"):
        factory = getattr(session.config, "_tmp_path_factory", None)
        if factory is not None:
            servers.stop_all(factory.getbasetemp())


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """URL of the session's postgres, valkey, redis, rabbitmq or mariadb; a missing one fails with what to do."""
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    folder, session = (base.parent, os.getppid()) if parallel else (base, os.getpid())

    def url(kind: str) -> str:
        if given := os.environ.get(servers.GIVEN[kind]):
            return given
        if kind in os.environ.get("TEST_WITHOUT", "").split(","):
            pytest.skip(f"TEST_WITHOUT={kind}")
        try:
            return servers.ensure(kind, folder, session)
        except servers.ServerMissing as missing:
            pytest.fail(str(missing), pytrace=False)

    return url


@pytest.fixture(scope="session")
def fresh_database(server_url: Callable[[str], str]) -> Callable[[], str]:
    """Makes empty PostgreSQL databases: call it for the `postgresql://` URL of a new one."""
    admin = server_url("postgres")
    return lambda: servers.fresh_database(admin)


@pytest.fixture(scope="session")
def migrated_database(server_url: Callable[[str], str]) -> Callable[[], str]:
    """As `fresh_database`, with all tables."""
    admin = server_url("postgres")
    return lambda: databases.migrated_database(admin)


@pytest.fixture(scope="session")
def postgres_url(fresh_database: Callable[[], str]) -> str:
    """One PostgreSQL database of this test process, empty at its start."""
    return fresh_database()


@pytest.fixture(scope="session")
def valkey_url(server_url: Callable[[str], str]) -> str:
    """A Valkey database of this test process; parallel processes get one each."""
    head, _, _ = server_url("valkey").rpartition("/")
    return f"{head}/{_worker_number()}"


@pytest.fixture(scope="session")
def redis_url(server_url: Callable[[str], str]) -> str:
    """A database of Debian's Redis, for what has to work on the oldest server too."""
    head, _, _ = server_url("redis").rpartition("/")
    return f"{head}/{_worker_number()}"


@pytest.fixture(scope="session")
def fake_redis_url() -> Iterator[str]:
    """fakeredis on a port of loopback: for tests that need no real server."""
    with FakeRedis() as url:
        yield url


@pytest.fixture(params=["fakeredis", "valkey", "redis"])
def any_redis_url(request: pytest.FixtureRequest) -> str:
    """Each kind of Redis in turn, the one without a server first: all of them keep the same promises."""
    kind = "fake_redis" if request.param == "fakeredis" else request.param
    url: str = request.getfixturevalue(f"{kind}_url")
    return url


@pytest.fixture(scope="session")
def rabbitmq_url(server_url: Callable[[str], str]) -> str:
    """The session's RabbitMQ (default virtual host, user guest)."""
    return server_url("rabbitmq")


@pytest.fixture
def mariadb_url(server_url: Callable[[str], str]) -> str:
    """A new, empty database on the session's MariaDB, as `mysql://`."""
    return servers.fresh_schema(server_url("mariadb"))


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of tests that are coroutines."""
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty RUNYARD_HOME."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def _worker_number() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
