"""Flight Recorder dumps of a hang: the ranks that are missing, or went another way, in every layout."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.analysis.diagnoses import DUMPS, diagnoses_of
from otel_netmon.cli import main
from otel_netmon.diagnosis.finding import Finding, Kind
from otel_netmon.store.problems import FolderError
from tests.unit.test_flight_recorder import REAL

RANKS = 4


def entry(sequence: int, version: str, **changes: Any) -> dict[str, Any]:
    """One that has not ended."""
    number = {"seq_id": sequence} if version in ("", "1.5") else {"collective_seq_id": sequence, "p2p_seq_id": 0}
    times = {"time_created_ns": 17 * 10**17} if version else {"time_created_us": 17 * 10**14}
    about = {"process_group": ("0", "default_pg"), "retired": False} if version == "2.9" else {"pg_id": 0}
    return {
        "profiling_name": "nccl:all_reduce",
        **times,
        "input_sizes": [[1000]],
        "output_sizes": [[1000]],
        "state": "scheduled",
        **number,
        **about,
        **changes,
    }


def dump(version: str, *entries: dict[str, Any]) -> Any:
    if version == "":
        return list(entries)
    group = {"name": "0", "desc": "default_pg", "ranks": "[0, 1, 2, 3]"} if version == "2.9" else [0, 1, 2, 3]
    return {"version": version, "pg_config": {"0": group}, "entries": list(entries)}


def write(folder: Path, dumps: dict[int, Any], *, name: str = "nccl_trace_rank_", as_json: bool = False) -> None:
    for rank, one in dumps.items():
        data = json.dumps(one).encode() if as_json else pickle.dumps(one, 2)
        (folder / f"{name}{rank}").write_bytes(data)


def found(folder: Path) -> Finding:
    (diagnosis,) = diagnoses_of(folder, lambda _done, _total: None)
    assert diagnosis.run_id == DUMPS
    return diagnosis.findings[0]


@pytest.mark.parametrize("version", ["1.5", "2.9"])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", ["", "nccl_trace_rank_", "comm_lib_trace_rank_"])
def test_the_rank_that_never_came(version: str, as_json: bool, name: str, tmp_path: Path) -> None:
    dumps = {rank: dump(version, entry(6, version, state="completed"), entry(7, version)) for rank in range(RANKS)}
    dumps[2] = dump(version, entry(6, version, state="completed"))
    write(tmp_path, dumps, name=name, as_json=as_json)
    finding = found(tmp_path)
    assert (finding.kind, finding.ranks) == (Kind.HUNG, (2,))
    assert "Rank 2 never came to all_reduce number 7" in finding.sentence
    assert finding.lost is None  # a dump does not say since when


def test_the_first_format_knows_no_groups(tmp_path: Path) -> None:
    """Its ranks are those that left a dump."""
    dumps = {rank: dump("", entry(6, "", state="completed"), entry(7, "")) for rank in range(RANKS)}
    dumps[2] = dump("", entry(6, "", state="completed"))
    write(tmp_path, dumps)
    assert found(tmp_path).ranks == (2,)


def test_a_rank_whose_dump_shows_another_operation(tmp_path: Path) -> None:
    dumps = {rank: dump("2.9", entry(7, "2.9")) for rank in range(RANKS)}
    dumps[1] = dump("2.9", entry(7, "2.9", profiling_name="nccl:broadcast"))
    write(tmp_path, dumps)
    finding = found(tmp_path)
    assert (finding.kind, finding.ranks) == (Kind.DESYNCHRONISED, (1,))


def test_a_rank_without_a_dump_is_not_accused(tmp_path: Path) -> None:
    write(tmp_path, {rank: dump("2.9", entry(7, "2.9")) for rank in (0, 1, 3)})
    finding = found(tmp_path)
    assert (finding.kind, finding.ranks) == (Kind.INSUFFICIENT, ())
    assert "nothing is known of rank 2" in finding.sentence


def test_sends_and_receives_of_two_ranks_are_joined(tmp_path: Path) -> None:
    """Rank 0 receives from rank 1, which never sends: it is what the others wait for, too."""
    config = {
        "5": {"name": "5", "desc": "", "ranks": "[0, 1]"},
        "0": {"name": "0", "desc": "default_pg", "ranks": "[0, 1, 2]"},
    }
    receives = entry(0, "2.9", profiling_name="nccl:recv 0<-1", is_p2p=True, p2p_seq_id=3, process_group=("5", ""))
    ended = entry(6, "2.9", state="completed")
    dumps = {
        0: {"version": "2.9", "pg_config": config, "entries": [ended, receives]},
        1: {"version": "2.9", "pg_config": config, "entries": [ended]},
        2: {"version": "2.9", "pg_config": config, "entries": [ended, entry(7, "2.9")]},
    }
    write(tmp_path, dumps)
    finding = found(tmp_path)
    assert (finding.kind, finding.ranks) == (Kind.HUNG, (1,))


def test_a_folder_with_neither_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes_1").write_text("no dump")
    with pytest.raises(FolderError, match="neither telemetry"):
        diagnoses_of(tmp_path, lambda _done, _total: None)
    assert main(["diagnose", str(tmp_path)]) == 2
    assert "neither telemetry" in capsys.readouterr().err


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the recorded dumps in ../shared/data/flight_recorder")
@pytest.mark.parametrize("folder", ["gpu_error_2nd", "lock_gil_1st"])
def test_real_dumps_of_16_ranks(folder: str) -> None:
    (diagnosis,) = diagnoses_of(REAL / folder, lambda _done, _total: None)
    (finding,) = diagnosis.findings
    assert (finding.kind, finding.ranks) == (Kind.HUNG, (9, 14))
