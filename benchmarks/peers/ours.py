"""Our gateway, as a process by its own command, with settings that vary."""

import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from peers.peer import Gateway, Peer, Scene, configure


@dataclass(frozen=True)
class Ours(Peer):
    """Our gateway with these settings; a variant takes part in few cases."""

    fast_lane: bool = True
    on_revoke: str = "lapse"
    feed: bool = True
    workers: int = 1
    scraped: bool = False
    """Whether its metrics are read each second while it runs, as Prometheus would at its most."""

    def command(self, scene: Scene, folder: Path, ports: Mapping[str, int]) -> Sequence[str | Path]:
        """See ``Peer``."""
        values = {
            **vars(scene),
            **ports,
            "fast_lane": str(self.fast_lane).lower(),
            "on_revoke": self.on_revoke,
            "feed": str(self.feed).lower(),
            "workers": self.workers,
        }
        config = configure("ours.toml", folder / "gateway.toml", values)
        return [sys.executable, "-m", "gateway", "serve", "--config", config]

    @contextmanager
    def running(self, scene: Scene, folder: Path) -> Iterator[Gateway]:
        """See ``Peer``."""
        with super().running(scene, folder) as gateway:
            if not self.scraped:
                yield gateway
                return
            with _scraping(gateway.admin):
                yield gateway

    def processors(self, scene: Scene) -> set[int]:
        """See ``Peer``."""
        return scene.processors[0] if self.workers == 1 else set.union(*scene.processors)


@contextmanager
def _scraping(admin: int) -> Iterator[None]:
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5).read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
