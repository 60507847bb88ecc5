"""The gateways of the differential tests."""

from collections.abc import Iterator

import pytest

from lanes.asking import WORLDS
from lanes.pair import Pairs, pairs_of_gateways


@pytest.fixture(scope="module")
def pairs() -> Iterator[Pairs]:
    """Return the gateways, which are kept for all examples."""
    with pairs_of_gateways(WORLDS) as pairs:
        yield pairs
