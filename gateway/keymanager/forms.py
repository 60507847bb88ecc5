"""Parameters of a request: form-urlencoded, each at most once."""

from collections import Counter
from urllib.parse import parse_qsl

from aiohttp import web
from oauthlib.oauth2.rfc6749.errors import InvalidRequestError

MAX_PARAMETERS = 64
FORM = "application/x-www-form-urlencoded"


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the parameters in a request's body.

    Raises:
        InvalidRequestError: not a form in UTF-8 (RFC 6749 appendix B), or not a good one.
    """
    if request.content_type != FORM:
        raise InvalidRequestError(f"The body must be {FORM}.")
    if (request.charset or "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise InvalidRequestError("The body must be in UTF-8.")
    try:
        return parse_form(await request.read())
    except web.RequestPayloadError:  # in a content coding that it doesn't have
        raise InvalidRequestError("The body can't be read.") from None


def parse_form(encoded: str | bytes) -> dict[str, str]:
    """Return the parameters of a body or query (RFC 6749 §3.1, §3.2 and appendix B).

    Those without a value are left out, as if they had not been sent.

    Raises:
        InvalidRequestError: not UTF-8, a parameter more than once, or too many of them.
    """
    try:
        text = encoded if isinstance(encoded, str) else encoded.decode()
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except ValueError:
        raise InvalidRequestError("The parameters are malformed.") from None
    if any(count > 1 for count in Counter(name for name, _ in pairs).values()):
        raise InvalidRequestError("A parameter is sent more than once.")
    return {name: value for name, value in pairs if value}
