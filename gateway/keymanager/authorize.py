"""The authorization endpoint: GET shows the page, POST grants or denies (RFC 6749 §3.1)."""

from collections.abc import Sequence

import structlog
from aiohttp import web
from oauthlib.common import add_params_to_uri
from oauthlib.oauth2.rfc6749.errors import AccessDeniedError, FatalClientError, OAuth2Error

from gateway.keymanager.addresses import Addresses
from gateway.keymanager.attempts import TooManyAttempts
from gateway.keymanager.credentials import Directory
from gateway.keymanager.forms import parse_form, read_form
from gateway.keymanager.page import (
    HEADERS,
    AntiForgery,
    fault_page,
    html,
    set_cookie,
    sign_in_page,
    wait_fault,
)
from gateway.keymanager.server import Authorization, Server
from gateway.keymanager.threads import Threads

log = structlog.stdlib.get_logger(__name__)

COOKIE = "km_form"


class AuthorizationPage:
    """Handlers of ``/authorize``.

    The query of both methods is the authorization request; what the user enters is in the
    body of the POST, so the two can't be mixed up.
    """

    def __init__(
        self,
        server: Server,
        directory: Directory,
        threads: Threads,
        addresses: Addresses,
        issuer: str | None,
    ) -> None:
        self._server = server
        self._directory = directory
        self._threads = threads
        self._addresses = addresses
        self._issuer = issuer
        self._anti_forgery = AntiForgery()

    async def get(self, request: web.Request) -> web.Response:
        """Show the page."""
        try:
            authorization = await self._authorization(request)
        except OAuth2Error as error:
            return self._refuse(error)
        return self._page(request, authorization)

    async def post(self, request: web.Request) -> web.Response:
        """Send the browser to the client with what the user decided."""
        try:
            authorization = await self._authorization(request)
            form = await read_form(request)
        except OAuth2Error as error:
            return self._refuse(error)
        token, cookie = form.get("token", ""), request.cookies.get(COOKIE)
        if not self._anti_forgery.is_genuine(token, cookie, authorization.parameters):
            return html(fault_page("The form has expired. Go back and try again."), 403)
        if form.get("decision") != "allow":
            return self._refuse(_denied(authorization))
        username, password = form.get("username", ""), form.get("password", "")
        address = self._addresses.of(request)
        try:
            right = self._directory.authenticate_user(username, password, address)
        except TooManyAttempts as error:
            return self._page(request, authorization, wait=error)
        if not right:
            log.warning("password refused", client_id=authorization.client_id)
            return self._page(request, authorization, fault="User name or password is wrong.")
        location = await self._threads.run(self._server.authorize, authorization, username)
        return self._redirect(location, (), fragment=authorization.response_type == "token")

    async def _authorization(self, request: web.Request) -> Authorization:
        query = parse_form(request.rel_url.raw_query_string)
        return await self._threads.run(self._server.check_authorization, query)

    def _page(
        self,
        request: web.Request,
        authorization: Authorization,
        fault: str = "",
        wait: TooManyAttempts | None = None,
    ) -> web.Response:
        nonce = self._anti_forgery.nonce(request.cookies.get(COOKIE))
        page = sign_in_page(
            client_id=authorization.client_id,
            scopes=authorization.scopes,
            redirect_uri=authorization.redirect_uri,
            token=self._anti_forgery.token(nonce, authorization.parameters),
            fault=wait_fault(wait) if wait else fault,
        )
        if wait:
            response = html(page, 429, retry_after_seconds=wait.retry_after_seconds)
        else:
            response = html(page, 403 if fault else 200)
        set_cookie(response, request, COOKIE, nonce, path="/")
        return response

    def _refuse(self, error: OAuth2Error) -> web.Response:
        """Tell the client by a redirect; but the user where the client can't be trusted.

        RFC 6749 §4.1.2.1: a browser is never sent to a redirect URI that wasn't checked.
        """
        if isinstance(error, FatalClientError) or error.redirect_uri is None:
            return html(fault_page(error.description or "The request is not valid."), 400)
        # In the fragment for the implicit grant (§4.2.2.1), in the query for a code.
        fragment = error.response_type == "token"
        return self._redirect(error.redirect_uri, error.twotuples, fragment=fragment)

    def _redirect(
        self, uri: str, parameters: Sequence[tuple[str, str | None]], *, fragment: bool
    ) -> web.Response:
        added = [(name, value) for name, value in parameters if value is not None]
        if self._issuer is not None:
            added.append(("iss", self._issuer))  # RFC 9207 §2
        location = add_params_to_uri(uri, added, fragment=fragment) if added else uri
        # 303: the browser must not send the password on to the client (RFC 9700 §4.12).
        return web.Response(status=303, headers={**HEADERS, "Location": location})


def _denied(authorization: Authorization) -> OAuth2Error:
    error = AccessDeniedError(
        "The user denied the request.", state=authorization.parameters.get("state")
    )
    error.redirect_uri = authorization.redirect_uri
    error.response_type = authorization.response_type
    return error
