"""Callers that are refused while they still send get the answer, in the form of every error."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import httpx2
import pytest

from runyard_api.http import protocol
from runyard_api.http.errors import LONGEST_HEAD
from runyard_api.http.protocol import BoundedProtocol
from tests.api_server import Api
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)
#: Over the bound of a body, and more than the kernel takes for a server that does not read.
TOO_MUCH = b'{"query": "' + b"x" * 24_000_000 + b'"}'
RUN = "/api/v1/agents/chat/run"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Api(tmp_path_factory.mktemp("refused") / "home") as api:
        yield api


def connected(api: Api) -> socket.socket:
    port = int(api.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def exchanged(api: Api, request: bytes) -> tuple[bytes, dict[str, object]]:
    """The status line and the problem that answer these bytes; the connection ends in order."""
    with closing(connected(api)) as caller:
        caller.sendall(request)
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer[:300]
    assert b"connection: close" in head.lower()
    return head.split(b"\r\n")[0], json.loads(body)


@pytest.mark.parametrize("size", [LONGEST_HEAD - 1, LONGEST_HEAD, LONGEST_HEAD + 1, 4_000_000])
@pytest.mark.parametrize("start", ["/api/v1/agents/", "/api/v1/tasks?q="])
def test_a_path_or_query_of_any_length_over_the_bound_is_answered_431(
    api: Api, start: str, size: int
) -> None:
    path = start + "a" * size
    status, problem = exchanged(api, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert status.split()[1] == b"431"
    assert problem["code"] == "headers_too_large"


@pytest.mark.parametrize(
    "request_",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nx y: 1\r\n\r\n",
        b"GET http://[::/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /api/v1/agents HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_the_parser_refuses_is_answered_as_every_error_is(api: Api, request_: bytes) -> None:
    status, problem = exchanged(api, request_)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert problem["code"] == "invalid_request"
    assert problem["status"] == 400


def test_a_chunk_that_cannot_be_read_is_answered_once(api: Api) -> None:
    head = (
        f"POST {RUN} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {api.key}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    status, problem = exchanged(api, head.encode() + b"2\r\n{}\r\nnonsense\r\n")
    assert (status.split()[1], problem["code"]) == (b"400", "invalid_request")


def test_a_second_request_that_cannot_be_read_is_not_answered_in_the_place_of_the_first(api: Api) -> None:
    with closing(connected(api)) as caller:
        caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n")
        assert b" 400 " not in b"".join(iter(lambda: caller.recv(65536), b""))


def test_urllib_reads_the_refusal_of_a_body_that_it_is_sending(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(api.url + RUN, TOO_MUCH, headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as answer:
        assert answer.code == 413
        assert json.load(answer)["code"] == "payload_too_large"


@pytest.mark.parametrize("chunked", [False, True])
def test_httpx_reads_the_refusal_of_a_body_that_it_is_sending(api: Api, chunked: bool) -> None:
    pieces = (TOO_MUCH[at : at + 65536] for at in range(0, len(TOO_MUCH), 65536))
    with httpx2.Client(base_url=api.url, timeout=30) as client:
        answer = client.post(
            RUN,
            content=pieces if chunked else TOO_MUCH,
            headers={"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"},
        )
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def started(api: Api) -> socket.socket:
    """A connection with the head of a body without an end."""
    head = f"POST {RUN} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {api.key}\r\nContent-Length: 99999999999\r\n"
    caller = connected(api)
    caller.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n")
    return caller


def accepts(caller: socket.socket, piece: bytes) -> bool:
    try:
        caller.sendall(piece)
    except OSError:
        return False
    return True


def test_the_answer_and_the_end_come_before_the_body_has_ended(api: Api) -> None:
    with closing(started(api)) as caller:
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert accepts(caller, b"x" * 1_000_000), "the rest is thrown away"


def test_a_caller_that_never_stops_is_cut_after_so_many_bytes(api: Api) -> None:
    sent = 0
    with closing(started(api)) as caller:
        while accepts(caller, b"x" * 2**20):
            sent += 2**20
            assert sent < 2 * protocol.LINGER_BYTES
    assert sent > 2**20


def test_a_caller_that_drips_is_cut_after_so_long(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "linger_seconds", 1.0)
    with closing(started(api)) as caller:
        wait_until(lambda: not accepts(caller, b"x"), every=0.1)


def test_a_caller_that_pauses_is_cut_and_does_not_count_as_a_connection(api: Api) -> None:
    wait_until(lambda: not api.server.server_state.connections, seconds=60)
    with closing(started(api)):
        wait_until(lambda: len(api.server.server_state.connections) == 1)
        wait_until(lambda: not api.server.server_state.connections)
