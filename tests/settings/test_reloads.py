"""A reload takes what it can: the rest stays as it was, and is named."""

from typing import Any

import pytest

from gateway.settings import Settings
from gateway.settings.reloads import applicable

OLD = Settings()


@pytest.mark.parametrize(
    ("given", "fixed"),
    [
        ({}, []),
        ({"cache": {"max_age": "1m"}}, []),
        ({"listen": {"port": 1}}, ["listen.port"]),
        ({"listen": {"workers": 2, "drain_grace": "1s"}}, ["listen.workers"]),
        ({"listen": {"event_loop": "asyncio"}}, ["listen.event_loop"]),
        (
            {"store": {"key_prefix": "t:"}, "admin": {"port": 1}},
            ["admin.port", "store.key_prefix"],
        ),
    ],
)
def test_what_needs_a_restart_stays(given: dict[str, Any], fixed: list[str]) -> None:
    """Only that: what stands in the same section and can be taken is."""
    new = Settings.model_validate(given)
    settings, left = applicable(OLD, new)
    assert left == fixed
    assert settings.listen.port == OLD.listen.port
    assert settings.listen.workers == OLD.listen.workers
    assert settings.listen.drain_grace == new.listen.drain_grace
    assert (settings.store, settings.admin) == (OLD.store, OLD.admin)
    assert settings.cache == new.cache
    assert applicable(OLD, settings)[1] == []
