"""Encrypted calls: certificates are verified for the URL's own name, though the socket is pinned."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.outbound import GuardedClient, OutboundError, OutboundPolicy, guarded_transport
from tests.fakes.names import Names
from tests.fakes.raw_server import RawServer, say_ok, serving

pytestmark = pytest.mark.anyio

POLICY = OutboundPolicy.parse(allowed_hosts="127.0.0.1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._own = self._sign(self._name, self._key.public_key(), [], authority=True)

    def client(self) -> ssl.SSLContext:
        """What a client that trusts this authority, and no other, verifies with."""
        return ssl.create_default_context(cadata=self._own.public_bytes(serialization.Encoding.PEM).decode())

    def server(self, *names: str, seen: list[str | None] | None = None) -> ssl.SSLContext:
        """A server's side, with a certificate for `names`; `seen` collects the names clients ask for."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key.public_key(), list(names))
        file = self._folder / f"{names[0]}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if seen is not None:
            context.sni_callback = lambda _, name, __: seen.append(name)
        return context

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, names: list[str], *, authority: bool = False
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        own = self._key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())


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

    assert b"HTTP" not in heard[0]  # nothing was said in the clear


async def test_a_name_on_the_same_address_does_not_ride_on_another_s_connection(
    client: GuardedClient, authority: Authority
) -> None:
    """Both names lead to one address and port; the open connection was verified for the first name only."""
    async with serving(say_ok, tls=authority.server("hooks.test")) as receiver:
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
