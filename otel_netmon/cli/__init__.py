"""The command line: ``otel-netmon run | live | summary | diagnose | report | query | export | …``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_netmon.cli import sql
from otel_netmon.cli.export import EXPORT, add_arguments, export
from otel_netmon.cli.source import place
from otel_netmon.streams import replace_missing, say
from otel_netmon.version import __version__

__all__ = ["main"]

_RUN: Final = """\
run COMMAND with every Python process in it instrumented, then print a summary to stderr

The command needs no change. Its standard input, output and error, its signals and its exit code are passed through
unchanged; the summary goes to stderr, so that stdout can be piped.

Traces, metrics and logs each go
  to the exporter or OTLP endpoint that the standard variables name for them (OTEL_TRACES_EXPORTER,
  OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT);
  otherwise to files in a new folder below ./otel-netmon-runs, from which the summary is made.
With --output DIR they go to files in DIR as well.
"""
_RUN_EXIT: Final = """\
exit codes:
  that of COMMAND; if a signal kills COMMAND, otel-netmon ends with the same signal
  2    wrong usage, or an invalid OTEL_NETMON_* variable
  126  COMMAND cannot be executed
  127  COMMAND was not found
"""
_LIVE: Final = """\
watch a run while it goes on, from the files in DIR that it writes: in another terminal, as often as you like

Step, median, the verdict of the last 60 steps, the worst ranks, NICs, and calls that stall, once a second; in a
pipe a line every 10 s. The run is not touched and does not notice. Ends with the run and a verdict of all of it.
Keys: q ends, p pauses, arrows show other ranks, ? explains.
"""
_LIVE_EXIT: Final = "exit codes: 0 the run is over, or q was pressed, 2 there is no such folder"
_SUMMARY: Final = """\
summarise the telemetry files in DIR

These are the OTLP JSON lines that `otel-netmon run` or the file exporter of the OpenTelemetry Collector wrote. All
files directly in DIR that are named *.jsonl or *.json are read; symbolic links are not followed.
"""
_DIAGNOSE: Final = """\
name the slow rank, the slow link or the missing rank in DIR's telemetry, and why

Reads the same files as `summary`. Ranks are compared with one another, and no clock of one host with another's.
Says so where nothing stands out, and where the evidence does not suffice.
"""
_REPORT: Final = """\
write one HTML page about DIR's telemetry: the verdict, where the time went, who came late and when

Reads the same files as `summary` and says the same. The page needs no network and no other file, and its path is
printed. `otel-netmon run` writes it beside the files.
"""
_FLUSH: Final = """\
deliver what earlier runs spooled in DIR because no collector accepted it

The destination is that of a run: OTEL_EXPORTER_OTLP_ENDPOINT and the other OTLP variables name it. Files of
processes that are still running are left alone.
"""
_FLUSH_EXIT: Final = "exit codes: 0 nothing is left, 1 something is left, 2 wrong usage"
_BUILD: Final = """\
compile the native capture for the installed torch, once per image or machine

With it, and torch 2.14 or later, collectives are recorded in C++, at a tenth of the cost per call; without it they
are recorded in Python. Needs a C++ compiler, ninja and Python's headers, here but not where the job runs. What was
built is put into ~/.cache/otel-netmon, or the folder that OTEL_NETMON_NATIVE_DIR names; its path is printed.
"""
_BUILD_EXIT: Final = "exit codes: 0 it is there, 1 it cannot be built, 2 wrong usage"
_DOCTOR: Final = """\
check what can be observed on this machine and in this environment

Prints one line per check:
  ok    it works
  note  it is missing but not needed, or worth knowing; how to change it follows
  FAIL  it keeps otel-netmon from doing its main job; how to fix it follows
"""
_DOCTOR_EXIT: Final = "exit codes: 0 otel-netmon can do its main job, 1 at least one check FAILs, 2 wrong usage"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return its exit code."""
    replace_missing()
    arguments = list(sys.argv[1:] if argv is None else argv)
    own, command = _split(arguments) if arguments[:1] == ["run"] else (arguments, [])
    parser = _parser()
    try:
        options = parser.parse_args(own)
    except SystemExit as stop:  # argparse has printed the reason
        return stop.code if isinstance(stop.code, int) else 2
    try:
        return _dispatch(parser, options, command)
    except BrokenPipeError:
        # The reader has gone (`… | head`). Nothing more can be written there, and the flush at exit must not try.
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
    if options.action == "live":
        from otel_netmon.cli.live import live

        return live(options.folder)
    if options.action == "summary":
        from otel_netmon.cli.summary import show

        return show(options.folder, options.run_id, as_json=options.json)
    if options.action == "diagnose":
        from otel_netmon.cli.diagnose import show as show_diagnosis

        return show_diagnosis(options.folder, options.run_id, as_json=options.json)
    if options.action == "report":
        from otel_netmon.cli.report import report

        return report(options.folder, options.run_id, options.output)
    if options.action == "export":
        return export(options)
    if options.action in sql.COMMANDS:
        return sql.run(options)
    if options.action == "flush":
        from otel_netmon.cli.flush import flush

        return flush(options.folder)
    if options.action == "build":
        from otel_netmon.cli.build import build

        return build(again=options.force)
    if options.action == "doctor":
        from otel_netmon.cli.doctor import doctor

        return doctor()
    parser.print_help(sys.stderr)
    return 2


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our own options of `run`, and the command: after ``--``, or from the first word that is not an option."""
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
        description="OpenTelemetry for the network side of distributed PyTorch training.",
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
            usage=f"otel-netmon {name} {usage}".rstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    run = add("run", _RUN, "[--output DIR] [--] COMMAND...", _RUN_EXIT)
    run.add_argument(
        "--output",
        metavar="DIR",
        type=_folder,
        help="write files to this folder; it is created if it does not exist",
    )
    live = add("live", _LIVE, "[DIR]", _LIVE_EXIT)
    live.add_argument(
        "folder", metavar="DIR", type=Path, nargs="?", help="default: the newest in ./otel-netmon-runs"
    )
    summary = add("summary", _SUMMARY, "DIR [--run ID] [--json]")
    _add_source(summary)
    summary.add_argument(
        "--json", action="store_true", help="print JSON; units are seconds, bytes and bytes per second"
    )
    diagnose = add("diagnose", _DIAGNOSE, "DIR [--run ID] [--json]")
    _add_source(diagnose)
    diagnose.add_argument("--json", action="store_true", help="print JSON; each fact says its unit")
    report = add("report", _REPORT, "DIR [--run ID] [-o FILE]")
    _add_source(report)
    report.add_argument("-o", "--output", metavar="FILE", type=Path, help="the page; default: DIR/report.html")
    add_arguments(add("export", EXPORT, "perfetto | otlp ..."))
    sql.add_commands(add)
    flush = add("flush", _FLUSH, "DIR", _FLUSH_EXIT)
    flush.add_argument("folder", metavar="DIR", type=Path, help="the spool folder (OTEL_NETMON_SPOOL_DIR)")
    build = add("build", _BUILD, "[--force]", _BUILD_EXIT)
    build.add_argument("--force", action="store_true", help="compile it even if it is there")
    add("doctor", _DOCTOR, "", _DOCTOR_EXIT)
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    where = "the folder with the files, or the URL of a ClickHouse database, see `otel-netmon query --help`"
    command.add_argument("folder", metavar="DIR", type=place, help=where)
    command.add_argument("--run", metavar="ID", dest="run_id", help="of this run of the database alone")


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name of a folder is missing")
    return Path(text)
