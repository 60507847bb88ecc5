"""The steps that a story is made of: a call, what it must come to, and its row on the timeline."""

from collections.abc import Awaitable
from datetime import UTC, datetime

from gateway.demo.calls import Answer, Calls
from gateway.demo.stack import CLIENT_ID, PASSWORD, SCOPES, USERNAME
from gateway.demo.timeline import Timeline

_SHOWN_CHARACTERS = 6


class Unexpected(Exception):
    """A step that isn't as it should be. The message has no token in it."""

    def __init__(self, says: str, status: int | None = None) -> None:
        super().__init__(says)
        self.status = status


class Steps:
    """Steps that raise ``Unexpected`` unless they come to what they must; ``name`` is the last.

    Each raises ``aiohttp.ClientError`` or ``TimeoutError`` where there is no answer at all.
    """

    def __init__(self, calls: Calls, timeline: Timeline) -> None:
        self.name = ""
        self._calls = calls
        self._timeline = timeline

    def done(self, name: str, says: str) -> None:
        """Write a step that took no call."""
        self.name = name
        self._timeline.done(name, None, says)

    async def sign_in(self) -> tuple[str, str]:
        """Get an access and a refresh token by the password grant (RFC 6749 §4.3)."""
        form = {"username": USERNAME, "password": PASSWORD, "scope": " ".join(SCOPES)}
        answer = await self._ask("issue", self._calls.token(grant_type="password", **form))
        access, refresh = self.tokens(answer)
        says = f"{USERNAME} gets {masked(access)} and, to refresh, {masked(refresh)}"
        self._timeline.done("issue", answer.status, says)
        return access, refresh

    async def refresh(self, refresh: str) -> tuple[str, str]:
        """Get new tokens; both must be others than before (RFC 6749 §6)."""
        answer = await self._ask("refresh", self._use(refresh))
        access, newer = self.tokens(answer)
        if newer == refresh:
            raise Unexpected("expected a new refresh token, got the old one", answer.status)
        says = f"new tokens: {masked(access)} and, to refresh, {masked(newer)}"
        self._timeline.done("refresh", answer.status, says)
        return access, newer

    async def expiry(self, refresh: str) -> int:
        """Ask until when a refresh token is good, in seconds since the epoch."""
        answer = await self._ask("expiry", self._calls.introspect(refresh))
        exp = answer.members.get("exp")
        if not isinstance(exp, int):
            raise Unexpected("expected an expiry time", answer.status)
        return exp

    async def new_expiry(self, refresh: str, before: int) -> None:
        """Check that a new refresh token has a new expiry time."""
        exp = await self.expiry(refresh)
        if exp <= before:
            raise Unexpected(f"expected an expiry time after {_instant(before)}")
        says = f"{_instant(exp)} UTC; that of the old one was {_instant(before)}"
        self.done("new expiry", says)

    async def refresh_refused(self, name: str, refresh: str, says: str) -> None:
        """Use a refresh token that is no good (RFC 6749 §5.2)."""
        answer = await self._ask(name, self._use(refresh), status=400, error="invalid_grant")
        self._timeline.done(name, answer.status, says)

    async def accepted(
        self, path: str, access: str, says: str, *, tls: bool = True, name: str = "call"
    ) -> Answer:
        """Call a backend, which must get the request."""
        answer = await self._ask(name, self._calls.get(path, access, tls=tls))
        self._timeline.done(name, answer.status, f"{path} {says}")
        return answer

    async def refused(self, path: str, access: str, says: str, *, name: str = "call") -> Answer:
        """Call a backend with a token that is no good (RFC 6750 §3.1)."""
        call = self._calls.get(path, access)
        answer = await self._ask(name, call, status=401, error="invalid_token")
        self._timeline.done(name, answer.status, f"{path} {says}")
        return answer

    async def revoke(self, access: str) -> Answer:
        """Revoke an access token (RFC 7009 §2)."""
        answer = await self._ask("revoke", self._calls.revoke(access))
        self._timeline.done("revoke", answer.status, f"{masked(access)} is gone from the store")
        return answer

    def identity(self, answer: Answer) -> None:
        """Check who called, as the backend has it from the gateway; it must not see the token."""
        self.name = "backend sees"
        headers = answer.members.get("headers", {})
        fields = {str(name).lower(): value for name, value in headers.items()}
        seen = [fields.get(f"x-token-{name}") for name in ("client-id", "subject", "scope")]
        if seen != [CLIENT_ID, USERNAME, " ".join(SCOPES)]:
            raise Unexpected("expected the client, the user and the scopes that signed in")
        if "authorization" in fields:
            raise Unexpected("expected no Authorization header")
        self.done(self.name, f"{seen[0]}, {seen[1]}, {seen[2]}; not the token")

    @staticmethod
    def tokens(answer: Answer) -> tuple[str, str]:
        """Return the access and the refresh token that an answer must have."""
        access, refresh = (answer.members.get(f"{kind}_token") for kind in ("access", "refresh"))
        if not isinstance(access, str) or not isinstance(refresh, str):
            raise Unexpected("expected an access and a refresh token", answer.status)
        return access, refresh

    def _use(self, refresh: str) -> Awaitable[Answer]:
        return self._calls.token(grant_type="refresh_token", refresh_token=refresh)

    async def _ask(
        self, name: str, call: Awaitable[Answer], *, status: int = 200, error: str | None = None
    ) -> Answer:
        self.name = name
        answer = await call
        check(answer, status=status, error=error)
        return answer


def check(answer: Answer, *, status: int, error: str | None) -> None:
    """Raise ``Unexpected`` unless an answer has this status and error code."""
    if (answer.status, answer.error) != (status, error):
        expected = f"{status} {error or ''}".strip()
        got = f"{answer.status} {answer.error or ''}".strip()
        raise Unexpected(f"expected {expected}, got {got}", answer.status)


def _instant(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def masked(token: str) -> str:
    """Return as much of a token as may be shown."""
    return f"{token[:_SHOWN_CHARACTERS]}…"
