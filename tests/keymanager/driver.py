"""A client of the key manager that speaks HTTP, for the tests to read as transcripts."""

import re
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from multidict import CIMultiDictProxy

from gateway.keymanager.config import Client, KeyManagerConfig, User

REDIRECT_URI = "https://app.example/callback"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-0123"

DEMO = ("demo-key", "demo-secret")
OTHER = ("other-key", "other: %secret+")
ALICE = {"username": "alice", "password": "wonderland"}

CONFIG = KeyManagerConfig(
    clients=(
        Client(*DEMO, redirect_uris=(REDIRECT_URI,)),
        Client(*OTHER, redirect_uris=(REDIRECT_URI, "https://other.example/")),
        Client("public-app", redirect_uris=(REDIRECT_URI,)),
        Client("no-refresh", "secret", grant_types=("client_credentials",), scopes=("read",)),
    ),
    users=(User(**ALICE),),
)


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str
    json: Any

    @property
    def error(self) -> tuple[int, str | None]:
        """The status and the ``error`` member."""
        return self.status, self.json.get("error")

    @property
    def location(self) -> tuple[str, dict[str, str]]:
        """Where a redirect goes, and what it says: in the fragment or else in the query."""
        parts = urlsplit(self.headers["Location"])
        said = dict(parse_qsl(parts.fragment or parts.query))
        return parts._replace(query="", fragment="").geturl(), said


async def read(response: ClientResponse) -> Reply:
    text = await response.text()
    json = await response.json() if response.content_type == "application/json" and text else {}
    return Reply(response.status, response.headers, text, json)


def challenge_of(verifier: str) -> str:
    """The PKCE challenge by S256 (RFC 7636 §4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")


def basic(client: tuple[str, str]) -> dict[str, str]:
    """The Authorization header of a client, as RFC 6749 §2.3.1 has it."""
    pair = ":".join(quote_plus(part) for part in client)
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


class Driver:
    """Requests to one key manager."""

    def __init__(self, http: TestClient[web.Request, web.Application]) -> None:
        self.http = http

    async def post(
        self, path: str, form: dict[str, str], client: tuple[str, str] | None = DEMO
    ) -> Reply:
        headers = basic(client) if client else {}
        return await read(await self.http.post(path, data=form, headers=headers))

    async def token(self, *, client: tuple[str, str] | None = DEMO, **form: str) -> Reply:
        return await self.post("/token", form, client)

    async def password(self, client: tuple[str, str] = DEMO, **form: str) -> dict[str, Any]:
        """The tokens of a password grant for alice."""
        reply = await self.token(client=client, grant_type="password", **ALICE, **form)
        assert reply.status == 200
        tokens: dict[str, Any] = reply.json
        return tokens

    async def refresh(
        self, refresh_token: str, client: tuple[str, str] = DEMO, **form: str
    ) -> Reply:
        return await self.token(
            client=client, grant_type="refresh_token", refresh_token=refresh_token, **form
        )

    async def revoke(self, token: str, client: tuple[str, str] = DEMO, **form: str) -> Reply:
        return await self.post("/revoke", {"token": token, **form}, client)

    async def introspect(self, token: str, client: tuple[str, str] = DEMO) -> dict[str, Any]:
        reply = await self.post("/introspect", {"token": token}, client)
        assert reply.status == 200
        document: dict[str, Any] = reply.json
        return document

    async def active(self, *tokens: str) -> list[bool]:
        """Whether each token is active, by introspection."""
        return [(await self.introspect(token))["active"] for token in tokens]

    async def page(self, **query: str) -> Reply:
        return await read(await self.http.get("/authorize", params=query, allow_redirects=False))

    async def submit(self, query: dict[str, str], **form: str) -> Reply:
        return await read(
            await self.http.post("/authorize", params=query, data=form, allow_redirects=False)
        )

    async def decide(self, query: dict[str, str], **form: str) -> Reply:
        """Open the page, then submit its form."""
        page = await self.page(**query)
        assert page.status == 200, page.text
        return await self.submit(query, token=form_token(page), **form)

    async def code(self, **query: str) -> str:
        """A code that alice granted."""
        reply = await self.decide(code_request(**query), **ALICE, decision="allow")
        return reply.location[1]["code"]

    async def redeem(self, code: str, client: tuple[str, str] | None = DEMO, **form: str) -> Reply:
        form = {"redirect_uri": REDIRECT_URI, "code_verifier": VERIFIER} | form
        return await self.token(client=client, grant_type="authorization_code", code=code, **form)


def form_token(page: Reply) -> str:
    """The anti-forgery token in a page's form."""
    found = re.search(r'name="token" value="([^"]*)"', page.text)
    assert found
    return unescape(found[1])


def code_request(**query: str) -> dict[str, str]:
    """An authorization request for a code; an empty value leaves a parameter out."""
    request = {
        "response_type": "code",
        "client_id": "demo-key",
        "redirect_uri": REDIRECT_URI,
        "scope": "read write",
        "state": "a state/&=",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
    }
    return {name: value for name, value in (request | query).items() if value}


def token_request(**query: str) -> dict[str, str]:
    """An authorization request for a token: the implicit grant."""
    return code_request(
        **{"response_type": "token", "code_challenge": "", "code_challenge_method": ""} | query
    )
