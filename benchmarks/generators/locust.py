"""Locust without its page: 100 users of FastHttpUser, each with its part of the rate."""

import sys
from pathlib import Path

# This file has the name of the package: look elsewhere for that.
sys.path = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).parent]

from locust import FastHttpUser, constant_throughput, task  # noqa: E402, I001 (gevent patches first)
from locust.env import Environment  # noqa: E402

import time  # noqa: E402

import gevent  # noqa: E402

sys.path.append(str(Path(__file__).parent))

from figures import cpu_seconds, say  # noqa: E402

USERS = 100


def main(url: str, rate: int, seconds: float) -> None:
    """Run headless in this process; lag is against each user's own even schedule."""
    lags: list[float] = []

    class Prober(FastHttpUser):
        host = url.rpartition("/")[0]
        wait_time = constant_throughput(rate / USERS)

        def on_start(self) -> None:
            self.begun = time.monotonic()
            self.sent = 0

        @task
        def probe(self) -> None:
            lags.append(time.monotonic() - (self.begun + self.sent * USERS / rate))
            self.sent += 1
            self.client.get("/orders", headers={"Authorization": f"Bearer {'x' * 43}"})

    environment = Environment(user_classes=[Prober])
    runner = environment.create_local_runner()
    runner.start(USERS, spawn_rate=USERS)
    while runner.user_count < USERS:
        gevent.sleep(0.01)
    lags.clear()
    cpu, begin = cpu_seconds(), time.monotonic()
    gevent.sleep(seconds)
    say(
        requests=len(lags),
        seconds=time.monotonic() - begin,
        cpu=cpu_seconds() - cpu,
        lags=list(lags),
        errors=environment.stats.total.num_failures,
    )
    runner.quit()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
