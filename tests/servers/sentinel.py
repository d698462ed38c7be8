"""Debian's Redis as a primary, its replica, and a Sentinel that makes the replica primary when the primary is gone; all
of them over TLS alone, by the name localhost."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from runyard_launch.supervisor import process
from runyard_launch.supervisor.valkey import no_retry
from tests.servers.missing import ServerMissing

_PASSWORD = "of-the-servers"
_SENTINEL_PASSWORD = "of-the-sentinel"
_NAME = "wakes"


class Sentinel:
    """Use `running()`. `url` names the Sentinel after one that nothing listens at. `certificate` is for localhost, with
    its key; `trusted` its authority's."""

    def __init__(self, certificate: Path, trusted: Path) -> None:
        self._certificate, self._trusted = certificate, trusted
        self.base = Path(tempfile.mkdtemp(prefix="runyard-sentinel-"))
        self.port, self._away = process.free_port(), process.free_port()
        self.servers = [process.free_port(), process.free_port()]
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return (
            f"rediss+sentinel://:{_PASSWORD}@localhost:{self._away},localhost:{self.port}/0"
            f"?master_name={_NAME}&sentinel_password={_SENTINEL_PASSWORD}&ssl_ca_certs={self._trusted}"
        )

    @contextmanager
    def running(self) -> Iterator[Sentinel]:
        """All three, until the block ends."""
        try:
            first, second = self.servers
            self._serve(first)
            self._serve(second, f"replicaof localhost {first}\n")
            self._wait(lambda: self.client(second).info("replication")["master_link_status"] == "up")
            self._watch(first)
            self._wait(lambda: self._state().get("num-slaves") == 1)
            yield self
        finally:
            for child in self._children.values():
                process.end(child, grace=5)
            shutil.rmtree(self.base, ignore_errors=True)

    @property
    def primary(self) -> int:
        """The port of the primary, as the Sentinel has it."""
        return int(self._state()["port"])

    def client(self, port: int) -> redis.Redis:
        """A client of one server."""
        return self._client(port, _PASSWORD)

    def kill(self, port: int) -> None:
        """SIGKILL one server."""
        self._children[port].kill()
        self._children[port].wait()

    def _serve(self, port: int, more: str = "") -> None:
        self._start(
            port,
            f'requirepass {_PASSWORD}\nmasterauth {_PASSWORD}\nsave ""\nrepl-diskless-sync-delay 0\n'
            f"replica-announce-ip localhost\n{more}",
        )
        self._wait(lambda: self.client(port).ping())

    def _watch(self, primary: int) -> None:
        settings = {"auth-pass": _PASSWORD, "down-after-milliseconds": "1000", "failover-timeout": "5000"}
        lines = "".join(f"sentinel {name} {_NAME} {value}\n" for name, value in settings.items())
        self._start(
            self.port,
            f"requirepass {_SENTINEL_PASSWORD}\nsentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n"
            f"sentinel monitor {_NAME} localhost {primary} 1\n{lines}",
            "--sentinel",
        )

    def _start(self, port: int, config: str, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerMissing(
                "No Redis: run `make test` as root, which installs it, or install redis-server, "
                "or leave it out with TEST_WITHOUT=redis."
            )
        folder = self.base / str(port)
        folder.mkdir()
        file = folder / "redis.conf"
        file.write_text(
            f"bind 127.0.0.1\nport 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients no\ndir {folder}\n"
            f"tls-cert-file {self._certificate}\ntls-key-file {self._certificate}\n"
            f"tls-ca-cert-file {self._trusted}\n{config}"
        )
        self._children[port] = process.spawn([program, file, *options], log=folder / "log")

    def _state(self) -> dict[str, Any]:
        with self._client(self.port, _SENTINEL_PASSWORD) as sentinel:
            masters: dict[str, dict[str, Any]] = sentinel.sentinel_masters()
        return masters[_NAME]

    def _client(self, port: int, password: str) -> redis.Redis:
        return redis.Redis(
            "localhost", port, password=password, retry=no_retry(), socket_timeout=2, ssl=True,
            ssl_ca_certs=str(self._trusted),
        )  # fmt: skip

    def _wait(self, condition: object) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                if condition():  # type: ignore[operator]
                    return
            except (redis.RedisError, KeyError):
                pass
            if time.monotonic() > deadline:
                logs = "\n".join(file.read_text()[-1000:] for file in self.base.glob("*/log"))
                raise ServerMissing(f"Redis and its Sentinel did not start:\n{logs}")
            time.sleep(0.05)
