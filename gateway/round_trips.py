"""What the store needs of Redis in one round trip, where redis-py has no way or a dear one.

Values with the lives of their keys: a pipeline of redis-py's costs eight microseconds for each
answer, this one less than one. And commands to a Cluster whose slots are moving: redis-py sends
``ASKING`` on one connection and the command it is for on another, until it gives up.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode, PipelineCommand
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)

NOT_THERE = -2
"""What ``PTTL`` answers where there is no key."""
FOR_EVER = -1
"""What it answers where the key doesn't expire."""

Command = tuple[Any, ...]
Values = list[Any]
Lives = list[int] | None
"""What ``PTTL`` answered, in milliseconds, or ``None`` where it isn't permitted."""


async def values_and_lives(client: Redis, names: Sequence[bytes]) -> tuple[Values, Lives]:
    """Return the value of each key, ``None`` where there is none, and what ``PTTL`` says of it.

    The value is read first: where it was replaced in between, its life is that of the next.
    """
    request = [_request(names)]
    pool = client.connection_pool
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        # As redis-py's own commands: what is found dead is connected anew, once.
        answers = await connection.retry.call_with_retry(
            lambda: _exchange(connection, request, 1 + len(names)),
            lambda _: connection.disconnect(),
        )
    finally:
        await pool.release(connection)
    return _split([answers[0]], answers[1:])


async def cluster_values_and_lives(
    client: RedisCluster, names: Sequence[bytes]
) -> tuple[Values, Lives]:
    """Return the same of a Cluster's keys, each asked for by itself: slots may be moving."""
    count = len(names)
    # MGET, because GET is refused where a key holds no string.
    commands = [(command, name) for name in names for command in ("MGET", "PTTL")]
    try:
        answers = await _of_nodes(client, names)
        raise_first([one for one in answers if isinstance(one, RedisCluster.ERRORS_ALLOW_RETRY)])
    except RedisCluster.ERRORS_ALLOW_RETRY:
        answers = await run_in_cluster(client, commands)  # looks at the Cluster anew
    else:
        await _follow(client, commands, answers)
    assert len(answers) == 2 * count
    return _split(answers[::2], answers[1::2])


async def _of_nodes(client: RedisCluster, names: Sequence[bytes]) -> list[Any]:
    """Return what the masters that are known to have keys answer to MGET and PTTL of each."""
    await client.initialize()
    places: dict[ClusterNode, list[int]] = {}
    for place, name in enumerate(names):
        node = client.get_node_from_key(name.decode())
        if node is None:
            raise SlotNotCoveredError
        places.setdefault(node, []).append(place)
    found = await asyncio.gather(
        *(_of_node(node, [names[place] for place in at]) for node, at in places.items()),
        return_exceptions=True,  # none is left alone on its way
    )
    for some in found:
        if isinstance(some, BaseException):
            raise some
    answers: list[Any] = [None] * (2 * len(names))
    for at, some in zip(places.values(), found, strict=True):
        assert not isinstance(some, BaseException)
        for number, place in enumerate(at):
            answers[2 * place : 2 * place + 2] = some[2 * number : 2 * number + 2]
    return answers


async def _of_node(node: ClusterNode, names: Sequence[bytes]) -> list[Any]:
    keys = [b"$%d\r\n%b\r\n" % (len(name), name) for name in names]
    request = b"".join(
        b"*2\r\n$4\r\nMGET\r\n" + key + b"*2\r\n$4\r\nPTTL\r\n" + key for key in keys
    )
    connection = node.acquire_connection()
    try:
        return await _exchange(connection, [request], 2 * len(names))
    finally:
        node.release(connection)


async def run_in_cluster(client: RedisCluster, commands: Sequence[Command]) -> list[Any]:
    """Return the answers to commands of one key each, errors among them.

    A slot that is half migrated is asked for where it is to go, and one that has moved is
    followed, one command after another: those are few.
    """
    answers = await _in_one(client, commands)
    if any(isinstance(answer, RedisCluster.ERRORS_ALLOW_RETRY) for answer in answers):
        # As redis-py's own pipelines: it looks at the Cluster anew, once.
        await client.aclose()
        answers = await _in_one(client, commands)
    await _follow(client, commands, answers)
    return answers


async def _follow(client: RedisCluster, commands: Sequence[Command], answers: list[Any]) -> None:
    """Ask again where an answer says that another server has the slot, or is to have it."""
    for number, answer in enumerate(answers):
        if isinstance(answer, AskError | MovedError | TryAgainError):
            answers[number] = await _redirected(client, commands[number], answer)


def raise_first(answers: Sequence[Any]) -> None:
    """Raise the first error among answers."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer


async def _in_one(client: RedisCluster, commands: Sequence[Command]) -> list[Any]:
    pipe = client.pipeline()
    for command in commands:
        pipe.execute_command(*command)
    return await pipe.execute(raise_on_error=False, allow_redirections=False)


async def _redirected(client: RedisCluster, command: Command, error: RedisError) -> Any:
    try:
        if not isinstance(error, AskError):
            # It follows what has moved, and learns from it.
            return await client.execute_command(*command)
        node = client.get_node(host=error.host, port=error.port)
        if node is None:
            return error
        # On one connection: ASKING is for the next command on the same.
        asking, asked = PipelineCommand(0, "ASKING"), PipelineCommand(1, *command)
        await node.execute_pipeline([asking, asked])
    except (ResponseError, ClusterError) as another:
        return another
    return asked.result


async def _exchange(
    connection: AbstractConnection, request: Sequence[bytes], count: int
) -> list[Any]:
    await connection.send_packed_command(request)
    answers: list[Any] = []
    while len(answers) < count:
        try:
            # Without a time-out for each: the caller has one for all.
            answers.append(await connection.read_response(timeout=math.inf))
        except ResponseError as error:  # the next answers are still to be read
            answers.append(error)
    return answers


def _request(names: Sequence[bytes]) -> bytes:
    """Return MGET of all, and PTTL of each, as they are sent."""
    keys = [b"$%d\r\n%b\r\n" % (len(name), name) for name in names]
    return b"".join(
        [
            b"*%d\r\n$4\r\nMGET\r\n" % (1 + len(keys)),
            *keys,
            *(b"*2\r\n$4\r\nPTTL\r\n" + key for key in keys),
        ]
    )


def _split(found: Sequence[Any], lives: Sequence[Any]) -> tuple[Values, Lives]:
    raise_first(found)
    values = [value for some in found for value in some]
    if any(isinstance(life, NoPermissionError) for life in lives):
        return values, None
    raise_first(lives)
    return values, list(lives)
