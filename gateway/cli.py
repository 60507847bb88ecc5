"""The commands: parse, then call.

What they call is imported when they are run, so that ``--help`` is quick and the optional
parts stay optional.
"""
# ruff: noqa: PLC0415 (for that reason)

import asyncio
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway import __version__
from gateway.arguments import Pair, assignments, duration, pairs, pairs_file, store_url
from gateway.loadtest.cli import loadtest

EX_CONFIG = 78
"""The exit code for bad settings, as sysexits.h has it."""

_Command = TypeVar("_Command", bound=Callable[..., Any])
_EXTRAS = {"cryptography", "fakeredis", "oauthlib", "rich"}
_BIND = re.compile(
    r"bind on address \('(?P<host>[^']*)', (?P<port>\d+).*?\): (?:\[.*?\] )?(?P<why>.*)"
)


_FLAGS = {
    "host": "listen.host",
    "port": "listen.port",
    "admin_host": "admin.host",
    "admin_port": "admin.port",
    "workers": "listen.workers",
    "store": "store.url",
    "log_level": "logging.level",
    "log_format": "logging.format",
}
_PORT = click.IntRange(0, 65535)
_LEVEL = click.Choice(["debug", "info", "warning", "error"])
_FORMAT = click.Choice(["json", "console"])
_config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="GATEWAY_CONFIG",
    show_envvar=True,
    metavar="FILE",
    help="The settings file; `gateway settings` prints one with all there is.",
)


def _settings_flags(command: _Command) -> _Command:
    """Add the flags that set settings; they arrive as one mapping by dotted name."""
    for option in (
        click.option("--log-format", type=_FORMAT, help="logging.format"),
        click.option("--log-level", type=_LEVEL, help="logging.level"),
        click.option("--store", metavar="URL", help="store.url"),
        click.option(
            "--workers", type=click.IntRange(1, 256), metavar="COUNT", help="listen.workers"
        ),
        click.option("--admin-port", type=_PORT, metavar="PORT", help="admin.port"),
        click.option("--admin-host", metavar="ADDRESS", help="admin.host"),
        click.option("--port", type=_PORT, metavar="PORT", help="listen.port; 0 takes a free one"),
        click.option("--host", metavar="ADDRESS", help="listen.host"),
        click.option(
            "--set",
            "assigned",
            callback=assignments,
            multiple=True,
            metavar="SECTION.NAME=VALUE",
            help="Any setting, for example --set cache.max_age=5m. May be given again.",
        ),
        _config,
    ):
        command = option(command)
    return command


def _by_setting(assigned: dict[str, str], **flags: object) -> dict[str, object]:
    named = {_FLAGS[flag]: value for flag, value in flags.items() if value is not None}
    return {**assigned, **named}


@contextmanager
def _failures_in_a_line() -> Iterator[None]:
    """Turn what a person can mend into a line each on standard error, and an exit code."""
    from gateway.errors import SettingsError
    from gateway.extras import how_to_install

    try:
        yield
    except SettingsError as error:
        for fault in error.faults:
            click.echo(f"gateway: {fault}", err=True)
        raise SystemExit(EX_CONFIG) from None
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        what = f"{package} isn't installed; {how_to_install('demo')}"
        click.echo(f"gateway: {what}", err=True)
        raise SystemExit(1) from None
    except OSError as error:
        found = _BIND.search(str(error))
        if not found and not isinstance(error, socket.gaierror):
            raise
        where = f" on {found['host']}:{found['port']}" if found else ""
        why = found["why"] if found else error.strerror or "unknown error"
        click.echo(f"gateway: can't listen{where}: {why.lower()}", err=True)
        raise SystemExit(1) from None


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
    epilog="""\b
Examples:
  gateway demo --story
  gateway settings > gateway.toml
  gateway check-config --config gateway.toml --set key_manager.url=http://127.0.0.1:9763
  gateway serve --config gateway.toml --set key_manager.url=http://127.0.0.1:9763

\b
Exit codes:
  0   all is well
  1   something failed, such as a port that is taken
  2   the command line is wrong
  78  a setting is wrong; one line on standard error for each""",
)
@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
def main() -> None:
    """An OAuth 2.0 gateway whose revocation window is chosen, bounded, seen and measured.

    It lets a request through when its bearer token is good, and knows that from a token store
    (Redis) or from a cache of what the store said. How long the cache is relied on is how long
    a revoked token may still be accepted: 15 minutes unless you choose another time.
    """


@main.command(
    short_help="Run the gateway.",
    epilog="""\b
Environment:
  GATEWAY_CONFIG              the settings file
  GATEWAY_CACHE__MAX_AGE=5m   cache.max_age, and so on for every setting
  GATEWAY_STORE__URL_FILE=F   a file that holds store.url; also for store.password
  GATEWAY_ROUTES='[{"path": "/orders", "upstream": "http://orders:9000"}]'""",
)
@_settings_flags
def serve(config: Path | None, **given: Any) -> None:
    """Run the gateway until SIGTERM; SIGHUP reads the settings again.

    With --workers above 1, signal this process, not the workers.

    A setting comes from, the last winning: the file, the environment, the command line.
    """
    from gateway.signals import Hangups

    hangups = Hangups()  # before all else is imported, which takes a while
    flags = _by_setting(**given)
    with _failures_in_a_line():
        from gateway.process import serve as run
        from gateway.settings import load_settings, misspelt

        load = partial(load_settings, config, environ=os.environ, flags=flags)
        sys.exit(run(load, hangups=hangups, warnings=misspelt(os.environ)))


@main.command(short_help="Check the settings and print them.")
@_settings_flags
def check_config(config: Path | None, **given: Any) -> None:
    """Print the settings in effect, secrets masked, or what is wrong with them.

    On standard error stands what is allowed, but seldom meant.

    Takes what `gateway serve` takes, and exits 78 where that would.
    """
    with _failures_in_a_line():
        from gateway.settings import detours, load_settings, misspelt, render_settings

        settings = load_settings(config, environ=os.environ, flags=_by_setting(**given))
        for warning in (*misspelt(os.environ), *detours(settings)):
            click.echo(f"gateway: warning: {warning}", err=True)
        click.echo(render_settings(settings), nl=False)


@main.command(
    short_help="Print all settings, with defaults and meaning.",
    epilog="""\b
Example:
  gateway settings > gateway.toml""",
)
def settings() -> None:
    """Print a settings file that has every setting, each with its default, commented.

    What has no default is commented out. A gateway needs a route, or key_manager.url.
    """
    from gateway.settings.reference import reference_settings

    click.echo(reference_settings(), nl=False)


@main.command(short_help="Ask a running gateway how it is.")
@_config
@click.option("--url", help="What to ask instead, such as http://127.0.0.1:9090/livez.")
@click.option("--ready", is_flag=True, help="Ask /readyz: is the token store reachable too?")
@click.option("--timeout", callback=duration, metavar="DURATION", default="3s", show_default=True)
def healthcheck(config: Path | None, url: str | None, ready: bool, timeout: timedelta) -> None:
    """Ask the admin port for /livez and exit 0 when it answers well, else 1.

    Where the admin port is comes from the settings file and the environment; what else is in
    them doesn't matter here.
    """
    if url and ready:
        raise click.UsageError("--ready and --url don't go together: a URL says what to ask.")
    from gateway.errors import SettingsError
    from gateway.healthcheck import health_url, probe
    from gateway.settings import load_admin

    try:
        url = url or health_url(load_admin(config, environ=os.environ), ready=ready)
    except SettingsError as error:
        trouble = str(error)
    else:
        fault = probe(url, timeout_seconds=timeout.total_seconds())
        trouble = f"{url}: {fault}" if fault else ""
    if trouble:
        click.echo(f"gateway: {trouble}", err=True)
        sys.exit(1)
    click.echo("ok")


def _port(flag: str, default: int, what: str) -> Callable[[_Command], _Command]:
    return click.option(
        flag, type=_PORT, metavar="PORT", default=default, show_default=True, help=what
    )


@main.command(short_help="Try it: gateway, key manager and backend in one process.")
@_port("--port", 8080, "The gateway, http.")
@_port("--tls-port", 8443, "The gateway, https with a certificate made at start.")
@_port("--admin-port", 9090, "Health and metrics.")
@_port("--key-manager-port", 9763, "The key manager.")
@_port("--backend-port", 9000, "The backend, which echoes what it gets.")
@click.option("--store", callback=store_url, metavar="URL", default="memory://", show_default=True)
@click.option(
    "--max-age",
    callback=duration,
    metavar="DURATION",
    default="15s",
    show_default=True,
    help="The revocation window: short, so that a person sees it close.",
)
@click.option("--story", is_flag=True, help="Play the life of a token and exit.")
@click.option("--log-level", type=_LEVEL, default="warning", show_default=True)
def demo(max_age: timedelta, **given: Any) -> None:
    """Start everything on loopback and print the curls to paste. A port of 0 takes a free one.

    --story plays them: issue, call, refresh, revoke, still accepted, lapsed. It exits 0, or 1
    where any step isn't as it should be.
    """
    with _failures_in_a_line():
        from gateway.demo import DemoOptions, run

        sys.exit(run(DemoOptions(max_age_seconds=max_age.total_seconds(), **given)))


@main.command(
    short_help="Run the embedded key manager alone.",
    epilog="""\b
Example, with a gateway beside it that records tokens itself, as it does by default:
  gateway keymanager --client demo-key:demo-secret --user alice:wonderland
  gateway serve --set key_manager.url=http://127.0.0.1:9763

\b
The other way, for a gateway with key_manager.record_tokens = false:
  gateway keymanager --writes-store --client demo-key:demo-secret

\b
Endpoints: /token, /revoke, /introspect; /authorize and /grants for users;
/admin/revoke for administrators. docs/keymanager.md has what each takes.""",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS")
@_port("--port", 9763, "0 takes a free one.")
@click.option(
    "--store",
    "store_url",
    callback=store_url,
    metavar="URL",
    default="redis://127.0.0.1:6379/0",
    show_default=True,
    envvar="KEYMANAGER_STORE",
    show_envvar=True,
    help="The Redis that has the gateway's token store.",
)
@click.option(
    "--key-prefix", default="token:", show_default=True, help="The gateway's store.key_prefix."
)
@click.option(
    "--writes-store",
    is_flag=True,
    help="Write access tokens into the gateway's token store, which then must not: "
    "key_manager.record_tokens = false. Else it is only told which tokens have ended.",
)
@click.option(
    "--client",
    "clients",
    callback=pairs,
    metavar="NAME:SECRET",
    multiple=True,
    envvar="KEYMANAGER_CLIENTS",
    show_envvar=True,
    help="A client; without the secret, a public one. May be given again.",
)
@click.option(
    "--clients-file",
    type=click.Path(path_type=Path),
    callback=pairs_file,
    metavar="FILE",
    envvar="KEYMANAGER_CLIENTS_FILE",
    show_envvar=True,
    help="More clients, one a line: other users of the machine see a command line.",
)
@click.option(
    "--user",
    "users",
    callback=pairs,
    metavar="NAME:SECRET",
    multiple=True,
    envvar="KEYMANAGER_USERS",
    show_envvar=True,
    help="Who can sign in. May be given again.",
)
@click.option(
    "--users-file",
    type=click.Path(path_type=Path),
    callback=pairs_file,
    metavar="FILE",
    envvar="KEYMANAGER_USERS_FILE",
    show_envvar=True,
    help="More users, one a line.",
)
@click.option(
    "--admin",
    "admins",
    callback=pairs,
    metavar="NAME:SECRET",
    multiple=True,
    envvar="KEYMANAGER_ADMINS",
    show_envvar=True,
    help="Who may end anyone's grants, at /admin/revoke. May be given again.",
)
@click.option(
    "--admins-file",
    type=click.Path(path_type=Path),
    callback=pairs_file,
    metavar="FILE",
    envvar="KEYMANAGER_ADMINS_FILE",
    show_envvar=True,
    help="More of them, one a line.",
)
@click.option("--scope", "scopes", multiple=True, default=["read", "write"], show_default=True)
@click.option(
    "--redirect-uri",
    "redirect_uris",
    multiple=True,
    metavar="URI",
    help="Of every client. With http://127.0.0.1 or http://[::1], any port will do.",
)
@click.option(
    "--access-token-expires-in",
    callback=duration,
    metavar="DURATION",
    default="1h",
    show_default=True,
)
@click.option(
    "--refresh-token-expires-in",
    callback=duration,
    metavar="DURATION",
    default="1d",
    show_default=True,
)
@click.option(
    "--refresh-tokens/--no-refresh-tokens",
    default=True,
    show_default=True,
    help="Issue refresh tokens, with all grants but the implicit one.",
)
@click.option(
    "--without-refresh",
    multiple=True,
    metavar="NAME",
    help="A client that gets no refresh tokens. May be given again.",
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="ADDRESS",
    help="An address or network whose X-Forwarded-For is believed: the gateway's. Whoever sends "
    "wrong passwords is slowed down by address. May be given again.  [default: loopback]",
)
@click.option("--issuer", metavar="URL", help="Sent as iss (RFC 9207).")
@click.option(
    "--wso2-headers",
    is_flag=True,
    help="/revoke names the revoked token in headers, as WSO2's key manager does; the gateway "
    "strips them.",
)
@click.option("--log-level", type=_LEVEL, default="info", show_default=True)
@click.option("--log-format", type=_FORMAT, default="json", show_default=True)
def keymanager(
    *,
    clients: tuple[Pair, ...],
    clients_file: tuple[Pair, ...],
    users: tuple[Pair, ...],
    users_file: tuple[Pair, ...],
    admins: tuple[Pair, ...],
    admins_file: tuple[Pair, ...],
    scopes: tuple[str, ...],
    redirect_uris: tuple[str, ...],
    access_token_expires_in: timedelta,
    refresh_token_expires_in: timedelta,
    refresh_tokens: bool,
    without_refresh: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    log_level: str,
    log_format: str,
    issuer: str | None,
    wso2_headers: bool,
    **where: Any,
) -> None:
    """Run the OAuth 2.0 authorization server of the demo and the tests in its own process."""
    with _failures_in_a_line():
        from gateway.keymanager import GRANT_TYPES, LOOPBACK, Client, KeyManagerConfig, User, run
        from gateway.logs import configure_logging
        from gateway.settings import Logging

        if unknown := set(without_refresh) - {name for name, _ in clients + clients_file}:
            raise click.UsageError(f"--without-refresh: {sorted(unknown)}: no such client.")
        once = tuple(grant for grant in GRANT_TYPES if grant != "refresh_token")
        try:
            config = KeyManagerConfig(
                clients=tuple(
                    Client(
                        name,
                        secret,
                        redirect_uris,
                        scopes,
                        once if name in without_refresh else GRANT_TYPES,
                    )
                    for name, secret in clients + clients_file
                ),
                users=tuple(User(name, secret or "") for name, secret in users + users_file),
                admins=tuple(User(name, secret or "") for name, secret in admins + admins_file),
                access_token_expires_in=round(access_token_expires_in.total_seconds()),
                refresh_token_expires_in=round(refresh_token_expires_in.total_seconds()),
                refresh_tokens=refresh_tokens,
                trusted_proxies=trusted_proxies or LOOPBACK,
                issuer=issuer,
                wso2_headers=wso2_headers,
            )
        except ValueError as error:
            raise click.UsageError(f"{error}") from None
        if not config.clients:
            raise click.UsageError("at least one --client is needed, or --clients-file.")
        if not all(user.password for user in config.users + config.admins):
            raise click.UsageError("every user and administrator needs a password.")
        configure_logging(Logging.model_validate({"level": log_level, "format": log_format}))
        asyncio.run(run(config, **where))


main.add_command(loadtest)
