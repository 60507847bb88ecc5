"""The admin port in front of several workers: which of them answer, and how answers become one."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from in_process_worker import InProcessWorker
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpClient

from gateway.admin.access import Access
from gateway.admin.answers import NO_STORE
from gateway.admin.door import application
from gateway.admin.fleet import FleetAdmin, WorkerAnswer
from gateway.admin.guard import Guard
from gateway.admin.resources import RESOURCES, Kind, Resource
from gateway.settings import Admin

TOKEN = {"Authorization": "Bearer s3cret"}
ADMIN = Admin(token=SecretStr("s3cret"))
Client = TestClient[web.Request, web.Application]


class Fleet:
    """Two workers, and what a client of the admin port sees of them."""

    def __init__(self, workers: list[InProcessWorker]) -> None:
        self.workers = workers
        self.ready = [200, 200]
        self.evicting = [200, 200]
        self.admin = FleetAdmin(
            workers,
            {("POST", "/api/count"): count},
            guard=Guard(Access(ADMIN)),
            resources=(
                *RESOURCES,
                Resource("GET", "/page"),
                Resource("POST", "/api/count", Kind.READING),
            ),
        )
        self.admin.started = True

    async def serve(self) -> None:
        for index, worker in enumerate(self.workers):
            add = worker.admin.router.add_route
            add("GET", "/livez", self._answer(200, "alive"))
            add("GET", "/readyz", self._status(index))
            add("GET", "/metrics", self._answer(200, "# TYPE a_total counter\na_total 1\n"))
            add("GET", "/page", self._answer(200, f"worker {index + 1}"))
            add("POST", "/api/evict", self._evict(index))
            add("POST", "/api/count", self._answer(200, str(index + 1)))
            worker.control.router.add_route("POST", "/reload", self._answer(200, "reached"))
            await worker.serve()

    def _answer(self, status: int, text: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(status=status, text=text)

        return answer

    def _status(self, index: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
        async def answer(_request: web.Request) -> web.Response:
            return web.json_response({"reason": "why"}, status=self.ready[index])

        return answer

    def _evict(self, index: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
        async def answer(request: web.Request) -> web.Response:
            heard = {
                "worker": index + 1,
                "query": request.rel_url.raw_query_string,
                "body": await request.text(),
                "authorization": request.headers.get("Authorization"),
                "cookie": request.headers.get("Cookie"),
            }
            return web.json_response(heard, status=self.evicting[index])

        return answer


def count(answers: Sequence[WorkerAnswer]) -> web.Response:
    """Combine numbers into their sum."""
    return web.Response(text=str(sum(int(answer.body) for answer in answers)))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """Two workers that are well."""
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(InProcessWorker(n)) for n in (1, 2)]
        fleet = Fleet(workers)
        await fleet.serve()
        yield fleet


@pytest.fixture
async def client(fleet: Fleet, aiohttp_client: AiohttpClient) -> Client:
    """A client of the admin port."""
    app = application()
    fleet.admin.add_to(app)
    return await aiohttp_client(app)


@pytest.mark.parametrize(
    ("workers", "status", "reason"),
    [
        ((200, 200), 200, None),
        ((503, 200), 200, None),
        ((503, 503), 503, "why"),
    ],
)
async def test_ready_while_any_worker_is(
    fleet: Fleet, client: Client, workers: tuple[int, int], status: int, reason: str | None
) -> None:
    """The others take the traffic; only when none is ready it goes elsewhere."""
    fleet.ready = list(workers)
    answer = await client.get("/readyz")
    assert (answer.status, (await answer.json()).get("reason")) == (status, reason)


@pytest.mark.parametrize(
    ("member", "value", "reason"), [("started", False, "starting"), ("terminating", True, None)]
)
async def test_not_ready_before_all_have_started_nor_in_a_drain(
    fleet: Fleet, client: Client, member: str, value: bool, reason: str | None
) -> None:
    """However ready the workers are."""
    setattr(fleet.admin, member, value)
    answer = await client.get("/readyz")
    assert (answer.status, (await answer.json())["reason"]) == (503, reason or member)


async def test_between_two_processes(fleet: Fleet, client: Client) -> None:
    """A worker that isn't there is no fault of the gateway; with none there, it isn't ready."""
    fleet.workers[0].session = None
    assert (await client.get("/livez")).status == 200
    assert (await client.get("/readyz")).status == 200
    assert await (await client.get("/page")).text() == "worker 2"
    assert (await client.get("/workers/1/page")).status == 503
    fleet.workers[1].session = None
    assert (await client.get("/readyz")).status == 503
    assert (await client.get("/page")).status == 503
    assert (await client.post("/api/evict", headers=TOKEN)).status == 503


async def test_one_worker_by_its_number(client: Client) -> None:
    """Every admin resource is there for each worker alone."""
    assert await (await client.get("/workers/2/page")).text() == "worker 2"
    assert (await client.get("/workers/3/page")).status == 404
    listed = await (await client.get("/workers")).json()
    assert listed["workers"][1] == {"worker": 2, "pid": 1002, "started": True, "restarts": 0}


async def test_what_changes_something_is_done_by_all(fleet: Fleet, client: Client) -> None:
    """With the query, the body and the credentials as they came; a failure of one is seen."""
    fleet.evicting = [200, 409]
    answer = await client.post("/api/evict?a=%26b", data="all", headers={**TOKEN, "Cookie": "a=b"})
    assert (answer.status, json.loads(await answer.text())) == (
        409,
        {
            "worker": 2,
            "query": "a=%26b",
            "body": "all",
            "authorization": "Bearer s3cret",
            "cookie": None,
        },
    )


async def test_what_all_have_done_is_told_under_the_headers_of_one_process(
    fleet: Fleet, client: Client
) -> None:
    """Those that keep other origins' pages from it were missing with more than one worker."""
    for status in (200, 400):
        fleet.evicting = [status, 200]
        async with client.post("/api/evict", headers=TOKEN) as answer:
            assert answer.status == status
            assert {name: answer.headers.get(name) for name in NO_STORE} == NO_STORE


async def test_answers_are_combined_where_it_is_said_how(client: Client) -> None:
    """A resource's own function makes one answer of all."""
    assert await (await client.post("/api/count")).text() == "3"


@pytest.mark.parametrize("path", ["/reload", "/workers/1/reload", "/workers/1/../reload"])
async def test_the_control_application_is_out_of_reach(client: Client, path: str) -> None:
    """No request at the admin port gets where the supervisor alone may."""
    answer = await client.post(path)
    assert (answer.status, await answer.text() == "reached") == (404, False)


@pytest.mark.parametrize("path", ["/api/evict", "/workers/1/api/evict"])
async def test_who_asks_wrongly_is_answered_as_by_one_process(
    fleet: Fleet, client: Client, path: str
) -> None:
    """A wrong method, a body that is too large, no token: what one process answers, and first."""
    answer = await client.put(path, headers=TOKEN)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    answer = await client.post(path, data=b"x" * 65_537, headers=TOKEN)
    assert (answer.status, (await answer.json())["error"]) == (413, "content_too_large")
    answer = await client.post(path, data=b"x" * 65_537)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (
        401,
        'Bearer realm="gateway admin"',
    )
    answer = await client.post(path, data=b"x", headers={**TOKEN, "Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403
    assert (await client.get("/nothing/here")).status == 404


async def test_a_body_without_a_token_is_not_waited_for(client: Client) -> None:
    """1 MB of it from each client without a token was read first: 196 MB in the supervisor."""
    never = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    async with client.post("/api/evict", data=endless()) as answer:
        assert answer.status == 401
    never.set()


async def test_metrics_of_a_worker_that_ended_meanwhile_are_not_counted_twice(
    fleet: Fleet, client: Client
) -> None:
    """Its book is closed when it ends; an answer of it that is read later is left out."""

    async def ends_then_answers(_request: web.Request) -> web.Response:
        fleet.workers[0].pid = None
        fleet.admin.metrics.ended(1)
        return web.Response(text="# TYPE a_total counter\na_total 1\n")

    assert "a_total 2.0" in await (await client.get("/metrics")).text()
    async with InProcessWorker(1) as other:
        other.admin.router.add_get("/metrics", ends_then_answers)
        await other.serve()
        fleet.workers[0].session = other.session
        assert "a_total 2.0" in await (await client.get("/metrics")).text()
        fleet.workers[0].session = None
