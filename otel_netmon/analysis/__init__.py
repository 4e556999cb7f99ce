"""Reads telemetry from files and works out what it says; never touches the live process, never imports torch."""
