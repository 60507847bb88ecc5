"""The synchronous Redis client: how it is opened, and what its failures become."""

from collections.abc import Iterator
from contextlib import contextmanager

import fakeredis
import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from gateway.errors import StoreUnavailable

log = structlog.stdlib.get_logger(__name__)


def open_client(
    url: str, *, connect_timeout_seconds: float = 1.0, timeout_seconds: float = 0.5
) -> Redis:
    """Return a client of ``redis://``, ``rediss://`` or ``unix://``, or of ``memory://``.

    The last is a Redis of its own, in memory. Nothing is connected before the first command,
    which then takes at most these time-outs.

    Raises:
        ValueError: a URL of another kind.
    """
    if url == "memory://":
        return fakeredis.FakeRedis(server=fakeredis.FakeServer())
    return Redis.from_url(
        url,
        socket_connect_timeout=connect_timeout_seconds,
        socket_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),  # redis-py's own retries hold a request for seconds
        protocol=2,  # with RESP3, redis-py looks up the host's name once more
    )


@contextmanager
def answering() -> Iterator[None]:
    """Turn every way in which Redis can fail into ``StoreUnavailable``.

    Neither the error nor the log has Redis' message, which may quote a command.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        log.warning("key manager's store unavailable", error=type(error).__name__)
        raise StoreUnavailable("The key manager's store can't be reached.") from None
