"""A Redis of strings and hashes, to which each worker has a line that a test holds up or cuts.

What goes over a line is carried out command by command, when the test says so; who sent it may have
given up waiting by then. Keys expire by the loop's time.
"""

import asyncio
from typing import Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import WatchError
from virtual_loop import VirtualLoop

Command = tuple[Any, ...]


class StallingRedis:
    """Strings, hashes, and when each key expires."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.writes = 0
        self._values: dict[str, Any] = {}
        self._expiries: dict[str, float] = {}

    def value(self, name: str) -> Any:
        """Return a key's string (bytes) or hash (dict), ``None`` where there is none."""
        if self._expiries.get(name, float("inf")) <= self.loop.time():
            self._values.pop(name, None)
            self._expiries.pop(name, None)
        return self._values.get(name)

    def names(self) -> list[str]:
        """Return all keys."""
        return [name for name in list(self._values) if self.value(name) is not None]

    def perform(self, command: str, name: str | bytes, *rest: Any) -> Any:
        """Carry out a command."""
        name = _text(name)
        if command == "GET":
            return self.value(name)
        if command == "MGET":
            return [self.value(_text(each)) for each in (name, *rest)]
        if command == "HGETALL":
            return dict(self.value(name) or {})
        self.writes += 1
        if command == "SET":
            value, _, milliseconds, *unless = rest
            if unless == ["NX"] and self.value(name) is not None:
                return None
            self._values[name] = value.encode()
            self._expiries[name] = self.loop.time() + milliseconds / 1000
        elif command == "DEL":
            return int(self._values.pop(name, None) is not None)
        elif command == "HSET":
            fields = self.value(name) or {}
            self._values[name] = fields | dict(zip(rest[::2], rest[1::2], strict=True))
        elif command == "HDEL":
            for field in rest:
                (self.value(name) or {}).pop(field, None)
        else:
            assert command == "PEXPIRE"
            if self.value(name) is not None:
                self._expiries[name] = self.loop.time() + rest[0] / 1000
        return True


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode()


class Sent:
    """Commands on their way, some of which may have been carried out."""

    def __init__(self, redis: StallingRedis, commands: list[Command], watched: int | None) -> None:
        self._redis = redis
        self._commands = commands
        self._watched = watched
        self._answers: list[Any] = []
        self.answered: asyncio.Future[list[Any] | None] = redis.loop.create_future()

    def carry_out(self, count: int = 1_000) -> None:
        """Carry out some more; those of a transaction all or none."""
        if self._watched is not None:
            if not self._answers and self._watched == self._redis.writes:
                self._answers = [self._redis.perform(*command) for command in self._commands]
            self._commands = []
            return
        now, self._commands = self._commands[:count], self._commands[count:]
        self._answers += [self._redis.perform(*command) for command in now]

    def answer(self) -> None:
        """Carry out what is left, and answer whoever still waits."""
        transaction = self._watched is not None
        self.carry_out()
        if not self.answered.done():
            self.answered.set_result(None if transaction and not self._answers else self._answers)

    def cut(self) -> None:
        """Fail for whoever waits; what is left is still carried out some time."""
        if not self.answered.done():
            self.answered.set_exception(RedisConnectionError("on purpose"))


class Line:
    """A worker's way to the store: the part of redis-py's client that ``TokenStore`` uses here."""

    def __init__(self, redis: StallingRedis) -> None:
        self.redis = redis
        self.holds = False
        self.fails = False
        self.under_way: list[Sent] = []

    async def execute_command(self, *command: Any) -> Any:
        (answer,) = await self.send([command])
        return answer

    def pipeline(self, *, transaction: bool) -> "Pipeline":  # noqa: ARG002 -- by what is watched
        return Pipeline(self)

    async def send(self, commands: list[Command], watched: int | None = None) -> list[Any]:
        if self.fails:
            raise RedisConnectionError("on purpose")
        sent = Sent(self.redis, commands, watched)
        if self.holds:
            self.under_way.append(sent)
        else:
            self.redis.loop.call_soon(sent.answer)
        answers = await sent.answered
        if answers is None:
            raise WatchError
        return answers

    def release(self) -> None:
        """Let everything through that waits, and what comes."""
        self.holds = False
        under_way, self.under_way = self.under_way, []
        for sent in under_way:
            sent.answer()


class Pipeline:
    """Commands that go together."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._watched: int | None = None
        self._commands: list[Command] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def watch(self, _: str) -> None:
        self._watched = self._line.redis.writes

    async def get(self, name: str) -> Any:
        return await self._line.execute_command("GET", name)

    def multi(self) -> None: ...

    def set(self, name: str, value: str, *, px: int) -> None:
        self.execute_command("SET", name, value, "PX", px)

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self) -> list[Any]:
        return await self._line.send(self._commands, self._watched)
