"""Records out of what was exported: OTLP JSON files, or the tables of ClickHouse.

Imports the bottom floor alone; never touches a live process, never imports torch.
"""
