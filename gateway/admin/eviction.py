"""Evictions that an operator asks for: which tokens, and how their facts go.

Walking a million entries takes a second or two: in slices, between which requests are served.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from gateway.tokens import Facts, TokenKey, token_key

By = Literal["token_key", "client_id", "sub", "all"]
Scope = Literal["gateway", "fleet"]
_WAYS = ("token", "token_key", "client_id", "sub", "all")


class InvalidEviction(ValueError):
    """A body that doesn't say what to evict. The message never quotes it."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """What to evict; a token stands by its key, ``all`` has no value."""

    by: By
    value: str = ""
    scope: Scope = "gateway"

    def document(self) -> dict[str, Any]:
        """Return it as ``parse_eviction`` reads it."""
        return {self.by: True if self.by == "all" else self.value, "scope": self.scope}


class Known(Protocol):
    """What the gateway knows of tokens: ``validator.Validator``."""

    def cached_parts(self) -> Iterator[list[TokenKey]]:
        """Yield the tokens of which anything is cached, a thousand at a time."""
        ...

    def peek(self, key: TokenKey) -> Facts | None:
        """Return what is cached of a token."""
        ...

    def evict(self, key: TokenKey) -> bool:
        """Drop all that is known of a token; tell whether anything was."""
        ...

    def evict_all(self) -> int:
        """Drop all that is known, at once; return of how many tokens anything was."""
        ...

    def detach_all(self) -> None:
        """Keep nothing of any lookup under way."""
        ...


def parse_eviction(body: bytes) -> Eviction:
    """Return what a request's body asks for: exactly one way to choose tokens, and a scope.

    A raw token becomes its key here and is nowhere after.

    Raises:
        InvalidEviction: it asks for nothing, or for too much.
    """
    members = _members(body)
    scope = members.pop("scope", "gateway")
    if scope not in ("gateway", "fleet"):
        raise InvalidEviction('scope is "gateway" or "fleet"')
    if len(members) != 1 or not set(members) <= set(_WAYS):
        raise InvalidEviction(f"exactly one is needed of {', '.join(_WAYS)}")
    [(way, value)] = members.items()
    if way == "all":
        if value is not True:
            raise InvalidEviction("all is true")
        return Eviction("all", scope=scope)
    if not isinstance(value, str) or not value:
        raise InvalidEviction(f"{way} is a string that isn't empty")
    if way == "token":
        try:
            return Eviction("token_key", token_key(value).hex(), scope)
        except UnicodeEncodeError:
            raise InvalidEviction("token is not Unicode text") from None
    if way == "token_key" and not re.fullmatch("[0-9a-f]{64}", value):
        raise InvalidEviction("token_key is 64 hexadecimal digits in lower case")
    return Eviction(cast("By", way), value, scope)


def _members(body: bytes) -> dict[str, Any]:
    try:
        members = json.loads(body, object_pairs_hook=_no_duplicates)
    except InvalidEviction:
        raise
    except (ValueError, RecursionError):
        raise InvalidEviction("a JSON object is needed") from None
    if not isinstance(members, dict):
        raise InvalidEviction("a JSON object is needed")
    return members


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidEviction("a member stands twice")
    return members


class Evictor:
    """Takes facts away from the gateway, whose next request for them asks the store."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._one_at_a_time = asyncio.Lock()

    async def evict(self, eviction: Eviction) -> int:
        """Drop what is known of the tokens chosen; return of how many anything was.

        A lookup under way keeps nothing either: it may have begun before the operator's reason.
        """
        if eviction.by == "token_key":
            return int(self._known.evict(TokenKey(bytes.fromhex(eviction.value))))
        if eviction.by == "all":
            return self._known.evict_all()
        async with self._one_at_a_time:
            return await self._walk(eviction)

    async def _walk(self, eviction: Eviction) -> int:
        self._known.detach_all()
        evicted = 0
        # To list a million tokens at once would take too long as well. What is put meanwhile may
        # go too: the next request for it asks the store.
        for keys in self._known.cached_parts():
            for key in keys:
                facts = self._known.peek(key)
                if facts is not None and _chosen(facts, eviction):
                    evicted += self._known.evict(key)
            await asyncio.sleep(0)
        return evicted


def _chosen(facts: Facts, eviction: Eviction) -> bool:
    if eviction.by == "client_id":
        return eviction.value == facts.client_id
    # Where the key manager names no subject, users are known by the name that they typed.
    return eviction.value in (facts.sub, facts.username)
