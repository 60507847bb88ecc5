"""What is wrong with the options of a run, a line for each: flag, value, what is allowed. Pure.

No line repeats a secret.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.loadtest.options import Grant, RunOptions, public_url

# RFC 6749 appendix A: what may be in an identifier and in a scope.
_VISIBLE = re.compile(r"[\x20-\x7e]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
_METHOD = re.compile(r"[A-Z][A-Z-]*")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1
_OWN_FIELDS = {"authorization", "connection", "content-length", "transfer-encoding", "expect"}


def faults_of(options: RunOptions) -> Iterator[str]:
    """Return the faults; none when the run can be made."""
    yield from _url_faults(options)
    yield from _grant_faults(options)
    yield from _request_faults(options)
    yield from _number_faults(options)
    yield from _count_faults(options)


def _url_fault(url: str) -> str | None:
    """Say what is wrong with a URL to send requests to."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or "@" in parts.netloc or "#" in url or not re.fullmatch(r"[\x21-\x7e]+", url):
        return "a URL such as http://127.0.0.1:8080/orders is allowed, without user or fragment"
    return None


def _url_faults(options: RunOptions) -> Iterator[str]:
    if not options.targets:
        yield "--target: at least one is needed"
    named = [("--target", url) for url in options.targets]
    named.append(("--revoke-url", options.revoke_url))
    if options.token_url is not None:
        named.append(("--token-url", options.token_url))
    for flag, url in named:
        if fault := _url_fault(url):
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
