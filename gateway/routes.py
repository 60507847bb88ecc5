"""From a request's target to the route that governs it.

Pure: no I/O, no asyncio, no aiohttp. The path that is judged here is forwarded byte for byte,
so whatever a backend might read as another path than the one judged is refused.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from gateway.cors import Cors
from gateway.errors import BadRequest, MethodNotAllowed, MethodNotImplemented, NoRoute
from gateway.settings import RouteSettings

REGISTERED_METHODS = frozenset(
    {
        *(
            "ACL",
            "BASELINE-CONTROL",
            "BIND",
            "CHECKIN",
            "CHECKOUT",
            "COPY",
            "DELETE",
            "GET",
            "HEAD",
        ),
        *("LABEL", "LINK", "LOCK", "M-SEARCH", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL"),
        *("MKREDIRECTREF", "MKWORKSPACE", "MOVE", "NOTIFY", "OPTIONS", "ORDERPATCH", "PATCH"),
        *("POST", "PROPFIND", "PROPPATCH", "PURGE", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH"),
        *("SOURCE", "SUBSCRIBE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UNSUBSCRIBE"),
        *("UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL"),
    }
)
"""What a route takes that names no methods: those in IANA's HTTP Method Registry, but CONNECT,
TRACE and PRI, and those of UPnP, of caches and of Icecast that are met as often."""
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

# What another parser may fold into another path: dot segments and empty ones (also with path
# parameters, "/..;/" and "/;/"), encoded dots, slashes, backslashes and control bytes, overlong
# UTF-8, and bytes that stand in no URI.
_DODGE = re.compile(
    r"//"
    r"|/\.{1,2}(?:/|$)"
    r"|/\.{0,2}(?:;|%3b)"
    r"|%(?:2e|2f|5c|[01][0-9a-f]|7f)"
    r"|%c[01]%[89ab]"
    r"|%(?![0-9a-f]{2})"
    r"|[^\x21-\x7e]"
    r"|[\\#]",
    re.IGNORECASE,
)
_ENCODED = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)
_PARAMETERS = re.compile(r";[^/]*")
_DODGE_IN_QUERY = re.compile(r"[^\x21-\x7e]|#")


def without_parameters(path: str) -> str:
    """Return a path without its parameters ("/orders;v=1"), as servlets see it."""
    return _PARAMETERS.sub("", path)


# In absolute form: an authority without a user (RFC 9110 §4.2.4), then path and query.
_ABSOLUTE = re.compile(
    r"https?://((?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?)([/?].*|)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Target:
    """A request target: ``path`` and ``query`` as they came, to be forwarded.

    ``judged`` is the path with its percent-encodings undone, for routes to be matched with:
    to a backend ``/%6frders`` is ``/orders`` (RFC 3986 §6.2.2.2), so it is to a route.
    ``query`` is ``None`` where there is no ``?``. ``authority`` is that of a target in absolute
    form, which goes before ``Host``. The path ``*`` asks about the gateway as a whole.
    """

    path: str
    query: str | None
    judged: str
    authority: str | None = None


def parse_target(method: str, raw_target: str) -> Target:
    """Return the target of a request line.

    Raises:
        MethodNotAllowed: CONNECT and TRACE, which aren't served (RFC 9110 §9.3.6, §9.3.8).
        BadRequest: neither in origin form nor in absolute form (RFC 9112 §3.2), or a path that
            could be read as another.
    """
    if method.upper() in _REFUSED_METHODS:
        refused = MethodNotAllowed("CONNECT and TRACE are not served.", headers=[("Allow", "")])
        # What follows CONNECT is a tunnel's to one parser, its content to another and a request
        # to a third: nobody reads it as anything (RFC 9110 §9.3.6, RFC 9112 §11.2).
        refused.close = method.upper() == "CONNECT"
        raise refused
    if not _METHOD.fullmatch(method):
        raise BadRequest("The method is malformed.")
    origin_form, authority = _origin_form(method, raw_target)
    if origin_form == "*":
        return Target("*", None, "*", authority)
    path, question_mark, query = origin_form.partition("?")
    if _DODGE.search(path):
        raise BadRequest("The path has dot segments, empty segments or encoded delimiters.")
    if _DODGE_IN_QUERY.search(query):
        raise BadRequest("The query has bytes that must be percent-encoded.")
    judged = path
    if "%" in path:
        judged = unquote(path, encoding="latin-1")
        if _ENCODED.search(judged):  # "%252e", or "%25%32%65": decoded twice it is a dot
            raise BadRequest("The path is percent-encoded more than once.")
    return Target(path, query if question_mark else None, judged, authority)


def _origin_form(method: str, raw_target: str) -> tuple[str, str | None]:
    """Return a target in origin form, or "*", and the authority of one in absolute form."""
    if raw_target.startswith("/") or (raw_target == "*" and method == "OPTIONS"):
        return raw_target, None
    match = _ABSOLUTE.fullmatch(raw_target)
    if match is None:
        raise BadRequest("The request target is not in origin form.")
    authority, rest = match[1], match[2]
    if rest.startswith("/"):
        return rest, authority
    # Without a path it is "/"; asked for its options it is the server (RFC 9112 §3.2.4).
    return ("*" if method == "OPTIONS" and not rest else f"/{rest}"), authority


@dataclass(frozen=True, slots=True)
class Route:
    """What governs a part of the path space. ``max_age_seconds`` only tightens the cache's."""

    name: str
    path: str
    upstream: str
    scopes: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    max_age_seconds: float = float("inf")
    strip_prefix: bool = False
    public: bool = False
    cors: Cors | None = None

    def url(self, target: Target) -> str:
        """Return the URL at the upstream for a target under this route."""
        path = target.path
        if self.strip_prefix and self.path != "/":
            # By segments and not by length: the client may have percent-encoded the prefix.
            segments = self.path.count("/")
            path = "/" + "/".join(path.split("/")[segments + 1 :])
        return self.upstream + path + ("" if target.query is None else f"?{target.query}")

    @property
    def allowed(self) -> str:
        """The value of ``Allow`` for the methods that the route names, if it names any."""
        return _allow(self.methods)

    def takes(self, method: str) -> bool:
        """Whether the route serves a method; one that serves GET serves HEAD (RFC 9110 §9.3.2).

        A method that isn't registered must be named.
        """
        if not self.methods:
            return method in REGISTERED_METHODS
        return method in self.methods or (method == "HEAD" and "GET" in self.methods)


def not_implemented() -> MethodNotImplemented:
    """Return the error of a method that nobody knows here."""
    return MethodNotImplemented("The method is not implemented.")


def _cors(route: RouteSettings) -> Cors | None:
    if not route.cors_origins:
        return None
    origins = frozenset(origin.encode("ascii") for origin in route.cors_origins)
    return Cors(origins, credentials=route.cors_credentials)


def _allow(methods: Iterable[str]) -> str:
    named = set(methods)
    return ", ".join(sorted(named | {"HEAD"} if "GET" in named else named))


class Routes:
    """All routes, by path prefix."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.all = tuple(routes)
        self._by_path: dict[str, list[Route]] = {}
        # A route that names a method goes before the one of its path that takes them all.
        for route in sorted(routes, key=lambda route: not route.methods):
            self._by_path.setdefault(route.path, []).append(route)
        self._named = frozenset(method for route in routes for method in route.methods)
        self._most_segments = max((path.count("/") for path in self._by_path), default=0)

    @classmethod
    def from_settings(cls, settings: Sequence[RouteSettings]) -> "Routes":
        """Build the routes that settings describe."""
        return cls(
            [
                Route(
                    name=route.name or route.path,
                    path=route.path.rstrip("/") or "/",
                    upstream=route.upstream,
                    scopes=frozenset(route.scopes),
                    methods=frozenset(route.methods),
                    max_age_seconds=(
                        float("inf") if route.max_age is None else route.max_age.total_seconds()
                    ),
                    strip_prefix=route.strip_prefix,
                    public=route.public,
                    cors=_cors(route),
                )
                for route in settings
            ]
        )

    def match(self, method: str, path: str) -> Route:
        """Return the route with the longest prefix of a judged path, at a segment boundary.

        Raises:
            BadRequest: path parameters ("/orders;v=1") would lead a backend that leaves them out
                of the path, as servlets do, to where another route governs.
            NoRoute: there is none.
            MethodNotAllowed: there is, but not for this method (RFC 9110 §15.5.6).
            MethodNotImplemented: nor does any route name it.
        """
        candidates = self._candidates(path)
        for route in candidates:
            if route.takes(method):
                return route
        if any(not route.methods for route in candidates):  # of all but this one
            raise not_implemented()
        allowed = _allow({method for route in candidates for method in route.methods})
        raise MethodNotAllowed("The route does not take this method.", headers=[("Allow", allowed)])

    def recognise(self, method: str) -> None:
        """Raise ``MethodNotImplemented`` unless a method is registered or a route names it."""
        if method not in REGISTERED_METHODS and method not in self._named:
            raise not_implemented()

    def match_preflight(self, path: str, method: str) -> Route | None:
        """Return the route that answers a preflight for this method, if one does itself.

        None does where a route of the same path names OPTIONS: it has them forwarded.

        Raises:
            BadRequest, NoRoute: as ``match``.
        """
        candidates = self._candidates(path)
        naming = [route for route in candidates if "OPTIONS" in route.methods]
        for route in naming or candidates:
            if naming or route.takes(method):
                return route if route.cors is not None else None
        return None

    def _candidates(self, path: str) -> list[Route]:
        candidates = self._governing(path)
        if ";" in path and self._governing(without_parameters(path)) is not candidates:
            raise BadRequest("The path could be read as that of another route.")
        if candidates is None:
            raise NoRoute("No route has this path.")
        return candidates

    def _governing(self, path: str) -> list[Route] | None:
        # No deeper than the deepest route: a path of thousands of segments costs no more.
        segments = path.split("/", self._most_segments + 1)[: self._most_segments + 1]
        while len(segments) > 1:
            routes = self._by_path.get("/".join(segments))
            if routes is not None:
                return routes
            segments.pop()
        return self._by_path.get("/")
