"""The image's file: what its steps name is there. `make image-check` carries the steps out."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType
from typing import Any

import pytest

from tests.stack import ROOT

KNOWN = {"ARG", "FROM", "WORKDIR", "ENV", "RUN", "COPY", "USER", "VOLUME", "EXPOSE", "ENTRYPOINT"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """tools/image_check.py."""
    spec: Any = importlib.util.spec_from_file_location("image_check", ROOT / "tools" / "image_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_check_knows_every_step_of_the_file(tool: ModuleType) -> None:
    found = tool.steps((ROOT / "deploy" / "Dockerfile").read_text())
    assert {word for word, _ in found} == KNOWN
    source = (ROOT / "tools" / "image_check.py").read_text()
    handled = set(re.findall(r'word == "([A-Z]+)"', source)) | set(tool.IGNORED)
    assert handled == KNOWN


def test_what_is_copied_is_there_and_the_last_account_is_not_root(tool: ModuleType) -> None:
    found = tool.steps((ROOT / "deploy" / "Dockerfile").read_text())
    for rest in (rest for word, rest in found if word == "COPY" and not rest.startswith("--from=")):
        *sources, _ = rest.split()
        assert all((ROOT / source).exists() for source in sources), rest
    assert [rest for word, rest in found if word == "USER"] == ["runyard"]
    uid = re.search(r"useradd .*--uid (\d+)", " ".join(rest for word, rest in found if word == "RUN"))
    assert uid is not None
    assert uid[1] == tool.UID
