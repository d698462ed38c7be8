"""URLs of brokers and of Redis: which are understood, and how TLS is verified. Pure.

`rediss://` and `amqps://` verify the server's certificate unless the URL has `ssl_cert_reqs=none`. Further
parameters: `ssl_ca_certs` (file of the authority), `ssl_certfile` and `ssl_keyfile` (the client's own), and
`ssl_check_hostname=false`.

`redis+sentinel://user:password@host:26379,host:26379/0?master_name=name` asks Sentinels where the primary is; the user
and password are the server's, `sentinel_user` and `sentinel_password` the Sentinels' own. `rediss+sentinel://` reaches
both over TLS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from runyard_common.values.errors import ConfigurationError

SENTINEL: Final = ("redis+sentinel", "rediss+sentinel")
#: Schemes of a Redis or Valkey.
REDIS: Final = ("redis", "rediss", "unix", *SENTINEL)
ALIASES: Final = {
    "valkey": "redis", "valkeys": "rediss", "redis+socket": "unix", "pyamqp": "amqp", "sentinel": "redis+sentinel",
    "sentinels": "rediss+sentinel", "valkey+sentinel": "redis+sentinel", "valkeys+sentinel": "rediss+sentinel",
}  # fmt: skip
_BROKERS: Final = (*REDIS, "amqp", "amqps", "memory")
_TLS: Final = ("rediss", "amqps", "rediss+sentinel")
SENTINEL_PORT: Final = 26379
_OF_SENTINELS: Final = ("master_name", "sentinel_user", "sentinel_password")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_VERIFY: Final = ("required", "optional", "none")


@dataclass(frozen=True, slots=True)
class Tls:
    """How a TLS connection is verified. `files` are ssl_ca_certs, ssl_certfile and ssl_keyfile, where given."""

    verify: str
    check_hostname: bool
    files: dict[str, str]

    def options(self) -> dict[str, Any]:
        """The same in redis-py's words."""
        return {"ssl_cert_reqs": self.verify, **self.files, "ssl_check_hostname": self.check_hostname}


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Where the Sentinels are and what they are asked. Users and passwords are decoded, or empty."""

    addresses: tuple[tuple[str, int], ...]
    master_name: str
    user: str
    password: str
    db: int
    sentinel_user: str
    sentinel_password: str
    tls: Tls | None

    def options(self) -> dict[str, Any]:
        """How a server is connected to, in redis-py's words."""
        return {"db": self.db} | self._options(self.user, self.password)

    def sentinel_options(self) -> dict[str, Any]:
        """How a Sentinel is connected to, in redis-py's words."""
        return self._options(self.sentinel_user, self.sentinel_password)

    def _options(self, user: str, password: str) -> dict[str, Any]:
        found: dict[str, Any] = {} if self.tls is None else {"ssl": True, **self.tls.options()}
        return found | ({"username": user} if user else {}) | ({"password": password} if password else {})


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A URL without its TLS parameters; `tls` is None where the connection is not encrypted."""

    scheme: str
    url: str
    host: str
    tls: Tls | None
    sentinels: Sentinels | None = None


def broker(url: str) -> ServerUrl:
    """RUNYARD_BROKER_URL. Raises `ConfigurationError` for a scheme or parameter that is not understood."""
    words = "redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, amqp:// or amqps://"
    return _parse(url, "RUNYARD_BROKER_URL", _BROKERS, words)


def redis(url: str, field: str = "RUNYARD_REDIS_URL") -> str:
    """A Redis URL in redis-py's own words, with the certificate verified by default.

    Raises `ConfigurationError` that names `field`.
    """
    parsed = _redis(url, field)
    if parsed.tls is None:
        return parsed.url
    given = {name: str(value).lower() if value is False or value is True else value
             for name, value in parsed.tls.options().items()}  # fmt: skip
    return f"{parsed.url}{'&' if '?' in parsed.url else '?'}{urlencode(given)}"


def sentinels(url: str, field: str = "RUNYARD_REDIS_URL") -> Sentinels | None:
    """What the Sentinels of a Redis URL are asked; None where it names the server itself."""
    return _redis(url, field).sentinels


def tls_files(url: str, field: str) -> dict[str, str]:
    """The files that a URL names for TLS, by parameter."""
    tls = _parse(url, field, _BROKERS, "").tls if url else None
    return tls.files if tls else {}


def each_host(url: str) -> list[str]:
    """The URL once for each of its hosts: those of Sentinels have several, which no library reads."""
    scheme, found, rest = url.partition("://")
    if ALIASES.get(scheme.lower(), scheme.lower()) not in SENTINEL:
        return [url]
    end = min((place for sign in "/?#" if (place := rest.find(sign)) >= 0), default=len(rest))
    user, at, hosts = rest[:end].rpartition("@")
    return [f"{scheme}{found}{user}{at}{host}{rest[end:]}" for host in hosts.split(",")]


def _redis(url: str, field: str) -> ServerUrl:
    return _parse(url, field, REDIS, "redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://")


def _parse(url: str, field: str, known: tuple[str, ...], words: str) -> ServerUrl:
    scheme, _, rest = url.partition("://")
    scheme = ALIASES.get(scheme.lower(), scheme.lower())
    if scheme not in known:
        raise ConfigurationError(f"{field}: its scheme must be {words}.", field=field)
    parts = urlsplit(f"{scheme}://{rest}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = _tls(query, field) if scheme in _TLS else None
    asked = _sentinels(f"{scheme}://{rest}", query, tls, field) if scheme in SENTINEL else None
    plain = [(name, value) for name, value in query.items() if not name.startswith("ssl_")]
    if query and len(plain) == len(query):
        return ServerUrl(scheme, f"{scheme}://{rest}", parts.hostname or "", tls, asked)
    return ServerUrl(scheme, _without_query(scheme, rest, plain), _host(parts), tls, asked)


def _sentinels(url: str, query: dict[str, str], tls: Tls | None, field: str) -> Sentinels:
    if not query.get("master_name"):
        raise ConfigurationError(
            f"{field}: Sentinels are asked for a primary by its name: add ?master_name=, with the name of their "
            "`sentinel monitor`.",
            field=field,
        )
    unknown = [name for name in query if name not in _OF_SENTINELS and not name.startswith("ssl_")]
    if unknown:
        raise ConfigurationError(
            f"{field}: {unknown[0]} is no parameter of a Sentinel URL. Known: {', '.join(_OF_SENTINELS)} and those of "
            "TLS.",
            field=field,
        )
    hosts = [urlsplit(one) for one in each_host(url)]
    db = hosts[0].path.strip("/") or "0"
    if not db.isdecimal() or not all(host.hostname for host in hosts):
        raise ConfigurationError(
            f"{field}: write redis+sentinel://user:password@host:26379,host:26379/0?master_name=name, where 0 is the "
            "number of the database.",
            field=field,
        )
    return Sentinels(
        tuple((host.hostname or "", host.port or SENTINEL_PORT) for host in hosts), query["master_name"],
        unquote(hosts[0].username or ""), unquote(hosts[0].password or ""), int(db),
        query.get("sentinel_user", ""), query.get("sentinel_password", ""), tls,
    )  # fmt: skip


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
