"""What a run is told: every option, checked, with its default worked out. Pure.

Secrets are ``SecretStr``: neither a repr nor the record's header ever has them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from gateway.errors import SettingsError
from gateway.loadtest.slo import Slo

# RFC 6749 appendix A: what may be in an identifier and in a scope.
_VISIBLE = re.compile(r"[\x20-\x7e]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
_METHOD = re.compile(r"[A-Z][A-Z-]*")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1
_OWN_FIELDS = {"authorization", "connection", "content-length", "transfer-encoding", "expect"}

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

    targets: tuple[str, ...]
    revoke_url: str
    seed: int
    token_url: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    client_auth: ClientAuth = ClientAuth.BASIC
    grant: Grant = Grant.CLIENT_CREDENTIALS
    username: str | None = None
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
        if faults := list(_faults(self)):
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

    def arguments(self) -> dict[str, Any]:
        """Return what the record's header says of the run: no secret, no user's name."""
        return {
            "token_url": self.token_url and public_url(self.token_url),
            "revoke_url": public_url(self.revoke_url),
            "client_id": self.client_id,
            "client_auth": str(self.client_auth),
            "grant": None if self.given_tokens else str(self.grant),
            "scope": self.scope,
            "given_tokens": len(self.given_tokens),
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


def public_url(url: str) -> str:
    """Return a URL as it may be shown: a query may hold a key."""
    head, mark, _ = url.partition("?")
    return f"{head}?…" if mark else head


def url_fault(url: str) -> str | None:
    """Say what is wrong with a URL to send requests to."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or "@" in parts.netloc or "#" in url or not re.fullmatch(r"[\x21-\x7e]+", url):
        return "a URL such as http://127.0.0.1:8080/orders is allowed, without user or fragment"
    return None


def _faults(options: RunOptions) -> Iterator[str]:
    yield from _url_faults(options)
    yield from _grant_faults(options)
    yield from _request_faults(options)
    yield from _number_faults(options)
    yield from _count_faults(options)


def _url_faults(options: RunOptions) -> Iterator[str]:
    if not options.targets:
        yield "--target: at least one is needed"
    named = [("--target", url) for url in options.targets]
    named.append(("--revoke-url", options.revoke_url))
    if options.token_url is not None:
        named.append(("--token-url", options.token_url))
    for flag, url in named:
        if fault := url_fault(url):
            # What is before an @ may be a password.
            yield f"{flag}: {public_url(url.rpartition('@')[2])!r}: {fault}"
    if len(set(options.targets)) != len(options.targets):
        yield "--target: each URL is allowed once"


def _grant_faults(options: RunOptions) -> Iterator[str]:
    if options.client_id is not None and not _VISIBLE.fullmatch(options.client_id):
        yield f"--client-id: {options.client_id!r}: printable ASCII is allowed"
    if options.client_secret and options.client_id is None:
        yield "--client-id: it is needed with a client secret"
    if options.scope is not None and not _SCOPE.fullmatch(options.scope):
        yield f"--scope: {options.scope!r}: scope tokens separated by single spaces are allowed"
    yield from _given_faults(options) if options.given_tokens else _issue_faults(options)


def _given_faults(options: RunOptions) -> Iterator[str]:
    if options.token_url is not None:
        yield "--token-url: it isn't allowed with --tokens-file: those tokens are issued"
    if not all(_BEARER.fullmatch(token.get_secret_value()) for token in options.given_tokens):
        yield "--tokens-file: a token in it has characters that RFC 6750 §2.1 doesn't allow"
    if len(set(options.given_tokens)) != len(options.given_tokens):
        yield "--tokens-file: each token is allowed once"


def _issue_faults(options: RunOptions) -> Iterator[str]:
    if options.token_url is None:
        yield "--token-url: it is needed, or --tokens-file"
    if options.client_id is None:
        yield "--client-id: it is needed, or --tokens-file"
    if options.grant is Grant.CLIENT_CREDENTIALS and options.client_secret is None:
        yield "--client-secret: it is needed for client_credentials (RFC 6749 §4.4)"
    if options.grant is Grant.PASSWORD and not (options.username and options.password):
        yield "--username, --password: both are needed for --grant password"
    if options.grant is Grant.REFRESH_TOKEN and options.refresh_token is None:
        yield "--refresh-token: it is needed for --grant refresh_token"


def _request_faults(options: RunOptions) -> Iterator[str]:
    if not _METHOD.fullmatch(options.method) or options.method in {"HEAD", "CONNECT", "TRACE"}:
        yield f"--method: {options.method!r}: a method such as GET is allowed, but not HEAD"
    for name, value in options.headers:
        if not _FIELD_NAME.fullmatch(name) or name.lower() in _OWN_FIELDS:
            yield (
                f"--header: {name!r}: a field name is allowed, but not one of "
                f"{', '.join(sorted(_OWN_FIELDS))}"
            )
        elif not _FIELD_VALUE.fullmatch(value.get_secret_value()):
            yield f"--header: {name}: a value of printable ASCII is allowed"
    for status in options.refused_status:
        if not 200 <= status <= 599:
            yield f"--refused-status: {status}: a status from 200 to 599 is allowed"
    if not options.refused_status:
        yield "--refused-status: at least one is needed"


def _number_faults(options: RunOptions) -> Iterator[str]:
    for flag, seconds, least in (
        ("--probe-interval", options.probe_interval, 0.001),
        ("--warm-up", options.warm_up, 0.0),
        ("--watch", options.watch, 0.001),
        ("--settle", options.settle, 0.0),
        ("--timeout", options.timeout, 0.01),
        ("--max-age", options.max_age or 0.0, 0.0),
    ):
        if not least <= seconds <= 7 * 86_400:
            yield f"--{flag[2:]}: {seconds}s: a duration from {least}s to 7d is allowed"
    if not 0 < options.revoke_rate <= 10_000:
        yield f"--revoke-rate: {options.revoke_rate}: a rate above 0 and up to 10000 is allowed"
    if not 0 <= options.background_rps <= 100_000:
        yield f"--background-rps: {options.background_rps}: a rate from 0 to 100000 is allowed"
    if not 1 <= options.connections <= 60_000:
        yield f"--connections: {options.connections}: from 1 to 60000 are allowed"


def _count_faults(options: RunOptions) -> Iterator[str]:
    measured, background = options.measured_tokens, options.background_tokens
    if options.background_rps and not 1 <= background <= 100_000:
        yield f"--background-tokens: {background}: from 1 to 100000 are allowed"
    if not 1 <= measured <= 1_000_000:
        yield f"--tokens: {measured}: from 1 to 1000000 are allowed"
    elif options.given_tokens and measured + background > len(options.given_tokens):
        yield (
            f"--tokens: {measured} and {background} for background traffic are more than the "
            f"{len(options.given_tokens)} of --tokens-file"
        )
