"""Get the most of this machine and interpreter: the collector, the open files."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_GC_THRESHOLDS = (50_000, 20, 100)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Keep the garbage collector from looking at what lives as long as the run, and run it rarely.

    A full collection over all modules takes tens of milliseconds, each of them lag.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def allow_files(wanted: int) -> None:
    """Raise the limit of open files to what the connections need, as far as that is allowed."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 (not on Windows)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
