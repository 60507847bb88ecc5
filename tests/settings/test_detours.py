"""Routes by which clients reach the key manager's endpoints past the gateway's own."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.settings import Settings, detours

KM = "http://km:9000"


def found(routes: list[dict[str, Any]], **key_manager: str) -> list[str]:
    settings = Settings.model_validate(
        {"key_manager": key_manager or {"url": KM}, "routes": routes}
    )
    return [line.split(": ")[1].split()[0] for line in detours(settings)]


@pytest.mark.parametrize(
    ("route", "key_manager", "expected"),
    [
        # Everything goes to the key manager's machine, its endpoints have other names here.
        (
            {"path": "/", "upstream": KM},
            {"token_url": f"{KM}/o/token/", "revoke_url": f"{KM}/o/revoke_token/"},
            ["/o/token/", "/o/revoke_token/"],
        ),
        (
            {"path": "/", "upstream": KM, "public": True},
            {"url": f"{KM}/o"},
            ["/o/token", "/o/revoke"],
        ),
        ({"path": "/o", "upstream": KM}, {"url": f"{KM}/o"}, ["/o/token", "/o/revoke"]),
        ({"path": "/o/revoke", "upstream": KM}, {"url": f"{KM}/o"}, ["/o/revoke"]),
        (
            {"path": "/km", "upstream": KM, "strip_prefix": True},
            {"url": KM},
            ["/km/token", "/km/revoke"],
        ),
        (
            {"path": "/km", "upstream": f"{KM}/o", "strip_prefix": True},
            {"url": f"{KM}/o"},
            ["/km/token", "/km/revoke"],
        ),
        ({"path": "/r", "upstream": f"{KM}/revoke", "strip_prefix": True}, {"url": KM}, ["/r/"]),
        ({"path": "/", "upstream": f"{KM}/o"}, {"url": f"{KM}/o/p"}, ["/p/token", "/p/revoke"]),
        (
            {"path": "/", "upstream": "http://KM:9000"},
            {"url": f"{KM}/o"},
            ["/o/token", "/o/revoke"],
        ),
        (
            {"path": "/", "upstream": "http://localhost:1"},
            {"url": "http://127.0.0.1:1/o"},
            ["/o/token", "/o/revoke"],
        ),
        ({"path": "/", "upstream": "https://km"}, {"revoke_url": "https://km:443/o"}, ["/o"]),
        ({"path": "/", "upstream": "https://km"}, {"revoke_url": "http://km/o"}, ["/o"]),
        ({"path": "/", "upstream": "http://km.:80"}, {"revoke_url": "http://km/o"}, ["/o"]),
        ({"path": "/", "upstream": "http://[::1]"}, {"revoke_url": "http://127.0.1.1/o"}, ["/o"]),
        ({"path": "/", "upstream": KM, "methods": ["POST"]}, {"revoke_url": f"{KM}/o"}, ["/o"]),
        # No way round: the path is the gateway's own endpoint, or the route leads elsewhere.
        ({"path": "/", "upstream": KM}, {"url": KM}, []),
        ({"path": "/", "upstream": KM}, {"revoke_url": f"{KM}/Revoke/"}, []),
        ({"path": "/authorize", "upstream": KM}, {"url": f"{KM}/o"}, []),
        ({"path": "/", "upstream": "http://km:9001"}, {"url": f"{KM}/o"}, []),
        ({"path": "/", "upstream": f"{KM}/api"}, {"url": f"{KM}/o"}, []),
        ({"path": "/", "upstream": f"{KM}/o"}, {"url": f"{KM}/other"}, []),
        (
            {"path": "/o", "upstream": KM, "strip_prefix": True},
            {"url": KM, "token_path": "/o/token", "revoke_path": "/o/revoke"},
            [],
        ),
        ({"path": "/", "upstream": KM, "methods": ["GET"]}, {"url": f"{KM}/o"}, []),
    ],
)
def test_a_route_that_reaches_an_endpoint_is_named(
    route: dict[str, Any], key_manager: dict[str, str], expected: list[str]
) -> None:
    """With the path by which it does: what is revoked there the gateway never hears of."""
    assert found([route], **key_manager) == expected


def test_a_route_that_governs_less_is_not_named() -> None:
    """A longer one takes the path, and leads elsewhere."""
    routes = [{"path": "/", "upstream": KM}, {"path": "/o", "upstream": "http://elsewhere"}]
    assert found(routes, url=f"{KM}/o") == []


def test_check_config_warns_and_is_content(tmp_path: Path) -> None:
    """It may be meant, so it is no fault; standard output stays what can be pasted."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'[key_manager]\nurl = "{KM}/o"\n[[routes]]\npath = "/"\nupstream = "{KM}"\npublic = true\n'
    )
    result = CliRunner().invoke(main, ["check-config", "--config", str(file)])
    assert result.exit_code == 0
    warnings = [line for line in result.stderr.splitlines() if "warning" in line]
    assert [line.startswith("gateway: warning: route /: /o/") for line in warnings] == [True, True]
    assert "warning" not in result.stdout
