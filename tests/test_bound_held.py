"""The bound is held, whatever happens, in whatever order (``docs/revocation.md``)."""

import os
from collections.abc import Iterator

import pytest
import structlog
from bound_machine import BoundMachine
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.mark.timeout(3600 if LONG else 120)
def test_no_token_is_accepted_beyond_the_bound_nor_a_good_one_refused() -> None:
    """Issue, use, revoke, expire, lose the feed or the store: each decision is one promised."""
    run_state_machine_as_test(
        BoundMachine,
        settings=settings(
            max_examples=10_000 if LONG else 300,
            stateful_step_count=50,
            deadline=None,
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )
