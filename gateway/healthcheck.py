"""Ask a gateway's admin port how it is: the health check of a container."""

import ipaddress
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

from gateway.settings import Admin


def health_url(admin: Admin, *, ready: bool) -> str:
    """Return the URL to ask: ``/livez``, or ``/readyz`` when ``ready``.

    A gateway that listens on all addresses is asked on the loopback one.
    """
    host = admin.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{admin.port}/{'readyz' if ready else 'livez'}"


def probe(url: str, *, timeout_seconds: float) -> str | None:
    """Return ``None`` when ``url`` answers 2xx, else what is the matter in one phrase.

    Redirects aren't followed and no proxy is used, whatever the environment says.
    ``timeout_seconds`` holds for each wait: to connect, and for each part of the answer.
    """
    if not url.startswith(("http://", "https://")):
        return "not an http URL"
    opener = build_opener(ProxyHandler({}), _NoRedirects)
    try:
        with opener.open(url, timeout=timeout_seconds):
            return None
    except HTTPError as error:
        error.close()
        return f"answered {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        return _phrase(error)


def _phrase(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(error, URLError):
        return str(getattr(reason, "strerror", None) or reason).lower()
    return f"no HTTP answer ({type(error).__name__})"


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None
