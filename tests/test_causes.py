"""Why an upstream can't be reached, in a word."""

import errno
import socket
import ssl

import pytest

from gateway.causes import Cause, cause_of


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (untrusted(), Cause("certificate", "self-signed certificate")),
        (ssl.SSLError(1, "wrong version number"), Cause("tls", "")),
        (socket.gaierror(socket.EAI_AGAIN, "no such name"), Cause("unresolved", "no such name")),
        (TimeoutError(), Cause("connect_timeout", "")),
        (OSError(errno.ETIMEDOUT, "timed out"), Cause("connect_timeout", "timed out")),
        (OSError(errno.ECONNREFUSED, "refused"), Cause("refused", "refused")),
        (OSError(errno.ECONNRESET, "reset"), Cause("reset", "reset")),
        (ConnectionResetError("Connection lost"), Cause("reset", "")),
        (OSError(errno.EPIPE, "broken"), Cause("reset", "broken")),
        (OSError(errno.ENETUNREACH, "no"), Cause("no_route", "no")),
        (OSError(errno.EHOSTUNREACH, "no"), Cause("no_route", "no")),
        (OSError(errno.EMFILE, "too many"), Cause("no_descriptor", "too many")),
        (OSError(errno.EADDRNOTAVAIL, "none"), Cause("no_port", "none")),
        (OSError("whatever"), Cause("other", "")),
    ],
    ids=lambda given: given.word if isinstance(given, Cause) else type(given).__name__,
)
def test_a_cause(error: OSError, cause: Cause) -> None:
    """One of few words, and what the system says of it."""
    assert cause_of(error) == cause
