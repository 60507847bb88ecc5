"""Options, with the defaults that depend on others."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.loadtest.options import Grant, public_url
from gateway.loadtest.slo import parse_slo
from loadtest.told import SECRET, options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"probe_interval": 0.2, "warm_up": 0.6, "watch": 30.0, "settle": 0.6}),
        ({"max_age": 3.0}, {"probe_interval": 0.189, "warm_up": 3.0, "watch": 10.0}),
        ({"max_age": 0.0}, {"probe_interval": 0.2, "warm_up": 0.6, "watch": 10.0}),
        ({"max_age": 0.1}, {"probe_interval": 0.05, "warm_up": 0.15}),
        ({"max_age": 900.0}, {"probe_interval": 10.0, "warm_up": 900.0, "watch": 1450.0}),
        ({"max_age": 3.0, "given_probe_interval": 2.0}, {"warm_up": 6.0, "settle": 6.0}),
        (
            {"given_warm_up": 1.0, "given_watch": 2.0, "given_settle": 0.0, "max_age": 9.0},
            {"warm_up": 1.0, "watch": 2.0, "settle": 0.0},
        ),
    ],
)
def test_default_durations(given: dict[str, Any], expected: dict[str, float]) -> None:
    """Durations that aren't given follow from the probe interval and the max age."""
    told = options(**given)
    assert {name: round(getattr(told, name), 6) for name in expected} == expected


def test_a_cache_entry_lapses_just_before_a_probe() -> None:
    """The default interval is such that a probe comes soon after an entry has lapsed."""
    for max_age in (1.0, 3.0, 15.0, 60.0, 120.0):
        interval = options(max_age=max_age).probe_interval
        gap = -max_age % interval
        assert 0.02 * interval < gap < 0.2 * interval


TOKENS = tuple(SecretStr(f"t{number}") for number in range(50))


@pytest.mark.parametrize(
    ("given", "measured", "background"),
    [
        ({}, 100, 10),
        ({"tokens": 7, "given_background_tokens": 2}, 7, 2),
        ({"background_rps": 0.0, "given_background_tokens": 2}, 100, 0),
        ({"given_tokens": TOKENS, "token_url": None}, 45, 5),
        ({"given_tokens": TOKENS, "token_url": None, "background_rps": 0.0}, 50, 0),
        ({"given_tokens": TOKENS, "token_url": None, "tokens": 10}, 10, 5),
        ({"given_tokens": TOKENS[:2], "token_url": None}, 1, 1),
    ],
)
def test_counts_of_tokens(given: dict[str, Any], measured: int, background: int) -> None:
    """A file's tokens are all used, a part of them for background traffic."""
    told = options(**given)
    assert (measured, background) == (told.measured_tokens, told.background_tokens)


def test_no_secret_is_shown() -> None:
    """Neither the repr nor what goes to the record's header has a secret or a user's name."""
    told = options(
        grant=Grant.PASSWORD,
        username="alice",
        password=SecretStr(SECRET),
        refresh_token=SecretStr(SECRET),
        headers=(("X-Key", SecretStr(SECRET)),),
        targets=(f"http://h/?key={SECRET.replace(' ', '+')}",),
        token_url="http://h/token?key=hidden",
        slos=(parse_slo("p99<=2s"),),
    )
    shown = json.dumps(told.arguments())
    assert [word for word in (SECRET, "alice", "hidden") if word in shown] == []
    assert SECRET not in repr(told)
    assert told.arguments()["headers"] == ["X-Key"]
    assert told.arguments()["slo"] == ["p99<=2s"]


def test_what_the_record_says_of_a_run() -> None:
    """The arguments have the values in effect, defaults worked out."""
    arguments = options(max_age=3.0).arguments()
    assert (arguments["tokens"], arguments["warm_up"], arguments["refused_status"]) == (
        100,
        3.0,
        [401, 403],
    )


@pytest.mark.parametrize(
    ("url", "shown"), [("http://h/a", "http://h/a"), ("http://h/a?key=1", "http://h/a?…")]
)
def test_urls_are_shown_without_query(url: str, shown: str) -> None:
    """A query may hold a key."""
    assert shown == public_url(url)


def test_tokens_issued_elsewhere_appear_by_their_digests() -> None:
    """The record has the SHA-256 of each given token that is used, by its index."""
    told = options(given_tokens=(*TOKENS, SecretStr("abc")), token_url=None, tokens=46)
    digests = told.arguments()["given_digests"]
    assert (len(digests), digests[50]) == (
        51,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )
    assert "t49" not in json.dumps(told.arguments())
