"""The parts of a running system as children: which there are under given settings, how each starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from runyard_common.database import schema_version
from runyard_common.settings import Settings
from runyard_launch.problems import StartProblem
from runyard_launch.supervisor.children import Spec
from runyard_launch.supervisor.home import Home
from runyard_launch.supervisor.home_server import ADDRESS_FILE
from runyard_launch.supervisor.models import Choice
from runyard_launch.supervisor.process import listening_socket
from runyard_launch.supervisor.valkey import URL_FILE, Valkey

MODEL_URL_FILE = "model.url"
#: Seconds that runs may go on when everything on this machine stops, where no setting gives more: a person waits.
DRAIN = 2.5
#: Seconds for which the scheduler and the workers wait for the api: they work on where it cannot answer.
_API_FIRST = 15.0
#: Seconds for which the addresses wait for the workers, so that the first run finds its agent.
_AGENTS_FIRST = 15.0
#: The descriptor on which a child writes a line when it serves, as s6's notification-fd.
READY_FD = "READY_FD"
_LAST, _BEFORE, _FIRST = 3, 2, 1  # orders of stopping


@dataclass(frozen=True)
class Plan:
    """What `runyard up` starts: settings with their port chosen, its home, the environment of every child."""

    settings: Settings
    home: Home
    env: Mapping[str, str]
    model: Choice
    workers: int = 1
    apis: int = 1

    @property
    def local_url(self) -> str:
        """Where this machine reaches the api."""
        return self.settings.local_url

    def stages(self) -> list[list[Spec]]:
        """The children, in the order they need each other.

        The api answers before the scheduler and the workers start, which would take the processor from it; the
        tables are migrated only where they are not of this version.
        """
        grounds, serving, working = self.stages_without_workers()
        working += [self._worker(n) for n in range(1, self.workers + 1)]
        return [stage for stage in (grounds, serving, working) if stage]

    def stages_without_workers(self) -> tuple[list[Spec], list[Spec], list[Spec]]:
        """The same: what the others need, what serves, the scheduler."""
        grounds = [] if schema_version.is_newest(self.settings) else [self._migrations()]
        if self.settings.embedded_broker:
            grounds.append(self._valkey())
        serving = [*self._apis(), *([self._model()] if self.model.serve_local else [])]
        return grounds, serving, [self._scheduler()]

    def worker(self) -> Spec:
        """A worker that reports by itself how far it is."""
        spec = self._module("worker", "runyard_workers")
        return replace(spec, stop_order=_FIRST, grace=self.settings.drain_seconds + 5)

    def clean_up(self) -> None:
        """Remove the addresses of servers that are no longer there."""
        for name in (URL_FILE, MODEL_URL_FILE, ADDRESS_FILE):
            (self.home.path / name).unlink(missing_ok=True)

    def _migrations(self) -> Spec:
        return replace(self._module("migrate", "runyard_common.database.migrate"), once=True)

    def _apis(self) -> list[Spec]:
        if self.apis == 1:
            only = self._api(1)
            return [replace(only, ready=lambda: answers(f"{self.local_url}/readyz"))]
        # Any of them may answer on the port: each reports by itself that it serves.
        sharing = {**self.env, "RUNYARD_SHARE_PORT": "true"}
        return [_notifying(replace(self._api(n), env=sharing)) for n in range(1, self.apis + 1)]

    def _api(self, number: int) -> Spec:
        spec = self._module("api" if number == 1 else f"api-{number}", "runyard_api")
        return replace(spec, grace=spec.grace + self.settings.lame_duck_seconds, holds_up=_API_FIRST)

    def _scheduler(self) -> Spec:
        return self._module("scheduler", "runyard_scheduler")

    def _worker(self, number: int) -> Spec:
        spec = self._module("worker" if number == 1 else f"worker-{number}", "runyard_workers")
        # It hands its runs back first, while the others can still take and show them.
        return replace(
            _notifying(spec),
            holds_up=_AGENTS_FIRST,
            stop_order=_FIRST,
            grace=self.settings.drain_seconds + 5,
            runs_agents=True,
        )

    def _valkey(self) -> Spec:
        file = self.home.path / URL_FILE
        end_orphan(file)
        valkey = Valkey(self.home.path / "valkey")

        def ready() -> bool:
            return valkey.ready() and write_private(file, valkey.url)

        def repair() -> str | None:
            moved = valkey.move_data()
            return f"its data could not be read and was moved to {moved}" if moved else None

        argv = valkey.prepare()
        return Spec("valkey", argv, self.home.log("valkey"), ready=ready, repair=repair, stop_order=_LAST)

    def _model(self) -> Spec:
        # We hold the socket, so the address outlives a restart and no other program takes the port in between.
        listener = listening_socket("127.0.0.1")
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        file = self.home.path / MODEL_URL_FILE
        fd = listener.detach()
        spec = self._module("model", "runyard_launch.localmodel", "--fd", str(fd))
        return replace(
            spec,
            ready=lambda: answers(f"{url}/models") and write_private(file, url),
            fds=(fd,),
            stop_order=_LAST,
        )

    def _module(self, name: str, module: str, *arguments: str) -> Spec:
        argv = [sys.executable, "-P", "-m", module, *arguments]
        return Spec(name, argv, self.home.log(name), env=self.env, stop_order=_BEFORE)


def _notifying(spec: Spec) -> Spec:
    """The same of a child that writes a line when it serves, and so once again when it is started again."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    env = {**(spec.env or {}), READY_FD: str(writes)}
    return replace(spec, env=env, fds=(*spec.fds, writes), ready=lambda: _notified(reads))


def _notified(reads: int) -> bool:
    try:
        return bool(os.read(reads, 64))
    except BlockingIOError:
        return False


def child_environment(
    settings: Settings, home: Home, env: Mapping[str, str], model: Choice, demo: bool
) -> dict[str, str]:
    """The environment of every child: ours, with what was decided at start."""
    sources = [*([str(examples_folder())] if demo else []), *settings.agent_sources]
    drain = {} if "drain_seconds" in settings.model_fields_set else {"RUNYARD_DRAIN_SECONDS": str(DRAIN)}
    return {
        **env,
        **drain,
        "RUNYARD_HOME": str(home.path),
        "RUNYARD_HOST": settings.host,
        "RUNYARD_PORT": str(settings.port),
        "RUNYARD_AGENTS": ",".join(dict.fromkeys(sources)),
        "RUNYARD_MODEL": model.name,
        "PYTHONUNBUFFERED": "1",
    }


def answers(url: str) -> bool:
    """Whether a GET there is answered with 200 now. It is this machine's own: no proxy is asked."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        # Asked ten times a second by a process that shall leave the processor to those that start.
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def write_private(file: Path, text: str) -> bool:
    """Write a file that only this user reads, whole or not at all. Always True, to end a condition with."""
    draft = file.with_name(f".{file.name}.new")
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(file)
    return True


def end_orphan(url_file: Path) -> None:
    """Stop a server that a killed launcher left behind, where children cannot be tied to their parent."""
    if not url_file.exists():
        return
    import redis

    from runyard_launch.supervisor.valkey import no_retry

    with redis.Redis.from_url(url_file.read_text().strip(), retry=no_retry(), socket_timeout=5) as client:
        try:
            client.shutdown(nosave=True)
        except redis.RedisError:
            pass  # no server there: the usual case
    url_file.unlink()


_CHECKOUT = Path(__file__).parents[3] / "examples"
#: Where a wheel puts them: below the environment, the user's base or the target that it was installed into.
_INSTALLED = Path("share/runyard/examples")
_ONE = "support_triage.yaml"


def examples_folder() -> Path:
    """The example agents: of the checkout, or of the installed package. `StartProblem` where there are none."""
    for place in (_CHECKOUT, *(parent / _INSTALLED for parent in Path(__file__).parents)):
        if (place / _ONE).is_file():
            return place
    raise StartProblem(
        "--demo needs the example agents, which this installation has not: start without it, and name agents of your "
        "own in RUNYARD_AGENTS."
    )
