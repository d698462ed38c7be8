"""Adapters cost nothing until they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runyard import adapters

LIBRARIES = ("agents", "anthropic", "celery", "langchain_core", "langgraph", "openai", "pydantic_ai", "redis")


@pytest.mark.processes
def test_no_library_of_an_adapter_is_imported_before_its_adapter_is_used() -> None:
    code = (
        f"import sys, runyard, runyard.adapters; print([name for name in {LIBRARIES} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_adapter_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'crew'"):
        adapters.crew  # noqa: B018
