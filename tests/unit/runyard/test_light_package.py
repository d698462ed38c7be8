"""What the package needs without its extras, and the error where one is needed and not installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runyard.__main__ import main
from tests.partly_installed import distributions, python

pytestmark = pytest.mark.processes
#: None of these may be a cost of a caller's program.
HEAVY = (
    "pydantic",
    "pydantic_core",
    "sqlalchemy",
    "celery",
    "starlette",
    "rich",
    "typer",
    "redis",
    "cryptography",
)
PROJECT = """
import json
from dataclasses import dataclass
from runyard import Client, Context, agent, registered, tool

@dataclass
class Order:
    lines: list[int]

@agent("total")
async def total(ctx: Context, order: Order) -> dict[str, int]:
    return {"total": sum(order.lines)}

@tool()
def price(article: str) -> float:
    "What an article costs."
    return 1.0
"""


def test_the_base_has_the_clients_http_library_and_little_else() -> None:
    assert distributions() == distributions("client")
    assert distributions() == {
        "anyio", "h11", "httpcore2", "httpx2", "idna", "orjson", "truststore", "typing-extensions",
    }  # fmt: skip


def test_the_client_and_the_package_import_no_part_of_a_server() -> None:
    code = f"import runyard, sys; runyard.Client; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_project_of_agents_is_imported_where_only_the_base_is_installed() -> None:
    done = python(PROJECT + "print(json.dumps(registered()['@default/total'].manifest))")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "@default/total"


@pytest.mark.parametrize(
    ("use", "extra"),
    [
        ("from runyard.testing import run; run(total, {'lines': [1]})", "server"),
        ("from runyard.testing import occurrences; occurrences('0 9 * * *')", "server"),
        ("from runyard.testing import replay; replay(total, 'journal.json')", "server"),
        ("import runyard.json_types", "typed"),
        ("from runyard.json_form import convert; import datetime; convert(datetime.timedelta(1))", "typed"),
    ],
)
def test_what_needs_an_extra_names_it(use: str, extra: str) -> None:
    done = python(PROJECT + use)
    assert f'pip install "runyard[{extra}]"' in done.stderr.splitlines()[-1]


def test_a_plain_value_needs_no_extra_for_its_json_form() -> None:
    done = python(PROJECT + "from runyard.json_form import encode; print(encode({'order': Order([1, 2])}))")
    assert done.stdout.strip() == """b'{"order":{"lines":[1,2]}}'""", done.stderr


COMMAND = "from runyard.__main__ import main; main()"


def test_the_command_without_its_extra_names_it_and_knows_its_version() -> None:
    assert python(COMMAND, "--version").stdout == "runyard 0.1.0\n"
    refused = python(COMMAND, "tasks", "list")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.endswith('pip install "runyard[cli]".\n')
    error = json.loads(python(COMMAND, "tasks", "list", "--json").stderr)["error"]
    assert (error["code"], error["exit_code"]) == ("missing_extra", 2)


def test_a_server_of_another_version_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "runyard.__main__.version", {"runyard": "0.3.0", "runyard-server": "0.2.0"}.__getitem__
    )
    monkeypatch.setattr(sys, "argv", ["runyard", "tasks", "list", "--json"])
    with pytest.raises(SystemExit, match="2"):
        main()
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["exit_code"]) == ("versions_differ", 2)
    assert "runyard is 0.3.0 and runyard-server 0.2.0" in error["message"]
    assert 'pip install "runyard[server]==0.3.0"' in error["message"]


@pytest.mark.parametrize("words", ["up", "worker", "doctor", "agents publish agents.py", "members list"])
def test_a_command_of_this_machine_names_the_extra_of_the_server(words: str) -> None:
    refused = python(COMMAND, *words.split(), extras=["cli"])
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.count("\n") == 1
    assert "runyard[server]" in refused.stderr
