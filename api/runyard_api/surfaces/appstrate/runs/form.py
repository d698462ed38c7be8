"""The multipart body of a run: `input` as JSON text, and uploads under the names of the agent's file fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import UploadFile

from runyard_api.http import uploads
from runyard_api.http.call import Call
from runyard_api.surfaces.appstrate import idempotency
from runyard_api.surfaces.appstrate.runs import inputs
from runyard_common.values.errors import InvalidRequest

#: The part name of the published document, for agents with one file field.
GENERIC = "file"


async def read(call: Call, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The judged input, and a run's entry for each stored file. Errors: those of `inputs` and `uploads`."""
    form = await uploads.read_form(call, idempotency.pieces(call))
    try:
        given = await call.parse(form.fields["input"].encode(), "input") if form.fields.get("input") else {}
        fields = inputs.file_fields(manifest)
        files = _renamed(_placed(form.files, fields))
        sizes: dict[str, list[tuple[str, int]]] = {}
        for name, upload in files:
            sizes.setdefault(name, []).append((upload.filename or "file", upload.size or 0))
        inputs.check_files(fields, sizes)
        args = await call.work_on_body(inputs.judged, given, manifest)
        stored = await uploads.store(call, files)
    finally:
        await form.close()
    for name in sizes:
        named = [file["name"] for file in stored if file["field"] == name]
        args[name] = named if fields[name].many else named[0]
    return args, stored


def refuse_json(manifest: Mapping[str, Any]) -> None:
    """An agent with file fields takes multipart bodies only: `InvalidRequest`."""
    fields = inputs.file_fields(manifest)
    if fields:
        name = next(iter(fields))
        raise InvalidRequest(
            "This agent takes files: send multipart/form-data.", code="invalid_request", field=name
        )


def _placed(
    files: list[tuple[str, UploadFile]], fields: Mapping[str, inputs.FileField]
) -> list[tuple[str, UploadFile]]:
    given = [(name, upload) for name, upload in files if upload.filename or upload.size]
    if len(fields) != 1 or GENERIC in fields:
        return given
    (only,) = fields
    return [(only if name == GENERIC else name, upload) for name, upload in given]


def _renamed(files: list[tuple[str, UploadFile]]) -> list[tuple[str, UploadFile]]:
    """A name that comes again gets a number: name_1.ext."""
    names = uploads.distinct([uploads.file_name(upload.filename) for _, upload in files])
    for (_, upload), name in zip(files, names, strict=True):
        upload.filename = name
    return files
