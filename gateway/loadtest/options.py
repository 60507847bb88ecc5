"""What a run is told: every option, checked, with its default worked out. Pure.

Secrets are ``SecretStr``: neither a repr nor the record's header ever has them. URLs aren't in
the repr either, for a query may hold a key.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any

from pydantic import SecretStr

from gateway.errors import SettingsError
from gateway.loadtest.slo import Slo

_CACHE_LAPSES_PER_PROBE = 15.9
_PROBE_INTERVAL_SECONDS = (0.05, 0.2, 10.0)
_LEAST_PROBES = 3


class Grant(StrEnum):
    """How tokens are got (RFC 6749 §4.4, §4.3, §6)."""

    CLIENT_CREDENTIALS = "client_credentials"
    PASSWORD = "password"  # noqa: S105 (the name of a grant)
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 (the name of a grant)


class Arrivals(StrEnum):
    """How revocations are spread over time."""

    POISSON = "poisson"
    EVEN = "even"


class ClientAuth(StrEnum):
    """Where the client's secret goes (RFC 6749 §2.3.1)."""

    BASIC = "basic"
    BODY = "body"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Everything ``gateway loadtest run`` takes; durations in seconds, rates a second.

    What may be None has a default that depends on the others: see the properties.
    ``given_tokens`` are tokens issued elsewhere, used instead of asking for some.

    Raises:
        SettingsError: a line for each option that is wrong: its flag, its value, what is
            allowed. No line repeats a secret.
    """

    targets: tuple[str, ...] = field(repr=False)
    revoke_url: str = field(repr=False)
    seed: int
    token_url: str | None = field(default=None, repr=False)
    client_id: str | None = None
    client_secret: SecretStr | None = None
    client_auth: ClientAuth = ClientAuth.BASIC
    grant: Grant = Grant.CLIENT_CREDENTIALS
    username: str | None = field(default=None, repr=False)
    password: SecretStr | None = None
    refresh_token: SecretStr | None = None
    scope: str | None = None
    given_tokens: tuple[SecretStr, ...] = ()
    headers: tuple[tuple[str, SecretStr], ...] = ()
    method: str = "GET"
    ca_file: str | None = None
    insecure: bool = False
    tokens: int | None = None
    given_probe_interval: float | None = None
    revoke_rate: float = 10.0
    arrivals: Arrivals = Arrivals.POISSON
    background_rps: float = 50.0
    given_background_tokens: int | None = None
    given_warm_up: float | None = None
    given_watch: float | None = None
    given_settle: float | None = None
    timeout: float = 5.0
    connections: int = 256
    refused_status: tuple[int, ...] = (401, 403)
    max_age: float | None = None
    slos: tuple[Slo, ...] = field(default=())

    def __post_init__(self) -> None:
        from gateway.loadtest.option_faults import faults_of  # noqa: PLC0415 (each needs the other)

        if faults := list(faults_of(self)):
            raise SettingsError(*faults)

    @property
    def probe_interval(self) -> float:
        """Seconds between two probes of one token at one target.

        By default 200 ms, or with ``max_age`` a 15.9th of it: a cache entry then lapses just
        before a probe, which fills it again, so that hardly any token is revoked while no
        entry is there. (A whole fraction would leave that to chance.)
        """
        least, usual, most = _PROBE_INTERVAL_SECONDS
        if self.given_probe_interval is not None:
            return self.given_probe_interval
        if not self.max_age:
            return usual
        return round(min(most, max(least, self.max_age / _CACHE_LAPSES_PER_PROBE)), 3)

    @property
    def warm_up(self) -> float:
        """Seconds from a token's first acceptance to its revocation, at the least."""
        if self.given_warm_up is not None:
            return self.given_warm_up
        return max(self.max_age or 0.0, _LEAST_PROBES * self.probe_interval)

    @property
    def watch(self) -> float:
        """Seconds for which a revoked token is looked at, if it isn't refused before."""
        if self.given_watch is not None:
            return self.given_watch
        if self.max_age is None:
            return 30.0
        return max(10.0, 1.5 * self.max_age + 10 * self.probe_interval)

    @property
    def settle(self) -> float:
        """Seconds for which a refused token goes on being probed, to see it stays refused."""
        if self.given_settle is not None:
            return self.given_settle
        return _LEAST_PROBES * self.probe_interval

    @property
    def background_tokens(self) -> int:
        """How many tokens are used and never revoked."""
        if not self.background_rps:
            return 0
        if self.given_background_tokens is not None:
            return self.given_background_tokens
        return min(10, max(1, len(self.given_tokens) // 10)) if self.given_tokens else 10

    @property
    def measured_tokens(self) -> int:
        """How many tokens are revoked."""
        if self.tokens is not None:
            return self.tokens
        return len(self.given_tokens) - self.background_tokens if self.given_tokens else 100

    @property
    def _used_tokens(self) -> tuple[SecretStr, ...]:
        return self.given_tokens[: self.measured_tokens + self.background_tokens]

    def arguments(self) -> dict[str, Any]:
        """Return what the record's header says of the run: no secret, no user's name."""
        return {
            "token_url": self.token_url and public_url(self.token_url),
            "revoke_url": public_url(self.revoke_url),
            "client_id": self.client_id,
            "client_auth": str(self.client_auth),
            "grant": None if self.given_tokens else str(self.grant),
            "scope": self.scope,
            "given_digests": [digest(token.get_secret_value()) for token in self._used_tokens],
            "headers": [name for name, _ in self.headers],
            "method": self.method,
            "insecure": self.insecure,
            "tokens": self.measured_tokens,
            "probe_interval": self.probe_interval,
            "revoke_rate": self.revoke_rate,
            "arrivals": str(self.arrivals),
            "background_rps": self.background_rps,
            "background_tokens": self.background_tokens,
            "warm_up": self.warm_up,
            "watch": self.watch,
            "settle": self.settle,
            "timeout": self.timeout,
            "connections": self.connections,
            "refused_status": list(self.refused_status),
            "seed": self.seed,
            "max_age": self.max_age,
            "slo": [slo.text for slo in self.slos],
        }


def digest(token: str) -> str:
    """Return how a token appears in the record: its SHA-256, in hex."""
    return sha256(token.encode()).hexdigest()


def public_url(url: str) -> str:
    """Return a URL as it may be shown: a query may hold a key."""
    head, mark, _ = url.partition("?")
    return f"{head}?…" if mark else head
