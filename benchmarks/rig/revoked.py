"""Tokens that a gateway has cached and that were revoked since: it has marked each of them."""

import re
import time
import urllib.request

from peers import Gateway

from rig import load, tokens
from rig.cases import MANY, REVOKED
from rig.scene import Surroundings

PATIENCE_SECONDS = 30


def mark(gateway: Gateway, around: Surroundings) -> None:
    """Use tokens, revoke them, and return once the gateway counts them all as revoked.

    Raises:
        RuntimeError: it doesn't within half a minute, or a request failed.
    """
    # Once around and a little more: those that were under way at the end don't matter.
    use = load.Load(tokens=(MANY, REVOKED), stop=REVOKED + 128, seconds=PATIENCE_SECONDS)
    came = load.run(use, gateway.port, around.tokens, around.scene.processors[1])
    if came.fault is not None:
        raise RuntimeError(f"tokens to be revoked: {came.fault}")
    tokens.revoke(around.scene.redis, range(MANY, MANY + REVOKED))
    until = time.monotonic() + PATIENCE_SECONDS
    while (counted := marked(metrics(gateway.admin))) < REVOKED:
        if time.monotonic() > until:
            raise RuntimeError(f"{counted} of {REVOKED} revoked tokens are marked")
        time.sleep(0.2)


def metrics(admin: int) -> str:
    """Return what our admin port says to Prometheus."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as answer:
        said: bytes = answer.read()
    return said.decode()


def marked(text: str) -> int:
    """Return how many revoked tokens the cache still holds, by those metrics."""
    found = re.search(r"^gateway_revoked_tokens_cached (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0
