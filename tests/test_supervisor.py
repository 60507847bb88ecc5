"""``gateway serve --workers``: processes that serve one port, and what becomes of them."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from held_backend import HeldBackend
from processes import GATEWAY, GatewayProcess, serving
from prometheus_client.parser import text_string_to_metric_families
from pytest_aiohttp.plugin import AiohttpServer

from gateway.clock import SystemClock
from gateway.demo.certificate import write_certificate

Configure = Callable[..., Path]
WORKERS = ("--workers", "2")


@pytest.fixture
async def backend(aiohttp_server: AiohttpServer) -> HeldBackend:
    """A backend whose slow answers a test holds back."""
    return await HeldBackend().start(aiohttp_server)


@pytest.fixture
def configure(tmp_path: Path, redis_url: str, backend: HeldBackend) -> Configure:
    """Write a settings file."""

    def configure(
        *, routes: str = "", grace: str = "0s", port: int = 0, admin_port: int = 0
    ) -> Path:
        config = tmp_path / "gateway.toml"
        config.write_text(
            f"""
            [listen]
            port = {port}
            drain_grace = "{grace}"
            [admin]
            port = {admin_port}
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
    """A client that connects anew for each request, so that any worker may get it."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


class Fleet:
    """What the admin port says of the workers."""

    def __init__(self, gateway: GatewayProcess, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self._session = session

    async def workers(self) -> dict[int, int]:
        """Return the process ids by worker."""
        async with self._session.get(f"{self.gateway.admin_url}/workers") as answer:
            listed = (await answer.json())["workers"]
        return {worker["worker"]: worker["pid"] for worker in listed}

    async def requests(self, worker: int | None = None) -> float:
        """Return how many requests a worker, or all, have counted."""
        return await self.metric("gateway_requests_total", worker)

    async def counted(self, count: int) -> float:
        """Return how many requests are counted, once these are: after their answers are out."""
        async with asyncio.timeout(10):
            while (counted := await self.requests()) < count:
                pass
        return counted

    async def metric(self, name: str, worker: int | None = None) -> float:
        which = f"/workers/{worker}" if worker else ""
        async with self._session.get(f"{self.gateway.admin_url}{which}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
            return sum(s.value for f in families for s in f.samples if s.name == name)

    async def send(self, count: int, path: str = "/fast") -> list[int]:
        """Return the statuses of as many requests."""
        return list(await asyncio.gather(*(self._send(path) for _ in range(count))))

    async def _send(self, path: str) -> int:
        async with self._session.get(f"{self.gateway.url}{path}") as answer:
            await answer.read()
            return answer.status

    async def health(self, path: str) -> tuple[int, dict[str, Any]]:
        async with self._session.get(f"{self.gateway.admin_url}{path}") as answer:
            return answer.status, await answer.json()


async def test_workers_share_one_port_and_their_metrics_are_summed(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """Each worker answers some, and the metrics of all of them count every request once."""
    async with serving(configure(), *WORKERS) as gateway:
        fleet = Fleet(gateway, session)
        assert await fleet.send(60) == [200] * 60
        assert await fleet.counted(60) == 60
        each = [await fleet.requests(worker) for worker in (1, 2)]
        assert min(each) > 0
        assert sum(each) == 60
        assert await fleet.metric("gateway_workers") == 2
        assert await fleet.metric("gateway_build_info") == 1
        assert await fleet.health("/readyz") == (200, {"status": "ready"})
        assert await fleet.health("/livez") == (200, {"status": "alive"})
        for worker in (1, 2):  # whatever concerns one worker names it
            await gateway.logged("request", worker=worker)


async def test_tls_and_plain_ports_side_by_side(
    configure: Configure, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Workers have both, each on one port."""
    files = write_certificate(tmp_path, "127.0.0.1", now_at=SystemClock.wall())
    tls = {
        "GATEWAY_LISTEN__TLS_PORT": "0",
        "GATEWAY_LISTEN__TLS_CERTIFICATE": str(files.certificate),
        "GATEWAY_LISTEN__TLS_KEY": str(files.key),
    }
    async with serving(configure(), *WORKERS, **tls) as gateway:
        assert await Fleet(gateway, session).send(5) == [200] * 5
        assert gateway.tls_url is not None
        for _ in range(10):
            async with session.get(f"{gateway.tls_url}/fast", ssl=False) as answer:
                assert answer.status == 200


async def test_a_killed_worker_is_replaced_and_nothing_it_counted_is_lost(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """Traffic goes on with the other and the new one, and sums of counters never go down."""
    async with serving(configure(), *WORKERS) as gateway:
        fleet = Fleet(gateway, session)
        await fleet.send(40)
        assert await fleet.counted(40) == 40
        before = await fleet.workers()
        os.kill(before[1], signal.SIGKILL)
        await gateway.logged("worker ended", worker=1, pid=before[1], exit_code=-9)
        assert await fleet.send(40) == [200] * 40  # new connections wait for the new worker
        await gateway.logged("worker started", worker=1, times=2)
        after = await fleet.workers()
        assert after[2] == before[2]
        assert after[1] != before[1]
        assert await fleet.counted(80) == 80
        assert await fleet.metric("gateway_worker_restarts_total") == 1


async def test_a_worker_that_ends_again_and_again_ends_all(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """Restarts have a limit: then the process exits with 1 and a line that says why."""
    async with serving(configure(), *WORKERS) as gateway:
        for start in range(1, 7):
            started = await gateway.logged("worker started", worker=1, times=start)
            os.kill(started["pid"], signal.SIGKILL)
        ended = await gateway.logged("a worker ends again and again, so all are stopped")
        assert (ended["worker"], ended["exit_code"]) == (1, -9)
        assert await gateway.exit_code() == 1
        await gateway.logged("stopped", worker=2)  # it was let finish


async def test_sigterm_lets_requests_under_way_finish(
    configure: Configure, backend: HeldBackend, session: aiohttp.ClientSession
) -> None:
    """Readiness fails, what is under way is answered, then all processes end; the code is 0."""
    async with serving(configure(), *WORKERS) as gateway:
        slow = asyncio.create_task(session.get(f"{gateway.url}/slow"))
        await backend.reached.wait()
        gateway.signal(signal.SIGTERM)
        await gateway.logged("draining", worker=1)
        await gateway.logged("draining", worker=2)
        fleet = Fleet(gateway, session)
        assert (await fleet.health("/readyz"))[1]["reason"] == "terminating"
        assert (await fleet.health("/livez"))[0] == 200
        backend.released.set()
        async with await slow as answer:
            assert (answer.status, await answer.text()) == (200, "at last")
        assert await gateway.exit_code() == 0


async def test_the_ports_close_when_the_grace_ends(
    configure: Configure, backend: HeldBackend, session: aiohttp.ClientSession
) -> None:
    """While the last requests finish nobody waits for a connection that isn't accepted."""
    async with serving(configure(), *WORKERS) as gateway:
        slow = asyncio.create_task(session.get(f"{gateway.url}/slow"))
        await backend.reached.wait()
        gateway.signal(signal.SIGTERM)
        refused = False
        async with asyncio.timeout(10):
            while not refused:
                try:
                    await Fleet(gateway, session).send(1)
                except aiohttp.ClientError:
                    refused = True
        backend.released.set()
        async with await slow as answer:
            assert answer.status == 200


async def test_accepting_goes_on_for_the_grace_period(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """New connections are served by both workers while the grace lasts."""
    async with serving(configure(grace="1m"), *WORKERS) as gateway:
        gateway.signal(signal.SIGTERM)
        for worker in (1, 2):
            await gateway.logged("draining", worker=worker)
        assert await Fleet(gateway, session).send(20) == [200] * 20


async def test_who_waits_for_a_worker_that_is_being_started_is_served(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """The worker was ended before it served, and those who had connected to it were reset."""
    async with serving(configure(), *WORKERS) as gateway:
        first = (await Fleet(gateway, session).workers())[1]
        os.kill(first, signal.SIGKILL)
        await gateway.logged("worker ended", worker=1)
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        waiting = [socket.create_connection((host, int(port))) for _ in range(30)]
        gateway.signal(signal.SIGTERM)
        await gateway.logged("draining", workers=2)
        loop = asyncio.get_running_loop()
        for client in waiting:
            client.setblocking(False)
            await loop.sock_sendall(
                client, b"GET /fast HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
        async with asyncio.timeout(20):
            answers = [await loop.sock_recv(client, 4096) for client in waiting]
        for client in waiting:
            client.close()
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 30
        assert await gateway.exit_code() == 0


async def test_a_second_signal_stops_at_once(
    configure: Configure, backend: HeldBackend, session: aiohttp.ClientSession
) -> None:
    """Whoever asks twice doesn't wait for requests under way; that is no clean end."""
    async with serving(configure(grace="1m"), *WORKERS) as gateway:
        slow = asyncio.create_task(session.get(f"{gateway.url}/slow"))
        await backend.reached.wait()
        gateway.signal(signal.SIGTERM)
        for worker in (1, 2):
            await gateway.logged("draining", worker=worker)
        gateway.signal(signal.SIGTERM)
        assert await gateway.exit_code() == 1
        with pytest.raises(aiohttp.ClientError):
            await slow


async def test_sigint_drains_without_grace(configure: Configure) -> None:
    """A person at a terminal isn't kept waiting."""
    async with serving(configure(grace="1m"), *WORKERS) as gateway:
        gateway.signal(signal.SIGINT)
        assert await gateway.exit_code() == 0


async def test_sighup_reloads_the_workers_one_after_the_other(
    configure: Configure, backend: HeldBackend, session: aiohttp.ClientSession
) -> None:
    """All have the new settings then, and so has a worker that is started later."""
    async with serving(configure(), *WORKERS) as gateway:
        fleet = Fleet(gateway, session)
        configure(routes=f'[[routes]]\npath = "/new"\nupstream = "{backend.url}"', admin_port=1)
        gateway.signal(signal.SIGHUP)
        reloaded = await gateway.logged("settings reloaded", workers=2)
        assert reloaded["changed"] == ["routes"]
        who = [e.get("worker") for e in gateway.log if e["event"] == "settings reloaded"]
        assert who == [1, 2, None]
        left = [e for e in gateway.log if "that need a restart" in e["event"]]
        assert [entry["settings"] for entry in left] == [["admin.port"]]
        assert await fleet.send(20, "/new") == [401] * 20

        for worker, pid in (await fleet.workers()).items():
            os.kill(pid, signal.SIGKILL)
            await gateway.logged("worker started", worker=worker, times=2)
        assert await fleet.send(20, "/new") == [401] * 20


async def test_no_worker_hears_of_bad_settings(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """The supervisor looks at them first, logs what is wrong, and everything stays."""
    async with serving(configure(), *WORKERS) as gateway:
        fleet = Fleet(gateway, session)
        configure(routes='[[routes]]\npath = "new"\nupstream = "nowhere"')
        gateway.signal(signal.SIGHUP)
        refused = await gateway.logged("settings not reloaded")
        assert [fault.split(" = ")[0] for fault in refused["faults"]] == [
            "routes[1].path",
            "routes[1].upstream",
        ]
        os.kill((await fleet.workers())[1], signal.SIGKILL)
        await gateway.logged("worker started", worker=1, times=2)
        assert await fleet.send(20) == [200] * 20
        assert "settings reloaded" not in {entry["event"] for entry in gateway.log}


async def test_workers_end_with_their_supervisor(configure: Configure) -> None:
    """Killed by force it can't tell them; they notice, let go of the ports, and end."""
    async with serving(configure(grace="1m"), *WORKERS) as gateway:
        gateway.signal(signal.SIGKILL)
        # Its log ends when nobody is left to write to it.
        assert await gateway.exit_code() == -signal.SIGKILL
        for worker in (1, 2):
            await gateway.logged("the supervisor is gone", worker=worker)
            await gateway.logged("stopped", worker=worker)


async def test_ctrl_c_reaches_the_supervisor_alone(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """A terminal signals a process group: each worker has its own, or it would hear it twice."""
    async with serving(configure(), *WORKERS) as gateway:
        pids = (await Fleet(gateway, session).workers()).values()
        assert [os.getpgid(pid) for pid in pids] == list(pids)


async def test_a_worker_that_hangs_fails_the_liveness_probe(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """As a gateway of one process would; the other goes on, and the gateway stays ready."""
    async with serving(configure(), *WORKERS) as gateway:
        fleet = Fleet(gateway, session)
        hanging = (await fleet.workers())[2]
        os.kill(hanging, signal.SIGSTOP)
        try:
            assert await fleet.health("/livez") == (503, {"status": "hanging", "workers": [2]})
            assert (await fleet.health("/readyz"))[0] == 200
        finally:
            os.kill(hanging, signal.SIGCONT)
        assert (await fleet.health("/livez"))[0] == 200


@pytest.mark.parametrize("which", ["port", "admin_port"])
async def test_a_taken_port_is_one_clear_line(configure: Configure, which: str) -> None:
    """No worker starts: the port is looked at first."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = await asyncio.create_subprocess_exec(
            *GATEWAY,
            "serve",
            "--config",
            str(configure(**{which: port})),
            *WORKERS,
            stderr=asyncio.subprocess.PIPE,
        )
        _, stderr = await run.communicate()
    assert run.returncode == 1
    lines = stderr.decode().splitlines()
    assert lines == [f"gateway: can't listen on 127.0.0.1:{port}: address already in use"]


async def test_the_port_of_another_gateway_with_workers_is_taken(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """SO_REUSEPORT shares a port within a gateway, never between two."""
    async with serving(configure(), *WORKERS) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        run = await asyncio.create_subprocess_exec(
            *GATEWAY,
            "serve",
            "--config",
            str(configure(port=port)),
            *WORKERS,
            stderr=asyncio.subprocess.PIPE,
        )
        _, stderr = await run.communicate()
        assert run.returncode == 1
        assert f"{port}: address already in use" in stderr.decode()
        assert await Fleet(gateway, session).send(5) == [200] * 5


async def test_one_worker_has_no_supervisor(
    configure: Configure, session: aiohttp.ClientSession
) -> None:
    """By default there is one process, and its admin port is its own."""
    async with (
        serving(configure()) as gateway,
        session.get(f"{gateway.admin_url}/workers") as answer,
    ):
        assert answer.status == 404
