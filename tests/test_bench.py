"""What ``make bench`` reads and reckons: the parts of it that measure nothing themselves."""

import importlib
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SAID = (
    '{"requests":200,"microseconds":2000000,"bytes":30000,"connect":0,"read":0,"write":0,'
    '"timeout":0,"refused":0,"wrong":0,"p50":1500,"p99":9000,"max":12000}'
)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the benchmark, which are scripts and no package of ours."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"rig.{name}")


def test_the_parent_is_read_behind_any_name(rig: Any) -> None:
    """A process's name may have brackets and spaces, and its parent is still found."""
    assert rig("processes").parent("71 (a) S 1) R 40 71 71 0 -1 4194560") == 40


def test_a_family_is_all_that_a_process_started(rig: Any) -> None:
    """Children and their children belong to a process; its parent and siblings don't."""
    parents = {2: 1, 3: 2, 4: 3, 5: 3, 6: 1, 7: 6}
    assert rig("processes").family(2, parents) == {2, 3, 4, 5}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the clock of a process as Linux has it")
def test_a_process_has_a_clock(rig: Any) -> None:
    """The clock of a process that is read from outside is the one that it reads itself."""
    before = time.process_time()
    read = rig("processes").processor_seconds(os.getpid())
    assert before <= read <= time.process_time()


def test_what_wrk_said_is_read(rig: Any) -> None:
    """The last line has the counts, and latencies come out in seconds."""
    load = rig("load")
    said = f"Running 2s test\n{SAID}\n"
    assert load.outcome(said, load.Load()) == load.Outcome(200, 2.0, 0.0015, 0.009, 0.012, None)


def test_what_wrk_did_not_say_is_an_error(rig: Any) -> None:
    """Silence isn't taken for a measurement."""
    load = rig("load")
    with pytest.raises(ValueError, match="wrk said"):
        load.outcome("", load.Load())


@pytest.mark.parametrize(
    ("change", "load", "fault"),
    [
        (('"refused":0', '"refused":3'), {}, "3 of 200 refused"),
        (('"timeout":0', '"timeout":1'), {}, "timeout failed 1 times"),
        (('"requests":200', '"requests":0'), {}, "no answers"),
        (('"refused":0', '"refused":200'), {"status": 401}, None),
        (('"refused":0', '"refused":199'), {"status": 401}, "0 of 200 weren't 401"),
        (('"wrong":0', '"wrong":2'), {"status": 401}, "2 of 200 weren't 401"),
        (("", ""), {"answer_bytes": 100}, None),
        (("", ""), {"answer_bytes": 1000}, "answers were cut"),
    ],
)
def test_wrong_answers_are_no_measurement(
    rig: Any, change: tuple[str, str], load: dict[str, Any], fault: str | None
) -> None:
    """A round counts only if every answer was the one that the case asks for."""
    of = rig("load")
    assert of.outcome(SAID.replace(*change), of.Load(**load)).fault == fault


def test_long_answers_are_counted_by_their_bytes(rig: Any) -> None:
    """What was under way when the time was up has cost something too."""
    of = rig("load")
    assert of.outcome(SAID, of.Load(answer_bytes=120)).requests == 250


def samples(rig: Any) -> list[Any]:
    """Return three rounds of ours and of another, of which one failed."""
    sample = rig("figures").Sample
    return [
        *(sample("hot", "ours_fast", number, cpu=cpu) for number, cpu in enumerate((40, 50, 80))),
        *(sample("hot", "nginx_auth", number, cpu=cpu) for number, cpu in enumerate((40, 40, 40))),
        sample("hot", "nginx_auth", 3, cpu=1, fault="no answers"),
    ]


def test_figures_are_medians_of_rounds_that_count(rig: Any) -> None:
    """A ratio is the median of each round's own; what failed isn't in any figure."""
    figures = rig("figures")
    ours = figures.by_round(samples(rig), "hot", "ours_fast", "cpu")
    theirs = figures.by_round(samples(rig), "hot", "nginx_auth", "cpu")
    assert theirs == {0: 40, 1: 40, 2: 40}
    assert figures.figure(theirs, ours) == figures.Figure(40, 40, 40, 0.8)
    assert figures.figure(ours) == figures.Figure(50, 40, 80, None)
    assert figures.figure({}) is None


def test_the_table_has_figures_ratios_faults_and_the_missing(rig: Any) -> None:
    """A reader sees the median, the spread, the ratio to ours, what failed, and what is missing."""
    peer = importlib.import_module("peers").Peer
    peers = [peer(name, name) for name in ("ours_fast", "nginx_auth", "envoy")]
    (hot,) = (case for case in rig("cases").CASES if case.name == "hot")
    lines = rig("table").table(hot, peers, samples(rig), "ours_fast", {"envoy": "missing: it"})
    assert [line for line in lines.splitlines() if line.startswith(("| o", "| n", "| e"))] == [
        "| ours_fast | - | 50.0 (40.0 to 80.0) x1.00 | - | - | - | - |",
        "| nginx_auth | - (failed: no answers) | 40.0 x0.80 | - | - | - | - |",
        "| envoy | missing: it |  |  |  |  |  |",
    ]


def test_goals_say_whether_they_hold(rig: Any) -> None:
    """Goals for which the run has figures are listed, each with its limit and the ratio."""
    assert rig("goals").goals(samples(rig)).splitlines()[-1] == (
        "| a hot token: no more than nginx auth_request | 1.00 | 1.25 | **no** |"
    )
    assert rig("goals").goals([]) == ""


def test_tokens_are_what_the_gateway_looks_up(rig: Any) -> None:
    """The benchmark writes the store as its document says, and the load tool's file fits."""
    from gateway.tokens import parse_facts, token_key  # noqa: PLC0415 -- only here

    tokens = rig("tokens")
    assert tokens.key(tokens.token(7)) == f"token:{token_key(tokens.token(7)).hex()}"
    assert {len(tokens.token(number)) for number in range(100)} == {tokens.LENGTH}
    facts = parse_facts(tokens.document(7, 1000), now_at=1000.0)
    assert (facts.active, facts.sub, "read" in facts.scopes) == (True, "user-7", True)


def test_cold_tokens_are_new_in_each_round(rig: Any) -> None:
    """No round uses a token that an earlier one or another case has made hot."""
    cases = rig("cases")
    peer = importlib.import_module("peers").Peer("any", "any")
    (cold,) = (case for case in cases.CASES if case.cold)
    spans = [cold.in_round(peer, number, 1).tokens for number in range(3)]
    starts = [first for first, _ in spans]
    assert starts[0] >= cases.MANY + cases.REVOKED
    assert all(later - first >= cases.COLD_A_ROUND for first, later in itertools.pairwise(starts))


def test_first_uses_beside_a_hot_token(rig: Any) -> None:
    """In one case one gateway gets a hot token and another new ones, each round others."""
    peers = importlib.import_module("peers").PEERS
    (case,) = (case for case in rig("cases").CASES if case.name == "first")
    hot, first = (peer for peer in peers if case.takes_part(peer))
    assert (hot.name, first.cold) == ("ours_fast", True)
    assert case.in_round(hot, 0, 1).tokens == case.in_round(hot, 1, 1).tokens == case.load.tokens
    assert case.in_round(first, 0, 1).tokens != case.in_round(first, 1, 1).tokens
