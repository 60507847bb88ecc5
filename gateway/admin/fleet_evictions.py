"""Evictions in all gateways on one store."""

import json
from typing import Any, Protocol

import structlog

from gateway.admin.eviction import Eviction, Evictor, parse_eviction

log = structlog.stdlib.get_logger(__name__)


class Tells(Protocol):
    """``notices.Notices``."""

    async def tell(self, notice: Any) -> int | None:
        """Send a notice to all other gateways; return how many got it, if that is known."""
        ...


class FleetEvictions:
    """Satisfies ``api.Fleet``, and does what other gateways ask for."""

    def __init__(self, evictor: Evictor) -> None:
        self._evictor = evictor
        self.notices: Tells | None = None

    async def evict(self, eviction: Eviction) -> int | None:
        """Ask all others to evict; see ``api.Fleet``.

        Raises:
            StoreUnavailable: they can't be asked.
        """
        assert self.notices is not None
        return await self.notices.tell(eviction.document())

    async def heard(self, notice: Any) -> None:
        """Evict what another gateway was asked to.

        Raises:
            InvalidEviction: it isn't an eviction.
        """
        eviction = parse_eviction(json.dumps(notice).encode())
        evicted = await self._evictor.evict(eviction)
        log.info("evicted", scope=eviction.scope, by=eviction.by, evicted=evicted)
