"""Small fakes for the token path: a store that answers when the test says so, and a counter."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from gateway.tokens import TokenKey, token_key

Answers = list[bytes | None]


def document(**members: Any) -> bytes:
    """Return an introspection document: an active token's, but for what ``members`` say."""
    return json.dumps({"active": True, "client_id": "a", **members}).encode()


ACTIVE = document()


def keys(count: int) -> list[TokenKey]:
    """Return the keys of ``count`` tokens."""
    return [token_key(f"token-{number}") for number in range(count)]


class Command:
    """One ``get_many`` under way, which the test ends."""

    def __init__(self, asked: Sequence[TokenKey]) -> None:
        self.keys = list(asked)
        self._answers: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()

    @property
    def cancelled(self) -> bool:
        return self._answers.cancelled()

    def answer(self, *documents: bytes | None) -> None:
        """Answer with these documents, or with one for all."""
        self._answers.set_result(list(documents) * (len(self.keys) if len(documents) == 1 else 1))

    def fail(self, error: BaseException) -> None:
        self._answers.set_exception(error)

    def __await__(self) -> Any:
        return self._answers.__await__()


class ScriptedStore:
    """A ``get_many`` whose commands wait for the test.

    ``commands`` has all of them so far, ``sent`` yields each as it is sent.
    """

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.sent: asyncio.Queue[Command] = asyncio.Queue()

    async def get_many(self, asked: Sequence[TokenKey]) -> Answers:
        command = Command(asked)
        self.commands.append(command)
        self.sent.put_nowait(command)
        answers: Answers = await command
        return answers


class MemoryStore:
    """A ``get_many`` over a dict, which answers at the loop's next turn and counts commands."""

    def __init__(self, documents: dict[TokenKey, bytes] | None = None) -> None:
        self.documents = documents or {}
        self.commands: list[list[TokenKey]] = []
        self.failure: Exception | None = None

    async def get_many(self, asked: Sequence[TokenKey]) -> Answers:
        self.commands.append(list(asked))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return [self.documents.get(key) for key in asked]


class CountingMetrics:
    """``ValidatorMetrics`` that a test reads."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.failures = 0
        self.malformed = 0
        self.hits = 0
        self.negative_hits = 0
        self.misses = 0
        self.stale = 0

    def store_batch(self, size: int, seconds: float) -> None:  # noqa: ARG002 -- the protocol's
        self.batches.append(size)

    def store_failure(self) -> None:
        self.failures += 1

    def malformed_document(self) -> None:
        self.malformed += 1

    def cache_hit(self) -> None:
        self.hits += 1

    def cache_negative_hit(self) -> None:
        self.negative_hits += 1

    def cache_miss(self) -> None:
        self.misses += 1

    def served_stale(self) -> None:
        self.stale += 1
