"""The key manager as an aiohttp application: /token, /revoke, /introspect, /authorize."""

import json
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web
from oauthlib.oauth2.rfc6749.errors import InvalidRequestError, OAuth2Error

from gateway.clock import Clock, SystemClock
from gateway.errors import GatewayError
from gateway.keymanager.authorize import AuthorizationPage
from gateway.keymanager.config import KeyManagerConfig
from gateway.keymanager.credentials import ClientCredentials, Directory, client_credentials
from gateway.keymanager.forms import parse_form
from gateway.keymanager.server import Answer, Server
from gateway.keymanager.storage import Storage
from gateway.keymanager.threads import Threads

log = structlog.stdlib.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024

NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Every answer: RFC 6749 §5.1."""

# No cookie counts at these, so any origin may ask: it can't use another's credentials.
CORS_PATHS = frozenset(("/token", "/revoke"))
PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "86400",
}

HTTP_ERRORS = {404: "not_found", 405: "method_not_allowed", 413: "content_too_large"}

CHALLENGE = 'Basic realm="key manager", charset="UTF-8"'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Call = Callable[[dict[str, str], ClientCredentials], Answer]


def create_app(
    config: KeyManagerConfig,
    storage: Storage,
    clock: Clock = SystemClock(),  # noqa: B008 - it has no state
) -> web.Application:
    """Return the application. It doesn't close ``storage``: whoever opened it does."""
    directory = Directory(config.clients, config.users)
    server = Server(config, directory, storage, clock)
    threads = Threads()
    endpoints = Endpoints(server, threads)
    page = AuthorizationPage(server, directory, threads, config.issuer)

    app = web.Application(middlewares=[answer_errors], client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/token", endpoints.token)
    app.router.add_options("/token", preflight)
    app.router.add_post("/revoke", endpoints.revoke)
    app.router.add_options("/revoke", preflight)
    app.router.add_post("/introspect", endpoints.introspect)
    app.router.add_get("/authorize", page.get)
    app.router.add_post("/authorize", page.post)

    async def stop_threads(_: web.Application) -> None:
        threads.stop()

    app.on_response_prepare.append(allow_any_origin)
    app.on_cleanup.append(stop_threads)
    return app


class Endpoints:
    """Handlers of the endpoints that clients call themselves: a form in, JSON out."""

    def __init__(self, server: Server, threads: Threads) -> None:
        self._server = server
        self._threads = threads

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
        if request.content_type != "application/x-www-form-urlencoded":
            raise InvalidRequestError("The body must be application/x-www-form-urlencoded.")
        form = parse_form(await request.read())
        client = client_credentials(request.headers.getall("Authorization", []), form)
        answer = await self._threads.run(call, form, client)
        return _json(answer.status, answer.body, answer.headers)


async def preflight(_: web.Request) -> web.Response:
    """Let a browser ask first, without credentials: a CORS preflight never has any."""
    return web.Response(status=204, headers=PREFLIGHT)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render what went wrong; no message here repeats anything that was sent."""
    try:
        return await handler(request)
    except OAuth2Error as error:
        return _json(error.status_code, error.json, {})
    except GatewayError as error:  # the store is down
        members = {"error": error.code, "error_description": error.description}
        return _json(error.status, json.dumps(members), dict(error.headers))
    except web.HTTPException as error:
        code = HTTP_ERRORS.get(error.status, "invalid_request")
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _json(error.status, json.dumps({"error": code}), allow)
    except Exception as error:  # noqa: BLE001 - aiohttp would log the traceback and its values
        log.error("unexpected error", error=type(error).__name__)  # noqa: TRY400 - as above
        return _json(500, json.dumps({"error": "server_error"}), {})


async def allow_any_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Let scripts read the answers of the endpoints that browsers may call."""
    if request.path in CORS_PATHS:
        response.headers["Access-Control-Allow-Origin"] = "*"


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
