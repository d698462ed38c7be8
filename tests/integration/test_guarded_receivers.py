"""Receivers that are slow, broken, endless: each ends within its bounds, with a stable code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import pytest

from runyard_common.outbound import GuardedClient, OutboundError, OutboundPolicy, Timeouts
from tests.fakes.names import Names
from tests.fakes.raw_server import Call, never_accepting, serving

pytestmark = pytest.mark.anyio

POLICY = OutboundPolicy.parse(allowed_hosts="127.0.0.1")
# only where the receiver is the slow one
UNANSWERED = Timeouts(connect=0.3)
SILENT = Timeouts(read=0.3)
BRIEF = Timeouts(total=0.5)
STALLED = Timeouts(read=1.5)  # it has answered in part by then


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def names() -> Names:
    return Names(hooks_test=["127.0.0.1"])


@pytest.fixture
async def client(names: Names) -> AsyncIterator[GuardedClient]:
    async with GuardedClient(POLICY, resolver=names) as client:
        yield client


async def failure(client: GuardedClient, url: str, timeouts: Timeouts | None = None) -> str:
    with pytest.raises(OutboundError) as caught:
        await client.send("POST", url, content=b"{}", timeouts=timeouts)
    assert isinstance(caught.value, httpx2.TransportError)
    assert caught.value.message.endswith(".")
    return caught.value.code


class TestSlowReceivers:
    async def test_silence_is_a_read_timeout(self, client: GuardedClient) -> None:
        async def silence(call: Call) -> None:
            await asyncio.sleep(10)

        async with serving(silence) as receiver:
            started = time.monotonic()
            assert await failure(client, receiver.url("hooks.test"), SILENT) == "read_timeout"

        assert time.monotonic() - started > 0.25

    async def test_an_answer_that_trickles_is_bounded_in_all(self, client: GuardedClient) -> None:
        async def trickle(call: Call) -> None:
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 1\r\n" * 1000:
                await call.send(bytes([byte]))
                await asyncio.sleep(0.05)

        async with serving(trickle) as receiver:
            started = time.monotonic()
            assert await failure(client, receiver.url("hooks.test"), BRIEF) == "attempt_timeout"
            await asyncio.wait_for(receiver.broken_off.wait(), 30)

        assert time.monotonic() - started > 0.45

    async def test_a_connection_that_is_never_accepted_is_a_connect_timeout(
        self, client: GuardedClient
    ) -> None:
        with never_accepting() as port:
            assert await failure(client, f"http://hooks.test:{port}/", UNANSWERED) == "connect_timeout"

    async def test_an_address_that_never_accepts_leaves_time_for_the_next(self, names: Names) -> None:
        names.answers["two.test"] = [["127.0.0.2", "127.0.0.1"]]
        policy, bounds = OutboundPolicy(allow_private=True), Timeouts(connect=4.0)
        with never_accepting("127.0.0.2") as port:
            async with serving(port=port) as receiver, GuardedClient(policy, resolver=names) as client:
                answer = await client.send("POST", receiver.url("two.test"), timeouts=bounds)

        assert answer.address == "127.0.0.1"
        assert answer.elapsed > 0.5

    async def test_a_name_system_that_does_not_answer_is_a_dns_failure(
        self, client: GuardedClient, names: Names
    ) -> None:
        names.delay = 10
        assert await failure(client, "http://hooks.test/", UNANSWERED) == "dns_failed"

    async def test_a_2xx_whose_body_never_ends_well_is_still_an_answer(self, client: GuardedClient) -> None:
        async def half(call: Call) -> None:
            await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            call.reset() if call.body == b"reset" else await asyncio.sleep(10)

        async with serving(half) as receiver:
            for body in (b"stall", b"reset"):
                answer = await client.send("POST", receiver.url("hooks.test"), content=body, timeouts=STALLED)
                assert (answer.status, answer.truncated) == (200, True)
                assert answer.body in (b"half", b"")


class TestBrokenReceivers:
    async def test_a_reset_before_the_answer(self, client: GuardedClient) -> None:
        async def reset(call: Call) -> None:
            call.reset()

        async with serving(reset) as receiver:
            assert await failure(client, receiver.url("hooks.test")) == "connection_reset"

    async def test_an_end_without_an_answer(self, client: GuardedClient) -> None:
        async def hang_up(call: Call) -> None:
            call.writer.close()

        async with serving(hang_up) as receiver:
            assert await failure(client, receiver.url("hooks.test")) == "connection_reset"

    async def test_no_listener(self, client: GuardedClient) -> None:
        async with serving() as receiver:
            url = receiver.url("hooks.test")
        assert await failure(client, url) == "connect_failed"

    async def test_an_unknown_name(self, client: GuardedClient) -> None:
        assert await failure(client, "http://unknown.test/") == "dns_failed"

    @pytest.mark.parametrize(
        "sent", [b"SSH-2.0-OpenSSH_9\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 64 + b"\r\n\r\n"]
    )
    async def test_something_else_than_http(self, client: GuardedClient, sent: bytes) -> None:
        async def speak(call: Call) -> None:
            await call.send(sent)
            call.writer.close()

        async with serving(speak) as receiver:
            assert await failure(client, receiver.url("hooks.test")) == "protocol_error"

    async def test_endless_headers_are_cut_off(self, client: GuardedClient) -> None:
        async def endless(call: Call) -> None:
            await call.send(b"HTTP/1.1 200 OK\r\n")
            while True:
                await call.send(b"X: " + b"y" * 10_000 + b"\r\n")

        async with serving(endless) as receiver:
            assert await failure(client, receiver.url("hooks.test")) == "protocol_error"
            await asyncio.wait_for(receiver.broken_off.wait(), 30)


class TestLargeAnswers:
    @staticmethod
    async def flood(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            await call.send(b"x" * 65_536)

    async def test_the_first_bytes_are_kept_and_the_rest_is_not_read(self, client: GuardedClient) -> None:
        async with serving(self.flood) as receiver:
            answer = await client.send("POST", receiver.url("hooks.test"), keep=1000)
            await asyncio.wait_for(receiver.broken_off.wait(), 30)

        assert (answer.status, answer.body, answer.truncated) == (200, b"x" * 1000, True)
        assert receiver.calls[0].headers["accept-encoding"] == "identity"
