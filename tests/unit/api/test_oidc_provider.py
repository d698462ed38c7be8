"""ID tokens count only as OpenID Connect has it, and the provider's answers are bounded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, cast

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from runyard_api.access import oidc_provider
from runyard_api.access.oidc_provider import OidcProvider
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.rules.single_sign_on import Identity, SignOnRules
from runyard_common.outbound.client import Answer, GuardedClient
from runyard_common.values.errors import ConfigurationError, Forbidden, RunyardError, Unavailable

ISSUER = "https://id.example.com"
CLIENT = "runyard"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def published(key: rsa.RSAPrivateKey, kid: str = "k1") -> dict[str, Any]:
    return jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}


class Provider:
    """In place of the guarded client: answers by address, and notes what is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize?tenant=1",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/jwks",
        }
        self.keys = [published(KEY)]
        self.token: dict[str, Any] = {}
        self.form = b""
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None

    async def send(self, method: str, url: str, *, headers: Any, content: bytes, keep: int) -> Answer:
        self.asked.append(url)
        if method == "POST":
            self.form, self.headers = content, headers
        found = {
            f"{ISSUER}/.well-known/openid-configuration": self.metadata,
            f"{ISSUER}/jwks": {"keys": self.keys},
            f"{ISSUER}/token": self.token,
        }[url]
        body = orjson.dumps(found) if self.body is None else self.body
        return Answer(200, {}, body[:keep], len(body) > keep, 0.0, "192.0.2.1")


def rules(**changes: Any) -> SignOnRules:
    given: dict[str, Any] = {
        "issuer": ISSUER, "client_id": CLIENT, "domains": "", "claims": "", "create": False,
        "organisation": "default", "role": "viewer",
    }  # fmt: skip
    return SignOnRules.of(**(given | changes))


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "iss": ISSUER, "sub": "s1", "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": "n1",
        "email": "Ada@example.com", "email_verified": True, "name": "Ada",
    }  # fmt: skip
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(key: Any = KEY, algorithm: str = "RS256", kid: str | None = "k1", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid} if kid else {})


def with_a_member_twice() -> str:
    """A token that is signed, and names two subjects."""
    payload = b'{"sub":"s2",' + json.dumps(claims()).encode()[1:]
    return jwt.api_jws.encode(payload, KEY, "RS256", headers={"kid": "k1"})


def judge(id_token: str, fake: Provider | None = None, secret: str = "s3cret", **more: Any) -> Identity:
    fake = fake or Provider()
    fake.token = {"id_token": id_token, "access_token": "at", "token_type": "Bearer"} | more
    provider = OidcProvider(rules(), secret, cast(GuardedClient, fake))
    return asyncio.run(provider.identity("code", "https://r.example/cb", "n1", "verifier"))


def test_a_good_token_names_the_person() -> None:
    assert judge(signed()) == Identity(ISSUER, "s1", "ada@example.com", "Ada")
    assert judge(signed(kid=None)).subject == "s1"  # the only key needs no name
    assert judge(signed(aud=[CLIENT, "other"], azp=CLIENT)).subject == "s1"
    assert judge(signed(exp=int(time.time()) - 30)).subject == "s1"  # clocks differ


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: signed(nonce="n2"), id="the nonce of another sign-on"),
        pytest.param(lambda: signed(nonce=None), id="no nonce"),
        pytest.param(lambda: signed(iss="https://evil.example"), id="another issuer"),
        pytest.param(lambda: signed(aud="other"), id="another client"),
        pytest.param(lambda: signed(aud=[CLIENT, "other"]), id="two clients and no party"),
        pytest.param(lambda: signed(azp="other"), id="another party"),
        pytest.param(lambda: signed(exp=int(time.time()) - 300), id="expired"),
        pytest.param(lambda: signed(exp=None), id="no end"),
        pytest.param(lambda: signed(iat=None), id="no beginning"),
        pytest.param(lambda: signed(sub=None), id="no subject"),
        pytest.param(lambda: signed(key=OTHER), id="another key"),
        pytest.param(lambda: signed(kid="k2"), id="an unknown key"),
        pytest.param(lambda: signed(key="s3cret" * 8, algorithm="HS256"), id="the client's secret"),
        pytest.param(lambda: jwt.encode(claims(), "", "none"), id="no signature"),
        pytest.param(with_a_member_twice, id="a member twice"),
        pytest.param(lambda: signed(at_hash="AAAA"), id="another access token"),
        pytest.param(lambda: "", id="no token"),
        pytest.param(lambda: "a.b.c", id="no JWT"),
    ],
)
def test_a_token_that_does_not_count_opens_nothing(token: Callable[[], str]) -> None:
    with pytest.raises(Forbidden) as refusal:
        judge(token())
    assert refusal.value.code == "sign_on_failed"


@pytest.mark.parametrize("changes", [{"email_verified": None}, {"email_verified": "true"}, {"email": None}])
def test_an_address_counts_only_when_it_is_verified(changes: dict[str, Any]) -> None:
    with pytest.raises(Forbidden) as refusal:
        judge(signed(**changes))
    assert refusal.value.code == "email_not_verified"


def test_the_code_is_exchanged_with_its_verifier_and_the_clients_secret() -> None:
    fake = Provider()
    judge(signed(), fake)
    assert b"code_verifier=verifier" in fake.form
    assert fake.headers["authorization"].startswith("Basic ")
    assert b"s3cret" not in fake.form
    fake.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    judge(signed(), fake)
    assert b"client_secret=s3cret" in fake.form
    judge(signed(), fake, secret="")
    assert b"client_secret" not in fake.form
    with pytest.raises(Forbidden):
        judge(signed(), error="invalid_grant")


def test_new_keys_are_read_when_a_token_names_one_and_not_for_each_unknown_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Provider()
    provider = OidcProvider(rules(), "s", cast(GuardedClient, fake))

    async def sign_in(token: str) -> Identity:
        fake.token = {"id_token": token}
        return await provider.identity("code", "https://r.example/cb", "n1", "v")

    async def story() -> None:
        await sign_in(signed())
        fake.keys = [published(OTHER, "k2")]
        for _ in range(3):
            with pytest.raises(Forbidden):
                await sign_in(signed(key=OTHER, kid="k2"))
        assert fake.asked.count(f"{ISSUER}/jwks") == 1
        monkeypatch.setattr(oidc_provider, "PAUSE", 0.0)
        assert (await sign_in(signed(key=OTHER, kid="k2"))).subject == "s1"
        assert fake.asked.count(f"{ISSUER}/jwks") == 2
        assert fake.asked.count(f"{ISSUER}/.well-known/openid-configuration") == 1

    asyncio.run(story())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda fake: fake.metadata.update(issuer="https://evil.example"),
        lambda fake: fake.metadata.update(token_endpoint="http://id.example.com/token"),
        lambda fake: fake.metadata.pop("jwks_uri"),
        lambda fake: setattr(fake, "body", b"[" + b"1," * oidc_provider.MOST_BYTES),
        lambda fake: setattr(fake, "body", b"no JSON"),
        lambda fake: setattr(fake, "body", b"[]"),
    ],
)
def test_a_provider_that_answers_oddly_is_unavailable_and_left_alone_for_a_while(
    spoil: Callable[[Provider], Any],
) -> None:
    fake = Provider()
    spoil(fake)
    provider = OidcProvider(rules(), "s", cast(GuardedClient, fake))

    async def begin() -> str:
        return await provider.authorization_url("https://r.example/cb", "st", "n", "v")

    async def twice() -> None:
        for _ in range(2):
            with pytest.raises(Unavailable) as refusal:
                await begin()
            assert refusal.value.code == "sign_on_unavailable"

    asyncio.run(twice())
    assert len(fake.asked) == 1


def test_the_person_is_sent_with_a_challenge_and_keeps_the_providers_own_query() -> None:
    provider = OidcProvider(rules(), "s", cast(GuardedClient, Provider()))
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, appendix B
    url = asyncio.run(provider.authorization_url("https://r.example/cb", "st", "n", verifier))
    assert url.startswith(f"{ISSUER}/authorize?tenant=1&")
    assert "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&" in url
    assert "state=st&nonce=n&" in url


@pytest.mark.parametrize(
    "bad",
    [
        {"issuer": "http://id.example.com"},
        {"issuer": "id.example.com"},
        {"issuer": f"{ISSUER}?x=1"},
        {"client_id": ""},
        {"claims": "groups"},
        {"role": "king"},
        {"create": True},
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_name(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        rules(**bad)
    assert str(refusal.value.field).startswith("RUNYARD_OIDC_")


def test_rules_compare_whole_domains_and_any_value_of_a_claim() -> None:
    some = rules(
        domains="@Example.com, shop.example", claims="groups=a,groups=b,hd=x", create=True, role="member"
    )
    assert some.role is Role.MEMBER
    assert some.identity(claims(groups=["b"], hd="x")).email == "ada@example.com"
    for changes in ({"groups": ["c"], "hd": "x"}, {"groups": ["a"]}, {"groups": ["a"], "hd": 7}):
        with pytest.raises(RunyardError) as refusal:
            some.identity(claims(**changes))
        assert refusal.value.code == "claim_not_allowed"
    with pytest.raises(RunyardError) as refusal:
        some.identity(claims(email="ada@notexample.com", groups=["a"], hd="x"))
    assert refusal.value.code == "domain_not_allowed"
