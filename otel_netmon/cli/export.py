"""``otel-netmon export``: what it takes, and which way it goes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from otel_netmon.cli.arguments import steps
from otel_netmon.values import Ranks

EXPORT: Final = """\
give DIR's telemetry to another program: a timeline for Perfetto, or everything to a collector
"""
_PERFETTO: Final = """\
write DIR's telemetry as a timeline that https://ui.perfetto.dev opens

A row for each rank below its host: steps, in them collectives, in those the waiting for the last rank and the
transfer, and a flow from each rank that waited to where the last one came in. What the diagnosis found is
marked at its first step. Clocks of hosts are laid over one another at the ends of collectives;
how exactly is printed.
Needs the package perfetto: pip install 'otel-netmon[perfetto]'.
"""
_OTLP: Final = """\
send the telemetry files in DIR to a collector by OTLP, each line once

ENDPOINT is a base URL, as OTEL_EXPORTER_OTLP_ENDPOINT has it: http://localhost:4318, or with --protocol grpc
http://localhost:4317. Headers, certificates, compression and time limits are those of the standard variables.
What was delivered is noted in DIR: started again, after whatever interrupted it, it goes on from there.
"""
_OTLP_EXIT: Final = "exit codes: 0 nothing is left, 1 something is left, 2 wrong usage"
_PERFETTO_EXIT: Final = "exit codes: 0 it is written, 2 wrong usage, nothing in DIR, or no package perfetto"


def add_arguments(export: argparse.ArgumentParser) -> None:
    """The formats of ``export`` and their options."""
    formats = export.add_subparsers(dest="format", metavar="FORMAT", required=True)

    def add(name: str, description: str, usage: str, epilog: str) -> argparse.ArgumentParser:
        return formats.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            epilog=epilog,
            usage=f"otel-netmon export {name} {usage}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    perfetto = add("perfetto", _PERFETTO, "DIR [--steps A:B] [--ranks RANKS] [-o FILE]", _PERFETTO_EXIT)
    perfetto.add_argument("folder", metavar="DIR", type=Path, help="the folder with the files")
    perfetto.add_argument(
        "--steps", metavar="A:B", type=steps, help="from step A to step B, both included; each may be left out"
    )
    perfetto.add_argument(
        "--ranks", metavar="RANKS", type=_ranks, help="ranks and ranges, as 0,3-5, or /8 for every 8th"
    )
    perfetto.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="default: DIR's name with .pftrace, in this folder"
    )
    otlp = add("otlp", _OTLP, "DIR ENDPOINT [--protocol PROTOCOL] [--again] [--state FILE]", _OTLP_EXIT)
    otlp.add_argument("folder", metavar="DIR", type=Path, help="the folder with the files")
    otlp.add_argument("endpoint", metavar="ENDPOINT", help="the collector's base URL")
    otlp.add_argument(
        "--protocol",
        choices=("http/protobuf", "grpc"),
        help="default: that of OTEL_EXPORTER_OTLP_PROTOCOL, or else http/protobuf",
    )
    otlp.add_argument("--again", action="store_true", help="send also what was delivered before")
    otlp.add_argument(
        "--state",
        metavar="FILE",
        type=Path,
        help="where to note what is delivered, instead of in DIR: for a folder that cannot be written",
    )


def export(options: argparse.Namespace) -> int:
    """Do what ``options`` say; the exit code."""
    if options.format == "perfetto":
        from otel_netmon.cli.perfetto import export_perfetto

        return export_perfetto(options.folder, options.output, options.steps, options.ranks)
    from otel_netmon.cli.export_otlp import export_otlp

    return export_otlp(
        options.folder, options.endpoint, options.protocol, again=options.again, state=options.state
    )


def _ranks(text: str) -> Any:
    try:
        return Ranks(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not ranks and ranges, as 0,3-5, or /8") from None
