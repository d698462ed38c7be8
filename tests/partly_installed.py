"""A process in which only some extras of the package are installed: no other distribution can be imported there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ONLY = """
import sys
from importlib.machinery import PathFinder

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if path is None and name.partition(".")[0] not in ALLOWED:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[:] = [Installed if finder is PathFinder else finder for finder in sys.meta_path]
for name in [name for name in sys.modules if name.partition(".")[0] not in ALLOWED]:
    del sys.modules[name]  # what a .pth file imported
"""


@cache
def distributions(*extras: str) -> frozenset[str]:
    """The distributions that an installation of the package with these extras has, without itself."""
    todo = [("runyard", frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, wanted = item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        for need in map(Requirement, metadata.requires(name) or []):
            marker = need.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                todo.append((str(canonicalize_name(need.name)), frozenset(need.extras)))
    return frozenset(name for name, _ in seen if name != "runyard")


@cache
def modules(*extras: str) -> frozenset[str]:
    """The top-level modules of such an installation."""
    files = [file for name in distributions(*extras) for file in metadata.files(name) or []]
    return frozenset(file.parts[0].partition(".")[0] for file in files if file.parts[0] != "..")


def python(
    code: str, *arguments: str, extras: Iterable[str] = (), seconds: float = 60, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run code in such a process. `more` are further variables of its environment."""
    own = {
        "__main__",
        "runyard",
        *(f"runyard_{one}" for one in ("api", "common", "launch", "scheduler", "workers")),
    }
    built = {sysconfig._get_sysconfigdata_name()}  # type: ignore[attr-defined]  # part of the standard library
    allowed = sorted({*sys.stdlib_module_names, *built, *sys.builtin_module_names, *modules(*extras), *own})
    program = _ONLY.replace("ALLOWED", f"{set(allowed)!r}") + code
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], capture_output=True, text=True, timeout=seconds,
        env=_environment() | more,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
