"""A plain aiohttp proxy, as a process."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from peers.peer import HERE, Peer, Scene


class Plain(Peer):
    """The proxy in ``plain_proxy.py``."""

    def command(self, scene: Scene, folder: Path, ports: Mapping[str, int]) -> Sequence[str | Path]:
        """See ``Peer``."""
        del folder
        given = [str(ports["port"]), str(ports["tls_port"]), str(scene.backend)]
        return [sys.executable, HERE / "plain_proxy.py", *given, scene.certificate, scene.key]
