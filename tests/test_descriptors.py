"""File descriptors: the limit, and the part of it that clients may take."""

import resource
from collections.abc import Iterator

import pytest
from proxy.gateways import LogText, settings_for

from gateway import descriptors
from gateway.descriptors import clients_share, raise_limit, share


@pytest.fixture
def limits() -> Iterator[list[int]]:
    """The soft limit and the hard one, for a test to lower the first."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield list(before)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("connections", "upstreams", "allowed", "clients"),
    [
        (10_000, 1000, 524_288, 10_000),
        (10_000, 1000, 13_162, 10_000),
        (10_000, 1000, 13_161, 9999),
        (10_000, 1000, 4096, 1967),
        (10_000, 1000, 1024, 431),
        (10_000, 10, 1024, 832),
        (100, 1000, 1024, 100),
        (10_000, 1000, 64, 1),
    ],
)
def test_what_clients_may_take(
    connections: int, upstreams: int, allowed: int, clients: int
) -> None:
    """All that they are to have, or else what leaves backends half, and the gateway its own."""
    given = {"connections": connections, "upstream_connections": upstreams}
    settings = settings_for("http://127.0.0.1:1", limits=given, proxy={"fast_lane": True})
    assert share(settings, allowed).clients == clients


def test_the_limit_is_raised(limits: list[int]) -> None:
    """To what the process may allow itself: shells give 1,024 where the system allows more."""
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    assert raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard


def test_too_few_are_said_at_the_start(monkeypatch: pytest.MonkeyPatch, log: LogText) -> None:
    """In one line with the numbers, instead of 45,000 when they are gone."""
    monkeypatch.setattr(descriptors, "raise_limit", lambda: 1024)
    settings = settings_for("http://127.0.0.1:1", proxy={"fast_lane": True})
    assert clients_share(settings) == 431
    (said,) = log.named("too few file descriptors for limits.connections")
    assert (said["descriptors"], said["needed"]) == (1024, 13_162)
    assert (said["limits_connections"], said["connections_allowed"]) == (10_000, 431)


def test_enough_are_not_mentioned(monkeypatch: pytest.MonkeyPatch, log: LogText) -> None:
    """Clients get what the settings say."""
    monkeypatch.setattr(descriptors, "raise_limit", lambda: 1024)
    settings = settings_for("http://127.0.0.1:1", limits={"connections": 100})
    assert clients_share(settings) == 100
    assert log.records == []
