"""The story's calls: real HTTP to the gateway, each with when it was sent and answered."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from gateway.clock import Clock
from gateway.demo.stack import ADMIN, BASIC, Stack
from gateway.demo.window import Span

_TIMEOUT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call. ``members`` is its JSON object, which may hold tokens."""

    status: int
    span: Span
    members: Mapping[str, Any] = field(repr=False)

    @property
    def error(self) -> str | None:
        """The error code, of the gateway (RFC 6750 §3.1) or the key manager (RFC 6749 §5.2)."""
        code = self.members.get("error")
        return None if code is None else str(code)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as a browser gets it, or where it is sent; both may hold tokens."""

    status: int
    text: str = field(repr=False)
    location: str = field(repr=False)


class Calls:
    """Calls through the gateway, and how many of them it must have counted under each outcome."""

    def __init__(self, session: aiohttp.ClientSession, stack: Stack, clock: Clock) -> None:
        self._session = session
        self._stack = stack
        self._clock = clock
        self.outcomes: Counter[str] = Counter()

    async def token(self, *, basic: str = BASIC, **parameters: str) -> Answer:
        """Ask for tokens (RFC 6749 §4.1.3, §4.3.2, §4.4.2, §6)."""
        return await self._post("/token", parameters, basic)

    async def revoke(self, token: str) -> Answer:
        """Revoke a token (RFC 7009 §2.1)."""
        return await self._post("/revoke", {"token": token})

    async def revoke_as_admin(self, **what: str) -> Answer:
        """Have the key manager end grants or tokens of anyone."""
        return await self._post("/admin/revoke", what, ADMIN)

    async def introspect(self, token: str) -> Answer:
        """Ask what a token is good for (RFC 7662 §2.1)."""
        return await self._post("/introspect", {"token": token})

    async def page(self, path: str, form: Mapping[str, str] | None = None) -> Page:
        """Open a page, or submit a form, as a browser does; no redirect is followed."""
        method = "GET" if form is None else "POST"
        async with self._session.request(
            method, self._stack.tls_url + path, data=form, allow_redirects=False
        ) as response:
            location = response.headers.get("Location", "")
            page = Page(response.status, await response.text(), location)
        self.outcomes["proxied"] += 1
        return page

    async def get(self, path: str, token: str, *, tls: bool = True) -> Answer:
        """Call a backend with a bearer token."""
        url = (self._stack.tls_url if tls else self._stack.url) + path
        answer = await self._call("GET", url, headers={"Authorization": f"Bearer {token}"})
        self.outcomes["invalid_token" if answer.status == 401 else "proxied"] += 1
        return answer

    async def counted(self) -> Counter[str]:
        """Return the requests that the gateway's metrics tell of, by outcome."""
        async with self._session.get(f"{self._stack.admin_url}/metrics") as response:
            text = await response.text()
        outcomes: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "gateway_requests_total":
                    outcomes[sample.labels["outcome"]] += round(sample.value)
        return outcomes

    async def _post(self, path: str, form: Mapping[str, str], basic: str = BASIC) -> Answer:
        url, headers = self._stack.tls_url + path, {"Authorization": f"Basic {basic}"}
        answer = await self._call("POST", url, headers=headers, data=form)
        self.outcomes["proxied"] += 1
        return answer

    async def _call(self, method: str, url: str, **options: Any) -> Answer:
        sent = self._clock.monotonic()
        async with self._session.request(method, url, **options) as response:
            span = Span(sent, self._clock.monotonic())
            return Answer(response.status, span, _object(await response.read()))


@asynccontextmanager
async def opened_calls(stack: Stack, clock: Clock) -> AsyncIterator[Calls]:
    """Hold connections to a stack; its certificate is its own, so there is nobody to verify it."""
    connector = aiohttp.TCPConnector(ssl=False)
    # Pages set cookies, and the host is an address: "unsafe" is aiohttp's word for taking those.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=_TIMEOUT, cookie_jar=jar
    ) as session:
        yield Calls(session, stack, clock)


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        members = json.loads(content or b"{}")
    except ValueError:
        members = None
    return members if isinstance(members, dict) else {}
