"""A fault is one line: the setting, its value, where it came from, what is allowed."""

import tomllib
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Settings
from gateway.settings.faults import faults_of

FILE = "gateway.toml"


def faults(toml: str) -> list[str]:
    """Return the faults of a settings file's text."""
    values: dict[str, Any] = tomllib.loads(toml)
    with pytest.raises(ValidationError) as refusal:
        Settings.model_validate(values)
    return faults_of(refusal.value, dict.fromkeys(values, FILE))


ROUTE = '[[routes]]\npath = "/a"\nupstream = "http://h"\n'


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (
            'cache.max_age = "15 parsecs"',
            (
                'cache.max_age = "15 parsecs" (gateway.toml): a duration such as "250ms", "15m" or '
                '"1h30m" is allowed'
            ),
        ),
        (
            "cache.max_age = 1979-05-27",
            (
                'cache.max_age = "1979-05-27" (gateway.toml): a duration such as "250ms", "15m" or '
                '"1h30m" is allowed'
            ),
        ),
        (
            'listen.port = "8080"',
            'listen.port = "8080" (gateway.toml): a port number from 0 to 65535 is allowed',
        ),
        (
            "listen.port = true",
            "listen.port = true (gateway.toml): a port number from 0 to 65535 is allowed",
        ),
        ("listen.host = 1", "listen.host = 1 (gateway.toml): a string is allowed"),
        (
            'listen.host = ""',
            'listen.host = "" (gateway.toml): a string that isn\'t empty is allowed',
        ),
        (
            'logging.level = "loud"',
            (
                'logging.level = "loud" (gateway.toml): "debug", "info", "warning" or "error" is '
                "allowed"
            ),
        ),
        (
            "logging.access_log = 1",
            "logging.access_log = 1 (gateway.toml): true or false is allowed",
        ),
        (
            'proxy.trusted_proxies = ["::1", "10.0.0.1/8"]',
            (
                'proxy.trusted_proxies[1] = "10.0.0.1/8" (gateway.toml): an address or network '
                'such as "10.0.0.0/8" is allowed, no host bits set'
            ),
        ),
        (
            'proxy.trusted_proxies = "::1"',
            'proxy.trusted_proxies = "::1" (gateway.toml): a list is allowed',
        ),
        ("routes = {}", "routes = a table (gateway.toml): a list is allowed"),
        ("routes = [1]", "routes[0] = 1 (gateway.toml): a table is allowed"),
        ("cache = [1]", "cache = a list (gateway.toml): a table is allowed"),
        (
            'chache.max_age = "1s"',
            "chache (gateway.toml): there is no such setting; did you mean cache?",
        ),
        (
            'store.pasword = "hunter2"',
            "store.pasword (gateway.toml): there is no such setting; did you mean store.password?",
        ),
        (
            "store.max_age = 1",
            "store.max_age (gateway.toml): there is no such setting; did you mean cache.max_age?",
        ),
        (
            f"{ROUTE}scope = []",
            (
                "routes[0].scope (gateway.toml): there is no such setting; "
                "did you mean routes[0].scopes?"
            ),
        ),
        (
            '[[routes]]\npath = "/a"',
            "routes[0].upstream (gateway.toml): a value is needed. Base URL of the backend.",
        ),
        (
            f'{ROUTE}max_age = "1h"',
            (
                'routes[0].max_age = "1h" (gateway.toml): at most cache.max_age, 15m, is allowed: '
                "a route can only tighten it"
            ),
        ),
        (
            "listen.port = 9090",
            "admin.port = 9090 (default): another port than those of listen is allowed",
        ),
        (
            'admin.host = "0.0.0.0"',
            (
                'admin.host = "0.0.0.0" (gateway.toml): only a loopback address is allowed '
                "without admin.token"
            ),
        ),
        (
            'admin.token = ""',
            'admin.token = "***" (gateway.toml): a string that isn\'t empty is allowed',
        ),
        (
            'listen.tls_key = "k"',
            (
                'listen.tls_key = "k" (gateway.toml): allowed only together with '
                "listen.tls_certificate"
            ),
        ),
        (
            'key_manager.token_path = "/revoke"',
            (
                'key_manager.revoke_path = "/revoke" (default): another path than token_path is '
                "allowed"
            ),
        ),
        ("store.password = 12345", 'store.password = "***" (gateway.toml): a string is allowed'),
        (
            'store.url = "redis://:hunter2@h:x"',
            (
                'store.url = "redis://:***@h:x" (gateway.toml): '
                "redis://[user:password@]host[:port][/database] is allowed"
            ),
        ),
        (
            'key_manager.url = "http://u:hunter2@h"',
            (
                'key_manager.url = "http://u:***@h" (gateway.toml): a URL such as '
                "http://127.0.0.1:9000/base is allowed, without query or user"
            ),
        ),
        (
            'store = { url = "redis://:hunter2@h", password = "hunter2" }',
            'store.password = "***" (gateway.toml): allowed only where store.url has no password',
        ),
    ],
)
def test_a_fault_says_what_where_and_what_is_allowed(toml: str, said: str) -> None:
    """Secrets masked, and so are the values of settings that don't exist."""
    assert faults(toml) == [said]


def test_every_fault_has_its_line() -> None:
    """A person mends them all at once."""
    toml = f'listen.port = -1\ncache.max_entries = 0\nlimits.body = "ten"\n{ROUTE}x = 1\n'
    assert [line.partition(" ")[0] for line in faults(toml)] == [
        "listen.port",
        "cache.max_entries",
        "routes[0].x",
        "limits.body",
    ]


def test_conflicts_of_routes_are_told_together() -> None:
    """Each by its own route."""
    toml = ROUTE + ROUTE + '[[routes]]\npath = "/b"\nupstream = "http://h"\nmax_age = "1h"\n'
    assert [line.partition(" ")[0] for line in faults(toml)] == [
        "routes[1].path",
        "routes[2].max_age",
    ]


def test_a_value_stays_on_its_line_and_is_cut_when_long() -> None:
    """Control characters are escaped: a value can't forge a line or steer a terminal."""
    (fault,) = faults(f'cache.max_age = "\\n\\u001b[1m{"x" * 200}"')
    assert fault.startswith('cache.max_age = "\\n\\u001b[1mxxx')
    assert len(fault) < 250
