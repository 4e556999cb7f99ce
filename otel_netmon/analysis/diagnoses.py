"""Who is to blame in a folder of telemetry, of Flight Recorder dumps, or of both."""

from __future__ import annotations

from pathlib import Path

from otel_netmon.analysis.dumps import dumps_in, evidence_of
from otel_netmon.analysis.results import Diagnosis
from otel_netmon.analysis.summary import Recorded, summarise
from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.store.files import Progress
from otel_netmon.store.problems import FolderError

DUMPS = "Flight Recorder dumps"


def diagnoses_of(folder: Path | Recorded, progress: Progress) -> tuple[Diagnosis, ...]:
    """One for each run, and one for the dumps if there are any; raises ``FolderError`` if there is neither."""
    if isinstance(folder, Recorded):
        return summarise(folder).diagnoses
    try:
        found = summarise(folder, progress=progress).diagnoses
    except FolderError:
        found = ()
        if not folder.is_dir():
            raise
    dumps = dumps_in(folder)
    if dumps:
        found += (Diagnosis(DUMPS, len(dumps), 0, diagnose(evidence_of(dumps))),)
    if not found:
        raise FolderError(f"{folder} holds neither telemetry (*.jsonl) nor Flight Recorder dumps (NAME_RANK)")
    return found
