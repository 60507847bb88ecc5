"""Collector and open files."""

import gc
import resource

from gateway.loadtest.machine import allow_files, collector_at_rest


def test_the_collector_rests() -> None:
    """What lives as long as the run isn't looked at meanwhile; afterwards all is as before."""
    before = gc.get_threshold()
    with collector_at_rest():
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_freeze_count() > 0
        assert gc.isenabled()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_open_files() -> None:
    """The limit is raised to what is wanted, no further than is allowed, and never lowered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        for wanted, expected in ((100, 256), (300, 300), (200, 300)):
            allow_files(wanted)
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == expected
        allow_files(2**40)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= hard or hard < 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
