"""What ``make fleet`` and ``make loadtest`` do where other programs have the processors."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock

from gateway.loadtest.validity import most_lag

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the benchmarks, which are scripts and no package of ours."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


class StartingUp:
    """A process that is up after a while, or ends with an exit code; both may never come."""

    def __init__(self, *, up_after: float = 1e9, ends_after: float = 1e9) -> None:
        self.clock = FakeClock()
        self._up_at = self.clock.monotonic() + up_after
        self._end_at = self.clock.monotonic() + ends_after

    async def is_up(self) -> bool:
        return self.clock.monotonic() >= self._up_at

    def exit_code(self) -> int | None:
        return 78 if self.clock.monotonic() >= self._end_at else None

    async def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)


async def wait(bench: Any, starting: StartingUp) -> None:
    await bench("busy").until(
        "a gateway",
        starting.is_up,
        exit_code=starting.exit_code,
        clock=starting.clock.monotonic,
        sleep=starting.sleep,
    )


async def test_a_slow_start_is_waited_for_and_told_of(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It took 25 s on a busy machine, and nothing was measured because it had 20."""
    await wait(bench, StartingUp(up_after=25))
    assert capsys.readouterr().err.splitlines() == [
        f"a gateway isn't up after {seconds} s; it runs, the machine may be busy"
        for seconds in (10, 20)
    ]


async def test_a_quick_start_is_not_spoken_of(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody wants to know."""
    await wait(bench, StartingUp(up_after=2))
    assert capsys.readouterr().err == ""


async def test_what_has_ended_is_not_waited_for(bench: Any) -> None:
    """A wrong setting or a taken port is told at once, by its exit code."""
    starting = StartingUp(ends_after=1)
    began = starting.clock.monotonic()
    with pytest.raises(bench("busy").NotUpError, match="ended with exit code 78"):
        await wait(bench, starting)
    assert starting.clock.monotonic() - began < 2


async def test_what_hangs_is_given_up(bench: Any) -> None:
    """Three minutes are enough for anything."""
    with pytest.raises(bench("busy").NotUpError, match="wasn't up after 180 s"):
        await wait(bench, StartingUp())


def invalid(*, interval: float, lag: float | None, background: float = 300) -> dict[str, Any]:
    """Return what a report has of a run that lagged."""
    return {
        "valid": False,
        "reasons": ["the generator lagged: much"],
        "header": {"arguments": {"probe_interval": interval, "background_rps": background}},
        "lag": {"p99": lag},
    }


@pytest.mark.parametrize(
    ("interval", "lag", "flags"),
    [
        # fleet.py's probes, 25 ms apart: what would pass is 12.5 ms.
        (0.025, 0.040, ("--probe-interval=160ms", "--background-rps=150")),
        (0.025, 0.013, ("--probe-interval=52ms", "--background-rps=150")),
        (0.025, 0.002, ("--probe-interval=50ms", "--background-rps=150")),
        (0.025, None, ("--probe-interval=50ms", "--background-rps=150")),
        (0.189, 0.300, ("--probe-interval=500ms", "--background-rps=150")),
        (5.0, 0.300, ("--probe-interval=5000ms", "--background-rps=150")),
    ],
)
def test_the_next_try_asks_for_less(
    bench: Any, interval: float, lag: float | None, flags: tuple[str, ...]
) -> None:
    """Wide enough for the lag that was measured, with half the background."""
    assert bench("busy").gentler(invalid(interval=interval, lag=lag)) == flags


@pytest.mark.parametrize("lag", [0.013, 0.02, 0.04])
def test_the_same_lag_would_pass_at_the_next_try(bench: Any, lag: float) -> None:
    """By the rule that the load tester judges its runs by."""
    flag, _ = bench("busy").gentler(invalid(interval=0.025, lag=lag))
    interval = float(flag.removeprefix("--probe-interval=").removesuffix("ms")) / 1000
    assert lag < most_lag(interval)


class Tries:
    """Runs of the load tester, each with the exit code and the report that it is given."""

    def __init__(self, *outcomes: tuple[int, dict[str, Any] | None]) -> None:
        self._outcomes = list(outcomes)
        self.flags: list[tuple[str, ...]] = []

    async def __call__(self, *given: Any) -> tuple[int, dict[str, Any] | None]:
        _record, _gateway, _path, *flags = given
        self.flags.append(tuple(flags))
        return self._outcomes.pop(0)


LAGGED = (3, invalid(interval=0.025, lag=0.040))


@pytest.mark.parametrize(
    ("outcomes", "code", "tries"),
    [
        ([(0, {"valid": True})], 0, 1),
        ([LAGGED, (0, {"valid": True})], 0, 2),
        ([LAGGED, LAGGED, LAGGED], 3, 3),
        # A broken SLO says something of the gateway; a wrong command line has no report.
        ([(1, {"valid": True})], 1, 1),
        ([(2, None)], 2, 1),
        ([(3, None)], 3, 1),
    ],
)
async def test_a_run_that_lagged_is_tried_again(
    bench: Any,
    capsys: pytest.CaptureFixture[str],
    outcomes: list[tuple[int, dict[str, Any] | None]],
    code: int,
    tries: int,
) -> None:
    """Thrice at most, more gently each time, and it is said why."""
    run = Tries(*outcomes)
    ended = await bench("surroundings").load_test(
        Path("evict.jsonl"), "http://gateway", "/orders", "--background-rps=300", once=run
    )
    assert (ended, len(run.flags)) == (code, tries)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == sum(outcome is LAGGED for outcome in outcomes)
    if tries > 1:
        assert run.flags[1] == (
            *("--background-rps=300", "--probe-interval=160ms", "--background-rps=150"),
        )
        assert told[0] == (
            "evict wasn't valid: the generator lagged: much. "
            "Again, with --probe-interval=160ms --background-rps=150"
        )
    if code == 3 and tries > 1:
        assert "says nothing about the gateway" in told[-1]


def test_two_workers_disagreement_is_explained(bench: Any) -> None:
    """Whoever reads "accepted again after a refusal" learns that it is no fault."""
    run = {"counts": {"windows": 120}, "flapping": {"windows": 31, "flaps": 90, "longest": 2.5}}
    said = bench("fleet").disagreement(run)
    assert said.startswith("31 of 120 windows")
    assert "have a cache each" in said
    run["flapping"] = {"windows": 0, "flaps": 0, "longest": 0.0}
    assert bench("fleet").disagreement(run) == "no token was accepted again after a refusal"
