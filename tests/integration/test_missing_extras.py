"""A server with the extra `server` alone: what works, and the errors of what needs another extra."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.partly_installed import python

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

_PROGRAM = """
import json, os, sys
from pathlib import Path
from runyard import Context, agent, extras
from runyard.testing import call, run

home = Path(sys.argv[1])
found = {}

@agent("@shop/total")
async def total(ctx: Context, args: dict[str, list[int]]) -> int:
    return sum(args["lines"])

@agent("@shop/asks")
async def asks(ctx: Context, args: dict[str, str]) -> str:
    ctx.client(args["vendor"])
    return ""

def outcome(agent, args=None, **more):
    done = run(agent, args, **more)
    return [done.status, done.output if done.error is None else done.error["message"], (done.error or {}).get("code")]

TRIAGE = {"name": "@shop/triage", "version": "1.0.0", "instructions": "Sort."}
found["python"] = outcome(total, {"lines": [1, 2]})
found["declared"] = outcome(TRIAGE, message="x", model=["sorted"])
servers = [{"name": "shop", "url": "https://mcp.invalid/mcp"}]
found["mcp"] = outcome(TRIAGE | {"mcp_servers": servers}, message="x", model=["sorted"])
found["client"] = outcome(asks, {"vendor": "openai"})
found["text"] = outcome(TRIAGE, message="x", model=["sorted"], files={"order.txt": b"order"})

# In this process, not in one of the pool, where every distribution can be imported.
from runyard_workers.documents.extract import extract
from runyard_workers.documents.extraction import ExtractionError
try:
    extract(b"%PDF-1.7 order", "order.pdf")
except ExtractionError as error:
    found["pdf"] = [error.code, error.message]

from runyard_common.environment import load
from runyard_common.start_checks import problems

def refused(**values):
    return [[problem.field, problem.message] for problem in problems(load(home=home, **values))]

found["sqlite"] = refused()
found["postgres"] = refused(database_url="postgresql://user@db.invalid/runyard")
found["bucket"] = refused(files_url="s3://files/here")
for name in ("anthropic:claude", "google:gemini", "openai:gpt"):
    found[name] = refused(model=name)

import asyncio
from runyard_workers.agent.sql import Caps, QueryFailed, open_source
from runyard_common.outbound import OutboundPolicy

async def asked(url):
    async def blocking(fn, *args):
        return fn(*args)
    policy = OutboundPolicy.of(load(home=home, allow_private_urls=True))
    try:
        await open_source(url, policy, home).query("SELECT 1", [], Caps(), blocking)
    except QueryFailed as failed:
        return str(failed)

for name in ("postgresql", "mysql"):
    found[name] = asyncio.run(asked(f"{name}://user@127.0.0.1:9/shop"))

from runyard import adapters
for name in ("langgraph",):
    try:
        getattr(adapters, name)
    except ImportError as error:
        found[name] = str(error)

import contextlib, io
from runyard_launch.cli.doctor import doctor
os.environ |= {
    "COLUMNS": "400", "RUNYARD_HOME": str(home), "RUNYARD_DATABASE_URL": "postgresql://user@db.invalid/runyard",
    "RUNYARD_MODEL": "openai:gpt", "OPENAI_API_KEY": "key",
}
with contextlib.redirect_stdout(io.StringIO()) as shown:
    code = doctor()
found["doctor"] = [code, shown.getvalue()]

from runyard_common.database import migrate
with contextlib.redirect_stderr(io.StringIO()) as shown:
    code = migrate.main([])
found["migrate"] = [code, shown.getvalue()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process with the extra `server` alone has met."""
    home: Path = tmp_path_factory.mktemp("home")
    done = python(_PROGRAM, str(home), extras=["server"], seconds=150)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_python_and_declared_agents_run_on_sqlite(found: dict[str, Any]) -> None:
    assert found["sqlite"] == []
    assert found["python"] == ["completed", 3, None]
    assert found["declared"][::2] == ["completed", None]
    assert found["text"][0] == "completed"


@pytest.mark.parametrize(("use", "extra"), [("mcp", "mcp"), ("client", "openai")])
def test_a_run_that_needs_another_extra_fails_with_its_name(
    found: dict[str, Any], use: str, extra: str
) -> None:
    status, message, code = found[use]
    assert (status, code) == ("failed", "missing_extra")
    assert f'pip install "runyard[{extra}]"' in message


def test_a_document_that_cannot_be_read_here_is_an_error_of_the_file(found: dict[str, Any]) -> None:
    code, message = found["pdf"]
    assert code == "file_reader_missing"
    assert "runyard[files]" in message


@pytest.mark.parametrize(
    ("use", "field", "extra"),
    [
        ("postgres", "RUNYARD_DATABASE_URL", "postgres"),
        ("bucket", "RUNYARD_FILES_URL", "s3"),
        ("anthropic:claude", "RUNYARD_MODEL", "anthropic"),
        ("google:gemini", "RUNYARD_MODEL", "google"),
        ("openai:gpt", "RUNYARD_MODEL", "openai"),
    ],
)
def test_a_setting_that_needs_another_extra_is_refused_at_the_start(
    found: dict[str, Any], use: str, field: str, extra: str
) -> None:
    ((named, message),) = found[use]
    assert named == field
    assert field in message
    assert f'pip install "runyard[{extra}]"' in message


def test_doctor_shows_the_extra_that_a_setting_needs(found: dict[str, Any]) -> None:
    code, shown = found["doctor"]
    assert code == 1
    assert 'pip install "runyard[postgres]"' in shown
    (model,) = [line for line in shown.splitlines() if line.split()[:1] == ["model"]]
    assert model.split()[1] == "failed"
    assert 'pip install "runyard[openai]"' in model


def test_migrations_without_their_driver_name_its_extra_in_one_line(found: dict[str, Any]) -> None:
    code, shown = found["migrate"]
    assert (code, shown.count("\n")) == (2, 1)
    assert 'pip install "runyard[postgres]"' in shown


@pytest.mark.parametrize(
    ("use", "extra"), [("postgresql", "postgres"), ("mysql", "mysql"), ("langgraph", "langgraph")]
)
def test_a_query_or_an_adapter_without_its_library_names_the_extra(
    found: dict[str, Any], use: str, extra: str
) -> None:
    assert f"runyard[{extra}]" in found[use]
