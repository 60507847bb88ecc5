"""Small fakes for the token path: a store that answers when the test says so, and a counter."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from clocks import FakeClock

from gateway.cache import FactsCache
from gateway.errors import StoreUnavailable
from gateway.lookups import FindMany, Lookups
from gateway.revocations import RevokedTokens
from gateway.tokens import Facts, Found, TokenKey, token_key
from gateway.validator import Validator

Answers = list[bytes | Found | None]
"""Documents; a ``Found`` says for how long the store keeps it."""
GetMany = Callable[[Sequence[TokenKey]], Awaitable[Sequence[bytes | Found | None]]]


def document(**members: Any) -> bytes:
    """Return an introspection document: an active token's, but for what ``members`` say."""
    return json.dumps({"active": True, "client_id": "a", **members}).encode()


ACTIVE = document()


def keys(count: int) -> list[TokenKey]:
    """Return the keys of ``count`` tokens."""
    return [token_key(f"token-{number}") for number in range(count)]


def found(get_many: GetMany) -> FindMany:
    """Return what a lookup asks, made of documents: the store keeps them for good."""

    async def find_many(asked: Sequence[TokenKey]) -> list[Found | None]:
        return [
            Found(answer) if isinstance(answer, bytes) else answer
            for answer in await get_many(asked)
        ]

    return find_many


class Command:
    """One ``get_many`` under way, which the test ends."""

    def __init__(self, asked: Sequence[TokenKey]) -> None:
        self.keys = list(asked)
        self._answers: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        return self._answers.done()

    @property
    def cancelled(self) -> bool:
        return self._answers.cancelled()

    def answer(self, *documents: bytes | Found | None) -> None:
        """Answer with these documents, or with one for all."""
        self._answers.set_result(list(documents) * (len(self.keys) if len(documents) == 1 else 1))

    def answer_exactly(self, documents: Answers) -> None:
        """Answer with these documents, however many were asked for."""
        self._answers.set_result(documents)

    def cancel(self) -> None:
        """End as a client library would that cancels itself."""
        self._answers.cancel()

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
        self.lives: dict[TokenKey, float] = {}
        self.commands: list[list[TokenKey]] = []
        self.failure: Exception | None = None

    async def get_many(self, asked: Sequence[TokenKey]) -> Answers:
        self.commands.append(list(asked))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return [self._found(key) for key in asked]

    def _found(self, key: TokenKey) -> bytes | Found | None:
        document = self.documents.get(key)
        life = self.lives.get(key)
        return document if document is None or life is None else Found(document, life)


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
        self.stale_accepts: list[str] = []
        self.exposures: list[float] = []

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

    def stale_accept(self, route: str) -> None:
        self.stale_accepts.append(route)

    def exposure(self, seconds: float) -> None:
        self.exposures.append(seconds)


class LookupBench:
    """Lookups with a scripted store, and what they kept."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.store = ScriptedStore()
        self.metrics = CountingMetrics()
        self.kept: list[tuple[TokenKey, Facts, float]] = []
        self.kept_for: list[float] = []
        self.lookups = self.make()
        self._finds: list[asyncio.Task[Facts]] = []

    def make(
        self,
        get_many: GetMany | None = None,
        *,
        timeout_seconds: float = 30,
        max_batch: int = 128,
        second_after_seconds: float = 0.0,
    ) -> Lookups:
        self.lookups = Lookups(
            found(get_many or self.store.get_many),
            keep=self._keep,
            clock=self.clock,
            metrics=self.metrics,
            timeout_seconds=timeout_seconds,
            max_batch=max_batch,
            second_after_seconds=second_after_seconds,
        )
        return self.lookups

    def _keep(self, key: TokenKey, facts: Facts, validated: float, life_seconds: float) -> None:
        self.kept.append((key, facts, validated))
        self.kept_for.append(life_seconds)

    async def busy(self, key: TokenKey) -> Command:
        """Start a command that the test has to end."""
        self._finds = [*self._finds, self.find(key)]
        return await self.store.sent.get()

    def find(self, key: TokenKey, max_age: float = float("inf")) -> asyncio.Task[Facts]:
        return asyncio.create_task(self.lookups.find(key, max_age))


async def turns(count: int = 5) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def outcome(task: Coroutine[Any, Any, Facts] | asyncio.Task[Facts]) -> Facts | str:
    try:
        return await task
    except StoreUnavailable as error:
        return error.outcome


class ValidatorBench:
    """A validator over a store in memory, and what it counted."""

    def __init__(self, clock: FakeClock, documents: dict[TokenKey, bytes]) -> None:
        self.clock = clock
        self.store = MemoryStore(documents)
        self.metrics = CountingMetrics()
        self.validator = self.make()

    def make(
        self,
        get_many: GetMany | None = None,
        *,
        max_age_seconds: float = 900.0,
        stale_seconds: float = 0.0,
        max_entries: int = 100,
        timeout_seconds: float = 30.0,
        evicts: bool = False,
    ) -> Validator:
        self.revoked = RevokedTokens(
            max_age_seconds=max_age_seconds, clock=self.clock, metrics=self.metrics
        )
        self.validator = Validator(
            found(get_many or self.store.get_many),
            cache=FactsCache(
                max_age_seconds=max_age_seconds,
                stale_seconds=stale_seconds,
                max_entries=max_entries,
                clock=self.clock,
                left=self.revoked.left,
            ),
            negative_cache=FactsCache(max_age_seconds=1.0, max_entries=2, clock=self.clock),
            clock=self.clock,
            metrics=self.metrics,
            timeout_seconds=timeout_seconds,
            revoked=self.revoked,
            evicts=evicts,
        )
        return self.validator

    @property
    def commands(self) -> int:
        return len(self.store.commands)
