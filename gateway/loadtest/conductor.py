"""Decides what is asked next and learns from what is answered. No I/O, no clock.

The driver and the Locust user move the bytes; both ask ``due`` what to send now, and tell
``answered`` what came of it, which gives the row for the record. So a run's rules stand here
once, and are tested without a network.

A token's life: it is asked for; probed at each target on a grid of its own that begins at its
first use; revoked once it has been accepted for the warm-up; probed on until each target has
refused it for ``settle``, or its watch ends.

"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil, inf

from gateway.loadtest.calls import Call, Kind
from gateway.loadtest.options import Grant, RunOptions, digest
from gateway.loadtest.pace import Agenda
from gateway.loadtest.plan import Plan, TokenPlan
from gateway.loadtest.rows import Background, Issue, Probe, Revoke, Row, Unsent
from gateway.loadtest.tally import Tally
from gateway.loadtest.tokens import Granted, Requests, read_grant

_MOST_ATTEMPTS = 3
"""How often a revocation is planned anew because the token isn't warm."""

_HOPELESS_ISSUES = 5
"""After so many failures and no token at all, none is expected."""


@dataclass(slots=True, eq=False)
class _Life:
    """What is known of a token that will be revoked; ``over`` when it isn't probed any more."""

    plan: TokenPlan
    revoke_at: float
    secret: str | None = field(default=None, repr=False)
    streams: "list[_Stream]" = field(default_factory=list)
    attempts: int = 0
    revoke_sent: float = inf
    watch_until: float = inf
    refusing: int = 0
    over: bool = False


@dataclass(slots=True, eq=False)
class _Stream:
    """The probes of a token at a target: the next is at ``first_at + step * interval``."""

    life: _Life
    target: int
    request: bytes = field(repr=False)
    first_at: float
    step: int
    first_accepted: float | None = None
    refused_at: float | None = None
    over: bool = False


@dataclass(slots=True, eq=False)
class _Issue:
    """A token to ask for; without a life it is one for background traffic."""

    token: int
    life: _Life | None = None


@dataclass(slots=True, eq=False)
class _Arrival:
    """A background request."""

    token: int
    target: int


class Conductor:
    """The rules of a run, between the plan and whoever moves the bytes."""

    def __init__(self, options: RunOptions, plan: Plan, requests: Requests) -> None:
        self._options = options
        self._plan = plan
        self._requests = requests
        self._interval = options.probe_interval
        self._refused_status = frozenset(options.refused_status)
        self._agenda: Agenda[_Issue | _Stream | _Life | _Arrival] = Agenda()
        self._plans: Iterator[TokenPlan] = plan.tokens()
        self._next_plan = next(self._plans, None)
        self._lives: dict[int, _Life] = {}
        self._background: dict[int, list[bytes]] = {}
        self._arrivals = plan.background()
        self._issuing: dict[int, _Life | None] = {}
        self._chain: deque[tuple[float, _Issue]] = deque()
        self._chained = options.grant is Grant.REFRESH_TOKEN and not options.given_tokens
        self._chain_busy = False
        self._chain_free_at = 0.0
        self._refresh_token: str | None = None
        self.tally = Tally(expected=options.measured_tokens)
        self.why_no_token: Counter[str] = Counter()
        for order, token in enumerate(plan.background_tokens):
            self._agenda.add(plan.issue_background_at(order), _Issue(token))
        self._plan_arrival()

    @property
    def next_at(self) -> float:
        """When something is due next; infinity when nothing ever is, as far as is known."""
        plan = self._next_plan
        pulled = inf if plan is None else plan.revoke_at - self._plan.horizon
        chain = self._chain_free_at if self._chain and not self._chain_busy else inf
        return min(self._agenda.next_at, pulled, chain)

    @property
    def over(self) -> bool:
        """Whether every token has lived its life; background traffic alone goes on for ever."""
        return self._next_plan is None and not self._lives

    @property
    def hopeless(self) -> bool:
        """Whether tokens were asked for, and none came."""
        tally = self.tally
        failures = min(_HOPELESS_ISSUES, tally.expected + len(self._plan.background_tokens))
        return not tally.issued and tally.not_issued >= failures

    def due(self, now: float, most: int = 256) -> list[Call]:
        """Return what is to be sent now, the longest due first; ``most`` bounds one answer."""
        self._take_plans(now)
        agenda, calls = self._agenda, list[Call]()
        self._follow_chain(calls)
        while agenda.next_at <= now and len(calls) < most:
            at, item = agenda.pop()
            if type(item) is _Stream:
                self._probe(at, item, calls)
            elif type(item) is _Arrival:
                self._arrive(at, item, calls)
            elif type(item) is _Issue:
                self._issue(at, item, now, calls)
            elif type(item) is _Life:
                self._revoke(at, item, now, calls)
        return calls

    def answered(self, call: Call) -> Row:
        """Learn from an answer, or from there being none; returns its row for the record."""
        kind = call.kind
        if kind is Kind.PROBE:
            return self._probed(call)
        if kind is Kind.BACKGROUND:
            return self._arrived(call)
        return self._issued(call) if kind is Kind.TOKEN else self._revoked(call)

    # What is due.

    def _take_plans(self, now: float) -> None:
        while (plan := self._next_plan) and plan.revoke_at - self._plan.horizon <= now:
            life = _Life(plan, plan.revoke_at)
            self._lives[plan.token] = life
            self._agenda.add(plan.issue_at, _Issue(plan.token, life))
            self._agenda.add(plan.revoke_at, life)
            self._next_plan = next(self._plans, None)

    def _plan_arrival(self) -> None:
        for at, token, target in self._arrivals:
            self._agenda.add(at, _Arrival(token, target))
            return

    def _arrive(self, at: float, item: _Arrival, calls: list[Call]) -> None:
        # The traffic begins with its first token; what one that didn't come was to carry,
        # another does.
        if self._background:
            token = item.token
            if token not in self._background:
                token = list(self._background)[token % len(self._background)]
            request = self._background[token][item.target]
            calls.append(Call(Kind.BACKGROUND, token, item.target, at, request))
        self._plan_arrival()

    def _probe(self, at: float, stream: _Stream, calls: list[Call]) -> None:
        life = stream.life
        if stream.over or life.over:
            return
        if at > life.watch_until:
            self._end_stream(stream)
            return
        calls.append(Call(Kind.PROBE, life.plan.token, stream.target, at, stream.request))
        stream.step += 1
        # Multiplied, not added up: the grid doesn't drift.
        self._agenda.add(stream.first_at + stream.step * self._interval, stream)

    def _issue(self, at: float, item: _Issue, now: float, calls: list[Call]) -> None:
        if self._options.given_tokens:
            self.tally.issued += 1
            token = self._options.given_tokens[item.token].get_secret_value()
            self._begin(item.token, item.life, token, now)
        elif self._chained:
            self._chain.append((at, item))
            self._follow_chain(calls)
        else:
            self._issuing[item.token] = item.life
            calls.append(Call(Kind.TOKEN, item.token, None, at, self._requests.issue()))

    def _follow_chain(self, calls: list[Call]) -> None:
        if self._chain and not self._chain_busy:
            at, item = self._chain.popleft()
            self._chain_busy = True
            self._issuing[item.token] = item.life
            request = self._requests.issue(self._refresh_token)
            # Before the last token had come, this one couldn't be asked for: no lag of ours.
            planned = max(at, self._chain_free_at)
            calls.append(Call(Kind.TOKEN, item.token, None, planned, request))

    def _revoke(self, at: float, life: _Life, now: float, calls: list[Call]) -> None:
        if life.over:
            return
        if life.secret is not None and self._warm(life, now):
            life.revoke_sent = now
            life.watch_until = at + self._options.watch
            request = self._requests.revoke(life.secret)
            calls.append(Call(Kind.REVOKE, life.plan.token, None, at, request))
            return
        if life.attempts >= _MOST_ATTEMPTS:
            self.tally.never_warm += 1
            self._end_life(life)
            return
        life.attempts += 1
        ready_at = max(now, self._warm_at(life, now))
        life.revoke_at = self._plan.again_after(ready_at, life.plan.token, life.attempts)
        self._agenda.add(life.revoke_at, life)

    def _warm(self, life: _Life, now: float) -> bool:
        """Say whether the token is surely cached everywhere, or at least somewhere in the end."""
        warm = [
            stream.first_accepted is not None
            and now - stream.first_accepted >= self._options.warm_up
            for stream in life.streams
        ]
        return any(warm) if life.attempts == _MOST_ATTEMPTS else all(warm)

    def _warm_at(self, life: _Life, now: float) -> float:
        firsts = [stream.first_accepted for stream in life.streams]
        return max((now if at is None else at for at in firsts), default=now) + (
            self._options.warm_up
        )

    # What was answered.

    def _begin(self, token: int, life: _Life | None, secret: str, now: float) -> None:
        """Use a token that has come: each target from the next point of its grid."""
        targets = range(len(self._requests.targets))
        if life is None:
            self._background[token] = [self._requests.probe(t, secret) for t in targets]
            return
        life.secret = secret
        for target, first_at in enumerate(life.plan.first_uses):
            step = max(0, ceil((now - first_at) / self._interval))
            request = self._requests.probe(target, secret)
            stream = _Stream(life, target, request, first_at, step)
            life.streams.append(stream)
            self._agenda.add(first_at + step * self._interval, stream)

    def _issued(self, call: Call) -> Row:
        life = self._issuing.pop(call.token)
        came = read_grant(call.status, call.error or "not sent", call.body)
        error = call.error
        if isinstance(came, Granted):
            self.tally.issued += 1
            self._refresh_token = came.refresh_token or self._refresh_token
            self._begin(call.token, life, came.access_token, call.finished or call.planned)
        else:
            self.tally.not_issued += 1
            self.why_no_token[came.why + (f", error {came.code}" if came.code else "")] += 1
            if error is None and (call.status or 0) < 300:
                error = "invalid"
            if life is not None:
                self._end_life(life)
        if self._chained:
            self._chain_busy = False
            self._chain_free_at = call.finished or self._chain_free_at
        if call.sent is None or call.finished is None:
            return _unsent(call)
        known = digest(came.access_token) if isinstance(came, Granted) else None
        return Issue(call.token, known, call.planned, call.sent, call.finished, call.status, error)

    def _revoked(self, call: Call) -> Row:
        life = self._lives.get(call.token)
        done = call.status is not None and 200 <= call.status < 300
        if life is not None:
            if call.sent is not None:
                life.revoke_sent = call.sent
            if done:
                self.tally.revoked += 1
            elif call.status is not None or call.sent is None:
                self._end_life(life)  # it surely wasn't revoked; without an answer it may be
        if not done:
            self.tally.not_revoked += 1
        if call.sent is None or call.finished is None:
            return _unsent(call)
        return Revoke(call.token, call.planned, call.sent, call.finished, call.status, call.error)

    def _arrived(self, call: Call) -> Row:
        if call.sent is None or call.finished is None or call.target is None:
            return _unsent(call)
        self._count(call)
        return Background(
            call.token,
            call.target,
            call.planned,
            call.sent,
            call.finished,
            call.status,
            call.error,
        )

    def _probed(self, call: Call) -> Row:
        sent, finished, target = call.sent, call.finished, call.target
        if sent is None or finished is None or target is None:
            return _unsent(call)
        life = self._lives.get(call.token)
        accepted = self._count(call)
        if life is not None and accepted is not None:
            stream = life.streams[target]
            if accepted:
                self._accepted(life, stream, sent)
            elif sent >= life.revoke_sent and not stream.over:
                self._refused(life, stream, sent, finished)
        return Probe(call.token, target, call.planned, sent, finished, call.status, call.error)

    def _count(self, call: Call) -> bool | None:
        """Count an answer; says whether it accepts, None where it says neither."""
        status = call.status
        self.tally.requests += 1
        if status in self._refused_status:
            return False
        if status is not None and status < 400:
            return True
        self.tally.errors[call.error or f"status {status}"] += 1
        return None

    def _accepted(self, life: _Life, stream: _Stream, sent: float) -> None:
        if stream.first_accepted is None:
            stream.first_accepted = sent
        if sent < life.revoke_sent:
            return
        self.tally.longest = max(self.tally.longest, sent - life.revoke_sent)
        if stream.refused_at is not None and sent > stream.refused_at:
            if life.refusing == len(life.streams):
                self.tally.refused -= 1
            life.refusing -= 1
            stream.refused_at = None
            self.tally.flaps += 1

    def _refused(self, life: _Life, stream: _Stream, sent: float, finished: float) -> None:
        if stream.refused_at is None:
            stream.refused_at = finished
            life.refusing += 1
            if life.refusing == len(life.streams):
                self.tally.refused += 1
        if sent >= stream.refused_at + self._options.settle:
            self._end_stream(stream)

    def _end_stream(self, stream: _Stream) -> None:
        stream.over = True
        life = stream.life
        if stream.refused_at is not None:
            self.tally.window_closed(stream.refused_at - life.revoke_sent)
        if all(other.over for other in life.streams):
            self._end_life(life)

    def _end_life(self, life: _Life) -> None:
        life.over = True
        life.secret = None
        self._lives.pop(life.plan.token, None)


def _unsent(call: Call) -> Unsent:
    return Unsent(str(call.kind), call.token, call.target, call.planned)
