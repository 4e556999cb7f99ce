"""Values of OpenTelemetry's own variables that cannot work: a sentence for each, and what is used instead.

The SDK answers some such values with a traceback in every process and no telemetry, others with silence. Here, as
in ``config``, a wrong value costs one sentence, and its default is used, or what is left of a list. An empty value
counts as unset, as the specification has it, though the SDK often reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, MutableMapping
from typing import Final

from otel_netmon.sdk import otlp, values
from otel_netmon.sdk.values import PLACES, SIGNALS, Checked, Problem

_BATCH_SIZES: Final = ("2048", "512")
"""The SDK's defaults: of the queue, and of a batch."""
_CREDENTIALS: Final = "opentelemetry_otlp_credential_provider"
_ONE_NAME: Final[Mapping[str, str]] = {
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
_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    **{f"OTEL_{s.upper()}_EXPORTER": (f"opentelemetry_{s}_exporter", "n exporter") for s in SIGNALS},
    "OTEL_PROPAGATORS": ("opentelemetry_propagator", " propagator"),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": ("opentelemetry_resource_detector", " resource detector"),
}


def check(environ: Mapping[str, str], instead: str = "none") -> tuple[dict[str, str], tuple[Problem, ...]]:
    """``environ`` with values that work, and what did not.

    ``instead`` names the exporter of a signal whose endpoint can never take anything.
    """
    checked = Checked(environ)
    for part in _PARTS:
        part(checked)
    otlp.endpoints(checked, instead)
    return checked.environ, tuple(checked.problems)


def apply(
    works: Mapping[str, str],
    problems: Collection[Problem],
    environ: MutableMapping[str, str],
    logger: logging.Logger,
) -> None:
    """Put what works into ``environ``, this process's and its children's, and log what does not."""
    for problem in problems:
        logger.warning("otel-netmon: %s", problem.sentence)
    for name in [name for name in environ if name not in works]:
        del environ[name]
    environ.update({name: value for name, value in works.items() if environ.get(name) != value})


def silenced(environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Why nothing is recorded, or not where one would look, though every value is in order."""
    given = {name: value.strip() for name, value in environ.items() if name.startswith("OTEL_")}
    found = []
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        found.append(Problem("OTEL_SDK_DISABLED", "is true, so OpenTelemetry records nothing", lost=True))
    elif given.get("OTEL_CONFIG_FILE"):
        found.append(Problem("OTEL_CONFIG_FILE", "is set, so it is used and other OTEL_* are ignored"))
    name = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    off = [part.strip() for part in given.get(name, "").split(",")]
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


def names(checked: Checked, among: Collection[str] | None = None) -> None:
    """What names something that has to be installed; ``among`` some variables."""
    given = checked.environ.keys() if among is None else checked.environ.keys() & set(among)
    for name in sorted(_ONE_NAME.keys() & given):
        known = values.installed(_ONE_NAME[name])
        value = _as_known(checked.environ[name], known)
        if value in known:
            checked.put(name, value)
        else:
            there = f"installed: {', '.join(known)}" if known else "none is"
            checked.refuse(name, f"is not installed ({there}); ignoring it", None)
    for name in sorted(_NAMES.keys() & given):
        group, what = _NAMES[name]
        known = values.installed(group)
        chosen = [_as_known(part, known) for part in checked.environ[name].split(",") if part.strip()]
        if name.endswith("_EXPORTER") and len(chosen) > 1:
            chosen = [part for part in chosen if part != "none"]  # among others it would be a name that is missing
        missing = [part for part in chosen if part not in known and part not in ("none", "*")]
        left = ",".join(part for part in chosen if part not in missing) or None
        if missing:
            why = f"names {', '.join(missing)[:64]}, a{what} that is not installed (installed: {', '.join(known)})"
            rest = f"using {left}" if left else "treating it as unset"
            checked.refuse(name, f"{why}; {rest}", left)
        else:
            checked.put(name, left)


def _as_known(text: str, known: list[str]) -> str:
    """Without blanks; in lower case where that is a name: the specification ignores case."""
    name = text.strip()
    return name.lower() if name not in known and name.lower() in [*known, "none"] else name


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


_PARTS: Final = (
    *(values.plain_values, _config_file, names, _sampler, _batches),
    *(otlp.protocols, otlp.by_protocol, otlp.pairs),
)
