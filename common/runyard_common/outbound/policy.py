"""What the operator allows outbound calls to reach beyond the public internet."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from runyard_common.outbound.addresses import (
    OPENABLE,
    Address,
    Kind,
    Network,
    embedded_ipv4,
    is_hostname,
    is_numeric,
    kind_of,
    literal,
)
from runyard_common.outbound.own_servers import OwnServers
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError

SETTING = "RUNYARD_ALLOWED_HOSTS"


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """The exceptions to the guard. The default has none: public addresses only.

    `allow_private` opens loopback and private networks to every call. `allow_hosts` holds names
    (``hooks.corp``, ``*.corp`` for every name below it) whose private addresses may be reached; an entry with
    a port (``hooks.corp:5984``) opens that port and no other. `allow_networks` holds the
    networks that may be reached under any name. Metadata services, multicast and the like open only where
    their exact address is listed. `own` are the installation's own servers, which nothing opens.
    """

    allow_private: bool = False
    allow_hosts: tuple[str, ...] = ()
    allow_networks: tuple[Network, ...] = ()
    own: OwnServers | None = field(default=None, compare=False)

    @classmethod
    def of(cls, settings: Settings) -> OutboundPolicy:
        """The policy of an installation. `ConfigurationError` names a bad entry of its allowed hosts."""
        return cls.parse(settings.allow_private_urls, settings.allowed_hosts, OwnServers(settings))

    @classmethod
    def parse(
        cls, allow_private: bool = False, allowed_hosts: str = "", own: OwnServers | None = None
    ) -> OutboundPolicy:
        """From the settings; `allowed_hosts` is comma-separated. `ConfigurationError` names a bad entry."""
        hosts: list[str] = []
        networks: list[Network] = []
        for entry in filter(None, (part.strip().lower() for part in allowed_hosts.split(","))):
            if network := _network(entry):
                networks.append(network)
            elif _is_host_entry(entry):
                hosts.append(entry)
            else:
                raise ConfigurationError(
                    f"{SETTING}: {entry!r} is neither a host (hooks.corp, *.corp, hooks.corp:8443) "
                    "nor an address or network (10.1.0.0/16, without bits set after its prefix).",
                    field=SETTING,
                )
        return cls(allow_private, tuple(hosts), tuple(networks), own)

    def lists(self, host: str, port: int) -> bool:
        """Whether the operator listed `host`, for every port or for this one."""
        return any(_matches(entry, host, port) for entry in self.allow_hosts)

    def lists_port(self, host: str, port: int) -> bool:
        """Whether the operator listed exactly this port of `host`."""
        return any(":" in entry and _matches(entry, host, port) for entry in self.allow_hosts)

    def lists_address(self, host: str) -> bool:
        """Whether `host` is an address that the operator listed, by itself or with its network."""
        address = literal(host)
        return address is not None and any(
            network.version == address.version and address in network for network in self.allow_networks
        )

    def owns_file(self, path: Path) -> bool:
        """Whether a file is the installation's own database."""
        return self.own is not None and self.own.is_file(path)

    def refuses(self, address: Address, host: str, port: int) -> Kind | None:
        """Why `address`, to which `host` resolves, may not be called; None when it may be."""
        kind = kind_of(address)
        if kind is None:
            return None
        if kind in OPENABLE and (self.allow_private or self.lists(host, port)):
            return None
        return None if self._lists_address(address, kind) else kind

    def _lists_address(self, address: Address, kind: Kind) -> bool:
        networks = [n for n in self.allow_networks if n.version == address.version and address in n]
        if kind is Kind.EMBEDDED_IPV4:  # the tunnel may be listed; what it leads to is judged by itself
            inner = embedded_ipv4(address)
            return bool(networks) and inner is not None and self.refuses(inner, "", 0) is None
        return any(kind not in _EXACT_ONLY or network.num_addresses == 1 for network in networks)


#: A wide network on the list must not open these by accident.
_EXACT_ONLY = frozenset({Kind.METADATA, Kind.UNSPECIFIED, Kind.MULTICAST, Kind.BROADCAST})


def _network(entry: str) -> Network | None:
    bare = entry[1:-1] if entry.startswith("[") and entry.endswith("]") else entry
    try:
        return ip_network(bare)
    except ValueError:
        return None


def _is_host_entry(entry: str) -> bool:
    name, colon, port = entry.partition(":")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return False
    name = name.removeprefix("*.")
    return is_hostname(name) and not is_numeric(name)


def _matches(entry: str, host: str, port: int) -> bool:
    name, _, listed_port = entry.partition(":")
    if listed_port and listed_port != str(port):
        return False
    return host.endswith(name[1:]) if name.startswith("*.") else host == name
