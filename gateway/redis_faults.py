"""Why Redis couldn't be asked, in words for a log.

Pure. What Redis and redis-py say may quote keys and values, so only what is known is told.
"""

import errno
import os
import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    ConnectionError,  # noqa: A004 -- redis-py's
    NoPermissionError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

_CODE = re.compile(r"[A-Z]{3,}\b")
_COMMAND = re.compile(r"to run the '([\w|]+)' command")
_CLOSED = "the server closed the connection"
_WITHOUT_CERTIFICATE = frozenset(
    {
        *(_CLOSED, os.strerror(errno.ECONNRESET).lower()),
        *("TLS failed: tlsv13 alert certificate required",),
        *("TLS failed: sslv3 alert handshake failure",),
    }
)
"""What becomes of a connection whose server wants a client certificate. In TLS 1.3 the client has
taken it for made by then, and its command may meet a closed one before it reads the alert."""


def reason_of(fault: BaseException, *, lacks_certificate: bool = False) -> str:
    """Return why a call failed: a refusal's reason where there is one, else what broke.

    ``lacks_certificate`` says that TLS is spoken without a client certificate.
    """
    reason = type(fault).__name__
    for one in _chain(fault):
        told = _told(one)
        if told is not None:
            reason = told
            break
    if lacks_certificate and reason in _WITHOUT_CERTIFICATE:
        reason += "; the server may want a client certificate (store.tls_certificate)"
    return reason


def is_refusal(fault: BaseException) -> bool:
    """Whether a server that is there won't have this client: it won't get better by itself."""
    refusals = (ssl.SSLError, AuthenticationError, NoPermissionError)
    return any(isinstance(one, refusals) for one in _chain(fault))


def _chain(fault: BaseException) -> Iterator[BaseException]:
    """Yield what went wrong first, and what was made of it."""
    chain = [fault]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    return reversed(chain)


def _told(fault: BaseException) -> str | None:
    for kind, told in _TOLD.items():
        if isinstance(fault, kind):
            return told(fault)
    return None


def _of_tls(fault: BaseException) -> str:
    assert isinstance(fault, ssl.SSLError)
    said = (fault.reason or "no reason given").replace("_", " ").lower()
    return f"TLS failed: {said}"


def _of_permissions(fault: BaseException) -> str:
    command = _COMMAND.search(str(fault))
    return f"the user may not run {command[1]}" if command else "the user may not use these keys"


def _of_a_code(fault: BaseException) -> str | None:
    code = _CODE.match(str(fault))
    return code[0] if code else None


def _of_the_system(fault: BaseException) -> str | None:
    assert isinstance(fault, OSError)
    if fault.errno is not None and fault.errno > 0:
        return os.strerror(fault.errno).lower()
    return fault.strerror.lower() if fault.strerror else None


# The more special ones first.
_TOLD: dict[type[BaseException], Callable[[Any], str | None]] = {
    ssl.SSLCertVerificationError: lambda fault: (
        f"the server's certificate isn't trusted: {fault.verify_message}"
    ),
    ssl.SSLError: _of_tls,
    NoPermissionError: _of_permissions,
    AuthenticationError: lambda fault: (
        "a password is needed" if "required" in str(fault) else "wrong user or password"
    ),
    ResponseError: _of_a_code,
    TimeoutError: lambda _: "no answer in time",
    RedisTimeoutError: lambda _: "no answer in time",
    OSError: _of_the_system,
    ConnectionError: lambda fault: _CLOSED if "closed by server" in str(fault) else None,
}
