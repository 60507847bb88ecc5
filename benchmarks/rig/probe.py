"""Does a gateway do what it is measured for? Asked before any load, one request at a time."""

import http.client
import ssl
import time

from peers import Gateway, Peer

from rig.tokens import BAD_TOKEN, token

GOOD = token(0)


def ask(
    port: int, path: str, bearer: str | None, *, tls: bool = False, body: bytes | None = None
) -> tuple[int, int]:
    """Send one request; the status of the answer and the length of its body."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection: http.client.HTTPConnection
    if tls:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, len(answer.read())
    finally:
        connection.close()


def wait(gateway: Gateway, patience_seconds: float = 10) -> None:
    """Return once both ports let a good token through; some listen before they know their routes.

    Returns after the given time in any case: what is wrong then is for ``faults`` to say.
    """
    until = time.monotonic() + patience_seconds
    while time.monotonic() < until:
        try:
            if all(
                ask(port, "/small", GOOD, tls=tls)[0] == 200
                for port, tls in ((gateway.port, False), (gateway.tls_port, True))
            ):
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)


def faults(peer: Peer, gateway: Gateway) -> list[str]:
    """Return what a gateway does wrong; nothing, if it may be measured."""
    port, tls = gateway.port, gateway.tls_port
    asked = {
        "a good token": (ask(port, "/small", GOOD), (200, 26)),
        "a good token over TLS": (ask(tls, "/small", GOOD, tls=True), (200, 26)),
        "64 KiB": (ask(port, "/64k", GOOD), (200, 64 * 1024)),
        "10 MiB": (ask(port, "/10m", GOOD), (200, 10 * 1024 * 1024)),
        "a POST": (ask(port, "/small", GOOD, body=b"x" * 1024), (200, 26)),
    }
    found = [f"{what}: {got}, not {due}" for what, (got, due) in asked.items() if got != due]
    if peer.checks_tokens:
        paths = ["/small"] + ["/fresh"] * peer.fresh
        for path in paths:
            for what, bearer in (("a bad token", BAD_TOKEN), ("no token", None)):
                status, _ = ask(port, path, bearer)
                if status != 401:
                    found.append(f"{what} at {path}: {status}, not 401")
    if peer.fresh and (status := ask(port, "/fresh", GOOD)[0]) != 200:
        found.append(f"a good token at /fresh: {status}, not 200")
    return found
