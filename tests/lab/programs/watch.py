"""Samples the named NIC until its standard input closes: one JSON line per sample of NIC and throughput."""

import json
import sys
import threading

from otel_netmon.monitors import NetworkBandwidthMonitor, NetworkInterfaceMonitor

nic, interval = sys.argv[1], float(sys.argv[2])
monitor = NetworkInterfaceMonitor([nic], rate_window=interval * 0.9)
bandwidth = NetworkBandwidthMonitor(interface_monitor=monitor)
ended = threading.Event()


def listen() -> None:
    sys.stdin.read()
    ended.set()


threading.Thread(target=listen, daemon=True).start()


def show() -> None:
    stats = monitor.get_interface_stats()
    print(json.dumps({"nic": stats[nic].to_dict(), "all": bandwidth.update(stats).to_dict()}), flush=True)


show()
while not ended.wait(interval):
    show()
show()
