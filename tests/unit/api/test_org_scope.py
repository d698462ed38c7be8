"""The api reaches rows by their organisation: of the queries and services it calls, none takes a bare id."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

pytestmark = pytest.mark.documents
API = Path(__file__).parents[3] / "api" / "runyard_api"
#: Nouns whose rows belong to one organisation; agents may be shared, people belong to several.
NOUNS = ("runs", "human_tasks", "sessions", "webhooks", "schedules", "datastores")
#: Types of parameters that name the organisation.
WITH_ORGANISATION = {"OrgScope", "Caller"}
IDS = re.compile(r"(?:^|_)ids?_?$")


def called(file: Path) -> Iterator[tuple[str, str]]:
    """The functions of queries and services that a module names: (module, name)."""
    tree = ast.parse(file.read_text())
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            noun, _, layer = node.module.removeprefix("runyard_common.").partition(".")
            for name in node.names if noun in NOUNS and not layer.startswith(("rules", "tables")) else ():
                modules[name.asname or name.name] = f"{node.module}.{name.name}"
                yield node.module, name.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


def is_scoped(function: Callable[..., Any]) -> bool:
    """Whether it takes an organisation, or rows and values instead of ids: those come of scoped reads."""
    parameters = inspect.signature(function).parameters
    if "org_id" in parameters or WITH_ORGANISATION & {str(one.annotation) for one in parameters.values()}:
        return True
    return not any(IDS.search(name) for name in parameters)


def functions() -> dict[str, FunctionType]:
    found: dict[str, FunctionType] = {}
    for file in API.rglob("*.py"):
        for module, name in called(file):
            try:
                value = getattr(importlib.import_module(module), name, None)
            except ModuleNotFoundError:
                continue
            if isinstance(value, FunctionType):
                found[f"{module}.{name}"] = value
    return found


def test_every_query_and_service_that_the_api_calls_is_scoped_to_an_organisation() -> None:
    found = functions()
    assert "runyard_common.runs.queries.tasks.get" in found
    assert [name for name, function in found.items() if not is_scoped(function)] == []


def test_a_query_by_id_alone_would_be_refused() -> None:
    from runyard_common.runs.queries import tasks

    assert not is_scoped(tasks.load)
