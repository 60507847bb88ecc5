"""The token store: Redis, where it stands what is true of a token now.

The value of a token is an RFC 7662 introspection document; ``docs/store.md`` describes it
for whoever writes it. Every call ends within the store's time-out, and every way in which
Redis can fail ends as ``StoreUnavailable``: a store that is down says nothing of a token.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError, WatchError

from gateway import settings
from gateway.errors import SettingsError, StoreUnavailable
from gateway.extras import how_to_install
from gateway.patience import Patience
from gateway.redis_faults import is_refusal, reason_of
from gateway.resolver import Resolver
from gateway.round_trips import (
    FOR_EVER,
    NOT_THERE,
    Command,
    cluster_values_and_lives,
    raise_first,
    run_in_cluster,
    values_and_lives,
)
from gateway.settings.store_url import StoreUrl, parse_store_url
from gateway.store_connections import resolve_by
from gateway.tokens import MOST_DOCUMENT_BYTES, Found, TokenKey

log = structlog.stdlib.get_logger(__name__)

Client = Redis | RedisCluster
"""redis-py's asyncio clients; fakeredis' is a ``Redis`` too."""

ENDED = '{"active":false}'
"""The document of a token that has ended: ``docs/store.md`` says who else may write it."""

_ATTEMPTS = 8
"""How often a write begins anew because another came between."""

# RedisClusterException isn't a RedisError; TimeoutError is an OSError.
_FAULTS = (RedisError, RedisClusterException, OSError)


class TokenStore:
    """Introspection documents by token key, in Redis.

    Raises ``StoreUnavailable`` from each method when Redis can't be reached, refuses, or
    doesn't answer within ``timeout_seconds``. ``client`` is for the feed, which listens on
    connections of its own; a store ``in_memory`` can't be listened to. ``servers`` is what the log
    calls it, ``lacks_certificate`` whether it speaks TLS without a client certificate.
    """

    def __init__(
        self,
        client: Client,
        *,
        key_prefix: str = "token:",
        timeout_seconds: float = 0.5,
        max_connections: int = 32,
        sentinels: Sequence[Redis] = (),
        in_memory: bool = False,
        servers: str = "",
        lacks_certificate: bool = False,
    ) -> None:
        self.in_memory = in_memory
        self._servers = servers
        self._lacks_certificate = lacks_certificate
        self.key_prefix = key_prefix
        self.timeout_seconds = timeout_seconds
        self.client = client
        self._sentinels = sentinels
        # A call takes one connection of each server. redis-py's pools refuse beyond their limit;
        # here a call waits for its turn.
        self._turns = asyncio.Semaphore(max_connections)
        self._reachable = True
        self._refused: str | None = None
        self._tells_lives = True

    @property
    def reachable(self) -> bool:
        """Whether the last call was answered; true before the first."""
        return self._reachable

    def name(self, key: TokenKey) -> str:
        """Return the Redis key of a token: the prefix and the digest in hexadecimal."""
        return self.key_prefix + key.hex()

    async def get_many(self, keys: Sequence[TokenKey]) -> list[bytes | None]:
        """Return the document of each token, in order; ``None`` where there is none."""
        # As bytes, which redis-py packs sooner.
        names = [self.name(key).encode() for key in keys]
        async with self._answering():
            if isinstance(self.client, RedisCluster):
                answers = await self._run(*(("MGET", name) for name in names))
            else:
                answers = await self._run(("MGET", *names))
        found = [value for some in answers for value in some]
        return [value.encode() if isinstance(value, str) else value for value in found]

    async def find_many(self, keys: Sequence[TokenKey]) -> list[Found | None]:
        """Return the document of each token and for how much longer it is there, in order.

        Redis tells that a key has expired only when it gets round to deleting it. So what is
        learned of a token must end by itself.
        """
        names = [self.name(key).encode() for key in keys]
        async with self._answering():
            if isinstance(self.client, RedisCluster):
                values, lives = await cluster_values_and_lives(self.client, names)
            else:
                values, lives = await values_and_lives(self.client, names)
        self._note_lives(told=lives is not None)
        if lives is None:  # for no time, then: nothing is kept
            lives = [0] * len(values)
        return [_found(value, life) for value, life in zip(values, lives, strict=True)]

    async def put(
        self, key: TokenKey, document: Mapping[str, Any], *, expires_in_seconds: float
    ) -> None:
        """Write the document of a token over whatever there is, as a key manager may.

        Redis forgets it after ``expires_in_seconds``.
        """
        new = NewDocument(key, document, expires_in_seconds)
        async with self._answering():
            await self._run(("SET", self.name(key), new.value, "PX", new.milliseconds))

    async def record(self, documents: Sequence["NewDocument"]) -> list[bool]:
        """Write the documents of tokens, but none over the end of its token.

        Return for each whether its token is in the store now; where it isn't, it has ended
        (``end``). A document that is there stays, unless the new one lasts longer: who wrote it
        may be the key manager, which knows more.
        """
        if not documents:
            return []
        commands = [
            ("SET", self.name(new.key), new.value, "PX", new.milliseconds, "NX")
            for new in documents
        ]
        async with self._answering():
            written = await self._run(*commands)
            return [
                bool(done) or await self._replace(new)
                for new, done in zip(documents, written, strict=True)
            ]

    async def _replace(self, new: "NewDocument") -> bool:
        """Write a document where there is something, unless that is its token's end."""
        name = self.name(new.key)
        if isinstance(self.client, RedisCluster):
            # Mostly that is all, and it works where slots are moving. There a transaction fails,
            # and the recorder tries again later.
            ((value,),) = await self._run(("MGET", name))
            if (there := _is_there(_document(value), new)) is not None:
                return there
        for _ in range(_ATTEMPTS):
            async with self.client.pipeline(transaction=True) as pipe:
                try:
                    await pipe.watch(name)
                    there = _is_there(await _watched(pipe, name), new)
                    if there is not None:
                        return there
                    pipe.multi()  # type: ignore[no-untyped-call]
                    pipe.set(name, new.value, px=new.milliseconds)
                    await pipe.execute()
                except WatchError:
                    continue  # someone wrote, who may have ended it
                else:
                    return True
        raise StoreUnavailable("The token store is too busy.")

    async def end(self, lives_seconds: Mapping[TokenKey, float]) -> int:
        """Write the end of tokens over whatever there is of them; return how many were good.

        Redis forgets each after its time. Unlike a token that was removed, one that has ended can't
        be recorded any more until then, by whichever gateway.
        """
        if not lives_seconds:
            return 0
        commands: list[tuple[Any, ...]] = []
        for key, seconds in lives_seconds.items():
            name = self.name(key)
            # MGET, because GET is refused where a key holds no string.
            commands += [("MGET", name), ("SET", name, ENDED, "PX", _milliseconds(seconds))]
        async with self._answering():
            answers = await self._run(*commands)
        return sum(_has_ended(_document(found)) is False for (found,) in answers[::2])

    async def delete(self, keys: Sequence[TokenKey]) -> int:
        """Remove tokens, as another writer may; return how many there were."""
        if not keys:
            return 0
        async with self._answering():
            if isinstance(self.client, RedisCluster):
                answers = await self._run(*(("DEL", self.name(key)) for key in keys))
            else:
                answers = await self._run(("DEL", *(self.name(key) for key in keys)))
        removed: int = sum(answers)
        return removed

    def grant_name(self, refresh_key: TokenKey) -> str:
        """Return the Redis key of what is known of a refresh token's grant."""
        return f"{self.key_prefix}grant:{refresh_key.hex()}"

    async def grants(self, refresh_keys: Sequence[TokenKey]) -> list[dict[str, str]]:
        """Return the fields of grants, in order, none where one isn't known."""
        if not refresh_keys:
            return []
        async with self._answering():
            found = await self._run(*(("HGETALL", self.grant_name(key)) for key in refresh_keys))
        return [_texts(fields) for fields in found]

    async def update_grants(self, updates: Sequence["GrantUpdate"]) -> list[dict[str, str]]:
        """Add fields to grants, take others away; return all that each has then, in order.

        By single fields, so that of two gateways that update the same grant neither undoes what
        the other did, and each sees it or is seen.
        """
        if not updates:
            return []
        commands: list[tuple[Any, ...]] = []
        ends: list[int] = []
        for update in updates:
            commands += update.commands(self.grant_name(update.refresh_key))
            ends.append(len(commands) - 1)
        async with self._answering():
            answers = await self._run(*commands)
        return [_texts(answers[at]) for at in ends]

    async def publish(self, channel: str, message: str) -> int:
        """Send a message to all who listen; return how many do, on the server that was asked."""
        async with self._answering():
            receivers: int = await self.client.publish(channel, message)
        return receivers

    async def ping(self) -> None:
        """Return when the store answers."""
        async with self._answering():
            await self.client.ping()

    async def close(self) -> None:
        """Close the connections."""
        for client in (self.client, *self._sentinels):
            await client.aclose()

    async def _run(self, *commands: Command) -> list[Any]:
        """Return the answers to commands, of one key each in a Cluster; raise what one raises."""
        if isinstance(self.client, RedisCluster):
            answers = await run_in_cluster(self.client, commands)
            raise_first(answers)
            return answers
        if len(commands) == 1:
            answer = await self.client.execute_command(*commands[0])  # type: ignore[no-untyped-call]
            return [answer]
        async with self.client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute()

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Hold a call to its time-out and turn every way of failing into one error."""
        try:
            async with Patience(self.timeout_seconds), self._turns:
                yield
        except _FAULTS as error:
            self._note(error)
            raise StoreUnavailable from None
        self._note(None)

    def _note_lives(self, *, told: bool) -> None:
        if self._tells_lives and not told:
            log.warning(
                "the store's user may not run PTTL, so that no facts can be cached",
                remedy="grant it +pttl",
            )
        self._tells_lives = told

    def _note(self, error: Exception | None) -> None:
        """Log the changes between reachable and not, and a refusal that comes after; only those."""
        if error is None:
            if not self._reachable:
                log.info("token store reachable again", store=self._servers)
            self._reachable, self._refused = True, None
            return
        reason = reason_of(error, lacks_certificate=self._lacks_certificate)
        refused = reason if is_refusal(error) else None
        if self._reachable or refused not in {None, self._refused}:
            log.warning(
                "token store unreachable",
                store=self._servers,
                error=type(error).__name__,
                reason=reason,
            )
        self._reachable, self._refused = False, refused or self._refused


def _found(value: bytes | str | None, life: int) -> Found | None:
    if value is None or life == NOT_THERE:
        return None
    document = value.encode() if isinstance(value, str) else value
    return Found(document) if life == FOR_EVER else Found(document, life / 1000)


@dataclass(frozen=True, slots=True)
class NewDocument:
    """The document of a token, to be forgotten by Redis after ``expires_in_seconds``."""

    key: TokenKey
    document: Mapping[str, Any]
    expires_in_seconds: float

    @property
    def value(self) -> str:
        """What is written."""
        return json.dumps(self.document, separators=(",", ":"))

    @property
    def milliseconds(self) -> int:
        """Its life, as Redis counts."""
        return _milliseconds(self.expires_in_seconds)


@dataclass(frozen=True, slots=True)
class GrantUpdate:
    """Fields to be added to a grant and taken from it.

    Without ``expires_in_seconds`` its remaining life stays as it is.
    """

    refresh_key: TokenKey
    fields: Mapping[str, str]
    without: Sequence[str] = ()
    expires_in_seconds: float | None = None

    def commands(self, name: str) -> list[tuple[Any, ...]]:
        """Return what is sent for it: the last command reads the whole."""
        commands: list[tuple[Any, ...]] = []
        if self.without:
            commands.append(("HDEL", name, *self.without))
        if self.fields:
            commands.append(
                ("HSET", name, *(part for item in self.fields.items() for part in item))
            )
        if self.expires_in_seconds is not None:
            commands.append(("PEXPIRE", name, _milliseconds(self.expires_in_seconds)))
        return [*commands, ("HGETALL", name)]


async def _watched(pipe: Any, name: str) -> dict[str, Any] | None:
    """Return the document of a watched key, ``None`` where it has none that makes sense."""
    try:
        return _document(await pipe.get(name))
    except ResponseError as error:
        if "WRONGTYPE" in str(error):
            return None
        raise


def _document(found: Any) -> dict[str, Any] | None:
    try:
        readable = isinstance(found, bytes | str) and len(found) <= MOST_DOCUMENT_BYTES
        members = json.loads(found) if readable else None
    except (ValueError, RecursionError):
        return None
    if isinstance(members, dict) and isinstance(members.get("active"), bool):
        return members
    return None


def _has_ended(document: Mapping[str, Any] | None) -> bool | None:
    """Whether a document says that its token isn't good, ``None`` where there is none."""
    return None if document is None else not document["active"]


def _is_shorter(found: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    if found is None:
        return True
    exp, new_exp = found.get("exp"), new.get("exp")
    return isinstance(exp, int | float) and isinstance(new_exp, int | float) and new_exp > exp


def _is_there(found: Mapping[str, Any] | None, new: "NewDocument") -> bool | None:
    """Whether a document that is found is to stay, ``None`` where the new one replaces it.

    False where it is its token's end.
    """
    if _has_ended(found):
        return False
    return None if _is_shorter(found, new.document) else True


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _texts(fields: Mapping[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in fields.items()}


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def open_store(store: settings.Store, *, resolver: Resolver | None = None) -> TokenStore:
    """Return the token store that settings describe; it connects when first used.

    Raises:
        SettingsError: ``memory://`` without the ``demo`` extra.
    """
    url = parse_store_url(store.url.get_secret_value())
    options = _client_options(url, store)
    sentinels: Sequence[Redis] = ()
    client: Client
    if url.kind == "memory":
        client = _open_memory()
    elif url.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in url.nodes]
        client = RedisCluster(startup_nodes=nodes, max_connections=store.max_connections, **options)
    elif url.kind == "sentinel":
        client, sentinels = _open_by_sentinel(url, options, store.max_connections)
    else:
        client = _open_one(url, options, store)
    if resolver is not None and url.kind not in {"memory", "unix"}:
        for each in (client, *sentinels):
            resolve_by(resolver, each)
    return TokenStore(
        client,
        key_prefix=store.key_prefix,
        timeout_seconds=store.timeout.total_seconds(),
        max_connections=store.max_connections,
        sentinels=sentinels,
        in_memory=url.kind == "memory",
        servers=url.socket or ",".join(f"{host}:{port}" for host, port in url.nodes),
        lacks_certificate=url.tls and store.tls_certificate is None,
    )


def _open_memory() -> Redis:
    try:
        import fakeredis  # noqa: PLC0415 -- an extra
    except ImportError:
        raise SettingsError(
            f"store.url: memory:// needs fakeredis: {how_to_install('demo')}"
        ) from None
    return fakeredis.FakeAsyncRedis()


def _client_options(url: StoreUrl, store: settings.Store) -> dict[str, Any]:
    password = store.password.get_secret_value() if store.password is not None else None
    options: dict[str, Any] = {
        "username": url.username or store.username,
        "password": url.password or password,
        # Over every call stands a time-out of ours, which forgives the event loop a stall; this
        # one only sees to it that none is forgotten.
        "socket_timeout": 4 * store.timeout.total_seconds(),
        "socket_connect_timeout": store.connect_timeout.total_seconds(),
        # One more try, at once: a pooled connection may have died since it was used last. What is
        # slow is not tried again, and every call has a time-out of its own over all of it.
        "retry": Retry(NoBackoff(), 1),
        "protocol": 2,
        "client_name": "revocation-gateway",
    }
    if url.tls:
        options |= {
            "ssl": True,
            "ssl_ca_certs": store.ca_file and str(store.ca_file),
            "ssl_certfile": store.tls_certificate and str(store.tls_certificate),
            "ssl_keyfile": store.tls_key and str(store.tls_key),
        }
    return options


def _open_by_sentinel(
    url: StoreUrl, options: dict[str, Any], max_connections: int
) -> tuple[Redis, Sequence[Redis]]:
    # User and password are the servers'; Sentinels are asked without.
    asking = {name: options[name] for name in options if name.startswith(("socket_", "ssl", "ret"))}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        url.nodes, sentinel_kwargs=asking, db=url.database, **options
    )
    client: Redis = sentinel.master_for(url.service, max_connections=max_connections)
    return client, sentinel.sentinels


def _open_one(url: StoreUrl, options: dict[str, Any], store: settings.Store) -> Redis:
    place: dict[str, Any] = {"unix_socket_path": url.socket}
    if url.kind != "unix":
        ((host, port),) = url.nodes
        place = {"host": host, "port": port}
    return Redis(db=url.database, max_connections=store.max_connections, **place, **options)
