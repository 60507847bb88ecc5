"""The live page's files, as they are served."""

import re
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from gateway.admin.page import LivePage

FOLDER = Path(__file__).parents[2] / "gateway" / "admin" / "page"
OURS = [path for path in FOLDER.iterdir() if path.is_file()]
Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    app = web.Application()
    LivePage().add_to(app)
    return await aiohttp_client(app)


@pytest.mark.parametrize(
    ("path", "content_type", "file"),
    [
        ("/", "text/html", "index.html"),
        ("/page/page.js", "text/javascript", "page.js"),
        ("/page/page.css", "text/css", "page.css"),
        ("/page/icon.svg", "image/svg+xml", "icon.svg"),
        ("/page/vendor/uplot/uPlot.esm.js", "text/javascript", "vendor/uplot/uPlot.esm.js"),
    ],
)
async def test_files_come_with_their_types_and_a_policy(
    client: Client, path: str, content_type: str, file: str
) -> None:
    """No script but its own, in no frame, and no address of this page told to others."""
    async with client.get(path) as answer:
        assert (answer.status, answer.content_type) == (200, content_type)
        assert await answer.read() == (FOLDER / file).read_bytes()
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-cache"


async def test_a_file_that_is_known_is_not_sent_again(client: Client) -> None:
    """As long as its tag is the same."""
    async with client.get("/page/page.js") as answer:
        tag = answer.headers["ETag"]
    async with client.get("/page/page.js", headers={"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"] == tag
    async with client.get("/page/page.js", headers={"If-None-Match": '"other"'}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2fapi.py", "../api.py", "vendor/uplot/LICENSE", "vendor"]
)
async def test_nothing_else_is_served(client: Client, name: str) -> None:
    """What isn't a file of the page isn't looked for."""
    async with client.get(f"/page/{name}") as answer:
        assert answer.status == 404


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    """No file names another host; the name space of SVG is no address."""
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text) == []


def test_nothing_is_inline() -> None:
    """The policy forbids scripts and styles in the document itself."""
    html = (FOLDER / "index.html").read_text("utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", html) == []


def test_all_that_scripts_look_for_is_in_the_page() -> None:
    """Every id that a script asks for by name."""
    html = (FOLDER / "index.html").read_text("utf-8")
    ids = set(re.findall(r'\bid="([\w-]+)"', html))
    scripts = "".join(path.read_text("utf-8") for path in OURS if path.suffix == ".js")
    asked = set(re.findall(r'\$\("([\w-]+)"\)', scripts))
    assert asked - ids == set()


def test_the_licence_of_what_is_not_ours_is_beside_it() -> None:
    """uPlot's, which is MIT."""
    assert "MIT" in (FOLDER / "vendor" / "uplot" / "LICENSE").read_text("utf-8")
