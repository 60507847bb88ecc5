"""The gateways that are measured side by side; each one's configuration says why it is fair."""

from peers.apache import Apache
from peers.envoy import Envoy
from peers.nginx import Nginx
from peers.ours import Ours
from peers.peer import Gateway, NotHere, Peer, Scene
from peers.plain import Plain
from peers.traefik import Traefik

PEERS: tuple[Peer, ...] = (
    Nginx("nginx_floor", "nginx, proxy only", checks_tokens=False, template="nginx_floor.conf"),
    Nginx("nginx_lua", "nginx + Lua + Redis", template="nginx_lua.conf"),
    Nginx(
        "nginx_auth",
        "nginx auth_request + proxy_cache",
        asks="on a miss",
        template="nginx_auth.conf",
    ),
    Nginx(
        "nginx_auth_open",
        "the same + open_file_cache",
        asks="on a miss",
        template="nginx_auth.conf",
        cases=("hot", "many", "cold", "idle"),
        open_file_cache="max=8000 inactive=1h",
    ),
    Envoy("envoy", "Envoy + ext_authz", asks="always"),
    Traefik("traefik", "Traefik + ForwardAuth", asks="always"),
    Apache("apache", "Apache + mod_oauth2", fresh=False, asks="on a miss"),
    Plain("aiohttp", "aiohttp, proxy only", checks_tokens=False),
    Ours("ours_handler", "ours, handler lane", fast_lane=False),
    Ours("ours_fast", "**ours, fast lane**"),
    # The same with one thing changed, measured against it in cases of their own.
    Ours("ours_first", "each token for the first time", cases=("first",), cold=True),
    Ours("ours_no_feed", "without the feed of revocations", cases=("own",), feed=False),
    Ours("ours_evict", 'on_revoke = "evict"', cases=("own",), on_revoke="evict"),
    Ours("ours_marked", "10,000 revoked tokens marked", cases=("own", "stale"), marks=True),
    Ours("ours_scraped", "metrics scraped each second", cases=("own",), scraped=True),
    Ours("ours_workers", "two workers, on all processors", cases=("own",), workers=2),
)

__all__ = ["PEERS", "Gateway", "NotHere", "Peer", "Scene"]
