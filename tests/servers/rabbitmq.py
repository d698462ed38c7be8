"""Debian's RabbitMQ with node name, ports and folders of its own: no system service is touched."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from runyard_launch.supervisor import process
from tests.ports import free_port
from tests.servers.missing import ServerMissing

_PROGRAMS = Path("/usr/lib/rabbitmq/bin")


class RabbitMQ:
    """One broker on loopback, with the default user guest; over TLS alone with a `certificate`, a file with its key."""

    def __init__(self, certificate: Path | None = None) -> None:
        self._certificate = certificate
        self.base = Path(tempfile.mkdtemp(prefix="runyard-rabbitmq-"))
        self.port, self.dist_port, self.epmd_port = (free_port() for _ in range(3))
        self.env = self._environment()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._broker: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        if self._certificate:
            return f"amqps://guest:guest@localhost:{self.port}//"
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        epmd = shutil.which("epmd")
        if epmd is None or not (_PROGRAMS / "rabbitmq-server").exists():
            raise ServerMissing(
                "No RabbitMQ: run `make test` as root, which installs it, or install rabbitmq-server, "
                "or name a running one in TEST_RABBITMQ_URL, or leave it out with TEST_WITHOUT=rabbitmq."
            )
        log = self.base / "rabbitmq.log"
        # Left to itself Erlang starts a name server that outlives it; ours is a child like any other.
        self._epmd = process.spawn([epmd], env=self.env, log=log)
        _wait_for_port(self.epmd_port, self._epmd, 60, log)
        self._broker = process.spawn([_PROGRAMS / "rabbitmq-server"], env=self.env, log=log, cwd=self.base)
        _wait_for_port(self.port, self._broker, 120, log)

    def stop(self) -> None:
        for child in (self._broker, self._epmd):
            if child:
                process.end(child, grace=15)
        shutil.rmtree(self.base, ignore_errors=True)

    def restart(self) -> None:
        """SIGKILL, then a start on the same port and data."""
        for child in (self._broker, self._epmd):
            assert child
            child.kill()
            child.wait()
        self.start()

    def control(self, *command: str) -> None:
        """Run rabbitmqctl."""
        subprocess.run([_PROGRAMS / "rabbitmqctl", "-q", *command], env=self.env, check=True, timeout=60)

    def _environment(self) -> dict[str, str]:
        (self.base / "plugins").write_text("[].\n")
        (self.base / "rabbitmq.conf").write_text(
            f"{self._listeners()}vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 50MB\n"
        )
        quiet = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.base),  # Erlang keeps its cookie here
            "LANG": "C.UTF-8",
            "RUNNING_UNDER_SYSTEMD": "1",  # makes the script become the broker instead of wrapping it
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"runyard-test-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.base / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.base / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.base / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.base / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.base / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.base / "rabbitmq.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": quiet,
        }

    def _listeners(self) -> str:
        if self._certificate is None:
            return f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
        files = "".join(f"ssl_options.{name} = {self._certificate}\n" for name in ("certfile", "keyfile"))
        return f"listeners.tcp = none\nlisteners.ssl.default = 127.0.0.1:{self.port}\n{files}"


def _wait_for_port(port: int, child: subprocess.Popen[bytes], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise ServerMissing(f"RabbitMQ did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.1)
