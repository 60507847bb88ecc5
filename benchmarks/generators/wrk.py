"""wrk: a closed loop in C, one thread, 64 connections, as fast as it can."""

import re
import resource
import subprocess
import sys

from figures import cpu_seconds, say


def main(url: str, seconds: float) -> None:
    """Run it and read what it prints."""
    done = subprocess.run(
        [
            *("wrk", "-t1", "-c64", f"-d{round(seconds)}s", url),
            "-H",
            f"Authorization: Bearer {'x' * 43}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    assert found is not None
    say(
        requests=int(found[1]),
        seconds=float(found[2]),
        cpu=cpu_seconds(resource.RUSAGE_CHILDREN),
        lags=(),
        errors=int(wrong[1]) if wrong else 0,
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[3]))
