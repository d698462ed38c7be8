"""What authors' type checkers see: mypy and pyright, each strict, over files that are right and files that are not."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[3]
AUTHORS = ROOT / "tests" / "typed_authors"
#: ``# error: arg-type, reportArgumentType``: what mypy, then pyright reports there, maybe with what follows from it.
MARK = re.compile(r"# error: ([\w-]+), ([\w-]+)$")
Found = dict[tuple[str, int], set[str]]


@functools.cache
def mypy() -> Found:
    """What mypy reports, by file and line."""
    answer = _run(
        "-m", "mypy", "--strict", "--config-file", str(AUTHORS / "mypy.ini"), "--cache-dir",
        str(ROOT / ".mypy_cache" / "authors"), "--output", "json", str(AUTHORS),
    )  # fmt: skip
    reports = [json.loads(line) for line in answer.splitlines() if line.startswith("{")]
    return _by_line([(r["file"], r["line"], r["code"]) for r in reports if r["severity"] == "error"])


@functools.cache
def pyright() -> Found:
    """The same of pyright, in the distribution that brings its Node.js along."""
    answer = _run("-m", "basedpyright", "--outputjson", "--project", str(AUTHORS / "pyrightconfig.json"))
    reports = json.loads(answer)["generalDiagnostics"]
    return _by_line([(r["file"], r["range"]["start"]["line"] + 1, r.get("rule", "syntax")) for r in reports])


def _run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def _by_line(reports: list[tuple[str, int, str]]) -> Found:
    found: Found = {}
    for file, line, code in reports:
        found.setdefault((Path(file).name, line), set()).add(code)
    return found


def marked(place: int) -> dict[tuple[str, int], str]:
    """The marks of the files for one checker."""
    found: dict[tuple[str, int], str] = {}
    for file in (AUTHORS / "refused").glob("*.py"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            mark = MARK.search(line)
            if mark:
                found[file.name, number] = mark[place]
    return found


@pytest.mark.parametrize(("checker", "place"), [(mypy, 1), (pyright, 2)], ids=["mypy", "pyright"])
def test_each_mistake_is_reported_where_it_is_and_nothing_else(
    checker: Callable[[], Found], place: int
) -> None:
    expected = marked(place)
    assert len(expected) > 25
    found = checker()
    assert set(found) == set(expected)
    assert [place for place, code in expected.items() if code not in found[place]] == []
