"""What is the author's is left alone: logging, signals, event loops, processes, warnings, environment, `.env`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processes

_STATE = """
import asyncio, json, logging, multiprocessing, os, signal, sys, warnings

def state():
    root = logging.getLogger()
    return {
        "handlers": repr(root.handlers),
        "level": root.level,
        "last resort": repr(logging.lastResort),
        "loggers disabled": root.manager.disable,
        "signals": {str(n): repr(signal.getsignal(n)) for n in signal.valid_signals()},
        "policy": repr(asyncio.get_event_loop_policy()),
        "start method": multiprocessing.get_start_method(allow_none=True),
        # A worker is Celery's program: it counts its own classes of warnings, and names its log to its children.
        "warnings": repr([f for f in warnings.filters if not f[2].__module__.startswith("celery.")]),
        "environment": {n: v for n, v in os.environ.items() if not n.startswith(("CELERY_LOG_", "_MP_FORK_"))},
        "excepthook": repr(sys.excepthook),
    }

asyncio.get_event_loop_policy()
before = state()
"""
_COMPARED = """
after = state()
print(json.dumps({name: [before[name], after[name]] for name in before if before[name] != after[name]}))
"""
#: A `.env` of another program: other names, no assignments, an open quote, bytes that are no UTF-8.
FOREIGN = (
    b'DATABASE_URL=mysql://shop\nFASTMCP_LOG_LEVEL=shout\n=== "\nNAME=caf\xe9\nexport A\nB="open\nDEBUG=1\n'
)


def _python(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    command = [sys.executable, "-P", "-c", code]
    environ = kept | variables
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)


def changed(code: str, folder: Path) -> Any:
    """What the code changes of its process."""
    (folder / ".env").write_bytes(FOREIGN + b"RUNYARD_URL=http://elsewhere.invalid\nRUNYARD_PORT=none\n")
    done = _python(_STATE + code + _COMPARED, folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_package_and_its_client_change_nothing_of_their_process(tmp_path: Path) -> None:
    code = (
        "import runyard, runyard.testing, runyard.adapters\n"
        "@runyard.agent('a')\ndef a(ctx, args): return args\n"
        "with runyard.Client('http://127.0.0.1:9', 'key') as client:\n    pass\n"
    )
    assert changed(code, tmp_path) == {}


def test_a_run_in_a_test_changes_nothing_of_its_process(tmp_path: Path) -> None:
    code = (
        "import runyard\nfrom runyard.testing import run\n"
        "@runyard.agent('a')\nasync def a(ctx, args): return args\n"
        "assert run(a, {'n': 1}).output == {'n': 1}\n"
    )
    assert changed(code, tmp_path) == {}


_WORKER = """
import runyard_workers.app as worker
worker.app.log.setup(loglevel="WARNING")  # as `celery worker` does when it starts
logging.getLogger("library").warning("of a library")
"""
_AUTHOR = """
logging.basicConfig(level=logging.DEBUG, format="AUTHOR %(message)s")
logging.getLogger("shop").debug("of the shop")
"""


def test_a_worker_leaves_the_root_logger_and_the_rest_to_its_authors(tmp_path: Path) -> None:
    """Its own signals, and its `.env`, come with the process that it is."""
    code = _STATE + _WORKER + _COMPARED + _AUTHOR
    done = _python(code, tmp_path, RUNYARD_BROKER_URL="redis://127.0.0.1:9", RUNYARD_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]).keys() <= {"last resort"}
    library, shop = done.stderr.splitlines()[-2:]
    assert library.endswith("WARNING library of a library")
    assert shop == "AUTHOR of the shop"


def test_a_worker_reads_no_settings_of_other_libraries_from_the_project_s_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(FOREIGN)
    code = "import runyard_workers.agent.tools.mcp, fastmcp; print(fastmcp.settings.log_level)"
    done = _python(code, tmp_path)
    assert (done.stdout.strip(), done.returncode) == ("INFO", 0), done.stderr
