"""JWTs as key managers make them, but for their signatures, which nobody here checks."""

import json
from base64 import urlsafe_b64encode
from typing import Any


def base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def jwt(claims: dict[str, Any] | bytes, **header: Any) -> str:
    """Return a signed JWT (RFC 7519 §3.1); claims as bytes stand in it as they are."""
    if isinstance(claims, dict):
        claims = json.dumps(claims).encode()
    head = json.dumps({"alg": "RS256", "typ": "JWT", **header}).encode()
    return ".".join(base64url(part) for part in (head, claims, b"signature"))
