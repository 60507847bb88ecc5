"""Requests to the OAuth endpoints and their answers, as far as the gateway reads them.

Pure: no I/O, no asyncio, no aiohttp. The messages are forwarded byte for byte, and believed only
once the key manager has accepted them. A parameter that is there with two values says nothing here:
a client must not be able to show the gateway another user, client or scope than the key manager.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from gateway.fields import Fields
from gateway.request_head import RawHeaders
from gateway.tokens import TokenKey, token_key

Parameters = Mapping[str, Sequence[str]]
"""The values of each parameter, in order, as often as it is there."""

# WSO2's key manager names in its answers what they took away, and from whom.
ACCESS_TOKEN_FIELDS = frozenset({b"revokedaccesstoken", b"deactivatedaccesstoken"})
REFRESH_TOKEN_FIELDS = frozenset({b"revokedrefreshtoken", b"deactivatedrefreshtoken"})
WITHHELD_FIELDS = ACCESS_TOKEN_FIELDS | REFRESH_TOKEN_FIELDS | {b"authorizeduser"}
"""Fields of an answer that aren't for the client, in lower case."""


def one(parameters: Parameters, name: str) -> str | None:
    """Return the value of a parameter, ``None`` where there are none or different ones."""
    values = set(parameters.get(name, ()))
    return values.pop() if len(values) == 1 else None


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """A whole answer of the key manager."""

    status: int
    reason: str
    headers: RawHeaders
    content: bytes

    def values(self, names: Container[bytes]) -> list[bytes]:
        """Return the members of the lists in some fields, whose names are in lower case."""
        return [
            member.strip()
            for name, value in self.headers
            if name.lower() in names
            for member in value.split(b",")
            if member.strip()
        ]

    def named_tokens(self, names: Container[bytes]) -> list[TokenKey]:
        """Return the tokens that some fields name."""
        return [token_key(token) for token in self.values(names)]


def missing_no_store(answer: Answer) -> Fields:
    """Return what a token response lacks that a cache must be told (RFC 6749 §5.1)."""
    return [
        (name, directive)
        for name, directive in ((b"Cache-Control", b"no-store"), (b"Pragma", b"no-cache"))
        if directive not in {value.lower() for value in answer.values({name.lower()})}
    ]
