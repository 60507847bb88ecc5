"""Who is signed in on the page of grants. Pure; the clock is handed in."""

import secrets
from dataclasses import dataclass
from hashlib import sha256

from gateway.clock import Clock

LIFE_SECONDS = 15 * 60.0
"""From the sign-in, however busy: it is a page to look at now and then."""
MOST_SESSIONS = 1000
"""The oldest ends for a new one."""


@dataclass(slots=True)
class Session:
    """A user who is signed in, and what the page has to tell next."""

    username: str
    until: float
    notice: str = ""


class Sessions:
    """Sessions by the digest of what the browser's cookie holds. None survives a restart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, username: str) -> str:
        """Sign a user in, whose password was right, and return what the cookie is to hold."""
        now = self._clock.monotonic()
        while self._sessions:
            oldest = next(iter(self._sessions))  # they end in the order in which they began
            if len(self._sessions) < MOST_SESSIONS and self._sessions[oldest].until > now:
                break
            del self._sessions[oldest]
        cookie = secrets.token_urlsafe(32)
        self._sessions[_key(cookie)] = Session(username, now + LIFE_SECONDS)
        return cookie

    def find(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie while it lasts."""
        session = self._sessions.get(_key(cookie or ""))
        return session if session and self._clock.monotonic() < session.until else None

    def end(self, cookie: str | None) -> None:
        """Sign out."""
        self._sessions.pop(_key(cookie or ""), None)


def _key(cookie: str) -> bytes:
    # A look-up by digest tells nothing by the time it takes; and cookies may hold any bytes.
    return sha256(cookie.encode(errors="surrogatepass")).digest()
