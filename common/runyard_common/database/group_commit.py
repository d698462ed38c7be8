"""Group commit: concurrent commands share one transaction, so that a commit's cost is paid once for many.

A thread takes the commands that have gathered while the last transaction ran, runs each kind's batch
function over its commands in one transaction, and answers every caller after the commit. When a batch
fails, its commands run again one by one, so that a caller sees only its own error.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import structlog

from runyard_common.database.engine import Durability
from runyard_common.database.transaction import NeedsOwnTransaction, Outdated, Store, Tx
from runyard_common.metrics.points import POINTS

#: A batch function: the transaction and the commands, an answer (or an exception to raise) for each.
Batch = Callable[[Tx, Sequence[Any]], Sequence[Any]]
B = TypeVar("B", bound=Batch)
_Job = tuple[Batch, Any, "Waiting"]

logger = structlog.get_logger("runyard.group_commit")


class Withdrawn(Exception):
    """The command was taken back before its transaction began; nothing was written."""


class _Pending(Future[Any]):
    """The answer to one command, for any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = False  # a transaction with the command in it was opened
        self.withdrawn = False

    @property
    def answered(self) -> bool:
        """Whether the answer is there."""
        return self.done()


class Asked:
    """The answer to one command, for a coroutine that awaits `future`. Create it on the loop."""

    __slots__ = ("answered", "begun", "future", "loop", "withdrawn")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.begun = self.withdrawn = False  # as those of `_Pending`
        self.answered = False


Waiting = _Pending | Asked


class GroupCommit:
    """Runs commands in shared transactions on a thread of its own. Safe to call from any thread."""

    def __init__(self, store: Store, max_batch: int = 256, name: str = "group-commit") -> None:
        self._store = store
        self.clock = store.db.clock
        self._max = max_batch
        self._queue: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._companions: list[_Job] = []  # go with what is asked next
        self._own = store.db.own_connection()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, batch: Batch, command: Any) -> Future[Any]:
        """Queue one command; the future resolves after its transaction has committed."""
        future = _Pending()
        future.set_running_or_notify_cancel()  # a caller that is cancelled cannot cancel what will be committed
        self._queue.put([(batch, command, future)])
        return future

    async def call(self, batch: Batch, command: Any) -> Any:
        """Queue one command and wait for its committed answer.

        A cancelled caller does not undo its command: it may already be committed.
        """
        return await self.ask(batch, command).future

    def ask(self, batch: Batch, command: Any) -> Asked:
        """As `submit`, for a coroutine: a loop hears once of all the answers of a transaction."""
        asked = Asked()
        self._put((batch, command, asked))
        return asked

    def ask_with_next(self, batch: Batch, command: Any) -> Asked:
        """As `ask`, queued together with what is asked next in this step of the loop, so that one transaction takes
        both: the thread would begin with the first of two."""
        asked = Asked()
        self._companions.append((batch, command, asked))
        asked.loop.call_soon(self._put)  # where nothing is asked after all
        return asked

    def _put(self, *jobs: _Job) -> None:
        if together := [*jobs, *self._companions]:
            self._companions.clear()
            self._queue.put(together)

    @staticmethod
    def withdraw(future: Future[Any] | Asked) -> bool:
        """Take back a command that waits for its transaction; False where that may have begun already.

        For a caller that was answered with a failure: its command must not be committed minutes later.
        """
        if not isinstance(future, _Pending | Asked):
            return False
        future.withdrawn = True  # written before `begun` is read, the other way round on the thread
        return not future.begun

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        self._queue.put(None)
        self._thread.join(30)

    def _run(self) -> None:
        try:
            self._run_until_closed()
        finally:
            if self._own is not None:
                self._own.close()

    def _run_until_closed(self) -> None:
        while True:
            jobs, more = self._gather()
            try:
                if jobs:
                    self._commit(jobs)
            except Exception as error:
                # Every caller after these waits for this thread: it survives, and they get an answer.
                logger.exception("A group commit failed inside", action="group_commit")
                _answer([(waiting, error) for _, _, waiting in jobs if not waiting.answered])
            if not more:
                return

    def _gather(self) -> tuple[list[_Job], bool]:
        jobs: list[_Job] = []
        together = self._queue.get()
        while together is not None:
            jobs += together
            if len(jobs) >= self._max:
                return jobs, True
            try:
                together = self._queue.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _commit(self, jobs: list[_Job]) -> None:
        """Commit the jobs that may share a transaction together, each kind that locks limits in its own."""
        shared = [job for job in jobs if not _has_own(job[0])]
        own: dict[Batch, list[_Job]] = {}
        for job in jobs:
            if _has_own(job[0]):
                own.setdefault(job[0], []).append(job)
        for group in (shared, *own.values()):
            if group:
                self._commit_together(group)

    def _commit_together(self, jobs: list[_Job], tries: int = 3) -> None:
        jobs = [job for job in jobs if _begin(job[2])]
        if not jobs:
            return
        try:
            answers = self._transact(jobs)
        except BaseException as error:  # noqa: BLE001 - every caller gets its own answer
            if tries > 1 and (isinstance(error, Outdated) or lost_a_race(error)):
                self._commit_together(jobs, tries - 1)
            elif len(jobs) == 1:
                _answer([(jobs[0][2], error)])
            else:
                self._commit_each(jobs)
            return
        given = list(zip(jobs, answers, strict=True))
        _answer([(job[2], answer) for job, answer in given if not isinstance(answer, NeedsOwnTransaction)])
        self._commit_each([job for job, answer in given if isinstance(answer, NeedsOwnTransaction)])

    def _commit_each(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            self._commit_together([job])

    def _transact(self, jobs: list[_Job]) -> list[Any]:
        kinds: dict[Batch, list[int]] = {}
        for index, (batch, _, _) in sorted(enumerate(jobs), key=lambda job: _comes_last(job[1][0])):
            kinds.setdefault(batch, []).append(index)
        answers: list[Any] = [None] * len(jobs)
        wanted = max(getattr(batch, "durability", Durability.DISK) for batch in kinds)
        began = time.perf_counter()
        with self._store.begin(wanted, self._own) as tx:
            tx.retried = True
            tx.upcoming = frozenset(
                command.task_id for batch, command, _ in jobs if getattr(batch, "locks_tasks", False)
            )
            for batch, indices in kinds.items():
                for index, answer in zip(indices, batch(tx, [jobs[i][1] for i in indices]), strict=True):
                    answers[index] = answer
        if (note := POINTS.group_commit) is not None:
            note(len(jobs), time.perf_counter() - began)
        return answers


def _begin(waiting: Waiting) -> bool:
    """Note that a command's transaction begins; whether it is still wanted."""
    waiting.begun = True
    if waiting.withdrawn and not waiting.answered:
        _answer([(waiting, Withdrawn())])
    return not waiting.withdrawn


def _answer(answers: Sequence[tuple[Waiting, Any]]) -> None:
    """Answer those who wait. A loop is woken once, however many of them are its coroutines: each time costs a write to
    its socket, and the loop's thread and this one contend for the interpreter."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Asked, Any]]] = {}
    for waiting, answer in answers:
        if isinstance(waiting, Asked):
            waiting.answered = True
            by_loop.setdefault(waiting.loop, []).append((waiting, answer))
        else:
            _settle(waiting, answer)
    for loop, its in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, its)
        except RuntimeError:
            pass  # the loop is closed: its process ends


def _resolve(answers: Sequence[tuple[Asked, Any]]) -> None:
    for asked, answer in answers:
        if not asked.future.done():  # its caller may have been cancelled
            _settle(asked.future, answer)


def _settle(future: Future[Any] | asyncio.Future[Any], answer: Any) -> None:
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def own_transaction(batch: B) -> B:
    """Mark a batch function that locks limits: its commands share a transaction among themselves only.

    Limits are locked before rows; beside a batch that has locked rows already, two processes could each wait
    for what the other holds.
    """
    batch.own_transaction = True  # type: ignore[attr-defined]
    return batch


def process_safe(batch: B) -> B:
    """Mark a batch function whose commits must survive any process, but not the host (see `Database.begin`)."""
    batch.durability = Durability.PROCESS  # type: ignore[attr-defined]
    return batch


def last_in_transaction(batch: B) -> B:
    """Mark a batch function that waits for rows of its own kind only, and skips others that are locked.

    In a shared transaction it comes after those that wait for the rows of their commands: holding its own meanwhile,
    it could keep up a transaction that they wait for."""
    batch.comes_last = True  # type: ignore[attr-defined]
    return batch


def locks_tasks(batch: B) -> B:
    """Mark a batch function that locks the tasks of its commands, their `task_id`.

    Those of all commands of a transaction are locked together, in one order: two processes whose transactions have
    several kinds of commands could else each wait for what the other has locked."""
    batch.locks_tasks = True  # type: ignore[attr-defined]
    return batch


def _comes_last(batch: Batch) -> bool:
    return bool(getattr(batch, "comes_last", False))


def _has_own(batch: Batch) -> bool:
    return bool(getattr(batch, "own_transaction", False))


def lost_a_race(error: BaseException) -> bool:
    """Whether PostgreSQL ended the transaction for another's sake (deadlock, serialisation): try again."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in ("40P01", "40001")
