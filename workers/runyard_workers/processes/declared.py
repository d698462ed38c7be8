"""Finds an agent in a process that has not loaded it: its module is imported, and where that does not declare it, all
that its worker has loaded."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from runyard import authoring
from runyard.authoring import AgentDefinition, every_version
from runyard_workers.agent_code.exceptions import abnormal, summary


class NotFound(Exception):
    """The agent's code cannot be loaded; the text is why."""


def definition(agent: str, module: str, file: str, sources: Sequence[str]) -> AgentDefinition:
    """The agent of this name and version, declared in `module`, whose file is `file`. Raises `NotFound`."""
    problems: list[str] = []
    loads: list[Callable[[], None]] = [partial(_import, module, file), partial(_load, sources)]
    for load in loads:
        authoring._imported_for_process = True
        try:
            load()
        except BaseException as error:  # noqa: BLE001 - an import may also exit
            ordinary = error if isinstance(error, Exception) else abnormal(error)
            problems.append(summary(ordinary))
        finally:
            authoring._imported_for_process = False
        found = every_version().get(agent)
        if found is not None:
            return found
    why = problems[0] if problems else "importing its module does not declare it"
    raise NotFound(
        f"{agent} cannot be loaded in a process of its own: {why}. Declare it at the top of a module."
    )


def _import(module: str, file: str) -> None:
    if not module:
        return
    if module != "__main__":
        try:
            importlib.import_module(module)
            return
        except ModuleNotFoundError as missing:
            if missing.name is None or not f"{module}.".startswith(f"{missing.name}."):
                raise
    _import_file("runyard_main" if module == "__main__" else module, file)


def _import_file(name: str, file: str) -> None:
    """A module that has no place on the path: a program, or a file whose name is in use."""
    if not Path(file).is_file():
        return
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _load(sources: Sequence[str]) -> None:
    if sources:
        from runyard_workers.agent_code.catalogue import load_each

        load_each(sources)
