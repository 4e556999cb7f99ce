"""The command line: ``otel-netmon run | summary | flush | doctor``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_netmon.streams import replace_missing, say
from otel_netmon.version import __version__

__all__ = ["main"]

_RUN: Final = """\
run COMMAND so that every Python process in it is watched, then print a summary to stderr

The command needs no change. Its standard input, output and error, its signals and its exit code pass through as
they are; the summary goes to stderr, so that stdout can be piped.

Where telemetry goes, for traces and for metrics:
  OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT set   there, as OpenTelemetry has it
  none of them set                   to files in a new folder below ./otel-netmon-runs, and summed up at the end
  --output DIR                       to files in DIR, besides the above
"""
_RUN_EXIT: Final = """\
exit codes: the command's own; when a signal kills the command, the same signal ends this program;
  2 bad usage or a bad OTEL_NETMON_* variable, 126 the command cannot be executed, 127 it was not found
"""
_SUMMARY: Final = """\
sum up the files that `otel-netmon run` or the collector's file exporter wrote (OTLP JSON lines)

Files named *.jsonl and *.json directly in DIR are read; links are not followed.
"""
_FLUSH: Final = """\
deliver what earlier runs kept in DIR because no collector took it

The destination is set by OTEL_EXPORTER_OTLP_ENDPOINT and its like, as for a run. Files of running processes are
left alone.

exit codes: 0 nothing is left, 1 something is, 2 bad usage
"""
_DOCTOR: Final = """\
say what this machine and this environment can see, one line each

  ok    works
  note  works without it, or is worth knowing; the remedy follows
  FAIL  keeps the main job from running; the remedy follows

exit codes: 0 the main job can run, 1 something FAILs, 2 bad usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return its exit code."""
    replace_missing()
    arguments = list(sys.argv[1:] if argv is None else argv)
    own, command = _split(arguments) if arguments[:1] == ["run"] else (arguments, [])
    parser = _parser()
    try:
        options = parser.parse_args(own)
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else 2
    try:
        return _dispatch(parser, options, command)
    except BrokenPipeError:
        # The reader has gone (`… | head`). Nothing more can be said there, nor may the exit flush try.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130


def _dispatch(parser: argparse.ArgumentParser, options: argparse.Namespace, command: list[str]) -> int:
    if options.action == "run":
        from otel_netmon.cli.run import run

        if not command:
            say("no command given; usage: otel-netmon run [--output DIR] -- COMMAND...")
            return 2
        return run(command, output=options.output)
    if options.action == "summary":
        from otel_netmon.cli.summary import show

        return show(options.folder, as_json=options.json)
    if options.action == "flush":
        from otel_netmon.cli.flush import flush

        return flush(options.folder)
    if options.action == "doctor":
        from otel_netmon.cli.doctor import doctor

        return doctor()
    parser.print_help(sys.stderr)
    return 2


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our options of `run`, and the command: what follows ``--``, or the first word that is not an option."""
    place = 1
    while place < len(arguments):
        word = arguments[place]
        if word == "--":
            return arguments[:place], arguments[place + 1 :]
        if not word.startswith("-"):
            break
        place += 2 if word == "--output" else 1
    return arguments[:place], arguments[place:]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="otel-netmon",
        description="Watches the network side of distributed PyTorch training and reports it in OpenTelemetry.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"otel-netmon {__version__}")
    actions = parser.add_subparsers(dest="action", metavar="COMMAND")

    def add(name: str, description: str, usage: str, epilog: str = "") -> argparse.ArgumentParser:
        return actions.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            epilog=epilog,
            usage=f"otel-netmon {name} {usage}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    run = add("run", _RUN, "[--output DIR] [--] COMMAND...", _RUN_EXIT)
    run.add_argument("--output", metavar="DIR", type=_folder, help="folder for the files; made if need be")
    summary = add("summary", _SUMMARY, "DIR [--json]")
    summary.add_argument("folder", metavar="DIR", type=Path)
    summary.add_argument("--json", action="store_true", help="as JSON: seconds, bytes, bytes per second")
    flush = add("flush", _FLUSH, "DIR")
    flush.add_argument("folder", metavar="DIR", type=Path)
    add("doctor", _DOCTOR, "")
    return parser


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("a folder is needed")
    return Path(text)
