"""The workers of `runyard dev`: which one serves after a save, and what becomes of the one before. In this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runyard_common import development
from runyard_common.development import DEVELOPMENT_FD, Connection, Message
from runyard_launch.development import workers
from runyard_launch.development.workers import Stage, Workers
from runyard_launch.supervisor.children import Child, Spec
from tests.waiting import wait_until

AGENTS = [["@default/hello", "1.0.0"]]


class FakeWorker:
    """The other end of one worker's connection."""

    def __init__(self, spec: Spec) -> None:
        self.child = Child(spec)
        self.killed = False
        self.child.process = SimpleNamespace(returncode=None, kill=self._kill)  # type: ignore[assignment]
        self.connection = Connection(socket.socket(fileno=os.dup(int((spec.env or {})[DEVELOPMENT_FD]))))
        self._commands = self.connection.received()

    def _kill(self) -> None:
        self.killed = True

    def gets(self) -> Message:
        return next(self._commands)


class Site:
    """Workers with a supervisor that starts nothing, and what the author is shown."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "agents.py"
        self.file.write_text("pass\n")
        self.started: list[FakeWorker] = []
        self.shown: list[tuple[Any, ...]] = []
        self.on_look: Callable[[], None] = lambda: None
        names = (
            "reloading", "broken", "empty", "serving", "leaving", "ended", "ended_at_import", "without_code",
            "note", "output", "event",
        )  # fmt: skip
        shown = SimpleNamespace(**{name: self._shows(name) for name in names})
        self.workers = Workers(self, Spec("worker", [], None), shown)  # type: ignore[arg-type]

    def _shows(self, name: str) -> Callable[..., None]:
        return lambda *values, **named: self.shown.append((name, *values, *named.values()))

    def adopt(self, spec: Spec) -> Child:
        self.started.append(FakeWorker(spec))
        return self.started[-1].child

    def forget(self, child: Child) -> None:
        pass

    def wake(self) -> None:
        pass

    def until(self, name: str) -> tuple[Any, ...]:
        """The next thing shown under this name; all before it is left behind."""

        def found() -> tuple[Any, ...]:
            self.on_look()
            return next((one for one in self.shown if one[0] == name), ())

        one = wait_until(found)
        self.shown.remove(one)
        return one

    def loads(self, worker: FakeWorker) -> None:
        assert worker.gets()["kind"] == development.PREPARE
        self.on_look()
        assert worker.gets()["kind"] == development.LOAD
        worker.connection.send(development.LOADING)

    def loaded(self, worker: FakeWorker, agents: Any = AGENTS, broken: Any = ()) -> None:
        files = [str(self.file)]
        worker.connection.send(
            development.LOADED,
            agents=agents,
            broken=list(broken),
            empty=["agents.py"],
            modules=[],
            files=files,
        )

    def begins_to_load(self, worker: FakeWorker) -> None:
        """It loads, and the launcher knows."""
        self.loads(worker)
        wait_until(lambda: (self.on_look(), self.workers._at(Stage.LOADING))[1])

    def serves(self, worker: FakeWorker) -> tuple[Any, ...]:
        """It loads, and serves: what is shown then."""
        self.loads(worker)
        return self.serves_now(worker)

    def serves_now(self, worker: FakeWorker) -> tuple[Any, ...]:
        """It has loaded, and serves: what is shown then."""
        self.loaded(worker)
        wait_until(lambda: (self.on_look(), worker.child in self._starting())[1])
        assert worker.gets()["kind"] == development.SERVE
        worker.connection.send(development.SERVES, refused=[], agents=AGENTS)
        return self.until("serving")

    def ends(self, worker: FakeWorker, code: int) -> None:
        """Its process ends by itself."""
        assert worker.child.spec.on_end is not None
        worker.child.spec.on_end(worker.child, code)

    def _starting(self) -> list[Child]:
        return [one.child for one in self.workers._workers if one.stage.name == "STARTING"]

    def save(self, text: str = "x = 1\n") -> None:
        self.file.write_text(text)
        self.workers.change([self.file])
        self.on_look()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """One whose first worker serves."""
    site = Site(tmp_path)
    site.workers.begin()
    site.serves(site.started[0])
    return site


def test_the_worker_before_claims_nothing_more_once_the_new_code_is_loaded(site: Site) -> None:
    before, following = site.started
    site.save()
    site.serves(following)
    assert before.gets()["kind"] == development.LEAVE
    assert not before.killed
    before.connection.send(development.LEAVES, runs=2)
    assert site.until("leaving") == ("leaving", 2)
    assert len(site.started) == 3, "the next one is ready for the next save"


def test_code_that_cannot_be_imported_leaves_the_worker_before(site: Site) -> None:
    before, following = site.started
    site.save()
    site.loads(following)
    problem = {"problem": "agents.py: no", "traceback": "…"}
    site.loaded(following, broken=[problem])
    assert site.until("broken") == ("broken", [problem], True)
    assert following.killed
    assert site.workers.agents == AGENTS
    site.save("x = 2\n")
    site.serves(site.started[2])
    assert before.gets()["kind"] == development.LEAVE


def test_a_file_without_an_agent_leaves_the_worker_before(site: Site) -> None:
    site.save()
    site.loads(site.started[1])
    site.loaded(site.started[1], agents=[])
    assert site.until("empty") == ("empty", ["agents.py"], True)
    assert site.workers.agents == AGENTS


def test_what_python_cannot_read_is_shown_and_takes_no_worker(site: Site) -> None:
    site.save("def broken(:\n")
    _, (problem,), serves = site.until("broken")
    assert serves
    assert problem["problem"] == "agents.py: SyntaxError: invalid syntax"
    assert problem["traceback"].splitlines()[1] == f'  File "{site.file}", line 1'
    assert len(site.started) == 2
    site.save("x = 3\n")
    site.serves(site.started[1])


def test_a_save_while_the_agents_are_imported_is_loaded_after_they_are_served(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: now))
    site.save()
    site.begins_to_load(site.started[1])
    for text in ("x = 4\n", "x = 5\n", "x = 6\n"):
        now += 3
        site.save(text)
    assert not site.started[1].killed
    assert site.serves_now(site.started[1]) == ("serving", AGENTS, 9.0)
    now += 2
    assert site.serves(site.started[2]) == ("serving", AGENTS, 8.0), "since the first save that it holds"
    assert len(site.started) == 4


def test_a_save_ends_an_import_that_takes_long(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: now))
    site.save()
    site.begins_to_load(site.started[1])
    now += 60
    site.save("x = 4\n")
    assert site.started[1].killed
    assert site.serves(site.started[2]) == ("serving", AGENTS, 60.0)


def test_a_file_that_ends_the_process_at_import_is_named_and_the_worker_before_goes_on(site: Site) -> None:
    site.save()
    site.begins_to_load(site.started[1])
    site.ends(site.started[1], 0)
    assert site.until("ended_at_import") == ("ended_at_import", [site.file], "exit code 0", True)
    assert site.workers.agents == AGENTS
    assert site.workers.settled
    site.save("x = 7\n")
    site.serves(site.started[2])


def test_a_save_before_the_import_begins_is_a_part_of_it(site: Site) -> None:
    site.save()
    site.save("x = 5\n")
    site.save("x = 6\n")
    assert len(site.started) == 2
    site.serves(site.started[1])
    assert site.workers._wanted is False


def test_a_worker_that_ends_by_itself_is_replaced(site: Site) -> None:
    site.ends(site.started[0], -9)
    assert site.until("ended")[1:] == ("signal 9", [], 0.5, False)
    wait_until(lambda: (site.on_look(), not site.workers._again_at)[1])
    site.serves(site.started[1])


def test_agents_that_can_be_imported_are_served_beside_broken_ones_at_the_first_start(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.workers.begin()
    site.loads(site.started[0])
    site.loaded(site.started[0], broken=[{"problem": "b.py: no", "traceback": ""}])
    assert site.until("broken")[2] is False
    assert site.started[0].gets()["kind"] == development.SERVE


def test_runs_without_code_are_shown_once_until_there_is_code_again(site: Site) -> None:
    run = {"task": "t1", "agent": "@default/asks", "version": "1.0.0", "others": ["1.0.0+6c9e35ba"]}
    other = run | {"task": "t2"}
    serving = site.started[0].connection
    for runs in ([run], [run], [run, other], [], [run]):
        serving.send(development.WITHOUT_CODE, runs=runs)
    serving.send(development.LEAVES, runs=9)
    site.until("leaving")
    shown = [one[1] for one in site.shown if one[0] == "without_code"]
    assert shown == [[run], [other], [run]]


def test_the_worker_that_serves_looks_again_for_runs_without_code_when_one_before_leaves(site: Site) -> None:
    before, following = site.started
    site.save()
    site.serves(following)
    before.connection.send(development.LEAVES, runs=1)
    site.until("leaving")
    assert following.gets()["kind"] == development.CHECK
    site.ends(before, 0)
    assert following.gets()["kind"] == development.CHECK
    assert not [one for one in site.shown if one[0] == "ended"]
