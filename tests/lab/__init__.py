"""Hosts in network namespaces, joined by a bridge, with links that are shaped and lossy: root only."""
