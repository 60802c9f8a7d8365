"""Which network addresses a crawl may connect to: public ones, unless the user names the host or its network."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Private, loopback, link-local, shared (CGNAT), multicast, reserved and documentation ranges do not (IANA
    special-purpose registries), and neither does an IPv6 address that leads to such an IPv4 one: mapped, NAT64
    (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380).
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = _embedded(ip)
        if inner is not None:
            return all(is_public(str(v4)) for v4 in inner)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _embedded(ip: IPv6Address) -> tuple[IPv4Address, ...] | None:
    if ip.ipv4_mapped is not None:
        return (ip.ipv4_mapped,)
    if ip in _NAT64:
        return (IPv4Address(int(ip) & 0xFFFFFFFF),)
    if ip.sixtofour is not None:
        return (ip.sixtofour,)
    return ip.teredo


class TrustedHosts:
    """The hosts that a user names as his own: names, addresses, or networks such as 10.0.0.0/8."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for host in hosts:
            network = _network(host)
            if network is None:
                self._names.add(plain(host))
            else:
                self._networks.append(network)

    def names(self, host: str) -> bool:
        """Whether a host, as it stands in a URL, is one of them."""
        host = plain(host)
        return host in self._names or self.holds(host)

    def holds(self, address: str) -> bool:
        """Whether an address lies in one of the networks."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(ip.version == network.version and ip in network for network in self._networks)


def plain(host: str) -> str:
    """A host's name in the one form that is compared: lower case, no brackets, no dot at the end."""
    return host.lower().rstrip(".").strip("[]")


def _network(host: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(plain(host), strict=False)
    except ValueError:
        return None
