"""The output object in what a model wrote: bare, in a fence, or within sentences. Pure.

Models that are asked for an object often put words around it. An object is found only where there is no doubt which
one is meant: of several, the one that fits the schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from runyard_common.schemas.outputs import OutputContract
from runyard_workers.agent.wire.text import cleaned

_FENCE: Final = re.compile(r"```[^\S\n]*[\w+-]*[^\S\n]*\n(.*?)```", re.DOTALL)
_INVISIBLE: Final = "\ufeff\u200b\u200c\u200d\u2060"
#: Places in a text where JSON may begin that are tried, and the longest text that is searched, in characters.
_MOST_PLACES: Final = 200
_LONGEST: Final = 2_000_000
_DECODER: Final = json.JSONDecoder()
_OPENING: Final = re.compile(r"[{\[]")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


def find(text: str, contract: OutputContract) -> dict[str, Any] | None:
    """The object that the text gives as the output of `contract`, or None where there is none, or doubt.

    An object that is the whole text, or the only one in it, counts even if it breaks the schema: its violations
    show best what is to be corrected.
    """
    text = text.strip().strip(_INVISIBLE).strip()
    if not text or len(text) > _LONGEST:
        return None
    unfit: list[dict[str, Any]] = []
    for values in (_whole(text), _fenced(text), _within(text)):
        objects = _distinct(one for value in values if (one := _object(value, contract)) is not None)
        fitting = [one for one in objects if not contract.violations(one)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            return None
        unfit = unfit or objects
    return unfit[0] if len(unfit) == 1 else None


def _whole(text: str) -> Iterator[Any]:
    yield from _parsed(text)


def _fenced(text: str) -> Iterator[Any]:
    for found in _FENCE.finditer(text):
        yield from _parsed(found[1].strip())


def _within(text: str) -> Iterator[Any]:
    """Every value that begins with a brace or a bracket and is part of no other, not even of a broken one."""
    at = 0
    for _ in range(_MOST_PLACES):
        place = _OPENING.search(text, at)
        if place is None:
            return
        try:
            value, at = _DECODER.raw_decode(text, place.start())
        except (ValueError, RecursionError):
            at = _end(text, place.start())
            continue
        yield cleaned(value)


def _end(text: str, start: int) -> int:
    """Behind the bracket that closes the one at `start`; the end of the text where none does."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] in ("{", "["):
            depth += 1
        elif token[0] in ("}", "]"):
            depth -= 1
            if depth == 0:
                return token.end()
    return len(text)


def _parsed(text: str) -> Iterator[Any]:
    try:
        yield cleaned(json.loads(text))
    except (ValueError, RecursionError):
        return


def _object(value: Any, contract: OutputContract) -> dict[str, Any] | None:
    """The value as the contract's object: unpacked from a list of one, or put under the name it has there."""
    for one in (value, value[0] if isinstance(value, list) and len(value) == 1 else None):
        if isinstance(one, dict) and (not contract.wrapped or not contract.violations(one)):
            return one
    if contract.wrapped:
        (name,) = contract.schema["required"]
        wrapped = {name: value}
        return None if contract.violations(wrapped) else wrapped
    return None


def _distinct(objects: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in objects:
        if one not in found:
            found.append(one)
    return found
