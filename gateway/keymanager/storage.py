"""Where the key manager keeps what it issued: one Redis, real or in memory.

================================  =========================================================
``<key_prefix><digest>``          an access token's RFC 7662 document: the gateway's token store
``<own_prefix>code:<digest>``     an authorization code; once used, with what it was used for
``<own_prefix>refresh:<digest>``  a refresh token
``<own_prefix>family:<id>``       a live grant, and which of its refresh tokens is still good
``<own_prefix>access:<id>``       the digests of its access tokens, scored by their ``exp``
================================  =========================================================

A gateway that records tokens itself must be the only one to write them into its store: then
``<own_prefix>token:<digest>`` has the document, and ``<key_prefix><digest>`` is written to say one
thing only, that a token is no longer active.

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

SCANNED = 1000
"""Keys that one command looks at, where all are looked through."""

Result = TypeVar("Result")


def open_storage(url: str, *, key_prefix: str = "token:", writes_store: bool = True) -> "Storage":
    """Return a storage by its URL; see ``Storage``.

    Raises:
        ValueError: a URL of a kind that ``open_client`` doesn't know.
    """
    return Storage(open_client(url), key_prefix=key_prefix, writes_store=writes_store)


class Storage:
    """Codes, refresh tokens, families and access tokens, by digest.

    Every method raises ``StoreUnavailable`` when Redis can't be reached, refuses, or doesn't
    answer within the client's own time-outs. ``now_at`` is seconds since the epoch.

    ``key_prefix`` is that of the token store. ``writes_store`` says that the key manager writes
    access tokens there; without it a gateway does, and is only told which tokens have ended.
    """

    def __init__(
        self,
        client: Redis,
        *,
        key_prefix: str = "token:",
        own_prefix: str = "km:",
        writes_store: bool = True,
    ) -> None:
        self._client = client
        self._key_prefix = key_prefix
        self._own_prefix = own_prefix
        self._writes_store = writes_store

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def access_document(self, key: TokenKey) -> bytes | None:
        """Return what the token store has of an access token."""
        with answering():
            return _bytes(self._client.get(self._document_name(key.hex())))

    def delete_access_token(self, key: TokenKey) -> None:
        """End an access token; the rest of its family stays."""
        with answering(), self._client.pipeline() as pipe:
            self._end(pipe, key.hex(), self._life_left(self._client, key.hex()))
            pipe.execute()

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
            self._write(pipe, replace(issue, since_at=family.since_at), now_at)
            pipe.execute()
            return _Outcome(won=True)

        return self._settle(self._transact(name, attempt))

    def revoke_family(self, family_id: str) -> None:
        """End a grant: its access tokens go, and none of its refresh tokens is good any more."""
        name, access = self._name("family", family_id), self._name("access", family_id)

        def attempt(pipe: Pipeline) -> None:
            digests = [
                _text(digest) for digest in cast("list[bytes | str]", pipe.zrange(access, 0, -1))
            ]
            left = {digest: self._life_left(pipe, digest) for digest in digests}
            pipe.multi()
            pipe.delete(name, access)
            for digest in digests:
                self._end(pipe, digest, left[digest])
            pipe.execute()

        # Watching the family: what a rotation adds to it meanwhile must be removed too.
        self._transact(name, attempt)

    def families(
        self, *, now_at: float, username: str | None = None, client_id: str | None = None
    ) -> list[tuple[str, Family]]:
        """Return the live grants of a user, of a client, or of a user with a client.

        The one used last comes first. A grant whose only tokens were revoked one by one isn't
        live any more. All families are looked through, which takes as long as there are keys:
        whoever asks is a person, and an index would be one more thing that must be true.
        """
        if username is None and client_id is None:
            return []  # not everybody's
        prefix = self._name("family", "")
        with answering():
            scanned = self._client.scan_iter(f"{prefix}*", count=SCANNED)
            names = sorted({_text(name) for name in scanned})  # SCAN may tell a key twice
            found: list[tuple[str, Family]] = []
            for start in range(0, len(names), SCANNED):
                some = names[start : start + SCANNED]
                values = self._client.mget(some)
                for name, value in zip(some, values, strict=True):
                    family = from_json(Family, _bytes(value))
                    if (
                        family is not None
                        and family.exp > now_at
                        and username in {None, family.username}
                        and client_id in {None, family.client_id}
                    ):
                        found.append((name.removeprefix(prefix), family))
            live = [
                (family_id, family)
                for family_id, family in found
                if family.current is not None or self._has_access(family_id, now_at)
            ]
        return sorted(live, key=lambda one: one[1].used_at, reverse=True)

    def _has_access(self, family_id: str, now_at: float) -> bool:
        access = self._name("access", family_id)
        digests = cast("list[bytes | str]", self._client.zrangebyscore(access, now_at, "+inf"))
        names = [self._document_name(_text(digest)) for digest in digests]
        return bool(names) and bool(self._client.exists(*names))

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
        digest, said = issue.access_key.hex(), issue.access_document
        document = json.dumps(said, separators=(",", ":"))
        pipe.set(self._document_name(digest), document, px=_milliseconds(said["exp"] - now_at))
        if issue.family is None:
            return
        last_exp = _last_exp(issue)
        life = _milliseconds(last_exp - now_at)
        access = self._name("access", issue.family)
        pipe.zremrangebyscore(access, "-inf", now_at)
        pipe.zadd(access, {digest: said["exp"]})
        pipe.pexpire(access, life)
        current = None
        if issue.refresh is not None and issue.refresh_key is not None:
            current = issue.refresh_key.hex()
            pipe.set(
                self._name("refresh", current),
                to_json(issue.refresh),
                px=_milliseconds(issue.refresh.exp - now_at),
            )
        family = Family(
            client_id=said["client_id"],
            current=current,
            username=said.get("username"),
            scope=issue.refresh.scope if issue.refresh is not None else said["scope"],
            since_at=said["iat"] if issue.since_at is None else issue.since_at,
            used_at=said["iat"],
            exp=last_exp,
        )
        pipe.set(self._name("family", issue.family), to_json(family), px=life)

    def _end(self, pipe: Pipeline, digest: str, life_left: int) -> None:
        """Queue the end of an access token, with so many milliseconds left to live."""
        pipe.delete(self._document_name(digest))
        if not self._writes_store and life_left > 0:
            # Not deleted: a gateway that has yet to record the token must find that it ended.
            pipe.set(self._key_prefix + digest, '{"active":false}', px=life_left)

    def _life_left(self, client: Redis, digest: str) -> int:
        """Return how many milliseconds an access token may still live; below 1, it has ended."""
        return 0 if self._writes_store else client.pttl(self._document_name(digest))

    def _document_name(self, digest: str) -> str:
        if self._writes_store:
            return self._key_prefix + digest
        return self._name("token", digest)

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
