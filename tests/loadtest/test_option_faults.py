"""What is wrong with options, in words."""

from typing import Any

import pytest
from pydantic import SecretStr

from gateway.errors import SettingsError
from gateway.loadtest.options import Grant
from loadtest.told import SECRET, options

GIVEN = (SecretStr("one"), SecretStr("two"))


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"targets": ()}, "--target: at least one is needed"),
        ({"targets": ("http://h/a", "http://h/a")}, "--target: each URL is allowed once"),
        ({"targets": ("h:80/a",)}, "--target: 'h:80/a': a URL such as"),
        ({"targets": ("http://h:0/",)}, "--target: 'http://h:0/': a URL such as"),
        ({"targets": ("http://h:x/",)}, "--target: 'http://h:x/': a URL such as"),
        ({"targets": ("http://me:pw@h/",)}, "--target: 'h/': a URL such as"),
        ({"revoke_url": "http://h/#a"}, "--revoke-url: 'http://h/#a': a URL such as"),
        ({"token_url": "ftp://h/"}, "--token-url: 'ftp://h/': a URL such as"),
        ({"token_url": None}, "--token-url: it is needed, or --tokens-file"),
        ({"client_id": None}, "--client-id: it is needed with a client secret"),
        ({"client_id": "a\nb"}, "--client-id: 'a\\nb': printable ASCII is allowed"),
        ({"client_secret": None}, "--client-secret: it is needed for client_credentials"),
        ({"grant": Grant.PASSWORD}, "--username, --password: both are needed"),
        ({"grant": Grant.REFRESH_TOKEN}, "--refresh-token: it is needed for --grant refresh_token"),
        ({"scope": "a  b"}, "--scope: 'a  b': scope tokens separated by single spaces"),
        ({"given_tokens": GIVEN}, "--token-url: it isn't allowed with --tokens-file"),
        (
            {"given_tokens": (*GIVEN, GIVEN[0]), "token_url": None},
            "--tokens-file: each token is allowed once",
        ),
        (
            {"given_tokens": (SecretStr("a b"), GIVEN[0]), "token_url": None},
            "--tokens-file: a token in it has characters that RFC 6750 §2.1 doesn't allow",
        ),
        (
            {"given_tokens": GIVEN, "token_url": None, "tokens": 2},
            "--tokens: 2 and 1 for background traffic are more than the 2 of --tokens-file",
        ),
        ({"method": "HEAD"}, "--method: 'HEAD': a method such as GET is allowed, but not HEAD"),
        ({"method": "get"}, "--method: 'get'"),
        ({"headers": (("A B", SecretStr("x")),)}, "--header: 'A B': a field name is allowed"),
        ({"headers": (("Authorization", SecretStr("x")),)}, "--header: 'Authorization'"),
        ({"headers": (("A", SecretStr("x\r\nB: y")),)}, "--header: A: a value of printable ASCII"),
        ({"refused_status": (99,)}, "--refused-status: 99: a status from 200 to 599"),
        ({"refused_status": ()}, "--refused-status: at least one is needed"),
        ({"given_probe_interval": 0.0}, "--probe-interval: 0.0s: a duration from 0.001s to 7d"),
        ({"given_watch": 0.0}, "--watch: 0.0s: a duration from 0.001s to 7d"),
        ({"timeout": 0.0}, "--timeout: 0.0s: a duration from 0.01s to 7d"),
        ({"max_age": 1e6}, "--max-age: 1000000.0s"),
        ({"revoke_rate": 0.0}, "--revoke-rate: 0.0: a rate above 0"),
        ({"revoke_rate": float("nan")}, "--revoke-rate: nan: a rate above 0"),
        ({"background_rps": -1.0}, "--background-rps: -1.0: a rate from 0"),
        ({"connections": 0}, "--connections: 0: from 1"),
        ({"given_background_tokens": 0}, "--background-tokens: 0: from 1"),
        ({"tokens": 0}, "--tokens: 0: from 1 to 1000000 are allowed"),
    ],
)
def test_faults(given: dict[str, Any], fault: str) -> None:
    """Each fault names the flag, the value where it is no secret, and what is allowed."""
    with pytest.raises(SettingsError) as caught:
        options(**given)
    assert [line for line in caught.value.faults if line.startswith(fault)] != []


def test_all_faults_at_once() -> None:
    """Whoever mends a command line is told everything that is wrong with it."""
    with pytest.raises(SettingsError) as caught:
        options(tokens=0, connections=0, scope="")
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [
        "--scope",
        "--connections",
        "--tokens",
    ]


def test_no_fault_repeats_a_secret() -> None:
    """A secret that can't be used isn't shown for it."""
    hidden = (("X-Key", SecretStr(f"{SECRET}\r\n")),)
    tokens = (SecretStr(SECRET), SecretStr(SECRET))
    with pytest.raises(SettingsError) as caught:
        options(headers=hidden, given_tokens=tokens, targets=(f"http://me:{SECRET}@h/",))
    assert SECRET not in str(caught.value)
    assert len(caught.value.faults) >= 4


def test_tokens_issued_elsewhere_need_no_client() -> None:
    """With a file of tokens neither a client nor a token endpoint is needed."""
    told = options(given_tokens=GIVEN, token_url=None, client_id=None, client_secret=None)
    assert told.measured_tokens == 1
