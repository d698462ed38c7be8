"""What pages for operators promise is there: a test for each failure, migrations that the version before works on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard_common.database import migrations

pytestmark = pytest.mark.documents
ROOT = Path(__file__).parents[2]
VERSIONS = sorted((Path(next(iter(migrations.__path__))) / "versions").glob("[0-9]*.py"))
#: What takes something away or changes it: a process of the version before could still use it.
CONTRACTS = {"drop_column", "drop_table", "alter_column", "rename_table", "drop_constraint"}
#: Migrations that do, and why they may.
EXCEPTED = {"0002": "from before the first release"}


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


MIGRATING = 3  # connections of `runyard migrate`


def test_each_failure_names_a_test_that_is_there() -> None:
    rows = [
        line for line in section(page("operations"), "What happens when something dies").splitlines()
        if line.startswith("| ")
    ][2:]  # fmt: skip
    files = (ROOT / "tests").rglob("test_*.py")
    there = {name for file in files for name in re.findall(r"def test_(\w+)\(", file.read_text())}
    named = [re.search(r"\| `(\w+)` \|$", row) for row in rows]
    assert len(rows) > 25
    assert [row for row, found in zip(rows, named, strict=True) if not found or found[1] not in there] == []


def test_connections_add_up() -> None:
    each = dict(re.findall(r"^\| (api|worker|scheduler) \| (\d+) \(", page("operations"), re.MULTILINE))
    sums = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page("sizing"), re.MULTILINE)
    assert f", {MIGRATING} while `runyard migrate` runs, and ten for yourself" in page("sizing")
    most = [int(each[name]) + 1 for name in ("api", "worker", "scheduler")]
    assert len(sums) > 3
    for *counts, total in sums:
        assert sum(int(n) * of for n, of in zip(counts, most, strict=True)) + MIGRATING + 10 == int(total)


def upward(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """The calls of a migration's way up, by the name of the function."""
    tree = ast.parse(file.read_text())
    down = {"downgrade"}
    for part in tree.body:
        if isinstance(part, ast.FunctionDef) and part.name in down:
            continue
        for call in ast.walk(part):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                yield call.func.attr, call


@pytest.mark.parametrize("file", VERSIONS, ids=lambda file: file.stem)
def test_a_migration_leaves_what_the_version_before_uses(file: Path) -> None:
    number = file.name.partition("_")[0]
    found = [name for name, _ in upward(file) if name in CONTRACTS]
    for name, call in upward(file):
        if name == "add_column":
            column = ast.unparse(call.args[-1])
            if "nullable=False" in column and "server_default" not in column:
                found.append(column)  # which the version before does not write
    assert found == [] or number in EXCEPTED
