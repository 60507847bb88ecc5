"""Headless Chromium over its DevTools protocol, as much of it as tests need.

Where there is no Chromium the test is skipped and says so; ``.ci/run`` installs it.
"""

import asyncio
import base64
import itertools
import json
import shutil
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",  # containers seldom let it make one, and only our own page is opened
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


_LEFT = ("Inspected target navigated or closed", "Execution context was destroyed")
"""What DevTools says of an expression whose page was left while it waited."""


def chromium() -> str:
    """Return the command of an installed Chromium, or skip the test that asks."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    pytest.skip("Chromium isn't installed (Debian: apt-get install chromium)")


@cache
def axe() -> str:
    """Return the script of axe-core, which checks a page's accessibility."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text("utf-8")


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session_id: str) -> None:
        self._socket = socket
        self._session_id = session_id
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.errors: list[str] = []
        self.requested: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return what a DevTools method answers."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        await self._socket.send_json(
            {"id": number, "sessionId": self._session_id, "method": method, "params": params}
        )
        async with asyncio.timeout(20):
            return await answer

    async def open(
        self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Open a page as a screen of that size shows it."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """Return what a JavaScript expression comes to; a promise is waited for."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def until(self, expression: str, *, seconds: float = 20.0) -> None:
        """Return once an expression is true, which is looked at in every frame.

        The page may go to another one meanwhile.
        """
        looked = (
            "(async () => { await new Promise(requestAnimationFrame);"
            f" return Boolean({expression}); }})()"
        )
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if await self.evaluate(looked):
                        return
                except AssertionError as error:
                    if not any(said in str(error) for said in _LEFT):
                        raise

    async def press(self, key: str) -> None:
        """Press and release a key, such as "Tab" or "Enter"."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                **(text if kind == "keyDown" else {}),
            )

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def accessibility_faults(self) -> list[str]:
        """Return what axe finds against WCAG 2.2 AA, each with where it is."""
        await self.evaluate(axe())
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
        found = await self.evaluate(
            f"axe.run(document, {{runOnly: {json.dumps(tags)}, resultTypes: ['violations']}})"
            ".then(({violations}) => violations.flatMap(({id, nodes}) =>"
            " nodes.map(({target, failureSummary}) => `${id}: ${target}: ${failureSummary}`)))"
        )
        return list(found)

    async def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a picture of the page, as PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))

    async def close(self) -> None:
        """Listen no longer."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            answer = self._answers.pop(told.get("id", 0), None)
            if answer is not None and not answer.done():
                if "error" in told:
                    answer.set_exception(AssertionError(told["error"]))
                else:
                    answer.set_result(told["result"])
            elif told.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(told["params"]["exceptionDetails"]))
            elif told.get("method") == "Log.entryAdded":
                entry = told["params"]["entry"]
                if entry["level"] == "error":
                    self.errors.append(f"{entry['text']} {entry.get('url', '')}")
            elif told.get("method") == "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"])


@asynccontextmanager
async def browsing(directory: Path) -> AsyncIterator[Page]:
    """Run Chromium with a profile in ``directory``, and give a tab."""
    process = await asyncio.create_subprocess_exec(
        chromium(),
        *FLAGS,
        f"--user-data-dir={directory / 'profile'}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    try:
        async with aiohttp.ClientSession() as session:
            url = await _address(process)
            async with session.ws_connect(url, max_msg_size=2**26) as socket:
                page = Page(socket, await _attach(socket))
                try:
                    yield page
                finally:
                    await page.close()
                    await socket.send_json({"id": 0, "method": "Browser.close"})
    finally:
        try:
            async with asyncio.timeout(5):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said: deque[bytes] = deque(maxlen=20)
    async with asyncio.timeout(30):
        async for line in process.stderr:
            said.append(line)
            _, found, url = line.decode(errors="replace").partition("DevTools listening on ")
            if found:
                return url.strip()
    raise AssertionError(f"Chromium ended: {b''.join(said)!r}")


async def _attach(socket: aiohttp.ClientWebSocketResponse) -> str:
    """Return the session of a new tab."""

    async def ask(number: int, method: str, **params: Any) -> dict[str, Any]:
        await socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(20):
            while True:
                told = await socket.receive_json()
                if told.get("id") == number:
                    result: dict[str, Any] = told["result"]
                    return result

    target = await ask(1, "Target.createTarget", url="about:blank")
    attached = await ask(2, "Target.attachToTarget", targetId=target["targetId"], flatten=True)
    session_id: str = attached["sessionId"]
    return session_id
