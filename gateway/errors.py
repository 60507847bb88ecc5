"""What can go wrong with a request; each error knows its HTTP answer.

Two levels: ``GatewayError``, and one class for each thing that goes wrong. The proxy
renders them in one place. No message here ever repeats a header, a token or a body.
"""

from collections.abc import Sequence

Headers = Sequence[tuple[str, str]]


class GatewayError(Exception):
    """A request that the gateway answers itself.

    ``status`` is the HTTP status, ``code`` the ``error`` member of the JSON answer,
    ``outcome`` the label under which metrics and the access log count it, and
    ``headers`` what the answer carries besides (a challenge, ``Retry-After``, ``Allow``).
    ``close`` asks for the connection to be closed after the answer: what follows on it
    can't be trusted or isn't worth reading. ``says`` describes it where nothing else does.
    ``cause`` is one word for what an upstream did, for metrics and the log, and ``why`` what else
    is known of it, for the log alone: no client sees either.
    """

    status = 500
    code = "server_error"
    outcome = "server_error"
    close = False
    says = ""

    def __init__(
        self, description: str = "", *, headers: Headers = (), cause: str = "", why: str = ""
    ) -> None:
        description = description or self.says
        super().__init__(description or self.code)
        self.description = description
        self.cause = cause
        self.why = why
        self.headers = tuple(headers)


class BadRequest(GatewayError):
    """The request breaks HTTP, or the gateway's own path and header policy (RFC 9110 §15.5.1)."""

    status = 400
    code = "bad_request"
    outcome = "bad_request"
    close = True


class NoCredentials(GatewayError):
    """Nothing was presented: a bare challenge without an error code (RFC 6750 §3.1)."""

    status = 401
    code = "unauthorized"
    outcome = "no_credentials"


class InvalidRequest(GatewayError):
    """Credentials that are malformed, or presented more than once (RFC 6750 §3.1).

    Also a request to an OAuth endpoint that lacks a parameter, or has one twice (RFC 6749 §5.2).
    """

    status = 400
    code = "invalid_request"
    outcome = "invalid_request"


class InvalidToken(GatewayError):
    """An unknown, expired or revoked token (RFC 6750 §3.1)."""

    status = 401
    code = "invalid_token"
    outcome = "invalid_token"


class InsufficientScope(GatewayError):
    """A good token that lacks a scope of the route (RFC 6750 §3.1)."""

    status = 403
    code = "insufficient_scope"
    outcome = "insufficient_scope"


class NoRoute(GatewayError):
    """No route has this path."""

    status = 404
    code = "not_found"
    outcome = "no_route"


class MethodNotAllowed(GatewayError):
    """The route (or the gateway) doesn't take this method; ``Allow`` says which it does."""

    status = 405
    code = "method_not_allowed"
    outcome = "method_not_allowed"


class MethodNotImplemented(GatewayError):
    """A method that isn't registered, and that no route names (RFC 9110 §15.6.2)."""

    status = 501
    code = "not_implemented"
    outcome = "method_not_implemented"


class RequestTimeout(GatewayError):
    """The client stopped sending its body (RFC 9110 §15.5.9)."""

    status = 408
    code = "request_timeout"
    outcome = "request_timeout"
    close = True


class ContentTooLarge(GatewayError):
    """The body is larger than ``limits.body`` (RFC 9110 §15.5.14)."""

    status = 413
    code = "content_too_large"
    outcome = "content_too_large"
    close = True


class UnsupportedMediaType(GatewayError):
    """A body of another type or coding than is read here (RFC 9110 §15.5.16).

    Its code is the one that OAuth's clients know (RFC 6749 §5.2).
    """

    status = 415
    code = "invalid_request"
    outcome = "unsupported_media_type"


class ExpectationFailed(GatewayError):
    """An ``Expect`` other than ``100-continue`` (RFC 9110 §10.1.1)."""

    status = 417
    code = "expectation_failed"
    outcome = "expectation_failed"
    close = True


class HeadersTooLarge(GatewayError):
    """The header section is larger than ``limits.headers`` (RFC 6585 §5)."""

    status = 431
    code = "headers_too_large"
    outcome = "headers_too_large"
    close = True


class NotImplementedHere(GatewayError):
    """What would have to be done to serve the request isn't done here (RFC 9110 §15.6.2)."""

    status = 501
    code = "not_implemented"
    outcome = "not_implemented"
    close = True


class StoreUnavailable(GatewayError):
    """The token store didn't answer: not the token's fault, so never a 401."""

    status = 503
    code = "temporarily_unavailable"
    outcome = "store_unavailable"
    says = "The token store can't be reached."

    def __init__(self, description: str = "") -> None:
        super().__init__(description, headers=[("Retry-After", "1")])


class TooManyConnections(GatewayError):
    """``limits.connections`` is reached."""

    status = 503
    code = "temporarily_unavailable"
    outcome = "too_many_connections"
    close = True
    says = "Too many connections."

    def __init__(self, description: str = "") -> None:
        super().__init__(description, headers=[("Retry-After", "1")])


class UpstreamUnreachable(GatewayError):
    """The upstream refused or lost the connection, before it answered."""

    status = 502
    code = "bad_gateway"
    outcome = "upstream_unreachable"
    says = "The upstream can not be reached."


class UpstreamInvalid(GatewayError):
    """The upstream's answer isn't HTTP that can be passed on."""

    status = 502
    code = "bad_gateway"
    outcome = "upstream_invalid"
    says = "The upstream's answer can not be passed on."


class UpstreamTimeout(GatewayError):
    """The upstream didn't connect or answer in time."""

    status = 504
    code = "gateway_timeout"
    outcome = "upstream_timeout"
    says = "The upstream did not answer in time."


class SettingsError(Exception):
    """Settings that can't be used; each line names a setting, its value and what is allowed."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
