"""What each request pays for being counted and logged: CPU time, with and without the shortcuts.

The first of each pair is the general way: prometheus_client's own classes, and a record through
structlog and logging. The second is the gateway's. Rounds alternate; the median is printed.
Lines go to standard error: send it where a gateway's would go, a file or a pipe.

    python benchmarks/counting.py 2> >(cat > /dev/null)
"""

import logging
import statistics
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.contextvars import bind_contextvars

from gateway import access_log
from gateway.logs import configure_logging
from gateway.metrics import Metrics
from gateway.settings import Logging

ROUNDS, CALLS = 7, 10_000
REQUEST_ID = "5f2b0a7c9d3e4f1688aa77bb66cc55dd"
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def counted_generally() -> Callable[[], None]:
    """Return what counts one request by prometheus_client's own classes."""
    registry = CollectorRegistry()
    requests = Counter("requests", "-", ["route", "outcome"], registry=registry)
    duration = Histogram("duration", "-", ["route"], buckets=BOUNDS, registry=registry)
    in_progress = Gauge("in_progress", "-", registry=registry)
    hit = Counter("cache", "-", ["result"], registry=registry).labels("hit")

    def count() -> None:
        in_progress.inc()
        hit.inc()
        in_progress.dec()
        requests.labels("orders", "proxied").inc()
        duration.labels("orders").observe(0.0012)

    return count


def counted() -> Callable[[], None]:
    """Return what counts one request as the gateway does."""
    metrics = Metrics()

    def count() -> None:
        metrics.request_started()
        metrics.cache_hit()
        metrics.request_ended("orders", "proxied", 0.0012)

    return count


def logged(log: access_log.AccessLog) -> Callable[[], None]:
    """Return what logs one request."""

    def write() -> None:
        log.request(
            request_id=REQUEST_ID,
            peer="192.0.2.17",
            method="GET",
            path="/orders/12345/items",
            status=200,
            route="orders",
            outcome="proxied",
            client_id="demo-key",
            seconds=0.0012345,
            bytes_sent=1374,
        )

    return write


def generally(write: Callable[[], None]) -> Callable[[], None]:
    """Return the same by the general way: the shortcut isn't taken while a filter is there."""
    logger = logging.getLogger(access_log.NAME)

    def allow(_: logging.LogRecord) -> bool:
        return True

    def filtered() -> None:
        logger.addFilter(allow)
        write()
        logger.removeFilter(allow)

    return filtered


def cost(act: Callable[[], None]) -> float:
    """Return the CPU time of one call, in microseconds."""
    began = time.process_time()
    for _ in range(CALLS):
        act()
    return (time.process_time() - began) / CALLS * 1e6


def compare(name: str, general: Callable[[], None], ours: Callable[[], None]) -> None:
    """Print both, and how often the second goes into the first."""
    rounds = [(cost(general), cost(ours)) for _ in range(ROUNDS)]
    before, after = (statistics.median(each) for each in zip(*rounds, strict=True))
    print(f"{name:26} {before:7.2f} µs {after:7.2f} µs {before / after:6.1f} times")


def main() -> None:
    """Print what each costs."""
    compare("counted", counted_generally(), counted())
    write = logged(access_log.AccessLog())
    configure_logging(Logging())
    compare("logged, json", generally(write), write)
    configure_logging(Logging(level="warning"))
    compare("not logged, by its level", generally(write), write)
    configure_logging(Logging(format="console"))
    compare("logged, console", generally(write), write)
    bind_contextvars(worker=2)
    configure_logging(Logging())
    compare("logged, json, by a worker", generally(write), write)


if __name__ == "__main__":
    main()
