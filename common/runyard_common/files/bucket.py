"""The file store in an S3-compatible bucket: an object ``ab/abcd…`` per content, large ones in parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from runyard_common.files.store import (
    SHA256,
    FileNotStored,
    FileStore,
    FileStoreUnavailable,
    StoredFile,
    checked,
)
from runyard_common.values.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore import BytesStream
    from obstore.store import ClientConfig, RetryConfig, S3Config

_OPTIONS = {"endpoint", "region", "path_style"}
_FRESH = timedelta(minutes=10)
# Shorter than the client's own patience (ten tries, three minutes): a request waits behind these.
_RETRY: RetryConfig = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=3),
        "base": 2,
    },
}


class BucketFileStore(FileStore):
    """A prefix of a bucket; a lifecycle rule of the bucket should drop unfinished multipart uploads."""

    def __init__(self, bucket: S3Store) -> None:
        self._bucket = bucket

    @staticmethod
    def from_url(url: str) -> BucketFileStore:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(options.keys() - _OPTIONS):
            raise _misconfigured(f"unknown option {', '.join(unknown)}; known: {', '.join(sorted(_OPTIONS))}")
        bucket = parts.netloc.rpartition("@")[2]  # not .hostname, which lowers the case
        if not bucket:
            raise _misconfigured("s3:// needs a bucket name")
        endpoint = options.get("endpoint") or _environment(
            "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"
        )
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise _misconfigured("its endpoint must begin with http:// or https://")
        store = S3Store(
            bucket,
            prefix=unquote(parts.path).strip("/") or None,
            config=_config(parts, options, endpoint),
            client_options=_client(endpoint),
            retry_config=_RETRY,
        )
        return BucketFileStore(store)

    def stat(self, sha256: str) -> StoredFile | None:
        with _bucket_errors():
            try:
                meta = self._bucket.head(_key(sha256))
            except FileNotFoundError:
                return None
        return StoredFile(sha256, meta["size"], meta["last_modified"])

    def delete(self, sha256: str, *, unless_renewed_since: datetime | None = None) -> bool:
        stored = self.stat(sha256)
        if stored is None or stored.renewed_since(unless_renewed_since):
            return False
        with _bucket_errors():
            self._bucket.delete(_key(sha256))
        return True

    def walk(self) -> Iterator[StoredFile]:
        with _bucket_errors():
            for page in self._bucket.list(chunk_size=1000):
                for meta in page:
                    name = meta["path"].rpartition("/")[2]
                    if SHA256.fullmatch(name):
                        yield StoredFile(name, meta["size"], meta["last_modified"])

    def check(self) -> None:
        with _bucket_errors():
            next(iter(self._bucket.list(chunk_size=1)), None)

    def _renew(self, stored: StoredFile) -> bool:
        # S3 cannot touch an object: one that is not fresh is sent again, over itself.
        return stored.renewed_at > datetime.now(UTC) - _FRESH

    def _write(self, sha256: str, stream: BinaryIO) -> None:
        with _bucket_errors():
            self._bucket.put(_key(sha256), stream)

    def _read(self, sha256: str, chunk_bytes: int) -> Iterator[bytes]:
        with _bucket_errors():
            try:
                found = self._bucket.get(_key(sha256))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                raise FileNotStored(sha256=sha256) from None
        return _chunks(found.stream(min_chunk_size=chunk_bytes))


def _config(parts: SplitResult, options: dict[str, str], endpoint: str | None) -> S3Config:
    config: S3Config = {"disable_bulk_delete": True}  # single deletes: some servers know no other
    if endpoint:
        config["endpoint"] = endpoint
    if region := options.get("region") or _environment("AWS_REGION", "AWS_DEFAULT_REGION"):
        config["region"] = region
    if parts.username and parts.password:
        config["access_key_id"] = unquote(parts.username)
        config["secret_access_key"] = unquote(parts.password)
    if options.get("path_style", "true").lower() in ("0", "false", "no"):
        config["virtual_hosted_style_request"] = True
    return config


def _client(endpoint: str | None) -> ClientConfig:
    return {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": timedelta(seconds=30),
        "timeout": timedelta(minutes=10),  # a whole transfer, not one read
    }


def _environment(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _misconfigured(problem: str) -> ConfigurationError:
    return ConfigurationError(f"RUNYARD_FILES_URL: {problem}.", field="RUNYARD_FILES_URL")


def _key(sha256: str) -> str:
    return f"{checked(sha256)[:2]}/{sha256}"


def _chunks(pieces: BytesStream) -> Iterator[bytes]:
    with _bucket_errors():
        for piece in pieces:
            yield bytes(piece)


@contextmanager
def _bucket_errors() -> Iterator[None]:
    """Translate the client's errors; their texts name the endpoint, which is for the log, not for callers."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileStoreUnavailable(
            "The file store's bucket does not exist: create it or fix its name."
        ) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise FileStoreUnavailable(
            "The file store refused the credentials: check key, secret and policy."
        ) from error
    except BaseError as error:
        raise FileStoreUnavailable from error
