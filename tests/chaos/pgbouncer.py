"""A real PgBouncer in transaction mode (Debian's package `pgbouncer`) before a test's PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from runyard_launch.supervisor import process
from tests.ports import free_port
from tests.servers.missing import ServerMissing


class PgBouncer:
    """One pooler; `url` leads through it to the database of `target`."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self.port = free_port()
        self._base = Path(tempfile.mkdtemp(prefix="runyard-pgbouncer-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{self._target.username}@127.0.0.1:{self.port}{self._target.path}"

    @staticmethod
    def program() -> str | None:
        """Where it is installed, or None."""
        return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

    def start(self) -> None:
        program = self.program()
        if program is None:
            raise ServerMissing("No PgBouncer: install Debian's pgbouncer, or leave out --pooler.")
        config = self._base / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self._target.port} user={self._target.username}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nauth_type = any\n"
            "pool_mode = transaction\nmax_client_conn = 400\ndefault_pool_size = 40\nunix_socket_dir =\n"
        )
        user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
        if user:
            shutil.chown(self._base, user)
        log = self._base / "pgbouncer.log"
        self._process = process.spawn([program, config], log=log, user=user, cwd=self._base)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise ServerMissing(f"PgBouncer did not start:\n{log.read_text()[-2000:]}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process:
            process.end(self._process, grace=5)
        shutil.rmtree(self._base, ignore_errors=True)
