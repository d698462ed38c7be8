"""The client for programs that wait: `with Client(api_key=…) as client: client.run("echo", {"n": 1})`."""

# Written by tools/sync_client.py from async_client.py: change that, then `make fmt`.
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack

import httpx2

from runyard import client_calls as calls
from runyard.client_calls import Call, Flow, Lost, Pause, Reply, Upload
from runyard.client_results import Event, Question, Run
from runyard.client_stream import SILENCE, Place
from runyard.loopback import is_loopback
from runyard.run_options import RunOptions

T = TypeVar("T")


class Client:
    """Talks to a Runyard server.

    `api_key`, or a file that holds it (`admin.key` of the server's home). `patience` is how long, in seconds,
    a request is repeated while the server is away or answers that it is busy; a repeated submission still makes one
    run. Errors are `runyard.ClientError`s.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        api_key_file: str | Path | None = None,
        patience: float = 60.0,
        timeout: float = 30.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        base_url, api_key = calls.server(base_url, api_key, api_key_file)
        self._patience = patience
        self._timeout = timeout
        self._http = httpx2.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {api_key}"},
            timeout=timeout,
            transport=transport,
            trust_env=not is_loopback(base_url),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def run(
        self,
        agent: str,
        args: Any = None,
        *,
        message: str | None = None,
        wait: bool = True,
        timeout: float | None = None,
        files: Mapping[str, Upload] | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Run:
        """Run an agent; with `wait`, the run when it has ended or waits for a person (see `wait`).

        `agent` is an id, @scope/name or name; `args` any values with a JSON form, models and dataclasses too (a
        `ValueError` names the place of one without); `files` are paths, bytes or (name, bytes) by field; `options` are
        the further fields of the native API's request (session_id, version, priority, callback, metadata, …).
        Without a key of your own, every call is a run of its own.
        """
        call = calls.submit(agent, args, message, files, idempotency_key, options)
        run = self._drive(calls.submitting(call, self._patience))
        return self.wait(run.id, timeout) if wait else run

    def get(self, run_id: str) -> Run:
        """Read a run."""
        return self._drive(calls.fetching(run_id, self._patience))

    def wait(self, run_id: str, timeout: float | None = None, *, through_people: bool = False) -> Run:
        """Wait until a run has ended or waits for a person; `NotFinished` after `timeout` seconds.

        With `through_people` only the end counts, not a question on the way.
        """
        return self._drive(calls.waiting(run_id, timeout, through_people, self._patience))

    def answer(self, run_id: str, message: Any, question_id: str | None = None) -> None:
        """Answer a run's question (the first open one by default), or send a running one a message."""
        body = {"message": message, "question_id": question_id}
        self._post(run_id, "/message", body, repeatable=False)

    def review(
        self,
        run_id: str,
        action: str,
        *,
        reason: str | None = None,
        arguments: Any = None,
        result: Any = None,
        review_id: str | None = None,
    ) -> None:
        """Decide a review: approve, reject, edit (with `arguments`), redo, skip (with `result`) or fail."""
        body = {"action": action, "reason": reason, "arguments": arguments, "result": result}
        self._post(run_id, "/review", body | {"review_id": review_id}, repeatable=False)

    def cancel(self, run_id: str, reason: str | None = None) -> Run:
        """Cancel a run; it is stopped when this returns."""
        return Run.of(self._post(run_id, "/cancel", {"reason": reason}, repeatable=True))

    def retry(self, run_id: str, *, fresh: bool = False, from_step: str | None = None) -> Run:
        """Run an ended run again, as a new one: behind its finished steps, or `fresh` from the beginning.

        `from_step` is the key of a step, as `GET /tasks/{id}/steps` lists them: that one and what began after it are
        done again.
        """
        return self.get((self.send(calls.retry(run_id, fresh, from_step)))["task_id"])

    def send_event(
        self,
        name: str,
        data: Any = None,
        *,
        run_id: str | None = None,
        session_id: str | None = None,
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Send an event to a run, to a session's runs, or to all that wait for it with `key`; how many waited."""
        body = {"name": name, "data": data, "task_id": run_id, "session_id": session_id, "key": key}
        return int((self.send(calls.creation("/events", body, idempotency_key)))["delivered"])

    def inbox(self) -> tuple[Question, ...]:
        """What waits for people, oldest first: the first hundred."""
        found = self._drive(calls.exchange(calls.get("/inbox", limit=100), self._patience))
        return tuple(Question.of(raw) for raw in found.body["data"])

    def list(
        self,
        *,
        status: str | None = None,
        agent_id: str | None = None,
        q: str | None = None,
        error_code: str | None = None,
        **filters: Any,
    ) -> Iterator[Run]:
        """Every run that matches, newest first, page by page as they are read.

        `status` may name several, comma-separated; `q` is part of the title; `error_code` is that of runs that failed
        or were stopped; `filters` are the other parameters of GET /tasks.
        """
        wanted = {"status": status, "agent_id": agent_id, "q": q, "error_code": error_code, "limit": 100}
        wanted |= filters
        cursor: str | None = None
        while True:
            call = calls.get("/tasks", **wanted, cursor=cursor)
            page = (self._drive(calls.exchange(call, self._patience))).body
            for raw in page["data"]:
                yield Run.of(raw)
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def events(self, run_id: str, *, after: int = 0, tokens: bool = True) -> Iterator[Event]:
        """A run's events from number `after` on, each once and in order, as they happen, until it has ended.

        A line that drops is taken up again behind the last event. Token deltas (`tokens`) are live only.
        """
        place = Place(run_id, after, tokens, self._patience)
        while not place.ended:
            how: Reply | Lost | None = None
            call = place.request()
            try:
                with self._http.stream(
                    call.method,
                    call.path,
                    params=dict(call.params),
                    headers=dict(call.headers),
                    timeout=httpx2.Timeout(self._timeout, read=SILENCE),
                ) as answer:
                    if place.opened(answer.status_code):
                        for sent in httpx2.EventSource(answer, max_event_size=None):
                            event = place.event(sent.event, sent.data)
                            if event is not None:
                                yield event
                    elif not place.ended:
                        answer.read()
                        how = _reply(answer)
            except httpx2.TransportError as error:
                how = Lost(error, unsent=True)
            if not place.ended:
                time.sleep(place.dropped(how).seconds)

    def send(self, call: Call) -> Any:
        """The JSON of an answer to a call of your own (`runyard.client_calls`), repeated as its kind allows."""
        return (self._drive(calls.exchange(call, self._patience))).body

    def _post(self, run_id: str, action: str, body: Mapping[str, Any], *, repeatable: bool) -> Any:
        call = calls.post(calls.task(run_id, action), body, repeatable=repeatable)
        return (self._drive(calls.exchange(call, self._patience))).body

    def _drive(self, flow: Flow[T]) -> T:
        """Carry out what a flow asks for, to its end."""
        outcome: Reply | Lost | None = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as done:
                found: T = done.value
                return found
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._send(step)

    def _send(self, call: Call) -> Reply | Lost:
        try:
            answer = self._http.request(
                call.method,
                call.path,
                params=dict(call.params),
                headers=dict(call.headers),
                content=call.content,
                data=dict(call.data) if call.data is not None else None,
                files=list(call.files) if call.files else None,
                timeout=max(self._timeout, float(call.params.get("wait", 0)) + 10),
            )
        except httpx2.TransportError as error:
            return Lost(
                error, isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
            )
        return _reply(answer)


def _reply(answer: httpx2.Response) -> Reply:
    try:
        body = answer.json() if answer.content else None
    except ValueError:  # a proxy's page
        body = None
    return Reply(answer.status_code, answer.headers, body)
