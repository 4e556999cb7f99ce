"""RDMA ports in sysfs: parsers, and which counter of which driver means what.

Names as the kernel's ``Documentation/ABI/stable/sysfs-class-infiniband``, ``drivers/infiniband/core/sysfs.c`` and
the drivers write them. Pure functions, no I/O, no exception. None of it was seen on hardware.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_netmon.monitors.procfs import parse_int
from otel_netmon.monitors.values import _Value

_FULL: Final = 0xFFFFFFFF  # a 32-bit counter stays there: it does not wrap
_RATE: Final = re.compile(rb"\s*(\d{1,6}(?:\.\d{1,3})?)\s*Gb/sec")
_PCI: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")

Alternatives = tuple[tuple[str, ...], ...]
"""The first of these sets of which a driver has any member counts, as the sum of those that it has."""

_IN_WORDS: Final = frozenset(("port_xmit_data", "port_xmit_data_64", "port_rcv_data", "port_rcv_data_64"))
"""Counters of 4 bytes each."""
_NARROW: Final = ("port_xmit_data", "port_rcv_data", "port_xmit_packets", "port_rcv_packets")
"""Those that have 32 bits where the driver has no wider set."""
_UNICAST: Final = "unicast_xmit_packets"  # comes with the wider set only

# InfiniBand's own; mlx5; bnxt_re; EFA; irdma and its forerunner i40iw
MEANINGS: Final[Mapping[str, Alternatives]] = {
    "bytes_sent": (
        ("port_xmit_data_64",), ("port_xmit_data",), ("tx_bytes",), ("ip4OutOctets", "ip6OutOctets"),
    ),
    "bytes_received": (
        ("port_rcv_data_64",), ("port_rcv_data",), ("rx_bytes",), ("ip4InOctets", "ip6InOctets"),
    ),
    "packets_sent": (
        ("port_xmit_packets_64",), ("port_xmit_packets",), ("tx_pkts",), ("ip4OutPkts", "ip6OutPkts"),
    ),
    "packets_received": (
        ("port_rcv_packets_64",), ("port_rcv_packets",), ("rx_pkts",), ("ip4InPkts", "ip6InPkts"),
    ),
    "retransmits": (
        ("roce_adp_retrans",), ("to_retransmits",), ("retrans_pkts",), ("tcpRetransSegs",), ("RetransSegs",),
    ),
    "out_of_sequence": (("out_of_sequence",), ("oos_drop_count",)),
    "sequence_naks": (("packet_seq_err",), ("seq_err_naks_rcvd",)),
    "rnr_naks": (("rnr_nak_retry_err",), ("rnr_naks_rcvd",)),
    "ack_timeouts": (("local_ack_timeout_err",), ("retrans_timeout_events",)),
    "cnp_sent": (("np_cnp_sent",), ("tx_cnp_pkts",), ("cnpSent",)),
    "cnp_handled": (("rp_cnp_handled",), ("rx_cnp_pkts",), ("cnpHandled",)),
    "ecn_marked": (("np_ecn_marked_roce_packets",), ("rx_ecn_marked_pkts",), ("RxECNMrkd",)),
    "discards_received": (
        ("out_of_buffer",), ("rx_roce_discards",), ("rx_drops",), ("ip4InDiscards", "ip6InDiscards"),
    ),
    "discards_sent": (("port_xmit_discards",), ("tx_roce_discards",)),
    "receive_errors": (("port_rcv_errors",), ("rx_roce_errors",), ("InProtoErrors",), ("tcpInProtoErrors",)),
    "transmit_wait": (("port_xmit_wait",),),
    "link_downed": (("link_downed",),),
    "link_recovered": (("link_error_recovery",),),
    "symbol_errors": (("symbol_error",),),
    "remote_faults": (("unresponsive_remote_events", "impaired_remote_conn_events"),),
}  # fmt: skip

FOLDERS: Final = ("counters_ext", "counters", "hw_counters")
"""Folders of a port, the one that is looked at first first."""

NAMES: Final = frozenset(name for sets in MEANINGS.values() for one in sets for name in one) | {_UNICAST}
"""Every counter that is read."""


@dataclass(frozen=True)
class RdmaPortStats(_Value):
    """One port of an RDMA device at one moment.

    ``counters`` are totals by meaning (``MEANINGS``), as the driver has them, without those that are full. Bytes
    are By, also where the driver counts words. ``speed`` is the link's rate in By/s, one direction; rates (By/s)
    and utilisations (0 to 1) are of the time between two samples. ``saturated`` names 32-bit counters that are
    full.
    """

    device: str
    port: int
    time: float
    state: str | None = None
    physical_state: str | None = None
    link_layer: str | None = None
    speed: float | None = None
    interface: str | None = None
    pci_address: str | None = None
    numa_node: int | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    transmit_rate: float | None = None
    receive_rate: float | None = None
    transmit_utilization: float | None = None
    receive_utilization: float | None = None
    saturated: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """``device:port``, which is unique on a host."""
        return f"{self.device}:{self.port}"

    @property
    def up(self) -> bool | None:
        """Whether the port can carry traffic; ``None`` where the state is unknown."""
        return None if self.state is None else self.state == "ACTIVE"


def parse_state(data: bytes | None) -> str | None:
    """``state`` and ``phys_state``: the word of ``4: ACTIVE``; ``None`` when it is not one."""
    number, colon, word = (data or b"").strip().partition(b":")
    text = word.strip()[:32].decode("ascii", "replace")
    return text if colon and number.isdigit() and text.isprintable() and text else None


def parse_rate(data: bytes | None) -> float | None:
    """``rate``, as ``200 Gb/sec (4X HDR)``, in By/s; ``None`` where there is none."""
    match = _RATE.match(data or b"")
    gigabits = float(match[1]) if match else 0.0
    return gigabits * 1e9 / 8 or None


def parse_pci_address(name: str) -> str | None:
    """The PCI address that the link ``device`` leads to; ``None`` for devices that have none."""
    return name if _PCI.fullmatch(name) else None


def parse_numa_node(data: bytes | None) -> int | None:
    """``numa_node``; ``None`` where the system does not know it, which it calls -1."""
    node = parse_int(data)
    return node if node is not None and node >= 0 else None


def parts(files: Mapping[str, Mapping[str, bytes | None]]) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """The counters of a port by their meaning, each as those of the driver's that it is the sum of, by name; and
    the names of those that are full.

    ``files``: contents by folder and name.
    """
    merged: dict[str, int] = {}
    for folder in reversed(FOLDERS):
        for name, data in files.get(folder, {}).items():
            value = parse_int(data)
            if value is not None and value >= 0:
                merged[name] = value
    full = tuple(n for n in _NARROW if merged.get(n) == _FULL and not {f"{n}_64", _UNICAST} & merged.keys())
    for name in full:
        del merged[name]
    found: dict[str, dict[str, int]] = {}
    for meaning, sets in MEANINGS.items():
        for names in sets:
            if known := {n: merged[n] * (4 if n in _IN_WORDS else 1) for n in names if n in merged}:
                found[meaning] = known
                break
    return found, full
