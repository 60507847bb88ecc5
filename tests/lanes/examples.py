"""How many examples are tried: some hundreds each time, many thousands in ``make test-long``."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def many_examples(test: Callable[..., Any]) -> Any:
    """Try a test with as many examples as this run is for, the same ones in each short run."""
    number = settings(
        max_examples=20_000 if _LONG else 500,
        deadline=None,
        derandomize=not _LONG,
        suppress_health_check=list(HealthCheck),
    )
    return pytest.mark.timeout(3600 if _LONG else 120)(number(test))
