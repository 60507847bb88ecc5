"""A backend, a gateway before it, and the log."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from backends import RecordingBackend, recording
from redis_server import free_port as find_free_port

from gateway.app import Gateway
from gateway.logs import configure_logging
from gateway.settings import Logging
from proxy.gateways import LogText, running


@pytest.fixture
async def backend() -> AsyncIterator[RecordingBackend]:
    """A backend that answers 200 to everything and records it."""
    async with recording() as backend:
        yield backend


@pytest.fixture
async def gateway(backend: RecordingBackend) -> AsyncIterator[Gateway]:
    """A gateway with default settings before it."""
    async with running(backend.url) as gateway:
        yield gateway


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    return find_free_port()


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
