"""A backend, and a gateway before it."""

from collections.abc import AsyncIterator

import pytest
from backends import RecordingBackend, recording
from redis_server import free_port as find_free_port

from gateway.app import Gateway
from proxy.gateways import running


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
