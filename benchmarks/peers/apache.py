"""Apache with mod_oauth2, as Debian packages them."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from peers.peer import NotHere, Peer, Scene, configure

MODULES = Path("/usr/lib/apache2/modules")
USER = "User nobody\nGroup nogroup" if os.geteuid() == 0 else ""


class Apache(Peer):
    """Apache by ``apache.conf``."""

    def command(self, scene: Scene, folder: Path, ports: Mapping[str, int]) -> Sequence[str | Path]:
        """See ``Peer``."""
        apache = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
        if apache is None:
            raise NotHere("apache2-bin")
        if not (MODULES / "mod_oauth2.so").exists():
            raise NotHere("libapache2-mod-oauth2")
        values = {**vars(scene), **ports, "folder": folder, "modules": MODULES, "user": USER}
        config = configure("apache.conf", folder / "apache.conf", values)
        return [apache, "-D", "FOREGROUND", "-d", folder, "-f", config]
