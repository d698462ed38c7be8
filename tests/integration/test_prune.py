"""Prune and sweep, on both databases: what has been kept long enough goes with all that is its, nothing else does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runyard_common.files import FileStore, open_files
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.retention import DAY_S
from runyard_common.runs.queries import transitions
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.specs import CallbackTo
from runyard_common.sessions.queries import messages, sessions
from runyard_common.sessions.rules import Line
from runyard_common.tables.query import (
    AnswerLink,
    Callback,
    Delivery,
    JournalEntry,
    Message,
    Question,
    Session,
    StoredFile,
    TaskEvent,
    Turn,
)
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties import Prune, Sweep
from tests.clockwork import Clockwork, end_task
from tests.pruning import count, left, prune, run, settings

HASH = "ab" * 32
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return open_files(str(tmp_path / "files"))


def test_ended_tasks_are_kept_thirty_days_and_unfinished_ones_for_ever(
    clock: Clockwork, files: FileStore
) -> None:
    ended = {run(clock, event) for event in (Event.FINISH, Event.FAIL, Event.CANCEL)}
    going = run(clock, None)
    prune(clock, files, 29.9)
    assert left(clock) == ended | {going}
    prune(clock, files, 0.2)
    assert left(clock) == {going}


def test_an_organisation_keeps_each_state_as_long_as_its_setting(clock: Clockwork, files: FileStore) -> None:
    settings(clock, retention={"completed": 1, "failed": None, "stopped": "soon"})
    done, failed, stopped = (run(clock, event) for event in (Event.FINISH, Event.FAIL, Event.CANCEL))
    other = clock.transact(lambda tx: identity.insert_organisation(tx, "other"))
    theirs = run(clock, org=other)
    prune(clock, files, 1.1)
    assert left(clock) == {failed, stopped, theirs}
    prune(clock, files, 29)
    assert left(clock) == {failed}
    prune(clock, files, 10_000)
    assert left(clock) == {failed}
    assert done not in left(clock)


def test_all_that_is_a_tasks_goes_with_it(clock: Clockwork, files: FileStore) -> None:
    task_id = run(clock, None, callback=CallbackTo("http://127.0.0.1:8099/"), input=_with_file())
    keep = run(clock, None)
    for owner in (task_id, keep):
        clock.transact(lambda tx, owner=owner: _furnish(tx, clock.org, owner))  # type: ignore[misc]
    clock.transact(lambda tx: end_task(tx, task_id, Event.FINISH))
    clock.transact(lambda tx: tx.conn.execute(Delivery.__table__.update().values(state="success")))
    tables = (TaskEvent, JournalEntry, Question, AnswerLink, Message, Callback, Delivery, StoredFile, Turn)
    before = {table: count(clock, table) for table in tables}
    assert all(before.values())
    prune(clock, files, 31)
    assert left(clock) == {keep}
    after = {table.__tablename__: count(clock, table) for table in tables}
    assert after == {
        "events": 1, "journal": 1, "questions": 1, "answer_links": 1, "messages": 1, "callbacks": 0,
        "deliveries": 0, "files": 0, "turns": 2,  # what was spent stays for the books
    }  # fmt: skip


def test_what_was_spent_is_forgotten_when_the_books_want_it_no_more(
    clock: Clockwork, files: FileStore
) -> None:
    old = run(clock, None)
    clock.transact(lambda tx: _furnish(tx, clock.org, old))
    clock.transact(lambda tx: end_task(tx, old, Event.FINISH))
    prune(clock, files, 390)
    fresh = run(clock, None)
    clock.transact(lambda tx: _furnish(tx, clock.org, fresh))
    assert count(clock, Turn) == 2
    assert prune(clock, files, 11) == 1
    assert count(clock, Turn) == 1
    settings(clock, retention={"usage": 5})
    prune(clock, files)
    assert count(clock, Turn) == 0


def _with_file() -> dict[str, Any]:
    file = {"id": uuid7(), "sha256": HASH, "name": "a.txt", "media_type": "text/plain", "size": 1}
    return {"message": "x", "files": [file]}


def _furnish(tx: Any, org_id: str, task_id: str) -> None:
    """A journal entry, an open question with a link, a message and a paid turn."""
    question = uuid7()
    head = transitions.lock(tx, [task_id])[task_id]
    messages.append_lines(tx, [(head, [Line("user", "user_message", "hi")])])
    common = {"task_id": task_id, "key": "k#1"}
    tx.conn.execute(JournalEntry.__table__.insert(), common | {
        "pos": 1, "attempt": 1, "kind": "step", "name": "k", "effect": "read", "state": "done", "began_at": tx.now,
    })  # fmt: skip
    tx.conn.execute(Question.__table__.insert(), common | {
        "id": question, "org_id": org_id, "kind": "question", "state": "open", "created_at": tx.now,
    })  # fmt: skip
    tx.conn.execute(AnswerLink.__table__.insert(), {
        "token_hash": uuid7(), "org_id": org_id, "question_id": question, "expires_at": tx.now + 1e9,
    })  # fmt: skip
    tx.conn.execute(Turn.__table__.insert(), common | {
        "org_id": org_id, "agent_id": head.agent_id, "model": "m", "input_tokens": 1, "output_tokens": 1,
        "cached_tokens": 0, "cost_micros": 1, "at": tx.now,
    })  # fmt: skip


def test_what_is_still_to_be_delivered_holds_its_task(clock: Clockwork, files: FileStore) -> None:
    task_id = run(clock, callback=CallbackTo("http://127.0.0.1:8099/"))
    prune(clock, files, 31)
    assert left(clock) == {task_id}
    clock.transact(lambda tx: tx.conn.execute(Delivery.__table__.update().values(state="dead")))
    prune(clock, files)
    assert left(clock) == set()
    assert count(clock, Delivery) == 0


def test_a_child_is_kept_for_its_unfinished_parent(clock: Clockwork, files: FileStore) -> None:
    parent = run(clock, None)
    child = run(clock, parent_id=parent)
    prune(clock, files, 31)
    assert left(clock) == {parent, child}
    clock.transact(lambda tx: end_task(tx, parent, Event.FINISH))
    prune(clock, files)
    assert left(clock) == {parent}
    prune(clock, files, 31)
    assert left(clock) == set()


def test_a_conversation_outlives_its_tasks_until_it_is_not_continued(
    clock: Clockwork, files: FileStore
) -> None:
    settings(clock, retention={"completed": 1, "sessions": 10})
    with clock.begin() as tx:
        session = sessions.ensure(tx, clock.org, "talk")
    task_id = run(clock, None, session_id=session)
    with clock.begin() as tx:
        head = transitions.lock(tx, [task_id])[task_id]
        messages.append_lines(tx, [(head, [Line("user", "user_message", "hi")])])
        end_task(tx, task_id, Event.FINISH)
    prune(clock, files, 2)
    assert (left(clock), count(clock, Message), count(clock, Session)) == (set(), 1, 1)
    prune(clock, files, 7.9)
    assert count(clock, Message) == 1
    prune(clock, files, 0.2)
    assert (count(clock, Message), count(clock, Session)) == (0, 0)


def test_a_files_bytes_go_when_no_task_has_them_any_more(
    clock: Clockwork, files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard_scheduler.duties.prune.FRESH", -1.0)  # nothing counts as just attached
    sha256 = files.put(b"content").sha256
    given = _with_file()
    given["files"][0]["sha256"] = sha256
    run(clock, input=given)
    clock.now += 10 * DAY_S
    second = {"message": "x", "files": [given["files"][0] | {"id": uuid7()}]}
    run(clock, input=second)
    prune(clock, files, 21)
    assert files.exists(sha256), "the second task has it"
    prune(clock, files, 10)
    assert not files.exists(sha256)


def test_bytes_attached_again_a_moment_ago_stay(clock: Clockwork, files: FileStore) -> None:
    sha256 = files.put(b"content").sha256
    given = _with_file()
    given["files"][0]["sha256"] = sha256
    run(clock, input=given)
    prune(clock, files, 31)
    assert count(clock, StoredFile) == 0
    assert files.exists(sha256), "an upload under way may be about to refer to it"


def test_a_sweep_deletes_what_nothing_refers_to(
    clock: Clockwork, files: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard_scheduler.duties.sweep.BATCH", 3)
    kept = files.put(b"kept").sha256
    orphans = [files.put(f"orphan {n}".encode()).sha256 for n in range(7)]
    given = _with_file()
    given["files"][0]["sha256"] = kept
    run(clock, input=given)
    sweep = Sweep(clock.store, files)
    assert sweep.run_once() == 0, "fresh contents are left alone"
    later = Sweep(clock.store, files)
    deleted = 0
    for _ in range(3):
        deleted += later.run_once(files.stat(kept).renewed_at.timestamp() + 2 * DAY_S)  # type: ignore[union-attr]
    assert deleted == 7
    assert later.due_in is not None
    assert later.due_in > 1000
    assert files.exists(kept)
    assert not any(files.exists(sha256) for sha256 in orphans)


def test_a_run_deletes_a_batch_and_asks_for_more_time(clock: Clockwork, files: FileStore) -> None:
    for _ in range(25):
        run(clock)
    clock.now += 31 * DAY_S
    duty = Prune(clock.store, files, 30.0, batch=10)
    assert [duty.run_once() for _ in range(2)] == [10, 10]
    assert duty.due_in is not None
    assert duty.due_in < 1
    assert duty.run_once() == 5
    duty.run_once()
    assert duty.due_in > 1


def test_several_at_once_share_the_work_and_never_wait(clock: Clockwork, files: FileStore) -> None:
    for _ in range(60):
        run(clock)
    clock.now += 31 * DAY_S
    duties = [Prune(clock.store, files, 30.0, batch=5) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda duty: [duty.run_once() for _ in range(8)], duties))
    prune(clock, files)
    assert left(clock) == set()
    assert count(clock, TaskEvent) == 0


@pytest.mark.parametrize("migrated", [POSTGRES], indirect=True)
def test_a_locked_task_is_passed_over(clock: Clockwork, files: FileStore) -> None:
    locked, free = run(clock), run(clock)
    clock.now += 31 * DAY_S
    with clock.begin() as tx:
        transitions.lock(tx, [locked])
        Prune(clock.store, files, 30.0).run_once()
        assert left(clock) == {locked}
    assert free not in left(clock)
