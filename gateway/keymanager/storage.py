"""Where the key manager keeps what it issued: one Redis, real or in memory.

================================  =========================================================
``<key_prefix><digest>``          an access token's RFC 7662 document: the gateway's token store
``<own_prefix>code:<digest>``     an authorization code; once used, with what it was used for
``<own_prefix>refresh:<digest>``  a refresh token
``<own_prefix>family:<id>``       a live grant, and which of its refresh tokens is still good
``<own_prefix>access:<id>``       the digests of its access tokens, scored by their ``exp``
================================  =========================================================

Digests are SHA-256 in hexadecimal; no token is stored. Every key has a Redis expiry, which
only tidies up: whether something has expired is decided by ``exp`` and the caller's clock.
What must not happen twice (a code redeemed, a refresh token used) is one MULTI/EXEC under
WATCH, so two requests at once can't both win. Its keys lie in different hash slots: one Redis,
not a Redis Cluster.

The clients are synchronous, as oauthlib is: call from a thread, not from the event loop.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import WatchError

from gateway.errors import StoreUnavailable
from gateway.keymanager.connection import answering, open_client
from gateway.keymanager.records import Code, Family, Issue, RefreshToken, from_json, to_json
from gateway.tokens import TokenKey

ATTEMPTS = 32
"""How often a transaction is begun anew; each time, another request has got on."""

Result = TypeVar("Result")


def open_storage(url: str, *, key_prefix: str = "token:") -> "Storage":
    """Return a storage by its URL; ``key_prefix`` is that of the token store.

    Raises:
        ValueError: a URL of a kind that ``open_client`` doesn't know.
    """
    return Storage(open_client(url), key_prefix=key_prefix)


class Storage:
    """Codes, refresh tokens, families and access tokens, by digest.

    Every method raises ``StoreUnavailable`` when Redis can't be reached, refuses, or doesn't
    answer within the client's own time-outs. ``now_at`` is seconds since the epoch.
    """

    def __init__(
        self, client: Redis, *, key_prefix: str = "token:", own_prefix: str = "km:"
    ) -> None:
        self._client = client
        self._key_prefix = key_prefix
        self._own_prefix = own_prefix

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def access_document(self, key: TokenKey) -> bytes | None:
        """Return what the token store has of an access token."""
        with answering():
            return _bytes(self._client.get(self._token_name(key.hex())))

    def delete_access_token(self, key: TokenKey) -> None:
        """Remove an access token; the rest of its family stays."""
        with answering():
            self._client.delete(self._token_name(key.hex()))

    def code(self, key: TokenKey) -> Code | None:
        """Return an authorization code, used or not, expired or not."""
        with answering():
            return from_json(Code, _bytes(self._client.get(self._name("code", key.hex()))))

    def put_code(self, key: TokenKey, code: Code, *, now_at: float) -> None:
        """Store a new authorization code."""
        with answering():
            self._client.set(
                self._name("code", key.hex()), to_json(code), px=_milliseconds(code.exp - now_at)
            )

    def refresh_token(self, key: TokenKey) -> tuple[RefreshToken, Family | None] | None:
        """Return a refresh token and its family, which is ``None`` once it was revoked."""
        with answering():
            token = from_json(
                RefreshToken, _bytes(self._client.get(self._name("refresh", key.hex())))
            )
            if token is None:
                return None
            family = _bytes(self._client.get(self._name("family", token.family)))
            return token, from_json(Family, family)

    def issue(self, issue: Issue, *, now_at: float) -> None:
        """Store the tokens of a new grant."""
        with answering(), self._client.pipeline() as pipe:
            self._write(pipe, issue, now_at)
            pipe.execute()

    def redeem(self, key: TokenKey, issue: Issue, *, now_at: float) -> bool:
        """Use an authorization code for ``issue``; return whether that was still possible.

        A code that was used before revokes what it was used for (RFC 6749 §4.1.2).
        """
        name = self._name("code", key.hex())

        def attempt(pipe: Pipeline) -> _Outcome:
            code = from_json(Code, _bytes(pipe.get(name)))
            if code is None or code.exp <= now_at:
                return _Outcome(won=False)
            if code.family is not None:
                won = code.family == issue.family  # an earlier attempt, whose answer was lost
                return _Outcome(won, None if won else code.family)
            pipe.multi()
            # Kept as long as what came of it, so that using it again is noticed.
            used = to_json(replace(code, family=issue.family))
            pipe.set(name, used, px=_milliseconds(_last_exp(issue) - now_at))
            self._write(pipe, issue, now_at)
            pipe.execute()
            return _Outcome(won=True)

        return self._settle(self._transact(name, attempt))

    def rotate(self, key: TokenKey, issue: Issue, *, now_at: float) -> bool:
        """Use a refresh token for ``issue``; return whether that was still possible.

        One that was used before revokes its family (RFC 9700 §4.14.2): the client or whoever
        else has it is a thief, and which of them can't be told. Of two uses at once, one comes
        second and is such a replay too.
        """
        found = self.refresh_token(key)
        if found is None or found[0].exp <= now_at or issue.refresh_key is None:
            return False
        family_id, successor = found[0].family, issue.refresh_key.hex()
        name = self._name("family", family_id)

        def attempt(pipe: Pipeline) -> _Outcome:
            family = from_json(Family, _bytes(pipe.get(name)))
            if family is None:
                return _Outcome(won=False)
            if family.current == successor:  # an earlier attempt won, its answer was lost
                return _Outcome(won=True)
            if family.current != key.hex():
                return _Outcome(won=False, replayed_family=family_id)
            pipe.multi()
            self._write(pipe, issue, now_at)
            pipe.execute()
            return _Outcome(won=True)

        return self._settle(self._transact(name, attempt))

    def revoke_family(self, family_id: str) -> None:
        """End a grant: its access tokens go, and none of its refresh tokens is good any more."""
        family, access = self._name("family", family_id), self._name("access", family_id)

        def attempt(pipe: Pipeline) -> None:
            digests = [
                _text(digest) for digest in cast("list[bytes | str]", pipe.zrange(access, 0, -1))
            ]
            pipe.multi()
            pipe.delete(family, access, *(self._token_name(digest) for digest in digests))
            pipe.execute()

        # Watching the family: what a rotation adds to it meanwhile must be removed too.
        self._transact(family, attempt)

    def _settle(self, outcome: "_Outcome") -> bool:
        if outcome.replayed_family is not None:
            self.revoke_family(outcome.replayed_family)
        return outcome.won

    def _transact(self, watched: str, attempt: Callable[[Pipeline], Result]) -> Result:
        with answering():
            for _ in range(ATTEMPTS):
                try:
                    with self._client.pipeline() as pipe:
                        pipe.watch(watched)  # type: ignore[no-untyped-call]  # redis-py has no types here
                        return attempt(pipe)
                except WatchError:  # changed by another request, or the connection was lost
                    continue
        raise StoreUnavailable("The key manager's store is too busy.")

    def _write(self, pipe: Pipeline, issue: Issue, now_at: float) -> None:
        """Queue all that ``issue`` hands out."""
        digest, exp = issue.access_key.hex(), issue.access_document["exp"]
        document = json.dumps(issue.access_document, separators=(",", ":"))
        pipe.set(self._token_name(digest), document, px=_milliseconds(exp - now_at))
        if issue.family is None:
            return
        life = _milliseconds(_last_exp(issue) - now_at)
        access = self._name("access", issue.family)
        pipe.zremrangebyscore(access, "-inf", now_at)
        pipe.zadd(access, {digest: exp})
        pipe.pexpire(access, life)
        current = None
        if issue.refresh is not None and issue.refresh_key is not None:
            current = issue.refresh_key.hex()
            pipe.set(
                self._name("refresh", current),
                to_json(issue.refresh),
                px=_milliseconds(issue.refresh.exp - now_at),
            )
        family = Family(client_id=issue.access_document["client_id"], current=current)
        pipe.set(self._name("family", issue.family), to_json(family), px=life)

    def _token_name(self, digest: str) -> str:
        return self._key_prefix + digest

    def _name(self, kind: str, identifier: str) -> str:
        return f"{self._own_prefix}{kind}:{identifier}"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of using something once-only; ``replayed_family`` is to be revoked."""

    won: bool
    replayed_family: str | None = None


def new_family_id() -> str:
    """Return the name of a new family; it is no secret, only unique."""
    return secrets.token_hex(16)


def _last_exp(issue: Issue) -> int:
    """Return when the last of the tokens expires."""
    exp: int = issue.access_document["exp"]
    return max(exp, issue.refresh.exp if issue.refresh else exp)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
