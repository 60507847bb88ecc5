"""The schedule: known beforehand, the same for the same seed, uniform where it has to be."""

from itertools import islice, pairwise
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.loadtest.options import Arrivals, Grant, RunOptions
from gateway.loadtest.plan import CHAINED_ISSUES_PER_SECOND, Load, Plan, Share, TokenPlan
from loadtest.told import options

CHAIN: dict[str, Any] = {"grant": Grant.REFRESH_TOKEN, "refresh_token": SecretStr("r")}
TWO = ("http://h/a", "http://h/b")


def planned(told: RunOptions) -> list[TokenPlan]:
    return list(Plan(told).tokens())


def test_the_same_seed_gives_the_same_plan() -> None:
    """A seed fixes everything, another seed gives another plan."""
    one, again, other = (Plan(options(seed=seed)) for seed in (1, 1, 2))
    assert list(one.tokens()) == list(again.tokens())
    assert list(islice(one.background(), 50)) == list(islice(again.background(), 50))
    assert list(one.tokens()) != list(other.tokens())


def test_more_background_doesn_t_shift_the_revocations() -> None:
    """Each purpose has chance numbers of its own."""
    assert planned(options(background_rps=1.0)) == planned(options(background_rps=99.0))


@pytest.mark.parametrize("max_age", [None, 0.0, 3.0])
@pytest.mark.parametrize("targets", [TWO[:1], TWO])
def test_the_order_of_a_life(max_age: float | None, targets: tuple[str, ...]) -> None:
    """A token is asked for before its first use, and revoked a warm-up after it at the least."""
    told = options(max_age=max_age, targets=targets)
    plan = Plan(told)
    for token in plan.tokens():
        assert len(token.first_uses) == len(targets)
        assert 0 <= token.issue_at <= min(token.first_uses) - 1 + 1e-9
        assert token.revoke_at - max(token.first_uses) >= told.warm_up + told.probe_interval - 1e-9
        assert token.revoke_at - token.issue_at <= plan.horizon + 1e-9


def test_the_age_at_revocation_is_uniform() -> None:
    """The phase of a first use, modulo a turn of the cache, is uniform at the revocation."""
    told = options(max_age=3.0, tokens=2000)
    plan = Plan(told)
    assert plan.spread == pytest.approx(16 * told.probe_interval)
    phases = sorted(
        (token.revoke_at - token.first_uses[0]) % plan.spread / plan.spread
        for token in plan.tokens()
    )
    size = len(phases)
    # Kolmogorov-Smirnov by hand, at a level of 0.001; the seed fixes what it is applied to.
    distance = max(
        max((index + 1) / size - phase, phase - index / size) for index, phase in enumerate(phases)
    )
    assert distance < 1.95 / size**0.5


def test_even_revocations() -> None:
    """Even revocations are a fixed time apart."""
    revoked = [token.revoke_at for token in planned(options(arrivals=Arrivals.EVEN, tokens=20))]
    gaps = {round(later - sooner, 9) for sooner, later in pairwise(revoked)}
    assert gaps == {0.1}


def test_poisson_revocations() -> None:
    """Poisson revocations have gaps of the mean asked for, and as wide a spread."""
    revoked = [token.revoke_at for token in planned(options(tokens=5001, revoke_rate=20.0))]
    gaps = [later - sooner for sooner, later in pairwise(revoked)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.05, rel=0.06)
    assert deviation == pytest.approx(0.05, rel=0.06)
    assert min(gaps) >= 0


def test_background_arrivals() -> None:
    """Background traffic is Poisson at its rate, over all its tokens and all targets."""
    told = options(background_rps=100.0, given_background_tokens=4, targets=TWO)
    arrivals = list(islice(Plan(told).background(), 4000))
    assert arrivals[-1][0] == pytest.approx(40.0, rel=0.06)
    assert {token for _, token, _ in arrivals} == {100, 101, 102, 103}
    assert {target for _, _, target in arrivals} == {0, 1}
    assert all(later > sooner for (sooner, _, _), (later, _, _) in pairwise(arrivals))


def test_no_background() -> None:
    """Without background traffic there is none, and no token for it."""
    plan = Plan(options(background_rps=0.0))
    assert (list(plan.background()), list(plan.background_tokens)) == ([], [])


def test_a_chain_of_refresh_tokens() -> None:
    """Tokens of a chain are all asked for before the first is used, one after another."""
    plan = Plan(options(**CHAIN, tokens=40))
    tokens = list(plan.tokens())
    background = [plan.issue_background_at(order) for order in range(10)]
    issues = background + [token.issue_at for token in tokens]
    assert issues == pytest.approx([n / CHAINED_ISSUES_PER_SECOND for n in range(50)])
    assert min(min(token.first_uses) for token in tokens) >= 50 / CHAINED_ISSUES_PER_SECOND
    assert plan.background_from >= 10 / CHAINED_ISSUES_PER_SECOND


def test_workers_share_a_plan() -> None:
    """The shares of several workers are disjoint, and together are the plan of one."""
    told = options(tokens=31, given_background_tokens=3)
    shares = [Plan(told, Share(index, 3)) for index in range(3)]
    tokens = sorted(
        (token for plan in shares for token in plan.tokens()), key=lambda token: token.token
    )
    assert tokens == planned(told)
    background = [set(plan.background_tokens) for plan in shares]
    assert sum(map(len, background)) == len(set.union(*background)) == 9
    assert min(set.union(*background)) == 31
    rates = [Plan.load(plan).background_rps for plan in shares]
    assert sum(rates) == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("given", "load", "sensible"),
    [
        (
            {"tokens": 200, "max_age": 3.0, "background_rps": 300.0},
            Load(probe_rps=777.8, background_rps=300.0, seconds=37.213),
            True,
        ),
        ({"tokens": 2, "targets": TWO}, Load(20.0, 50.0, 62.0), True),
        ({"tokens": 20_000, "revoke_rate": 100.0}, Load(22_900.0, 50.0, 261.8), False),
    ],
)
def test_the_load_is_known(given: dict[str, Any], load: Load, sensible: bool) -> None:
    """What a plan comes to at the most is known beforehand."""
    found = Plan(options(**given)).load()
    assert found.probe_rps == pytest.approx(load.probe_rps, rel=0.01)
    assert found.seconds == pytest.approx(load.seconds, abs=1.0)
    assert (found.background_rps, found.sensible) == (load.background_rps, sensible)
    assert found.rps == found.probe_rps + found.background_rps


def test_a_revocation_planned_anew_has_a_random_phase() -> None:
    """A token that wasn't warm is revoked at a random time of another turn, the same each time."""
    plan = Plan(options(max_age=3.0))
    again = [plan.again_after(10.0, token, 1) for token in range(200)]
    assert all(10.0 <= at <= 10.0 + plan.spread for at in again)
    assert len(set(again)) == 200
    assert again[0] == plan.again_after(10.0, 0, 1) != plan.again_after(10.0, 0, 2)
