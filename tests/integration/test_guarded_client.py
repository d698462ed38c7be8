"""The guarded client against real servers: pinned addresses, redirects, and receivers that misbehave.

Nothing outside this machine is called. 127.0.0.1 is listed as allowed and plays the public internet; the
other loopback addresses stay private, and a server listens there that must never be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
import pytest

from runyard_common.outbound import (
    GuardedClient,
    OutboundError,
    OutboundPolicy,
    Timeouts,
    UrlRefused,
    guarded_transport,
)
from runyard_common.outbound.errors import HeaderRefused
from runyard_common.outbound.urls import target_of
from tests.fakes.names import Names, NoSockets
from tests.fakes.raw_server import Call, RawServer, serving
from tests.fakes.ssrf import CORPUS, PUBLIC
from tests.waiting import until

pytestmark = pytest.mark.anyio

POLICY = OutboundPolicy.parse(allowed_hosts="127.0.0.1")


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


@contextlib.asynccontextmanager
async def a_receiver_and_a_trap() -> AsyncIterator[tuple[RawServer, RawServer]]:
    """Two servers on one port: the first on the allowed address, the second on a private one."""
    async with serving() as receiver, serving(host="127.0.0.2", port=receiver.port) as trap:
        yield receiver, trap


async def refusal(client: GuardedClient, url: str) -> UrlRefused:
    with pytest.raises(UrlRefused) as caught:
        await client.send("POST", url, content=b"{}")
    return caught.value


async def failure(client: GuardedClient, url: str, timeouts: Timeouts | None = None) -> str:
    with pytest.raises(OutboundError) as caught:
        await client.send("POST", url, content=b"{}", timeouts=timeouts)
    assert isinstance(caught.value, httpx2.TransportError)
    assert caught.value.message.endswith(".")
    return caught.value.code


class TestPinning:
    async def test_the_name_is_looked_up_once_and_is_still_in_the_host_header(
        self, client: GuardedClient, names: Names
    ) -> None:
        async with serving() as receiver:
            answer = await client.send(
                "POST", receiver.url("hooks.test"), content=b'{"a":1}', headers={"X-Tenant": "acme"}
            )

        assert (answer.status, answer.body, answer.truncated) == (200, b"thank you", False)
        assert answer.address == "127.0.0.1"
        assert answer.elapsed > 0
        assert names.asked == ["hooks.test"]
        (call,) = receiver.calls
        assert call.body == b'{"a":1}'
        assert call.headers["host"] == f"hooks.test:{receiver.port}"
        assert call.headers["x-tenant"] == "acme"

    async def test_a_rebinding_name_is_called_at_the_checked_address_and_refused_the_next_time(
        self, client: GuardedClient, names: Names
    ) -> None:
        names.answers["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
        async with a_receiver_and_a_trap() as (receiver, trap):
            answer = await client.send("POST", receiver.url("rebind.test"))
            refused = await refusal(client, receiver.url("rebind.test"))

        assert answer.address == "127.0.0.1"
        assert names.asked == ["rebind.test"] * 2
        assert refused.reason == "loopback"
        assert (len(receiver.calls), trap.connections) == (1, 0)

    @pytest.mark.parametrize(
        "answer",
        ["127.0.0.1 127.0.0.2", "127.0.0.2 127.0.0.1", "127.0.0.1 ::1", "127.0.0.1 ::ffff:127.0.0.1"],
    )
    async def test_one_private_address_among_several_refuses_them_all(
        self, client: GuardedClient, names: Names, answer: str
    ) -> None:
        names.answers["mixed.test"] = [answer.split()]
        async with a_receiver_and_a_trap() as (receiver, trap):
            await refusal(client, receiver.url("mixed.test"))

        assert (receiver.connections, trap.connections) == (0, 0)

    async def test_a_refusal_names_no_address_to_the_caller_but_to_the_log(
        self, client: GuardedClient, names: Names
    ) -> None:
        names.answers["inside.test"] = [["10.9.8.7"]]

        refused = await refusal(client, "http://inside.test/")

        assert refused.address == "10.9.8.7"
        assert refused.details == {"reason": "private"}
        assert "10.9.8.7" not in refused.message

    async def test_an_address_that_refuses_the_connection_gives_way_to_the_next(self, names: Names) -> None:
        names.answers["two.test"] = [["127.0.0.3", "127.0.0.1"]]
        policy = OutboundPolicy.parse(allowed_hosts="127.0.0.1,127.0.0.3")
        async with GuardedClient(policy, resolver=names) as client, serving() as receiver:
            answer = await client.send("POST", receiver.url("two.test"))

        assert answer.address == "127.0.0.1"

    async def test_ipv6_addresses_are_called_as_written(self, names: Names) -> None:
        policy = OutboundPolicy.parse(allowed_hosts="::1")
        async with GuardedClient(policy, resolver=names) as client, serving(host="::1") as receiver:
            answer = await client.send("POST", receiver.url())

        assert answer.address == "::1"
        assert receiver.calls[0].headers["host"] == f"[::1]:{receiver.port}"
        assert names.asked == []

    async def test_connections_are_reused_until_the_name_moves(self, names: Names) -> None:
        names.answers["move.test"] = [["127.0.0.1"]] * 5 + [["127.0.0.2"]]
        policy = OutboundPolicy(allow_private=True)
        async with (
            a_receiver_and_a_trap() as (before, after),
            GuardedClient(policy, resolver=names) as client,
        ):
            for _ in range(5):
                await client.send("POST", before.url("move.test"))
            assert (before.connections, len(before.calls)) == (1, 5)
            for _ in range(3):
                await client.send("POST", before.url("move.test"))

            assert len(before.calls) == 6  # the call that found the name moved, on the open connection
            assert (after.connections, len(after.calls)) == (1, 2)
            await until(lambda: before.open == 0)

    async def test_simultaneous_calls_keep_to_their_own_addresses(self, names: Names) -> None:
        names.answers |= {"one.test": [["127.0.0.1"]], "two.test": [["127.0.0.2"]]}
        policy = OutboundPolicy(allow_private=True)
        async with a_receiver_and_a_trap() as (one, two), GuardedClient(policy, resolver=names) as client:
            urls = [one.url("one.test"), two.url("two.test")] * 25
            answers = await asyncio.gather(*(client.send("POST", url) for url in urls))

        assert [answer.address for answer in answers] == ["127.0.0.1", "127.0.0.2"] * 25
        assert {call.headers["host"].partition(":")[0] for call in one.calls} == {"one.test"}
        assert {call.headers["host"].partition(":")[0] for call in two.calls} == {"two.test"}


class TestCorpus:
    async def test_no_entry_of_the_corpus_opens_a_socket_or_asks_for_a_name(self) -> None:
        names, sockets = Names(), NoSockets()
        async with GuardedClient(OutboundPolicy(), resolver=names, backend=sockets) as client:
            for url, reason in CORPUS.items():
                if reason != "url_too_long":  # the client itself takes longer ones than the api
                    assert (await refusal(client, url)).reason == reason

        assert (names.asked, sockets.dialled) == ([], [])

    async def test_an_httpx2_client_on_the_guarded_transport_reaches_none_either(self) -> None:
        sockets = NoSockets()
        async with (
            GuardedClient(OutboundPolicy(), resolver=Names(), backend=sockets) as guard,
            guard.http_client() as client,
        ):
            for url, reason in CORPUS.items():
                if reason != "url_too_long":
                    with pytest.raises(
                        (UrlRefused, httpx2.InvalidURL, httpx2.UnsupportedProtocol, OutboundError)
                    ):
                        await client.get(url)

        assert sockets.dialled == []

    async def test_no_name_leads_to_a_refused_address(self) -> None:
        names, sockets = Names(), NoSockets()
        literals = [url for url in CORPUS if url.startswith(("http://[", "http://1", "http://2", "http://0"))]
        tried = 0
        async with GuardedClient(OutboundPolicy(), resolver=names, backend=sockets) as client:
            for url in literals:
                with contextlib.suppress(UrlRefused):
                    names.answers["name.test"] = [[target_of(url).host]]
                    tried += 1
                    refused = await refusal(client, "http://name.test/")
                    assert refused.reason == CORPUS[url]

        assert tried > 45
        assert sockets.dialled == []

    async def test_public_urls_get_as_far_as_the_socket(self) -> None:
        sockets = NoSockets()
        hosts = {target_of(url).host: ["93.184.215.14"] for url in PUBLIC}
        names = Names()
        names.answers = {host: [addresses] for host, addresses in hosts.items()}
        async with GuardedClient(OutboundPolicy(), resolver=names, backend=sockets) as client:
            for url in PUBLIC:
                assert await failure(client, url) == "connect_failed"

        assert len(sockets.dialled) == len(PUBLIC)


class TestRedirects:
    @pytest.mark.parametrize(
        "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
    )
    async def test_a_redirect_is_an_answer_and_is_not_followed(
        self, client: GuardedClient, status: str
    ) -> None:
        async with serving(host="127.0.0.2") as trap:

            async def redirect(call: Call) -> None:
                await call.reply(status, Location=trap.url())

            async with serving(redirect) as receiver:
                answer = await client.send("POST", receiver.url("hooks.test"))

        assert answer.status == int(status[:3])
        assert answer.headers["location"] == trap.url()
        assert trap.connections == 0

    async def test_a_client_that_follows_redirects_is_checked_at_each_hop(self, names: Names) -> None:
        async with serving(host="127.0.0.2") as trap:

            async def redirect(call: Call) -> None:
                await call.reply("302 Found", Location=trap.url())

            async with serving(redirect) as receiver:
                transport = guarded_transport(POLICY, resolver=names)
                async with httpx2.AsyncClient(transport=transport, follow_redirects=True) as follower:
                    with pytest.raises(UrlRefused) as caught:
                        await follower.get(receiver.url("hooks.test"))

        assert caught.value.reason == "loopback"
        assert trap.connections == 0


class TestNothingIsShared:
    async def test_cookies_of_one_call_do_not_reach_the_next(self, client: GuardedClient) -> None:
        async def hand_out(call: Call) -> None:
            await call.reply(Set_Cookie="session=secret; Path=/")

        async with serving(hand_out) as receiver:
            for _ in range(2):
                await client.send("POST", receiver.url("hooks.test"))

        assert "cookie" not in receiver.calls[1].headers

    async def test_proxy_settings_of_the_environment_are_not_used(
        self, client: GuardedClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with a_receiver_and_a_trap() as (receiver, trap):
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, trap.url(path=""))
            await client.send("POST", receiver.url("hooks.test"))
            async with client.http_client() as lent:
                await lent.get(receiver.url("hooks.test"))

        assert (len(receiver.calls), trap.connections) == (2, 0)

    async def test_another_host_in_the_host_header_is_refused(self, client: GuardedClient) -> None:
        async with serving() as receiver:
            with pytest.raises(HeaderRefused):
                await client.send("POST", receiver.url("hooks.test"), headers={"Host": "internal"})
            with pytest.raises(HeaderRefused, match="not valid HTTP"):
                await client.send("POST", receiver.url("hooks.test"), headers={"X-A": "b\r\nHost: internal"})

        assert receiver.calls == []

    async def test_closing_a_lent_client_closes_nothing_of_the_others(self, client: GuardedClient) -> None:
        async with serving() as receiver:
            async with client.http_client(headers={"X-Run": "1"}) as lent:
                await lent.get(receiver.url("hooks.test"))
            await client.send("POST", receiver.url("hooks.test"))

        assert receiver.connections == 1
        assert [call.headers.get("x-run") for call in receiver.calls] == ["1", None]
