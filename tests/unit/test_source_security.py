"""What the code of the servers never does, for any input."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("api", "common", "launch", "runyard", "runyard_pytest", "scheduler", "workers")
#: Calls that run what they are given, or let others choose what is run.
FORBIDDEN = {
    "eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.load", "marshal.loads",
    "shelve.open", "yaml.unsafe_load", "yaml.full_load", "hashlib.md5", "ssl._create_unverified_context",
    "tempfile.mktemp",
}  # fmt: skip
#: Where random numbers are no secret: jitter, ids, places in a rotation.
RANDOM = {
    "common/runyard_common/stream/wake_ups.py",
    "api/runyard_api/app.py",
    "common/runyard_common/webhooks/rules/delivery.py",
    "common/runyard_common/values/ids.py",
    "common/runyard_common/runs/service/attempts.py",
    "common/runyard_common/runs/service/rescues.py",
    "common/runyard_common/stream/follower.py",
    "runyard/adapters/_langgraph_saver.py",
    "runyard/client_calls.py",
    "workers/runyard_workers/agent/tools/mcp.py",
    "workers/runyard_workers/webhooks/call.py",
    "workers/runyard_workers/webhooks/deliverer.py",
}


@functools.cache
def _nodes() -> list[tuple[str, ast.AST]]:
    """Every call and import of the servers' code, by file."""
    return [
        (file.relative_to(ROOT).as_posix(), node)
        for folder in FOLDERS
        for file in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call | ast.Import | ast.ImportFrom)
    ]


def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    for file, node in _nodes():
        if isinstance(node, ast.Call):
            yield file, _dotted(node.func), node


def _dotted(called: ast.expr) -> str:
    if isinstance(called, ast.Attribute):
        return f"{_dotted(called.value)}.{called.attr}"
    return called.id if isinstance(called, ast.Name) else ""


def test_nothing_that_comes_from_outside_is_evaluated_unpickled_or_given_to_a_shell() -> None:
    found = [f"{file}: {called}" for file, called, _ in _calls() if called in FORBIDDEN]
    found.remove("workers/runyard_workers/processes/child.py: pickle.loads")  # what its own worker sends it
    shells = [
        f"{file}: {called}"
        for file, called, node in _calls()
        if any(keyword.arg == "shell" and ast.unparse(keyword.value) != "False" for keyword in node.keywords)
    ]
    assert found + shells == []


def test_secrets_are_never_made_of_numbers_that_can_be_foretold() -> None:
    users = {
        file
        for file, node in _nodes()
        if (isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "random")
    }
    assert users <= RANDOM, "secrets makes what must not be guessed"


@pytest.mark.processes
def test_what_a_caller_sends_cannot_forge_a_line_of_the_log() -> None:
    sent = '/x\n{"event": "forged"}\r\x1b[2J'
    program = (
        "from runyard_common import telemetry; telemetry.configure(); import structlog, sys;"
        "structlog.get_logger().warning('A request failed.', action='request', path=sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, sent],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    [line] = done.stderr.splitlines()
    assert json.loads(line)["event"] == "A request failed."
    assert "\x1b" not in line
