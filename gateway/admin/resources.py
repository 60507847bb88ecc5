"""The resources of the admin port: what is there, whoever serves it.

A gateway of one process adds handlers for them; the supervisor of several hands each on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """Who may ask: anybody, who may read the API, who may change something by it."""

    OPEN = "open"
    READING = "reading"
    CHANGING = "changing"


@dataclass(frozen=True, slots=True)
class Resource:
    """A path with a method; one that ends in ``/*`` stands for all below it."""

    method: str
    path: str
    kind: Kind = Kind.OPEN

    @property
    def pattern(self) -> str:
        """The path as aiohttp's router has it."""
        return f"{self.path[:-1]}{{name:.+}}" if self.path.endswith("/*") else self.path

    def has(self, path: str) -> bool:
        """Whether a path is this one."""
        if self.path.endswith("/*"):
            return path.startswith(self.path[:-1]) and len(path) >= len(self.path)
        return path == self.path

    @property
    def methods(self) -> tuple[str, ...]:
        """The method, and HEAD where there is GET; a stream has no end that HEAD could tell."""
        both = self.method == "GET" and self.path != "/api/events"
        return ("GET", "HEAD") if both else (self.method,)


RESOURCES = (
    Resource("GET", "/"),
    Resource("GET", "/page/*"),
    Resource("GET", "/livez"),
    Resource("GET", "/readyz"),
    Resource("GET", "/metrics"),
    Resource("GET", "/api/openapi.json", Kind.READING),
    Resource("GET", "/api/state", Kind.READING),
    Resource("GET", "/api/events", Kind.READING),
    Resource("GET", "/api/revoked", Kind.READING),
    Resource("POST", "/api/evict", Kind.CHANGING),
)


def find(resources: Iterable[Resource], method: str, path: str) -> Resource | Sequence[str]:
    """Return a resource, or the methods that its path takes: none where it isn't there."""
    there = [resource for resource in resources if resource.has(path)]
    for resource in there:
        if method in resource.methods:
            return resource
    return sorted({each for resource in there for each in resource.methods})
