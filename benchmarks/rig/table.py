"""The table of a run, as Markdown. Pure."""

from collections.abc import Mapping, Sequence

from peers import Peer

from rig.cases import Case
from rig.figures import Figure, Sample, by_round, faults, figure

COLUMNS = {
    "requests_a_second": "requests/s",
    "cpu": "CPU µs/request",
    "cpu_with_authorizer": "with its authorizer",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "memory_mib": "memory MiB",
}
IDLE_COLUMNS = {"connection_kib": "KiB a connection", "memory_mib": "memory MiB with all"}


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(found: Figure | None) -> str:
    """Return a figure: the median, the spread, the ratio to ours."""
    if found is None:
        return "-"
    spread = ""
    if found.least != found.most:
        spread = f" ({number(found.least)} to {number(found.most)})"
    ratio = f" x{found.ratio:.2f}" if found.ratio is not None else ""
    return f"{number(found.median)}{spread}{ratio}"


def table(
    case: Case,
    peers: Sequence[Peer],
    samples: Sequence[Sample],
    reference: str,
    missing: Mapping[str, str],
) -> str:
    """Return the table of a case; ``missing`` says of gateways why they weren't measured."""
    columns = IDLE_COLUMNS if case.idle else COLUMNS
    lines = [
        f"### {case.title}",
        "",
        "| gateway | " + " | ".join(columns.values()) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for peer in peers:
        if not case.takes_part(peer):
            continue
        wrong = faults(samples, case.name, peer.name)
        if peer.name in missing:
            cells = [missing[peer.name]] + [""] * (len(columns) - 1)
        else:
            cells = [
                cell(
                    figure(
                        by_round(samples, case.name, peer.name, name),
                        by_round(samples, case.name, reference, name),
                    )
                )
                for name in columns
            ]
            if wrong:
                cells[0] += f" (failed: {'; '.join(wrong)})"
        lines.append(f"| {peer.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
