"""Messages between an agent's code and the attempt that serves its context calls: tuples, pickled, with their length.

A worker trusts no pickle of its child: there is a short list of what it makes of one. Values of other types come in
their JSON form, a function as a reference by which the worker has it called where it is.
"""

from __future__ import annotations

import datetime
import decimal
import io
import pickle
import struct
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from runyard import json_form
from runyard.errors import AgentError
from runyard.json_form import NotJson
from runyard.turns import ModelTurn, ToolCall, ToolResult
from runyard_workers.agent_code.exceptions import summary

#: A message: its kind, then its fields.
Message = tuple[Any, ...]
#: Longest message of an agent's code, in bytes: what a run may store is far shorter.
LONGEST: Final = 64 * 2**20
HEAD: Final = struct.Struct(">I")
#: Types that cross as they are.
_PLAIN: Final = (
    datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal, uuid.UUID,
    bytearray, complex, frozenset, set, ModelTurn, ToolCall, ToolResult,
)  # fmt: skip
_KNOWN: Final[dict[tuple[str, str], Any]] = {
    ("builtins", "Ellipsis"): ...,
    **{(kind.__module__, kind.__name__): kind for kind in _PLAIN},
}


class Represented:
    """Takes the place of a value that stays with the agent's code: its text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _function(number: int) -> Any:
    raise pickle.UnpicklingError("a reference to a function is made by its reader")


def _same(value: Any) -> Any:
    return value


def _without_form(kind: str) -> Any:
    """A value of a type of that name, which has no JSON form either."""
    return type(kind, (), {"__slots__": ()})()


_OURS: Final = {f.__name__: f for f in (_same, _without_form, Represented)}


class Writer(pickle.Pickler):
    """Writes what an agent's code sends. `refer` gives functions their numbers."""

    def __init__(self, file: io.BytesIO, refer: Callable[[Callable[..., Any]], int]) -> None:
        super().__init__(file, protocol=5)
        self._refer = refer

    def reducer_override(self, value: Any) -> Any:
        """How `value` is written, where it is not of a basic type."""
        kind = type(value)
        if kind is datetime.datetime and type(value.tzinfo) not in (type(None), datetime.timezone):
            return _same, (value.replace(tzinfo=datetime.timezone(value.utcoffset())),)
        if kind is Represented:
            return Represented, (repr(value),)
        if value is _same or value is _without_form or value is _function or value is Represented:
            return NotImplemented
        if value is ... or kind in _PLAIN or (isinstance(value, type) and value in _PLAIN):
            return NotImplemented
        if callable(value):
            return _function, (self._refer(value),)
        try:
            return _same, (json_form.convert(value),)
        except NotJson:
            return _without_form, (kind.__name__,)


class Reader(pickle.Unpickler):
    """Reads what an agent's code sends. `function` makes what represents a function of that number."""

    def __init__(self, file: io.BytesIO, function: Callable[[int], Any]) -> None:
        super().__init__(file)
        self._make = function

    def find_class(self, module: str, name: str) -> Any:
        """One of the few that are known."""
        if module == __name__ and name == "_function":
            return self._make
        found = _OURS.get(name) if module == __name__ else _KNOWN.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"a message may not contain {module}.{name}")
        return found


def written(message: Message, refer: Callable[[Callable[..., Any]], int]) -> bytes:
    """A message of an agent's code. Raises `AgentError` for one that is too long or nests too deep."""
    file = io.BytesIO()
    try:
        Writer(file, refer).dump(message)
    except RecursionError:
        raise AgentError("A value nests too deep, or contains itself.", code="value_not_json") from None
    except Exception as error:
        raise AgentError(f"A value cannot be sent: {summary(error)}", code="value_not_json") from error
    text = file.getvalue()
    if len(text) > LONGEST:
        raise AgentError(
            f"A value is {len(text):,} bytes; {LONGEST:,} may cross between a process and its worker. Keep large "
            "data in a file or a store of its own, and give its address.",
            code="value_too_large",
        )
    return text


def read(text: bytes | memoryview, function: Callable[[int], Any]) -> Message:
    """A message of an agent's code. Raises `pickle.UnpicklingError` for what may not be in one."""
    try:
        message = Reader(io.BytesIO(text), function).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        raise pickle.UnpicklingError(f"a message cannot be read: {type(error).__name__}") from error
    if not isinstance(message, tuple) or not message or not isinstance(message[0], str):
        raise pickle.UnpicklingError("a message is a tuple that begins with its kind")
    return message


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The texts that are whole with this. Raises `ValueError` for one that is too long."""
        self._bytes += data
        at = 0
        while len(self._bytes) - at >= HEAD.size:
            (size,) = HEAD.unpack_from(self._bytes, at)
            if size > self._longest:
                raise ValueError(f"a message of {size:,} bytes")
            if len(self._bytes) - at - HEAD.size < size:
                break
            at += HEAD.size
            yield bytes(self._bytes[at : at + size])
            at += size
        del self._bytes[:at]


def framed(text: bytes) -> bytes:
    """A message's text as it is sent."""
    return HEAD.pack(len(text)) + text
