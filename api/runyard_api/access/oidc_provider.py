"""The provider of single sign-on (OpenID Connect): discovery, authorization code with PKCE, verified ID tokens.

Every call goes through the outbound guard, bounded in bytes and time: a provider on a private address must be named
in RUNYARD_ALLOWED_HOSTS.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import jwt
import orjson
import structlog

from runyard_common.identity.rules.jwt_members import check_members
from runyard_common.identity.rules.single_sign_on import Identity, SignOnRules, failed
from runyard_common.outbound.client import GuardedClient, Timeouts
from runyard_common.outbound.errors import OutboundError
from runyard_common.outbound.policy import OutboundPolicy
from runyard_common.settings import Settings
from runyard_common.values.errors import Unavailable

log = structlog.get_logger("runyard.oidc")

#: How long discovery and keys are taken for current, and the shortest pause between fetches of keys, in seconds.
FRESH: Final = 3600.0
PAUSE: Final = 10.0
#: Bytes of one answer of the provider.
MOST_BYTES: Final = 512 * 1024
LEEWAY: Final = 60
#: Signatures by a published key alone: one by the client's secret would let its holder sign in as any person.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_TIMEOUTS: Final = Timeouts(connect=5.0, read=5.0, total=8.0)


@dataclass(slots=True)
class OidcProvider:
    """One provider, by the operator's settings; on one event loop."""

    rules: SignOnRules
    secret: str
    client: GuardedClient
    scopes: str = "openid email profile"
    _metadata: dict[str, Any] = field(default_factory=dict)
    _metadata_at: float = -FRESH
    _failed_at: float = -FRESH
    _keys: list[Any] = field(default_factory=list)
    _keys_at: float = -FRESH
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @staticmethod
    def of(settings: Settings) -> OidcProvider | None:
        """The provider of these settings, if any. Raises `ConfigurationError`."""
        rules = settings.sign_on
        if rules is None:
            return None
        client = GuardedClient(OutboundPolicy.of(settings), timeouts=_TIMEOUTS, max_connections=20)
        return OidcProvider(rules, settings.oidc_client_secret, client, settings.oidc_scopes)

    async def authorization_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where the person signs in. Error: `Unavailable` sign_on_unavailable."""
        endpoint = (await self._discovered())["authorization_endpoint"]
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self.rules.client_id,
                "redirect_uri": redirect_uri,
                "scope": self.scopes,
                "state": state,
                "nonce": nonce,
                "code_challenge": _challenge(verifier),
                "code_challenge_method": "S256",
            }
        )
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    async def identity(self, code: str, redirect_uri: str, nonce: str, verifier: str) -> Identity:
        """Who has signed in there. Errors: `Unavailable` sign_on_unavailable, `Forbidden` sign_on_failed and more."""
        token = await self._exchanged(code, redirect_uri, verifier)
        claims = await self._verified(str(token.get("id_token", "")), nonce, token.get("access_token"))
        return self.rules.identity(claims)

    async def close(self) -> None:
        await self.client.aclose()

    async def _discovered(self) -> dict[str, Any]:
        async with self._lock:
            if time.monotonic() - self._metadata_at >= FRESH:
                if time.monotonic() - self._failed_at < PAUSE:
                    raise _unavailable("it did not answer a moment ago")
                self._failed_at = time.monotonic()  # until it has succeeded
                self._metadata = await self._discover()
                self._metadata_at, self._failed_at = time.monotonic(), -FRESH
            return self._metadata

    async def _discover(self) -> dict[str, Any]:
        """The provider's metadata (OpenID Connect Discovery 1.0, section 4)."""
        found = await self._get(f"{self.rules.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.rules.issuer:
            raise _unavailable(f"it calls itself {str(found.get('issuer'))[:200]!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            self._check_endpoint(found.get(name), name)
        return found

    def _check_endpoint(self, url: Any, name: str) -> None:
        safe = "https://" if self.rules.issuer.startswith("https:") else ("https://", "http://")
        if not isinstance(url, str) or not url.startswith(safe):
            raise _unavailable(f"its {name} is missing or no https address")

    async def _exchanged(self, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        """The tokens for a code (RFC 6749, section 4.1.3; the client's secret as section 2.3.1 has it)."""
        metadata = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self.rules.client_id,
            "code_verifier": verifier,
        }
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if self.secret and "client_secret_basic" in methods:
            pair = f"{quote_plus(self.rules.client_id)}:{quote_plus(self.secret)}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        elif self.secret:
            form["client_secret"] = self.secret
        answer = await self._call("POST", metadata["token_endpoint"], headers, urlencode(form).encode())
        if answer.get("error"):
            log.warning(
                "The provider refused a code.", action="sign_in", reason=str(answer["error"])[:200],
                detail=str(answer.get("error_description"))[:200],
            )  # fmt: skip
            raise failed()
        return answer

    async def _verified(self, token: str, nonce: str, access_token: Any) -> dict[str, Any]:
        """The claims of an ID token (OpenID Connect Core 1.0, section 3.1.3.7)."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise jwt.InvalidAlgorithmError("its algorithm is not accepted")
            key = await self._key(header)
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=[header["alg"]], audience=self.rules.client_id, issuer=self.rules.issuer,
                leeway=LEEWAY, options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )  # fmt: skip
            check_members(token)
            _check_claims(claims, header["alg"], nonce, self.rules.client_id, access_token)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            log.warning("An ID token does not count.", action="sign_in", reason=str(error)[:200])
            raise failed() from None
        return claims

    async def _key(self, header: dict[str, Any]) -> Any:
        """The published key that an ID token's header names; the keys are read again for one that is unknown."""
        age = time.monotonic() - self._keys_at
        known = self._known(header) if age < FRESH else None
        if known is None and age >= PAUSE:
            document = await self._get((await self._discovered())["jwks_uri"])
            self._keys = [
                jwt.PyJWK.from_dict(entry) for entry in document.get("keys", []) if _is_for_us(entry)
            ]
            self._keys_at = time.monotonic()
            known = self._known(header)
        if known is None:
            raise jwt.InvalidKeyError("no published key has its key id")
        return known

    def _known(self, header: dict[str, Any]) -> Any:
        key_id = header.get("kid")
        if key_id is None:
            return self._keys[0].key if len(self._keys) == 1 else None
        return next((each.key for each in self._keys if each.key_id == key_id), None)

    async def _get(self, url: str) -> dict[str, Any]:
        return await self._call("GET", url, {"accept": "application/json"}, b"")

    async def _call(self, method: str, url: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        try:
            answer = await self.client.send(method, url, headers=headers, content=body, keep=MOST_BYTES)
            if answer.truncated:
                raise _unavailable(f"its answer has more than {MOST_BYTES:,} bytes, or broke off")
            if answer.status >= 500 or (method == "GET" and answer.status != 200):
                raise _unavailable(f"it answered {answer.status}")
            found = orjson.loads(answer.body)
        except OutboundError as error:
            raise _unavailable(error.message) from None
        except ValueError:
            raise _unavailable("its answer is no JSON") from None
        if not isinstance(found, dict):
            raise _unavailable("its answer is no JSON object")
        return found


def _check_claims(
    claims: dict[str, Any], algorithm: str, nonce: str, client_id: str, access_token: Any
) -> None:
    """What OpenID Connect asks for beyond JWT; `InvalidTokenError` names what is wrong."""
    if not hmac.compare_digest(str(claims.get("nonce")).encode(), nonce.encode()):
        raise jwt.InvalidTokenError("its nonce is that of another sign-on")
    party = claims.get("azp")
    if party != client_id and (party is not None or claims["aud"] not in (client_id, [client_id])):
        raise jwt.InvalidTokenError("it was made for another client too (azp)")
    hashed = claims.get("at_hash")
    if hashed is not None and access_token is not None:
        digest = hashlib.new(f"sha{algorithm[2:]}", str(access_token).encode()).digest()
        if not hmac.compare_digest(str(hashed), _base64url(digest[: len(digest) // 2])):
            raise jwt.InvalidTokenError("its at_hash is that of another access token")


def _challenge(verifier: str) -> str:
    """S256 of RFC 7636, section 4.2."""
    return _base64url(hashlib.sha256(verifier.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _is_for_us(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("use") in (None, "sig") and entry.get("kty") in ("RSA", "EC")


def _unavailable(reason: str) -> Unavailable:
    log.warning("The provider of single sign-on cannot be used.", action="sign_in", reason=reason)
    return Unavailable(
        "The provider of single sign-on cannot be used at the moment; the log has the reason.",
        code="sign_on_unavailable",
        retry_after=PAUSE,
    )
