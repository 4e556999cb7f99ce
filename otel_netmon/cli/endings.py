"""What `otel-netmon run` itself sees of ranks that end, written to the folder with their telemetry.

It sees how its own child ended, which is a rank where `run` stands below `srun` and the like; and it finds what
ranks left behind that no launcher of Python's had looked after.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Final

from otel_netmon import config, semconv
from otel_netmon.black_box.folder import BoxFolder
from otel_netmon.endings import LastCalls, RankExit
from otel_netmon.job import roles
from otel_netmon.launcher import events
from otel_netmon.launcher.children import Status
from otel_netmon.text import as_json, file_part
from otel_netmon.version import __version__

_SEVERITIES: Final = {"INFO": 9, "WARN": 13}


class Endings:
    """Of one command; made before it starts, and named to it in ``environ``. Without a folder, does nothing."""

    def __init__(self, environ: dict[str, str], folder: Path | None) -> None:
        self._environ = environ
        self._folder = folder
        self._boxes: BoxFolder | None = None
        if folder is not None and config.current().black_box == "on":
            try:
                self._boxes = BoxFolder(environ)
            except OSError:  # the last collectives of ranks that are killed are lost
                self._boxes = None

    def close(self) -> None:
        """It did not start."""
        if self._boxes is not None:
            self._boxes.remove()

    def write(self, command: Sequence[str], pid: int, code: int) -> None:
        """It ended, with an exit code or minus a signal; a good end needs no file. Raises OSError where it
        cannot be written."""
        left = [] if self._boxes is None else list(self._boxes.left_behind([pid]))
        self.close()
        told = [events.of_calls(calls) for calls in left]
        rank = self._rank(command, pid, left)
        if rank is not None and code:
            how = Status.of(code)
            told.append(events.of_exit(rank._replace(code=how.code, signal=how.signal, time=time.time_ns())))
        if self._folder is not None and told:
            self._append(self._folder, told)

    def _rank(self, command: Sequence[str], pid: int, left: list[LastCalls]) -> RankExit | None:
        """The rank that the command itself was, if it was one."""
        program = PurePath(command[0]).name
        argv = command if program.startswith("python") else ["python", *command]
        is_rank = roles.role(argv, self._environ) is roles.Role.RANK
        given = (roles.environment_rank(self._environ) if is_rank else None) or roles.RankIdentity(None)
        for calls in left:
            if calls.pid == pid and calls.rank is not None:
                given = roles.RankIdentity(calls.rank, calls.local_rank, calls.world_size)
        is_rank = is_rank or any(calls.pid == pid for calls in left)
        return RankExit(pid, given.rank, given.local_rank, given.world_size) if is_rank else None

    def _append(self, folder: Path, told: list[events.Event]) -> None:
        host = socket.gethostname()
        name = f"logs-{file_part(host)}-run-{os.getpid()}-{secrets.token_hex(3)}.jsonl"
        about: dict[str, Any] = {semconv.HOST_NAME: host, semconv.PROCESS_ID: os.getpid()}
        if self._environ.get("OTEL_SERVICE_NAME"):
            about[semconv.SERVICE_NAME] = self._environ["OTEL_SERVICE_NAME"]
        scope = {"name": semconv.SCOPE_COLLECTIVES, "version": __version__}
        records = {
            "resource": {"attributes": _pairs(about)},
            "scopeLogs": [{"scope": scope, "logRecords": [_record(one) for one in told]}],
            "schemaUrl": semconv.SCHEMA_URL,
        }
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(as_json({"resourceLogs": [records]}) + "\n")


def _record(event: events.Event) -> dict[str, Any]:
    return {
        "timeUnixNano": str(event.time),
        "observedTimeUnixNano": str(time.time_ns()),
        "severityNumber": _SEVERITIES[event.severity],
        "severityText": event.severity,
        "body": {"stringValue": event.body},
        "attributes": _pairs(event.attributes),
        "eventName": event.name,
    }


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As OTLP's JSON has them."""
    return [{"key": name, "value": _value(value)} for name, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}
