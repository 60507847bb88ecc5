"""Options for tests: complete, and changed by what a test names."""

from typing import Any

from pydantic import SecretStr

from gateway.loadtest.options import RunOptions

SECRET = "a secret, not to be shown"


def options(**changes: Any) -> RunOptions:
    """Return the options of a small run."""
    given: dict[str, Any] = {
        "targets": ("http://127.0.0.1:8080/orders",),
        "token_url": "http://127.0.0.1:8080/token",
        "revoke_url": "http://127.0.0.1:8080/revoke",
        "client_id": "me",
        "client_secret": SecretStr(SECRET),
        "seed": 7,
    }
    return RunOptions(**{**given, **changes})
