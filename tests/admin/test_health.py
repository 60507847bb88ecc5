"""The admin port: life, readiness, and what was counted."""

import json

from backends import recording
from prometheus_client.parser import text_string_to_metric_families
from proxy.gateways import running, settings_for
from redis_server import free_port
from wire import fetch, request

from gateway.app import Gateway


async def asked(url: str, path: str, *, method: str = "GET") -> tuple[int, bytes]:
    """Return status and content of a resource of the admin port."""
    data = request(path, "Host: localhost", method=method, token=None)
    answer = await fetch(url, data, bodiless=method == "HEAD")
    if answer.status < 400 or answer.status == 503:
        assert answer.values("Cache-Control") == [b"no-store"]
    return answer.status, answer.body


async def test_alive_and_ready() -> None:
    """Both say so, to HEAD too."""
    async with running("http://127.0.0.1:1") as gateway:
        for path, status in (("/livez", "alive"), ("/readyz", "ready")):
            code, content = await asked(gateway.admin_url, path)
            assert (code, json.loads(content)) == (200, {"status": status})
            assert await asked(gateway.admin_url, path, method="HEAD") == (200, b"")


async def test_a_store_that_is_down() -> None:
    """Not ready, but alive: a restart would heal nothing."""
    store = {"url": f"redis://127.0.0.1:{free_port()}", "timeout": "200ms"}
    async with (
        recording() as backend,
        Gateway(settings_for(backend.url, store=store)) as gateway,
    ):
        code, content = await asked(gateway.admin_url, "/readyz")
        assert (code, json.loads(content)) == (
            503,
            {"status": "unready", "reason": "store unreachable"},
        )
        assert (await asked(gateway.admin_url, "/livez"))[0] == 200
        assert (await asked(gateway.admin_url, "/metrics"))[0] == 200
        assert (await fetch(gateway.url, request("/"))).status == 503
        assert (await fetch(gateway.url, request("/public"))).status == 200


async def test_terminating() -> None:
    """Not ready any more, whatever the store says."""
    async with running("http://127.0.0.1:1") as gateway:
        gateway._health.terminating = True
        code, content = await asked(gateway.admin_url, "/readyz")
        assert (code, json.loads(content)) == (503, {"status": "unready", "reason": "terminating"})
        assert (await asked(gateway.admin_url, "/livez"))[0] == 200


async def test_metrics() -> None:
    """In Prometheus' text format, under names of ours, and no label has a token."""
    async with recording() as backend, running(backend.url) as gateway:
        for token in ("good", "bad", None):
            await fetch(gateway.url, request("/", token=token))
        answer = await fetch(gateway.admin_url, request("/metrics", "Host: localhost", token=None))
        assert (answer.value("Content-Type") or b"").startswith(b"text/plain; version=")
        families = list(text_string_to_metric_families(answer.body.decode()))
    assert all(family.name.startswith("gateway_") for family in families)
    requests = {
        (sample.labels["route"], sample.labels["outcome"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "gateway_requests_total"
    }
    assert requests == {
        ("/", "proxied"): 1,
        ("/", "invalid_token"): 1,
        ("/", "no_credentials"): 1,
    }
    counted = [line for line in answer.body.splitlines() if not line.startswith(b"#")]
    assert [line for line in counted if b"good" in line or b"bad" in line] == []
    assert {"gateway_build_info", "gateway_connections", "gateway_cache_entries"} <= {
        family.name for family in families
    }


async def test_the_ports_are_two() -> None:
    """Neither serves what is the other's."""
    async with recording() as backend, running(backend.url) as gateway:
        assert (await asked(gateway.admin_url, "/orders"))[0] == 404
        assert (await asked(gateway.url, "/metrics"))[0] == 401  # a path like any other
        assert (await asked(gateway.admin_url, "/livez", method="POST"))[0] == 405
