"""Client credentials out of a request, and the comparison of secrets."""

from base64 import b64encode

import pytest
from oauthlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError

from gateway.keymanager.config import Client, User
from gateway.keymanager.credentials import ClientCredentials, Directory, client_credentials


def encoded(pair: str | bytes) -> str:
    return b64encode(pair.encode() if isinstance(pair, str) else pair).decode()


@pytest.mark.parametrize(
    ("authorization", "form", "expected"),
    [
        ([], {}, (None, None)),
        ([], {"client_id": "a"}, ("a", None)),
        ([], {"client_id": "a", "client_secret": "b"}, ("a", "b")),
        ([f"Basic {encoded('a:b')}"], {}, ("a", "b")),
        ([f"bASIC   {encoded('a:b')} "], {}, ("a", "b")),
        ([f"Basic {encoded('a:b:c')}"], {}, ("a", "b:c")),
        ([f"Basic {encoded('a%3Ab:c%20d+e%2B%25')}"], {}, ("a:b", "c d e+%")),
        ([f"Basic {encoded('%C3%A4:%E2%82%AC')}"], {}, ("ä", "€")),
        ([f"Basic {encoded('a:')}"], {}, ("a", None)),
        ([f"Basic {encoded('a:b')}"], {"client_id": "a"}, ("a", "b")),
    ],
)
def test_credentials(
    authorization: list[str], form: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    """They are taken from Basic, form-decoded, or from the form."""
    assert client_credentials(authorization, form) == ClientCredentials(*expected)


@pytest.mark.parametrize(
    ("authorization", "form", "expected"),
    [
        (["Basic YTpi", "Basic YTpi"], {}, InvalidRequestError),
        (["Basic YTpi"], {"client_secret": "b"}, InvalidRequestError),
        (["Basic YTpi"], {"client_id": "c"}, InvalidRequestError),
        (["Bearer YTpi"], {}, InvalidClientError),
        ([""], {}, InvalidClientError),
        (["Basic"], {}, InvalidClientError),
        (["Basic YTp"], {}, InvalidClientError),
        (["Basic YT*pi"], {}, InvalidClientError),
        (["Basic ä"], {}, InvalidClientError),
        ([f"Basic {encoded('no colon')}"], {}, InvalidClientError),
        ([f"Basic {encoded(':b')}"], {}, InvalidClientError),
        ([f"Basic {encoded('%ff:b')}"], {}, InvalidClientError),
        ([f"Basic {encoded(bytes([0xFF, 0x3A]))}"], {}, InvalidClientError),
    ],
)
def test_refused_credentials(
    authorization: list[str], form: dict[str, str], expected: type[Exception]
) -> None:
    """What is malformed or doubled is refused, and the message doesn't repeat it."""
    with pytest.raises(expected) as caught:
        client_credentials(authorization, form)
    assert "YTpi" not in str(caught.value)


DIRECTORY = Directory(
    (Client("demo-key", "demo-secret"), Client("public")), (User("alice", "wonderland"),)
)


@pytest.mark.parametrize(
    ("client_id", "secret", "expected"),
    [
        ("demo-key", "demo-secret", "demo-key"),
        ("demo-key", "demo-secret ", None),
        ("demo-key", "", None),
        ("demo-key", None, None),
        ("public", "", None),
        ("public", None, None),
        ("nobody", "demo-secret", None),
        (None, None, None),
    ],
)
def test_authenticate_client(
    client_id: str | None, secret: str | None, expected: str | None
) -> None:
    """Only the right secret of a confidential client authenticates."""
    client = DIRECTORY.authenticate_client(client_id, secret)
    assert (client and client.client_id) == expected


@pytest.mark.parametrize(
    ("username", "password", "expected"),
    [
        ("alice", "wonderland", True),
        ("alice", "Wonderland", False),
        ("alice", "", False),
        ("bob", "wonderland", False),
        ("", "", False),
        ("alice", "wönderland", False),
    ],
)
def test_authenticate_user(username: str, password: str, expected: bool) -> None:
    """Only the right password of a known user authenticates."""
    assert DIRECTORY.authenticate_user(username, password) is expected


def test_no_secret_is_shown() -> None:
    """No repr has a secret, and the directory keeps none but in its clients."""
    shown = repr(
        [
            Client("demo-key", "demo-secret"),
            User("alice", "wonderland"),
            ClientCredentials("demo-key", "demo-secret"),
        ]
    )
    assert ("demo-secret" in shown, "wonderland" in shown) == (False, False)
