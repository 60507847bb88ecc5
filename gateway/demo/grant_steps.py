"""Steps of the story that a user and an administrator take: grants given, seen and ended."""

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import unescape
from urllib.parse import parse_qsl, urlencode, urlsplit

from gateway.demo.calls import Answer, Calls, Page
from gateway.demo.stack import CLIENT_ID, ONCE, ONCE_ID, PASSWORD, SCOPES, USERNAME
from gateway.demo.steps import Steps, Unexpected, masked
from gateway.demo.timeline import Timeline

_SIGN_IN = {"username": USERNAME, "password": PASSWORD}
_TOKEN = re.compile(r'name="token" value="([^"]*)"')
_GRANT = re.compile(r"<dd>([^<]*)</dd>(?:(?!</li>).)*?name=\"grant\" value=\"([^\"]*)\"")


class GrantSteps(Steps):
    """Steps on the key manager's pages and endpoints, all of them through the gateway."""

    def __init__(self, calls: Calls, timeline: Timeline, redirect_uri: str) -> None:
        super().__init__(calls, timeline)
        self._redirect_uri = redirect_uri

    # Each grant, and whether a refresh token comes with it

    async def password_grant(self) -> None:
        """The user's password, given to the client (RFC 6749 §4.3)."""
        form = {"grant_type": "password", **_SIGN_IN}
        self._got("password", await self._ask("password", self._calls.token(**form)))

    async def client_grant(self) -> None:
        """The client for itself (RFC 6749 §4.4)."""
        call = self._calls.token(grant_type="client_credentials")
        self._got("client", await self._ask("client", call), who=CLIENT_ID)

    async def code_grant(self) -> str:
        """A code, by way of the user's browser, with PKCE (RFC 6749 §4.1, RFC 7636).

        Returns the refresh token that came of it.
        """
        verifier = secrets.token_urlsafe(32)
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        said = await self._allow(
            "allow", "code", code_challenge=challenge, code_challenge_method="S256"
        )
        says = f"{USERNAME} allows at /authorize; a code comes back"
        self._timeline.done("allow", 303, says)
        form = {"code": said.get("code", ""), "code_verifier": verifier}
        call = self._calls.token(
            grant_type="authorization_code", redirect_uri=self._redirect_uri, **form
        )
        return self._got("code", await self._ask("code", call))

    async def implicit_grant(self) -> None:
        """An access token in the fragment, and never a refresh token (RFC 6749 §4.2.2)."""
        said = await self._allow("implicit", "token")
        if "access_token" not in said or "refresh_token" in said:
            raise Unexpected("expected an access token, and no refresh token", 303)
        says = f"{USERNAME} allows; {masked(said['access_token'])} alone, nothing to refresh"
        self._timeline.done("implicit", 303, says)

    async def refresh_grant(self, refresh: str) -> None:
        """The refresh token of another grant (RFC 6749 §6)."""
        self._got("refresh", await self._ask("refresh", self._use(refresh)))

    async def grant_without_refresh(self) -> None:
        """A client that may not have refresh tokens gets none: they are optional."""
        call = self._calls.token(basic=ONCE, grant_type="client_credentials")
        answer = await self._ask("without", call)
        access = answer.members.get("access_token")
        if not isinstance(access, str) or "refresh_token" in answer.members:
            raise Unexpected("expected an access token, and no refresh token", answer.status)
        says = f"{ONCE_ID} gets {masked(access)} alone: they are optional"
        self._timeline.done("without", answer.status, says)

    # The user's page, and the administrator's call

    async def sign_in_for(self, scope: str) -> str:
        """Get an access token for a scope of its own, so that its grant can be told."""
        form = {"grant_type": "password", "scope": scope, **_SIGN_IN}
        answer = await self._ask("issue", self._calls.token(**form))
        access = str(answer.members.get("access_token"))
        self._timeline.done("issue", answer.status, f"{USERNAME} gets {masked(access)} to {scope}")
        return access

    async def client_token(self) -> str:
        """Get an access token that is nobody's but the client's."""
        answer = await self._ask("issue", self._calls.token(grant_type="client_credentials"))
        access = str(answer.members.get("access_token"))
        self._timeline.done("issue", answer.status, f"{CLIENT_ID} gets {masked(access)}")
        return access

    async def open_grants(self) -> Page:
        """Sign in on the page of grants."""
        self.name = "page"
        await self._submit("/grants/sign-in", await self._open("/grants/"), _SIGN_IN)
        page = await self._open("/grants/")
        grants = len(_GRANT.findall(page.text))
        if not grants:
            raise Unexpected("expected the user's grants", page.status)
        says = f"{USERNAME} signs in at /grants/ and sees {_grants(grants)}"
        self._timeline.done("page", page.status, says)
        return page

    async def user_revokes(self, page: Page, scope: str) -> Page:
        """Press the button beside the grant of a scope."""
        self.name = "user revokes"
        found = [name for scopes, name in _GRANT.findall(page.text) if scopes == scope]
        if not found:
            raise Unexpected(f"expected a grant to {scope}", page.status)
        await self._submit("/grants/revoke", page, {"grant": found[0]})
        self._timeline.done(self.name, 303, f"the grant to {scope} has ended")
        return await self._open("/grants/")

    async def user_revokes_all(self, page: Page) -> None:
        """Press the button for all."""
        self.name = "user revokes"
        await self._submit("/grants/revoke", page, {"all": "yes"})
        page = await self._open("/grants/")
        if _GRANT.search(page.text):
            raise Unexpected("expected no grants any more", page.status)
        self._timeline.done(self.name, 303, "all others too; the page lists none")

    async def admin_revokes(self, says: str, **what: str) -> None:
        """Have something ended as an administrator."""
        name = "admin revokes"
        answer = await self._ask(name, self._calls.revoke_as_admin(**what))
        if not answer.members.get("revoked"):
            raise Unexpected("expected something to be revoked", answer.status)
        self._timeline.done(name, answer.status, says)

    def _got(self, name: str, answer: Answer, *, who: str = USERNAME) -> str:
        access, refresh = self.tokens(answer)
        says = f"{who} gets {masked(access)} and, to refresh, {masked(refresh)}"
        self._timeline.done(name, answer.status, says)
        return refresh

    async def _allow(self, name: str, response_type: str, **query: str) -> dict[str, str]:
        """Sign in at ``/authorize`` and allow; return what the client is told."""
        self.name = name
        query |= {
            "response_type": response_type,
            "client_id": CLIENT_ID,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(SCOPES),
            "state": secrets.token_urlsafe(16),
        }
        path = f"/authorize?{urlencode(query)}"
        location = await self._submit(
            path, await self._open(path), {**_SIGN_IN, "decision": "allow"}
        )
        parts = urlsplit(location)
        said = dict(parse_qsl(parts.fragment or parts.query))
        if not location.startswith(self._redirect_uri) or said.get("state") != query["state"]:
            raise Unexpected("expected to be sent to the client, with its state", 303)
        return said

    async def _open(self, path: str) -> Page:
        page = await self._calls.page(path)
        if page.status != 200:
            raise Unexpected(f"expected a page, got {page.status}", page.status)
        return page

    async def _submit(self, path: str, page: Page, fields: Mapping[str, str]) -> str:
        """Submit a form of a page; return where the browser is sent then."""
        found = _TOKEN.search(page.text)
        token = unescape(found[1]) if found else ""
        answer = await self._calls.page(path, {"token": token, **fields})
        if answer.status != 303:
            raise Unexpected(f"expected 303, got {answer.status}", answer.status)
        return answer.location


def _grants(count: int) -> str:
    return "1 grant" if count == 1 else f"{count} grants"
