"""The list of monitors, and the choice of those that this process runs.

Ours are listed here; another package registers its own in the entry-point group ``otel_netmon_monitors``, as a
class or a function called without arguments. Its attribute ``scope`` is ``"host"``, the default: once per host;
or ``"rank"``: in every process that trains. ``OTEL_NETMON_MONITORS`` chooses among all of them.
"""

from __future__ import annotations

import logging
import pkgutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, Final, Literal, NamedTuple

from otel_netmon import config
from otel_netmon.job import roles
from otel_netmon.monitors.bandwidth import NetworkBandwidthMonitor
from otel_netmon.monitors.base import Monitor
from otel_netmon.monitors.interface import NetworkInterfaceMonitor

_logger = logging.getLogger(__name__)

ENTRY_POINTS: Final = "otel_netmon_monitors"
ALL: Final = "all"


class MonitorSpec(NamedTuple):
    """A monitor that can be made. ``target`` is ``module:attribute`` of its class, or of a function without
    arguments that returns one; ``default`` decides whether it runs when the user named none."""

    name: str
    scope: Literal["host", "rank"]
    target: str
    default: Callable[[config.Config], bool] = lambda _: True


def _linux(_: config.Config) -> bool:
    return sys.platform == "linux"


def _probes_peers(settings: config.Config) -> bool:
    """Once per host is enough."""
    rank = roles.environment_rank()
    return settings.latency_peers and (rank is None or rank.local_rank in (0, None))


_HERE: Final = "otel_netmon.monitors."
BUILT_IN: Final = (
    MonitorSpec("interface", "host", _HERE + "interface:NetworkInterfaceMonitor"),
    MonitorSpec("bandwidth", "host", _HERE + "bandwidth:NetworkBandwidthMonitor"),
    MonitorSpec("latency", "host", _HERE + "latency:NetworkLatencyMonitor", lambda c: bool(c.latency_targets)),
    MonitorSpec("rdma", "host", _HERE + "rdma:RdmaMonitor", _linux),
    MonitorSpec("kernel", "host", _HERE + "kernel:KernelNetworkMonitor", _linux),
    MonitorSpec("pressure", "host", _HERE + "pressure:PressureMonitor", _linux),
    MonitorSpec("tcp", "rank", _HERE + "tcp:TcpMonitor", _linux),
    MonitorSpec("latency_peers", "rank", _HERE + "peer_latency:PeerLatencyMonitor", _probes_peers),
    MonitorSpec("process", "rank", _HERE + "pressure:ProcessPressureMonitor", _linux),
    MonitorSpec("distributed", "rank", _HERE + "distributed:DistributedNetworkMonitor"),
)


def choose(known: Sequence[MonitorSpec], selection: tuple[str, ...]) -> tuple[list[MonitorSpec], list[str]]:
    """Those of ``known`` that ``selection`` asks for, and the names in it that are none of theirs.

    ``name`` and ``all`` add, ``-name`` takes away; where nothing is added, all that run by default are there to be
    taken away from.
    """
    selection = tuple(one.lower() for one in selection)
    added = {one for one in selection if not one.startswith("-")}
    removed = {one[1:] for one in selection if one.startswith("-")}
    names = {one.name.lower() for one in known}
    settings = config.current()

    def is_in(one: MonitorSpec) -> bool:
        name = one.name.lower()  # the variable has no capitals, another package's names may
        usual = ALL not in removed and (not added or ALL in added) and one.default(settings)
        return name not in removed and (name in added or usual)

    return [one for one in known if is_in(one)], sorted((added | removed) - names - {ALL})


def monitors_for(*, host: bool, rank: bool) -> tuple[Monitor, ...]:
    """The monitors of this process, made without arguments: those of the host, those of a rank, or both.

    One that cannot be made, or that calls itself what another does, costs a warning, and no other.
    """
    known = (*BUILT_IN, *_installed())
    chosen, unknown = choose(known, config.current().monitors)
    for name in unknown:
        names = ", ".join(sorted(one.name for one in known))
        _logger.warning("OTEL_NETMON_MONITORS: there is no monitor %r; there are %s", name, names)
    made: dict[str, Monitor] = {}
    for one in chosen:
        monitor = _make(one) if (host if one.scope == "host" else rank) else None
        if monitor is not None and made.setdefault(monitor.name, monitor) is not monitor:
            _leave_out(one.name, f": there is one that calls itself {monitor.name}")
    nics, bandwidth = made.get("interface"), made.get("bandwidth")
    if type(nics) is NetworkInterfaceMonitor and type(bandwidth) is NetworkBandwidthMonitor:
        made["bandwidth"] = NetworkBandwidthMonitor(interface_monitor=nics)  # so that NICs are not watched twice
    return tuple(made.values())


def _leave_out(name: str, why: str) -> None:
    _logger.warning("monitor %s%s; it is left out", name, why)


def _installed() -> list[MonitorSpec]:
    """What other packages ship. A name that is taken is not given away; one that does not load is left out."""
    found: list[MonitorSpec] = []
    scope: Any
    for point in entry_points(group=ENTRY_POINTS):
        if point.name.lower() in {ALL, *(one.name.lower() for one in (*BUILT_IN, *found))}:
            _leave_out(point.name, f" of {point.value}: the name is taken (give it another)")
            continue
        try:
            scope = getattr(point.load(), "scope", "host")
        except Exception as error:  # noqa: BLE001  # a foreign package's fault costs nothing else
            _leave_out(point.name, f" cannot be loaded: {type(error).__name__}: {error}")
            continue
        found.append(MonitorSpec(point.name, scope, point.value))
    return found


def _make(one: MonitorSpec) -> Monitor | None:
    try:
        monitor: Any = pkgutil.resolve_name(one.target)()
        if not isinstance(monitor, Monitor) or not isinstance(monitor.name, str):
            raise TypeError(f"{one.target} gave {type(monitor).__name__}, not a Monitor with a name")
    except Exception as error:  # noqa: BLE001  # a foreign package's, perhaps: it costs nothing else
        _leave_out(one.name, f" cannot be made: {type(error).__name__}: {error}")
        return None
    return monitor
