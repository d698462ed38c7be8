"""`python -m tests.failing_api`: an api that fails at a chosen point while a file of that name is in its home.

- `die_before_commit`: it dies in the transaction that makes what was asked for.
- `die_before_answer`: it dies when that is committed, before it answers.
- `lose_answers`: what was asked for is made, and the caller gets no answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.__main__ import main
from runyard_api.http import endpoint
from runyard_common.identity.queries import idempotency as stored
from runyard_common.runs.service import submissions

HOME = Path(os.environ["RUNYARD_HOME"])


def chosen(point: str) -> bool:
    """Whether the test wants it to fail at this point."""
    return (HOME / point).exists()


def deadly(point: str, function: Callable[..., Any], after: bool = True) -> Callable[..., Any]:
    """The function, with the process's death behind (or before) it."""

    @wraps(function)
    def dying(*args: Any, **kwargs: Any) -> Any:
        if not after and chosen(point):
            os._exit(9)
        answer = function(*args, **kwargs)
        if chosen(point):
            os._exit(9)
        return answer

    return dying


def losing(answer: Callable[..., Any]) -> Callable[..., Any]:
    """`Endpoint._answer`, whose answers to creating calls get lost."""

    @wraps(answer)
    async def lost(*args: Any) -> Any:
        response = await answer(*args)
        if chosen("lose_answers") and args[1].method == "POST" and response.status_code < 300:
            return Response(b"{}", 502, media_type="application/json")  # as a proxy whose server has gone
        return response

    return lost


if __name__ == "__main__":
    submissions.submit_remembered = deadly("die_before_commit", submissions.submit_remembered)
    stored.keep = deadly("die_before_commit", stored.keep)
    idempotency._keep = deadly("die_before_answer", idempotency._keep, after=False)
    endpoint.Endpoint._answer = losing(endpoint.Endpoint._answer)  # type: ignore[method-assign]
    main()
