"""The live page's files, served from the package: no build, and nothing from elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from aiohttp import ETag, web

from gateway.admin.answers import SECURITY_HEADERS

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# Asked for each time, and then mostly answered 304: a new version shows at once.
_HEADERS = {"Cache-Control": "no-cache", **SECURITY_HEADERS}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    content_type: str
    tag: str


class LivePage:
    """Answers ``/`` and ``/page/…``. Nothing in these files is secret, or about this gateway."""

    def __init__(self) -> None:
        self._files = dict(_read(files("gateway.admin").joinpath("page"), ""))

    def add_to(self, app: web.Application) -> None:
        """Add the page and its files to an application."""
        app.router.add_get("/", self._answer)
        app.router.add_get("/page/{name:.+}", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info.get("name", "index.html"))
        if file is None:
            return web.Response(status=404, text="Not found.\n", headers=SECURITY_HEADERS)
        known = request.if_none_match or ()
        if any(tag.value in (file.tag, "*") for tag in known):
            response = web.Response(status=304, headers=_HEADERS)
        else:
            headers = {**_HEADERS, "Content-Type": file.content_type}
            response = web.Response(body=file.content, headers=headers)
        response.etag = ETag(file.tag)
        return response


def _read(folder: Traversable, prefix: str) -> Iterator[tuple[str, _File]]:
    """Yield the files of the page, by their paths from its folder; licences aren't served."""
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _read(entry, f"{name}/")
        elif content_type := _TYPES.get(entry.name.rpartition(".")[2]):
            content = entry.read_bytes()
            yield name, _File(content, content_type, sha256(content).hexdigest()[:32])
