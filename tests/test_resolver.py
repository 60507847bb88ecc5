"""Names and their addresses: looked up once, kept, and a dead one hurts nobody else."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from backends import recording
from clocks import FakeClock
from proxy.gateways import FAST_LANE, HANDLER_LANE, outcomes, running, until
from wire import fetch, request

from gateway import resolver
from gateway.event_loop import EventLoop, run
from gateway.resolver import (
    FRESH_SECONDS,
    KEPT_SECONDS,
    PATIENCE_SECONDS,
    RETRY_SECONDS,
    AddressInfo,
    Name,
    Resolver,
    Verdict,
    judge,
    open_socket,
)

HERE: AddressInfo = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
THERE: AddressInfo = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))
NOW = 10_000.0


class Names:
    """What a test's resolver asks; ``hangs`` are names whose server is silent until ``answers``."""

    def __init__(self) -> None:
        self.known: dict[str, list[AddressInfo]] = {"good.test": [HERE], "two.test": [THERE, HERE]}
        self.hangs: set[str] = set()
        self.asked: list[str] = []
        self.threads: set[str] = set()
        self.answers = threading.Event()

    def __call__(self, host: str) -> list[AddressInfo]:
        self.asked.append(host)
        self.threads.add(threading.current_thread().name)
        if host in self.hangs:
            self.answers.wait(60)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return self.known[host]


@contextmanager
def hanging(*hosts: str) -> Iterator[Names]:
    names = Names()
    names.hangs = set(hosts)
    try:
        yield names
    finally:
        names.answers.set()


@pytest.mark.parametrize(
    ("name", "verdict", "wait"),
    [
        (Name(), Verdict.LOOK_UP, PATIENCE_SECONDS),
        (Name([HERE], found_at=NOW - FRESH_SECONDS + 1), Verdict.USE, 0),
        (Name([HERE], found_at=NOW - FRESH_SECONDS), Verdict.LOOK_UP, 0.25),
        (Name([HERE], found_at=NOW - KEPT_SECONDS), Verdict.LOOK_UP, PATIENCE_SECONDS),
        # A lookup is under way.
        (Name(asked_at=NOW - 1), Verdict.WAIT, PATIENCE_SECONDS - 1),
        (Name(asked_at=NOW - PATIENCE_SECONDS), Verdict.FAIL, 0),
        (Name([HERE], found_at=NOW - FRESH_SECONDS, asked_at=NOW), Verdict.WAIT, 0.25),
        (Name([HERE], found_at=NOW - FRESH_SECONDS, asked_at=NOW - 1), Verdict.USE, 0),
        (Name([HERE], found_at=NOW - KEPT_SECONDS, asked_at=NOW - 60), Verdict.FAIL, 0),
        # One has failed.
        (Name(failed_at=NOW - RETRY_SECONDS + 0.1), Verdict.FAIL, 0),
        (Name(failed_at=NOW - RETRY_SECONDS), Verdict.LOOK_UP, PATIENCE_SECONDS),
        (Name([HERE], found_at=NOW - 60, failed_at=NOW - 0.5), Verdict.USE, 0),
        (Name([HERE], found_at=NOW - 60, failed_at=NOW - 2), Verdict.LOOK_UP, 0.25),
    ],
)
def test_what_whoever_asks_is_to_do(name: Name, verdict: Verdict, wait: float) -> None:
    """Use what is fresh, look up once, wait for a while, and rather use what was good than fail."""
    assert judge(name, NOW) == (verdict, wait)


async def test_a_name_is_looked_up_once_for_all_who_ask(clock: FakeClock) -> None:
    """They share the lookup, which has a thread of its own, and what came of it."""
    names = Names()
    shared = Resolver(look_up=names, monotonic=clock.monotonic)
    found = await asyncio.gather(*(shared.addresses("Good.test", port) for port in range(80, 100)))
    assert [each[0][4] for each in found] == [("127.0.0.1", port) for port in range(80, 100)]
    assert (names.asked, names.threads) == (["good.test"], {"resolver: good.test"})
    clock.advance(FRESH_SECONDS)
    await shared.addresses("good.test", 80)
    assert names.asked == ["good.test"] * 2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%1"])
async def test_a_numeric_address_is_no_name(host: str) -> None:
    """It isn't looked up."""
    names = Names()
    ((_, _, _, _, address),) = await Resolver(look_up=names).addresses(host, 80)
    assert (address[1], names.asked) == (80, [])


async def test_a_name_that_does_not_resolve_is_not_asked_for_again_at_once(
    clock: FakeClock,
) -> None:
    """Each time it is an error, and a moment later it is looked up anew."""
    names = Names()
    shared = Resolver(look_up=names, monotonic=clock.monotonic)
    for _ in range(3):
        with pytest.raises(socket.gaierror):
            await shared.addresses("dead.test", 80)
    assert names.asked == ["dead.test"]
    clock.advance(RETRY_SECONDS)
    names.known["dead.test"] = [HERE]
    assert len(await shared.addresses("dead.test", 80)) == 1


async def test_addresses_that_were_good_are_kept_while_the_name_is_dead(clock: FakeClock) -> None:
    """For an hour; then they may be somebody else's."""
    names = Names()
    shared = Resolver(look_up=names, monotonic=clock.monotonic)
    await shared.addresses("good.test", 80)
    del names.known["good.test"]
    clock.advance(KEPT_SECONDS - 1)
    assert (await shared.addresses("good.test", 80))[0][4] == ("127.0.0.1", 80)
    clock.advance(RETRY_SECONDS)
    with pytest.raises(socket.gaierror):
        await shared.addresses("good.test", 80)


async def test_a_lookup_that_hangs_is_waited_for_once(clock: FakeClock) -> None:
    """Who comes when it has had its time gets an error at once; it holds one thread all along."""
    with hanging("dead.test") as names:
        shared = Resolver(look_up=names, monotonic=clock.monotonic)
        first = asyncio.create_task(shared.addresses("dead.test", 80))
        await until(lambda: names.asked == ["dead.test"])
        clock.advance(PATIENCE_SECONDS)
        for _ in range(100):
            with pytest.raises(socket.gaierror):
                await shared.addresses("dead.test", 80)
        assert names.asked == ["dead.test"]
        names.known["dead.test"] = [HERE]
        names.answers.set()
        assert len(await first) == 1


async def test_no_more_threads_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name for which there is none left fails at once."""
    monkeypatch.setattr(resolver, "_MOST_THREADS", 1)
    with hanging("dead.test") as names:
        shared = Resolver(look_up=names)
        first = asyncio.create_task(shared.addresses("dead.test", 80))
        await until(lambda: names.asked == ["dead.test"])
        with pytest.raises(socket.gaierror):
            await shared.addresses("good.test", 80)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_one_who_leaves_does_not_take_the_lookup_along() -> None:
    """The others go on waiting for it."""
    with hanging("good.test") as names:
        shared = Resolver(look_up=names)
        leaving, staying = (
            asyncio.create_task(shared.addresses("good.test", 80)) for _ in range(2)
        )
        await until(lambda: names.asked == ["good.test"])
        leaving.cancel()
        names.answers.set()
        assert len(await staying) == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_loop_that_ends_before_a_lookup_does(loop: EventLoop) -> None:
    """Nothing waits for it, and nothing is raised in its thread."""
    before = set(threading.enumerate())  # one of another test may still be ending
    with hanging("dead.test") as names:

        async def leave() -> None:
            task = asyncio.create_task(Resolver(look_up=names).addresses("dead.test", 80))
            await until(lambda: names.asked == ["dead.test"])
            task.cancel()

        run(leave(), loop)
        begun = set(threading.enumerate()) - before
        (thread,) = [each for each in begun if each.name == "resolver: dead.test"]
        names.answers.set()
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handlers"])
def test_a_dead_name_hurts_its_own_route_only(loop: EventLoop, lane: dict[str, bool]) -> None:
    """While 20 requests wait for it, others connect: by name, by address, and the key manager."""
    with hanging("dead.test") as names:

        async def talk() -> None:
            async with recording() as backend:
                url = backend.url.replace("127.0.0.1", "good.test")
                routes = [
                    {"path": "/dead", "upstream": "http://dead.test", "public": True},
                    {"path": "/name", "upstream": url, "public": True},
                    {"path": "/address", "upstream": backend.url, "public": True},
                ]
                async with running(
                    backend.url,
                    resolver=Resolver(look_up=names),
                    proxy=lane,
                    routes=routes,
                    key_manager={"url": url},
                    limits={"upstream_idle_timeout": "1ms"},
                ) as gateway:
                    dead = [
                        asyncio.create_task(fetch(gateway.url, request("/dead", token=None)))
                        for _ in range(20)
                    ]
                    await until(lambda: "dead.test" in names.asked)
                    for path in ("/name", "/address", "/name", "/address"):
                        assert (await fetch(gateway.url, request(path, token=None))).status == 200
                    form = "Content-Type: application/x-www-form-urlencoded"
                    data = request("/token", form, method="POST", body=b"a=b", token=None)
                    assert (await fetch(gateway.url, data)).status == 200
                    assert names.asked.count("dead.test") == 1
                    assert [task for task in dead if task.done()] == []
                    names.answers.set()  # which says that there is no such name
                    answers = await asyncio.gather(*dead)
                    assert {answer.status for answer in answers} == {502}
                    assert outcomes(gateway)["upstream_unreachable"] == 20

        run(talk(), loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_others_lookups_that_hang_hold_up_no_connection(loop: EventLoop) -> None:
    """A library may fill the loop's own threads, as a client of Redis with dead names would."""
    held = threading.Event()

    async def fill() -> None:
        running_loop = asyncio.get_running_loop()
        for _ in range(64):
            running_loop.run_in_executor(None, held.wait, 60)

    async def talk() -> None:
        await fill()
        async with recording() as backend:
            names = Names()
            url = backend.url.replace("127.0.0.1", "good.test")
            for lane in (FAST_LANE, HANDLER_LANE):
                resolving = Resolver(look_up=names)
                async with running(url, resolver=resolving, proxy=lane) as gateway:
                    assert (await fetch(gateway.url, request("/"))).status == 200
        held.set()

    try:
        run(talk(), loop)
    finally:
        held.set()


async def test_the_first_address_that_answers() -> None:
    """One that refuses isn't the last, unless it is."""
    async with recording() as backend:
        port = int(backend.url.rpartition(":")[2])
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and nobody listens there
            refusing, good = (
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", each))
                for each in (taken.getsockname()[1], port)
            )
            with await open_socket([refusing, good]) as opened:
                assert opened.getpeername()[1] == port
            with pytest.raises(ConnectionRefusedError):
                await open_socket([refusing])
