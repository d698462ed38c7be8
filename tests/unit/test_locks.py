"""The locks are complete: everything that a locked package needs is in them, so that nothing has to be resolved.

`tools/bootstrap.sh` installs them without resolving, because the pip of Debian 12 (23.0) refuses to where a dependency
asks for extras (`pydantic[email]`) of a package whose hash is pinned.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
#: What `make run` and the image install, which tools/lock.sh names.
EXTRAS = frozenset(
    {"server", "local", "postgres", "mysql", "s3", "openai", "anthropic", "google", "mcp", "otel", "files"}
)


def locked(name: str) -> dict[str, str]:
    """Versions by name, of what is meant for this machine."""
    lines = (ROOT / name).read_text().splitlines()
    found = [re.match(r"([\w.-]+)==(\S+)(?: ; (.*?))?(?: \\)?$", line) for line in lines]
    meant = [one for one in found if one and (one[3] is None or Marker(one[3]).evaluate())]
    return {str(canonicalize_name(one[1])): one[2] for one in meant}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_what_a_locked_package_needs_is_locked_too(lock: str) -> None:
    have = locked(lock)
    assert len(have) > 100
    todo = [(canonicalize_name("runyard"), EXTRAS)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        assert name in have or name in ("runyard", "runyard-server"), f"{name} is not in {lock}"
        needs = map(Requirement, metadata.requires(name) or [])
        wanted = [need for need in needs if any(_applies(need, extra) for extra in ("", *extras))]
        todo += [(canonicalize_name(need.name), frozenset(need.extras)) for need in wanted]
    assert ("pydantic", frozenset({"email"})) in seen, "the case that older versions of pip cannot resolve"


def test_the_locks_are_made_of_the_extras_of_a_whole_server() -> None:
    (named,) = re.findall(r"for extra in ([a-z0-9 ]+);", (ROOT / "tools/lock.sh").read_text())
    assert set(named.split()) == EXTRAS


def _applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def test_the_fallback_to_pip_resolves_nothing() -> None:
    script = (ROOT / "tools/bootstrap.sh").read_text()
    for line in script.splitlines():
        if "pip install" in line and "requirements-build.lock" not in line:
            assert "--no-deps" in line, line
    for line in (ROOT / "deploy/Dockerfile").read_text().splitlines():
        if "-r requirements.lock" in line:
            assert "--no-deps" in line, line
