"""The key manager as an aiohttp application: its endpoints for clients, users, administrators."""

import json
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import HttpVersion11, web
from oauthlib.oauth2.rfc6749.errors import InvalidRequestError, OAuth2Error

from gateway.clock import Clock, SystemClock
from gateway.errors import GatewayError
from gateway.keymanager.addresses import Addresses
from gateway.keymanager.attempts import TooManyAttempts
from gateway.keymanager.authorize import AuthorizationPage
from gateway.keymanager.config import KeyManagerConfig
from gateway.keymanager.credentials import ClientCredentials, Directory, client_credentials
from gateway.keymanager.forms import read_form
from gateway.keymanager.grants import AdminCall, GrantsPage
from gateway.keymanager.page import NOT_STORED, fault_page, html
from gateway.keymanager.server import Answer, Server
from gateway.keymanager.sessions import Sessions
from gateway.keymanager.storage import Storage
from gateway.keymanager.threads import Threads

log = structlog.stdlib.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024

PAGES = frozenset(("grants",))
"""What people look at, by the first segment of its path: its errors are pages too."""

# No cookie counts at these, so any origin may ask: it can't use another's credentials.
CORS_PATHS = frozenset(("/token", "/revoke"))
PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "86400",
}

HTTP_ERRORS = {
    403: "access_denied",
    404: "not_found",
    405: "method_not_allowed",
    413: "content_too_large",
}

CHALLENGE = 'Basic realm="key manager", charset="UTF-8"'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Call = Callable[[dict[str, str], ClientCredentials], Answer]


def create_app(
    config: KeyManagerConfig,
    storage: Storage,
    clock: Clock = SystemClock(),  # noqa: B008 - it has no state
) -> web.Application:
    """Return the application. It doesn't close ``storage``: whoever opened it does."""
    directory = Directory(config.clients, config.users, config.admins, clock)
    server = Server(config, directory, storage, clock)
    threads = Threads()
    addresses = Addresses(config.trusted_proxies)
    endpoints = Endpoints(server, threads, addresses)
    page = AuthorizationPage(server, directory, threads, addresses, config.issuer)
    grants = GrantsPage(server.validator, directory, threads, Sessions(clock), addresses)
    admin = AdminCall(server.validator, directory, threads, addresses)

    app = web.Application(middlewares=[answer_errors], client_max_size=MAX_BODY_BYTES)
    for method, path, handler in (
        ("POST", "/token", endpoints.token),
        ("OPTIONS", "/token", preflight),
        ("POST", "/revoke", endpoints.revoke),
        ("OPTIONS", "/revoke", preflight),
        ("POST", "/introspect", endpoints.introspect),
        ("GET", "/authorize", page.get),
        ("HEAD", "/authorize", page.get),
        ("POST", "/authorize", page.post),
        ("GET", "/grants", grants.move),
        ("GET", "/grants/", grants.get),
        ("POST", "/grants/sign-in", grants.sign_in),
        ("POST", "/grants/revoke", grants.revoke),
        ("POST", "/grants/sign-out", grants.sign_out),
        ("POST", "/admin/revoke", admin.post),
    ):
        app.router.add_route(method, path, handler, expect_handler=answer_expectation)

    async def stop_threads(_: web.Application) -> None:
        threads.stop()

    app.on_response_prepare.append(allow_any_origin)
    app.on_cleanup.append(stop_threads)
    return app


class Endpoints:
    """Handlers of the endpoints that clients call themselves: a form in, JSON out."""

    def __init__(self, server: Server, threads: Threads, addresses: Addresses) -> None:
        self._server = server
        self._threads = threads
        self._addresses = addresses

    async def token(self, request: web.Request) -> web.Response:
        """Issue tokens (RFC 6749 §3.2)."""
        return await self._call(request, self._server.token)

    async def revoke(self, request: web.Request) -> web.Response:
        """Revoke a token (RFC 7009 §2)."""
        return await self._call(request, self._server.revoke)

    async def introspect(self, request: web.Request) -> web.Response:
        """Tell what a token is good for (RFC 7662 §2)."""
        return await self._call(request, self._server.introspect)

    async def _call(self, request: web.Request, call: Call) -> web.Response:
        if request.query_string:
            # Credentials must not be in URIs, which end up in logs: RFC 6749 §2.3.1.
            raise InvalidRequestError("Parameters belong in the body.")
        form = await read_form(request)
        client = client_credentials(
            request.headers.getall("Authorization", []), form, self._addresses.of(request)
        )
        answer = await self._threads.run(call, form, client)
        return _json(answer.status, answer.body, answer.headers)


async def preflight(_: web.Request) -> web.Response:
    """Let a browser ask first, without credentials: a CORS preflight never has any."""
    return web.Response(status=204, headers=PREFLIGHT)


async def answer_expectation(request: web.Request) -> web.StreamResponse | None:
    """Let a client go on that waits for it (RFC 9110 §10.1.1); aiohttp's own repeats the header."""
    if request.headers["Expect"].lower() != "100-continue":
        return _error(request, 417, "invalid_request", "The expectation can't be met.", {})
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it isn't the answer yet
    return None


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render what went wrong; no message here repeats anything that was sent."""
    try:
        return await handler(request)
    except OAuth2Error as error:
        return _error(
            request, error.status_code, error.error or "invalid_request", error.description, {}
        )
    except TooManyAttempts as error:
        # RFC 6749 has no code for it; RFC 8628 §3.5 has this one for whoever asks too often.
        wait = {"Retry-After": str(error.retry_after_seconds)}
        return _error(request, 429, "slow_down", "Too many wrong passwords.", wait)
    except GatewayError as error:  # the store is down
        return _error(request, error.status, error.code, error.description, dict(error.headers))
    except web.HTTPException as error:
        code = HTTP_ERRORS.get(error.status, "invalid_request")
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _error(request, error.status, code, None, allow)
    except Exception as error:  # noqa: BLE001 - aiohttp would log the traceback and its values
        log.error("unexpected error", error=type(error).__name__)  # noqa: TRY400 - as above
        return _error(request, 500, "server_error", None, {})


async def allow_any_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Let scripts read the answers of the endpoints that browsers may call."""
    if request.path in CORS_PATHS:
        response.headers["Access-Control-Allow-Origin"] = "*"


def _error(
    request: web.Request, status: int, code: str, says: str | None, headers: Mapping[str, str]
) -> web.Response:
    if request.path.split("/")[1] in PAGES:
        response = html(fault_page(says or code.replace("_", " "), "That didn't work"), status)
        response.headers.update(headers)
        return response
    members = {"error": code} | ({"error_description": says} if says else {})
    return _json(status, json.dumps(members), headers)


def _json(status: int, body: str, headers: Mapping[str, str]) -> web.Response:
    if status == 401:
        # Always by Basic; oauthlib says Bearer, which isn't how a client authenticates (§5.2).
        headers = {**headers, "WWW-Authenticate": CHALLENGE}
    return web.Response(
        status=status,
        text=body,
        content_type="application/json",
        headers={
            **{name: value for name, value in headers.items() if name != "Content-Type"},
            **NOT_STORED,
        },
    )
