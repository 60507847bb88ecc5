"""What all answers of the admin port have in common."""

import json

from gateway.admin.access import Refusal
from gateway.admin.answers import refusal_response


def test_a_refusal_says_why_and_is_kept_by_nobody() -> None:
    """In JSON, with what goes with it, and as little as a browser may do with it."""
    response = refusal_response(Refusal(401, "unauthorized", "Why.", (("WWW-Authenticate", "x"),)))
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "x")
    assert response.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert json.loads(response.text or "") == {"error": "unauthorized", "error_description": "Why."}
