"""Why an upstream can't be reached: one word for metrics, and what the system says of it."""

import errno
import socket
import ssl
from typing import NamedTuple

CONNECT_TIMEOUT = "connect_timeout"
SILENT = "silent"
CLOSED = "closed"
RESET = "reset"
NO_CLOSE_NOTIFY = "no_close_notify"

_BY_NUMBER = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: RESET,
    errno.ECONNABORTED: RESET,
    errno.EPIPE: RESET,
    errno.ETIMEDOUT: CONNECT_TIMEOUT,
    errno.EHOSTUNREACH: "no_route",
    errno.ENETUNREACH: "no_route",
    errno.EMFILE: "no_descriptor",
    errno.ENFILE: "no_descriptor",
    errno.EADDRNOTAVAIL: "no_port",
}


class Cause(NamedTuple):
    """``word`` is one of few; ``why`` is for people, and says nothing of what was sent."""

    word: str
    why: str


def cause_of(error: OSError) -> Cause:
    """Return why connecting failed, or a connection did."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Cause("certificate", getattr(error, "verify_message", ""))
    if isinstance(error, ssl.SSLError):
        return Cause("tls", getattr(error, "reason", None) or "")
    if isinstance(error, socket.gaierror):
        return Cause("unresolved", error.strerror or "")
    if isinstance(error, TimeoutError) and error.errno is None:
        return Cause(CONNECT_TIMEOUT, "")
    word = _BY_NUMBER.get(error.errno or 0, "other")
    if isinstance(error, ConnectionResetError):
        word = RESET
    return Cause(word, error.strerror or "")
