"""Real trainings with one fault each, on hosts in network namespaces, and how the diagnosis fares: root only."""
