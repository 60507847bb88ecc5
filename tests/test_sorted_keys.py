"""SortedKeys: a sorted list, beside which a list that is sorted again and again."""

from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.sorted_keys import SortedKeys

names = st.binary(min_size=2, max_size=2)


class Sorted(RuleBasedStateMachine):
    """Random operations, with parts so small that they split and end all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = SortedKeys(2)
        self.expected: list[bytes] = []

    @rule(name=names)
    def add(self, name: bytes) -> None:
        if name not in self.expected:
            with patch("gateway.sorted_keys.MOST_IN_PART", 4):
                self.keys.add(name)
            self.expected = sorted([*self.expected, name])

    @rule(name=names)
    def remove(self, name: bytes) -> None:
        assert self.keys.remove(name) == (name in self.expected)
        self.expected = [other for other in self.expected if other != name]

    @rule(most=st.integers(0, 6))
    def take(self, most: int) -> None:
        taken = self.keys.take(most)
        assert taken == self.expected[: len(taken)]
        assert len(taken) <= most
        assert taken or not most or not self.expected
        del self.expected[: len(taken)]

    @rule(name=names)
    def look(self, name: bytes) -> None:
        assert self.keys.count_below(name) == sum(other < name for other in self.expected)
        assert list(self.keys.after(name)) == [other for other in self.expected if other > name]

    @invariant()
    def is_sorted(self) -> None:
        assert list(self.keys) == self.expected
        assert len(self.keys) == len(self.expected)
        assert self.keys.first == (self.expected[0] if self.expected else None)


TestSorted = Sorted.TestCase
TestSorted.__doc__ = "Whatever is added and taken away, it has what a sorted list would have."
