"""Which addresses, ports and host names an outbound call may never name. Pure: no socket, no lookup.

The ranges are IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates), the transition
mechanisms that carry an IPv4 address inside an IPv6 one, and the metadata services of the large clouds.
"""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Kind(StrEnum):
    """What a refused address is; the value is the stable `reason` of the refusal."""

    LOOPBACK = "loopback"  # this machine
    PRIVATE = "private"  # RFC 1918 networks
    SHARED = "shared"  # carrier-grade NAT, RFC 6598
    UNIQUE_LOCAL = "unique_local"  # private IPv6, RFC 4193
    LINK_LOCAL = "link_local"  # the same cable; several clouds serve credentials here
    METADATA = "metadata"  # a cloud's instance metadata service
    UNSPECIFIED = "unspecified"  # "this host", which many systems connect to loopback
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    EMBEDDED_IPV4 = (
        "embedded_ipv4"  # an IPv6 spelling of an IPv4 address: mapped, NAT64, 6to4, Teredo, ISATAP
    )
    DOCUMENTATION = "documentation"
    RESERVED = "reserved"


#: What `allow_private` or a name on the allow-list opens. The rest opens only where its network is listed.
OPENABLE: Final = frozenset({Kind.LOOPBACK, Kind.PRIVATE, Kind.SHARED, Kind.UNIQUE_LOCAL})

MEANING: Final[dict[Kind, str]] = {
    Kind.LOOPBACK: "this machine itself (loopback)",
    Kind.PRIVATE: "a private network",
    Kind.SHARED: "a carrier's shared network (100.64.0.0/10)",
    Kind.UNIQUE_LOCAL: "a private IPv6 network",
    Kind.LINK_LOCAL: "the local link",
    Kind.METADATA: "a cloud metadata service",
    Kind.UNSPECIFIED: "no particular host",
    Kind.MULTICAST: "a multicast group",
    Kind.BROADCAST: "every host of a network (broadcast)",
    Kind.EMBEDDED_IPV4: "an IPv4 address hidden in an IPv6 one",
    Kind.DOCUMENTATION: "a network kept for documentation",
    Kind.RESERVED: "a reserved network",
}


def _table(entries: dict[Kind, str]) -> tuple[tuple[Network, Kind], ...]:
    return tuple((ip_network(text), kind) for kind, texts in entries.items() for text in texts.split())


#: First match wins, so single metadata addresses come before the ranges they lie in.
_RANGES: Final = _table(
    {
        Kind.METADATA: "169.254.169.254 169.254.170.2 169.254.170.23 100.100.100.200 168.63.129.16 "
        "192.0.0.192 fd00:ec2::254 fd00:ec2::23 fd20:ce::254",
        Kind.UNSPECIFIED: "0.0.0.0/8 ::",
        Kind.LOOPBACK: "127.0.0.0/8 ::1",
        Kind.PRIVATE: "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16",
        Kind.SHARED: "100.64.0.0/10",
        Kind.LINK_LOCAL: "169.254.0.0/16 fe80::/10",
        Kind.BROADCAST: "255.255.255.255",
        Kind.MULTICAST: "224.0.0.0/4 ff00::/8",
        Kind.DOCUMENTATION: "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
        Kind.UNIQUE_LOCAL: "fc00::/7",
        # compatible, mapped, translated (RFC 4291, 2765), NAT64 (RFC 6052, 8215), Teredo, 6to4
        Kind.EMBEDDED_IPV4: "::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 "
        "2001::/32 2002::/16",
        Kind.RESERVED: "192.0.0.0/24 192.88.99.0/24 198.18.0.0/15 240.0.0.0/4 "
        "100::/64 2001::/23 5f00::/16 fec0::/10",
    }
)
_GLOBAL_UNICAST_V6: Final = IPv6Network("2000::/3")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")  # each site lays out the IPv4 bits as it likes, RFC 8215
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})  # the upper half of its interface identifiers, RFC 5214

#: Ports below 1024 that web servers use. All others there belong to services that must not be sent to.
_LOW_PORTS: Final = frozenset({80, 443})
#: Ports above 1023 where something else than a web server listens: the fetch standard's bad ports, databases,
#: brokers, caches, control planes.
_OTHER_SERVICES: Final = frozenset({
    1080, 1433, 1434, 1521, 1719, 1720, 1723, 1883, 2049, 2181, 2375, 2376, 2377, 2379, 2380, 3128,
    3268, 3269, 3306, 3389, 3659, 4045, 4190, 4369, 5060, 5061, 5432, 5671, 5672, 5900, 5901, 5984,
    5985, 5986, 6000, 6379, 6380, 6432, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 7000,
    7001, 8086, 8500, 8600, 9042, 9092, 9093, 9160, 9200, 9300, 10080, 10250, 10255, 11211, 15672,
    26379, 27017, 27018, 27019,
})  # fmt: skip

#: Names that mean a machine of the server's own network, or none at all (RFC 6761, 6762, 7686, 8375, 9476).
_INTERNAL_SUFFIXES: Final = (
    "localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan", "arpa",
    "onion", "alt", "invalid",
)  # fmt: skip
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def kind_of(address: Address) -> Kind | None:
    """What makes `address` unfit to be called, or None for an ordinary public address."""
    for network, kind in _RANGES:
        if address.version == network.version and address in network:
            return kind
    if isinstance(address, IPv6Address):
        if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            return Kind.EMBEDDED_IPV4
        if address not in _GLOBAL_UNICAST_V6:
            return Kind.RESERVED
    return None if address.is_global else Kind.RESERVED  # a registry newer than the table above


def embedded_ipv4(address: Address) -> IPv4Address | None:
    """The IPv4 address a transition mechanism would deliver to; None where the form does not show it."""
    if isinstance(address, IPv4Address) or address in _LOCAL_NAT64:
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return IPv4Address(int(address) & 0xFFFFFFFF)


def is_safe_port(port: int) -> bool:
    """Whether a web server may be expected at `port`: 80, 443, and 1024 upwards less known other services."""
    if port < 1024:
        return port in _LOW_PORTS
    return port <= 65535 and port not in _OTHER_SERVICES


def literal(host: str) -> Address | None:
    """`host` as an address, if it is one in its usual spelling (no zone, no leading zeros); else None."""
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def is_numeric(host: str) -> bool:
    """Whether a resolver might read `host` as an IPv4 number: its last label is decimal, octal or hex.

    The rule is the WHATWG URL standard's ("ends in a number"): 2130706433, 0x7f.1, 017700000001, 127.1.
    """
    return _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None


def is_hostname(host: str) -> bool:
    """Whether `host` is a lower-case ASCII name: dot-separated labels of letters, digits, ``-`` and ``_``."""
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split("."))


def is_internal_name(host: str) -> bool:
    """Whether `host` names a machine of the own network: one label, or a suffix kept for local use."""
    return "." not in host or any(host.endswith("." + suffix) for suffix in _INTERNAL_SUFFIXES)
