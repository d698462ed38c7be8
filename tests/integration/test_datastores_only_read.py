"""A query reads and does nothing else, with any role: on PostgreSQL's superuser, MariaDB's root and SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from runyard_workers.agent.sql import Caps, QueryFailed
from tests.querying import ask

pytestmark = pytest.mark.timeout(180)

CAPS = Caps(seconds=5)
REFUSED = {
    "postgresql": [
        "copy (select 1) to program 'touch {folder}/program'",
        "copy orders to '{folder}/copied'",
        "copy orders from '/etc/hostname'",
        "select lo_export(16001, '{folder}/exported')",
        "select lo_import('/etc/hostname')",
        "select lo_unlink(16001)",
        "select lo_from_bytea(16002, 'x')",
        "select lo_get(16001)",
        "select pg_switch_wal()",
        "select pg_stat_reset()",
        "select pg_stat_reset_shared('bgwriter')",
        "select dblink_exec('host=/tmp', 'delete from orders')",
        "select pg_read_file('/etc/hostname')",
        'select pg_catalog . "pg_read_file" /* here */ (\'/etc/hostname\')',
        "select U&\"pg\\005fread_file\"('/etc/hostname')",
        "select E'a'\n'\\', pg_read_file(''/etc/hostname''), E'\\'', pg_read_file('/etc/hostname')",
        "select /* /* */ ' */ pg_read_file('/etc/hostname') --'",
        "select * from pg_ls_dir('/')",
        "select query_to_xml('select pg_read_file(''/etc/hostname'')', true, true, '')",
        "select set_config('role', 'none', false)",
        "select set_config('transaction_read_only', 'off', false)",
        "select pg_terminate_backend(1)",
        "select pg_cancel_backend(1)",
        "select pg_reload_conf()",
        "select pg_rotate_logfile()",
        "select pg_advisory_lock(1)",
        "select pg_try_advisory_lock(1)",
        "select pg_notify('a', 'b')",
        "select pg_create_restore_point('x')",
        "select pg_logical_emit_message(false, 'a', 'b')",
        "select pg_create_physical_replication_slot('s')",
        "select pg_export_snapshot()",
        "select pg_promote()",
        "select nextval('numbers')",
        "select setval('numbers', 9)",
        "select writes()",
        "do $$ begin perform 1; end $$",
        "call a_procedure()",
        "listen a",
        "notify a",
        "set role none",
        "set session authorization default",
        "reset all",
        "set transaction read write",
        "begin",
        "commit; delete from orders",
        "select 1; delete from orders",
        "vacuum",
        "checkpoint",
        "lock table orders",
        "prepare p as select 1",
        "execute p",
        "declare c cursor for select 1",
        "load 'x'",
        "with gone as (delete from orders returning *) select * from gone",
        "select * into more from orders",
        "create temp table more as select 1",
        "select * from orders for update",
        "select * from orders for key share",
        "explain analyze select 1",
        "explain (analyze, buffers) select 1",
        "explain (verbose, analyse true) select 1",
        "-- a comment\n/* and another */ delete from orders",
        "((delete from orders))",
        "",
        ";",
        "/* nothing */",
        # PostgreSQL calls a function of one argument in the notation of an attribute, too.
        "select ('select to_tsvector(set_config($$role$$,$$none$$,false))'::text).ts_stat, current_user",
        "select ('select to_tsvector(lo_create(16002)::text)'::text)/* */ . /* */ TS_STAT",
        "select x.ts_stat from unnest(array['select to_tsvector(lo_create(16002)::text)']) x",
        "select (q.t).ts_stat from (select 'select to_tsvector(lo_create(16002)::text)'::text as t) q",
        'select (16002::oid)."lo_create"',
        "select (array[16001::oid])[1].lo_unlink",
        "select (select pg_backend_pid()).pg_terminate_backend",
        "select (5::bigint).pg_try_advisory_lock",
        "select ('numbers'::regclass).nextval",
        "explain (verbose) select (16002::oid).lo_create",
        "select 'no end",
        "select 1 /* no end",
    ],
    "mysql": [
        "begin not atomic rollback; start transaction read write; insert into orders values (9, 'Eve'); commit; end",
        "select 1 into outfile '{folder}/out'",
        "select 1 into dumpfile '{folder}/dump'",
        "(select 1) into outfile '{folder}/out'",
        "select 1 into @x",
        "select load_file('/etc/hostname')",
        "select `load_file`('/etc/hostname')",
        "select 5--1, load_file('/etc/hostname')",
        "select '\\'', load_file('/etc/hostname')",
        "select 1 # '\n, load_file('/etc/hostname')",
        "select load_file('/etc/hostname') as materialized",
        "set global general_log_file = '{folder}/log'",
        "set global max_connections = 10",
        "set @x = 1",
        "set statement max_statement_time = 0 for select 1",
        "flush tables",
        "reset query cache",
        "/*! delete from orders */",
        "/*!50000 set global max_connections = 10 */",
        "/*M! set @x = 1 */",
        "select /*!50000 1 into outfile '{folder}/out' from */ dual",
        "select /*+ max_execution_time(0) */ 1",
        "select get_lock('a', 1)",
        "select release_lock('a')",
        "select master_pos_wait('a', 1, 1)",
        "select nextval(numbers)",
        "select next value for numbers",
        "select setval(numbers, 9)",
        "select sys_exec('true')",
        "select writes()",
        "do sleep(0)",
        "call a_procedure()",
        "handler orders open",
        "lock tables orders write",
        "select * from orders for update",
        "select * from orders lock in share mode",
        "start transaction read write",
        "commit",
        "select 1; delete from orders",
        "delete from orders",
        "with one as (select 1) delete from orders",
        "analyze table orders",
        "analyze select * from orders",
        "explain analyze select 1",
        "kill 1",
        "load data infile '/etc/hostname' into table orders",
        "prepare p from 'select 1'",
        "execute immediate 'delete from orders'",
        "use mysql",
        "install soname 'x'",
        "create temporary table more (x int)",
        "select 'no end",
    ],
    "sqlite": [
        "select fts3_tokenizer('simple')",
        "select fts3_tokenizer('simple', x'00')",
        "select load_extension('x')",
        "delete from orders",
        "with one as (select 1) delete from orders",
        "with one as (select 1) update sqlite_master set sql = ''",
        "create temp table more (x)",
        "attach '{folder}/other.db' as other",
        "vacuum into '{folder}/copy.db'",
        "explain attach 'x' as y",
        "pragma query_only = off",
        "select * from pragma_query_only",
        "select * from pragma_database_list",
        "begin",
        "savepoint a",
        "select 1; delete from orders",
        "reindex",
        "analyze",
        "select writefile('{folder}/file', 'x')",
        "select readfile('/etc/hostname')",
    ],
}  # fmt: skip
ALLOWED: dict[str, dict[str, Any]] = {
    "postgresql": {
        "select (o).customer, o.id, (o.customer).length, (now()).date from orders o order by o.id": "Ada",
        "select (4).careless, (2).doubled, f.seen from a_view f": 8,
        "select count(*) from orders": 3,
        "-- comment\n/* and /* nested */ */ select 1;": 1,
        "((select 1))": 1,
        "values (1), (2)": 1,
        "table orders": 1,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3) select max(i) from n": 3,
        "with random(i) as not materialized (select 7) select i from random": 7,
        "select 'delete; into -- for update'": "delete; into -- for update",
        "select customer from orders tablesample system (100) order by 1 limit 1": "Ada",
        "select length(customer) as filter from orders order by 1 limit 1": 3,
        "select doubled(21)": 42,
        "select careless(21)": 42,
        "select sum(id) over (partition by customer order by id) from orders order by 1 limit 1": 1,
        "select (random() < 2) and gen_random_uuid() is not null and pg_sleep(0) is not null": True,
        "select extract(year from date '2026-01-02')::int": 2026,
        "select substring('abc' from 2 for 1)": "b",
        "select '{\"a\": 1}'::jsonb ?? 'a'": True,
        "select $tag$ it's $tag$": " it's ",
        "select pg_total_relation_size('orders') > 0": True,
        "select cast(1.5 as numeric(10, 2))": 1.5,
        "select string_agg(customer, ',' order by id) from orders where id in (1, 2)": "Ada,Bob",
        "select j.a from json_to_recordset('[{\"a\": 5}]') as j(a int)": 5,
        "select count(*) > 0 from pg_stat_activity": True,
        "select seen from a_view": "Ada",
        "show server_encoding": "UTF8",
    },
    "mysql": {
        "select count(*) from orders": 3,
        "# comment\n-- another\n/* and */ select 1;": 1,
        "(select 1)": 1,
        "values (1)": 1,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3) select max(i) from n": 3,
        "select 'delete; into -- it\\'s /*! x */'": "delete; into -- it's /*! x */",
        "select 5--1": 6,
        "select concat(customer, '?') from orders where id = 1": "Ada?",
        "select if(1 in (1, 2), ifnull(null, 'yes'), 'no')": "yes",
        "select cast('1.5' as decimal(10, 2))": 1.5,
        "select doubled(21)": 42,
        "select count(distinct customer) from orders where exists (select 1)": 2,
        "select row_number() over (order by id) from orders limit 1": 1,
        "select group_concat(customer order by id separator ',') from orders where id in (1, 2)": "Ada,Bob",
        "select json_value('{\"a\": 5}', '$.a')": "5",
        "select j.a from json_table('[{\"a\": 5}]', '$[*]' columns (a int path '$.a')) as j": 5,
        "select date_add('2026-01-02', interval 1 day)": "2026-01-03",
        "select sleep(0)": 0,
        "select substring('abc' from 2 for 1)": "b",
        "show tables like 'ord%'": "orders",
        "describe orders": "id",
        "desc orders": "id",
        "explain select * from orders": 1,
    },
    "sqlite": {
        "select count(*) from orders": 3,
        "-- comment\n/* and */ select 1;": 1,
        "values (1), (2)": 1,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3) select max(i) from n": 3,
        "explain query plan select 1": 1,
        "select name from pragma_table_info('orders')": "id",
        "select value from json_each('[5]')": 5,
        "select upper(replace(customer, 'a', 'b')) from orders where id = 1": "ADB",
        "select count(*) from words where words match 'hello'": 1,
        "select sum(id) over (order by id) from orders limit 1": 1,
        "select strftime('%Y', '2026-01-02')": "2026",
        'select [id] from "orders" where `id` = 1': 1,
    },
}


class Shop:
    """A database with three orders, and what its administrator sees of it."""

    def __init__(self, kind: str, url: str, folder: Path) -> None:
        self.kind, self.url, self.folder = kind, url, folder
        for statement in SCHEMA[kind]:
            self.administer(statement)
        self.before = self.state()

    def query(self, sql: str) -> Any:
        return ask(self.url, sql.replace("{folder}", str(self.folder)), caps=CAPS, folder=self.folder)

    def state(self) -> Any:
        """What no query may change."""
        rows = [self.administer(statement) for statement in STATE[self.kind]]
        return rows, sorted(path.name for path in self.folder.iterdir())

    def administer(self, sql: str) -> Any:
        if self.kind == "sqlite":
            with sqlite3.connect(self.folder / "shop.db") as db:
                found = db.execute(sql).fetchall()
            db.close()
            return found
        if self.kind == "mysql":
            url = make_url(self.url)
            where = {
                "host": url.host,
                "port": url.port or 3306,
                "user": url.username,
                "database": url.database,
            }
            with pymysql.connect(**where, autocommit=True) as connection, connection.cursor() as cursor:  # type: ignore[call-overload]
                cursor.execute(sql)
                return cursor.fetchall()
        with psycopg.connect(self.url, autocommit=True) as postgres:
            done = postgres.execute(sql.encode())
            return done.fetchall() if done.description else []


_ROWS = [
    "create table orders (id integer, customer varchar(40))",
    "insert into orders values (1, 'Ada'), (2, 'Bob'), (3, 'Ada')",
]
SCHEMA = {
    "postgresql": [
        *_ROWS,
        "create sequence numbers",
        "create extension if not exists dblink",
        "select lo_from_bytea(16001, 'x')",
        "create function doubled(n int) returns int language sql immutable as 'select 2 * n'",
        "create function careless(n int) returns int language plpgsql as 'begin return 2 * n; end'",
        "create function writes() returns int language plpgsql as 'begin delete from orders; return 1; end'",
        "create procedure a_procedure() language sql as 'delete from orders'",
        "create view a_view as select customer as seen from orders where id = 1",
    ],
    "mysql": [
        *_ROWS,
        "create sequence numbers",
        "create function doubled(n int) returns int deterministic return 2 * n",
        "create function writes() returns int modifies sql data begin delete from orders; return 1; end",
        "create procedure a_procedure() delete from orders",
    ],
    "sqlite": [*_ROWS, "create virtual table words using fts5(text)", "insert into words values ('hello world')"],
}  # fmt: skip
STATE = {
    "postgresql": [
        "select * from orders",
        "select last_value, is_called from numbers",
        "select loid from pg_largeobject where loid in (16001, 16002)",
        "select count(*) from pg_replication_slots",
    ],
    "mysql": [
        "select * from orders",
        "select next_not_cached_value from numbers",
        "show global variables like 'max_connections'",
        "show global variables like 'general_log_file'",
    ],
    "sqlite": ["select * from orders", "select * from sqlite_master"],
}


@pytest.fixture(scope="module")
def shops(
    server_url: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Shop]:
    from tests import servers

    made: dict[str, Shop] = {}

    def shop(kind: str) -> Shop:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            folder.chmod(0o777)  # the servers run as other users
            url = "sqlite:///shop.db"
            if kind == "postgresql":
                url = servers.fresh_database(server_url("postgres"))
            elif kind == "mysql":
                url = servers.fresh_schema(server_url("mariadb"))
            made[kind] = Shop(kind, url, folder)
        return made[kind]

    return shop


@pytest.mark.parametrize(("kind", "sql"), [(kind, sql) for kind in REFUSED for sql in REFUSED[kind]])
def test_what_does_more_than_read_is_refused_and_changes_nothing(
    shops: Callable[[str], Shop], kind: str, sql: str
) -> None:
    shop = shops(kind)
    with pytest.raises(QueryFailed):
        shop.query(sql)
    assert shop.state() == shop.before


@pytest.mark.parametrize(("kind", "sql"), [(kind, sql) for kind in ALLOWED for sql in ALLOWED[kind]])
def test_what_reads_goes_on_working(shops: Callable[[str], Shop], kind: str, sql: str) -> None:
    rows = shops(kind).query(sql)
    assert rows.rows[0][0] == ALLOWED[kind][sql]


@pytest.mark.postgres
def test_a_superusers_query_has_no_more_than_a_readers_rights(shops: Callable[[str], Shop]) -> None:
    rows = shops("postgresql").query("select current_user, current_setting('is_superuser')")
    assert rows.rows == [["pg_read_all_data", "off"]]


def test_a_server_in_another_sql_mode_is_read_in_that_mode(shops: Callable[[str], Shop]) -> None:
    shop = shops("mysql")
    before = shop.administer("select @@global.sql_mode")[0][0]
    try:
        shop.administer("set global sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'")
        assert shop.query("select \"customer\", '\\' from orders where id = 1").rows == [["Ada", "\\"]]
        with pytest.raises(QueryFailed, match="LOAD_FILE"):
            shop.query("select '\\', load_file('/etc/hostname'), '\\'")
    finally:
        shop.administer(f"set global sql_mode = '{before}'")
