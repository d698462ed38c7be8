"""Question marks that are parameters, and those that are not."""

from __future__ import annotations

import pytest

from runyard_workers.agent.sql import count_parameters, for_driver
from runyard_workers.agent.sql.lexer import MYSQL


@pytest.mark.parametrize(
    ("sql", "parameters", "written"),
    [
        ("SELECT ?", 1, "SELECT %s"),
        ("SELECT '?' , \"?\", ?", 1, "SELECT '?' , \"?\", %s"),
        ("SELECT 'it''s ?', ?", 1, "SELECT 'it''s ?', %s"),
        (r"SELECT E'it\'s ?', ?", 1, r"SELECT E'it\'s ?', %s"),
        ("SELECT 1 -- ?\n WHERE ?", 1, "SELECT 1 -- ?\n WHERE %s"),
        ("SELECT /* ? */ ?", 1, "SELECT /* ? */ %s"),
        ("SELECT $x$ ? $x$, ?", 1, "SELECT $x$ ? $x$, %s"),
        ("SELECT j ?? 'k'", 0, "SELECT j ? 'k'"),
        ("SELECT a % 2 WHERE n LIKE 'a%' AND ?", 1, "SELECT a %% 2 WHERE n LIKE 'a%%' AND %s"),
    ],
)
def test_only_placeholders_are_written_for_the_driver(sql: str, parameters: int, written: str) -> None:
    assert (count_parameters(sql), for_driver(sql)) == (parameters, written)


def test_mysql_reads_backslashes_and_number_signs_its_own_way() -> None:
    assert for_driver(r"SELECT 'it\'s ?', ? # ?", MYSQL) == r"SELECT 'it\'s ?', %s # ?"
