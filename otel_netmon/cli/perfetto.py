"""``otel-netmon export perfetto``: from files to a trace, in one pass."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Container
from pathlib import Path

from otel_netmon.analysis.evidence import EvidenceCollector, diagnoses
from otel_netmon.analysis.timeline import read_steps
from otel_netmon.cli.summary import reading
from otel_netmon.report.perfetto import NoPerfetto, TraceFile
from otel_netmon.report.timeline import Drawing
from otel_netmon.report.words import seconds, size
from otel_netmon.store.files import telemetry_files
from otel_netmon.store.problems import FolderError, Problems


def export_perfetto(
    folder: Path, output: Path | None, steps: range | None, ranks: Container[object] | None
) -> int:
    """Write the trace; 2 with one sentence on stderr where that cannot be. The file appears once it is whole."""
    output = output or Path(f"{folder.absolute().name or 'run'}.pftrace")
    try:
        with tempfile.NamedTemporaryFile(dir=output.absolute().parent, prefix=".otel-netmon-") as file:
            drawing, trace, problems, found = _draw(folder, TraceFile(file), steps, ranks)
            if not drawing.steps:
                raise FolderError(f"{folder} holds no step{_chosen(steps, ranks)} to draw")
            file.flush()
            written = Path(file.name).stat().st_size
            Path(file.name).replace(output)
            with contextlib.suppress(FileNotFoundError):
                file.close()  # would remove it
    except (FolderError, NoPerfetto) as error:
        print(f"otel-netmon: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"otel-netmon: {output} cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    print(
        f"{output} ({size(written)}): {drawing.steps} steps of {drawing.ranks} ranks, {trace.slices} slices, "
        f"{trace.flows} flows from ranks that waited, findings: {found}; open it in https://ui.perfetto.dev"
    )
    errors = drawing.clocks.errors()
    if errors:
        print(
            f"rows of {len(errors) + 1} hosts are aligned at the ends of collectives, which differ by "
            f"{seconds(max(errors.values()))} there: what is shorter between hosts means nothing"
        )
    unread = problems.truncated + problems.corrupt + problems.records + problems.files
    if unread:
        print(f"{unread} lines, records or files could not be read; `otel-netmon summary {folder}` tells which")
    return 0


def _draw(
    folder: Path, trace: TraceFile, steps: range | None, ranks: Container[object] | None
) -> tuple[Drawing, TraceFile, Problems, int]:
    problems, evidence = Problems(), EvidenceCollector()
    paths = telemetry_files(folder, problems)
    total, done = sum(path.lstat().st_size for path in paths), 0
    drawing = Drawing(
        trace,
        lambda number: steps is None or number in steps,
        lambda rank: ranks is None or rank in ranks,
    )
    with reading() as progress:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done, max(total, done))

        drawing.draw(read_steps(paths, problems, advance, evidence.take))
    drawing.finish()
    return drawing, trace, problems, drawing.findings(diagnoses(evidence.runs()))


def _chosen(steps: range | None, ranks: Container[object] | None) -> str:
    return "" if steps is None and ranks is None else " of those that you chose"
