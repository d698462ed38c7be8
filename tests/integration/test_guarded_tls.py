"""Encrypted calls: certificates are verified for the URL's own name, though the socket is pinned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from runyard_common.outbound import GuardedClient, OutboundError, OutboundPolicy, guarded_transport
from tests.fakes.authority import Authority
from tests.fakes.names import Names
from tests.fakes.raw_server import RawServer, answer_ok, serving

pytestmark = pytest.mark.anyio

POLICY = OutboundPolicy.parse(allowed_hosts="127.0.0.1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def names() -> Names:
    return Names(hooks_test=["127.0.0.1"], other_test=["127.0.0.1"])


@pytest.fixture
async def client(authority: Authority, names: Names) -> AsyncIterator[GuardedClient]:
    async with GuardedClient(POLICY, resolver=names, tls=authority.client()) as client:
        yield client


async def tls_failure(client: GuardedClient, receiver: RawServer, name: str) -> str:
    with pytest.raises(OutboundError) as caught:
        await client.send("POST", receiver.url(name, "https"))
    assert caught.value.code == "tls_failed"
    return caught.value.message


async def test_the_name_is_asked_for_and_verified(client: GuardedClient, authority: Authority) -> None:
    seen: list[str | None] = []
    async with serving(tls=authority.server("hooks.test", seen=seen)) as receiver:
        answer = await client.send("POST", receiver.url("hooks.test", "https"), content=b"{}")

    assert (answer.status, answer.address) == (200, "127.0.0.1")
    assert seen == ["hooks.test"]
    assert receiver.calls[0].headers["host"] == f"hooks.test:{receiver.port}"


async def test_a_certificate_for_another_name_is_refused(client: GuardedClient, authority: Authority) -> None:
    async with serving(tls=authority.server("other.test")) as receiver:
        message = await tls_failure(client, receiver, "hooks.test")

    assert "certificate is not trusted" in message
    assert "hooks.test" in message
    assert receiver.calls == []


async def test_an_unknown_authority_is_refused(
    client: GuardedClient, tmp_path: Path, authority: Authority
) -> None:
    async with serving(tls=Authority(tmp_path).server("hooks.test")) as receiver:
        assert "certificate is not trusted" in await tls_failure(client, receiver, "hooks.test")


async def test_a_server_that_speaks_no_tls_is_refused(client: GuardedClient) -> None:
    heard: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65_536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        receiver = RawServer("127.0.0.1", server.sockets[0].getsockname()[1])
        assert "handshake" in await tls_failure(client, receiver, "hooks.test")

    assert b"HTTP" not in heard[0]  # nothing was sent in the clear


async def test_a_name_on_the_same_address_does_not_ride_on_another_s_connection(
    client: GuardedClient, authority: Authority
) -> None:
    """Both names lead to one address and port; the open connection was verified for the first name only."""
    async with serving(answer_ok, tls=authority.server("hooks.test")) as receiver:
        await client.send("POST", receiver.url("hooks.test", "https"))
        await tls_failure(client, receiver, "other.test")
        await client.send("POST", receiver.url("hooks.test", "https"))

    assert [call.headers["host"].partition(":")[0] for call in receiver.calls] == ["hooks.test"] * 2


async def test_a_request_cannot_ask_tls_for_another_name(authority: Authority, names: Names) -> None:
    seen: list[str | None] = []
    async with serving(tls=authority.server("hooks.test", "other.test", seen=seen)) as receiver:
        transport = guarded_transport(POLICY, resolver=names, tls=authority.client())
        async with httpx2.AsyncClient(transport=transport) as client:
            url = receiver.url("hooks.test", "https")
            await client.post(url, extensions={"sni_hostname": "other.test"})

    assert seen == ["hooks.test"]
