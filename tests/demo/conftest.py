"""A running demo on free ports, and a timeline that can be read."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from io import StringIO

import pytest
from rich.console import Console

from gateway.demo import DemoOptions
from gateway.demo.stack import Stack, running

Run = Callable[..., AbstractAsyncContextManager[Stack]]


def free_ports(**others: object) -> DemoOptions:
    """Options with free ports, and others."""
    ports = ("port", "tls_port", "admin_port", "key_manager_port", "backend_port")
    return DemoOptions(**{**dict.fromkeys(ports, 0), **others})  # type: ignore[arg-type]


@pytest.fixture
def run() -> Run:
    """Run a demo on free ports, with options of the test's own."""
    return lambda clock=None, **others: running(free_ports(**others), clock=clock)


@pytest.fixture
async def stack(run: Run) -> AsyncIterator[Stack]:
    async with run() as stack:
        yield stack


@pytest.fixture
def console() -> Console:
    """What is written to a file: ``console.file.getvalue()``."""
    return Console(file=StringIO(), width=80, highlight=False)
