"""Reading a URL a caller chose, and refusing the ones no call may be made to."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NoReturn

import httpx2

from runyard_common.outbound.addresses import (
    MEANING,
    Address,
    is_hostname,
    is_internal_name,
    is_numeric,
    is_safe_port,
    literal,
)
from runyard_common.outbound.errors import UrlRefused
from runyard_common.outbound.own_servers import check_own_literal
from runyard_common.outbound.policy import OutboundPolicy

MAX_LENGTH: Final = 2048
SCHEMES: Final = ("http", "https")
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
#: RFC 3986 with a mandatory authority. Backslashes never get here: some parsers read them as slashes.
_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)([/?#].*)?")
_AUTHORITY: Final = re.compile(r"(\[(?P<v6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(:(?P<port>[^:]*))?")
#: What browsers and IDNA libraries read as a dot.
_DOTS: Final = re.compile("[\u3002\uff0e\uff61]")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call goes: the host in lower-case ASCII, IPv6 without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def address(self) -> Address | None:
        """The host, where it is an address rather than a name."""
        return literal(self.host)


def check_url(
    url: str,
    policy: OutboundPolicy | None = None,
    *,
    field: str = "url",
    schemes: Collection[str] = SCHEMES,
    max_length: int = MAX_LENGTH,
) -> None:
    """Refuse at accept time what could never be called: `UrlRefused` with `reason`, `field` and what to do.

    No lookup is made: what a name resolves to is checked at each call (`GuardedTransport`), where it counts.
    """
    target = target_of(url, field=field, schemes=schemes, max_length=max_length)
    check_target(target, policy or OutboundPolicy(), field=field)


def target_of(
    url: str, *, field: str = "url", schemes: Collection[str] = SCHEMES, max_length: int = MAX_LENGTH
) -> Target:
    """Where `url` leads, read strictly: what two parsers might read in two ways is refused."""
    try:
        return _read(url, schemes, max_length)
    except UrlRefused as refusal:
        refusal.field = field
        raise


def check_target(target: Target, policy: OutboundPolicy, *, field: str = "url") -> None:
    """Refuse ports, internal names and addresses; what a name resolves to is checked when it is called."""
    if policy.own is not None:
        check_own_literal(policy.own, target.host, target.port, field)
    if not (is_safe_port(target.port) or policy.lists_port(target.host, target.port)):
        raise UrlRefused(
            f"Port {target.port} is not one web servers use; use 80, 443 or one above 1023 that no other "
            "common service has.",
            reason="port",
            field=field,
        )
    if target.address is not None:
        check_address(target.address, target, policy, field=field)
    elif is_internal_name(target.host) and not (
        policy.allow_private or policy.lists(target.host, target.port)
    ):
        raise UrlRefused(
            f"{target.host} is a name of the local network. Use a public host name, or ask the operator to "
            "list it in RUNYARD_ALLOWED_HOSTS.",
            reason="internal_name",
            field=field,
        )


def check_address(address: Address, target: Target, policy: OutboundPolicy, *, field: str = "url") -> None:
    """Refuse an address that is the target, or that its name resolved to."""
    kind = policy.refuses(address, target.host, target.port)
    if kind is None:
        return
    verb = "is" if target.address is not None else "resolves to"
    raise UrlRefused(
        f"{target.host} {verb} an address of {MEANING[kind]}. Use a public address, or ask the operator to "
        "list the host or its network in RUNYARD_ALLOWED_HOSTS.",
        reason=kind.value,
        field=field,
        address=str(address),
    )


def _read(url: str, schemes: Collection[str], max_length: int) -> Target:
    if len(url) > max_length:
        _refuse("url_too_long", f"A URL has at most {max_length} characters here.")
    if "\\" in url or any(char.isspace() or not char.isprintable() for char in url):
        _refuse("url_invalid", "A URL has no spaces, backslashes or control characters; percent-encode them.")
    if (named := _SCHEME.match(url)) and named[1].lower() not in schemes:
        _refuse("scheme", f"The scheme {named[1]} is refused; use {' or '.join(schemes)}.")
    parts = _URL.fullmatch(url)
    if parts is None:
        _refuse("url_invalid", "This is not an absolute URL; write it as https://host/path.")
    scheme = parts["scheme"].lower()
    target = Target(scheme, *_read_authority(url, parts["authority"], scheme))
    _cross_check(url, target)
    return target


def _read_authority(url: str, authority: str, scheme: str) -> tuple[str, int]:
    if "@" in authority:
        _refuse(
            "userinfo", "A user name or password before the host is refused; send credentials in a header."
        )
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        _refuse(
            "host_invalid",
            "The host is malformed; Write IPv6 addresses in brackets; other hosts have no colon.",
        )
    port = _port(parts["port"], scheme)
    if parts["v6"] is not None:
        return _ipv6(parts["v6"]), port
    if not parts["name"]:
        _refuse("host_empty", "The URL names no host.")
    return _host(url, parts["name"]), port


def _ipv6(text: str) -> str:
    address = literal(text)
    if address is None or address.version != 6:
        _refuse("host_invalid", "The brackets hold no IPv6 address; zone identifiers (%) are refused.")
    return str(address)


def _host(url: str, written: str) -> str:
    host = (written if written.isascii() else _idna(url, written)).lower()
    if literal(host) is not None:
        return host
    if is_numeric(host):
        _refuse("ip_spelling", "Write an IPv4 address as four decimal numbers without leading zeros.")
    if host.endswith("."):
        _refuse("host_trailing_dot", "Write the host without a dot at its end.")
    if not is_hostname(host):
        _refuse("host_invalid", "The host has characters or lengths that host names do not have.")
    return host


def _idna(url: str, host: str) -> str:
    """An international name in its ASCII form; look-alikes of ASCII characters are refused, not folded."""
    if _DOTS.search(host):
        _refuse("host_unicode", "The host has look-alikes of dots. Write it in ASCII.")
    try:  # IDNA 2008 has no place for full-width, circled and other look-alikes of ASCII
        return httpx2.URL(url).raw_host.decode("ascii")
    except httpx2.InvalidURL:
        _refuse(
            "host_unicode", "The host is not a valid international name; write it in ASCII (punycode, xn--)."
        )


def _port(text: str | None, scheme: str) -> int:
    if text is None:
        return DEFAULT_PORTS.get(scheme, 0)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        _refuse("port_invalid", "A port is a number from 1 to 65535.")
    return int(text)


def _cross_check(url: str, target: Target) -> None:
    """The HTTP client reads the URL again when it calls it; it must find the same place."""
    try:
        seen = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        _refuse("url_invalid", f"This URL cannot be read: {error}.")
    host = str(literal(seen.host) or seen.raw_host.decode("ascii"))
    port = seen.port or DEFAULT_PORTS.get(seen.scheme, 0)
    if Target(seen.scheme, host, port) != target:
        _refuse("url_invalid", "This URL can be read in two ways; write it plainly.")


def _refuse(reason: str, message: str) -> NoReturn:
    raise UrlRefused(message, reason=reason)
