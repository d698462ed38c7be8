"""docs/security.md names a test for each line, and each of them exists."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
#: What no test can show here.
WITHOUT_TEST = {"9.2.4", "14.2.1", "14.2.5", "14.3.2"}


def _rows() -> list[list[str]]:
    rows = [line.strip("| \n").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if not row[0].startswith("---")]


def test_every_line_of_the_security_page_is_shown_by_a_test() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    lines = [row for row in _rows() if row[-1] != "test"]
    assert len(lines) > 70
    missing = [row[-1] for row in lines if row[-1] != "—" and f"def test_{row[-1].strip('`')}(" not in tests]
    assert missing == []
    assert {row[0].split()[0] for row in lines if row[-1] == "—"} == WITHOUT_TEST


def test_the_ten_risks_are_all_there() -> None:
    named = {row[0].split()[0] for row in _rows() if row[0].startswith("API")}
    assert named == {f"API{number}" for number in range(1, 11)}
