"""Networks: the part of a caller's address that failures are counted for, and the proxies that are trusted. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

#: The network of a caller whose address is missing or unreadable.
UNKNOWN: Final = "unknown"
#: Bits of an IPv6 address that one site has at least (RFC 4291, section 2.5.4): it may choose the others freely.
_SITE_BITS: Final = 64
#: The least bits of a network of proxies: 10.0.0.0/8, and what a provider gives a customer at most.
_WIDEST: Final = {4: 8, 6: 16}


def network_of(host: str) -> str:
    """The network of an address: an IPv4 address itself, the /64 of an IPv6 address, else `UNKNOWN`.

    An IPv4 address inside an IPv6 one (::ffff:192.0.2.1, as a socket that listens on both shows it) counts as IPv4.
    """
    address = _address(host)
    if address is None:
        return UNKNOWN
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network(f"{address.compressed.partition('%')[0]}/{_SITE_BITS}", strict=False))


def shown(host: str) -> str | None:
    """An address as records show it, without its zone; None when it is missing or unreadable."""
    address = _address(host)
    return None if address is None else address.compressed.partition("%")[0]


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def trusted_proxies(value: str) -> list[str]:
    """Comma-separated addresses and networks of proxies, each IPv4 one also in its IPv6 spelling.

    Raises `ValueError` for a name, a network with host bits set, or one that takes in every address: then each
    caller could choose its own.
    """
    found: list[str] = []
    for part in filter(None, (part.strip() for part in value.split(","))):
        try:
            network = ipaddress.ip_network(part)
        except ValueError:
            raise ValueError(
                f"{part!r} is no address or network of a proxy, such as 10.0.0.5 or 10.0.0.0/8"
            ) from None
        if network.prefixlen < _WIDEST[network.version]:
            raise ValueError(f"{part} takes in so many addresses that callers could choose their own")
        found.append(str(network))
        if network.version == 4:
            found.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return found
