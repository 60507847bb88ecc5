"""Grants seen and ended: the page for users, ``/grants``, and the call for administrators.

RFC 7009 leaves revoking to clients. But a user whose token was stolen, and an administrator who
hears of it, can't wait until a client does. Both end grants as a client's ``/revoke`` of a
refresh token does: with all of their tokens.
"""

import structlog
from aiohttp import web
from oauthlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError

from gateway.keymanager.addresses import Addresses
from gateway.keymanager.attempts import TooManyAttempts
from gateway.keymanager.credentials import Directory, admin_credentials
from gateway.keymanager.forms import read_form
from gateway.keymanager.page import (
    HEADERS,
    NOT_STORED,
    AntiForgery,
    fault_page,
    grants_page,
    html,
    set_cookie,
    sign_in_to_grants_page,
    wait_fault,
)
from gateway.keymanager.request_validator import Validator
from gateway.keymanager.sessions import Session, Sessions
from gateway.keymanager.threads import Threads

log = structlog.stdlib.get_logger(__name__)

COOKIE = "km_session"
FORM_COOKIE = "km_grants_form"
"""Apart from that of ``/authorize``, which has another path."""

_EXPIRED = "The form has expired. Go back, load the page anew and try again."


class GrantsPage:
    """Handlers of the page: GET shows it, each form posts to an address below it.

    A form is genuine only with the anti-forgery token of a page of this browser; and what it
    names must be the user's own, or nothing is done.
    """

    def __init__(
        self,
        validator: Validator,
        directory: Directory,
        threads: Threads,
        sessions: Sessions,
        addresses: Addresses,
    ) -> None:
        self._validator = validator
        self._directory = directory
        self._threads = threads
        self._sessions = sessions
        self._addresses = addresses
        self._anti_forgery = AntiForgery()

    async def move(self, _: web.Request) -> web.Response:
        """Send the browser to the page's address, which ends in a slash.

        So its forms and cookies are below it, wherever a gateway in front has put the page.
        """
        return web.Response(status=308, headers={**HEADERS, "Location": "grants/"})

    async def get(self, request: web.Request) -> web.Response:
        """Show the user's grants, or the form to sign in with."""
        cookie = request.cookies.get(COOKIE)
        session = self._sessions.find(cookie)
        if session is None:
            return self._sign_in_page(request)
        grants = await self._threads.run(self._validator.grants, session.username)
        notice, session.notice = session.notice, ""
        token = self._anti_forgery.token(cookie or "", {})
        return html(grants_page(session.username, grants, token=token, notice=notice))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Begin a session."""
        form = await read_form(request)
        nonce = request.cookies.get(FORM_COOKIE)
        if not self._anti_forgery.is_genuine(form.get("token", ""), nonce, {}):
            return html(fault_page(_EXPIRED), 403)
        username, password = form.get("username", ""), form.get("password", "")
        try:
            right = self._directory.authenticate_user(
                username, password, self._addresses.of(request)
            )
        except TooManyAttempts as error:
            return self._sign_in_page(request, wait_fault(error), error)
        if not right:
            log.warning("password refused", page="grants")
            return self._sign_in_page(request, "User name or password is wrong.")
        # A cookie that somebody planted before is worth nothing: a session has a new one.
        response = _to_the_page()
        set_cookie(response, request, COOKIE, self._sessions.begin(username))
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session."""
        cookie, session, _ = await self._genuine(request)
        if session is None:
            return html(fault_page(_EXPIRED), 403)
        self._sessions.end(cookie)
        response = _to_the_page()
        set_cookie(response, request, COOKIE, "")
        return response

    async def revoke(self, request: web.Request) -> web.Response:
        """End one of the user's grants, or all of them."""
        _, session, form = await self._genuine(request)
        if session is None:
            return html(fault_page(_EXPIRED), 403)
        family_id = form.get("grant")
        if family_id is None and form.get("all") != "yes":
            return html(fault_page("The form doesn't say what to revoke."), 400)
        ended = await self._threads.run(
            self._validator.end_grants, username=session.username, family_id=family_id
        )
        log.info("grants ended by their user", grants=ended)
        session.notice = _told(ended)
        return _to_the_page()

    async def _genuine(
        self, request: web.Request
    ) -> tuple[str | None, Session | None, dict[str, str]]:
        """Return the cookie, its session if the form came from its page, and the form."""
        form, cookie = await read_form(request), request.cookies.get(COOKIE)
        if not self._anti_forgery.is_genuine(form.get("token", ""), cookie, {}):
            return cookie, None, form
        return cookie, self._sessions.find(cookie), form

    def _sign_in_page(
        self, request: web.Request, fault: str = "", wait: TooManyAttempts | None = None
    ) -> web.Response:
        nonce = self._anti_forgery.nonce(request.cookies.get(FORM_COOKIE))
        page = sign_in_to_grants_page(self._anti_forgery.token(nonce, {}), fault)
        if wait:
            response = html(page, 429, retry_after_seconds=wait.retry_after_seconds)
        else:
            response = html(page, 403 if fault else 200)
        set_cookie(response, request, FORM_COOKIE, nonce)
        return response


class AdminCall:
    """``POST /admin/revoke``: by ``token``, by ``username``, by ``client_id``, or by the last two.

    Those together mean a user's grants with one client. An administrator authenticates by HTTP
    Basic (RFC 7617).
    """

    def __init__(
        self, validator: Validator, directory: Directory, threads: Threads, addresses: Addresses
    ) -> None:
        self._validator = validator
        self._directory = directory
        self._threads = threads
        self._addresses = addresses

    async def post(self, request: web.Request) -> web.Response:
        """End what is named, and say how many grants or tokens that were: 0 is no error."""
        if "Origin" in request.headers:
            # A page's doing, with a password that the browser remembers; a REST client sends none.
            raise web.HTTPForbidden
        authorization = request.headers.getall("Authorization", [])
        admin = admin_credentials(authorization, self._addresses.of(request))
        if not self._directory.authenticate_admin(admin):
            log.warning("administrator's password refused")
            raise InvalidClientError
        form = await read_form(request)
        named = {name: form.get(name) for name in ("token", "username", "client_id")}
        token, username, client_id = named.values()
        if not any(named.values()) or (token is not None and (username or client_id)):
            raise InvalidRequestError("Either token, or username, client_id or both, is needed.")
        if token is not None:
            revoked = int(bool(await self._threads.run(self._validator.end_token, token)))
        else:
            revoked = await self._threads.run(
                self._validator.end_grants, username=username, client_id=client_id
            )
        log.info("revoked by an administrator", admin=admin.client_id, revoked=revoked)
        return web.json_response({"revoked": revoked}, headers=NOT_STORED)


def _told(ended: int) -> str:
    if not ended:
        return "Nothing was left to revoke."
    return "1 grant was revoked." if ended == 1 else f"{ended} grants were revoked."


def _to_the_page() -> web.Response:
    # 303: what follows is a GET, so that loading the page anew posts nothing again.
    return web.Response(status=303, headers={**HEADERS, "Location": "./"})
