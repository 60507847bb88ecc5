"""What must hold between sections."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Settings

HERE = {"upstream": "http://h"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"listen": {"port": 9090}}, "admin.port"),
        ({"listen": {"port": 1, "host": "0.0.0.0"}, "admin": {"port": 1}}, "admin.port"),
        ({"admin": {"host": "0.0.0.0"}}, "admin.host"),
        ({"admin": {"host": "gateway.example"}}, "admin.host"),
        ({"admin": {"token": ""}}, "admin.token"),
        ({"listen": {"workers": 2}, "store": {"url": "memory://"}}, "listen.workers"),
        ({"listen": {"workers": 257}}, "listen.workers"),
        ({"routes": [{"path": "/a"}, {"path": "/a/"}]}, "routes.1.path"),
        (
            {
                "routes": [
                    {"path": "/a", "methods": ["GET", "PUT"]},
                    {"path": "/a", "methods": ["PUT"]},
                ]
            },
            "routes.1.path",
        ),
        ({"routes": [{"path": "/a", "name": "n"}, {"path": "/b", "name": "n"}]}, "routes.1.name"),
        ({"routes": [{"path": "/a", "name": "/b"}, {"path": "/b"}]}, "routes.1.path"),
        ({"routes": [{"path": "/a", "max_age": "16m"}]}, "routes.0.max_age"),
        (
            {"key_manager": {"url": "http://h"}, "routes": [{"path": "/token"}]},
            "key_manager.token_path",
        ),
    ],
)
def test_settings_refuse_what_does_not_go_together(values: dict[str, Any], said: str) -> None:
    """One port, path or name twice, one memory for several, an admin port open to all."""
    values["routes"] = [route | HERE for route in values.get("routes", [])]
    with pytest.raises(ValidationError, match=said):
        Settings.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"listen": {"port": 0}, "admin": {"port": 0}},
        {"listen": {"port": 1, "host": "192.0.2.1"}, "admin": {"port": 1}},
        {"admin": {"host": "0.0.0.0", "token": "t"}},
        {"admin": {"host": "127.9.9.9"}},
        {"admin": {"host": "::1"}},
        {"admin": {"host": "localhost"}},
        {"routes": [{"path": "/a", "methods": ["GET"]}, {"path": "/a", "methods": ["PUT"]}]},
        {"routes": [{"path": "/a"}, {"path": "/a", "methods": ["OPTIONS"], "public": True}]},
        {"routes": [{"path": "/a", "max_age": "15m"}]},
        {"listen": {"workers": 1}, "store": {"url": "memory://"}},
        {"listen": {"workers": 256}},
        {"cache": {"max_age": "0s", "negative_max_age": "0s"}},
        {"routes": [{"path": "/token"}]},
    ],
)
def test_settings_take_what_goes_together(values: dict[str, Any]) -> None:
    """Free ports, an admin port on loopback or with a token, one path with distinct methods."""
    values["routes"] = [route | HERE for route in values.get("routes", [])]
    Settings.model_validate(values)
