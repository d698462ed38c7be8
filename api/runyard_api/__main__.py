"""`python -m runyard_api`: one api process. Start as many as you like, on one database."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays; `tune_process` turns the collector on

import argparse
import asyncio
import os
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

from runyard_common.process import without

with without("rich", "opentelemetry", "watchfiles"):  # colours, metrics of redis-py, reloading
    import redis.asyncio  # noqa: F401
    import structlog
    import uvicorn

from runyard.loopback import exempt
from runyard_api.access import capacity
from runyard_api.app import build
from runyard_api.state import State
from runyard_common import telemetry, tracing
from runyard_common.costly import tune_process
from runyard_common.database.start_checks import Process
from runyard_common.process import (
    Liveness,
    descriptor_limit,
    keep_files_private,
    notify_ready,
    raise_descriptor_limit,
    show_liveness,
)
from runyard_common.settings import Settings
from runyard_common.start_checks import check_address, settings_for
from runyard_common.values.errors import ConfigurationError

#: How long requests under way may take once the process is asked to stop, in seconds.
GRACE = 5
#: Connections that the system keeps until they are accepted.
BACKLOG = 2048


class Server(uvicorn.Server):
    """A server that may serve on after SIGTERM, and answers its waiters and streams at once when it drains."""

    state: State | None = None
    refused: ConfigurationError | None = None  # why the application could not start
    lame_duck_s = 0.0
    asked_to_end = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting; wake what waits, so that it is answered within the grace period.

        SIGTERM waits for `lame_duck_s` before that: load balancers see a process that is no longer ready, and
        stop sending. A second signal cuts it short.
        """
        state, self.asked_to_end = self.state, True
        if sig == signal.SIGTERM and self.lame_duck_s > 0 and state is not None and not state.leaving:
            state.leaving = True
            state.loop.call_soon_threadsafe(
                state.loop.call_later, self.lame_duck_s, self.handle_exit, sig, None
            )
            return
        if self.state is not None:
            self.state.stop_waiting_threadsafe()  # signals come in between the loop's steps
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, and report so to the supervisor."""
        await super().startup(sockets)
        notify_ready()
        liveness = Liveness("")  # probes ask /healthz
        if liveness.is_watched:
            self._liveness = asyncio.create_task(show_liveness(liveness, lambda: True), name="liveness")


def server_of(settings: Settings, port: int | None = None) -> Server:
    """The HTTP server for these settings, not yet started."""
    server: Server

    def opened(state: State) -> None:
        server.state = state
        tune_process()

    def refused(error: ConfigurationError) -> None:
        server.refused = error

    config = uvicorn.Config(
        build(settings, opened, refused, lambda: server.asked_to_end or server.should_exit),
        host=settings.host,
        port=settings.port if port is None else port,
        loop=_available("uvloop", "asyncio"),
        http=_parser(settings.path_prefix, capacity.connections(descriptor_limit())),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = Server(config)
    server.lame_duck_s = settings.lame_duck_seconds
    return server


def _parser(prefix: str, connections: int) -> type[asyncio.Protocol]:
    """The fast parser where it is installed, bounded; h11 has its own bound (`h11_max_incomplete_event_size`)."""
    try:
        from runyard_api.http.protocol import BoundedProtocol
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol

        return H11Protocol
    own = {"prefix": prefix.encode(), "most_connections": connections}
    return type("Protocol", (BoundedProtocol,), own)


def _available(wanted: str, otherwise: str) -> str:
    try:
        __import__(wanted)
    except ImportError:
        return otherwise
    return wanted


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    exempt(os.environ)
    try:
        settings = settings_for(Process.API)
        check_address(settings)
        telemetry.configure(settings.log_level)
        tracing.start("runyard-api")
        raise_descriptor_limit()
        server = server_of(settings)
    except ConfigurationError as error:
        _refuse(error)
    structlog.get_logger("runyard.api").info("The api starts.", action="start", url=settings.base_url)
    signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        server.run([_shared(settings)] if settings.share_port else None)
    except SystemExit:  # uvicorn's, where the application has not started
        if server.refused is None and not server.asked_to_end:
            raise
    if server.refused is not None:
        _refuse(server.refused)
    if not server.started and not server.asked_to_end:
        sys.exit(3)


def _shared(settings: Settings) -> socket.socket:
    """A socket beside those of other apis: the system spreads the connections. One that is inherited would not do so,
    as the first process to wake takes all that have connected."""
    return socket.create_server(
        (settings.host, settings.port),
        family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
        backlog=BACKLOG,
        reuse_port=True,
    )


def _refuse(error: ConfigurationError) -> NoReturn:
    """The settings cannot work: the last line gives the reason, and the launcher does not start this process again."""
    print(f"runyard api: {error.message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    # No options: everything is a RUNYARD_* setting. `--help` is answered and a misspelt option refused.
    argparse.ArgumentParser(prog="runyard api", description="Run one api process.").parse_args()
    keep_files_private()
    main()
