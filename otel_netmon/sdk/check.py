"""Values of OpenTelemetry's own variables that cannot work: a sentence for each, and what is used instead.

The SDK answers some such values with a traceback in every process and no telemetry, others with silence. An empty
value counts as unset, as the specification has it, though the SDK often reads it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Set
from typing import Final

from otel_netmon.sdk import otlp, values
from otel_netmon.sdk.values import PLACES, SIGNALS, Checked, Problem
from otel_netmon.text import listed

_logger = logging.getLogger(__name__)

_BATCH_SIZES: Final = ("2048", "512")
"""The SDK's defaults: of the queue, and of a batch."""
_CREDENTIALS: Final = "opentelemetry_otlp_credential_provider"
_LISTS: Final[Mapping[str, str]] = {
    **{f"OTEL_{signal.upper()}_EXPORTER": f"opentelemetry_{signal}_exporter" for signal in SIGNALS},
    "OTEL_PROPAGATORS": "opentelemetry_propagator",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "opentelemetry_resource_detector",
}
"""Variables that list names of what is installed in a group of entry points."""
_NAMES: Final[Mapping[str, str]] = {
    **_LISTS,
    "OTEL_TRACES_SAMPLER": "opentelemetry_traces_sampler",
    "OTEL_PYTHON_ID_GENERATOR": "opentelemetry_id_generator",
    "OTEL_PYTHON_CONTEXT": "opentelemetry_context",
    "OTEL_PYTHON_CONFIGURATOR": "opentelemetry_configurator",
    "OTEL_PYTHON_DISTRO": "opentelemetry_distro",
    **{f"OTEL_PYTHON_{n}_PROVIDER": f"opentelemetry_{n.lower()}_provider" for n in ("TRACER", "METER", "LOGGER")},
    **{
        f"OTEL_PYTHON_{n}_CONFIGURATOR": f"_opentelemetry_{n.lower()}_configurator"
        for n in ("TRACER", "METER", "LOGGER")
    },
    **{
        f"OTEL_PYTHON_EXPORTER_OTLP_{by}_{p}CREDENTIAL_PROVIDER": _CREDENTIALS
        for by in ("GRPC", "HTTP")
        for p in PLACES
    },
}
"""The same, and those that name one."""


def check(environ: Mapping[str, str], instead: str = "none") -> tuple[dict[str, str], tuple[Problem, ...]]:
    """``environ`` with values that work, and what did not.

    ``instead`` names the exporter of a signal whose endpoint can never take anything.
    """
    checked = Checked(environ)
    for part in _PARTS:
        part(checked)
    otlp.endpoints(checked, instead)
    return checked.environ, tuple(checked.problems)


def apply(works: Mapping[str, str], problems: Iterable[Problem]) -> None:
    """Put what works into the environment, this process's and its children's, and log what does not."""
    for problem in problems:
        _logger.warning("otel-netmon: %s", problem.sentence)
    for name in os.environ.keys() - works.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in works.items() if os.environ.get(name) != value})


def silenced(environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Why nothing is recorded, or not where one would look, though every value is in order."""
    given = {name: value.strip() for name, value in environ.items() if name.startswith("OTEL_")}
    found = []
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        found.append(Problem("OTEL_SDK_DISABLED", "is true, so OpenTelemetry records nothing", lost=True))
    elif given.get("OTEL_CONFIG_FILE"):
        found.append(Problem("OTEL_CONFIG_FILE", "is set, so it is used and other OTEL_* are ignored"))
    name = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    off = listed(given.get(name, ""))
    if lost := [what for one, what in _INSTRUMENTORS.items() if one in off or "*" in off]:
        found.append(Problem(name, f"switches off {' and '.join(lost)}", lost=len(lost) == len(_INSTRUMENTORS)))
    if all(given.get(f"OTEL_{signal}_EXPORTER", "").lower() == "none" for signal in ("TRACES", "METRICS")):
        found.append(Problem("OTEL_TRACES_EXPORTER", "is none, and so is OTEL_METRICS_EXPORTER", lost=True))
    return tuple(found)


_INSTRUMENTORS: Final = {"netmon": "the monitors", "torch_distributed": "the capture of collectives"}


def _config_file(checked: Checked) -> None:
    name = "OTEL_CONFIG_FILE"
    if name not in checked.environ:
        return
    if not values.is_installed("opentelemetry.configuration"):
        checked.refuse(name, "needs the package opentelemetry-configuration; ignoring it", None)
    elif not values.is_readable(checked.environ[name]):
        checked.refuse(name, "is not a file that can be read; ignoring it", None)


def names(checked: Checked, among: Set[str] = _NAMES.keys()) -> None:
    """What names something that has to be installed; ``among`` some variables."""
    for name in sorted(checked.environ.keys() & among):
        known, value = values.installed(_NAMES[name]), checked.environ[name]
        accepted = [*known, "none", "*"] if name in _LISTS else known
        chosen = [_as_known(part, accepted) for part in (listed(value) if name in _LISTS else (value,))]
        if name.endswith("_EXPORTER") and len(chosen) > 1:
            chosen = [part for part in chosen if part != "none"]  # among others it would be a name that is missing
        missing = [part for part in chosen if part not in accepted]
        left = ",".join(part for part in chosen if part not in missing) or None
        if missing:
            kind = _NAMES[name].rpartition("_")[2]  # exporter, propagator, sampler, …
            what = f"{', '.join(missing)[:64]}, {'an' if kind == 'exporter' else 'a'} {kind}"
            there = f"is not installed (installed: {', '.join(known) or 'none'})"
            rest = f"using {left}" if left else "treating it as unset"
            checked.refuse(name, f"names {what} that {there}; {rest}", left)
        else:
            checked.put(name, left)


def _as_known(text: str, accepted: list[str]) -> str:
    """Without blanks; in lower case where that is a name: the specification ignores case."""
    name = text.strip()
    return name.lower() if name not in accepted and name.lower() in accepted else name


def _sampler(checked: Checked) -> None:
    name = "OTEL_TRACES_SAMPLER_ARG"
    if checked.environ.get("OTEL_TRACES_SAMPLER") not in ("traceidratio", "parentbased_traceidratio"):
        return
    try:
        fits = 0 <= float(checked.environ.get(name, "1.0")) <= 1
    except ValueError:
        fits = False
    if not fits:
        checked.refuse(name, "is not a number from 0 to 1; using 1.0", "1.0")
    checked.environ.setdefault(name, "1.0")  # the default, without the SDK's warning in every process


def _batches(checked: Checked) -> None:
    """A batch larger than the queue is refused by the SDK, also where one of them is its default."""
    for kind in ("BSP", "BLRP"):
        sizes = f"OTEL_{kind}_MAX_QUEUE_SIZE", f"OTEL_{kind}_MAX_EXPORT_BATCH_SIZE"
        queue, batch = (
            int(checked.environ.get(name, size)) for name, size in zip(sizes, _BATCH_SIZES, strict=True)
        )
        if batch > queue:
            wrong, size, why = (
                (sizes[0], queue, f"below the size of a batch ({batch})")
                if sizes[0] in checked.environ
                else (sizes[1], batch, f"above the size of the queue ({queue})")
            )
            checked.refuse(wrong, f"is {why}, which OpenTelemetry refuses; using {size} for both", str(size))
            for name in sizes:
                checked.put(name, str(size))


_PARTS: Final = (values.plain_values, _config_file, names, _sampler, _batches, otlp.protocols, otlp.pairs)
