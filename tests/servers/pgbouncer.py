"""A real PgBouncer in transaction mode before a PostgreSQL, with its defaults for everything else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy.engine import make_url

from runyard_launch.supervisor import process
from tests.ports import free_port
from tests.servers.missing import ServerMissing


class PgBouncer:
    """Use as a context manager; `url` leads through it to the database of `target`."""

    def __init__(self, target: str, pool_size: int = 20) -> None:
        self._target = make_url(target)
        self._pool_size = pool_size
        self.base = Path(tempfile.mkdtemp(prefix="runyard-pgbouncer-"))
        self.port = free_port()
        self._user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{self._target.database}"

    def __enter__(self) -> PgBouncer:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
        if program is None:
            raise ServerMissing(
                "No PgBouncer: run `make test` as root, which installs it, or install pgbouncer, "
                "or leave it out with TEST_WITHOUT=pgbouncer."
            )
        config = self.base / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={self._target.host} port={self._target.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nauth_type = any\n"
            f"pool_mode = transaction\nmax_client_conn = 500\ndefault_pool_size = {self._pool_size}\n"
            f"unix_socket_dir =\nlogfile = {self.base / 'pgbouncer.log'}\n"
        )
        if self._user:
            shutil.chown(self.base, self._user)
        self._process = process.spawn([program, "-q", config], log=self._log, user=self._user, cwd=self.base)
        self._wait_until_ready(60)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            process.end(self._process, grace=5)
        shutil.rmtree(self.base, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self.base / "output.log"

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise ServerMissing(f"PgBouncer did not start:\n{self._log.read_text()}") from None
                time.sleep(0.05)
