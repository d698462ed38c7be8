"""URLs of brokers and of Redis: which are understood, and how TLS is verified. Pure.

`rediss://` and `amqps://` verify the server's certificate unless the URL has `ssl_cert_reqs=none`. Further
parameters: `ssl_ca_certs` (file of the authority), `ssl_certfile` and `ssl_keyfile` (the client's own), and
`ssl_check_hostname=false`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from runyard_common.values.errors import ConfigurationError

_REDIS: Final = ("redis", "rediss", "unix")
_ALIASES: Final = {"valkey": "redis", "valkeys": "rediss", "redis+socket": "unix", "pyamqp": "amqp"}
_BROKERS: Final = (*_REDIS, "amqp", "amqps", "memory")
_TLS: Final = ("rediss", "amqps")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_VERIFY: Final = ("required", "optional", "none")


@dataclass(frozen=True, slots=True)
class Tls:
    """How a TLS connection is verified. `files` are ssl_ca_certs, ssl_certfile and ssl_keyfile, where given."""

    verify: str
    check_hostname: bool
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A URL without its TLS parameters; `tls` is None where the connection is not encrypted."""

    scheme: str
    url: str
    host: str
    tls: Tls | None


def broker(url: str) -> ServerUrl:
    """RUNYARD_BROKER_URL. Raises `ConfigurationError` for a scheme or parameter that is not understood."""
    return _parse(url, "RUNYARD_BROKER_URL", _BROKERS, "redis://, rediss://, unix://, amqp:// or amqps://")


def redis(url: str, field: str = "RUNYARD_REDIS_URL") -> str:
    """A Redis URL in redis-py's own words, with the certificate verified by default.

    Raises `ConfigurationError` that names `field`.
    """
    parsed = _parse(url, field, _REDIS, "redis://, rediss:// or unix://")
    if parsed.tls is None:
        return parsed.url
    given = {"ssl_cert_reqs": parsed.tls.verify, **parsed.tls.files}
    given["ssl_check_hostname"] = str(parsed.tls.check_hostname).lower()
    return f"{parsed.url}{'&' if '?' in parsed.url else '?'}{urlencode(given)}"


def _parse(url: str, field: str, known: tuple[str, ...], words: str) -> ServerUrl:
    scheme, _, rest = url.partition("://")
    scheme = _ALIASES.get(scheme.lower(), scheme.lower())
    if scheme in ("sentinel", "redis+sentinel", "rediss+sentinel"):
        raise ConfigurationError(
            f"{field}: Sentinel URLs are not understood. Name one address that follows the primary "
            f"(a proxy or a virtual address), as {words}.",
            field=field,
        )
    if scheme not in known:
        raise ConfigurationError(f"{field}: its scheme must be {words}.", field=field)
    parts = urlsplit(f"{scheme}://{rest}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = _tls(query, field) if scheme in _TLS else None
    plain = [(name, value) for name, value in query.items() if not name.startswith("ssl_")]
    if query and len(plain) == len(query):
        return ServerUrl(scheme, f"{scheme}://{rest}", parts.hostname or "", tls)
    return ServerUrl(scheme, _without_query(scheme, rest, plain), _host(parts), tls)


def _without_query(scheme: str, rest: str, plain: list[tuple[str, str]]) -> str:
    bare = rest.partition("?")[0]  # not rebuilt from its parts: "amqp://host//" would lose its virtual host
    return f"{scheme}://{bare}" + (f"?{urlencode(plain)}" if plain else "")


def _host(parts: SplitResult) -> str:
    return parts.hostname or ""


def _tls(query: dict[str, str], field: str) -> Tls:
    verify = query.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if verify not in _VERIFY:
        raise ConfigurationError(f"{field}: ssl_cert_reqs must be {', '.join(_VERIFY)}.", field=field)
    check = query.get("ssl_check_hostname", "true").lower() not in ("false", "0", "no")
    files = {name: query[name] for name in _FILES if query.get(name)}
    return Tls(verify, check and verify != "none", files)
