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

class Installed:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if path is None and name.partition(".")[0] not in ALLOWED:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Installed(finder) for finder in sys.meta_path]
for name in [name for name in sys.modules if name.partition(".")[0] not in ALLOWED]:
    del sys.modules[name]  # what a .pth file imported
"""

#: The packages of our two distributions, which are those of the checkout here.
OWN = frozenset({"runyard", "runyard_pytest"})
OWN_OF_SERVER = frozenset(f"runyard_{one}" for one in ("api", "common", "launch", "scheduler", "workers"))


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
    found = distributions(*extras)
    files = [file for name in found for file in metadata.files(name) or []]
    others = {file.parts[0].partition(".")[0] for file in files if file.parts[0] != ".."}
    return frozenset(others | OWN | (OWN_OF_SERVER if "runyard-server" in found else set()))


def python(
    code: str, *arguments: str, extras: Iterable[str] = (), seconds: float = 60, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run code in such a process. `more` are further variables of its environment."""
    built = {sysconfig._get_sysconfigdata_name()}  # type: ignore[attr-defined]  # part of the standard library
    allowed = sorted(
        {*sys.stdlib_module_names, *built, *sys.builtin_module_names, *modules(*extras), "__main__"}
    )
    program = _ONLY.replace("ALLOWED", f"{set(allowed)!r}") + code
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], capture_output=True, text=True, timeout=seconds,
        env=_environment() | more,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
