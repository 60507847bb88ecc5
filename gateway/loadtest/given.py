"""Read what the command line leaves to files and the environment: secrets and tokens. Pure.

Nothing here repeats what it read, in an error least of all.
"""

import json
from collections.abc import Iterator

from pydantic import SecretStr


class Unusable(ValueError):
    """What was given can't be used; the message says where and why."""


def one_secret(text: str) -> SecretStr:
    """Return the secret in a file: its only line.

    Raises:
        Unusable: there is none, or there are several lines.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        raise Unusable(f"one line with the secret is allowed, there are {len(lines)}")
    return SecretStr(lines[0].strip())


def tokens_in(text: str) -> tuple[SecretStr, ...]:
    """Return the tokens of a file: one a line, bare, as a JSON string, or in a JSON object.

    An object is a token endpoint's answer (RFC 6749 §5.1): its ``access_token`` counts. Blank
    lines don't.

    Raises:
        Unusable: a line is none of these, or there is no token.
    """
    tokens = tuple(SecretStr(token) for token in _tokens(text.splitlines()))
    if not tokens:
        raise Unusable("at least one token is needed")
    return tokens


def _tokens(lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        token = line.strip()
        if not token:
            continue
        if token[0] in '{"':
            yield _from_json(token, number)
        else:
            yield token


def _from_json(line: str, number: int) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        raise Unusable(f"line {number}: it isn't JSON") from None
    token = value.get("access_token") if isinstance(value, dict) else value
    if not isinstance(token, str) or not token:
        raise Unusable(f"line {number}: an access_token is needed")
    return token
