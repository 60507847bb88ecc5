"""Secrets and tokens read from files."""

import pytest

from gateway.loadtest.given import Unusable, one_secret, tokens_in


@pytest.mark.parametrize("text", ["s3cret", "s3cret\n", "\n s3cret \r\n\n"])
def test_a_secret(text: str) -> None:
    """The only line of a file is the secret."""
    assert one_secret(text).get_secret_value() == "s3cret"


@pytest.mark.parametrize(("text", "lines"), [("", 0), ("\n \n", 0), ("hush\nquiet", 2)])
def test_no_secret(text: str, lines: int) -> None:
    """None or several lines are no secret, and aren't shown."""
    with pytest.raises(Unusable) as caught:
        one_secret(text)
    assert str(caught.value) == f"one line with the secret is allowed, there are {lines}"


def test_tokens() -> None:
    """Tokens are bare, JSON strings, or in the answers of a token endpoint."""
    text = 'one\n\n"two"\n {"access_token": "three", "expires_in": 5}\n'
    assert [token.get_secret_value() for token in tokens_in(text)] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "at least one token is needed"),
        ("\n", "at least one token is needed"),
        ("hush\n{hush", "line 2: it isn't JSON"),
        ('{"token": "hush"}', "line 1: an access_token is needed"),
        ('{"access_token": 1}', "line 1: an access_token is needed"),
        ('""', "line 1: an access_token is needed"),
    ],
)
def test_no_tokens(text: str, why: str) -> None:
    """What can't be used is said by its line, and not repeated."""
    with pytest.raises(Unusable) as caught:
        tokens_in(text)
    assert str(caught.value) == why
