"""nginx, in three ways; and what finds its binary and its modules."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peers.peer import HERE, UNPRIVILEGED, NotHere, Peer, Scene, configure

MODULES = Path("/usr/lib/nginx/modules")


def binary() -> str:
    """Return where nginx is.

    Raises:
        NotHere: it isn't installed.
    """
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise NotHere("nginx")
    return found


def require_lua() -> None:
    """Raise NotHere where nginx has no Lua."""
    if not (MODULES / "ngx_http_lua_module.so").exists():
        raise NotHere("libnginx-mod-http-lua")


@dataclass(frozen=True)
class Nginx(Peer):
    """nginx by one of the configurations here; all include ``nginx_proxy.conf``."""

    template: str = ""
    open_file_cache: str = "off"

    def command(self, scene: Scene, folder: Path, ports: Mapping[str, int]) -> Sequence[str | Path]:
        """See ``Peer``."""
        nginx = binary()
        if "lua" in self.template:
            require_lua()
        values = {
            **vars(scene),
            **ports,
            "folder": folder,
            "open_file_cache": self.open_file_cache,
            "lua": HERE / "lua",
            "modules": MODULES,
            "user": UNPRIVILEGED,
        }
        configure("nginx_proxy.conf", folder / "nginx_proxy.conf", values)
        config = configure(self.template, folder / "nginx.conf", values)
        return [nginx, "-p", folder, "-c", config, "-e", "stderr"]

    def environ(self, scene: Scene) -> Mapping[str, str]:
        """See ``Peer``."""
        return {"BENCH_REDIS_PORT": str(scene.redis)}
