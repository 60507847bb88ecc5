"""What all answers of the admin port have in common."""

from aiohttp import web

from gateway.admin.access import Refusal

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
NO_STORE = {"Cache-Control": "no-store", **SECURITY_HEADERS}


def refusal_response(refusal: Refusal) -> web.Response:
    """Return the answer that a refusal stands for."""
    return web.json_response(
        {"error": refusal.code, "error_description": refusal.description},
        status=refusal.status,
        headers={**NO_STORE, **dict(refusal.headers)},
    )
