"""Workers that share a store which stalls and fails, before a key manager that knows the truth.

What is recorded is never more than the key manager's introspection would say. After a 2xx to a
revocation, nothing that any worker still holds brings the token back (decisions 0003 and 0016).
"""

import asyncio
import json
import math
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from clocks import FakeClock
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from stalling_redis import Line, StallingRedis
from virtual_loop import VirtualLoop

from gateway.client_authentication import RequestClient
from gateway.errors import StoreUnavailable
from gateway.issued import read_issued
from gateway.oauth_messages import Answer, Parameters
from gateway.recording import HELD_SECONDS, Recorder
from gateway.store import TokenStore
from gateway.tokens import TokenKey, token_key

WORKERS = 3
STORE_SECONDS = 0.625  # a multiple of 5/16: a time-out waits in five slices
RETRY_SECONDS = 8.0
"""Longer than a gateway's own, of which an hour would have too many."""
CLIENTS = ("app", "shop")

workers = st.integers(0, WORKERS - 1)
clients = st.sampled_from(CLIENTS)
which = st.integers(0, 7)
lives = st.sampled_from([300, 100_000])
amounts = st.sampled_from([1 / 16, 11 / 16, 9 / 8, 5.0, 9.0, 70.0])
pauses = st.sampled_from([1 / 16, 9 / 8, 70.0, math.inf])
scopes = st.sampled_from(["", "read", "read write"])
skews = st.lists(st.sampled_from([-4.0, 0.0, 4.0]), min_size=WORKERS, max_size=WORKERS)


@dataclass(slots=True)
class Grant:
    """A grant, as the key manager has it."""

    client_id: str
    scope: str
    ended: bool = False
    refresh: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Access:
    """An access token, as the key manager has it; ``near`` are the refresh tokens it came by."""

    grant: Grant
    client_id: str
    scope: str
    exp: float
    near: frozenset[str] = frozenset()
    revoked: bool = False

    @property
    def active(self) -> bool:
        return not self.revoked and not self.grant.ended


class KeyManager:
    """Rotates refresh tokens, lets used ones pass, and answers 200 to what isn't the client's."""

    def __init__(self, clock: FakeClock) -> None:
        self.access: dict[str, Access] = {}
        self.refresh: dict[str, Grant] = {}
        self._clock = clock
        self._count = 0

    def issue(self, client_id: str, scope: str, life: int, *, refreshes: bool) -> Answer:
        return self._answer(Grant(client_id, scope), scope, life, used=None, rotates=refreshes)

    def use(self, refresh_token: str, life: int, *, rotates: bool) -> Answer | None:
        grant = self.refresh[refresh_token]
        if grant.ended:
            return None
        return self._answer(grant, grant.scope, life, used=refresh_token, rotates=rotates)

    def _answer(
        self, grant: Grant, scope: str, life: int, *, used: str | None, rotates: bool
    ) -> Answer:
        self._count += 1
        access, refresh = f"access-{self._count}", f"refresh-{self._count}"
        members: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": life,
        }
        if scope:
            members["scope"] = scope
        near = {used} if used else set()
        if rotates:
            members["refresh_token"] = refresh
            self.refresh[refresh] = grant
            grant.refresh.append(refresh)
            near.add(refresh)
        exp = self._clock.wall() + life
        self.access[access] = Access(grant, grant.client_id, scope, exp, frozenset(near))
        return Answer(200, "OK", [], json.dumps(members).encode())

    def revoke(self, token: str, client_id: str) -> bool:
        """Return whether anything came of it: the answer is 200 in any case (RFC 7009 §2.2)."""
        access, grant = self.access.get(token), self.refresh.get(token)
        owner = access.client_id if access else grant.client_id if grant else None
        if owner != client_id:
            return False
        if access:
            access.revoked = True
        elif grant:
            grant.ended = True
        return True


class SkewedClock:
    """A worker's clock: its wall clock differs from others'."""

    def __init__(self, clock: FakeClock, ahead_seconds: float) -> None:
        self.monotonic = clock.monotonic
        self._clock = clock
        self._ahead_seconds = ahead_seconds

    def wall(self) -> float:
        return self._clock.wall() + self._ahead_seconds


class Known:
    """What a worker has cached is another test's matter."""

    def forget(self, key: TokenKey) -> None: ...
    def revoking(self, key: TokenKey) -> None: ...
    def revoke(self, key: TokenKey, *, since: float) -> None: ...


class Uncounted:
    def token_recorded(self, result: str) -> None: ...
    def tokens_revoked(self, count: int) -> None: ...
    def store_failure(self, command: str) -> None: ...
    def foreign_revocation(self) -> None: ...


class Worker:
    """What a worker does with the answers of the key manager."""

    def __init__(self, redis: StallingRedis, clock: FakeClock, ahead_seconds: float) -> None:
        self.clock = SkewedClock(clock, ahead_seconds)
        self.line = Line(redis)
        self.store = TokenStore(self.line, timeout_seconds=STORE_SECONDS)  # type: ignore[arg-type]
        self.recorder = Recorder(
            self.store,
            known=Known(),
            metrics=Uncounted(),
            clock=self.clock,
            sleep=lambda _: redis.loop.pause(RETRY_SECONDS),
        )

    async def record(
        self, answer: Answer, parameters: Parameters, client_id: str, sent_at: float
    ) -> None:
        issued = read_issued(
            answer,
            parameters=parameters,
            client=RequestClient(client_id, frozenset({client_id})),
            now_at=sent_at,
            default_expires_in_seconds=60,
        )
        await self.recorder.record(issued)


@dataclass(slots=True)
class Pending:
    """An answer of the key manager that hasn't reached its worker."""

    worker: Worker
    recording: Coroutine[Any, Any, None]


class RevocationMachine(RuleBasedStateMachine):
    """What may happen, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.loop = VirtualLoop(self.clock)
        self.redis = StallingRedis(self.loop)
        self.key_manager = KeyManager(self.clock)
        self.workers: list[Worker] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.pending: list[Pending] = []
        self.gone: set[str] = set()  # access tokens that a 2xx said are gone
        self.ending: set[str] = set()  # ... or that are to follow, from whom that isn't known yet
        self.may_be_lost: set[str] = set()
        self.wrong: list[str] = []

    @initialize(
        ahead=st.lists(st.sampled_from([-4.0, 0.0, 4.0]), min_size=WORKERS, max_size=WORKERS)
    )
    def begin(self, ahead: list[float]) -> None:
        self.workers = [Worker(self.redis, self.clock, seconds) for seconds in ahead]

    def teardown(self) -> None:
        try:
            for pending in self.pending:
                pending.recording.close()
            for worker in self.workers:
                worker.line.fails = True
                worker.line.release()
                self.loop.finish(worker.recorder.close())
        finally:
            self.loop.end()

    # What clients do

    @rule(
        worker=workers,
        client=clients,
        scope=scopes,
        life=lives,
        refreshes=st.booleans(),
        late=st.booleans(),
    )
    def sign_in(
        self, worker: int, client: str, scope: str, life: int, refreshes: bool, late: bool
    ) -> None:
        at = self.workers[worker]
        answer = self.key_manager.issue(client, scope, life, refreshes=refreshes)
        # The request asks for more than is granted.
        parameters = {"grant_type": ["client_credentials"], "scope": ["read write admin"]}
        self._receive(at, answer, parameters, client, late)

    @precondition(lambda self: self.key_manager.refresh)
    @rule(worker=workers, index=which, life=lives, rotates=st.booleans(), late=st.booleans())
    def refresh(self, worker: int, index: int, life: int, rotates: bool, late: bool) -> None:
        refresh_token = self._pick(list(self.key_manager.refresh), index)
        client = self.key_manager.refresh[refresh_token].client_id
        answer = self.key_manager.use(refresh_token, life, rotates=rotates)
        if answer is not None:
            parameters = {"grant_type": ["refresh_token"], "refresh_token": [refresh_token]}
            self._receive(self.workers[worker], answer, parameters, client, late)

    @precondition(lambda self: self.pending)
    @rule(index=which)
    def deliver(self, index: int) -> None:
        pending = self.pending.pop(index % len(self.pending))
        self._spawn(pending.recording)

    @precondition(lambda self: self.key_manager.access)
    @rule(worker=workers, index=which, client=st.none() | clients)
    def revoke_access(self, worker: int, index: int, client: str | None) -> None:
        self._begin_to_revoke(worker, self._pick(list(self.key_manager.access), index), client)

    @precondition(lambda self: self.key_manager.refresh)
    @rule(worker=workers, index=which, client=st.none() | clients)
    def revoke_refresh(self, worker: int, index: int, client: str | None) -> None:
        self._begin_to_revoke(worker, self._pick(list(self.key_manager.refresh), index), client)

    @rule(
        holder=workers,
        other=workers,
        client=clients,
        how=st.sampled_from(["access", "refresh", "first"]),
        refreshed=st.booleans(),
        fails=st.booleans(),
        pause=pauses,
    )
    def issue_into_a_stall(
        self,
        holder: int,
        other: int,
        client: str,
        how: str,
        refreshed: bool,
        fails: bool,
        pause: float,
    ) -> None:
        """What is likely to matter: tokens are revoked elsewhere while one worker holds them."""
        self.stall(holder, fails)
        self.sign_in(holder, client, "read", 100_000, refreshes=True, late=False)
        first = list(self.key_manager.refresh)[-1]
        if refreshed:
            self.refresh(holder, 0, 100_000, rotates=True, late=False)
        if fails:
            self.advance(9 / 8)
        token = first if how == "first" else list(getattr(self.key_manager, how))[-1]
        self._begin_to_revoke(other, token, None)
        if pause == math.inf:
            self.advance_far(3)
        else:
            self.advance(pause)
        self.recover(holder)
        self.advance(RETRY_SECONDS)

    @rule(worker=workers, other=workers, client=clients)
    def revoke_anothers(self, worker: int, other: int, client: str) -> None:
        """A client revokes a token that was issued to another; the key manager says 200."""
        self.sign_in(worker, client, "read", 100_000, refreshes=True, late=False)
        (another,) = set(CLIENTS) - {client}
        self._begin_to_revoke(other, list(self.key_manager.access)[-1], another)

    def _receive(
        self, at: Worker, answer: Answer, parameters: Parameters, client: str, late: bool
    ) -> None:
        recording = at.record(answer, parameters, client, at.clock.wall())
        if late:
            self.pending.append(Pending(at, recording))
        else:
            self._spawn(recording)

    def _begin_to_revoke(self, worker: int, token: str, client: str | None) -> None:
        access, grant = self.key_manager.access.get(token), self.key_manager.refresh.get(token)
        owner = access.client_id if access else grant.client_id if grant else ""
        client = owner if client is None else client
        self.key_manager.revoke(token, client)
        self._spawn(self._revoke(self.workers[worker], token, client, is_own=client == owner))

    async def _revoke(self, at: Worker, token: str, client: str, *, is_own: bool) -> None:
        near = self._near(token)
        if not is_own and not near <= self._good():
            self.may_be_lost |= self._followers(token)  # whose it is, is nowhere to be seen
        try:
            await at.recorder.revoke([token_key(token)], by=frozenset({client}))
        except StoreUnavailable:
            return  # 503: the client knows that it isn't done
        if is_own:
            self.gone |= near
            followers = self._followers(token)
            if not followers & self.may_be_lost:
                self.ending |= followers

    def _near(self, token: str) -> set[str]:
        """Return the access tokens that a revocation ends at once, whoever has noted what."""
        if token in self.key_manager.access:
            return {token}
        noted = self._noted(token_key(token).hex())
        return {
            access
            for access, known in self.key_manager.access.items()
            if token in known.near or token_key(access).hex() in noted
        }

    def _noted(self, digest: str) -> set[str]:
        """Return what the store has in the grant of a refresh token."""
        noted: set[str] = set()
        seen: set[str] = set()
        while digest and digest not in seen:
            seen.add(digest)
            fields = self.redis.value(f"token:grant:{digest}") or {}
            noted |= fields.keys()
            digest = fields.get("family", "")
        return noted

    def _followers(self, token: str) -> set[str]:
        if token in self.key_manager.access:
            return {token}
        grant = self.key_manager.refresh[token]
        return {name for name, known in self.key_manager.access.items() if known.grant is grant}

    # What must hold

    def _documents(self) -> dict[str, dict[str, Any]]:
        found = {}
        for access in self.key_manager.access:
            value = self.redis.value(f"token:{token_key(access).hex()}")
            members = json.loads(value or '{"active":false}')
            if members["active"] and members["exp"] > self.clock.wall():
                found[access] = members
        return found

    def _good(self) -> set[str]:
        return set(self._documents())

    def _judge(self) -> None:
        for access, members in self._documents().items():
            truth = self.key_manager.access[access]
            if access in self.gone:
                self.wrong.append(f"{access} is back after a 2xx")
            if not set(members.get("scope", "").split()) <= set(truth.scope.split()):
                self.wrong.append(f"{access} has more scope than was granted")
            if members.get("client_id") not in {None, truth.client_id}:
                self.wrong.append(f"{access} has another client")
            if members["exp"] > truth.exp + 4:
                self.wrong.append(f"{access} lasts longer than the key manager said")
        assert not self.wrong, self.wrong

    @rule()
    def come_to_rest(self) -> None:
        """Everything gets through: what ended is gone, and what is good is there."""
        while self.pending:
            self.deliver(0)
        for worker in range(WORKERS):
            self.recover(worker)
        for _ in range(4):
            self.advance(RETRY_SECONDS)
        good = self._good()
        back = good & self.ending
        assert not back, f"{back} were to follow, and are still there"
        now_at = self.clock.wall()
        missing = {
            access
            for access, known in self.key_manager.access.items()
            if known.active and known.exp > now_at + 8 and access not in good | self.may_be_lost
        }
        assert not missing, f"{missing} are good, and nobody has them"

    # What happens

    @rule(worker=workers, fails=st.booleans())
    def stall(self, worker: int, fails: bool) -> None:
        line = self.workers[worker].line
        line.holds, line.fails = not fails, fails

    @rule(worker=workers)
    def recover(self, worker: int) -> None:
        line = self.workers[worker].line
        line.fails = False
        line.release()
        self._settle()

    @precondition(lambda self: any(worker.line.under_way for worker in self.workers))
    @rule(index=which, count=st.integers(1, 4), then=st.sampled_from(["wait", "answer", "cut"]))
    def carry_out(self, index: int, count: int, then: str) -> None:
        sent = self._pick(
            [sent for worker in self.workers for sent in worker.line.under_way], index
        )
        sent.carry_out(count)
        if then == "answer":
            sent.answer()
        elif then == "cut":
            sent.cut()
        self._settle()

    @rule(seconds=amounts)
    def advance(self, seconds: float) -> None:
        self.loop.advance(seconds)
        self._settle()

    @rule(hours=st.sampled_from([1, 3]))
    def advance_far(self, hours: int) -> None:
        """Longer than any connection holds what is sent, and than a worker what it can't write."""
        while self.pending:
            self.deliver(0)
        for worker in self.workers:
            for sent in worker.line.under_way:
                sent.carry_out()
        self._settle()
        good = self._good()
        self.may_be_lost |= set(self.key_manager.access) - good
        # Who alone knew that these belong to what was revoked knows it too late, or no more.
        self.ending -= good
        self.advance(hours * HELD_SECONDS)

    @staticmethod
    def _pick(among: list[Any], index: int) -> Any:
        return among[-1 - index % len(among)]  # what is new matters most

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(self.loop.create_task(coroutine))
        self._settle()

    def _settle(self) -> None:
        self.loop.settle()
        for task in self.tasks:
            if task.done():
                task.result()
        self.tasks = [task for task in self.tasks if not task.done()]
        self._judge()
