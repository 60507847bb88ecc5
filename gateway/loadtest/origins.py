"""Where a request goes, and the bytes that go there. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway import __version__

Headers = Iterable[tuple[str, str]]
USER_AGENT = f"revocation-gateway-loadtest/{__version__}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what connections are kept for (RFC 9110 §4.3.1)."""

    secure: bool
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One URL to send requests to: its origin, its Host and its path with the query."""

    origin: Origin
    authority: str
    path: str

    @classmethod
    def of(cls, url: str) -> "Endpoint":
        """Take an http or https URL apart; the options have checked that it is one."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(Origin(secure, parts.hostname or "", port), parts.netloc, path)

    def compose(self, method: str, headers: Headers, body: bytes | None = None) -> bytes:
        """Write a request (RFC 9112 §3); a ``Host`` among the headers takes the place of ours."""
        fields = list(headers)
        names = {name.lower() for name, _ in fields}
        if "host" not in names:
            fields.insert(0, ("Host", self.authority))
        if "user-agent" not in names:
            fields.append(("User-Agent", USER_AGENT))
        if "accept" not in names:
            fields.append(("Accept", "*/*"))
        if body is not None or method not in {"GET", "OPTIONS"}:
            fields.append(("Content-Length", str(len(body or b""))))
        lines = [f"{method} {self.path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")
