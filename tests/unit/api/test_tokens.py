"""JWT bearers: which ones count, and every way in which one does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from runyard_api.access.tokens import Tokens
from runyard_api.batched_reads import Reader
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.roles import Role
from runyard_common.settings import Settings
from runyard_common.values.errors import RunyardError, Unauthorized

pytestmark = pytest.mark.anyio
SECRET = "a secret of more than thirty-two characters"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
FOREIGN = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    db = Database(f"sqlite:///{tmp_path_factory.mktemp('db') / 'runyard.db'}")
    migrate.upgrade(db)
    yield Store(db)
    db.close()


@pytest.fixture(scope="module")
def org(store: Store) -> str:
    with store.begin() as tx:
        return identity.insert_organisation(tx, "default")


@pytest.fixture(scope="module")
def jwks_url() -> Iterator[str]:
    """A real server that publishes the public keys."""
    keys = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())) | {"kid": "rsa", "use": "sig"},
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key())) | {"kid": "ec", "use": "sig"},
    ]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": keys}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/jwks"
    server.shutdown()
    server.server_close()


def claims(org_id: str, **changed: Any) -> dict[str, Any]:
    """Claims that count, with some changed or (None) left out."""
    whole = {"sub": "ada", "org": org_id, "roles": ["member"], "exp": time.time() + 60} | changed
    return {name: value for name, value in whole.items() if value is not None}


def tokens(store: Store, **settings: Any) -> Tokens:
    return Tokens(Settings(home=Path(), **settings), SECRET, Reader(store))


async def refusal(verify: Tokens, token: str) -> str:
    with pytest.raises(Unauthorized) as refused:
        await verify(token)
    assert token not in refused.value.message
    return refused.value.code


async def test_a_sound_token_names_who_calls(store: Store, org: str) -> None:
    token = jwt.encode(claims(org, roles=["viewer", "admin", "wizard"]), SECRET, "HS256")
    who = await tokens(store)(token)
    assert (who.org_id, who.actor, who.role, who.user_id) == (org, "jwt:ada", Role.ADMIN, "ada")
    assert who.may("limits:write")


async def test_claims_may_have_their_other_names(store: Store, org: str) -> None:
    payload = claims(org, org=None, roles=None) | {"orgId": org, "role": "admin"}
    who = await tokens(store)(jwt.encode(payload, SECRET, "HS256"))
    assert (who.org_id, who.role) == (org, Role.ADMIN)


async def test_both_names_of_a_claim_may_stand_there_where_they_agree(store: Store, org: str) -> None:
    payload = claims(org, roles=["viewer"]) | {"role": "viewer", "orgId": org}
    who = await tokens(store)(jwt.encode(payload, SECRET, "HS256"))
    assert (who.org_id, who.role) == (org, Role.VIEWER)


@pytest.mark.parametrize(
    "other", [{"role": "owner"}, {"role": None}, {"role": ["viewer", "owner"]}, {"orgId": "elsewhere"}]
)
async def test_claims_that_contradict_each_other_are_refused(
    store: Store, org: str, other: dict[str, Any]
) -> None:
    payload = claims(org, roles=["viewer"]) | other
    assert await refusal(tokens(store), jwt.encode(payload, SECRET, "HS256")) == "token_claims"


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ('{"alg":"HS256","typ":"JWT"}', '{"role":"viewer","role":"owner",'),
        ('{"alg":"HS256"}', '{"role":"owner","org":"elsewhere",'),
        ('{"alg":"HS256"}', '{"role":"owner","r\\u006fle":"owner",'),
        ('{"alg":"HS256"}', '{"role":"owner","more":{"a":1,"a":2},'),
        ('{"alg":"none","alg":"HS256"}', '{"role":"owner",'),
    ],
)
async def test_a_repeated_member_is_refused(store: Store, org: str, header: str, body: str) -> None:
    whole = body + json.dumps({"org": org, "sub": "ada", "exp": time.time() + 60})[1:]
    head = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in (header, whole))
    mac = hmac.new(SECRET.encode(), head.encode(), hashlib.sha256).digest()
    token = f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    assert await refusal(tokens(store), token) == "token_invalid"


async def test_a_token_ends_within_a_day_or_by_the_setting(store: Store, org: str) -> None:
    def ending(seconds: float) -> str:
        return jwt.encode(claims(org, exp=time.time() + seconds), SECRET, "HS256")

    assert (await tokens(store)(ending(86_400))).user_id == "ada"
    assert await refusal(tokens(store), ending(86_500)) == "token_lives_too_long"
    assert await refusal(tokens(store), ending(250_000_000_000)) == "token_lives_too_long"
    assert (await tokens(store, jwt_max_seconds=90_000)(ending(86_500))).user_id == "ada"
    assert await refusal(tokens(store, jwt_max_seconds=60), ending(600)) == "token_lives_too_long"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"exp": None}, "token_invalid"),
        ({"sub": None}, "token_invalid"),
        ({"org": None}, "token_invalid"),
        ({"exp": time.time() - 3600}, "token_expired"),
        ({"exp": "soon"}, "token_invalid"),
        ({"nbf": time.time() + 3600}, "token_invalid"),
        ({"iat": time.time() + 3600}, "token_invalid"),
        ({"sub": 7}, "token_invalid"),
        ({"sub": "x" * 60}, "token_claims"),
        ({"sub": "a\nb"}, "token_claims"),
        ({"roles": None}, "token_claims"),
        ({"roles": []}, "token_claims"),
        ({"roles": ["wizard"]}, "token_claims"),
        ({"roles": [["admin"]]}, "token_claims"),
        ({"roles": {"admin": True}}, "token_claims"),
        ({"org": "00000000-0000-7000-8000-000000000000"}, "token_organisation"),
        ({"org": "default"}, "token_organisation"),
        ({"org": ["x"]}, "token_organisation"),
    ],
)
async def test_a_token_with_wrong_claims_is_refused(
    store: Store, org: str, changed: dict[str, Any], code: str
) -> None:
    assert await refusal(tokens(store), jwt.encode(claims(org, **changed), SECRET, "HS256")) == code


async def test_a_clock_that_is_half_a_minute_off_is_forgiven(store: Store, org: str) -> None:
    for changed in ({"exp": time.time() - 20}, {"nbf": time.time() + 20}):
        who = await tokens(store)(jwt.encode(claims(org, **changed), SECRET, "HS256"))
        assert who.user_id == "ada"


async def test_a_deactivated_organisation_is_refused(store: Store) -> None:
    with store.begin() as tx:
        closed = identity.insert_organisation(tx, "closed")
        tx.conn.exec_driver_sql("UPDATE organisations SET active = 0 WHERE id = ?", (closed,))
    assert (
        await refusal(tokens(store), jwt.encode(claims(closed), SECRET, "HS256")) == "organisation_inactive"
    )


async def test_audience_and_issuer_count_when_they_are_set(store: Store, org: str) -> None:
    verify = tokens(store, jwt_audience="runyard", jwt_issuer="https://id.example")
    sound = claims(org, aud="runyard", iss="https://id.example")
    assert (await verify(jwt.encode(sound, SECRET, "HS256"))).user_id == "ada"
    for wrong in ({"aud": "other"}, {"aud": None}, {"iss": "https://evil.example"}, {"iss": None}):
        token = {name: value for name, value in (sound | wrong).items() if value is not None}
        assert await refusal(verify, jwt.encode(token, SECRET, "HS256")) == "token_invalid"


def forged(header: dict[str, Any], body: dict[str, Any], signature: str = "") -> str:
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, body)
    )
    return ".".join([*parts, signature])


async def test_no_algorithm_is_taken_from_the_token_alone(store: Store, org: str, jwks_url: str) -> None:
    verify = tokens(store, jwt_jwks_url=jwks_url)
    assert await refusal(verify, forged({"alg": "none"}, claims(org))) == "token_algorithm"
    assert await refusal(verify, forged({"alg": "None"}, claims(org))) == "token_algorithm"
    assert await refusal(verify, jwt.encode(claims(org), SECRET * 2, "HS512")) == "token_algorithm"
    assert (
        await refusal(verify, jwt.encode(claims(org), "another secret of thirty-two characters!", "HS256"))
        == "token_invalid"
    )
    public = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = forged({"alg": "HS256", "kid": "rsa"}, claims(org)).rstrip(".")
    mac = (
        base64.urlsafe_b64encode(hmac.new(public, head.encode(), hashlib.sha256).digest())
        .decode()
        .rstrip("=")
    )
    assert await refusal(verify, f"{head}.{mac}") == "token_invalid"


async def test_published_keys_verify_rs256_and_es256(store: Store, org: str, jwks_url: str) -> None:
    verify = tokens(store, jwt_jwks_url=jwks_url)
    for key, algorithm, kid in ((RSA, "RS256", "rsa"), (EC, "ES256", "ec")):
        token = jwt.encode(claims(org), key, algorithm, headers={"kid": kid})
        assert (await verify(token)).org_id == org
    for key, kid in ((FOREIGN, "rsa"), (FOREIGN, "unknown")):
        token = jwt.encode(claims(org), key, "RS256", headers={"kid": kid})
        assert await refusal(verify, token) == "token_invalid"
    confused = jwt.encode(claims(org), RSA, "RS256", headers={"kid": "ec"})
    assert await refusal(verify, confused) == "token_invalid"


@pytest.mark.parametrize("expiry", [10**400, 10**15, -(10**400), 0])
async def test_an_expiry_that_is_no_date_is_refused(store: Store, org: str, expiry: int) -> None:
    token = jwt.encode(claims(org, exp=expiry), SECRET, "HS256")
    assert await refusal(tokens(store), token) in ("token_invalid", "token_expired", "token_lives_too_long")


async def test_keys_that_cannot_be_fetched_are_503_not_401(store: Store, org: str) -> None:
    verify = tokens(store, jwt_jwks_url="http://127.0.0.1:1/jwks")
    with pytest.raises(RunyardError) as refused:
        await verify(jwt.encode(claims(org), RSA, "RS256", headers={"kid": "rsa"}))
    assert (refused.value.status, refused.value.code) == (503, "jwks_unavailable")
