"""Fixtures that every part's tests may use, and what a run can be told.

``--redis-server`` is what tests start as Redis. ``--event-loop`` and ``--fast-lane`` hold for the
tests' own loops and settings, and by the environment for gateways that are processes.
"""

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import pytest
import redis

sys.path.insert(0, str(Path(__file__).parent))

from clocks import FakeClock
from proxy.gateways import LogText
from redis_server import RedisServer, choose_program

from gateway.logs import configure_logging
from gateway.settings import Logging, Proxy, Settings

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--event-loop",
        choices=["auto", "asyncio", "uvloop"],
        default="auto",
        help="what tests and gateways run on; auto is uvloop where it is installed",
    )
    parser.addoption(
        "--fast-lane",
        choices=["on", "off"],
        default="on",
        help="the default of proxy.fast_lane for this run",
    )
    parser.addoption(
        "--redis-server",
        default="newest",
        metavar="newest|oldest|valkey|PATH",
        help="the server that tests start: of those that are installed, or a program of your own",
    )


def pytest_report_header(config: pytest.Config) -> str:
    loop, lane = config.getoption("--event-loop"), config.getoption("--fast-lane")
    server = choose_program(config.getoption("--redis-server"))
    return (
        f"gateway: aiohttp {aiohttp.__version__}, event loop {loop}, fast lane {lane}, {server}"
        f" ({server.path})"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "plain_asyncio(reason): the test needs asyncio's own event loop"
    )
    config.addinivalue_line("markers", "once(reason): make test-matrix leaves the test out")
    try:
        RedisServer.program = choose_program(config.getoption("--redis-server")).path
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    os.environ["GATEWAY_LISTEN__EVENT_LOOP"] = config.getoption("--event-loop")
    if config.getoption("--fast-lane") == "off":
        os.environ["GATEWAY_PROXY__FAST_LANE"] = "false"
        Proxy.model_fields["fast_lane"].default = False
        Proxy.model_rebuild(force=True)
        Settings.model_fields["proxy"].default = Proxy()
        Settings.model_rebuild(force=True)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    """Return the one loop that a test runs on (pytest-asyncio's hook)."""
    choice = config.getoption("--event-loop")
    plain = item.get_closest_marker("plain_asyncio") is not None
    if plain or choice == "asyncio" or (choice == "auto" and find_spec("uvloop") is None):
        return {"asyncio": asyncio.new_event_loop}
    import uvloop  # noqa: PLC0415 (optional)

    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis for the whole run; tests that harm theirs start one of their own."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a real, empty Redis."""
    with redis.Redis(port=redis_server.port) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def log() -> Iterator[LogText]:
    """The whole log, at the level that says most."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    configure_logging(Logging(level="debug"))
    collector = LogText()
    root.addHandler(collector)
    yield collector
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def pytest_xdist_auto_num_workers() -> int:
    """Run one more than there are processors: many tests wait for processes and sockets."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what stays: thousands of tests."""
    gc.collect()
    gc.freeze()
