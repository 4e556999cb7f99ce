"""``otel-netmon export otlp``: a folder's lines to a collector, with the guarantees of the delivery, and once."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from otel_netmon.cli.flush import ITEMS
from otel_netmon.cli.summary import reading
from otel_netmon.delivery import connect
from otel_netmon.delivery.otlp_lines import Message, NotOtlp, messages
from otel_netmon.delivery.patient import Patient
from otel_netmon.delivery.sent import NAME, Sent
from otel_netmon.delivery.transport import Outcome, Transport
from otel_netmon.report.words import size
from otel_netmon.sdk.check import apply, check
from otel_netmon.sdk.values import OTLP, SIGNALS, Signal
from otel_netmon.store.appended import Appended
from otel_netmon.store.files import telemetry_files
from otel_netmon.store.problems import FolderError, Problems
from otel_netmon.text import without_secrets

_REQUEST: Final = 1 << 20
"""Bytes of several lines that go as one request: collectors take 4 MB by gRPC."""
_PATIENCE: Final = 60.0
"""Seconds without an answer."""


class _Piece(NamedTuple):
    """What goes as one request: messages of one signal, and where in the file it ends."""

    parts: list[Message]
    end: int


class _GivenUp(Exception):
    """The collector does not answer."""


def export_otlp(folder: Path, endpoint: str, protocol: str | None, *, again: bool, state: Path | None) -> int:
    """Send what was not sent before; 0 when nothing is left, 1 otherwise, 2 where it cannot begin."""
    problems = Problems()
    try:
        paths = telemetry_files(folder, problems)
    except FolderError as error:
        _say(str(error), is_error=True)
        return 2
    if not _settle(endpoint, protocol):
        return 2
    destination = without_secrets(endpoint)
    try:
        sent = Sent(state or folder / NAME, destination, forget=again)
    except OSError as error:
        why = error.strerror or str(error)
        _say(f"what is delivered cannot be noted in {state or folder}: {why}; see --state", is_error=True)
        return 2
    try:
        return _Delivery(sent, problems).run(folder, paths, destination)
    except OSError as error:
        _say(f"it ends here: what is delivered cannot be noted: {error.strerror or error}", is_error=True)
        return 1
    finally:
        sent.close()


def _settle(endpoint: str, protocol: str | None) -> bool:
    """Put the destination into the environment, from which the official exporters read it; whether it can work."""
    environ = dict(os.environ)
    for signal in SIGNALS:
        environ[f"OTEL_{signal.upper()}_EXPORTER"] = "otlp"
        for what in ("ENDPOINT", "PROTOCOL"):
            environ.pop(f"{OTLP}{signal.upper()}_{what}", None)
    environ[f"{OTLP}ENDPOINT"] = endpoint
    environ[f"{OTLP}PROTOCOL"] = protocol or environ.get(f"{OTLP}PROTOCOL", "").strip() or "http/protobuf"
    works, wrong = check(environ)
    apply(works, wrong)
    return not any(problem.lost for problem in wrong)


@dataclass
class _Delivery:
    sent: Sent
    problems: Problems
    delivered: Counter[Signal] = field(default_factory=Counter)
    refused: Counter[Signal] = field(default_factory=Counter)
    reasons: dict[str, None] = field(default_factory=dict)
    unfinished: int = 0
    """Last lines without an end."""
    ways: dict[Signal, tuple[Transport, Patient]] = field(default_factory=dict)

    def run(self, folder: Path, paths: list[Path], destination: str) -> int:
        """All files, and what became of them; the exit code."""
        places = {path: self.sent.place(path.name, path.lstat().st_size) for path in paths}
        left = sum(path.lstat().st_size - place for path, place in places.items())
        given_up = ""
        with reading() as progress:
            done, total = 0, left

            def advance(count: int) -> None:
                nonlocal done
                done += count
                progress(done, max(total, done))

            try:
                for path, place in places.items():
                    self._file(Appended(path, place), advance)
            except _GivenUp as error:
                given_up = str(error)
        for transport, _ in self.ways.values():
            transport.close()
        self._report(folder, destination)
        if given_up:
            _say(
                f"{given_up}; {size(left - done)} of {folder} are left: started again, it goes on from there",
                is_error=True,
            )
        return 1 if given_up else 0

    def _report(self, folder: Path, destination: str) -> None:
        for signal, (transport, _) in self.ways.items():
            refused = f", {self.refused[signal]} refused" if self.refused[signal] else ""
            to = without_secrets(transport.endpoint)
            _say(f"{self.delivered[signal]} {ITEMS[signal]} delivered to {to}{refused}")
        if not self.ways:
            _say(f"{folder} holds nothing that was not delivered to {destination} before; --again sends it again")
        if self.reasons:
            _say(f"refused: {'; '.join(self.reasons)}", is_error=True)
        unread = (
            (self.problems.corrupt, "lines are no OTLP and are left out"),
            (self.unfinished, "lines have no end: their process was killed, or still writes"),
            (self.problems.files, "files are skipped (a link, or no permission)"),
        )
        for count, what in unread:
            if count:
                _say(f"{count} {what}", is_error=True)

    def _file(self, file: Appended, advance: Callable[[int], None]) -> None:
        place = file.offset
        for piece in self._pieces(file):
            self._piece(piece.parts)
            if piece.end > place:
                self.sent.note(file.path.name, piece.end)
            advance(piece.end - place)
            place = piece.end

    def _pieces(self, file: Appended) -> Iterator[_Piece]:
        """The rest of a file, in requests."""
        parts: list[Message] = []
        end, size_of_all = file.offset, 0
        while lines := self._lines(file):
            for line, behind in lines:
                for message in self._messages(line):
                    size_of_all += len(message.data)
                    if parts and (parts[0].signal != message.signal or size_of_all > _REQUEST):
                        yield _Piece(parts, end)
                        parts, size_of_all = [], len(message.data)
                    parts.append(message)
                end = behind
        yield _Piece(parts, file.offset)

    def _messages(self, line: bytes) -> list[Message]:
        try:
            return messages(line)
        except NotOtlp:
            self.problems.corrupt += 1
            return []

    def _lines(self, file: Appended) -> list[tuple[bytes, int]]:
        """The next ones; of the last without an end only what is a message all the same."""
        found = file.lines(self.problems)
        if found:
            return found
        before = file.offset
        rest = file.lines(self.problems, is_last=True)
        if rest and not _is_message(rest[-1][0]):
            self.unfinished += 1
            file.offset = before
            return []
        return rest

    def _piece(self, parts: list[Message]) -> None:
        if not parts:
            return
        outcome = self._send(parts)
        if outcome.kind == "rejected" and len(parts) > 1:  # too large, or one of them is bad: each for itself
            for part in parts:
                self._settle([part], self._send([part]))
        else:
            self._settle(parts, outcome)

    def _send(self, parts: list[Message]) -> Outcome:
        signal = parts[0].signal
        if signal not in self.ways:
            transport = connect.connect(signal)
            self.ways[signal] = transport, Patient(transport, _PATIENCE, self._failing)
        transport, patient = self.ways[signal]
        outcome = patient.send(b"".join(part.data for part in parts))
        if outcome.kind == "retry":
            raise _GivenUp(f"{without_secrets(transport.endpoint)} does not take it ({outcome.reason})")
        return outcome

    def _settle(self, parts: list[Message], outcome: Outcome) -> None:
        signal, items = parts[0].signal, sum(part.items for part in parts)
        gone = items if outcome.kind == "rejected" else min(outcome.rejected, items)
        self.delivered[signal] += items - gone
        self.refused[signal] += gone
        if gone:
            self.reasons[outcome.reason or "by a partial success"] = None

    @staticmethod
    def _failing(outcome: Outcome) -> None:
        _say(f"not delivered ({outcome.reason}); trying for {_PATIENCE:.0f} s", is_error=True)


def _is_message(line: bytes) -> bool:
    try:
        return bool(messages(line))
    except NotOtlp:
        return False


def _say(sentence: str, *, is_error: bool = False) -> None:
    print(f"otel-netmon export: {sentence}", file=sys.stderr if is_error else sys.stdout)
