"""The resources of the admin port."""

import pytest
from clocks import FakeClock
from pydantic import SecretStr

from gateway.admin.door import application
from gateway.admin.resources import RESOURCES, Kind, Resource, find
from gateway.app import Gateway
from gateway.listeners import Inherited, Sockets
from gateway.settings import Admin, RouteSettings, Settings, Store


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/livez", Resource("GET", "/livez")),
        ("HEAD", "/livez", Resource("GET", "/livez")),
        ("GET", "/page/vendor/a.js", Resource("GET", "/page/*")),
        ("POST", "/api/evict", Resource("POST", "/api/evict", Kind.CHANGING)),
        ("PUT", "/api/evict", ["POST"]),
        ("POST", "/livez", ["GET", "HEAD"]),
        ("HEAD", "/api/events", ["GET"]),
        ("GET", "/page/", []),
        ("GET", "/reload", []),
        ("GET", "/api/evict/", []),
    ],
)
def test_what_is_there(method: str, path: str, found: object) -> None:
    """A resource, or which methods its path takes."""
    assert find(RESOURCES, method, path) == found


async def test_the_list_is_what_a_gateway_serves(clock: FakeClock) -> None:
    """The supervisor of several workers hands on exactly what there is."""
    settings = Settings(
        admin=Admin(token=SecretStr("s3cret")),
        store=Store.model_validate({"url": "memory://"}),
        routes=(RouteSettings(path="/orders", upstream="http://127.0.0.1:1"),),
    )
    admin = application()
    async with Gateway(settings, clock=clock, inherited=Inherited(Sockets(), admin)):
        served = {
            (route.method, resource.canonical)
            for resource in admin.router.resources()
            for route in resource
        }
    listed = {
        (method, resource.pattern.replace(":.+", ""))
        for resource in RESOURCES
        for method in resource.methods
    }
    assert served == listed
