"""Several gateways on one store, with whatever may happen to them, and what must hold all the time.

What a gateway promises is computed by ``gateway.bound``, as ``gateway_revocation_bound_seconds``
shows it and ``docs/revocation.md`` derives it; what is true is known by the store alone.
All times are multiples of 1/16 s, which floating point holds exactly.
"""

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from bound_gateway import NEGATIVE_SECONDS, TestedGateway
from bound_redis import BoundRedis
from clocks import FakeClock
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from scripted import document
from virtual_loop import VirtualLoop

from gateway.bound import max_age_of, promised_bounds
from gateway.errors import StoreUnavailable
from gateway.issued import Issued
from gateway.settings import Settings
from gateway.tokens import TokenKey, token_key

TOKENS = [token_key(f"token-{number}") for number in range(3)]
LOOKUP_SECONDS = 0.625  # a multiple of 5/16: a time-out waits in five slices
GATEWAYS = 2

gateways = st.integers(0, GATEWAYS - 1)
tokens = st.sampled_from(TOKENS)
routes = st.sampled_from([0, 0, 1, 1, 2])
which = st.integers(0, 5)
lives = st.sampled_from([1, 3, 10, 1000])
endings = st.sampled_from(["DEL", "inactive", *range(GATEWAYS), "FLUSHALL", "SWAPDB"])
steps = st.sampled_from([-1000, -5, -1, 1, 5, 1000])
amounts = st.sampled_from([1 / 16, 1 / 4, 9 / 16, 1.0, 1.75, 2.5, 5.75])
orders = st.sampled_from(
    [("carry out", "end", "wait"), ("wait", "carry out", "end"), ("end", "carry out", "wait")]
)
gaps = st.lists(amounts, min_size=1, max_size=4)


def settings(*, evicts: bool, stale_seconds: float) -> Settings:
    """Return settings with a route for each kind of max age."""
    return Settings.model_validate(
        {
            "store": {"timeout": f"{LOOKUP_SECONDS * 1000:g}ms"},
            "cache": {"max_age": "6s", "stale_if_error": f"{stale_seconds:g}s"},
            "revocation": {"on_revoke": "evict" if evicts else "lapse"},
            "routes": [
                {"path": "/usual", "upstream": "http://h"},
                {"path": "/short", "upstream": "http://h", "max_age": "2s"},
                {"path": "/fresh", "upstream": "http://h", "max_age": "0s"},
            ],
        }
    )


@dataclass(slots=True)
class Use:
    """A request while its token is being validated: what was known when it came."""

    gateway: "TestedGateway"
    key: TokenKey
    route: int
    began: float
    heard: int  # the last write of this token that the gateway had been told of by its feed
    issued: int  # the last write by which this gateway issued it
    revoked: int  # ... or revoked it, where revocations evict


class BoundMachine(RuleBasedStateMachine):
    """What may happen, in any order; each accepted and each refused request is judged."""

    examples = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.clock = FakeClock()
        self.loop = VirtualLoop(self.clock)
        self.redis = BoundRedis(self.loop)
        self.gateways: list[TestedGateway] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.wrong: list[str] = []

    @initialize(
        evicts=st.booleans(),
        stale_seconds=st.sampled_from([0, 0, 2]),
        entries=st.sampled_from([2, 9]),
        tells_expiry_after=st.sampled_from([0.0, 5.75, math.inf, math.inf]),
    )
    def begin(
        self, evicts: bool, stale_seconds: float, entries: int, tells_expiry_after: float
    ) -> None:
        self.redis.tells_expiry_after = tells_expiry_after
        self.settings = settings(evicts=evicts, stale_seconds=stale_seconds)
        self.bounds = list(promised_bounds(self.settings).values())
        self.max_ages = [max_age_of(self.settings, route) for route in self.settings.routes]
        for _ in range(GATEWAYS):
            gateway = TestedGateway(self.redis, self.clock, self.settings, entries)
            self.gateways.append(gateway)
            self.loop.finish(gateway.start())
            gateway.connection.connect()
            gateway.connection.up(relies_on_nothing=evicts)
        self.settle()

    def settle(self) -> None:
        """Run what is ready, and fail where a request was judged wrongly."""
        self.loop.settle()
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.result()
        self.tasks = [task for task in self.tasks if not task.done()]
        assert not self.wrong, self.wrong

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(self.loop.create_task(coroutine))
        self.settle()

    def teardown(self) -> None:
        try:
            self.redis.holds, self.redis.fails = False, True
            for gateway in self.gateways:
                self.loop.finish(gateway.stop())
        finally:
            self.loop.end()

    # What clients do

    @rule(gateway=gateways, key=tokens, route=routes)
    def use(self, gateway: int, key: TokenKey, route: int) -> None:
        at = self.gateways[gateway]
        use = Use(
            at,
            key,
            route,
            began=self.loop.time(),
            heard=at.connection.heard_of(key),
            issued=at.issued.get(key, -1),
            revoked=at.revoked.get(key, -1),
        )
        self.spawn(self.request(use))

    @rule(key=tokens, route=routes)
    def use_everywhere(self, key: TokenKey, route: int) -> None:
        # On one route: what another learns would hide what this one still relies on.
        for gateway in range(GATEWAYS):
            self.use(gateway, key, route)

    async def request(self, use: Use) -> None:
        validator = use.gateway.validator
        try:
            facts = await validator.validate(use.key, self.max_ages[use.route])
        except StoreUnavailable:
            self.judge_failure(use)
            return
        if facts.active:
            validator.accepted(use.key, str(use.route))
            self.judge_acceptance(use, facts.exp)
            if facts.client_id != use.key.hex():
                self.wrong.append(f"the facts of another token: {use}")
        else:
            self.judge_refusal(use)

    @precondition(lambda self: self.tasks)
    @rule(index=which)
    def give_up(self, index: int) -> None:
        self.tasks.pop(index % len(self.tasks)).cancel()
        self.settle()

    # What must hold

    def judge_acceptance(self, use: Use, exp: float | None) -> None:
        good_seq, good_at = self.redis.last_good(use.key)
        if good_at == -math.inf:
            self.wrong.append(f"accepted a token that never was: {use}")
        if self.loop.time() - good_at > self.bounds[use.route]:
            self.wrong.append(f"accepted {self.loop.time() - good_at} s after its end: {use}")
        # What is found holds while it is waited for: that is in the bound of DEL too.
        since = max(use.heard, use.revoked) if use.gateway.evicts else -1
        if self.loop.time() > self.redis.last_key_end(use.key, since) + LOOKUP_SECONDS:
            self.wrong.append(f"accepted after its key had expired: {use}")
        if exp is not None and self.clock.wall() >= exp:
            self.wrong.append(f"accepted beyond exp: {use}")
        if use.gateway.evicts and good_seq < max(use.heard, use.revoked):
            self.wrong.append(f"accepted although its end had been heard of: {use}")

    def judge_refusal(self, use: Use) -> None:
        bad_seq, bad_at = self.redis.last_bad(use.key)
        max_age = self.max_ages[use.route]
        # What is cached, or a lookup under way that may have been answered at once.
        window = max(min(max_age, NEGATIVE_SECONDS), min(max_age, LOOKUP_SECONDS))
        if bad_seq < use.heard:
            window = 0.0 if use.gateway.evicts else min(max_age, LOOKUP_SECONDS)
        if bad_seq < use.issued:
            window = 0.0
        if bad_at < use.began - window or (window == 0.0 and bad_seq < max(use.heard, use.issued)):
            self.wrong.append(f"refused, good since {use.began - bad_at} s: {use}")

    def judge_failure(self, use: Use) -> None:
        failed = use.gateway.failed.get(use.key, -math.inf) >= use.began
        if not failed and self.loop.time() < use.began + LOOKUP_SECONDS:
            self.wrong.append(f"the store was said to be unavailable: {use}")

    # What happens to tokens

    @rule(key=tokens, life=st.none() | lives, px=st.none() | lives)
    def write(self, key: TokenKey, life: float | None, px: float | None) -> None:
        """The key manager issues a token, or writes one anew; its key may expire before ``exp``."""
        members: dict[str, Any] = {"client_id": key.hex()}
        exp_at = math.inf
        if life is not None:
            exp_at = members["exp"] = self.clock.wall() + life
        self.redis.write(key, document(**members), exp_at=exp_at, expires_in_seconds=px)
        self.settle()

    @rule(key=tokens, px=st.none() | lives)
    def change_life(self, key: TokenKey, px: float | None) -> None:
        """Someone gives a token's key another life, or none that ends."""
        self.redis.expire(key, px)
        self.settle()

    @rule(seconds=steps)
    def set_wall_clock(self, seconds: float) -> None:
        """The gateways' wall clock is set; no other clock is."""
        self.redis.set_wall_clock(self.clock, seconds)

    @rule(gateway=gateways, key=tokens, life=lives, used=st.none() | routes)
    def issue(self, gateway: int, key: TokenKey, life: int, used: int | None) -> None:
        """A token passes a gateway's token endpoint; someone may have tried it before."""
        if used is not None:
            self.use(gateway, key, used)
        exp = math.ceil(self.clock.wall()) + life
        issued = Issued(key, int(self.clock.wall()), exp, client_id=key.hex())
        self.spawn(self.gateways[gateway].issue(issued))
        if used is not None:
            self.use(gateway, key, used)

    @rule(key=tokens, how=endings)
    def end(self, key: TokenKey, how: str | int) -> None:
        """A token ends: by the hands of anyone, or of a gateway."""
        if isinstance(how, int):
            self.spawn(self.gateways[how].revoke(key))
        elif how == "DEL":
            self.redis.write(key, None)
        elif how == "FLUSHALL":
            self.redis.clear()
        elif how == "SWAPDB":
            self.redis.swap()
        else:
            self.redis.write(key, b'{"active": false}')
        self.settle()

    @rule(key=tokens, route=routes, how=endings, gaps=gaps)
    def end_and_use(self, key: TokenKey, route: int, how: str | int, gaps: list[float]) -> None:
        """What is likely to matter: a token in use ends, and goes on being used."""
        if not self.redis.is_good(key):
            self.write(key, None, px=None)
        self.use_everywhere(key, route)
        self.end(key, how)
        for gap in gaps:
            self.advance(gap)
            self.use_everywhere(key, route)

    @rule(
        key=tokens,
        route=routes,
        life=st.sampled_from([1, 3]),
        way=st.sampled_from(["exp", "key", "key", "both", "clock"]),
        gaps=gaps,
    )
    def expire(self, key: TokenKey, route: int, life: float, way: str, gaps: list[float]) -> None:
        """A token in use comes to its end, by its ``exp``, its key or the clock, and is used on."""
        exp_in = {"exp": life, "key": None, "both": life, "clock": life + 500}[way]
        self.write(key, exp_in, px=life if way in {"key", "both"} else None)
        for pause in (life - 1 / 16, 1 / 16, 1 / 16):
            self.use_everywhere(key, route)
            self.advance(pause)
        if way == "clock":
            self.set_wall_clock(500)
        for pause in (*gaps, 1 / 16):
            self.advance(pause)
            self.use_everywhere(key, route)

    @rule(key=tokens, route=routes, how=endings, says_so=st.booleans(), gap=amounts, more=amounts)
    def end_unheard(
        self, key: TokenKey, route: int, how: str | int, says_so: bool, gap: float, more: float
    ) -> None:
        """A token in use ends while the feed is lost, which comes back."""
        if not self.redis.is_good(key):
            self.write(key, None, px=None)
        self.use_everywhere(key, route)
        for gateway in range(GATEWAYS):
            self.lose_feed(gateway, says_so)
        self.end(key, how)
        self.advance(gap)
        self.use_everywhere(key, route)
        for gateway in range(GATEWAYS):
            self.restore_feed(gateway, at_once=True)
        self.use_everywhere(key, route)
        self.advance(more)
        self.use_everywhere(key, route)

    @rule(
        key=tokens,
        route=routes,
        how=endings,
        order=orders,
        pause=st.sampled_from([1 / 16, 1 / 2]),
        gaps=gaps,
    )
    def end_during_lookup(
        self,
        key: TokenKey,
        route: int,
        how: str | int,
        order: tuple[str, ...],
        pause: float,
        gaps: list[float],
    ) -> None:
        """A token ends while it is looked up; the answer comes late, and it goes on being used."""
        if not self.redis.is_good(key):
            self.write(key, None, px=None)
        if any(at.validator.entry(key) for at in self.gateways):
            self.advance(self.max_ages[route])
        self.redis.holds = True
        self.use_everywhere(key, route)
        for step in order:
            if step == "carry out":
                for command in self.redis.under_way:
                    command.carry_out()
            elif step == "end":
                self.end(key, how)
            else:
                self.advance(pause)
        self.hold_commands(holds=False)
        self.use_everywhere(key, route)
        # Most telling is the instant just before what came of it lapses.
        for gap in [max(1 / 16, self.max_ages[route] - 1 / 16), *gaps]:
            self.advance(gap)
            self.use_everywhere(key, route)

    @rule(seconds=amounts)
    def advance(self, seconds: float) -> None:
        self.loop.advance(seconds)
        self.settle()

    # What happens to commands

    @rule(holds=st.sampled_from([False, False, True]))
    def hold_commands(self, holds: bool) -> None:
        self.redis.holds = holds
        if not holds:
            for command in self.redis.under_way:
                command.answer()
            self.redis.under_way.clear()
        self.settle()

    @precondition(lambda self: self.redis.under_way)
    @rule(index=which)
    def carry_out(self, index: int) -> None:
        self.redis.under_way[index % len(self.redis.under_way)].carry_out()
        self.settle()

    @precondition(lambda self: self.redis.under_way)
    @rule(index=which)
    def answer(self, index: int) -> None:
        self.redis.under_way.pop(index % len(self.redis.under_way)).answer()
        self.settle()

    @precondition(lambda self: self.redis.under_way)
    @rule(index=which)
    def fail_command(self, index: int) -> None:
        self.redis.under_way.pop(index % len(self.redis.under_way)).fail()
        self.settle()

    @rule(fails=st.sampled_from([False, False, True]))
    def fail_commands(self, fails: bool) -> None:
        self.redis.fails = fails

    # What happens to the feed

    @rule(gateway=gateways, holds=st.booleans())
    def hold_feed(self, gateway: int, holds: bool) -> None:
        connection = self.gateways[gateway].connection
        connection.holds = holds
        if not holds and connection.is_up:
            connection.deliver()
        self.settle()

    @rule(gateway=gateways)
    def deliver_one(self, gateway: int) -> None:
        connection = self.gateways[gateway].connection
        if connection.is_up:
            connection.deliver(1)
        self.settle()

    @rule(gateway=gateways, says_so=st.booleans())
    def lose_feed(self, gateway: int, says_so: bool) -> None:
        connection = self.gateways[gateway].connection
        if says_so and connection.is_open:
            connection.lose()
        elif connection.is_up and not connection.is_dead:
            connection.die()
        self.settle()

    @rule(gateway=gateways, at_once=st.booleans())
    def restore_feed(self, gateway: int, at_once: bool) -> None:
        at = self.gateways[gateway]
        if not at.connection.is_open:
            at.connection.connect()
            if not at_once:
                return
        if not at.connection.is_up:
            at.connection.up(relies_on_nothing=at.evicts)
        self.settle()
