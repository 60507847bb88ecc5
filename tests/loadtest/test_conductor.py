"""The rules of a run, played without a network and without time."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.loadtest.calls import Call, Kind
from gateway.loadtest.conductor import Conductor
from gateway.loadtest.options import Arrivals, Grant, digest
from gateway.loadtest.plan import Plan
from gateway.loadtest.rows import Background, Issue, Probe, Revoke, Row, Unsent
from gateway.loadtest.tokens import Requests
from loadtest.told import options

TICK = 0.01
Answers = Callable[[Call], None]


class Play:
    """Runs a conductor on a clock of its own; each call is answered after ``latency``."""

    def __init__(self, answer: Answers, latency: float = 0.001, **given: Any) -> None:
        defaults: dict[str, Any] = {"tokens": 1, "background_rps": 0.0, "given_watch": 4.0}
        self.told = options(**{**defaults, **given})
        self.plan = Plan(self.told)
        self.conductor = Conductor(self.told, self.plan, Requests(self.told))
        self.answer = answer
        self.latency = latency
        self.now = 0.0
        self.rows: list[Row] = []
        self.calls: list[Call] = []

    def until(self, end: float = 60.0) -> "Play":
        """Play on until the run is over, or until ``end``."""
        while self.now < end and not self.conductor.over and not self.conductor.hopeless:
            self.step()
        return self

    def step(self) -> None:
        for call in self.conductor.due(self.now):
            self.calls.append(call)
            call.sent = self.now
            call.finished = self.now + self.latency
            self.answer(call)
            self.rows.append(self.conductor.answered(call))
        self.now = round(self.now + TICK, 6)

    def sent(self, kind: Kind) -> list[Call]:
        return [call for call in self.calls if call.kind is kind]


class Authority:
    """Answers calls: tokens are issued and revoked, and refused ``window`` seconds after that."""

    def __init__(self, window: float = 0.0) -> None:
        self.window = window
        self.issued = 0
        self.revocations: dict[int, float] = {}

    @property
    def revoked_at(self) -> float | None:
        return self.revocations.get(0)

    def __call__(self, call: Call) -> None:
        call.status = 200
        if call.kind is Kind.TOKEN:
            call.body = b'{"access_token": "t%d", "refresh_token": "r%d"}' % (
                self.issued,
                self.issued + 1,
            )
            self.issued += 1
        elif call.kind is Kind.REVOKE:
            self.revocations[call.token] = call.sent or 0.0
        elif call.kind is Kind.PROBE and not self.accepts(call):
            call.status = 401

    def accepts(self, call: Call) -> bool:
        assert call.sent is not None
        revoked_at = self.revocations.get(call.token)
        return revoked_at is None or call.sent < revoked_at + self.window


def test_a_token_s_life() -> None:
    """A token is asked for, probed on its grid, revoked when warm, and probed until it settles."""
    play = Play(Authority(window=1.0)).until()
    (token,) = play.plan.tokens()
    kinds = [row.__class__ for row in play.rows]
    assert (kinds[0], kinds.count(Revoke), kinds.count(Issue)) == (Issue, 1, 1)
    issue = play.rows[0]
    assert isinstance(issue, Issue)
    assert issue.digest == digest("t0")
    probes = play.sent(Kind.PROBE)
    first = token.first_uses[0]
    assert [call.planned for call in probes] == pytest.approx(
        [first + step * 0.2 for step in range(len(probes))]
    )
    (revoke,) = play.sent(Kind.REVOKE)
    assert revoke.planned == token.revoke_at
    refused = [call for call in probes if call.status == 401]
    # --settle is 3 intervals, counted from the end of the first refusal: 4 more probes.
    assert len(refused) == 5
    assert refused[0].planned - revoke.planned == pytest.approx(1.1, abs=0.11)
    tally = play.conductor.tally
    assert (tally.issued, tally.revoked, tally.refused, tally.still_accepted) == (1, 1, 1, 0)
    assert tally.closed == pytest.approx([1.1], abs=0.12)


def test_late_answers_don_t_move_the_grid() -> None:
    """However long answers take, probes stay where they were planned."""
    quick = Play(Authority(1.0), latency=0.001).until(20.0)
    slow = Play(Authority(1.0), latency=0.9).until(20.0)
    planned = [[call.planned for call in play.sent(Kind.PROBE)] for play in (quick, slow)]
    least = min(map(len, planned))
    assert least > 10
    assert planned[0][:least] == planned[1][:least]


def test_a_stalled_generator_leaves_nothing_out() -> None:
    """What was due while the generator stood still is due at once, planned when it was planned."""
    play = Play(Authority(1.0), background_rps=20.0, given_background_tokens=1)
    play.until(5.0)
    before = len(play.calls)
    play.now = 7.0
    play.step()
    late = play.calls[before:]
    assert len(late) > 30
    assert all(5.0 - TICK <= call.planned <= 7.0 for call in late)
    assert [call.planned for call in late] == sorted(call.planned for call in late)


def test_one_answer_has_a_bound() -> None:
    """A backlog comes in parts, so that answers are read between them."""
    play = Play(Authority(), background_rps=100.0, given_background_tokens=1).until(1.0)
    parts = [len(play.conductor.due(30.0, most=64)) for _ in range(3)]
    assert parts == [64, 64, 64]
    assert play.conductor.next_at < 30.0


def test_never_refused() -> None:
    """A token that is never refused is probed until its watch ends, and counts as accepted."""
    play = Play(Authority(window=1e9)).until()
    (revoke,) = play.sent(Kind.REVOKE)
    last = play.sent(Kind.PROBE)[-1].planned
    assert revoke.planned + 3.8 < last <= revoke.planned + 4.0
    tally = play.conductor.tally
    assert (tally.revoked, tally.refused, tally.still_accepted, tally.closed) == (1, 0, 1, [])
    assert tally.longest == pytest.approx(4.0, abs=0.25)


def test_accepted_again() -> None:
    """A token that is accepted after a refusal is looked at until it stays refused."""
    authority = Authority()

    def flap(call: Call) -> None:
        authority(call)
        since = call.planned - (authority.revoked_at or call.planned)
        if call.kind is Kind.PROBE and 0.3 < since < 0.5:
            call.status = 200

    play = Play(flap).until()
    refused = [call.planned for call in play.sent(Kind.PROBE) if call.status == 401]
    assert (play.conductor.tally.flaps, play.conductor.tally.refused) == (1, 1)
    assert refused[-1] - refused[-5] == pytest.approx(0.8, abs=0.01)
    assert play.conductor.tally.closed == pytest.approx([0.6], abs=0.2)


def test_an_acceptance_that_was_sent_before_the_refusal_ended() -> None:
    """A refusal lasts unless a token is accepted that was sent after it: answers overtake."""
    play = Play(Authority(window=60.0), given_watch=60.0)
    while not play.sent(Kind.REVOKE):
        play.step()
    revoked = play.now

    def answer(status: int, sent: float, finished: float) -> int:
        call = Call(Kind.PROBE, 0, 0, revoked + sent, b"")
        call.sent, call.finished, call.status = revoked + sent, revoked + finished, status
        play.conductor.answered(call)
        return play.conductor.tally.flaps

    assert answer(401, sent=0.3, finished=0.4) == 0
    assert answer(200, sent=0.2, finished=0.5) == 0
    assert answer(200, sent=0.35, finished=0.6) == 0
    assert play.conductor.tally.refused == 1
    assert answer(200, sent=0.45, finished=0.5) == 1
    assert play.conductor.tally.refused == 0


def test_errors_say_nothing() -> None:
    """Neither a 503 nor no answer ends a window, or reopens it."""
    authority = Authority()

    def unwell(call: Call) -> None:
        authority(call)
        if call.kind is Kind.PROBE and call.planned * 10 // 2 % 2:
            call.status, call.error = (None, "timeout") if call.planned % 1 > 0.5 else (503, None)

    play = Play(unwell).until()
    tally = play.conductor.tally
    assert (tally.refused, tally.flaps) == (1, 0)
    assert set(tally.errors) == {"timeout", "status 503"}


def test_refusals_before_the_revocation_don_t_end_a_window() -> None:
    """A false refusal is no end: the token is revoked and watched as any other."""
    authority = Authority(window=1.0)

    def hasty(call: Call) -> None:
        authority(call)
        if call.kind is Kind.PROBE and call.planned < 5.0:
            call.status = 401

    play = Play(hasty, given_watch=3.0, given_warm_up=3.0).until()
    assert (play.conductor.tally.revoked, play.conductor.tally.refused) == (1, 1)


@pytest.mark.parametrize(
    ("refused_status", "status", "refused"),
    [((404,), 404, 1), ((404,), 401, 0), ((302,), 302, 1), ((401, 403), 403, 1)],
)
def test_what_refuses(refused_status: tuple[int, ...], status: int, refused: int) -> None:
    """What refuses a token is as the run was told."""
    authority = Authority()

    def answer(call: Call) -> None:
        authority(call)
        call.status = status if call.status == 401 else call.status

    play = Play(answer, refused_status=refused_status).until()
    assert play.conductor.tally.refused == refused


def test_a_token_that_isn_t_warm_is_revoked_later() -> None:
    """A token that wasn't accepted for the warm-up yet is revoked at a random time after it."""
    authority = Authority()

    def late(call: Call) -> None:
        authority(call)
        if call.kind is Kind.PROBE and call.planned < 4.9:
            call.status = 503

    play = Play(late, max_age=3.0, given_warm_up=2.0).until()
    (token,) = play.plan.tokens()
    accepted = [call.planned for call in play.sent(Kind.PROBE) if call.status == 200]
    (revoke,) = play.sent(Kind.REVOKE)
    assert revoke.planned != token.revoke_at
    assert revoke.planned - accepted[0] >= 2.0
    assert revoke.planned == pytest.approx(revoke.sent or 0.0, abs=2 * TICK)


def test_a_token_that_is_never_accepted_is_never_revoked() -> None:
    """Nothing can be measured on it, so it is given up and counted."""

    def never(call: Call) -> None:
        Authority()(call)
        call.status = 401 if call.kind is Kind.PROBE else 200

    play = Play(never, max_age=1.0).until()
    assert (play.conductor.tally.never_warm, play.sent(Kind.REVOKE)) == (1, [])
    assert play.conductor.over


def test_a_dead_replica_doesn_t_keep_the_others_from_being_measured() -> None:
    """In the end a token is revoked that is warm at one target at least."""
    authority = Authority(window=0.5)

    def half(call: Call) -> None:
        authority(call)
        if call.target == 1:
            call.status, call.error = None, "refused"

    play = Play(half, targets=("http://h/a", "http://h/b"), max_age=1.0).until()
    assert (play.conductor.tally.revoked, play.conductor.tally.never_warm) == (1, 0)
    assert len(play.conductor.tally.closed) == 1


def test_replicas_are_probed_each_by_itself() -> None:
    """A token is over when every target has refused it and stayed so."""
    authority = Authority()

    def apart(call: Call) -> None:
        authority(call)
        slow = call.target == 1 and authority.revoked_at is not None
        if slow and call.planned < (authority.revoked_at or 0.0) + 2.0:
            call.status = 200

    play = Play(apart, targets=("http://h/a", "http://h/b")).until()
    (revoke,) = play.sent(Kind.REVOKE)
    last = {
        target: max(call.planned for call in play.sent(Kind.PROBE) if call.target == target)
        for target in (0, 1)
    }
    assert last[0] < revoke.planned + 1.1 < revoke.planned + 2.0 < last[1]
    assert play.conductor.tally.refused == 1
    firsts = {call.target: call.planned for call in reversed(play.sent(Kind.PROBE))}
    assert firsts[0] != firsts[1]


@pytest.mark.parametrize(
    ("status", "error", "watched"), [(503, None, False), (None, "timeout", True)]
)
def test_a_failed_revocation(status: int | None, error: str | None, watched: bool) -> None:
    """Who surely wasn't revoked isn't watched on; where there was no answer, it may have been."""
    authority = Authority(window=1e9)

    def failing(call: Call) -> None:
        authority(call)
        if call.kind is Kind.REVOKE:
            call.status, call.error = status, error

    play = Play(failing).until()
    (revoke,) = play.sent(Kind.REVOKE)
    tally = play.conductor.tally
    assert (tally.revoked, tally.not_revoked) == (0, 1)
    assert (play.sent(Kind.PROBE)[-1].planned > revoke.planned + 1) is watched
    assert play.conductor.over


def test_a_token_that_isn_t_issued() -> None:
    """A failed issue is counted and written down, and the run goes on with the others."""
    authority = Authority(window=0.2)

    def failing(call: Call) -> None:
        authority(call)
        if call.kind is Kind.TOKEN and call.token == 1:
            call.status, call.body = 400, b'{"error": "invalid_scope"}'

    play = Play(failing, tokens=3).until()
    issues = [row for row in play.rows if isinstance(row, Issue)]
    assert [(row.status, row.digest is None) for row in sorted(issues, key=lambda r: r.token)] == [
        (200, False),
        (400, True),
        (200, False),
    ]
    assert {call.token for call in play.sent(Kind.PROBE)} == {0, 2}
    tally = play.conductor.tally
    assert (tally.issued, tally.not_issued, tally.revoked) == (2, 1, 2)
    assert not play.conductor.hopeless


@pytest.mark.parametrize(("tokens", "asked"), [(1, 1), (40, 5)])
def test_no_token_at_all(tokens: int, asked: int) -> None:
    """After a few failures and no token at all, the run is hopeless, and says why."""

    def refusing(call: Call) -> None:
        call.status, call.body = 401, b'{"error": "invalid_client"}'

    play = Play(refusing, tokens=tokens, revoke_rate=0.5).until()
    assert play.conductor.hopeless
    assert len(play.sent(Kind.TOKEN)) == asked
    assert dict(play.conductor.why_no_token) == {"HTTP status 401, error invalid_client": asked}


def test_a_success_that_has_no_token() -> None:
    """An answer of 200 without a token is written down as invalid."""

    def empty(call: Call) -> None:
        call.status, call.body = 200, b"{}"

    play = Play(empty).until()
    (row,) = play.rows
    assert isinstance(row, Issue)
    assert (row.status, row.error, row.digest) == (200, "invalid", None)


CHAIN: dict[str, Any] = {"grant": Grant.REFRESH_TOKEN, "refresh_token": SecretStr("r0")}


def test_a_chain_of_refresh_tokens() -> None:
    """Each token is got by the refresh token that came with the one before, never two at once."""
    play = Play(Authority(window=0.1), **CHAIN, tokens=5).until()
    forms = [call.request.rpartition(b"refresh_token=")[2] for call in play.sent(Kind.TOKEN)]
    assert forms == [b"r0", b"r1", b"r2", b"r3", b"r4"]
    assert play.conductor.tally.revoked == 5


def test_a_chain_waits_for_its_answers() -> None:
    """What had to wait for the token before wasn't due sooner: it is no lag."""
    play = Play(Authority(), **CHAIN, tokens=3)
    conductor = play.conductor
    (first,) = conductor.due(1.0)
    assert conductor.due(2.0) == []
    first.sent, first.finished = 1.0, 3.0
    play.answer(first)
    conductor.answered(first)
    assert conductor.next_at == 3.0
    (second,) = conductor.due(3.5)
    assert (second.kind, second.planned) == (Kind.TOKEN, 3.0)


def test_tokens_issued_elsewhere() -> None:
    """Given tokens are used and revoked, and none is asked for."""
    play = Play(
        Authority(window=0.1),
        given_tokens=(SecretStr("one"), SecretStr("two")),
        token_url=None,
        tokens=None,
    ).until()
    assert play.sent(Kind.TOKEN) == []
    assert len(play.sent(Kind.REVOKE)) == 2


def test_background_traffic() -> None:
    """Background requests begin with their tokens, and are never revoked."""
    play = Play(Authority(), background_rps=50.0, given_background_tokens=2).until(4.0)
    rows = [row for row in play.rows if isinstance(row, Background)]
    assert {row.token for row in rows} == {1, 2}
    assert len(rows) == pytest.approx(3.5 * 50, rel=0.25)


def test_background_traffic_of_a_token_that_didn_t_come() -> None:
    """The other tokens carry the load of one that could not be issued."""
    authority = Authority()

    def failing(call: Call) -> None:
        authority(call)
        if call.kind is Kind.TOKEN and call.token == 1:
            call.status = 500

    play = Play(failing, background_rps=50.0, given_background_tokens=2).until(4.0)
    rows = [row for row in play.rows if isinstance(row, Background)]
    assert {row.token for row in rows} == {2}
    assert len(rows) == pytest.approx(3.5 * 50, rel=0.25)


@pytest.mark.parametrize("kind", list(Kind))
def test_what_was_never_sent(kind: Kind) -> None:
    """A call that comes back unsent is written down as such."""
    play = Play(Authority(), background_rps=50.0, given_background_tokens=1)
    while True:
        calls = play.conductor.due(play.now)
        for call in calls:
            if call.kind is kind:
                assert play.conductor.answered(call) == Unsent(
                    str(kind), call.token, call.target, call.planned
                )
                return
            call.sent = call.finished = play.now
            play.answer(call)
            play.conductor.answered(call)
        play.now += TICK


def test_rows() -> None:
    """A probe's row has what was planned, sent and answered."""
    play = Play(Authority()).until()
    probe = next(row for row in play.rows if isinstance(row, Probe))
    call = play.sent(Kind.PROBE)[0]
    assert call.sent is not None
    assert probe == Probe(0, 0, call.planned, call.sent, call.sent + 0.001, 200)


def test_a_long_run_is_pulled_as_it_goes() -> None:
    """Only tokens whose time is near are held; the rest of the plan isn't made yet."""
    play = Play(Authority(window=0.1), tokens=100_000, arrivals=Arrivals.EVEN, max_age=0.2)
    made: list[float] = []
    plans = play.conductor._plans

    def counted() -> Iterator[Any]:
        for plan in plans:
            made.append(plan.revoke_at)
            yield plan

    play.conductor._plans = counted()
    play.until(5.0)
    assert 40 < len(made) < 80
    assert len(play.conductor._lives) < 40
