"""FactsCache under random operations: no facts come out past their max age or their end."""

from unittest.mock import patch

from clocks import FakeClock
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from scripted import keys

from gateway.cache import FactsCache
from gateway.tokens import Facts, TokenKey

LOOSE = float("inf")


class Ages(RuleBasedStateMachine):
    """Random operations, beside a record of what was validated when."""

    tokens = keys(4)
    seconds = st.floats(0, 40)
    shard_entries = 4096
    entries_at_hand = 4096

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        with patch("gateway.cache.SHARD_ENTRIES", self.shard_entries):
            self.cache = FactsCache(
                max_age_seconds=20.0, max_entries=3, stale_seconds=5.0, clock=self.clock
            )
        # By token: the facts put last, when their lookup began, their end (both monotonic). Their
        # ``exp`` is judged by the wall clock too.
        self.put_last: dict[TokenKey, tuple[Facts, float, float]] = {}

    @rule(seconds=seconds)
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(step=st.floats(-100, 100))
    def step_the_wall_clock(self, step: float) -> None:
        self.clock.wall_at += step

    @rule(
        key=st.sampled_from(tokens),
        exp_in=st.none() | st.floats(-5, 50),
        took=st.floats(0, 3),
        life=st.just(LOOSE) | st.floats(0, 50),
    )
    def validate(self, key: TokenKey, exp_in: float | None, took: float, life: float) -> None:
        exp = None if exp_in is None else self.clock.wall() + exp_in
        began = self.clock.monotonic() - took
        ends = began + life
        if exp_in is not None:
            ends = min(ends, self.clock.monotonic() + exp_in)
        learned = Facts(True, "app", exp=exp)
        self.cache.put(key, learned, validated=began, life_seconds=life)
        self.put_last[key] = (learned, began, ends)

    @rule(key=st.sampled_from(tokens))
    def remove(self, key: TokenKey) -> None:
        self.cache.remove(key)
        self.put_last.pop(key, None)

    @rule()
    def flush(self) -> None:
        self.cache.flush()
        self.put_last.clear()

    @rule(most=st.integers(0, 3))
    def sweep(self, most: int) -> None:
        assert self.cache.sweep(most) <= most

    @rule(key=st.sampled_from(tokens), max_age=st.sampled_from([0.0, 1.0, 19.0, 20.0, 40.0, LOOSE]))
    def use(self, key: TokenKey, max_age: float) -> None:
        now = self.clock.monotonic()
        for find, bound in (
            (self.cache.fresh, min(max_age, 20.0)),
            (self.cache.stale, min(max_age, 20.0) + 5.0),
        ):
            with patch("gateway.cache.ENTRIES_AT_HAND", self.entries_at_hand):
                found = find(key, max_age)
            if found is not None:
                learned, began, ends = self.put_last[key]
                assert learned == found
                assert now - began <= bound + 1e-9
                assert now <= ends + 1e-6
                assert learned.exp is None or self.clock.wall() < learned.exp

    @invariant()
    def stays_small(self) -> None:
        held = self.cache.keys()
        assert len(held) <= 3
        # What was flushed lies there still, and doesn't count.
        assert len(self.cache) == sum(self.cache.peek(key) is not None for key in held)


class ShardedAges(Ages):
    """The same with a shard for nearly each token, and hardly any entry at hand."""

    shard_entries = 1
    entries_at_hand = 1


TestShardedAges = ShardedAges.TestCase
TestShardedAges.__doc__ = "Nor do they where tokens are spread over many shards."
TestAges = Ages.TestCase
TestAges.__doc__ = "Random operations never bring out facts past their max age or their exp."
