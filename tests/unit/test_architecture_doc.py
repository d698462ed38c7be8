"""docs/architecture.md names functions in the order a flow runs through them: each of them is there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
#: Where a reference's path may begin. References are written `path/to/module:name` or `path/to/module:Class.method`.
STARTS = (
    "common/runyard_common",
    "api/runyard_api",
    "workers/runyard_workers",
    "scheduler/runyard_scheduler",
)
REFERENCES = sorted(set(re.findall(r"`([a-z_/]+):([A-Za-z_.]+)`", PAGE)))
FLOWS = ("submit", "claim", "question", "cancel", "rescue", "schedule", "webhook", "model turn")


@functools.cache
def names(module: str) -> set[str]:
    """The functions, classes and methods of a module."""
    files = [ROOT / start / f"{module}.py" for start in STARTS]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return set()
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            own = (item for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)))
            found |= {f"{node.name}.{item.name}" for item in own}
    return found


@pytest.mark.documents
@pytest.mark.parametrize(("module", "name"), REFERENCES)
def test_every_function_that_a_flow_names_is_there(module: str, name: str) -> None:
    assert name in names(module), f"docs/architecture.md names {module}:{name}, which is not there"


@pytest.mark.documents
def test_every_flow_has_its_section_and_names_its_functions_in_order() -> None:
    sections = dict(re.findall(r"^## \d+\. ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for flow in FLOWS:
        text = next((text for title, text in sections.items() if flow in title.lower()), "")
        assert len(re.findall(r"^\d+\. .*`[a-z_/]+:", text, re.MULTILINE)) >= 4, (
            f"the flow {flow!r} names too few functions"
        )
