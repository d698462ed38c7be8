"""Exceptions in the journal: a replay raises what the first attempt raised, of the same type and with the same text."""

from __future__ import annotations

import sys
from typing import Any, Final

from runyard import json_form
from runyard.errors import StepFailed
from runyard.json_form import NotJson
from runyard_workers.agent_code.exceptions import Described, kind_of, text_of

_MOST_BYTES: Final = 16 * 2**10  # of arguments and attributes
_MOST_INNER: Final = 20  # errors of a group
_DEEPEST: Final = 5  # groups in groups


def describe(error: BaseException, depth: int = 0) -> dict[str, Any]:
    """A failure as the journal keeps it: type, text, and those arguments and attributes that are plain JSON."""
    if issubclass(type(error), Described):  # an exception may lie about its class, or raise where it is asked
        found: dict[str, Any] = error.described  # type: ignore[attr-defined]
        return found
    found = {
        "type": kind_of(error),
        "module": type(error).__module__,
        "name": type(error).__qualname__,
        "message": text_of(error),
        "args": _plain(list(BaseException.args.__get__(error)), None),  # type: ignore[attr-defined]
        "state": _state(error),
    }
    if issubclass(type(error), BaseExceptionGroup) and depth < _DEEPEST:
        group: Any = error
        found["message"] = text_of(Exception(group.message))
        found["inner"] = [describe(inner, depth + 1) for inner in group.exceptions[:_MOST_INNER]]
    return {key: json_form.name(value) if isinstance(value, str) else value for key, value in found.items()}


def raised_again(described: dict[str, Any]) -> Exception:
    """The exception that was described; `StepFailed` with its text and type where its class is not to be found."""
    kind = _class(described)
    if kind is None:
        return StepFailed(described["message"], type=described["type"])
    if issubclass(kind, ExceptionGroup):
        inner = [raised_again(one) for one in described.get("inner") or ()]
        return ExceptionGroup(described["message"], inner or [StepFailed(described["message"])])
    error = _made(kind, described)
    if text_of(error) == described["message"]:
        return error
    # Its own text needs what was not kept: the same type in every other respect, with the text as it was.
    message = described["message"]
    try:
        return _made(type(kind.__name__, (kind,), {"__str__": lambda self: message}), described)
    except Exception:  # noqa: BLE001 - a class that may not be extended
        return StepFailed(message, type=described["type"])


def _made(kind: type[Exception], described: dict[str, Any]) -> Exception:
    arguments = described.get("args")
    arguments = [described["message"]] if arguments is None else arguments
    try:
        error = kind.__new__(kind, *arguments)
    except Exception:  # noqa: BLE001 - a constructor with ideas of its own
        error = Exception.__new__(kind)
    error.args = tuple(arguments)
    for name, value in (described.get("state") or {}).items():
        try:
            setattr(error, name, value)
        except Exception:  # noqa: BLE001, S110 - a property
            pass
    return error


def _class(described: dict[str, Any]) -> type[Exception] | None:
    """The class by its module and name, if that is loaded and what it was."""
    found: Any = sys.modules.get(described.get("module", "builtins"))
    for part in described.get("name", described["type"]).split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _state(error: BaseException) -> dict[str, Any]:
    try:
        attributes = getattr(error, "__dict__", None)
    except BaseException:  # noqa: BLE001 - its author's code
        return {}
    if not isinstance(attributes, dict):
        return {}
    kept = {name: value for name, value in attributes.items() if not name.startswith("_")}
    whole = _plain(kept, None)
    if whole is not None:
        return dict(whole)
    return {name: value for name, value in kept.items() if _plain([value], None) is not None}


def _plain(value: Any, otherwise: Any) -> Any:
    """`value` if it is JSON already and not long."""
    try:
        read, size = json_form.measure(value)
    except NotJson:
        return otherwise
    return read if size <= _MOST_BYTES and read == value else otherwise
