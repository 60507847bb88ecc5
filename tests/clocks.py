"""A clock that a test moves by hand."""


class FakeClock:
    """Both clocks in one: ``advance`` moves them together, ``wall_at`` can be set apart."""

    def __init__(self, wall_at: float = 1_700_000_000.0, monotonic_at: float = 1_000.0) -> None:
        self.wall_at = wall_at
        self.monotonic_at = monotonic_at

    def wall(self) -> float:
        return self.wall_at

    def monotonic(self) -> float:
        return self.monotonic_at

    def advance(self, seconds: float) -> None:
        self.wall_at += seconds
        self.monotonic_at += seconds
