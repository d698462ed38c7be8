"""The codes of commands' failures are in docs/operations.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.launching import ROOT

#: What makes a failure with a code: as the second argument, or as `code`.
MAKERS = {"CommandFailed", "refused"}


def codes(tree: ast.AST) -> Iterator[str]:
    """Those that are written out in a module: as an argument, or as the code of an exception."""
    for node in ast.walk(tree):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
            given = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "code")]
        elif isinstance(node, ast.ClassDef):
            assigned = [line for line in node.body if isinstance(line, ast.Assign)]
            given = [line.value for line in assigned if ast.unparse(line.targets[0]) == "code"]
        yield from (
            one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)
        )


@pytest.mark.documents
def test_each_code_of_a_failed_command_is_documented() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    files = (ROOT / "launch").rglob("*.py")
    written = {code for file in files for code in codes(ast.parse(file.read_text()))}
    assert len(written) > 20
    assert sorted(code for code in written | {"configuration"} if f"`{code}`" not in text) == []
