"""``gateway serve`` as a process: its signals, its exit codes, what it leaves in its log."""

import asyncio
import gc
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from held_backend import HeldBackend
from processes import GATEWAY, GatewayProcess, serving
from pytest_aiohttp.plugin import AiohttpServer
from redis_server import free_port

from gateway.process import spare_the_collector
from gateway.tokens import token_key

Configure = Callable[..., Path]


@pytest.fixture
async def backend(aiohttp_server: AiohttpServer) -> HeldBackend:
    """A backend whose slow answers a test holds back."""
    return await HeldBackend().start(aiohttp_server)


@pytest.fixture
def configure(tmp_path: Path, redis_url: str, backend: HeldBackend) -> Configure:
    """Write a settings file; ``more`` goes before the routes."""

    def configure(*, more: str = "", routes: str = "", grace: str = "0s") -> Path:
        config = tmp_path / "gateway.toml"
        config.write_text(
            f"""
            {more}
            [listen]
            port = 0
            drain_grace = "{grace}"
            [admin]
            port = 0
            [store]
            url = "{redis_url}"
            [[routes]]
            path = "/"
            upstream = "{backend.url}"
            public = true
            {routes}
            """
        )
        return config

    return configure


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


async def test_sigterm_lets_requests_under_way_finish(
    configure: Configure, backend: HeldBackend, session: aiohttp.ClientSession
) -> None:
    """Readiness fails, what is under way is answered, then the process ends with 0."""
    async with serving(configure()) as gateway:
        slow = asyncio.create_task(session.get(f"{gateway.url}/slow"))
        await backend.reached.wait()
        gateway.signal(signal.SIGTERM)
        await gateway.logged("draining")
        async with session.get(f"{gateway.admin_url}/readyz") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (503, "terminating")
        async with session.get(f"{gateway.admin_url}/livez") as answer:
            assert answer.status == 200
        backend.released.set()
        async with await slow as answer:
            assert (answer.status, await answer.text()) == (200, "at last")
        assert await gateway.exit_code() == 0


async def test_accepting_goes_on_for_the_grace_period(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """New connections are served while the grace lasts, and told not to come back."""
    async with serving(configure(grace="1m")) as gateway:
        gateway.signal(signal.SIGTERM)
        await gateway.logged("draining")
        async with session.get(f"{gateway.url}/fast") as answer:
            assert (answer.status, answer.headers.get("Connection")) == (200, "close")


async def test_a_second_signal_stops_at_once(
    configure: Configure, backend: HeldBackend, session: aiohttp.ClientSession
) -> None:
    """Whoever asks twice doesn't wait for requests under way; that is no clean end."""
    async with serving(configure(grace="1m")) as gateway:
        slow = asyncio.create_task(session.get(f"{gateway.url}/slow"))
        await backend.reached.wait()
        gateway.signal(signal.SIGTERM)
        await gateway.logged("draining")
        gateway.signal(signal.SIGTERM)
        assert await gateway.exit_code() == 1
        with pytest.raises(aiohttp.ClientError):
            await slow


async def test_sigint_drains_without_grace(configure: Configure) -> None:
    """A person at a terminal isn't kept waiting."""
    async with serving(configure(grace="1m")) as gateway:
        gateway.signal(signal.SIGINT)
        assert await gateway.exit_code() == 0


async def test_sighup_reloads_and_keeps_the_old_when_the_new_are_bad(
    configure: Configure, backend: HeldBackend, session: aiohttp.ClientSession
) -> None:
    """New routes serve without a restart; bad settings are logged and change nothing."""
    async with serving(configure()) as gateway:
        route = f'[[routes]]\npath = "/new"\nupstream = "{backend.url}"'
        configure(routes=route)
        gateway.signal(signal.SIGHUP)
        assert (await gateway.logged("settings reloaded"))["changed"] == ["routes"]
        async with session.get(f"{gateway.url}/new") as answer:
            assert answer.status == 401

        configure(routes='[[routes]]\npath = "new"\nupstream = "nowhere"')
        gateway.signal(signal.SIGHUP)
        faults = (await gateway.logged("settings not reloaded"))["faults"]
        assert [fault.split(" = ")[0] for fault in faults] == [
            "routes[1].path",
            "routes[1].upstream",
        ]
        async with session.get(f"{gateway.url}/new") as answer:
            assert answer.status == 401


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sighup_while_it_starts_ends_nothing_and_reloads_later(
    configure: Configure, tmp_path: Path, workers: str
) -> None:
    """Its settings come through a pipe, so it is known to be starting when it gets the signal."""
    text = configure().read_text()
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    process = await asyncio.create_subprocess_exec(
        *(*GATEWAY, "serve", "--config", str(pipe), "--workers", workers),
        stderr=asyncio.subprocess.PIPE,
    )
    gateway = GatewayProcess(process)

    def begin() -> None:
        with pipe.open("w") as writer:  # which waits for a reader
            gateway.signal(signal.SIGHUP)
            (tmp_path / "changed.toml").write_text(text + '[proxy]\nrealm = "changed"\n')
            (tmp_path / "changed.toml").rename(pipe)
            writer.write(text)

    async with asyncio.timeout(30):
        await asyncio.to_thread(begin)
        changed = (await gateway.logged("settings reloaded"))["changed"]
    assert changed == ["proxy.realm"]
    gateway.signal(signal.SIGINT)
    assert await gateway.exit_code() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("choice", "kind"), [("auto", "uvloop"), ("uvloop", "uvloop"), ("asyncio", "asyncio")]
)
async def test_the_event_loop_is_as_chosen(
    configure: Configure, session: aiohttp.ClientSession, choice: str, kind: str, workers: str
) -> None:
    """Each process that serves says which loop it runs on; uvloop is an extra, installed here."""
    more = ("--set", f"listen.event_loop={choice}", "--workers", workers)
    async with serving(configure(), *more) as gateway:
        async with session.get(f"{gateway.url}/fast") as answer:
            assert answer.status == 200
        await gateway.logged("event loop", running=kind, times=int(workers))
        gateway.signal(signal.SIGTERM)
        assert await gateway.exit_code() == 0


async def test_no_token_reaches_the_log(
    configure: Configure, backend: HeldBackend, session: aiohttp.ClientSession, redis_url: str
) -> None:
    """Good, unknown, malformed or in the wrong place: no token stands in any line of the log."""
    route = f'[[routes]]\npath = "/orders"\nupstream = "{backend.url}"'
    secret = "Very-Secret-Token"
    async with serving(configure(routes=route, more='logging.level = "debug"')) as gateway:
        attempts = [
            ({"Authorization": f"Bearer {secret}"}, ""),
            ({"Authorization": f"Bearer {secret} {secret}"}, ""),
            ({"Authorization": f"Basic {secret}"}, ""),
            ({"X_Odd": secret}, ""),
            ({}, f"?access_token={secret}"),
        ]
        statuses = []
        for headers, query in attempts:
            url = f"{gateway.url}/orders{query}"
            async with session.get(url, headers=headers) as answer:
                assert secret not in await answer.text()
                statuses.append(answer.status)
        assert statuses == [401, 400, 401, 400, 400]
        gateway.signal(signal.SIGTERM)
        assert await gateway.exit_code() == 0
        assert len([entry for entry in gateway.log if entry["event"] == "request"]) == 5
        assert secret not in json.dumps(gateway.log)
        assert token_key(secret).hex() not in json.dumps(gateway.log)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ('cache.max_age = "15 parsecs"', 'cache.max_age = "15 parsecs"'),
        ('cache.max_agee = "15m"', "cache.max_agee"),
        ("listen.port = 70000", "listen.port = 70000"),
        ('store.url = "mysql://root:hunter2@localhost"', "store.url"),
    ],
)
def test_bad_settings_exit_78(configure: Configure, settings: str, fault: str) -> None:
    """One line names the setting, its value and what is allowed; no password in it."""
    config = configure()
    config.write_text(settings + '\nroutes = [{path = "/", upstream = "http://127.0.0.1:1"}]\n')
    run = subprocess.run(
        [*GATEWAY, "serve", "--config", str(config)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 78
    assert len(run.stderr.splitlines()) == 1
    assert fault in run.stderr
    assert "hunter2" not in run.stderr


async def test_a_taken_port_is_one_clear_line(configure: Configure) -> None:
    """The second gateway on a port says so, and exits 1."""
    config = configure()
    port = free_port()
    config.write_text(config.read_text().replace("port = 0", f"port = {port}", 1))
    async with serving(config):
        run = await asyncio.create_subprocess_exec(
            *GATEWAY, "serve", "--config", str(config), stderr=asyncio.subprocess.PIPE
        )
        _, stderr = await run.communicate()
    assert run.returncode == 1
    lines = stderr.decode().splitlines()
    assert lines == [f"gateway: can't listen on 127.0.0.1:{port}: address already in use"]


async def test_the_environment_wins_over_the_file(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """A variable replaces a setting of the file in the running gateway."""
    async with (
        serving(configure(), GATEWAY_PROXY__REALM="from the environment") as gateway,
        session.get(f"{gateway.url}/fast?access_token=x") as answer,
    ):
        assert answer.status == 200  # a public route looks at no token
    route = '[[routes]]\npath = "/orders"\nupstream = "http://127.0.0.1:1"'
    async with (
        serving(
            configure(routes=route), GATEWAY_PROXY__REALM="mine", GATEWAY_PROXY_REALM="one of two"
        ) as gateway,
        session.get(f"{gateway.url}/orders") as answer,
    ):
        right = "the variable of that setting is GATEWAY_PROXY__REALM"
        assert await gateway.logged(f"GATEWAY_PROXY_REALM is ignored: {right}")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="mine"'


def test_it_starts_quickly() -> None:
    """``--version`` answers, and imports none of the optional parts for it."""
    run = subprocess.run(
        [*GATEWAY[:1], "-X", "importtime", *GATEWAY[1:], "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("gateway ")
    assert not {"oauthlib", "fakeredis", "rich", "cryptography"} & {
        line.rsplit("|", 1)[-1].strip() for line in run.stderr.splitlines()
    }


def test_the_collector_leaves_alone_what_was_there() -> None:
    """It looks through what came after the start, and through nothing from before."""
    try:
        spare_the_collector()
        looked_through = len(gc.get_objects())
        assert gc.get_freeze_count() > 10 * looked_through
    finally:
        gc.unfreeze()
