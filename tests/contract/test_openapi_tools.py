"""Linters and generators of others read the OpenAPI document without an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runyard_api.documents import openapi
from runyard_api.fronts import operations
from tests.contract import fetched_tools

pytestmark = [pytest.mark.timeout(600), pytest.mark.conformance]

NODE = {
    "@apidevtools/swagger-parser": "13.0.0",
    "@hey-api/openapi-ts": "0.95.0",
    "@redocly/cli": "2.77.0",
    "@stoplight/spectral-cli": "6.16.3",
    "typescript": "5.9.3",
}
PARSE = """
import parser from "@apidevtools/swagger-parser";
for (const file of process.argv.slice(2)) await parser.validate(file);
"""


@pytest.fixture(scope="module")
def tools() -> Path:
    return fetched_tools.from_npm("openapi-tools", NODE)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory, tools: Path) -> list[str]:
    """The files: the whole document first."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "node_modules").symlink_to(tools / "node_modules")
    files = []
    for front in ("", *openapi.names_of_fronts(operations())):
        file = folder / f"{front or 'whole'}.json"
        file.write_text(json.dumps(openapi.document(operations(), front=front)))
        files.append(str(file))
    return files


def test_redocly_reports_no_error(tools: Path, documents: list[str]) -> None:
    _run(tools, documents, "redocly", "lint", "--format=stylish", *documents)


def test_spectral_reports_no_error(tools: Path, documents: list[str]) -> None:
    rules = Path(documents[0]).with_name("rules.yaml")
    rules.write_text('extends: ["spectral:oas"]\n')
    _run(tools, documents, "spectral", "lint", "--ruleset", str(rules), "--fail-severity=warn", documents[0])


def test_swagger_parser_validates(tools: Path, documents: list[str]) -> None:
    program = Path(documents[0]).with_name("parse.mjs")
    program.write_text(PARSE)
    fetched_tools.run(["node", str(program), *documents], program.parent)


def test_hey_api_generates_code_that_type_checks(tools: Path, documents: list[str]) -> None:
    folder = Path(documents[0]).parent
    _run(tools, documents, "openapi-ts", "-i", documents[0], "-o", "hey", "--no-log-file")
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
    _run(
        tools,
        documents,
        "tsc",
        *check,
        "--lib",
        "es2022,dom,dom.iterable",
        "--skipLibCheck",
        str(folder / "hey" / "index.ts"),
    )


def _run(tools: Path, documents: list[str], name: str, *arguments: str) -> str:
    return fetched_tools.run(
        [str(tools / "node_modules" / ".bin" / name), *arguments], Path(documents[0]).parent
    )
