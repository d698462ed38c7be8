"""Multipart bodies: text fields, and files that are stored by their content before the run that names them."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import collapse_rfc2231_value
from pathlib import PurePosixPath
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from runyard_api.http.call import Call
from runyard_common.identity.rules.caps import STORAGE
from runyard_common.identity.service import caps
from runyard_common.values import bounds
from runyard_common.values.errors import InvalidRequest
from runyard_common.values.ids import uuid7

MOST_FILES: Final = bounds.FORM_FILES.most
MOST_FIELDS: Final = bounds.FORM_FIELDS.most
_LONGEST_NAME: Final = 255
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
#: Control characters, lone surrogates, line separators, and marks that turn the direction of a text.
_INVISIBLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
#: Names of devices on Windows, with any extension.
_RESERVED: Final = re.compile(r"con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]", re.IGNORECASE)
_ENCODED_WORD: Final = re.compile(r"=\?[\w-]+\?[bBqQ]\?[^?]*\?=")
_FIELD_NAME: Final = re.compile(rb"""(?:^|;)\s*(name=(?:"(?:[^"\\]|\\.)*"|[^;\s]+))""", re.IGNORECASE)
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")


@dataclass(slots=True)
class Form:
    """A parsed body: text fields by name (the last of a name counts), and the files in order."""

    fields: dict[str, str]
    files: list[tuple[str, UploadFile]]

    async def close(self) -> None:
        """Drop the files' temporary copies."""
        for _, upload in self.files:
            await upload.close()


async def read_form(call: Call, body: AsyncGenerator[bytes, None] | None = None) -> Form:
    """The multipart body (`body` where it was read before); `InvalidRequest` bad_multipart, nul_character,
    `PayloadTooLarge`."""
    settings = call.state.settings
    parser = _Parser(
        call.headers,
        call.stream(settings.max_upload_bytes) if body is None else body,
        max_files=MOST_FILES,
        max_fields=MOST_FIELDS,
        max_part_size=settings.max_body_bytes,
    )
    try:
        data = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequest(
            f"The multipart body cannot be read: {error.message}", code="bad_multipart"
        ) from None
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The multipart body cannot be read: {error!r}.", code="bad_multipart") from None
    finished = {id(value.file) for _, value in data.multi_items() if isinstance(value, UploadFile)}
    for file in parser._files_to_close_on_error:  # a part that the body broke off in has no owner
        if id(file) not in finished:
            file.close()
    form = Form({}, [])
    for name, value in data.multi_items():
        if isinstance(value, UploadFile):
            form.files.append((name, value))
        elif "\0" in value or "\0" in name:
            await data.close()
            raise InvalidRequest("Fields may not hold NUL characters.", code="nul_character", field=name)
        else:
            form.fields[name] = value
    return form


class _Parser(MultiPartParser):
    """Also reads the names of files that Starlette's parser drops with their files: `filename*` (RFC 5987)."""

    def on_headers_finished(self) -> None:
        name = _extended_name(self._current_part.content_disposition or b"")
        if name is not None:
            self._current_part.content_disposition = _without_names(self._current_part.content_disposition)
        super().on_headers_finished()
        if name is not None and self._current_part.file is not None:
            self._current_part.file.filename = name


def _extended_name(disposition: bytes) -> str | None:
    """The file name in `filename*`, which wins over `filename` (RFC 6266 §4.3); None without one."""
    if b"filename*" not in disposition.lower():
        return None
    message = Message()
    message["content-disposition"] = disposition.decode("latin-1").replace("\r", " ").replace("\n", " ")
    given: list[tuple[str, Any]] = message.get_params([], "content-disposition")
    values = [value for name, value in given if name.lower() == "filename"]
    names = [collapse_rfc2231_value(value) for value in values if isinstance(value, tuple)]
    return next((name for name in names if name), "file")


def _without_names(disposition: bytes | None) -> bytes:
    """The header with one plain file name: of several, or of a broken one, the part would count as no file."""
    name = _FIELD_NAME.search(disposition or b"")
    return b'form-data; filename="file"' + (b"; " + name[1] if name else b"")


async def store(call: Call, files: Sequence[tuple[str, UploadFile]]) -> list[dict[str, Any]]:
    """Put these files into the file store; the entries of a run's input for them. No two have the same name.

    Error: `Conflict` storage_full, before anything is stored.
    """
    await call.state.preview(caps.check, call.org_id, STORAGE, sum(upload.size or 0 for _, upload in files))
    names = distinct([file_name(upload.filename) for _, upload in files])
    return [
        await _store_one(call, field, upload, name)
        for (field, upload), name in zip(files, names, strict=True)
    ]


async def _store_one(call: Call, field: str, upload: UploadFile, name: str) -> dict[str, Any]:
    stored = await call.state.in_thread(call.state.files.put, upload.file)
    return {
        "id": uuid7(),
        "sha256": stored.sha256,
        "name": name,
        "media_type": media_type_of(upload.content_type, name),
        "size": stored.size,
        "field": _CONTROL.sub("", field)[:128],
    }


def file_name(given: str | None) -> str:
    """A file's own name, safe to join to a folder: no separators, control characters or reserved names.

    At most 255 bytes of UTF-8, the extension kept. A name that is nothing else ("..") becomes "file".
    """
    text = _decoded(given or "").replace("\\", "/")
    name = _INVISIBLE.sub("", text.rstrip("/").rpartition("/")[2]).strip().rstrip(". ")
    if not name:
        return "file"
    if _RESERVED.fullmatch(name.partition(".")[0].strip()):
        name = f"_{name}"
    path = PurePosixPath(name)
    suffix = _cut(path.suffix, 32)
    return _cut(path.stem, _LONGEST_NAME - len(suffix.encode())) + suffix


def distinct(names: Sequence[str]) -> list[str]:
    """The names, those that came before (in either case) with a number: name_1.ext."""
    seen: set[str] = set()
    found: list[str] = []
    for whole in names:
        name, count, path = whole, 0, PurePosixPath(whole)
        while name.casefold() in seen:
            count += 1
            tail = f"_{count}{path.suffix}"
            name = _cut(path.stem, _LONGEST_NAME - len(tail.encode())) + tail
        seen.add(name.casefold())
        found.append(name)
    return found


def _cut(text: str, most: int) -> str:
    """The beginning of a text, of at most so many bytes of UTF-8."""
    return text.encode()[:most].decode(errors="ignore")


def _decoded(name: str) -> str:
    """A name that came as an encoded word (RFC 2047), as some mail libraries write it; others as they are."""
    if not _ENCODED_WORD.search(name):
        return name
    try:
        return str(make_header(decode_header(name)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return name


def media_type_of(claimed: str | None, name: str) -> str:
    """The media type the caller claims, or what the name suggests; the content is looked at when it is used."""
    kind = (claimed or "").partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(kind) and len(kind) <= 128 and kind != "application/octet-stream":
        return kind
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
