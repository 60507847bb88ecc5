"""The tokens of a run: in the token store as docs/store.md says, and in a file for the load tool.

The file has a token a line, all of one length, so that the load tool can begin anywhere. Tokens
are 43 characters: 256 bits in base64url, what many key managers issue.
"""

import base64
import hashlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LENGTH = 43
LIFE_SECONDS = 86400
BATCH = 1000


def token(number: int) -> str:
    """Return a token; it isn't random, so that a run can be repeated."""
    digest = hashlib.sha256(f"bench {number}".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


BAD_TOKEN = token(-1)
"""A token that no store knows."""


def key(text: str) -> str:
    """Return the Redis key of a token."""
    return "token:" + hashlib.sha256(text.encode()).hexdigest()


def document(number: int, now_at: int) -> str:
    """Return the introspection response (RFC 7662 §2.2) of a token, as JSON."""
    return json.dumps(
        {
            "active": True,
            "client_id": f"client-{number % 97}",
            "sub": f"user-{number}",
            "scope": "read write",
            "token_type": "Bearer",
            "iat": now_at,
            "exp": now_at + LIFE_SECONDS,
        },
        separators=(",", ":"),
    )


def command(*parts: str) -> bytes:
    """Return a command in Redis's protocol."""
    encoded = [part.encode() for part in parts]
    return b"*%d\r\n%s" % (
        len(encoded),
        b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in encoded),
    )


def write(port: int, file: Path, count: int) -> None:
    """Put ``count`` tokens into Redis and into the file."""
    now_at = int(time.time())
    names = [token(number) for number in range(count)]
    file.write_text("".join(f"{name}\n" for name in names))
    file.chmod(0o644)
    pipeline(
        port,
        (
            command("SET", key(name), document(number, now_at), "EX", str(LIFE_SECONDS))
            for number, name in enumerate(names)
        ),
    )


def revoke(port: int, numbers: Sequence[int]) -> None:
    """Remove tokens from Redis, one by one, as revocations do."""
    pipeline(port, (command("DEL", key(token(number))) for number in numbers))


def pipeline(port: int, commands: Iterator[bytes]) -> None:
    """Send commands in batches and wait for as many one-line answers.

    Raises:
        RuntimeError: Redis refused one.
    """
    with socket.create_connection(("127.0.0.1", port)) as connection:
        answers = connection.makefile("rb")
        while batch := [part for _, part in zip(range(BATCH), commands, strict=False)]:
            connection.sendall(b"".join(batch))
            for _ in batch:
                if (line := answers.readline())[:1] not in b"+:":
                    raise RuntimeError(f"Redis: {line!r}")
