"""What a token request says that no other place of it contradicts."""

import pytest

from gateway.oauth_forms import MAX_PARAMETERS
from gateway.oauth_messages import Parameters
from gateway.token_request import undoubted

PASSWORD = {"grant_type": ["password"], "username": ["alice"]}
CLIENT = {"grant_type": ["client_credentials"], "client_id": ["m"]}


@pytest.mark.parametrize(
    ("body", "query", "expected"),
    [
        (PASSWORD, None, PASSWORD),
        (PASSWORD, "scope=write", PASSWORD),
        (PASSWORD, "username=alice&x=1", PASSWORD),
        (PASSWORD, "username=root", {"grant_type": ["password"]}),
        (PASSWORD, "grant_type=client_credentials", {"username": ["alice"]}),
        (PASSWORD, "USERNAME=root", {"grant_type": ["password"]}),
        (PASSWORD | {"Username": ["root"]}, None, {"grant_type": ["password"]}),
        (PASSWORD | {"scope": ["a", "b"]}, None, PASSWORD | {"scope": ["a", "b"]}),
        (CLIENT, "client_id=m", CLIENT),
        (CLIENT, "client_id=victim", {"grant_type": ["client_credentials"]}),
        (CLIENT, "client_assertion=x", {"grant_type": ["client_credentials"]}),
        (
            CLIENT | {"Client_Assertion": ["x"]},
            None,
            {"grant_type": ["client_credentials"], "Client_Assertion": ["x"]},
        ),
        (PASSWORD, "client_id=victim", PASSWORD),
        (PASSWORD, "user.name=root", {"grant_type": ["password"]}),
        (PASSWORD, " username=root", {"grant_type": ["password"]}),
        (PASSWORD, "x=1;username=root", {"grant_type": ["password"]}),
        (PASSWORD, "x=1;y;z", PASSWORD),
        (PASSWORD | {"scope": ["read;username=root"]}, None, {"grant_type": ["password"]}),
        (PASSWORD | {"username": ["a;username=b"]}, None, {"grant_type": ["password"]}),
        (PASSWORD | {"username": ["a;x=b"]}, None, {"grant_type": ["password"]}),
        (PASSWORD, "%ff=1", {}),
        (PASSWORD, "&".join(["a=1"] * (MAX_PARAMETERS + 1)), {}),
    ],
)
def test_a_query_adds_nothing_and_takes_away_what_it_contradicts(
    body: Parameters, query: str | None, expected: Parameters
) -> None:
    """RFC 6749 §2.3.1: it counts for nothing, but a key manager may have read it."""
    assert undoubted(body, query) == expected
