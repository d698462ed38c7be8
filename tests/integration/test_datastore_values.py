"""Values of databases as an agent gets them: all their digits, and no row lost for one value."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from runyard_workers.agent.sql import Caps, QueryFailed
from tests.querying import ask

CAPS = Caps()
POSTGRES: dict[str, Any] = {
    "1234567890123456789.123::numeric": "1234567890123456789.123",
    "19.99::numeric": 19.99,
    "20.00::numeric(10,2)": 20,
    "0.1::numeric + 0.00000000000000000001": "0.10000000000000000001",
    "1e400::numeric": "1" + "0" * 400,
    "'NaN'::numeric": "NaN",
    "'infinity'::numeric": "Infinity",
    "'-infinity'::float8": "-Infinity",
    "'NaN'::float8": "NaN",
    "9223372036854775807": 9223372036854775807,
    "interval '1 year 2 days'": "1 year 2 days",
    "interval '-3 months 04:05:06.7'": "-3 mons +04:05:06.7",
    "'infinity'::timestamptz": "infinity",
    "'-infinity'::timestamp": "-infinity",
    "'infinity'::date": "infinity",
    "'0044-03-15 BC'::date": "0044-03-15 BC",
    "'0044-03-15 12:00 BC'::timestamp": "0044-03-15 12:00:00 BC",
    "'294000-01-01'::timestamp": "294000-01-01 00:00:00",
    "'24:00'::time": "24:00:00",
    "'24:00+02'::timetz": "24:00:00+02",
    "'2026-01-02 03:04:05'::timestamp": "2026-01-02T03:04:05",
    "'\\xdeadbeef'::bytea": "3q2+7w==",
    "array[1.5::numeric, null, 1234567890123456789.123]": [1.5, None, "1234567890123456789.123"],
    "array['infinity'::date, '2026-01-02']": ["infinity", "2026-01-02"],
    """'{"a": [1, {"b": null}], "n": 100000000000000000000}'::jsonb""": {
        "a": [1, {"b": None}],
        "n": "100000000000000000000",
    },
    "'null'::json": None,
    "'[2026-01-01,infinity)'::daterange": "[2026-01-01,infinity)",
    "'[1,5)'::int4range": "[1,5)",
    "'{[1,3),[5,8)}'::int4multirange": "{[1,3),[5,8)}",
    "'10.0.0.0/8'::cidr": "10.0.0.0/8",
    "'$1,234.50'::money::numeric": 1234.5,
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "row(1, 'a')": ["1", "a"],
    "B'1010'": "1010",
    "point(1,2)": "(1,2)",
    "null": None,
    "true": True,
}
MYSQL: dict[str, Any] = {
    "cast('12345678901234567890.123' as decimal(40,3))": "12345678901234567890.123",
    "cast('19.99' as decimal(10,2))": 19.99,
    "18446744073709551615": 18446744073709551615,
    "cast('-838:59:59' as time)": "-838:59:59",
    "cast('2026-01-02 03:04:05' as datetime)": "2026-01-02 03:04:05",
    "cast('0000-00-00' as date)": "0000-00-00",
    "x'deadbeef'": "3q2+7w==",
    "'plain'": "plain",
    "null": None,
}
SQLITE: dict[str, Any] = {
    "9e999": "Infinity",
    "cast(x'ff41' as text)": "\ufffdA",
    "'a' || char(0) || 'b'": "a\ufffdb",
    "x'deadbeef'": "3q2+7w==",
    "9223372036854775807": 9223372036854775807,
    "1.5": 1.5,
    "null": None,
}


def check(connection: str, expected: dict[str, Any], folder: Path = Path("nowhere")) -> None:
    """All values in one row, as the worst case has it."""
    columns = ", ".join(f"{sql} as c{number}" for number, sql in enumerate(expected))
    rows = ask(connection, f"select {columns}", folder=folder)
    found = dict(zip(expected, rows.rows[0], strict=True))
    assert found == expected
    orjson.dumps(rows.to_json())


@pytest.mark.postgres
def test_values_of_postgresql_keep_their_digits_and_fail_no_row(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    check(url, POSTGRES)
    rows = ask(url, "select * from (values (1, 'infinity'::date), (2, '2026-01-02')) as t")
    assert rows.rows == [[1, "infinity"], [2, "2026-01-02"]]


def test_values_of_mariadb_keep_their_digits_and_fail_no_row(mariadb_url: str) -> None:
    check(mariadb_url, MYSQL)


def test_values_of_sqlite_fail_no_row(tmp_path: Path) -> None:
    file = tmp_path / "values.db"
    sqlite3.connect(file).close()
    check("sqlite:///values.db", SQLITE, tmp_path)


def test_parameters_that_no_database_takes_fail_the_query(tmp_path: Path) -> None:
    file = tmp_path / "values.db"
    sqlite3.connect(file).close()
    for value in (2**70, "\ud800"):
        with pytest.raises(QueryFailed):
            ask("sqlite:///values.db", "select ?", [value], folder=tmp_path)


def test_a_long_binary_value_is_cut_and_marked(tmp_path: Path) -> None:
    file = tmp_path / "values.db"
    sqlite3.connect(file).close()
    ((cell,),) = ask("sqlite:///values.db", "select zeroblob(100000)", folder=tmp_path).rows
    assert (cell.endswith("…"), len(cell) <= CAPS.cell + 1) == (True, True)
