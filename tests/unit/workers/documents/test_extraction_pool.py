"""The extraction pool: the same answers as in process, and no file that can hold, bloat or end the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runyard_workers.documents import extraction_wire as wire
from runyard_workers.documents.extract import extract
from runyard_workers.documents.extraction import MIB, ExtractionError, ExtractLimits
from runyard_workers.documents.extraction_pool import ExtractionPool
from tests.unit.workers.documents import documents
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

# One page whose text takes pypdf tens of seconds, without a look at the clock.
TREACLE = documents.pdf_of_stream(b"BT /F1 12 Tf " + b"(A) Tj " * 600_000 + b"ET")


@pytest.fixture(scope="module")
def pool() -> Iterator[ExtractionPool]:
    with ExtractionPool(processes=1) as shared:
        yield shared


def refusal(pool: ExtractionPool, data: bytes, name: str, limits: ExtractLimits | None = None) -> str:
    with pytest.raises(ExtractionError) as caught:
        pool.extract(data, name, limits or ExtractLimits())
    assert caught.value.message.startswith(f"{name}: ")
    return caught.value.code


def child_pid(pool: ExtractionPool) -> int:
    pool.extract(b"hello", "a.txt")
    child = pool._slots.queue[-1]
    assert child is not None
    return child._process.pid


@pytest.mark.parametrize(
    ("data", "name"),
    [
        pytest.param(documents.pdf("one", "two"), "a.pdf", id="pdf"),
        pytest.param(documents.docx("Grüße \N{SNOWMAN}"), "a.docx", id="docx"),
        pytest.param(documents.xlsx([["a", 1]]), "a.xlsx", id="xlsx"),
        pytest.param(documents.image("JPEG", (3000, 1000)), "a.jpg", id="image"),
        pytest.param(b"a;b\n1;2\n", "a.csv", id="csv"),
    ],
)
def test_a_child_gives_the_same_answer_as_the_function(pool: ExtractionPool, data: bytes, name: str) -> None:
    assert pool.extract(data, name) == extract(data, name)


def test_a_child_gives_the_same_error_as_the_function(pool: ExtractionPool) -> None:
    locked = documents.encrypted(documents.pdf("x"), "password")
    with pytest.raises(ExtractionError) as there:
        pool.extract(locked, "locked.pdf")
    with pytest.raises(ExtractionError) as here:
        extract(locked, "locked.pdf")
    assert (there.value.code, there.value.message) == (here.value.code, here.value.message)


def test_limits_and_the_claimed_type_reach_the_child(pool: ExtractionPool) -> None:
    assert pool.extract(b"x" * 50, "a.txt", ExtractLimits(characters=10)).text == "x" * 10
    assert pool.extract(b"a,b\n", "a", claimed_type="text/csv").kind == "csv"


def test_a_child_is_reused(pool: ExtractionPool) -> None:
    assert child_pid(pool) == child_pid(pool)


def test_a_child_that_has_served_its_turn_is_replaced(
    pool: ExtractionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = child_pid(pool)
    monkeypatch.setattr("runyard_workers.documents.extraction_pool.FILES_PER_CHILD", 0)
    pool.extract(b"its last", "a.txt")
    monkeypatch.undo()
    assert child_pid(pool) != first


def test_a_file_that_holds_its_parser_is_given_up_in_time_and_the_next_is_read(pool: ExtractionPool) -> None:
    before = child_pid(pool)
    started = time.monotonic()
    assert refusal(pool, TREACLE, "treacle.pdf", ExtractLimits(seconds=0.3)) == "extraction_timeout"
    assert time.monotonic() - started < 30
    assert pool.extract(documents.pdf("next"), "next.pdf").text == "[page 1]\nnext"
    assert child_pid(pool) != before


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda: documents.plain_png(5500, 5500), "wall.png"), (lambda: b"<p>x" * 4_000_000, "wall.html")],
    ids=["image", "markup"],
)
def test_a_file_that_needs_more_memory_than_allowed_is_refused_and_the_next_is_read(
    make: Callable[[], bytes], name: str
) -> None:
    with ExtractionPool(1, memory_bytes=160 * MIB) as small:
        assert refusal(small, make(), name) == "extraction_out_of_memory"
        assert small.extract(b"next", "next.txt").text == "next"


def test_a_child_that_holds_on_to_much_memory_is_replaced() -> None:
    with ExtractionPool(1, memory_bytes=130 * MIB) as small:  # any child holds more than half of it
        assert small.extract(b"one", "one.txt").text == "one"
        assert small._slots.queue == [None]
        assert small.extract(b"two", "two.txt").text == "two"


def cpu_ticks(pid: int) -> int:
    """The processor time that a process has used, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_parser_that_dies_of_a_file_takes_no_worker_with_it(pool: ExtractionPool) -> None:
    victim = child_pid(pool)
    before = cpu_ticks(victim)

    def crash() -> None:
        wait_until(lambda: cpu_ticks(victim) > before + 20)  # it parses
        os.kill(victim, signal.SIGSEGV)

    threading.Thread(target=crash).start()
    assert refusal(pool, TREACLE, "killer.pdf", ExtractLimits(seconds=20)) == "extraction_crashed"
    assert pool.extract(b"next", "next.txt").text == "next"


def test_a_child_that_died_between_files_is_replaced(pool: ExtractionPool) -> None:
    victim = child_pid(pool)
    os.kill(victim, signal.SIGKILL)
    os.waitid(os.P_PID, victim, os.WEXITED | os.WNOWAIT)
    assert pool.extract(b"next", "next.txt").text == "next"


def test_a_file_beyond_the_size_limit_never_reaches_a_child() -> None:
    with ExtractionPool(1) as unused:
        assert refusal(unused, bytes(101), "big.bin", ExtractLimits(input_bytes=100)) == "file_too_large"
        assert unused._slots.queue == [None]


def test_threads_share_the_children(pool: ExtractionPool) -> None:
    with ThreadPoolExecutor(8) as threads:
        texts = threads.map(
            lambda number: pool.extract(documents.pdf(f"no {number}"), "a.pdf").text, range(40)
        )
    assert list(texts) == [f"[page 1]\nno {number}" for number in range(40)]


def test_children_see_no_secret_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_SECRET_KEY", "do-not-leak")
    monkeypatch.setenv("OPENAI_API_KEY", "do-not-leak")
    with ExtractionPool(1) as fresh:
        environment = Path(f"/proc/{child_pid(fresh)}/environ").read_bytes()
    assert b"PYTHONPATH" in environment
    assert b"do-not-leak" not in environment


def test_closing_ends_the_children() -> None:
    with ExtractionPool(1) as brief:
        pid = child_pid(brief)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def orphan() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "runyard_workers.documents.extraction_child", str(1024 * MIB)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_child_ends_with_its_worker_when_idle() -> None:
    with orphan() as child:
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(50) == 0


def test_a_child_ends_by_its_own_clock_when_its_worker_is_gone() -> None:
    with orphan() as child:
        assert child.stdin is not None
        wire.write(child.stdin, *wire.request(TREACLE, "treacle.pdf", ExtractLimits(seconds=0.1), ""))  # type: ignore[arg-type]
        child.stdin.close()
        assert child.wait(50) == -signal.SIGALRM
