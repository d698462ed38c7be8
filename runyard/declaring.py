"""What `@agent` refuses, each with one sentence that names the agent: at its declaration rather than at each run."""

from __future__ import annotations

import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final, Literal, get_args

import orjson

#: An agent's full name, however it is declared or published: fit for every path as it is.
NAME: Final = re.compile(r"@[a-z0-9][a-z0-9-]*/[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
#: What to do about a name that is none.
NAME_RULE: Final = (
    "use @scope/name: a scope of lower-case letters, digits and hyphens, and a name of up to 128 letters, digits, "
    "dots, underscores and hyphens that begins with a letter or digit"
)
#: A semantic version, as semver.org writes it.
_VERSION: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?\Z"
)
#: Where an agent's function runs.
Isolation = Literal["loop", "thread", "process"]
#: What a process needs before it has imported anything of an agent's.
_LEAST_MEMORY: Final = 64  # MiB
_MOST_MEMORY: Final = 16 * 2**20  # MiB
_LONGEST_TIMEOUT: Final = 7 * 86400.0  # seconds
_MOST_CPU: Final = 1e9  # seconds
_MOST_CONCURRENT: Final = 2**31 - 1
_MOST_RETRIES: Final = 1_000_000
_PART: Final = r"(?:\d+|[xX*])"
_PARTIAL: Final = (
    rf"[v=\s]*{_PART}(?:\.{_PART}(?:\.{_PART}(?:-?[0-9A-Za-z][0-9A-Za-z.-]*)?(?:\+[0-9A-Za-z.-]+)?)?)?"
)
_COMPARATOR: Final = rf"(?:~>?|\^|[<>]?=?)\s*{_PARTIAL}"
#: What has the form of one range of versions; whether it is one, the library of the server finds out.
_RANGE: Final = re.compile(rf"\s*(?:{_PARTIAL}\s+-\s+{_PARTIAL}|{_COMPARATOR}(?:\s+{_COMPARATOR})*)?\s*")
_CAUSES: Final = ("agent", "provider", "infrastructure")
_RULE: Final = ("budget", "base_s", "cap_s")


@dataclass(frozen=True)
class Place:
    """Where a function was declared. `scope` is the code whose execution declared it: a module's body, at best."""

    module: str
    qualname: str
    file: str
    line: int
    scope: CodeType

    @classmethod
    def of(cls, fn: Callable[..., Any], depth: int) -> Place:
        """The place of `fn`, declared by the caller `depth` frames up."""
        inner = inspect.unwrap(fn)
        code = getattr(inner, "__code__", None)
        frame = sys._getframe(depth + 1)
        scope = frame.f_code
        name = getattr(inner, "__qualname__", type(inner).__qualname__)
        if code is not None:
            module, file, line = getattr(inner, "__module__", "") or "", code.co_filename, code.co_firstlineno
        else:  # an object, as those of the adapters: it is where it is declared, its class is elsewhere
            module, file, line = frame.f_globals.get("__name__", ""), scope.co_filename, frame.f_lineno
        return cls(module, name, os.path.realpath(file), line, scope)

    def __str__(self) -> str:
        return f"{self.qualname} ({self.file}, line {self.line})"

    def replaces(self, other: Place) -> bool:
        """Whether this is the same declaration again: imported once more, maybe by another name, or reloaded."""
        if (self.file, self.qualname, self.line) == (other.file, other.qualname, other.line):
            return True
        reloaded = self.file == other.file and self.scope is not other.scope
        return self.reloads(other) or (reloaded and self.qualname == other.qualname)

    def reloads(self, other: Place) -> bool:
        """Whether the module that declares this has declared the other one when it was imported before."""
        by_module = all(p.scope.co_name == "<module>" for p in (self, other))
        return by_module and self.file == other.file and self.scope is not other.scope


def precedence(version: str) -> tuple[Any, ...]:
    """What versions are ordered by: prereleases below all others, and each kind as semver.org has it."""
    numbers, _, prerelease = version.partition("+")[0].partition("-")
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in prerelease.split(".")]
    return not prerelease, tuple(map(int, numbers.split("."))), parts if prerelease else []


def ranges(name: str, version: Any, **given: Any) -> dict[str, Any]:
    """The ranges of versions that these options name, each option as a tuple. Raises `TypeError`, and `ValueError` for
    what has not the form of a range, for the agent's own version, and for a range that two options name."""
    found: dict[str, tuple[str, ...]] = {}
    for option, value in given.items():
        several = (value,) if isinstance(value, str) else value
        if not isinstance(several, Sequence) or not all(isinstance(o, str) and o.strip() for o in several):
            raise TypeError(
                f"@agent {name}: {option} takes a range of versions, or several: '1.x', ['^1.4', '2.0.0']."
            )
        found[option] = tuple(several)
        for one in several:
            _check_range(name, version, option, one)
            if twice := [other for other in found if other != option and one in found[other]]:
                raise ValueError(f"@agent {name}: {one!r} is in both {twice[0]} and {option}.")
    return found


def _check_range(name: str, version: Any, option: str, given: str) -> None:
    if not all(map(_RANGE.fullmatch, given.split("||"))):
        raise ValueError(
            f"@agent {name}: {option} {_shown(given)} is no range of versions, like 1.x or '>=1.2 <2'."
        )
    if given.strip().lstrip("v=") == version:
        raise ValueError(f"@agent {name}: {option} names {version}, which is its own version.")


def check_name(name: Any) -> str:
    """The full name of an agent. Raises `TypeError` or `ValueError`."""
    if not isinstance(name, str):
        raise TypeError(f"@agent needs a name, not {_kind(name)}: @agent('my_agent').")
    full = name if name.startswith("@") else f"@default/{name}"
    if not NAME.match(full):
        raise ValueError(f"@agent: {name!r} is not an agent name; {NAME_RULE}.")
    return full


def check_function(name: str, fn: Any) -> None:
    """Refuse what cannot be called as ``fn(ctx, args)`` for one result: `TypeError`."""
    if not callable(fn) or isinstance(fn, type):
        raise TypeError(f"@agent {name}: it decorates a function (ctx, args), not {_kind(fn)}.")
    kinds = (fn, getattr(type(fn), "__call__", None))  # noqa: B004 - an object's kind is that of its call
    if any(inspect.isasyncgenfunction(kind) or inspect.isgeneratorfunction(kind) for kind in kinds):
        raise TypeError(
            f"@agent {name}: {_called(fn)} is a generator; return the result, and report on the way with ctx.emit."
        )
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(
            f"@agent {name}: {_called(fn)} is called with (ctx, args), and takes {signature}."
        ) from None

    _check_context(name, fn)


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` gives a coroutine: `async def`, or an object whose call is."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


def _check_context(name: str, fn: Callable[..., Any]) -> None:
    """Refuse a context of the other kind: its calls would not work."""
    first = next(iter(inspect.signature(fn).parameters.values()))
    kind = getattr(first.annotation, "__name__", first.annotation)
    right, wrong = ("Context", "BlockingContext") if is_async(fn) else ("BlockingContext", "Context")
    if isinstance(kind, str) and kind.rpartition(".")[2] == wrong:
        how = "`async def`" if is_async(fn) else "plain `def`"
        raise TypeError(f"@agent {name}: {_called(fn)} is {how}, so its context is a {right}, not a {wrong}.")


def check_options(
    name: str, version: Any, timeout: Any, max_concurrent: Any, retries: Any, schemas: Mapping[str, Any]
) -> None:
    """Refuse options that could not be published: `TypeError` or `ValueError`."""
    if not isinstance(version, str) or not _VERSION.match(version):
        raise ValueError(f"@agent {name}: version {version!r} is not a semantic version, like 1.2.0.")
    if timeout is not None and not 0 < _number(timeout) <= _LONGEST_TIMEOUT:
        raise ValueError(
            f"@agent {name}: timeout {_shown(timeout)} is not a number of seconds up to {_LONGEST_TIMEOUT:g}."
        )
    if max_concurrent is not None and not (
        _is_count(max_concurrent) and 1 <= max_concurrent <= _MOST_CONCURRENT
    ):
        raise ValueError(
            f"@agent {name}: max_concurrent {_shown(max_concurrent)} is not a number of runs from 1 to "
            f"{_MOST_CONCURRENT}."
        )
    _check_retries(name, retries)
    for which, given in schemas.items():
        if isinstance(given, str | bytes | int | float | list | tuple | set):
            raise TypeError(f"@agent {name}: {which} must be a JSON Schema or a type, not {_kind(given)}.")
        if isinstance(given, Mapping) and _has_long_integers(given):
            raise ValueError(
                f"@agent {name}: the schema given as {which} has an integer of more than 64 bits, which is text in "
                "JSON here. Leave the bound out, and check it in the agent."
            )


def _has_long_integers(schema: Mapping[str, Any]) -> bool:
    try:
        orjson.dumps(dict(schema))
    except TypeError as error:  # anything else that has no JSON form is refused where it is published
        return "64-bit" in str(error)
    return False


def check_isolation(name: str, isolation: Any, is_async: bool, memory_mb: Any, cpu_seconds: Any) -> None:
    """Refuse an isolation that there is not, or that the function cannot have, and limits that nothing keeps:
    `TypeError` or `ValueError`."""
    known = get_args(Isolation)
    if isolation is not None and isolation not in known:
        raise ValueError(f"@agent {name}: isolation {isolation!r} is none of {', '.join(known)}.")
    if isolation == "loop" and not is_async:
        raise TypeError(
            f"@agent {name}: a plain `def` would block its worker's event loop. Make it `async def`, or leave "
            "isolation='loop' out: it runs in a thread."
        )
    for option, given in (("memory_mb", memory_mb), ("cpu_seconds", cpu_seconds)):
        if given is not None and isolation != "process":
            raise ValueError(
                f"@agent {name}: {option} needs isolation='process': only a process has such a limit."
            )
    if memory_mb is not None and not (_is_count(memory_mb) and _LEAST_MEMORY <= memory_mb <= _MOST_MEMORY):
        raise ValueError(
            f"@agent {name}: memory_mb {_shown(memory_mb)} is not a number of MiB from {_LEAST_MEMORY}, which Python "
            f"itself needs, to {_MOST_MEMORY}."
        )
    if cpu_seconds is not None and not 0 < _number(cpu_seconds) <= _MOST_CPU:
        raise ValueError(
            f"@agent {name}: cpu_seconds {_shown(cpu_seconds)} is not a number of seconds above 0, up to {_MOST_CPU:g}."
        )


def check_place(name: str, fn: Callable[..., Any], isolation: str | None, depth: int) -> None:
    """Refuse an isolation that an adapted agent cannot have, and an agent for a process that no import declares: it is
    declared by the caller `depth` frames up. Raises `TypeError`."""
    only = getattr(fn, "only_isolation", None)
    if isinstance(only, str) and isolation not in (None, only):
        raise TypeError(
            f"@agent {name}: an agent of {type(fn).__name__} runs with isolation={only!r}, not {isolation!r}."
        )
    if isolation == "process" and not _is_imported(fn, sys._getframe(depth + 1)):
        raise TypeError(
            f"@agent {name}: {_called(fn)} is declared inside a function that no import calls, so a process of its "
            "own cannot find it. Declare it at the top of a module."
        )


def _is_imported(fn: Callable[..., Any], frame: FrameType | None) -> bool:
    """Whether a module's body is at it: that of the function, or another that is imported now."""
    own = getattr(inspect.unwrap(fn), "__globals__", frame.f_globals if frame is not None else None)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            name = frame.f_globals.get("__name__")
            if frame.f_globals is own or (name in sys.modules and name != "__main__"):
                return True
        frame = frame.f_back
    return False


def _check_retries(name: str, retries: Any) -> None:
    if retries is None or (_is_count(retries) and 0 <= retries <= _MOST_RETRIES):
        return
    most = f"a number from 0 to {_MOST_RETRIES}"
    usual = f"@agent {name}: retries {_shown(retries)} is neither {most} nor budgets by cause"
    if not isinstance(retries, Mapping):
        raise ValueError(f"{usual} ({', '.join(_CAUSES)}).")
    for cause, rule in retries.items():
        if cause not in _CAUSES or not isinstance(rule, Mapping):
            raise ValueError(f"{usual} ({', '.join(_CAUSES)}).")
        wrong = [
            key for key, value in rule.items() if key not in _RULE or not 0 <= _number(value) <= _MOST_RETRIES
        ]
        if wrong:
            raise ValueError(
                f"@agent {name}: retries[{cause!r}][{wrong[0]!r}] is none of {', '.join(_RULE)} with a number from 0 "
                f"to {_MOST_RETRIES}."
            )


def _number(value: Any) -> float:
    """The number, or NaN, which no comparison accepts."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:  # an integer beyond every float
        return math.nan


def _shown(value: Any) -> str:
    """The value in a sentence: one may have more digits than Python writes."""
    try:
        text = repr(value)
    except ValueError:
        return f"a number of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _called(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))
