"""A disk without room under the embedded database: refusals that say so, and nothing accepted that is not stored.

The disk is a small tmpfs where this process may mount one, by itself or in a user namespace of its own; elsewhere a
limit on the size of files replaces it, which SQLite and Python meet as an error of the same kind.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from structlog.testing import capture_logs

from runyard_common.database import outages
from runyard_common.database.engine import Database
from runyard_common.telemetry import TolerantStream
from tests.api_server import Api


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """Fill the file system of `folder`, but for a few KB, or forbid larger files."""
    if os.path.ismount(folder):
        ballast = folder / "ballast"
        _fill(ballast)
        try:
            yield
        finally:
            ballast.unlink()
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with capture_logs():  # the test's own log is a file, too
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _fill(file: Path) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(handle, b"\0" * 65536)
    except OSError:
        pass  # no space left on device
    finally:
        os.close(handle)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 MB, or any folder where none can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_503_with_retry_after_on_every_surface_and_everything_accepted_is_stored(
    small_disk: Path,
) -> None:
    with Api(small_disk / "home") as api, api.client() as client:
        agent = client.post("/api/v1/agents", json={"name": "Helper", "system_prompt": "Be kind."}).json()
        client.post(f"/api/v1/agents/{agent['id']}/versions/publish").raise_for_status()
        assert _submit(client, 0).status_code == 202
        accepted = 1
        with _full_disk(small_disk):
            answers = [_submit(client, n) for n in range(30)]
            answers.append(client.post("/run-agent", json={"message": "x"}))
            answers.append(
                client.post("/api/agent/run", json={"agentName": "helper", "args": {"query": "x"}})
            )
            answers.append(
                client.post(
                    "/api/v1/agents/helper/run", data={"query": "x"}, files={"f": ("f", b"\1" * 3_000_000)}
                )
            )
            ready = client.get("/readyz")
            assert client.get("/api/v1/tasks").status_code in (200, 503)
            assert client.get("/healthz").status_code == 200
        accepted += sum(answer.status_code == 202 for answer in answers)
        refused = [answer for answer in answers if answer.status_code != 202]
        assert {answer.status_code for answer in refused} == {503}, [a.text for a in refused]
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        assert (ready.status_code, ready.json()["code"]) == (503, "disk_full")
        assert len(refused) > 10
        assert client.get("/readyz").status_code == 200
        assert _submit(client, 99).status_code == 202
        assert api.count_tasks() == accepted + 1


def test_a_log_on_a_full_disk_loses_lines_and_raises_nothing() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            raise ValueError("I/O operation on closed file")

    log = TolerantStream(Full())
    assert log.write("a line") == 6
    log.flush()
    assert log.lost == 2


def test_a_process_whose_log_cannot_be_written_goes_on(tmp_path: Path) -> None:
    code = """
        import structlog
        from runyard_common import telemetry
        telemetry.configure()
        for _ in range(3):
            structlog.get_logger().warning("The database does not answer.")
        print("went on")
    """
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE, stderr=full, text=True, timeout=50, check=False,
        )  # fmt: skip
    assert ended.stdout == "went on\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_quota_and_a_limit_count_as_a_full_disk(number: int) -> None:
    assert outages.is_full(OSError(number, os.strerror(number)))
    assert not outages.is_full(OSError(errno.ENOENT, "gone"))


def test_the_check_of_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'runyard.db'}")
    before = sorted(tmp_path.iterdir())
    db.check_disk()
    assert sorted(tmp_path.iterdir()) == before
    db.close()


def _submit(client: httpx2.Client, number: int) -> httpx2.Response:
    return client.post("/api/v1/agents/helper/run", json={"query": f"{number} " + 50_000 * "x"})
