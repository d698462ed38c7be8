"""Clients generated from the OpenAPI document, in TypeScript and Python, type-check with a first call."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from runyard_api.documents import openapi
from runyard_api.fronts import operations
from tests.contract import fetched_tools

pytestmark = [pytest.mark.timeout(600), pytest.mark.conformance]

NODE = {"openapi-fetch": "0.17.0", "openapi-typescript": "7.13.0", "typescript": "5.9.3"}
#: Its requirements contradict ours, so it is no dependency of the tests.
PYTHON = ("openapi-python-client", "0.29.1")
FIRST_CALL = """
from runyard_generated import AuthenticatedClient
from runyard_generated.api.runs import native_run
from runyard_generated.models import Accepted, RunRequest, WebhookBody

client = AuthenticatedClient(base_url="http://localhost:8000", token="ry_…")
accepted = native_run.sync(agent="@example/writer", client=client, body=RunRequest(query="Hello."))
if isinstance(accepted, Accepted):
    task_id: str = accepted.task_id
hook = WebhookBody(url="https://example.com/hook")
"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    file.write_bytes(openapi.text(operations()))
    return file


@pytest.mark.parametrize("options", [[], ["--enum"]], ids=["unions", "enums"])
def test_a_typescript_client_type_checks(document: Path, options: list[str]) -> None:
    installed = fetched_tools.from_npm("openapi-clients", NODE)
    program = document.parent / "first_call.ts"
    shutil.copy(Path(__file__).parent / "pages" / "first_call.ts", program)
    (document.parent / "node_modules").symlink_to(installed / "node_modules")
    tools = installed / "node_modules" / ".bin"
    schema = document.with_name("schema.ts")
    fetched_tools.run(
        [str(tools / "openapi-typescript"), str(document), "-o", str(schema), *options], document.parent
    )
    if options:  # enums are not the texts they stand for, so the program's own texts do not fit
        program = schema
    check = [
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--module",
        "esnext",
        "--moduleResolution",
        "bundler",
    ]
    fetched_tools.run([str(tools / "tsc"), *check, str(program)], document.parent)


def test_a_python_client_type_checks(document: Path) -> None:
    installed = fetched_tools.from_pypi("openapi-python-client", *PYTHON)
    folder = document.parent
    generator = installed / "bin" / "openapi-python-client"
    generate = ["generate", "--path", str(document), "--output-path", "runyard_generated", "--meta", "none"]
    made = fetched_tools.run([str(generator), *generate], folder)
    assert "WARNING" not in made, made
    (folder / "first_call.py").write_text(FIRST_CALL)
    kept = installed.parent / "mypy"  # what has not changed is not checked again
    check = ["--config-file=", f"--cache-dir={kept}", f"--python-executable={installed / 'bin' / 'python'}"]
    fetched_tools.run([sys.executable, "-m", "mypy", *check, "first_call.py", "runyard_generated"], folder)
