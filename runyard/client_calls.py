"""What both clients say to the server and when they say it again: no input or output here.

A flow is a generator: it yields a `Call` or a `Pause`, is sent what came of it, and returns the outcome.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from runyard import json_form, server_url
from runyard.client_results import ClientError, NotFinished, Refused, Run, Unreachable

T = TypeVar("T")
BASE: Final = "/api/v1"
_AGAIN: Final = frozenset({429, 502, 503, 504})
#: The server's own word that it did nothing: safe to repeat every request.
_UNDONE: Final = frozenset({429, 503})
_WITHOUT_BODY: Final = frozenset({204, 304})
_SLOWEST: Final = 30.0
_LONG_POLL: Final = 25.0
Upload = str | Path | bytes | tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `repeatable`: it may be sent again although the first may have been carried out."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    data: Mapping[str, str] | None = None
    files: tuple[tuple[str, tuple[str, bytes]], ...] = ()
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer came. `unsent`: the server cannot have seen the request."""

    error: Exception
    unsent: bool


Step = Call | Pause
Outcome = Reply | Lost | None
Flow = Generator[Step, Outcome, T]


def server(base_url: str | None, api_key: str | None, api_key_file: str | Path | None) -> tuple[str, str]:
    """The base URL and the key: those given, else RUNYARD_URL and RUNYARD_API_KEY. `ValueError` without a key, and
    for a URL that is none of a server.

    RUNYARD_API_KEY is the key for RUNYARD_URL where both are set, and is not sent elsewhere.
    """
    known = os.environ.get("RUNYARD_URL", "").strip()
    known = server_url.base_url(known) if known else ""
    url = server_url.base_url(base_url or known or "http://127.0.0.1:8000")
    if api_key is None and api_key_file is not None:
        api_key = Path(api_key_file).expanduser().read_text().strip()
    if api_key is None and known in ("", url):
        api_key = os.environ.get("RUNYARD_API_KEY", "").strip()
    if not api_key:
        raise ValueError(
            "Give api_key, or api_key_file (the first start of a server writes admin.key), or set RUNYARD_API_KEY."
        )
    return url, api_key


class Backoff:
    """How long to wait before trying again: longer each time, for `patience` seconds since it last went well."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.succeeded()

    def succeeded(self) -> None:
        """Start from the shortest pause."""
        self.reached()
        self._next = 0.2

    def reached(self) -> None:
        """A server answered: patience counts from the next failure on."""
        self._deadline: float | None = None

    def pause(self, asked: float | None = None) -> Pause | None:
        """The next pause, as long as the server asked for if it did; None when patience ends before it would."""
        seconds = self._next * random.uniform(0.5, 1.0) if asked is None else asked
        self._next = min(self._next * 2, _SLOWEST)
        now = time.monotonic()
        self._deadline = now + self._patience if self._deadline is None else self._deadline
        return Pause(seconds) if now + seconds <= self._deadline else None


def exchange(call: Call, patience: float) -> Flow[Reply]:
    """Send a request until the server takes it: `Refused`, or `Unreachable` when patience ends.

    `ClientError` where what answers is no Runyard server: a page, or the way to another address.
    """
    backoff = Backoff(patience)
    while True:
        answer = yield call
        if isinstance(answer, Reply) and answer.status < 400:
            return _checked(answer)
        again = backoff.pause(_retry_after(answer)) if _may_repeat(call, answer) else None
        if again is None:
            raise failure(answer)
        yield again


def _checked(answer: Reply) -> Reply:
    """An answer that is none of a refusal, if it is one of the API's."""
    if answer.status in _WITHOUT_BODY or isinstance(answer.body, dict | list):
        return answer
    if 300 <= answer.status < 400:
        where = answer.headers.get("location", "")
        raise ClientError(
            f"The server's URL leads elsewhere ({answer.status} {where}): use the URL it leads to."
        )
    raise ClientError(
        f"What answers there ({answer.status}) is no Runyard server: the answer is no JSON. Check the server's URL."
    )


def _may_repeat(call: Call, answer: Outcome) -> bool:
    if isinstance(answer, Lost):
        return call.repeatable or answer.unsent
    assert answer is not None
    if call.repeatable:
        return answer.status in _AGAIN or _code(answer) == "idempotency_in_progress"
    return answer.status in _UNDONE and bool(_code(answer))  # not an answer of a proxy


def _code(answer: Reply) -> str:
    return str(answer.body.get("code") or "") if isinstance(answer.body, dict) else ""


def _retry_after(answer: Outcome) -> float | None:
    """Seconds, from the header's number or date."""
    given = answer.headers.get("retry-after") if isinstance(answer, Reply) else None
    if not given:
        return None
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None


def failure(answer: Outcome) -> Refused | Unreachable:
    """The exception for an answer that is none."""
    if isinstance(answer, Reply):
        return Refused(answer.status, answer.body if isinstance(answer.body, dict) else {})
    error = answer.error if isinstance(answer, Lost) else None
    found = Unreachable(f"The server did not answer: {error}")
    found.__cause__ = error
    return found


def submit(
    agent: str,
    args: Any,
    message: str | None,
    files: Mapping[str, Upload] | None,
    idempotency_key: str | None,
    options: Mapping[str, Any],
) -> Call:
    """The request that runs an agent. Its Idempotency-Key makes repeating it safe.

    `json_form.NotJson`, a `ValueError`, names the place of a value without a JSON form.
    """
    given = {"query": message, "args": args} | dict(options)
    body = {name: value for name, value in given.items() if value is not None}
    if not files and "query" not in body:
        body.setdefault("args", {})
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    path = f"{BASE}/agents/{quote(agent, safe='@')}/run"
    if not files:
        return Call("POST", path, headers=headers | _JSON, content=json_form.encode(body))
    fields = {name: _form_text(name, value) for name, value in body.items()}
    attached = tuple((name, _upload(name, value)) for name, value in files.items())
    return Call("POST", path, headers=headers, data=fields, files=attached)


_JSON: Final = {"Content-Type": "application/json"}


def _form_text(name: str, value: Any) -> str:
    """A field as a form has it: texts as they are, all else, and arguments always, as JSON."""
    plain = isinstance(value, str) and name != "args"
    return _encodable(value) if plain else json_form.encode(value).decode()


def _upload(name: str, value: Upload) -> tuple[str, bytes]:
    """File name and content, read now: a request that is repeated sends the same."""
    if isinstance(value, str | Path):
        return _encodable(Path(value).name), Path(value).read_bytes()
    name, content = (name, value) if isinstance(value, bytes) else value
    return _encodable(name), content


def _encodable(text: str) -> str:
    """The text with what is no UTF-8 replaced: names of files and arguments of commands may be any bytes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def post(path: str, body: Mapping[str, Any], *, repeatable: bool) -> Call:
    """A request with a JSON body; fields that are None are left out."""
    given = {name: value for name, value in body.items() if value is not None}
    content = json_form.encode(given)
    return Call("POST", BASE + path, headers=_JSON, content=content, repeatable=repeatable)


def creation(path: str, body: Mapping[str, Any], idempotency_key: str | None) -> Call:
    """A request that makes something: its Idempotency-Key makes repeating it safe."""
    call = post(path, body, repeatable=True)
    return replace(call, headers={**call.headers, "Idempotency-Key": idempotency_key or str(uuid.uuid4())})


def task(run_id: str, action: str = "") -> str:
    """The path of a run, or of an action on it."""
    return f"/tasks/{quote(run_id, safe='')}{action}"


def get(path: str, **params: Any) -> Call:
    """A request that reads."""
    return Call(
        "GET", BASE + path, params={name: value for name, value in params.items() if value is not None}
    )


def retry(run_id: str, fresh: bool, from_step: str | None) -> Call:
    """The request that runs an ended run again."""
    body = {"fresh": fresh} if from_step is None else {"fresh": fresh, "from_step": from_step}
    headers = _JSON | {"Idempotency-Key": str(uuid.uuid4())}
    return Call("POST", BASE + task(run_id, "/retry"), headers=headers, content=json_form.encode(body))


def fetching(run_id: str, patience: float) -> Flow[Run]:
    """Read a run."""
    return Run.of((yield from exchange(get(task(run_id)), patience)).body)


def submitting(call: Call, patience: float) -> Flow[Run]:
    """Submit a run; as it was accepted."""
    return Run.of((yield from exchange(call, patience)).body)


def waiting(run_id: str, timeout: float | None, through_people: bool, patience: float) -> Flow[Run]:
    """Wait for a run to come to rest; `NotFinished` after `timeout` seconds (None: never)."""
    deadline = None if timeout is None else time.monotonic() + timeout
    tag: str | None = None
    run: Run | None = None
    while True:
        left = _LONG_POLL if deadline is None else max(0.0, deadline - time.monotonic())
        call = get(task(run_id), wait=round(min(left, _LONG_POLL), 3))
        if tag is not None:  # resting, but not at its end: wait for the next change
            call = Call(call.method, call.path, call.params, {"If-None-Match": tag})
        answer = yield from exchange(call, patience)
        run = Run.of(answer.body) if answer.status != 304 else run
        assert run is not None
        if run.ended or (run.waits_for_people and not through_people):
            return run
        if deadline is not None and time.monotonic() >= deadline:
            raise NotFinished(run)
        tag = answer.headers.get("etag") if run.waits_for_people else None
