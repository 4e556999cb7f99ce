"""No page, configuration or message shows a command that does not exist.

Commands in code, in indented and fenced blocks and in comments: ours with their options, the Makefile's targets
with its variables, ``opentelemetry-instrument`` with its options, and the files that a command names.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import opentelemetry.environment_variables as api_variables
import opentelemetry.instrumentation.environment_variables as instrumentation_variables
import opentelemetry.sdk.environment_variables as sdk_variables
import pytest

from otel_netmon import cli
from tests.installed import ROOT

PATTERNS = (
    *("*.md", "docs/*.md", "Makefile", ".ci/run", "otel_netmon/**/*.py", "examples/*.py"),
    *("alerts/**/*.yaml", "collector-config/**/*.yaml", "dashboards/**/*.json"),
)
FILES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))

FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"(?:(?<=[`\"'])|^(?: {4,}|# {2,}|\$ )|usage: )(?:sudo )?(?:[A-Z_]+=(?:\"[^\"]*\"|\S+) )*"
    r"(otel-netmon|make|opentelemetry-instrument|otelcol-contrib|docker|promtool)(?= [a-z-])([^`\n]*)",
    re.MULTILINE,
)
OPTION = re.compile(r"`(--[a-z][a-z-]*)(?=[ `])")
"""One of ours, by itself; those of others that are on the pages have dots."""
FOLDERS = "alerts|benchmarks|collector-config|dashboards|docs|examples|tests"
FILE = re.compile(rf"(?<=[ =\"])(?:{FOLDERS})/[\w./-]*\w")


@cache
def options() -> dict[str, frozenset[str]]:
    """Of ours, by subcommand, with those of its own subcommands; those of the command itself are under ``""``."""
    parser = cli._parser()
    found = {name: frozenset(options_below(each)) for name, each in parsers_below(parser).items()}
    return {"": frozenset(parser._option_string_actions), **found}


def parsers_below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return {name: each for some in choices for name, each in some.items()}


def options_below(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from parser._option_string_actions
    for each in parsers_below(parser).values():
        yield from options_below(each)


@cache
def targets() -> tuple[frozenset[str], frozenset[str]]:
    """The Makefile's targets and variables."""
    makefile = (ROOT / "Makefile").read_text()
    found = (r"^([a-z0-9-]+):", r"^([A-Z_]+) \?=")
    of_targets, of_variables = (frozenset(re.findall(each, makefile, re.MULTILINE)) for each in found)
    return of_targets, of_variables


@cache
def options_of_opentelemetry() -> frozenset[str]:
    """``opentelemetry-instrument`` makes an option of each variable."""
    modules = (api_variables, instrumentation_variables, sdk_variables)
    names = {name for module in modules for name in vars(module) if name.startswith("OTEL_")}
    return frozenset(
        {"--help", "--version", *("--" + re.sub("OTEL_(PYTHON_)?", "", name).lower() for name in names)}
    )


def unknown_commands(text: str) -> Iterator[str]:
    """Commands that do not exist, options and variables that theirs does not have, files that are not there."""
    text = FENCE.sub(lambda block: re.sub("^", "    ", block[1], flags=re.MULTILINE), text)
    for program, rest in COMMAND.findall(text):
        own = re.split(r" -- | # | \| | {3,}|[\"'] ", rest)[0].split()
        if program == "otel-netmon":
            yield from (f"{program} {one}" for one in unknown_of_ours(own))
        elif program == "make":
            names, variables = targets()
            given = [word for word in own if "=" not in word][:1]
            yield from (f"make {one}" for one in {word.rstrip(".,;:)\"'") for word in given} - names)
            yield from (f"make {one}=" for one in set(re.findall(r"\b([A-Z_]+)=", " ".join(own))) - variables)
        elif program == "opentelemetry-instrument":
            before = own[: next((place for place, word in enumerate(own) if not word.startswith("-")), len(own))]
            given = [word.partition("=")[0] for word in before]
            yield from (f"{program} {one}" for one in given if one not in options_of_opentelemetry())
        yield from (f"no file {one}" for one in FILE.findall(rest) if not (ROOT / one).exists())
    yield from (one for one in OPTION.findall(text) if not any(one in each for each in options().values()))


def unknown_of_ours(words: list[str]) -> Iterator[str]:
    command = re.findall(r"^(?:[a-z]+(?:-[a-z]+)*)?", words[0])[0]
    if command not in options():
        yield command
        return
    given = {option for word in words for option in re.findall(r"^\[?(--[a-z][a-z-]*)", word)}
    yield from (f"{command} {one}" for one in sorted(given - options()[command]))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_shown_exists(file: Path) -> None:
    assert not list(unknown_commands(file.read_text()))


def test_the_pages_show_the_commands_that_matter() -> None:
    shown = "\n".join(file.read_text() for file in FILES if file.suffix == ".md")
    found = {(program, rest.split()[0]) for program, rest in COMMAND.findall(shown)}
    assert {("otel-netmon", name) for name in options() if name} <= found
    assert {("make", name) for name in ("demo", "test", "bench", "docs", "lint", "e2e", "lab")} <= found
    assert ("opentelemetry-instrument", "torchrun") in found


@pytest.mark.parametrize(
    "text",
    [
        "`otel-netmon sumary DIR`",
        "    otel-netmon run --out DIR -- torchrun --nproc-per-node 2",
        "`otel-netmon summary DIR --format`",
        "```\notel-netmon doktor\n```",
        "#   OTEL_SERVICE_NAME=train otel-netmon rum -- torchrun train.py",
        "`otel-netmon --verbose`",
        "`--as-json` prints it as JSON",
        "`make dem`",
        "    sudo make labs # as root",
        '`make demo PIP_FLAG="--pre"`',
        "```\nmake tests PYTEST_FLAGS=-x\n```",
        "    opentelemetry-instrument --trace_exporter otlp torchrun train.py",
        "    opentelemetry-instrument --traces_exporters=otlp python train.py",
        "    otel-netmon run -- torchrun examples/slow_ranks.py",
        "    otelcol-contrib --config collector-config/locale.yaml",
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    assert len(list(unknown_commands(text))) == 1
