"""What the cache keeps of a token: its facts and when they were learned, and both as bytes.

As bytes an entry takes half the memory that its objects would, and the garbage collector, which
walks through every container that there is, never meets it.
"""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct

from gateway.tokens import MOST_REMEMBERED, Facts, split_scope

GRANTS_AT_HAND = 4096


@dataclass(slots=True)
class Entry:
    """Facts and when they were learned, on the monotonic clock.

    ``validated`` is when the lookup began: the store may have answered at any instant since,
    so counting from the beginning never overstates how fresh the facts are. ``expires`` is
    the token's own end (``exp``, or that of its key in the store), infinity where it has none.
    ``number`` tells two entries of a cache apart: it counts what was put before.

    ``ends_at`` is the same end by the wall clock as it stood then, and ``begins_at`` the
    token's ``nbf``: epoch seconds, infinite where there is none. Should that clock be set, both
    clocks have to agree that the token is good.
    """

    facts: Facts
    validated: float
    expires: float
    number: int = 0
    begins_at: float = -math.inf
    ends_at: float = math.inf


_TIMES = Struct("<ddQ")
"""How a packed entry begins: ``validated``, ``expires``, ``number``."""
_FIXED = Struct("<ddQdddII")
"""The same, ``nbf``, ``ends_at``, ``exp`` (each infinite where there is none) and where ``sub`` and
``username`` begin. Before them stands the grant: what a client's tokens mostly have in common."""

_FIXED_SIZE = _FIXED.size
_NO_EXP = math.inf
_NO_NBF = -math.inf

_read_fixed = _FIXED.unpack_from


def pack(
    facts: Facts,
    validated: float,
    expires: float,
    number: int = 0,
    *,
    ends_at: float = math.inf,
) -> bytes:
    """Return an entry as bytes, from which ``unpack`` makes it; it begins at its ``nbf``."""
    active, client_id, sub, scopes, exp, nbf, username = facts
    is_long = sum(map(len, scopes)) > MOST_REMEMBERED
    pack_grant = _pack_grant.__wrapped__ if is_long else _pack_grant
    grant = pack_grant(active, client_id, scopes, sub is not None, username is not None)
    about_user = b"" if sub is None else sub.encode()
    sub_at = _FIXED_SIZE + len(grant)
    fixed = _FIXED.pack(
        validated,
        expires,
        number,
        _NO_NBF if nbf is None else nbf,
        ends_at,
        _NO_EXP if exp is None else exp,
        sub_at,
        sub_at + len(about_user),
    )
    if username is not None:
        about_user += username.encode()
    return fixed + grant + about_user


def unpack(packed: bytes) -> Entry:
    """Return the entry that was packed."""
    validated, expires, number, begins_at, ends_at, exp, sub_at, username_at = _read_fixed(packed)
    unpack_grant = _unpack_grant if sub_at <= MOST_REMEMBERED else _unpack_grant.__wrapped__
    active, client_id, scopes, has_sub, has_username = unpack_grant(packed[_FIXED_SIZE:sub_at])
    sub = packed[sub_at:username_at].decode() if has_sub else None
    username = packed[username_at:].decode() if has_username else None
    # A named tuple's own way takes twice as long.
    facts: Facts = tuple.__new__(
        Facts,
        (
            active,
            client_id,
            sub,
            scopes,
            exp if exp < _NO_EXP else None,
            begins_at if begins_at > _NO_NBF else None,
            username,
        ),
    )
    return Entry(facts, validated, expires, number, begins_at, ends_at)


def times(packed: bytes) -> tuple[float, float, int]:
    """Return ``validated``, ``expires`` and ``number`` of an entry that was packed."""
    return _TIMES.unpack_from(packed)


@lru_cache(maxsize=GRANTS_AT_HAND)
def _pack_grant(
    active: bool,
    client_id: str | None,
    scopes: frozenset[str],
    has_sub: bool,
    has_username: bool,
) -> bytes:
    scope = " ".join(sorted(scopes))
    return json.dumps([active, client_id, scope, has_sub, has_username]).encode()


@lru_cache(maxsize=GRANTS_AT_HAND)
def _unpack_grant(grant: bytes) -> tuple[bool, str | None, frozenset[str], bool, bool]:
    active, client_id, scope, has_sub, has_username = json.loads(grant)
    return active, client_id, split_scope(scope), has_sub, has_username
