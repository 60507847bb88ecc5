"""``make bench``: what a request costs, side by side with other gateways, on this machine.

    python benchmarks/bench.py [--cases hot,cold] [--peers nginx_auth,ours_fast] [--rounds 5]
        [--seconds 2] [--quick] [--out build/bench]

Prints a table for each case as Markdown, and leaves it in table.md beside results.json, which
has the figures of every round. docs/performance.md says how it is measured.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from peers import PEERS, NotHere, Peer
from rig import load
from rig.cases import CASES, COLD_A_ROUND, MANY, REFERENCE, REVOKED, Case
from rig.figures import Sample
from rig.goals import goals
from rig.rounds import Field
from rig.scene import private_folder, surroundings
from rig.table import table

QUICK = ("hot", "cold", "fresh", "64k", "bad", "tls")


def arguments() -> argparse.Namespace:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(description="Measure gateways side by side.")
    parser.add_argument(
        "--cases", help="only these, with commas: " + " ".join(c.name for c in CASES)
    )
    parser.add_argument(
        "--peers", help="only these, with commas: " + " ".join(p.name for p in PEERS)
    )
    parser.add_argument("--rounds", type=int, help="rounds (5)")
    parser.add_argument("--seconds", type=int, help="seconds of load in each (2)")
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of one second, fewer cases"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for results")
    parser.add_argument("--tools", type=Path, help="virtual environment of Envoy and Traefik")
    given = parser.parse_args()
    given.rounds = given.rounds or (2 if given.quick else 5)
    given.seconds = given.seconds or (1 if given.quick else 2)
    if given.quick and not given.cases:
        given.cases = ",".join(QUICK)
    given.tools = given.tools or given.out / "venv"
    return given


def chosen(names: str | None, all_of_them: Sequence[Case] | Sequence[Peer]) -> list:
    """Return those that were asked for by name, in their own order; all, if none was."""
    if names is None:
        return list(all_of_them)
    asked = set(names.split(","))
    if unknown := asked - {one.name for one in all_of_them}:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}")
    return [one for one in all_of_them if one.name in asked]


def measure(
    given: argparse.Namespace, cases: list[Case], peers: list[Peer]
) -> tuple[list[Sample], dict[str, str]]:
    """Measure and return all samples, and why gateways are missing."""
    samples: list[Sample] = []
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder())
        count = 1
        many = any(case.warm_all or case.cold for case in cases)
        if many or any(peer.marks or peer.cold for peer in peers):
            count = MANY + REVOKED + COLD_A_ROUND * given.rounds
        around = stack.enter_context(surroundings(folder, given.tools.resolve(), count))
        field = Field(around, folder)
        field.enter(peers, stack)
        for name, why in field.missing.items():
            print(f"{name}: {why}", file=sys.stderr)
        try:
            for sample in field.rounds(cases, peers, given.rounds, given.seconds):
                samples.append(sample)
                print(progress(sample), file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("interrupted: the tables have what there is", file=sys.stderr)
    return samples, field.missing


def progress(sample: Sample) -> str:
    """Return a line that says what a round gave."""
    said = f"{sample.round + 1} {sample.case:6} {sample.peer:20}"
    if sample.fault:
        return f"{said} failed: {sample.fault}"
    if sample.connection_kib is not None:
        return f"{said} {sample.connection_kib:8.1f} KiB a connection"
    return (
        f"{said} {sample.requests_a_second:8.0f}/s  CPU {sample.cpu:7.1f} µs "
        f"(with authorizer {sample.cpu_with_authorizer:7.1f})  p50 {sample.p50_ms:6.2f} ms  "
        f"p99 {sample.p99_ms:6.2f} ms  longest {sample.longest_ms:6.1f} ms  "
        f"{sample.memory_mib:6.1f} MiB"
    )


def main() -> int:
    """Measure, print and leave the tables; 1 if a round's answers were wrong."""
    given = arguments()
    cases = chosen(given.cases, CASES)
    peers = [
        peer for peer in chosen(given.peers, PEERS) if any(case.takes_part(peer) for case in cases)
    ]
    if load.WRK is None:
        sys.exit("wrk isn't installed; on Debian: apt-get install wrk")
    given.out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    try:
        samples, missing = measure(given, cases, peers)
    except NotHere as absent:
        sys.exit(f"not installed: {absent}")
    text = "\n".join(table(case, peers, samples, REFERENCE, missing) for case in cases)
    text += "\n" + goals(samples)
    (given.out / "table.md").write_text(text, "utf-8")
    about = {
        "rounds": given.rounds,
        "seconds": given.seconds,
        "began": started,
        "took_seconds": time.time() - started,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "missing": missing,
        "samples": [sample.members() for sample in samples],
    }
    (given.out / "results.json").write_text(json.dumps(about, indent=1), "utf-8")
    print(text)
    return int(any(sample.fault for sample in samples))


if __name__ == "__main__":
    sys.exit(main())
