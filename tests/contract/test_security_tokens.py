"""Forged and foreign JWTs on every front, and keys that would reach beyond their maker."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from runyard_common.identity.rules.roles import PERMISSIONS, Role
from tests.api_server import Api
from tests.members import browser, key, organisation, person
from tests.problems import check_problem

SECRET = "a secret of more than thirty-two characters"
OURS = rsa.generate_private_key(public_exponent=65537, key_size=2048)
FOREIGN = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = OURS.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
AUDIENCE, ISSUER = "runyard", "https://issuer.example"
#: A route of each front that any role may read.
FRONTS = {
    "native": ("GET", "/api/v1/tasks"),
    "native at the root": ("GET", "/tasks"),
    "nara": ("GET", "/api/agent/run"),
    "nugen": ("GET", "/api/v3/agents/"),
    "agentbase": ("POST", "/get-messages?session=none"),
    "appstrate": ("GET", "/api/runs"),
    "appstrate, by the query": ("GET", "/api/realtime/runs"),
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that takes HS256 by its secret and RS256 by published keys, of one audience and issuer."""
    published = json.dumps(
        {"keys": [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OURS.public_key())) | {"kid": "ours"}]}
    ).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(published)))
            self.end_headers()
            self.wfile.write(published)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    settings: dict[str, Any] = {
        "jwt_secret": SECRET, "jwt_audience": AUDIENCE, "jwt_issuer": ISSUER,
        "jwt_jwks_url": f"http://127.0.0.1:{server.server_port}/keys",
    }  # fmt: skip
    with Api(tmp_path_factory.mktemp("tokens") / "home", **settings) as running:
        yield running
    server.shutdown()
    server.server_close()


def claims(api: Api, **more: Any) -> dict[str, Any]:
    """Claims that count; None takes one away."""
    whole = {
        "sub": "ada", "org": api.state.org_id, "roles": ["admin"], "exp": time.time() + 300,
        "aud": AUDIENCE, "iss": ISSUER,
    } | more  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def by_hand(header: dict[str, Any], body: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token that no library would make."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, body)]
    signed = b".".join(parts)
    return (signed + b"." + base64.urlsafe_b64encode(sign(signed)).rstrip(b"=")).decode()


def hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda signed: hmac.digest(secret, signed, hashlib.sha256)


def hs(api: Api, **more: Any) -> str:
    return jwt.encode(claims(api, **more), SECRET, algorithm="HS256")


def rs(api: Api, private: Any = OURS, kid: str = "ours", **more: Any) -> str:
    return jwt.encode(claims(api, **more), private, algorithm="RS256", headers={"kid": kid})


FORGED: dict[str, Callable[[Api], str]] = {
    "alg none": lambda api: by_hand({"alg": "none", "typ": "JWT"}, claims(api), lambda _: b""),
    "alg None, otherwise spelled": lambda api: by_hand({"alg": "nOnE"}, claims(api), lambda _: b""),
    "no alg": lambda api: by_hand({"typ": "JWT"}, claims(api), hs256(SECRET.encode())),
    "the public key taken for the secret": lambda api: by_hand(
        {"alg": "HS256", "kid": "ours"}, claims(api), hs256(PUBLIC)
    ),
    "HS512 by our secret": lambda api: jwt.encode(claims(api), SECRET + SECRET, algorithm="HS512"),
    "another secret": lambda api: jwt.encode(claims(api), "x" * 40, algorithm="HS256"),
    "an empty secret": lambda api: by_hand({"alg": "HS256"}, claims(api), hs256(b"")),
    "a foreign key under our kid": lambda api: rs(api, FOREIGN),
    "a key that is not published": lambda api: rs(api, FOREIGN, kid="foreign"),
    "a key it brings itself": lambda api: jwt.encode(
        claims(api), FOREIGN, algorithm="RS256",
        headers={"jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(FOREIGN.public_key()))},
    ),
    "a kid that is a path": lambda api: by_hand(
        {"alg": "HS256", "kid": "../../../../dev/null"}, claims(api), hs256(b"")
    ),
    "expired": lambda api: hs(api, exp=time.time() - 60),
    "expired, by published keys": lambda api: rs(api, exp=time.time() - 60),
    "not valid yet": lambda api: hs(api, nbf=time.time() + 120),
    "made in the future": lambda api: hs(api, iat=time.time() + 120),
    "no exp": lambda api: hs(api, exp=None),
    "an exp that is no time": lambda api: by_hand(
        {"alg": "HS256"}, claims(api, exp="never"), hs256(SECRET.encode())
    ),
    "another audience": lambda api: hs(api, aud="another service"),
    "no audience": lambda api: hs(api, aud=None),
    "another issuer": lambda api: hs(api, iss="https://evil.example"),
    "no issuer": lambda api: hs(api, iss=None),
    "no subject": lambda api: hs(api, sub=None),
    "no organisation": lambda api: hs(api, org=None),
    "an organisation that is not there": lambda api: hs(api, org="00000000-0000-7000-8000-000000000000"),
    "every organisation": lambda api: hs(api, org="*"),
    "no roles": lambda api: hs(api, roles=[]),
    "an unknown role": lambda api: hs(api, roles=["root"]),
    "roles that are an object": lambda api: hs(api, roles={"admin": True}),
    "a subject with a line break": lambda api: hs(api, sub="ada\r\nx-evil: yes"),
    "an end that is years away": lambda api: hs(api, exp=time.time() + 10 * 365 * 86_400),
    "two organisations": lambda api: hs(api, orgId="00000000-0000-7000-8000-000000000000"),
    "a stronger role under the other name": lambda api: hs(api, roles=["viewer"], role="owner"),
    "a changed claim": lambda api: _changed(hs(api, roles=["viewer"])),
    "a signature cut short": lambda api: hs(api)[:-4],
}  # fmt: skip


def _changed(token: str) -> str:
    head, body, signature = token.split(".")
    forged = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | {"roles": ["owner"]}
    return ".".join(
        (head, base64.urlsafe_b64encode(json.dumps(forged).encode()).rstrip(b"=").decode(), signature)
    )


def ask(api: Api, front: str, token: str) -> int:
    """What a front answers to this token."""
    method, path = FRONTS[front]
    with api.client("") as client:
        if front.endswith("query"):
            with client.stream("GET", path, params={"token": token}) as answer:
                return answer.status_code
        return client.request(method, path, headers={"authorization": f"Bearer {token}"}).status_code


@pytest.mark.parametrize("front", FRONTS)
def test_sound_tokens_count_on_every_front(api: Api, front: str) -> None:
    for token in (hs(api), rs(api)):
        assert ask(api, front, token) in (200, 404)


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("forgery", FORGED)
def test_forged_and_foreign_tokens_count_nowhere(api: Api, forgery: str, front: str) -> None:
    assert ask(api, front, FORGED[forgery](api)) == 401


def test_a_token_is_not_stretched_by_asking_for_more(api: Api) -> None:
    """The strongest role it names counts, and a person's id as its subject makes it that person alone."""
    owner = person(api, "owner@example.com", (api.state.org_id, Role.OWNER))
    with api.client(hs(api, sub=owner, roles=["viewer"])) as client:
        me = client.get("/api/v1/me").json()
        assert (me["actor"], me["role"], me["person"]) == (f"jwt:{owner}", "viewer", None)
        check_problem(client.post("/api/v1/keys", json={"name": "k"}), 403, "missing_permission")
        wrong = client.get("/tasks", headers={"x-org-id": organisation(api)})
        check_problem(wrong, 403, "wrong_organisation", "X-Org-Id")


def test_a_key_made_by_a_token_stays_within_its_role(api: Api) -> None:
    with api.client(hs(api, roles=["admin"])) as client:
        check_problem(
            client.post("/api/v1/keys", json={"name": "k", "role": "owner"}),
            403,
            "role_exceeds_creator",
            "role",
        )
        made = client.post("/api/v1/keys", json={"name": "k", "role": "admin"}).json()
        assert made["created_by"] == "jwt:ada"


@pytest.mark.parametrize("permission", sorted(PERMISSIONS[Role.OWNER]))
def test_a_key_never_holds_what_its_maker_may_not(api: Api, permission: str) -> None:
    """What a key gets, asked for by name or by a star, is within what it was made with."""
    holds = {"keys:write", "keys:read", "agents:read"}
    with api.client(key(api, api.state.org_id, Role.ADMIN, sorted(holds))) as maker:
        for scope in (permission, permission.split(":", maxsplit=1)[0] + ":*"):
            for role in ("viewer", "member", "admin", "owner"):
                made = maker.post("/api/v1/keys", json={"name": "k", "role": role, "scopes": [scope]})
                if made.status_code == 201:
                    with api.client(made.json()["key"]) as client:
                        may = set(client.get("/api/v1/me").json()["permissions"]) - {"account:read"}
                        assert may <= holds
                else:
                    assert made.status_code == 403, made.text


def test_appstrates_keys_are_cut_to_their_makers_too(api: Api) -> None:
    org = organisation(api)
    maker_id = person(api, "maker@example.com", (org, Role.ADMIN))
    with browser(api, maker_id, org) as maker:
        application = maker.post("/api/applications", json={"name": "shop"}).json()["id"]
        body = {
            "applicationId": application,
            "name": "k",
            "scopes": ["agents:run", "webhooks:write", "root:*"],
        }
        made = maker.post("/api/api-keys", json=body).json()
        assert sorted(made["scopes"]) == ["agents:run", "webhooks:write"]
    with (
        api.client(made["key"]) as client,
        browser(api, person(api, "boss@example.com", (org, Role.OWNER)), org) as boss,
    ):
        hook = {"url": "https://example.com/hook", "events": ["run.failed"], "scope": "organization"}
        assert client.post("/api/webhooks", json=hook).status_code == 201
        boss.patch(f"/api/v1/members/{maker_id}", json={"role": "member"}).raise_for_status()
        assert client.post("/api/webhooks", json=hook).status_code == 403
        boss.delete(f"/api/v1/members/{maker_id}").raise_for_status()
        refused: httpx2.Response = client.post("/api/webhooks", json=hook)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
