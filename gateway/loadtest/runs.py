"""Make a run, then say what came of it: record, reports, verdict, exit code."""
# ruff: noqa: PLC0415 (drawing needs a second of imports)

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway import event_loop
from gateway.loadtest.analysis import Analysis, analyse
from gateway.loadtest.driver import Driver, Ended
from gateway.loadtest.errors import RunFailed
from gateway.loadtest.options import RunOptions
from gateway.loadtest.plan import SENSIBLE_RPS, Plan
from gateway.loadtest.progress import progress_for
from gateway.loadtest.record import NewRecord, RecordError, load_record
from gateway.loadtest.report.summary import render_terminal
from gateway.loadtest.slo import Slo, Verdict, judge, parse_slo


@dataclass(frozen=True, slots=True)
class Reports:
    """The files to write, each if it is wanted."""

    html: Path | None = None
    json: Path | None = None
    png: Path | None = None

    def write(self, analyses: Sequence[Analysis], verdicts: Sequence[Verdict]) -> None:
        """Write them; what draws is imported only then."""
        if self.html:
            from gateway.loadtest.report.page import render_html

            self.html.write_text(render_html(analyses, verdicts), encoding="utf-8")
        if self.json:
            from gateway.loadtest.report.document import render_json

            self.json.write_text(render_json(analyses, verdicts), encoding="utf-8")
        if self.png:
            from gateway.loadtest.report.picture import render_png

            self.png.write_bytes(render_png(analyses, verdicts))


def announce(options: RunOptions) -> str:
    """Say what is planned, before anything is sent."""
    load = Plan(options).load()
    where = "1 target" if len(options.targets) == 1 else f"{len(options.targets)} targets"
    interval = options.probe_interval * 1000
    lines = [
        f"{options.measured_tokens:,} tokens at {where}, seed {options.seed}",
        f"at most {load.probe_rps:,.0f} probes/s, each token every {interval:,.0f} ms",
        f"{load.background_rps:,.0f} background requests/s",
        f"at most {load.seconds:,.0f} s",
    ]
    said = "; ".join(lines)
    if not load.sensible:
        said += (
            f"\nwarning: {load.rps:,.0f} requests/s are more than the {SENSIBLE_RPS:,.0f} that "
            "one process is known to keep up with; a lower --revoke-rate, a longer "
            "--probe-interval or Locust's workers help"
        )
    return said


def measure(options: RunOptions, out: Path, *, quiet: bool = False) -> Ended:
    """Make a run and write its record; a file of an earlier run stays until this one has begun.

    Raises:
        RunFailed: the run could not be made.
        OSError: the record can't be written.
    """
    record = NewRecord(out)
    try:
        with progress_for(quiet=quiet) as progress:
            ended = event_loop.run(Driver(options, record, progress=progress).run())
    finally:
        record.close()
    if not record.begun:  # and the file has an earlier run, if anything
        raise RunFailed("it ended before anything was measured")
    return ended


def conclude(
    runs: Sequence[Path],
    slos: Sequence[Slo] | None,
    reports: Reports,
    *,
    max_age: float | None = None,
    quiet: bool = False,
) -> int:
    """Print and write the reports of some records; returns the exit code, of several the worst.

    ``slos`` None stands for those that each run was told.

    Raises:
        OSError: a file can't be read or written.
        RecordError: a file isn't a record.
    """
    analyses, verdicts = [], []
    for path in runs:
        try:
            record = load_record(path)
        except RecordError as error:
            raise RecordError(f"{path}: {error}") from None
        if max_age is not None:
            record = replace(record, header=replace(record.header, max_age_seconds=max_age))
        told = record.header.arguments.get("slo") or ()
        analysis = analyse(record)
        analyses.append(analysis)
        verdicts.append(judge(slos if slos is not None else list(map(parse_slo, told)), analysis))
    if quiet:
        sys.stdout.writelines(f"{verdict.line}\n" for verdict in verdicts)
    else:
        sys.stdout.write(render_terminal(analyses, verdicts, colour=sys.stdout.isatty()))
    reports.write(analyses, verdicts)
    return max(verdict.exit_code for verdict in verdicts)
