"""The URL of the token store: which Redis, how it is reached, and what of it may be shown.

Shapes::

    redis://[user:password@]host[:port][/database]     rediss:// with TLS
    unix://[user:password@]/path/of/socket[?db=database]
    redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/database]
    redis+cluster://[user:password@]host[:port][,host[:port]…]
    memory://

``rediss+sentinel`` and ``rediss+cluster`` are the same with TLS. User and password are
percent-encoded where they hold reserved characters (RFC 3986 §2.1).
"""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote

Kind = Literal["redis", "unix", "sentinel", "cluster", "memory"]

_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("redis", False),
    "rediss": ("redis", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "memory": ("memory", False),
}
_SHAPE = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#@]*)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_NODE = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_DATABASE = re.compile(r"[0-9]{1,6}")
_EXAMPLES: dict[Kind, str] = {
    "redis": "redis://[user:password@]host[:port][/database]",
    "unix": "unix:///path/of/socket[?db=database]",
    "sentinel": "redis+sentinel://[user:password@]host[:port][,host…]/service[/database]",
    "cluster": "redis+cluster://[user:password@]host[:port][,host…]",
    "memory": "memory://",
}


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL in its parts; ``nodes`` are hosts with ports, Sentinel's own for a Sentinel."""

    kind: Kind
    tls: bool = False
    nodes: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    service: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_store_url(text: str) -> StoreUrl:
    """Return the parts of a store URL.

    Raises:
        ValueError: it has none of the shapes; the message says which is allowed and never
            repeats the URL.
    """
    match = _SHAPE.fullmatch(text) if re.fullmatch(r"[\x21-\x7e]+", text) else None
    if match is None or match["scheme"] not in _SCHEMES:
        raise ValueError(
            "a URL that begins with " + ", ".join(f"{s}://" for s in _SCHEMES) + " is allowed; "
            'reserved characters of a password are percent-encoded ("@" as "%40")'
        )
    kind, tls = _SCHEMES[match["scheme"]]
    username, colon, password = (match["user"] or "").partition(":")
    database = _database(kind, match)
    nodes = _nodes(kind, match["hosts"])
    path = match["path"] or ""
    service, _, _ = path[1:].partition("/") if kind == "sentinel" else ("", "", "")
    if (
        database is None
        or nodes is None
        or (kind == "memory" and text != "memory://")
        or (kind == "unix" and (match["hosts"] or len(path) < 2))
        or (kind == "sentinel" and not service)
        or (kind == "cluster" and path not in {"", "/"})
    ):
        raise ValueError(f"{_EXAMPLES[kind]} is allowed")
    return StoreUrl(
        kind,
        tls,
        nodes,
        unquote(path) if kind == "unix" else "",
        unquote(service),
        database,
        unquote(username) or None,
        unquote(password) or None if colon else None,
    )


def _nodes(kind: Kind, hosts: str) -> tuple[tuple[str, int], ...] | None:
    """Return the hosts with their ports; ``None`` where they can't be right."""
    if kind in {"unix", "memory"}:
        return ()
    default = 26379 if kind == "sentinel" else 6379
    found = [_NODE.fullmatch(host) for host in hosts.split(",")]
    nodes = tuple((m["host"].strip("[]"), int(m["port"] or default)) for m in found if m)
    if len(nodes) != len(found) or any(not 0 < port < 65536 for _, port in nodes):
        return None
    return nodes if len(nodes) == 1 or kind in {"sentinel", "cluster"} else None


def _database(kind: Kind, match: re.Match[str]) -> int | None:
    """Return the database; ``None`` where it can't be right.

    ``db`` is the only option in a query: redis-py would take others (time-outs, a switch
    that turns certificate checks off) and let them win over the settings that say the same.
    """
    written: list[str] = []
    segments = (match["path"] or "").split("/")[1:]
    if kind == "redis":
        written = segments
    elif kind == "sentinel":
        written = segments[1:]
    if written == [""]:
        written = []
    if match["query"] is not None:
        options = parse_qsl(match["query"], keep_blank_values=True)
        if kind not in {"redis", "unix"} or len(options) != 1 or options[0][0] != "db":
            return None
        written = [*written, options[0][1]]
    if not written:
        return 0
    return int(written[0]) if len(written) == 1 and _DATABASE.fullmatch(written[0]) else None


def mask_url(text: str) -> str:
    """Return a URL with ``***`` for its password, even where the URL isn't a right one.

    What looks like no URL at all may be a password in the wrong place: nothing of it is shown.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return "***"
    # The last "@" counts, so that a password with an unescaped "@" or "/" is masked whole.
    user, at, place = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    if set(name) & set("/?#"):
        name, colon = "***", ""
    place, query, options = place.partition("?")
    if query:
        options = re.sub(r"([^&=]*pass[^&=]*)=[^&]*", r"\1=***", options, flags=re.IGNORECASE)
    return f"{scheme}://{name}{':***' if colon else ''}{at}{place}{query}{options}"
