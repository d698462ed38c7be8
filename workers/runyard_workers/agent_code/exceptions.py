"""The text of any exception: none of this raises, and all of it can be stored. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from runyard import json_form
from runyard.errors import FAILURE, AbnormalExit, AgentError, Cancelled, Suspension

LONGEST_TEXT: Final = 2000  # characters
_MOST_INNER: Final = 5  # errors of a group that are shown
_MOST_CAUSES: Final = 3
_WHERE: Final = "_runyard_where"
_STEP: Final = "_runyard_step"
_DEEPEST: Final = 20  # exceptions raised from each other

_PLAIN: Final[dict[type[BaseException], str]] = {
    KeyboardInterrupt: "the code interrupted its process",
    GeneratorExit: "the code closed its own coroutine or generator",
    asyncio.CancelledError: "cancelled, and not by Runyard: the code cancelled itself, or awaited a cancelled task",
    StopIteration: "next() found nothing, and had no default",
    StopAsyncIteration: "anext() found nothing, and had no default",
    Cancelled: "raised by the code itself; only Runyard may end a run so",
    Suspension: "raised by the code itself; only Runyard may suspend a run",
}


class Described:
    """An exception in the place of another that was described where it was raised."""

    described: dict[str, Any]
    sentence: str
    failure: dict[str, Any]  # what it means for its run: the fields of a `Failure`


def kind_of(error: BaseException) -> str:
    """The name of the exception's type."""
    return json_form.name(str(type(error).__name__))[:200]


def text_of(error: BaseException) -> str:
    """`str(error)`, shortened, and empty when even that raises. Of a database's error without its SQL."""
    try:
        origin = getattr(error, "orig", None) if hasattr(error, "statement") else None
        text = str(origin if isinstance(origin, BaseException) else error)
    except BaseException:  # noqa: BLE001 - an exception's text is its author's code
        return ""
    return shortened(text)


def represented(value: Any) -> str:
    """`repr(value)`, shortened; the type alone where that raises."""
    try:
        return shortened(repr(value))
    except BaseException:  # noqa: BLE001 - its author's code
        return f"<{type(value).__name__}>"


def shortened(text: str) -> str:
    """`text` cleaned and cut to an error's length."""
    text = json_form.name(text[: 4 * LONGEST_TEXT])
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def summary(error: BaseException) -> str:
    """A sentence with the type, the text, the step it was raised in, the errors of a group and the causes."""
    words = sentence(error)
    where = note_of(error)
    return shortened(f"{words} (in {where})" if where else words)


def sentence(error: BaseException) -> str:
    """The same without the step."""
    if issubclass(type(error), Described):  # an exception may lie about its class
        return str(error.sentence)  # type: ignore[attr-defined]
    try:
        return _sentence(error)
    except BaseException:  # noqa: BLE001 - what it asks of an exception may be its author's code
        return kind_of(error)


def _sentence(error: BaseException) -> str:
    words = _one(error)
    for _, cause in zip(range(_MOST_CAUSES), _causes(error), strict=False):
        words += f" (caused by {_one(cause)})"
    return shortened(words)


def within(error: BaseException, where: str) -> None:
    """Note where it was raised, for its summary; the innermost place stays."""
    try:
        if note_of(error) is None:
            setattr(error, _WHERE, where)
    except Exception:  # noqa: BLE001, S110 - an exception that takes no attributes
        pass


def abnormal(error: BaseException) -> AbnormalExit:
    """The ordinary exception in place of one which would end more than the run."""
    if isinstance(error, SystemExit):
        return AbnormalExit(
            f"{kind_of(error)}: the code ended its process ({_exit_code(error)})", kind_of(error)
        )
    words = next((words for kind, words in _PLAIN.items() if isinstance(error, kind)), None)
    text = text_of(error)
    sentence = f"{words} ({text})" if words and text else words or text
    return AbnormalExit(
        shortened(f"{kind_of(error)}: {sentence}" if sentence else kind_of(error)), kind_of(error)
    )


def judged(
    error: BaseException,
    is_ordered: Callable[[BaseException], bool],
    merged: Callable[[Sequence[BaseException]], BaseException] = lambda errors: errors[0],
) -> BaseException:
    """`error` itself where it is an `Exception` or was ordered by the engine, else the ordinary one in its place.

    Of a group a failure decides; without any, what was ordered, `merged`.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error if isinstance(error, Exception) or is_ordered(error) else abnormal(error)
    leaves = [judged(leaf, is_ordered, merged) for leaf in leaves_of(error)]
    failures = [leaf for leaf in leaves if isinstance(leaf, Exception)]
    return ExceptionGroup(error.message, failures) if failures else merged(leaves)


def _exit_code(error: SystemExit) -> str:
    code = error.code
    if code is None or isinstance(code, int):
        return f"exit code {int(code or 0)}"
    return f"exit code 1, {text_of(error)!r}"[:300]


def one_line(error: BaseException) -> str:
    """The type and the text of an error, as in its summary."""
    return " ".join(_one(error).split())


def _one(error: BaseException) -> str:
    text = text_of(error)
    if isinstance(error, AbnormalExit | AgentError):
        return text or kind_of(error)
    if isinstance(error, BaseExceptionGroup):
        return f"{kind_of(error)}: {text}: {_inner(error)}"
    return f"{kind_of(error)}: {text}" if text else kind_of(error)


def _inner(group: BaseExceptionGroup[Any]) -> str:
    leaves = leaves_of(group)
    shown = "; ".join(_one(leaf)[:300] for leaf in leaves[:_MOST_INNER])
    more = len(leaves) - _MOST_INNER
    return f"{shown}; and {more} more" if more > 0 else shown


def leaves_of(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    """The errors of a group and of the groups in it."""
    found: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseExceptionGroup):
            waiting = [*error.exceptions, *waiting]
        else:
            found.append(error)
    return found


def _causes(error: BaseException) -> list[BaseException]:
    """What it was raised from, unless that is in its text already."""
    found: list[BaseException] = []
    seen = {id(error)}
    while not isinstance(error, AbnormalExit | AgentError) and error.__cause__ is not None:
        error = error.__cause__
        if id(error) in seen:
            break
        seen.add(id(error))
        found.append(error)
    return found


def note_of(error: BaseException) -> str | None:
    """Where it was raised, by `within`."""
    try:
        found = getattr(error, _WHERE, None)
    except BaseException:  # noqa: BLE001 - attributes are its author's code too
        return None
    return found if isinstance(found, str) else None


def mark(error: BaseException, key: str) -> None:
    """Note on an exception which step it has failed; of several around each other the outermost."""
    try:
        setattr(error, _STEP, key)
    except Exception:  # noqa: BLE001, S110 - an exception that takes no attributes
        pass


def failed_step(error: BaseException | None) -> str | None:
    """The key of the step whose failure this is, or was raised from; None where it is none's."""
    for _ in range(_DEEPEST):
        if error is None:
            return None
        try:
            found = getattr(error, _STEP, None) or getattr(met_by_client(error), _STEP, None)
        except BaseException:  # noqa: BLE001 - attributes are its author's code
            return None
        if isinstance(found, str):
            return found
        error = error.__cause__
    return None


def met_by_client(error: BaseException) -> AgentError | None:
    """What a client of `Context.client` noted about the call whose error this is, in its library's terms."""
    try:
        found = error.request.extensions[FAILURE]  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - most errors have no request, and one may have any
        return None
    return found if isinstance(found, AgentError) else None
