"""A real MariaDB in a folder of its own, for datastores that speak MySQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pymysql
from sqlalchemy.engine import make_url

from runyard_launch.supervisor import process
from tests.ports import free_port
from tests.servers.missing import ServerMissing

_INSTALL = [
    "--no-defaults",
    "--auth-root-authentication-method=normal",
    "--skip-test-db",
    "--skip-name-resolve",
]
_SETTINGS = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "1",
    "innodb-buffer-pool-size": "16M",
    "innodb-log-file-size": "8M",
    "innodb-flush-log-at-trx-commit": "0",  # survives a killed process, not a power cut: enough for tests
    "performance-schema": "0",
}


class MariaDB:
    """One server; `url` is its administrator's, without a database."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="runyard-mariadb-"))
        self.port = free_port()
        self._user = "nobody" if os.geteuid() == 0 else None  # the server refuses to run as root
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/"

    def start(self) -> None:
        install, server = _program("mariadb-install-db"), _program("mariadbd")
        if self._user:
            shutil.chown(self.base, self._user)
        where = [f"--datadir={self.base / 'data'}", f"--tmpdir={self.base}"]
        made = process.spawn([install, *_INSTALL, *where], log=self._log, user=self._user, cwd=self.base)
        if made.wait(60):
            raise ServerMissing(f"mariadb-install-db failed:\n{self._log.read_text()[-2000:]}")
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        here = [f"--port={self.port}", f"--socket={self.base / 'socket'}", f"--pid-file={self.base / 'pid'}"]
        self._process = process.spawn(
            [server, "--no-defaults", *where, *here, *options], log=self._log, user=self._user, cwd=self.base
        )
        self._wait_until_ready(60)

    def stop(self) -> None:
        if self._process:
            process.end(self._process, grace=10)
        shutil.rmtree(self.base, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self.base / "mariadb.log"

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                # The driver leaves its socket open when a server that starts hangs up in the middle.
                with socket.create_connection(("127.0.0.1", self.port), 2) as connected:
                    asked = pymysql.Connection(user="root", read_timeout=2, defer_connect=True)
                    asked.connect(connected)
                    asked.close()
                return
            except (OSError, pymysql.OperationalError):
                assert self._process
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = self._log.read_text()[-2000:]
                    raise ServerMissing(f"MariaDB did not start:\n{log}") from None
                time.sleep(0.05)


def fresh_schema(admin_url: str) -> str:
    """URL of a new, empty database on the server of `admin_url`."""
    name, url = f"test_{uuid.uuid4().hex[:16]}", make_url(admin_url)
    with pymysql.connect(
        host=url.host, port=url.port or 3306, user=url.username, password=url.password or ""
    ) as connection:
        connection.cursor().execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    return url.set(database=name).render_as_string(hide_password=False)


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        raise ServerMissing(
            "No MariaDB: run `make test` as root, which installs it, or install mariadb-server, or name one in "
            "TEST_MARIADB_URL (mysql://user:password@host:port/), or leave it out: TEST_WITHOUT=mariadb."
        )
    return found
