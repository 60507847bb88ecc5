"""A Redis whose every command, and every message of its feed, a test holds up, loses or lets pass.

It knows the truth: when which token was good. Commands of different connections overtake each
other; messages on one connection don't. What is revoked is told to all who listen at that instant;
that a key has expired, later or never; that databases were swapped, to nobody.
"""

import asyncio
import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from clocks import FakeClock
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import WatchError
from virtual_loop import VirtualLoop

from gateway.tokens import Found, TokenKey
from gateway.tracking import Listener

PREFIX = "token:"


@dataclass(slots=True)
class History:
    """When a token was good: at which writes (``seq``, of all tokens) and instants (monotonic).

    ``exp`` is on the monotonic clock too, ``exp_at`` the same by the wall clock, which may be set;
    ``key_end`` is when its key expires. While it is active, ``began`` is when it became so;
    ``ended`` is when it last ceased to be. ``lives`` has, by write, when its key was to expire.
    """

    active: bool = False
    exp: float = float("inf")
    exp_at: float = float("inf")
    key_end: float = float("inf")
    lives: list[tuple[int, float]] = field(default_factory=list)
    began: tuple[int, float] = (0, float("-inf"))
    ended: tuple[int, float] = (-1, float("-inf"))


class Command:
    """A command on its way: not yet carried out, or carried out and not yet answered."""

    def __init__(self, perform: Callable[[], Any]) -> None:
        self._perform = perform
        self._result: Any = None
        self.carried_out = False
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def carry_out(self) -> None:
        if not self.carried_out:
            self.carried_out = True
            self._result = self._perform()

    def answer(self) -> None:
        self.carry_out()
        if not self.answered.done():
            self.answered.set_result(None)

    def fail(self) -> None:
        if not self.answered.done():
            self.answered.set_exception(RedisConnectionError("on purpose"))

    async def result(self) -> Any:
        await self.answered
        return self._result


class BoundRedis:
    """The one store of all gateways."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.tells_expiry_after = 0.0
        """How long after a key has expired Redis deletes it and tells; infinite for never."""
        self.seq = 0
        self.holds = False
        self.fails = False
        self.under_way: list[Command] = []
        self.listening: list[Connection] = []
        self._documents: dict[TokenKey, bytes] = {}
        self._history: dict[TokenKey, History] = {}
        self._expiry: dict[TokenKey, asyncio.TimerHandle] = {}

    # What anyone does to it

    def write(
        self,
        key: TokenKey,
        document: bytes | None,
        *,
        exp_at: float = math.inf,
        expires_in_seconds: float | None = None,
    ) -> None:
        """Set a token's document, or remove it; ``exp_at`` is by the wall clock."""
        if document is None and key not in self._documents:
            return
        active = document is not None and b"true" in document
        self._note(key, active=active, exp_at=exp_at, life=expires_in_seconds)
        if document is None:
            del self._documents[key]
        else:
            self._documents[key] = document
        self._let_expire(key, None if document is None else expires_in_seconds)
        self._tell(key)

    def expire(self, key: TokenKey, expires_in_seconds: float | None) -> None:
        """EXPIRE, or PERSIST."""
        if key not in self._documents:
            return
        history = self._history[key]
        self._note(key, active=history.active, exp_at=history.exp_at, life=expires_in_seconds)
        self._let_expire(key, expires_in_seconds)
        self._tell(key)

    def clear(self) -> None:
        """FLUSHALL."""
        self._empty()
        for connection in self.listening:
            connection.push(None)

    def swap(self) -> None:
        """SWAPDB, with an empty one."""
        self._empty()
        for connection in self.listening:
            connection.swapped()

    def set_wall_clock(self, clock: FakeClock, seconds: float) -> None:
        """Set the wall clock forward, or back: what ``exp`` says is another instant now."""
        good = {key for key in self._history if self.is_good(key)}
        clock.wall_at += seconds
        now = self.loop.time()
        for key, history in self._history.items():
            exp = now + history.exp_at - self.wall()
            if key in good:
                history.exp = max(exp, now)
            elif exp > now:
                history.exp = exp
                if self.is_good(key):  # again
                    history.began = (self.seq + 1, now)

    def _empty(self) -> None:
        for key in list(self._documents):
            self._note(key, active=False)
            self._let_expire(key, None)
        self._documents.clear()

    def _let_expire(self, key: TokenKey, after_seconds: float | None) -> None:
        if (timer := self._expiry.pop(key, None)) is not None:
            timer.cancel()
        if after_seconds is not None:
            self._expiry[key] = self.loop.call_later(after_seconds, self._expired, key)

    def _expired(self, key: TokenKey) -> None:
        """A key isn't found any more, though it lies there until it is deleted."""
        del self._documents[key], self._expiry[key]
        self._note(key, active=False)
        if self.tells_expiry_after < math.inf:
            self.loop.call_later(self.tells_expiry_after, self._deleted, key)

    def _deleted(self, key: TokenKey) -> None:
        if key not in self._documents:
            self._tell(key)

    def _tell(self, key: TokenKey) -> None:
        for connection in self.listening:
            connection.push(key)

    def _note(
        self,
        key: TokenKey,
        *,
        active: bool,
        exp_at: float = math.inf,
        life: float | None = None,
    ) -> None:
        history = self._history.setdefault(key, History())
        now, was_good = self.loop.time(), self.is_good(key)
        if history.active:
            history.ended = (self.seq, min(now, history.exp, history.key_end))
        self.seq += 1
        history.active, history.exp_at = active, exp_at
        history.exp = now + exp_at - self.wall()
        history.key_end = math.inf if life is None else now + life
        if active:
            history.lives.append((self.seq, history.key_end))
        if self.is_good(key) and not was_good:
            history.began = (self.seq, now)

    # The truth

    def is_good(self, key: TokenKey) -> bool:
        history = self._history.get(key, History())
        return history.active and self.loop.time() < min(history.exp, history.key_end)

    def last_good(self, key: TokenKey) -> tuple[int, float]:
        """Return the last write after which, and the last instant at which, a token was good."""
        history = self._history.get(key, History())
        if history.active:
            return self.seq, min(self.loop.time(), history.exp, history.key_end)
        return history.ended

    def last_key_end(self, key: TokenKey, since: int) -> float:
        """Return when a token's key was to expire at the latest, as it was found since a write."""
        lives = self._history.get(key, History()).lives
        before = [end for seq, end in lives if seq <= since][-1:]
        return max([*before, *(end for seq, end in lives if seq > since)], default=-math.inf)

    def last_bad(self, key: TokenKey) -> tuple[int, float]:
        """Return the last write after which, and the last instant at which, it wasn't."""
        if not self.is_good(key):
            return self.seq, self.loop.time()
        seq, at = self._history[key].began
        return seq - 1, at

    # What a gateway asks (the part of redis-py's client that TokenStore uses here)

    async def _do(self, perform: Callable[[], Any]) -> Any:
        if self.fails:
            raise RedisConnectionError("on purpose")
        command = Command(perform)
        if self.holds:
            self.under_way.append(command)
        else:
            command.carry_out()
            self.loop.call_soon(command.answer)
        return await command.result()

    async def execute_command(self, command: str, *arguments: Any) -> Any:
        return await self._do(lambda: self._perform(command, *arguments))

    def pipeline(self, *, transaction: bool) -> "Pipeline":  # noqa: ARG002 -- all are
        return Pipeline(self)

    def _perform(self, command: str, *arguments: Any) -> Any:
        perform: dict[str, Callable[..., Any]] = {
            "MGET": self._mget,
            "GET": lambda name: self._mget(name)[0],
            "SET": self._set,
            "DEL": self._delete,
            # There are no grants, but for marks of what might be one: nobody looks at them.
            "HGETALL": lambda _: {},
            "HSET": lambda *_: 1,
            "PEXPIRE": lambda *_: 1,
        }
        return perform[command](*arguments)

    async def find(self, keys: Sequence[TokenKey]) -> list[Found | None]:
        """``TokenStore.find_many``, whose commands go as one."""
        found: list[Found | None] = await self._do(lambda: [self._found(key) for key in keys])
        return found

    def _found(self, key: TokenKey) -> Found | None:
        document, timer = self._documents.get(key), self._expiry.get(key)
        if document is None:
            return None
        life = math.inf if timer is None else timer.when() - self.loop.time()
        return Found(document, life)

    def _mget(self, *names: str | bytes) -> list[bytes | None]:
        return [self._documents.get(_key(name)) for name in names]

    def _set(
        self, name: str, value: str, px: str, milliseconds: int, unless: str | None = None
    ) -> bool | None:
        assert px == "PX"
        if unless == "NX" and _key(name) in self._documents:
            return None
        # What a gateway writes has ``exp``, and expires then; unless it is a token's end.
        self.write(
            _key(name),
            value.encode(),
            exp_at=json.loads(value).get("exp", math.inf),
            expires_in_seconds=milliseconds / 1000,
        )
        return True

    def _delete(self, *names: str) -> int:
        for name in names:
            self.write(_key(name), None)
        return len(names)

    def wall(self) -> float:
        return self.loop.wall()


class Pipeline:
    """Commands that are carried out one after another, with nothing between them.

    A transaction is one only if nothing was written since ``watch``.
    """

    def __init__(self, redis: BoundRedis) -> None:
        self._redis = redis
        self._watched: int | None = None
        self._commands: list[tuple[Any, ...]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def watch(self, _: str) -> None:
        self._watched = self._redis.seq

    async def get(self, name: str) -> Any:
        return await self._redis.execute_command("GET", name)

    def multi(self) -> None: ...

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def set(self, name: str, value: str, *, px: int) -> None:
        self.execute_command("SET", name, value, "PX", px)

    async def execute(self) -> list[Any]:
        def perform() -> list[Any] | None:
            if self._watched is not None and self._watched != self._redis.seq:
                return None
            return [self._redis._perform(*command) for command in self._commands]

        answers: list[Any] | None = await self._redis._do(perform)
        if answers is None:
            raise WatchError
        return answers


class Connection:
    """A gateway's connection for the feed, in place of ``tracking.Tracking``.

    ``heard`` has the last write of each token that the gateway was told of; ``noticed_seconds``
    is the longest time until the gateway notices that it isn't told (by its pings).
    """

    def __init__(self, redis: BoundRedis, listener: Listener, *, noticed_seconds: float) -> None:
        self._redis = redis
        self._listener = listener
        self._noticed_seconds = noticed_seconds
        self._waiting: deque[tuple[int, TokenKey | None, float]] = deque()
        self._deadline: asyncio.TimerHandle | None = None
        self.is_open = False
        self.is_up = False
        self.is_dead = False
        self.holds = False
        self.heard: dict[TokenKey | None, int] = {}

    async def run(self) -> None:
        await asyncio.Event().wait()

    def connect(self) -> None:
        """Be told from now on; the gateway learns of it by ``up``."""
        self._redis.listening.append(self)
        self.is_open = True

    def up(self, *, relies_on_nothing: bool) -> None:
        self.is_up = True
        self._listener.up()
        if relies_on_nothing:
            self.heard = {None: self._redis.seq}
        self._deliver_soon()

    def push(self, key: TokenKey | None) -> None:
        """The store tells of a change."""
        if not self.is_dead:
            self._waiting.append((self._redis.seq, key, self._redis.loop.time()))
            self._deliver_soon()

    def swapped(self) -> None:
        """The store says nothing; the gateway asks for it as often as it pings."""
        if self.is_up:
            self._redis.loop.call_later(self._noticed_seconds, self._swap_noticed)

    def _swap_noticed(self) -> None:
        if self.is_up:
            self._listener.invalidated_all()
            self.heard = {None: self._redis.seq}

    def die(self) -> None:
        """Tell nothing more, and don't say so: a half-open connection."""
        self.is_dead = True
        self._waiting.clear()
        self._expect_within(self._noticed_seconds)

    def lose(self) -> None:
        """Be closed, or found dead; what wasn't told is never told."""
        self._redis.listening.remove(self)
        self._waiting.clear()
        self._expect_within(None)
        self.is_open = self.is_up = self.is_dead = False
        self._listener.down("on purpose")

    def deliver(self, most: int = 1000) -> None:
        """Tell the gateway what waits, the earliest first."""
        if self.is_dead:
            return
        for _ in range(min(most, len(self._waiting))):
            seq, key, _ = self._waiting.popleft()
            if key is None:
                self._listener.invalidated_all()
                self.heard = {None: seq}
            else:
                self._listener.invalidated([key])
                self.heard[key] = seq
        self._expect_within(None)
        if self._waiting and self.is_up:
            self._expect_within(
                self._waiting[0][2] + self._noticed_seconds - self._redis.loop.time()
            )

    def heard_of(self, key: TokenKey) -> int:
        """Return the last write that this gateway was told of, and that may have been a token's."""
        return max(self.heard.get(key, -1), self.heard.get(None, -1))

    def _deliver_soon(self) -> None:
        if not self.is_up or not self._waiting:
            return
        if not self.holds:
            self._redis.loop.call_soon(self._deliver_if_up)
        elif self._deadline is None:
            self._expect_within(self._noticed_seconds)

    def _deliver_if_up(self) -> None:
        if self.is_up:
            self.deliver()

    def _expect_within(self, seconds: float | None) -> None:
        # A ping's answer comes behind what waits, so what waits too long is a ping unanswered.
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self._redis.loop.call_later(max(0.0, seconds), self.lose)


def _key(name: str | bytes) -> TokenKey:
    name = name if isinstance(name, str) else name.decode()
    return TokenKey(bytes.fromhex(name.removeprefix(PREFIX)))
