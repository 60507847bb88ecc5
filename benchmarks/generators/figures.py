"""What a contestant prints: one line of JSON."""

import json
import resource
from collections.abc import Sequence


def cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    """Return user and system time so far."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def say(*, requests: int, seconds: float, cpu: float, lags: Sequence[float], errors: int) -> None:
    """Print the figures; lags are seconds."""
    ordered = sorted(lags)

    def lag_ms(fraction: float) -> float | None:
        if not ordered:
            return None
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] * 1000, 3)

    print(
        json.dumps(
            {
                "requests": requests,
                "rate": round(requests / seconds, 1),
                "cpu_us": round(cpu / requests * 1e6, 2),
                "lag_p50_ms": lag_ms(0.5),
                "lag_p99_ms": lag_ms(0.99),
                "lag_max_ms": lag_ms(1.0),
                "errors": errors,
            }
        )
    )
