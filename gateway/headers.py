"""What crosses the proxy in each direction, and what must not.

Pure: no I/O, no asyncio, no aiohttp. Everything works on raw header pairs, so names keep their
spelling, values their bytes, and fields their order.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from gateway.bearer import scheme
from gateway.fields import Fields
from gateway.identity import identity_headers
from gateway.request_head import (
    ACTED_UPON,
    HOP_BY_HOP,
    RawHeaders,
    RequestHead,
    connection_options,
)
from gateway.settings import Proxy
from gateway.tokens import Facts

# What Connection can't nominate away: without these the receiver would judge another message
# than the gateway did (Traefik's CVE-2024-45410).
_NOT_NOMINABLE = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-length",
        b"content-type",
        b"cookie",
        b"date",
        b"host",
        b"set-cookie",
        b"via",
        b"www-authenticate",
    }
)
# Other ways to say "the client is at", which backends may believe.
_FORWARDING = frozenset(
    {
        b"cf-connecting-ip",
        b"client-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"forwarded-for",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-envoy-external-address",
        b"x-forwarded",
        b"x-original-forwarded-for",
        b"x-original-host",
        b"x-originating-ip",
        b"x-real-ip",
        b"x-remote-addr",
        b"x-remote-ip",
    }
)
_FORWARDING_PREFIX = b"x-forwarded-"
# By these a backend may act on another path or method than the one judged; Proxy becomes a CGI's
# HTTP_PROXY (CVE-2016-5385).
_OVERRIDES = frozenset(
    {
        b"proxy",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-uri",
        b"x-original-url",
        b"x-rewrite-url",
    }
)


@dataclass(frozen=True, slots=True)
class HeaderPolicy:
    """The settings that decide what crosses."""

    trusted_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    identity_prefix: bytes = b"X-Token-"
    forward_authorization: bool = False
    preserve_host: bool = True
    via: bytes = b"gateway"

    @classmethod
    def from_settings(cls, proxy: Proxy) -> "HeaderPolicy":
        """Build the policy that settings describe."""
        return cls(
            trusted_networks=tuple(ip_network(network) for network in proxy.trusted_proxies),
            identity_prefix=proxy.identity_prefix.encode(),
            forward_authorization=proxy.forward_authorization,
            preserve_host=proxy.preserve_host,
            via=proxy.via.encode(),
        )

    def trusts(self, peer: str | None) -> bool:
        """Whether forwarding headers from this address are believed."""
        if not self.trusted_networks or peer is None:
            return False
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:  # the peer of a Unix socket has no address
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.trusted_networks)


def upstream_request(
    head: RequestHead,
    *,
    policy: HeaderPolicy,
    peer: str | None,
    scheme_name: str,
    request_id: bytes,
    facts: Facts | None,
) -> Fields:
    """Return the header section for the backend.

    ``peer`` is the client's address, ``scheme_name`` how it came ("http" or "https"), ``facts``
    those of its token, ``None`` on a public route. There is no Host where the upstream's own is
    to be used.
    """
    fields = crossing_request(
        head, policy=policy, peer=peer, scheme_name=scheme_name, public=facts is None
    )
    fields.append((b"X-Request-ID", request_id))
    if facts is not None:
        fields += identity_headers(facts, policy.identity_prefix)
    return fields


def crossing_request(
    head: RequestHead,
    *,
    policy: HeaderPolicy,
    peer: str | None,
    scheme_name: str,
    public: bool,
) -> Fields:
    """Return the part of ``upstream_request`` that is the same for each request of a client.

    So long, that is, as its header section is the same but for the token.
    """
    fields: Fields = []
    if policy.preserve_host and head.host is not None:
        fields.append((b"Host", head.host))
    identity = _normal(policy.identity_prefix)
    fields += [
        (name, value)
        for lower, name, value in head.fields
        if _crosses(lower, identity)
        and (lower not in head.nominated or lower in _NOT_NOMINABLE)
        and (
            lower != b"authorization"
            or policy.forward_authorization
            or (public and scheme(value) != b"bearer")
        )
    ]
    fields += _forwarding(head, policy.trusts(peer), peer, scheme_name)
    fields.append((b"Via", b"1.1 " + policy.via))
    return fields


_NORMAL = bytes(code if chr(code).isalnum() else ord("-") for code in bytes(range(128)).lower())
_NORMAL += bytes(range(128, 256))


def _normal(name: bytes) -> bytes:
    # To CGI, WSGI and their heirs "-" and "_" in names are the same, to some all but letters and
    # digits (RFC 3875 §4.1.18).
    return name.translate(_NORMAL)


def _crosses(lower: bytes, identity: bytes) -> bool:
    normal = _normal(lower)
    return not (
        normal.startswith(identity)
        or normal in _OVERRIDES
        or _is_forwarding(normal)
        or (normal != lower and normal in ACTED_UPON)
    )


def _is_forwarding(normal: bytes) -> bool:
    return normal.startswith(_FORWARDING_PREFIX) or normal in _FORWARDING


def _forwarding(head: RequestHead, trusted: bool, peer: str | None, scheme_name: str) -> Fields:
    """Return the fields that tell where the request came from: a trusted peer's, and our own."""
    given = [field for field in head.fields if trusted and _is_forwarding(field[0])]
    names = {lower for lower, _, _ in given}
    hops = [value for lower, _, value in given if lower == b"x-forwarded-for" and value]
    if peer is not None:
        hops.append(peer.encode())
    fields = [(name, value) for lower, name, value in given if lower != b"x-forwarded-for"]
    if hops:
        fields.append((b"X-Forwarded-For", b", ".join(hops)))
    if b"x-forwarded-proto" not in names:
        fields.append((b"X-Forwarded-Proto", scheme_name.encode()))
    if b"x-forwarded-host" not in names and head.host:
        fields.append((b"X-Forwarded-Host", head.host))
    return fields


_UPGRADE_REQUIRED = 426
_REPLACED = frozenset({b"content-length", b"x-request-id"})


def client_response(
    headers: RawHeaders, *, request_id: bytes, date: bytes, status: int = 200
) -> Fields:
    """Return the header section for the client, without what frames the message.

    ``date`` is added where the backend sent none (RFC 9110 §6.6.1).
    """
    fields, dated = crossing_response(headers, status)
    if not dated:
        fields.append((b"Date", date))
    fields.append((b"X-Request-ID", request_id))
    return fields


def crossing_response(headers: RawHeaders, status: int = 200) -> tuple[Fields, bool]:
    """Return the backend's fields that cross to the client, and whether ``Date`` is among them.

    A 426 says which protocol it asks for: without its ``Upgrade`` it would be none (RFC 9110
    §15.5.22), and ``Connection`` names that on each connection anew (§7.8).
    """
    lowered = [(name.lower(), name, value) for name, value in headers]
    nominated = connection_options([value for lower, _, value in lowered if lower == b"connection"])
    dropped = HOP_BY_HOP | _REPLACED
    if nominated:
        dropped |= nominated - _NOT_NOMINABLE
    if status == _UPGRADE_REQUIRED:
        dropped -= {b"upgrade"}
    fields = [(name, value) for lower, name, value in lowered if lower not in dropped]
    if status == _UPGRADE_REQUIRED and any(lower == b"upgrade" for lower, _, _ in lowered):
        fields.append((b"Connection", b"Upgrade"))
    return fields, any(lower == b"date" for lower, _, _ in lowered)
