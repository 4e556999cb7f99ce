"""Ports of RDMA devices, InfiniBand and RoCE; beside these they fill the ``hw.network.*`` of NICs."""

from __future__ import annotations

from typing import Final

from otel_netmon.semconv.attributes import INTERFACE
from otel_netmon.semconv.model import Metric, counter, gauge
from otel_netmon.semconv.monitors import DIRECTION, HW_ID, HW_NAME

RDMA_LINK_LAYER: Final = "otel_netmon.rdma.link_layer"
RDMA_PCI_ADDRESS: Final = "otel_netmon.rdma.pci_address"
RDMA_NUMA_NODE: Final = "otel_netmon.rdma.numa_node"

_PORT: Final = (HW_ID, HW_NAME)
_DIRECTED: Final = (*_PORT, DIRECTION)

HW_IO: Final = counter("hw.network.io", "By", "Bytes an RDMA port sent and received.", _DIRECTED)
HW_PACKETS: Final = counter("hw.network.packets", "{packet}", "Packets an RDMA port sent and received.", _DIRECTED)
RDMA_PORT: Final = gauge(
    "otel_netmon.rdma.port",
    "1",
    "Always 1: which NIC, PCI address and NUMA node an RDMA port belongs to; what is unknown is left out.",
    (*_PORT, RDMA_LINK_LAYER, INTERFACE, RDMA_PCI_ADDRESS, RDMA_NUMA_NODE),
)


def _count(name: str, unit: str, description: str, attributes: tuple[str, ...] = _PORT) -> Metric:
    return counter(f"otel_netmon.rdma.{name}", unit, description, attributes)


RDMA_RETRANSMITS: Final = _count("retransmits", "{packet}", "Packets that the port sent again.")
RDMA_OUT_OF_SEQUENCE: Final = _count(
    "out_of_sequence", "{packet}", "Packets received with another sequence number than the next."
)
RDMA_SEQUENCE_NAKS: Final = _count(
    "sequence_naks", "{packet}", "Packets of the peer's that say: out of sequence, send again."
)
RDMA_RNR_NAKS: Final = _count(
    "rnr_naks", "{packet}", "Packets of the peer's that say: receiver not ready, there is no buffer posted."
)
RDMA_ACK_TIMEOUTS: Final = _count("ack_timeouts", "{timeout}", "Acknowledgements that did not come in time.")
RDMA_CNP: Final = _count(
    "cnp", "{packet}", "Congestion notifications (RoCE): sent to a peer, or received and obeyed.", _DIRECTED
)
RDMA_ECN_MARKED: Final = _count("ecn_marked", "{packet}", "Packets received that a switch marked as congested.")
RDMA_DISCARDS: Final = _count(
    "discards", "{packet}", "Packets without fault that the port dropped, for want of buffers say.", _DIRECTED
)
RDMA_RECEIVE_ERRORS: Final = _count("receive_errors", "{packet}", "Packets received with an error.")
RDMA_TRANSMIT_WAIT: Final = _count(
    "transmit_wait", "{tick}", "Ticks in which there was data to send and no credit to send it with (InfiniBand)."
)
RDMA_LINK_DOWNED: Final = _count("link.downed", "{event}", "How often the link failed, and stayed down.")
RDMA_LINK_RECOVERED: Final = _count("link.recovered", "{event}", "How often the link failed and recovered.")
RDMA_SYMBOL_ERRORS: Final = _count("symbol_errors", "{error}", "Minor errors on the lanes of the link.")
RDMA_REMOTE_FAULTS: Final = _count(
    "remote_faults", "{event}", "How often a remote connection did not respond, or was impaired (EFA)."
)
