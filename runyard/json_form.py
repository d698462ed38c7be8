"""The JSON form of Python values: one for outputs, step results, questions, events and errors. Pure.

docs/agents.md, section Values, is the table of it. Plain JSON is looked through for its depth and written by orjson;
the rest of a value is converted member by member, so that a refusal names its place.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import math
import re
import uuid
from collections import UserString
from collections.abc import Callable, Iterable, Mapping, Sequence, Set, ValuesView
from itertools import islice
from pathlib import PurePath
from typing import Any, Final

import orjson

from runyard.extras import MissingExtra

#: How deep a value may nest. orjson stops at 254, and a stored value is wrapped a few times on its way out.
DEEPEST: Final = 200
#: Members of a value that has to be walked: what has no end, or contains itself many times over, is refused before
#: it fills the memory.
_MOST_MEMBERS: Final = 500_000
#: Steps from an object of some type to what is JSON by itself.
_MOST_FOLDS: Final = 20
#: What a number of JSON has; any other integer is text.
INTEGERS: Final = range(-(2**63), 2**64)
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LONGEST_PATH: Final = 120
#: What orjson writes in the form: exactly these types, not their subclasses.
_LEAVES: Final = frozenset({str, int, float, bool, type(None), datetime.datetime, datetime.date, uuid.UUID})
#: Members of a set that sort by themselves, always in the same order; any others sort by their JSON text.
_SORTABLE: Final = (int, float, str, bytes, decimal.Decimal, fractions.Fraction, datetime.date, uuid.UUID)
_TOO_DEEP: Final = f"it nests deeper than {DEEPEST} levels, or contains itself"

_TOO_MANY: Final = "it contains too many members, or itself many times over"


class NotJson(ValueError):
    """A value has no JSON form. `path` is its place (``$.lines[3].amount``), `reason` why."""

    def __init__(self, reason: str) -> None:
        self.path = "$"
        self.reason = reason
        super().__init__(reason)

    def inside(self, segment: str) -> NotJson:
        """The same refusal, seen from one level further out."""
        path = "$" + segment + self.path[1:]
        self.path = path if len(path) <= _LONGEST_PATH else path[: _LONGEST_PATH - 1] + "…"
        return self

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class _NotFinite(NotJson):
    """NaN or an infinity."""


def measure(value: Any) -> tuple[Any, int]:
    """`value` in its JSON form, and how many bytes that is as text. Raises `NotJson` at what has none."""
    text = _written(value)
    if text is not None:
        read = orjson.loads(text)
        if read == value or b"null" not in text:  # as null orjson writes NaN too
            return read, len(text)
    text = orjson.dumps(_converted(value))
    return orjson.loads(text), len(text)


def convert(value: Any) -> Any:
    """`value` in its JSON form. Raises `NotJson` with the place of what has none."""
    return measure(value)[0]


def encode(value: Any) -> bytes:
    """The form's text. Raises `NotJson`."""
    return orjson.dumps(convert(value))


def clean(text: str) -> str:
    """`text` with lone surrogates replaced by U+FFFD: half a pair is no character and has no UTF-8."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def name(text: str) -> str:
    """`text` as a column of text can store it: as `clean`, and without NUL, which PostgreSQL refuses."""
    return clean(text).replace("\0", "\ufffd")


def _written(value: Any) -> bytes | None:
    """What orjson makes of a plain value; None of one with lone surrogates, long integers or other keys."""
    if not _is_plain(value):
        return None
    try:
        return orjson.dumps(value)
    except TypeError:
        return None


def _is_plain(value: Any) -> bool:
    """Whether `value` is of plain types only, at a depth orjson can be given.

    orjson counts no depth of tuples: a chain of some thousand overruns its buffer and ends the process.
    """
    if type(value) in _LEAVES:
        return True
    level = [value]
    for _ in range(DEEPEST):
        deeper: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is not dict and kind is not list and kind is not tuple:
                return False
            members = one.values() if kind is dict else one
            if not _LEAVES.issuperset(map(type, members)):
                deeper += [member for member in members if type(member) not in _LEAVES]
        if not deeper:
            return True
        if len(deeper) > _MOST_MEMBERS:
            raise NotJson(_TOO_MANY)
        level = deeper
    return False


def _converted(value: Any) -> Any:
    try:
        return _Walk().convert(value, 0)
    except NotJson:
        raise
    except RecursionError:
        raise NotJson(_TOO_DEEP) from None
    except BaseException as error:  # noqa: BLE001 - a mapping or an iterator of the author's own may even exit
        raise NotJson(f"{type(value).__name__} cannot be written: {_text_of(error)}") from None


class _Walk:
    """Converts one value, member by member. `write_bytes` is for those in it that have a form of their own."""

    def __init__(self, write_bytes: Callable[[bytes], str] | None = None) -> None:
        self._left = _MOST_MEMBERS
        self._write_bytes = write_bytes

    def convert(self, value: Any, depth: int, folds: int = 0) -> Any:
        """The form of `value` in types that orjson writes as they are."""
        if value is None or value is True or value is False:
            return value
        if not isinstance(value, enum.Enum):
            if isinstance(value, str):
                return clean(str.__str__(value))
            if isinstance(value, float):
                return _float(value)
            if isinstance(value, int):
                return _integer(value)
        if isinstance(value, dict | list | tuple | Set | Mapping):
            self._count()
            if depth >= DEEPEST:
                raise NotJson(_TOO_DEEP)
            return self._container(value, depth)
        if self._write_bytes is not None and isinstance(value, bytes | bytearray):
            return self._write_bytes(bytes(value))
        if folds >= _MOST_FOLDS:  # what unfolds into another of its kind, for ever
            raise NotJson(_TOO_DEEP)
        return self.convert(_unfold(value), depth, folds + 1)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise NotJson(_TOO_MANY)

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._object(value, depth)
        if not isinstance(value, Set):
            return self._array(value, depth)
        if _sorts(value):
            try:
                return self._array(sorted(value), depth)
            except TypeError:  # dates with a zone, and others without
                pass
        return sorted(self._array(value, depth), key=orjson.dumps)

    def _array(self, members: Iterable[Any], depth: int) -> list[Any]:
        found: list[Any] = []
        try:
            for member in members:
                self._count()
                found.append(self.convert(member, depth + 1))
        except NotJson as error:
            raise error.inside(f"[{len(found)}]") from None
        return found

    def _object(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, member in list(islice(value.items(), self._left + 1)):
            self._count()
            text = _key(key)
            if text in found:
                first = next(k for k in value if _key(k) == text)
                raise NotJson(f"its keys {_shown(first)} and {_shown(key)} are the same in JSON")
            try:
                found[text] = self.convert(member, depth + 1)
            except NotJson as error:
                raise error.inside(f".{text}" if _PLAIN_KEY.match(text) else f"[{_shown(text)}]") from None
        return found


def _key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return clean(str.__str__(key))
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int | float):
        return str(_float(key) if isinstance(key, float) else _integer(key))
    no_text = NotJson(f"it has a key of type {type(key).__name__}: use text")
    if isinstance(key, bytes | bytearray | memoryview | Mapping | Set | Sequence):
        raise no_text
    unfolded = _unfold(key)
    if not isinstance(unfolded, str):
        raise no_text
    return unfolded


def _float(value: float) -> float:
    if not math.isfinite(value):
        raise _NotFinite(f"{float.__repr__(value)} is no JSON number: use None or text")
    return float.__float__(value)


def _integer(value: int) -> int | str:
    number = int.__int__(value)
    if number in INTEGERS:
        return number
    try:
        return str(number)
    except ValueError:  # Python writes no more than sys.get_int_max_str_digits()
        raise NotJson("it is an integer of too many digits") from None


def _sorts(members: Set[Any]) -> bool:
    """Whether the members have one order by themselves; that of other kinds may depend on the process."""
    kinds = {type(member) for member in members}
    return len(kinds) == 1 and issubclass(kinds.pop(), _SORTABLE)


def _unfold(value: Any) -> Any:
    """One step towards the form of what is no JSON by itself."""
    for kinds, unfold in _FORMS:
        if isinstance(value, kinds):
            return unfold(value)
    if isinstance(value, type):
        raise NotJson(f"the class {value.__name__} has no JSON form")
    if hasattr(value, "model_dump"):
        return _guarded(value, _dumped)
    if dataclasses.is_dataclass(value):
        return _guarded(value, _fields)
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return _guarded(value, _by_pydantic)


def _guarded(value: Any, unfold: Callable[[Any], Any]) -> Any:
    """`unfold(value)`, which may run the author's code: anything that raises is one refusal."""
    try:
        return unfold(value)
    except NotJson:
        raise
    except BaseException as error:  # noqa: BLE001 - a serializer may even exit
        raise NotJson(f"{type(value).__name__} cannot be written: {_text_of(error)}") from None


def _text_of(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {clean(str(error))[:200]}"
    except BaseException:  # noqa: BLE001 - so may an error's own text
        return type(error).__name__


def _dumped(value: Any) -> Any:
    kind = type(value)
    is_model = hasattr(kind, "__pydantic_core_schema__")
    agreed = _model_bytes().serializer(kind) if is_model else None
    try:
        if agreed is None:
            dumped = value.model_dump(mode="json", by_alias=True)  # as the schema of its input has it
        else:
            dumped = agreed.to_python(value, mode="json", by_alias=True)
    except (TypeError, ValueError):
        # A field that the model cannot write has the form it has elsewhere; bytes have the one that the model has.
        writes = _model_bytes().writer(kind, _utf8, _base64) if is_model else _utf8
        return _Walk(writes).convert(value.model_dump(by_alias=True), 0)
    if _may_have_null(dumped):  # a NaN, where the field is typed Any
        try:
            _Walk().convert(value.model_dump(by_alias=True), 0)
        except _NotFinite:
            raise
        except NotJson:
            pass
    return dumped


def _model_bytes() -> Any:
    from runyard import model_bytes  # not at the top, as a client needs no pydantic

    return model_bytes


def _may_have_null(dumped: Any) -> bool:
    try:
        return b"null" in orjson.dumps(dumped, default=str)
    except TypeError:  # an integer of more than 64 bits, which has its form later
        return True


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NotJson(
            "these bytes are no UTF-8: set ser_json_bytes and val_json_bytes of the model to 'base64'"
        ) from None


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _by_pydantic(value: Any) -> Any:
    no_form = NotJson(f"{type(value).__name__} has no JSON form")
    if isinstance(value, complex | Iterable):  # pydantic would use an iterator up
        raise no_form
    try:
        return _pydantic_form(value)
    except (MissingExtra, ValueError):
        raise no_form from None


def _duration(value: datetime.timedelta) -> Any:
    try:
        return _pydantic_form(value)
    except MissingExtra as missing:
        raise NotJson(str(missing)) from None


def _pydantic_form(value: Any) -> Any:
    # Not at the top: a client needs it for few values, and pydantic takes longer to import than the rest.
    try:
        from pydantic_core import to_jsonable_python
    except ModuleNotFoundError as missing:
        raise MissingExtra(f"The JSON form of a {type(value).__name__}", "typed") from missing
    return to_jsonable_python(value)


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode()


_ADDRESSES: Final = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)  # interfaces are addresses too

#: In this order: an enumeration of text is text too.
_FORMS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (enum.Enum, lambda value: value.value),
    (decimal.Decimal, lambda value: str(value) if value.is_finite() else float(value)),
    ((bytes, bytearray, memoryview), _base64),
    ((datetime.datetime, datetime.date, datetime.time), lambda value: value.isoformat()),
    (datetime.timedelta, _duration),
    (uuid.UUID, str),
    (_ADDRESSES, str),
    (PurePath, lambda value: clean(str(value))),
    (fractions.Fraction, str),
    (UserString, lambda value: clean(str(value))),
    ((Sequence, ValuesView), lambda value: list(islice(value, _MOST_MEMBERS + 1))),
)


def _shown(key: Any) -> str:
    text = repr(key) if not isinstance(key, str) else orjson.dumps(clean(key)).decode()
    return text if len(text) <= 60 else text[:59] + "…"
