"""Where a request comes from: its peer, or what a trusted proxy says of its own peer."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from aiohttp import web

Network = IPv4Network | IPv6Network

LOOPBACK = ("127.0.0.0/8", "::1/128")


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return networks, such as ``10.0.0.0/8``, or single addresses.

    Raises:
        ValueError: what isn't one; the message quotes it.
    """
    return tuple(ip_network(text) for text in texts)


class Addresses:
    """The addresses of clients, as far as some proxies are trusted to tell them."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = parse_networks(trusted_proxies)

    def of(self, request: web.Request) -> str:
        """Return the address of a request's client."""
        forwarded_for = request.headers.getall("X-Forwarded-For", [])
        return client_address(request.remote, forwarded_for, self._trusted)


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]
) -> str:
    """Return the address of a client: the last one that isn't a trusted proxy's.

    Of an IPv6 address it is the /64, because whoever has one has all of those (RFC 6177 §2).
    ``forwarded_for`` has the values of all ``X-Forwarded-For`` fields. Anyone can send them, so
    they are read from the right, and only as far as trusted proxies have written them.
    """
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    address = peer or ""
    while hops and _is_trusted(address, trusted):
        hop = hops.pop()
        try:
            address = str(ip_address(hop))
        except ValueError:
            break
    return _neighbourhood(address)


def _neighbourhood(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False))


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(parsed in network for network in trusted)
