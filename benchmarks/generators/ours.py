"""The load tester itself: 200 ms between probes, as many tokens as make the rate."""

import sys
import tempfile
import time
from pathlib import Path

from figures import cpu_seconds, say
from pydantic import SecretStr

from gateway import event_loop
from gateway.loadtest.driver import Driver
from gateway.loadtest.options import RunOptions
from gateway.loadtest.plan import Plan
from gateway.loadtest.record import RecordWriter, load_record

INTERVAL = 0.2


def main(url: str, rate: int, seconds: float) -> None:
    """Run, and take the figures from the record, as a report would."""
    options = RunOptions(
        targets=(url,),
        revoke_url=url,
        seed=1,
        given_tokens=tuple(SecretStr(f"{n:043}") for n in range(round(rate * INTERVAL))),
        given_probe_interval=INTERVAL,
        background_rps=0,
        # All tokens are used for the same time, and revoked in vain at its end.
        revoke_rate=10_000,
        given_warm_up=seconds,
        given_watch=INTERVAL,
    )
    begin = Plan(options).horizon - seconds  # all tokens are in use from here on
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            before = cpu_seconds(), time.monotonic()
            event_loop.run(Driver(options, RecordWriter(stream)).run())
            cpu = cpu_seconds() - before[0]
        record = load_record(path)
    steady = [p for p in record.probes if begin <= p.planned < begin + seconds - INTERVAL]
    say(
        requests=len(steady),
        seconds=seconds - INTERVAL,
        # All the CPU time for all the requests, those of beginning and end too.
        cpu=cpu * len(steady) / (len(record.probes) + len(record.revokes)),
        lags=[probe.sent - probe.planned for probe in steady],
        errors=sum(probe.status != 200 for probe in steady) + len(record.unsent),
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
