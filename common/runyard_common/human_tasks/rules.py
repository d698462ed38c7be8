"""What becomes of a question that is not answered in time. Pure."""

from __future__ import annotations

from typing import Any, Final

from runyard_common.values.errors import InvalidRequest

_OUTCOMES: Final = ("fail", "default")


def on_no_answer(on_timeout: Any, has_default: bool) -> str:
    """`fail` or `default`: as the agent names it, else by whether it gives a default.

    Error: `InvalidRequest` invalid_on_timeout, for another word, or for a default that would not be used.
    """
    if on_timeout is None:
        return "default" if has_default else "fail"
    if on_timeout not in _OUTCOMES:
        problem = f"on_timeout must be one of {', '.join(_OUTCOMES)}."
    elif on_timeout == "fail" and has_default:
        problem = 'on_timeout="fail" does not use the default: leave one of them out.'
    else:
        return str(on_timeout)
    raise InvalidRequest(problem, code="invalid_on_timeout", field="on_timeout")
