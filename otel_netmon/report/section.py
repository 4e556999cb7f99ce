"""A section of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from otel_netmon.report.blocks import Block


@dataclass(frozen=True)
class Section:
    """``missing`` stands in for the pictures and says why there are none."""

    id: str
    title: str
    text: str = ""
    pictures: tuple[Markup, ...] = ()
    legend: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    notes: tuple[str, ...] = ()
    table: Block | None = None
    of: str = ""
    """How many rows of the table there are of how many."""
    is_open: bool = False
    """Whether the table is shown at once."""
