"""docs/security.md names a test for each line, and each of them exists."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
#: What no test can show here.
WITHOUT_TEST = {
    "2.1.8", "6.1", "8.3.5", "9.1.2,", "9.2.4", "11.1.7,", "12.4.2", "14.2.1", "14.2.5", "14.3.2", "14.4.5",
}  # fmt: skip


def _rows() -> list[list[str]]:
    rows = [line.strip("| \n").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if not row[0].startswith("---")]


def test_every_line_of_the_security_page_is_shown_by_a_test() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    lines = [row for row in _rows() if row[-1] != "test"]
    assert len(lines) > 150
    missing = [row[-1] for row in lines if row[-1] != "—" and f"def test_{row[-1].strip('`')}(" not in tests]
    assert missing == []
    assert {row[0].split()[0] for row in lines if row[-1] == "—"} == WITHOUT_TEST


def test_the_ten_risks_are_all_there() -> None:
    named = {row[0].split()[0] for row in _rows() if row[0].startswith("API")}
    assert named == {f"API{number}" for number in range(1, 11)}
