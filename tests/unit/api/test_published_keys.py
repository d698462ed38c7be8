"""The keys of a JWKS address: read once, kept while it is away; an unknown key id delays no other."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from runyard_api.access import published_keys
from runyard_api.access.published_keys import PublishedKeys
from runyard_common.values.errors import RunyardError, Unauthorized, Unavailable

pytestmark = pytest.mark.anyio
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key()))


class Publisher:
    """A real server of keys, which counts who asks and can fail, be slow, or send anything, on request."""

    def __init__(self) -> None:
        self.keys: list[Any] = [KEY | {"kid": "one", "use": "sig"}]
        self.body: bytes | None = None
        self.status = 200
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked += 1
                publisher.answers.wait(30)
                self.send_response(publisher.status)
                self.end_headers()
                try:
                    self.wfile.write(publisher.body or json.dumps({"keys": publisher.keys}).encode())
                except OSError:
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    running = Publisher()
    yield running
    running.server.shutdown()
    running.server.server_close()


async def refused(keys: PublishedKeys, key_id: str) -> RunyardError:
    with pytest.raises(RunyardError) as refusal:
        await keys.get(key_id)
    return refusal.value


async def test_a_hundred_made_up_key_ids_cost_one_fetch_and_no_pause(publisher: Publisher) -> None:
    keys = PublishedKeys(publisher.url)
    assert (await keys.get("one")).key_id == "one"
    answers = await asyncio.gather(*(refused(keys, f"made-up-{n}") for n in range(100)))
    assert {(type(a), a.code) for a in answers} == {(Unauthorized, "token_invalid")}
    assert publisher.asked == 1


async def test_a_new_key_is_found_once_the_pause_is_over(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = PublishedKeys(publisher.url)
    await keys.get("one")
    publisher.keys.append(KEY | {"kid": "two"})
    assert (await refused(keys, "two")).code == "token_invalid"
    monkeypatch.setattr(published_keys, "PAUSE", 0.0)
    assert (await keys.get("two")).key_id == "two"


async def test_an_address_that_is_away_is_asked_once_and_known_keys_go_on_counting(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = PublishedKeys(publisher.url)
    await keys.get("one")
    publisher.status = 500
    publisher.answers.clear()
    monkeypatch.setattr(published_keys, "FRESH", 0.0)
    monkeypatch.setattr(published_keys, "PAUSE", 0.0)
    assert (await keys.get("one")).key_id == "one", "a known key is not waited for"
    publisher.answers.set()
    monkeypatch.setattr(published_keys, "PAUSE", 60.0)
    answers = await asyncio.gather(*(refused(keys, f"made-up-{n}") for n in range(50)))
    assert {(type(a), a.code) for a in answers} == {(Unavailable, "jwks_unavailable")}
    assert (await keys.get("one")).key_id == "one"
    assert publisher.asked == 2


async def test_a_failure_is_remembered_and_answered_at_once(publisher: Publisher) -> None:
    publisher.status = 500
    keys = PublishedKeys(publisher.url)
    await refused(keys, "one")
    for n in range(200):
        assert (await refused(keys, f"made-up-{n}")).code == "jwks_unavailable"
    assert publisher.asked == 1


@pytest.mark.parametrize(
    "body",
    [b"x" * 2_000_000, b"[]", b'{"keys": 5}', b"{", b"\xff\xfe"],
    ids=["large", "list", "number", "half", "bytes"],
)
async def test_an_answer_that_is_no_set_of_keys_is_a_failed_fetch(publisher: Publisher, body: bytes) -> None:
    publisher.body = body
    assert (await refused(PublishedKeys(publisher.url), "one")).code == "jwks_unavailable"


async def test_keys_that_cannot_verify_are_left_out(publisher: Publisher) -> None:
    publisher.keys = [
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}, KEY | {"kid": "enc", "use": "enc"},
        {"kty": "RSA", "kid": "half"}, KEY | {"kid": 5}, "text", None, KEY | {"kid": "good"},
    ]  # fmt: skip
    keys = PublishedKeys(publisher.url)
    assert (await keys.get("good")).key_id == "good"
    for key_id in ("secret", "enc", "half", "5"):
        assert (await refused(keys, key_id)).code == "token_invalid"


async def test_trusted_certificates_are_loaded_once_and_never_on_the_event_loop(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    load = httpcore2.default_ssl_context

    def noted(**options: Any) -> ssl.SSLContext:
        loaded.append(threading.get_ident())
        return load(**options)

    monkeypatch.setattr(httpcore2, "default_ssl_context", noted)
    monkeypatch.setattr(published_keys, "PAUSE", 0.0)
    keys = PublishedKeys(publisher.url)
    assert (await keys.get("one")).key_id == "one"
    await refused(keys, "unknown")
    assert publisher.asked == 2
    assert len(loaded) == 1
    assert loaded != [threading.get_ident()]
