"""The admin port of a gateway with several workers: their answers as one.

``GET /workers`` lists them, and ``/workers/2/...`` is the admin resource ``...`` of the second.
All other ``resources`` of the workers' admin application are here too, behind the same guard. What
an answer is made of is decided by a ``Combine`` in ``combined``; without one, a ``GET`` is answered
by one worker (right for pages and documents), and everything else is done by all of them: the
answer is the first of the highest status, so that what failed anywhere has failed.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from aiohttp import web
from prometheus_client.metrics_core import Metric
from yarl import URL

from gateway.admin.answers import NO_STORE
from gateway.admin.guard import Guard
from gateway.admin.resources import RESOURCES, Resource, find
from gateway.admin.sums import MetricsBook
from gateway.metrics import Metrics

_NO_STORE = {"Cache-Control": "no-store"}
_PATIENCE = aiohttp.ClientTimeout(total=2)  # gateway healthcheck waits for 3 s
_STREAMING = aiohttp.ClientTimeout(total=None, sock_connect=2)
_FORWARDED = (
    *("Accept", "Authorization", "Content-Type", "Host", "If-None-Match", "Last-Event-ID"),
    *("Origin", "Sec-Fetch-Site"),
)
_RETURNED = (
    *("Cache-Control", "Content-Security-Policy", "Content-Type", "Cross-Origin-Opener-Policy"),
    *("Cross-Origin-Resource-Policy", "ETag", "Referrer-Policy", "WWW-Authenticate"),
    "X-Content-Type-Options",
)


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """What one worker answered; 504 stands for nothing in time, 502 for one that ended."""

    worker: int
    status: int
    body: bytes = b""
    content_type: str = "application/json"

    def response(self) -> web.Response:
        """Return it as an answer of ours."""
        headers = {**NO_STORE, "Content-Type": self.content_type}
        return web.Response(status=self.status, body=self.body, headers=headers)


Combine = Callable[[Sequence[WorkerAnswer]], web.Response]
"""Makes one answer of those of all workers, which are in order of their numbers."""


class WorkerView(Protocol):
    """A worker, as the admin port sees it."""

    @property
    def number(self) -> int:
        """Counted from 1; it stays when another process takes its place."""
        ...

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        ...

    @property
    def pid(self) -> int | None:
        """Its process, ``None`` between two."""
        ...

    @property
    def session(self) -> aiohttp.ClientSession | None:
        """Asks its admin application, at any host; ``None`` while it isn't there."""
        ...


class FleetAdmin:
    """The admin application in front of the workers'.

    ``combined`` has the resources that aren't answered in the ordinary way, by method and path.
    ``guard`` judges who may ask; ``own`` returns what the supervisor has counted itself.
    """

    def __init__(
        self,
        workers: Sequence[WorkerView],
        combined: Mapping[tuple[str, str], Combine] | None = None,
        *,
        guard: Guard,
        resources: Sequence[Resource] = RESOURCES,
        own: Callable[[], Iterable[Metric]] = tuple,
    ) -> None:
        self._workers = workers
        self._combined = dict(combined or {})
        self._guard = guard
        self._resources = resources
        self._own = own
        self.metrics = MetricsBook()
        self.terminating = False
        self.started = False

    def add_to(self, app: web.Application) -> None:
        """Add all resources to an application."""
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._render_metrics)
        app.router.add_get("/workers", self._list)
        app.router.add_route("*", r"/workers/{number:\d{1,3}}/{path:.*}", self._one)
        own = {resource.canonical for resource in app.router.resources()}
        for resource in self._resources:
            if resource.pattern not in own:
                handler = self._guard.before(self._any, resource.kind)
                for method in resource.methods:
                    app.router.add_route(method, resource.pattern, handler)

    async def ask_all(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> list[WorkerAnswer]:
        """Ask all workers that are there at once, and return what each answers within 2 s."""
        asking = [
            _ask(worker, worker.session, method, path, headers, body)
            for worker in self._workers
            if worker.session is not None
        ]
        return await asyncio.gather(*asking)

    async def _livez(self, _request: web.Request) -> web.Response:
        """Alive: no worker hangs. One that has ended is being started again, which is no harm."""
        answers = await self.ask_all("GET", "/livez")
        hanging = [answer.worker for answer in answers if answer.status == 504]
        if hanging:
            return _json({"status": "hanging", "workers": hanging}, status=503)
        return _json({"status": "alive"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        """Ready: all have started once, and any is ready now."""
        if self.terminating:
            return _json({"status": "unready", "reason": "terminating"}, status=503)
        if not self.started:
            return _json({"status": "unready", "reason": "starting"}, status=503)
        answers = await self.ask_all("GET", "/readyz")
        if any(answer.status == 200 for answer in answers):
            return _json({"status": "ready"})
        refusals = [answer for answer in answers if answer.status not in {502, 504}]
        if refusals:
            return refusals[0].response()
        return _json({"status": "unready", "reason": "no worker answers"}, status=503)

    async def _render_metrics(self, _request: web.Request) -> web.Response:
        asked = {worker.number: worker.pid for worker in self._workers}
        answers = await self.ask_all("GET", "/metrics")
        there = {worker.number: worker.pid for worker in self._workers}
        for answer in answers:
            # Of one that has ended since, the book is closed.
            if answer.status == 200 and asked[answer.worker] == there[answer.worker]:
                self.metrics.read(answer.worker, answer.body.decode())
        body = self.metrics.render(
            own=self._own(),
            workers=len(self._workers),
            started=sum(worker.session is not None for worker in self._workers),
            restarts=sum(worker.restarts for worker in self._workers),
        )
        headers = {**_NO_STORE, "Content-Type": Metrics.content_type}
        return web.Response(body=body, headers=headers)

    async def _list(self, _request: web.Request) -> web.Response:
        listed = [
            {
                "worker": worker.number,
                "pid": worker.pid,
                "started": worker.session is not None,
                "restarts": worker.restarts,
            }
            for worker in self._workers
        ]
        return _json({"workers": listed})

    async def _one(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["number"])
        found = find(self._resources, request.method, f"/{request.match_info['path']}")
        workers = [worker for worker in self._workers if worker.number == number]
        if not workers or not found:
            return _json({"error": "not_found"}, status=404)
        if not isinstance(found, Resource):
            raise web.HTTPMethodNotAllowed(request.method, found)
        _, _, rest = request.rel_url.raw_path_qs.removeprefix("/workers/").partition("/")

        async def ask(request: web.Request) -> web.StreamResponse:
            return await _stream(request, workers[0], f"/{rest}")

        return await self._guard.before(ask, found.kind)(request)

    async def _any(self, request: web.Request) -> web.StreamResponse:
        combine = self._combined.get((request.method, request.path))
        if combine is None and request.method in {"GET", "HEAD"}:
            there = [worker for worker in self._workers if worker.session is not None]
            if there:
                return await _stream(request, there[0], request.rel_url.raw_path_qs)
        answers = await self.ask_all(
            request.method,
            request.rel_url.raw_path_qs,
            headers=_only(_FORWARDED, request.headers),
            body=await _body(request),
        )
        if not answers:
            return _json({"error": "no_worker"}, status=503)
        if combine is not None:
            return combine(answers)
        return max(answers, key=lambda answer: answer.status).response()


async def _ask(
    worker: WorkerView,
    session: aiohttp.ClientSession,
    method: str,
    path: str,
    headers: Mapping[str, str] | None,
    body: bytes | None,
) -> WorkerAnswer:
    try:
        async with session.request(
            method, _url(path), headers=headers, data=body, timeout=_PATIENCE
        ) as answer:
            content_type = answer.headers.get("Content-Type", "application/octet-stream")
            return WorkerAnswer(worker.number, answer.status, await answer.read(), content_type)
    except TimeoutError:
        return WorkerAnswer(worker.number, 504)
    except aiohttp.ClientError:
        return WorkerAnswer(worker.number, 502)


async def _stream(request: web.Request, worker: WorkerView, path: str) -> web.StreamResponse:
    """Pass one worker's answer on as it comes: it may be a stream of events."""
    if worker.session is None:
        return _json({"error": "no_worker"}, status=503)
    try:
        async with worker.session.request(
            request.method,
            _url(path),
            headers=_only(_FORWARDED, request.headers),
            data=await _body(request),
            timeout=_STREAMING,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(
                status=answer.status, headers=_only(_RETURNED, answer.headers)
            )
            await response.prepare(request)
            with suppress(aiohttp.ClientError):  # it ends where the worker's does
                async for part in answer.content.iter_any():
                    await response.write(part)
            return response
    except (aiohttp.ClientError, TimeoutError):
        return _json({"error": "no_answer"}, status=504)


async def _body(request: web.Request) -> bytes | None:
    """Return the body, which the guard has read; nothing that is open to all takes one."""
    return None if request.method in {"GET", "HEAD"} else await request.read()


def _url(path: str) -> URL:
    return URL(f"http://worker{path}", encoded=True)


def _only(names: Sequence[str], headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def _json(members: object, *, status: int = 200) -> web.Response:
    return web.json_response(members, status=status, headers=_NO_STORE)
