"""The gateways that are measured side by side; each one's configuration says why it is fair."""

from peers.nginx import Nginx
from peers.ours import Ours
from peers.peer import Gateway, NotHere, Peer, Scene

PEERS: tuple[Peer, ...] = (
    Nginx("nginx_floor", "nginx, proxy only", checks_tokens=False, template="nginx_floor.conf"),
    Nginx("nginx_lua", "nginx + Lua + Redis", template="nginx_lua.conf"),
    Nginx(
        "nginx_auth",
        "nginx auth_request + proxy_cache",
        asks="on a miss",
        template="nginx_auth.conf",
    ),
    Ours("ours_handler", "ours, handler lane", fast_lane=False),
    Ours("ours_fast", "**ours, fast lane**"),
)

__all__ = ["PEERS", "Gateway", "NotHere", "Peer", "Scene"]
