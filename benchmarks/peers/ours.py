"""Our gateway, as a process by its own command, with settings that vary."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peers.peer import Peer, Scene, configure


@dataclass(frozen=True)
class Ours(Peer):
    """Our gateway with these settings; a variant takes part in few cases."""

    fast_lane: bool = True
    on_revoke: str = "lapse"
    feed: bool = True
    workers: int = 1

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

    def processors(self, scene: Scene) -> set[int]:
        """See ``Peer``."""
        return scene.processors[0] if self.workers == 1 else set.union(*scene.processors)
