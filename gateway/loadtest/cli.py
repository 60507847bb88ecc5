"""The commands ``gateway loadtest run``, ``report`` and ``merge``: parse, then call.

What they call is imported when they are run: ``--help`` is quick, and the extra ``loadtest``
stays optional.
"""
# ruff: noqa: PLC0415 (for that reason)

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from gateway.loadtest import flags

if TYPE_CHECKING:
    from gateway.loadtest.options import RunOptions

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, dir_okay=False)
_EXTRA = {"hdrh", "httptools", "matplotlib", "numpy", "rich", "scipy"}
_USAGE, _INVALID = 2, 3
_SECRETS = ("client_secret", "password", "refresh_token")

_EXIT_CODES = """\b
Exit codes:
  0  the run is valid and every SLO was kept
  1  an SLO was broken
  2  the command line is wrong
  3  the run itself wasn't valid: it lagged, had errors, or measured too little"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
def loadtest() -> None:
    """How long does a revoked token live, on any gateway, under load?

    `run` measures, and writes down every request; `report` tells from that file what was
    measured, at any later time.
    """


def _secret(flag: str, variable: str, what: str) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        command = click.option(f"{flag}-file", type=_FILE, help=f"A file with {what}.")(command)
        return click.option(
            flag,
            metavar="SECRET",
            envvar=variable,
            show_envvar=True,
            help=f"{what[0].upper()}{what[1:]}; other users of the machine see a command line.",
        )(command)

    return add


def _reports(command: _Command) -> _Command:
    for flag, what in (
        ("--png", "a picture"),
        ("--json", "the figures as JSON"),
        ("--html", "the report as one HTML file"),
    ):
        name = f"{flag[2:]}_file"
        command = click.option(flag, name, type=_FILE, metavar="FILE", help=f"Write {what}.")(
            command
        )
    return command


_slo = click.option(
    "--slo",
    "slos",
    callback=flags.slos,
    multiple=True,
    metavar="SLO",
    help="What is to be kept, such as p99<=2s, max<3s, stale_accepts<=10 or "
    "false_refusals==0. May be given again.",
)
_max_age = click.option(
    "--max-age",
    callback=flags.duration,
    metavar="DURATION",
    help="What the gateway promises: how long it relies on what it cached. The report then "
    "compares with the theory.",
)

_WHERE = (
    click.option(
        "--target",
        "targets",
        multiple=True,
        required=True,
        metavar="URL",
        help="A protected URL of the gateway. Given again for each replica.",
    ),
    click.option("--token-url", metavar="URL", help="Where tokens are issued (RFC 6749)."),
    click.option(
        "--revoke-url", required=True, metavar="URL", help="Where they are revoked (RFC 7009)."
    ),
    click.option("--client-id", metavar="ID", help="The client at both endpoints."),
    _secret("--client-secret", "GATEWAY_LOADTEST_CLIENT_SECRET", "the client's secret"),
    click.option(
        "--client-auth",
        type=click.Choice(["basic", "body"]),
        default="basic",
        show_default=True,
        help="Where the client's secret goes.",
    ),
    click.option(
        "--grant",
        type=click.Choice(["client_credentials", "password", "refresh_token"]),
        default="client_credentials",
        show_default=True,
        help="With refresh_token each token is got by the refresh token of the one before.",
    ),
    click.option("--username", metavar="NAME", help="For --grant password."),
    _secret("--password", "GATEWAY_LOADTEST_PASSWORD", "the user's password"),
    _secret("--refresh-token", "GATEWAY_LOADTEST_REFRESH_TOKEN", "the first refresh token"),
    click.option("--scope", metavar="SCOPES", help="What the tokens are for, by spaces."),
    click.option(
        "--tokens-file",
        type=_FILE,
        metavar="FILE",
        help="Tokens issued elsewhere, one a line, bare or as JSON; instead of --token-url.",
    ),
    click.option(
        "--header",
        "headers",
        multiple=True,
        callback=flags.header_fields,
        metavar="'NAME: VALUE'",
        help="Sent to the targets. May be given again.",
    ),
    click.option("--method", default="GET", show_default=True, help="Of the requests to targets."),
    click.option("--ca-file", metavar="FILE", help="Certificates that https is trusted by."),
    click.option("--insecure", is_flag=True, help="Trust any certificate."),
)

_LOAD = (
    click.option(
        "--tokens", type=int, metavar="N", help="To be revoked. [default: 100, or all of a file]"
    ),
    click.option(
        "--probe-interval",
        "given_probe_interval",
        callback=flags.duration,
        metavar="DURATION",
        help="Between two probes of a token at a target. "
        "[default: 200ms, or with --max-age about a 16th of it]",
    ),
    click.option(
        "--revoke-rate",
        type=float,
        default=10.0,
        show_default=True,
        metavar="RATE",
        help="Revocations a second.",
    ),
    click.option(
        "--arrivals",
        type=click.Choice(["poisson", "even"]),
        default="poisson",
        show_default=True,
        help="How revocations are spread.",
    ),
    click.option(
        "--background-rps",
        type=float,
        default=50.0,
        show_default=True,
        metavar="RATE",
        help="Requests a second of tokens that are never revoked.",
    ),
    click.option(
        "--background-tokens",
        "given_background_tokens",
        type=int,
        metavar="N",
        help="How many those are. [default: 10]",
    ),
    click.option(
        "--warm-up",
        "given_warm_up",
        callback=flags.duration,
        metavar="DURATION",
        help="From a token's first acceptance to its revocation, at the least. "
        "[default: --max-age, 3 probe intervals at the least]",
    ),
    click.option(
        "--watch",
        "given_watch",
        callback=flags.duration,
        metavar="DURATION",
        help="How long to look at a revoked token that isn't refused. "
        "[default: 30s, or with --max-age half as much again, 10s at the least]",
    ),
    click.option(
        "--settle",
        "given_settle",
        callback=flags.duration,
        metavar="DURATION",
        help="How long to look at a refused token: does it stay refused? "
        "[default: 3 probe intervals]",
    ),
    click.option(
        "--timeout",
        callback=flags.duration,
        default="5s",
        show_default=True,
        metavar="DURATION",
        help="For an answer. A request that is as late is not sent.",
    ),
    click.option(
        "--connections",
        type=int,
        default=256,
        show_default=True,
        metavar="N",
        help="To each target, at most.",
    ),
    click.option(
        "--refused-status",
        callback=flags.statuses,
        default="401,403",
        show_default=True,
        metavar="STATUSES",
        help="What refuses a token; others below 400 accept it.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**53),
        metavar="N",
        help="The same seed plans the same run. [default: by chance, and said]",
    ),
    _max_age,
)


def _flags(*groups: tuple[Callable[[Any], Any], ...]) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return add


@loadtest.command(
    short_help="Measure, and report.",
    epilog=f"""\b
Example, while `gateway demo` runs in another terminal:
  gateway loadtest run --target http://127.0.0.1:8080/orders \\
    --token-url http://127.0.0.1:8080/token --revoke-url http://127.0.0.1:8080/revoke \\
    --client-id demo-key --client-secret demo-secret --max-age 15s --slo 'max<=16s'

{_EXIT_CODES}""",
)
@_flags(_WHERE, _LOAD, (_slo, _reports))
@click.option(
    "--out",
    type=_FILE,
    default="run.jsonl",
    show_default=True,
    metavar="FILE",
    help="The record. One of an earlier run is replaced once this one has begun.",
)
@click.option("--quiet", is_flag=True, help="No progress, and only the verdict's line.")
def run(
    *,
    out: Path,
    quiet: bool,
    html_file: Path | None,
    json_file: Path | None,
    png_file: Path | None,
    **given: Any,
) -> None:
    """Issue tokens, use them, revoke them, and see for how long each is still accepted.

    Open loop: what is planned for an instant is sent then, however slow the answers are, and
    latency counts from it. Ctrl-C ends the run early and keeps what was measured.
    """
    with _failures_in_a_line():
        from gateway.loadtest.runs import Reports, announce, conclude, measure

        options = options_from(given)
        if not quiet:
            click.echo(announce(options), err=True)
        measure(options, out, quiet=quiet)
        reports = Reports(html_file, json_file, png_file)
        sys.exit(conclude([out], options.slos, reports, quiet=quiet))


@loadtest.command(
    short_help="Tell what a run measured, or compare several.",
    epilog=f"""\b
Example:
  gateway loadtest report run.jsonl --html report.html

{_EXIT_CODES}""",
)
@click.argument("runs", type=_FILE, nargs=-1, required=True, metavar="RUN...")
@_flags((_slo, _max_age, _reports))
def report(
    *,
    runs: tuple[Path, ...],
    slos: tuple[Any, ...],
    max_age: float | None,
    html_file: Path | None,
    json_file: Path | None,
    png_file: Path | None,
) -> None:
    """Report from the records of one run, or of several side by side.

    SLOs and max age are those that the run was told, unless others are given here. The files
    of several workers of one run are first made one by `gateway loadtest merge`.
    """
    with _failures_in_a_line():
        from gateway.loadtest.runs import Reports, conclude

        reports = Reports(html_file, json_file, png_file)
        sys.exit(conclude(list(runs), slos or None, reports, max_age=max_age))


@loadtest.command(short_help="Make one record of the files of several workers.")
@click.argument("out", type=_FILE)
@click.argument("runs", type=_FILE, nargs=-1, required=True, metavar="RUN...")
def merge(out: Path, runs: tuple[Path, ...]) -> None:
    """Make one record, OUT, of the files that the workers of one run wrote.

    Their clocks are laid side by side by the time of day at which each began: windows are
    exact, as each token is one worker's own; the timeline is as good as the clocks agree.
    """
    with _failures_in_a_line():
        from gateway.loadtest.merge import merge_files

        if out in runs:
            raise click.UsageError(f"{str(out)!r} is one of the files to be merged.")
        merge_files(list(runs), out)


def options_from(given: Mapping[str, Any]) -> "RunOptions":
    """Return the options of a run, with what files and the environment have.

    Raises:
        SettingsError: an option is wrong.
        click.UsageError: a file is wrong.
    """
    from gateway.loadtest.options import Arrivals, ClientAuth, Grant, RunOptions

    rest = dict(given)
    context = click.get_current_context()
    for name in _SECRETS:
        source = context.get_parameter_source(name)
        rest[name] = flags.secret_from(
            f"--{name.replace('_', '-')}",
            rest[name],
            rest.pop(f"{name}_file"),
            by_environment=source is ParameterSource.ENVIRONMENT,
        )
    seed = rest.pop("seed")
    return RunOptions(
        given_tokens=flags.tokens_from(rest.pop("tokens_file")),
        seed=secrets.randbelow(2**32) if seed is None else seed,
        arrivals=Arrivals(rest.pop("arrivals")),
        client_auth=ClientAuth(rest.pop("client_auth")),
        grant=Grant(rest.pop("grant")),
        **rest,
    )


@contextmanager
def _failures_in_a_line() -> Iterator[None]:
    """Turn what a person can mend into a line each on standard error, and an exit code."""
    from gateway.errors import SettingsError
    from gateway.extras import how_to_install
    from gateway.loadtest.errors import RunFailed
    from gateway.loadtest.record import RecordError

    code, faults = 1, list[str]()
    try:
        yield
    except SettingsError as error:
        code, faults = _USAGE, list(error.faults)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        faults = [f"{error.name} isn't installed; {how_to_install('loadtest')}"]
    except OSError as error:
        if error.filename is None:
            raise
        faults = [f"{str(error.filename)!r}: {(error.strerror or 'it failed').lower()}"]
    except RecordError as error:
        faults = [str(error)]
    except RunFailed as error:
        code, faults = _INVALID, [f"invalid run: {error}"]
    for fault in faults:
        click.echo(f"gateway: {fault}", err=True)
    if faults:
        sys.exit(code)
