"""What a worker reports to `runyard dev`: nothing of its libraries' own debugging, and sources that are not there."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from runyard_common import development
from runyard_common.development import Connection
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError
from runyard_workers import development as reports
from runyard_workers import execution
from runyard_workers.agent_code import run_output
from runyard_workers.development import Development


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Development]]:
    """The launcher's end, and the worker's."""
    ours, theirs = socket.socketpair()
    launcher, worker = Connection(ours), Connection(theirs)
    yield launcher, Development(worker)
    launcher.close()
    worker.close()


def test_debug_lines_of_libraries_are_not_shown_and_those_of_the_author_are(
    ends: tuple[Connection, Development], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    launcher, worker = ends
    own, installed = ModuleType("shop"), ModuleType("parts")
    own.__file__ = str(tmp_path / "shop.py")
    installed.__file__ = str(tmp_path / "lib" / "site-packages" / "parts" / "__init__.py")
    monkeypatch.setitem(sys.modules, "shop", own)
    monkeypatch.setitem(sys.modules, "parts", installed)
    run_output.install()
    for name in ("shop", "parts.deep", "my"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
        logging.getLogger(name).manager._clear_cache()  # type: ignore[attr-defined]
    with worker.loading():
        logging.getLogger("parts.deep").debug("genregxp 1")
        logging.getLogger("parts.deep").warning("a warning")
        logging.getLogger("shop").debug("mine")
        logging.getLogger("my").debug("mine, too")
    received = launcher.received()
    assert [next(received)["text"] for _ in range(3)] == ["a warning", "mine", "mine, too"]


def test_a_source_that_is_not_there_is_reported(
    ends: tuple[Connection, Development], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    launcher, worker = ends
    monkeypatch.chdir(tmp_path)
    launcher.send(development.SERVE)
    with pytest.raises(ConfigurationError):
        execution._load(Settings(agents="gone_agents.py"), worker)
    message = next(launcher.received())
    assert (message["kind"], message["agents"]) == (development.LOADED, [])
    assert "gone_agents.py" in message["broken"][0]["problem"]


def test_an_authors_package_of_a_librarys_name_is_not_imported_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    own, installed = ModuleType("agents"), ModuleType("agents")
    own.__file__ = "/project/agents/__init__.py"
    installed.__file__ = "/project/.venv/lib/python3.11/site-packages/agents/__init__.py"
    for module, is_installed in ((own, False), (installed, True)):
        monkeypatch.setitem(sys.modules, "agents", module)
        assert reports._is_installed("agents") is is_installed
