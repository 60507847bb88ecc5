"""Parameters of a request: form-urlencoded, each at most once."""

from collections import Counter
from urllib.parse import parse_qsl

from oauthlib.oauth2.rfc6749.errors import InvalidRequestError

MAX_PARAMETERS = 64


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
