"""Checks every answer against the OpenAPI document: its status is listed, its body fits the schema."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import httpx2
from jsonschema import Draft202012Validator

from runyard_api.documents.openapi import document
from runyard_api.fronts import operations
from runyard_api.http.operations import Operation


@lru_cache(maxsize=1)
def _document() -> dict[str, Any]:
    return document(operations())


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], Operation]]:
    """Paths as patterns, those without placeholders first."""
    found = [(_pattern(path), path, operation) for operation in operations() for path in operation.paths]
    return [
        (pattern, operation) for pattern, path, operation in sorted(found, key=lambda item: "{" in item[1])
    ]


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+(:agent)?\}", path)
    text = "".join(
        r"(?:@[^/]+/)?[^/]+" if part == ":agent" else r"[^/]+" if part is None else re.escape(part)
        for part in parts
    )
    return re.compile(text)


def check(answer: httpx2.Response) -> None:
    """AssertionError unless the document has this answer."""
    request = answer.request
    asked = request.url.path
    if "dry_run" in request.url.params:  # the older form of a path of its own
        asked = re.sub("/run$", "/dry-run", asked)
    operation = next((o for p, o in _patterns() if o.method == request.method and p.fullmatch(asked)), None)
    if operation is None:
        return  # no such route: what answers then is no operation's
    path = re.sub(r":\w+}", "}", operation.paths[0])
    responses = _document()["paths"][path][operation.method.lower()]["responses"]
    where = f"{operation.method} {path} → {answer.status_code}"
    assert str(answer.status_code) in responses, f"{where} is not documented: {answer.text[:300]}"
    content = responses[str(answer.status_code)].get("content", {})
    if answer.status_code in (204, 304):
        assert not answer.content
        return
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    binary = media_type not in content and "*/*" in content
    assert media_type in content or binary, f"{where}: {media_type} is not documented"
    if media_type.endswith("json"):
        schema = {"components": _document()["components"], **content[media_type]["schema"]}
        errors = [
            f"{e.json_path}: {e.message}" for e in Draft202012Validator(schema).iter_errors(answer.json())
        ]
        assert not errors, f"{where}: {errors[:3]}"


async def async_hook(answer: httpx2.Response) -> None:
    """`hook`, for asynchronous clients."""
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        await answer.aread()
        check(answer)


def hook(answer: httpx2.Response) -> None:
    """For clients: check every answer that is no stream."""
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        answer.read()
        check(answer)
