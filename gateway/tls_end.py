"""The end of a connection with TLS: what came before it, and whether it was meant.

uvloop drops what it has received and not handed on yet, because whoever takes it is slow, when a
peer closes without a closure alert. And neither loop tells whether there was one.
"""

import ssl
from typing import NamedTuple

_MOST_BYTES = 1 << 20  # a loop takes in a quarter of that ahead


class TlsEnd(NamedTuple):
    """``rest`` is what came and was handed to nobody; ``meant`` tells of a closure alert."""

    rest: bytes
    meant: bool


def tls_end(connection: ssl.SSLObject | None) -> TlsEnd:
    """Return how a connection ended that has just been lost; one without TLS is meant to."""
    if connection is None:
        return TlsEnd(b"", meant=True)
    pieces: list[bytes] = []
    size = 0
    try:
        while size < _MOST_BYTES:
            piece = connection.read(1 << 16)
            if not piece:
                return TlsEnd(b"".join(pieces), meant=True)
            pieces.append(piece)
            size += len(piece)
    except ssl.SSLZeroReturnError:
        return TlsEnd(b"".join(pieces), meant=True)
    except (ssl.SSLError, OSError, ValueError):
        pass
    return TlsEnd(b"".join(pieces), meant=False)
