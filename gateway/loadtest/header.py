"""The first row of a record: what was run, without secrets. Pure."""

import platform
from datetime import datetime
from typing import Any

from gateway import __version__
from gateway.loadtest.options import RunOptions, public_url
from gateway.loadtest.plan import Load
from gateway.loadtest.rows import Header


def header_of(options: RunOptions, started_at: datetime, load: Load, **more: Any) -> Header:
    """Return the first row of a record; ``more`` goes to the arguments."""
    # The load that was planned, to be held against what was sent.
    planned = {
        "probe_rps": round(load.probe_rps, 3),
        "background_rps": round(load.background_rps, 3),
        "seconds": round(load.seconds, 3),
    }
    return Header(
        tool=f"revocation-gateway {__version__}",
        python=platform.python_version(),
        started_at=started_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        targets=tuple(map(public_url, options.targets)),
        arguments={**options.arguments(), "planned": planned, **more},
        seed=options.seed,
        max_age_seconds=options.max_age,
        probe_interval_seconds=options.probe_interval,
        watch_seconds=options.watch,
    )
