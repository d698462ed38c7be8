"""A real Valkey, and a real Redis, that tests may stop, kill and start again on the same port."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from runyard_launch.supervisor import process
from runyard_launch.supervisor.valkey import Valkey
from tests.ports import free_port
from tests.servers.missing import ServerMissing


class ValkeyServer:
    """One server with its data in `folder` (default: a temporary one, which goes when it stops)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="runyard-valkey-"))
        self.valkey = Valkey(self.folder, port=free_port())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.valkey.url

    def start(self) -> None:
        log = self.folder / "valkey.log"
        self._process = process.spawn(self._command(), log=log)
        deadline = time.monotonic() + 60
        while not self.valkey.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerMissing(f"{type(self).__name__} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process:
            process.end(self._process, grace=10)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def _command(self) -> list[str | Path]:
        return self.valkey.prepare()


class RedisServer(ValkeyServer):
    """Debian's Redis: the oldest server that Runyard has to work with."""

    def _command(self) -> list[str | Path]:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerMissing(
                "No Redis: run `make test` as root, which installs it, or install redis-server, "
                "or name a running one in TEST_REDIS_URL, or leave it out with TEST_WITHOUT=redis."
            )
        return [program, *self.valkey.prepare()[1:]]
