"""Multipart bodies: text fields, and files that are stored by their content before the run that names them."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from api.call import Call
from common.domain.errors import InvalidRequest
from common.domain.ids import uuid7

MOST_FILES: Final = 100
MOST_FIELDS: Final = 300
_LONGEST_NAME: Final = 255
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
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
    parser = MultiPartParser(
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
    for file in parser._files_to_close_on_error:  # a part that the body broke off in belongs to nobody
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


async def store(call: Call, files: Sequence[tuple[str, UploadFile]]) -> list[dict[str, Any]]:
    """Put these files into the file store; what a run's input tells of each."""
    return [await _store_one(call, field, upload) for field, upload in files]


async def _store_one(call: Call, field: str, upload: UploadFile) -> dict[str, Any]:
    stored = await call.state.aside(call.state.files.put, upload.file)
    name = file_name(upload.filename)
    return {
        "id": uuid7(),
        "sha256": stored.sha256,
        "name": name,
        "media_type": media_type_of(upload.content_type, name),
        "size": stored.size,
        "field": _CONTROL.sub("", field)[:128],
    }


def file_name(given: str | None) -> str:
    """A file's own name, without folders or control characters, in at most 255 bytes of UTF-8."""
    name = _CONTROL.sub("", PurePosixPath((given or "").replace("\\", "/")).name).strip()
    while len(name.encode()) > _LONGEST_NAME:
        name = name[1:] if "." in name[1:] else name[:-1]
    return name or "file"


def media_type_of(claimed: str | None, name: str) -> str:
    """The media type the caller claims, or what the name suggests; the content is looked at when it is used."""
    kind = (claimed or "").partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(kind) and len(kind) <= 128 and kind != "application/octet-stream":
        return kind
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
