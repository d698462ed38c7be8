"""The Python snippets of docs/testing.md run, in order."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from runyard import authoring

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()


@pytest.mark.timeout(180)
def test_the_snippets_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authoring, "_registry", {})
    module = types.ModuleType("testing_doc")
    monkeypatch.setitem(sys.modules, "testing_doc", module)
    # One module, as a reader would have it: a module that is executed again replaces what it declared.
    text = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    exec(compile(text, "docs/testing.md", "exec"), module.__dict__)
