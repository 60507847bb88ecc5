"""Where targets, or workers behind one, answer differently."""

from gateway.loadtest.replicas import Flapping, disagreement, everywhere, flapping
from gateway.loadtest.windows import Interval, Window


def window(
    token: int,
    target: int,
    accepted: float,
    refused: float | None,
    *,
    first_refused: float | None = None,
    flaps: int = 0,
) -> Window:
    return Window(
        token=token,
        target=target,
        revoke_sent=10.0,
        revoke_answered=10.0,
        first_accepted=5.0,
        last_accepted=accepted,
        refused=refused,
        first_refused=refused if first_refused is None else first_refused,
        flaps=flaps,
    )


def test_flapping_is_summed_up() -> None:
    """Windows that flapped, how often, and for how long at most."""
    found = flapping(
        [
            window(0, 0, 11, 12),
            window(1, 0, 14, 15, first_refused=11, flaps=2),
            window(2, 0, 13, None, first_refused=12, flaps=1),
        ]
    )
    assert found == Flapping(windows=2, flaps=3, longest=3.0)


def test_nothing_flaps_when_no_token_came_back() -> None:
    """Without flapping all is zero."""
    assert flapping([window(0, 0, 11, 12)]) == Flapping(0, 0, 0.0)


def test_disagreement_is_from_the_first_target_to_the_last() -> None:
    """Tokens are compared over their targets; one that a target never refused is censored."""
    found = disagreement(
        [
            window(0, 0, 11, 12),
            window(0, 1, 13, 14),
            window(1, 0, 11, 12),
            window(1, 1, 11.9, 12.1),
            window(2, 0, 11, 12),
            window(2, 1, 20, None),
            window(3, 0, 20, None),
            window(3, 1, 20, None),
            window(4, 0, 11, 12),
        ]
    )
    assert found is not None
    assert (found.tokens, found.surely) == (4, 2)
    assert (found.curve.seconds.round(6).tolist(), found.curve.censored) == ([0.1, 2.0, 8.0], 1)


def test_one_target_can_not_disagree() -> None:
    """With one target there's nothing to compare."""
    assert disagreement([window(0, 0, 11, 12), window(1, 0, 11, 12)]) is None


def test_a_token_is_refused_everywhere_with_its_last_target() -> None:
    """The window until all targets refuse; never seen to end if one of them never did."""
    found = everywhere(
        [
            window(0, 0, 11, 12),
            window(0, 1, 13, 14),
            window(1, 0, 11, 12),
            window(1, 1, 20, None),
        ]
    )
    assert found == [Interval(3.0, 4.0), Interval(10.0, None)]
