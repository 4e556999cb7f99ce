"""What a sample gives: points, each a metric with a value and attributes; and how tables make them of values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from opentelemetry.util.types import AttributeValue

from otel_netmon import semconv

Attributes: TypeAlias = Mapping[str, AttributeValue]

_NONE: Final[Attributes] = {}
_DIRECTIONS: Final = (semconv.DIRECTION_RECEIVE, semconv.DIRECTION_TRANSMIT)


class Point(NamedTuple):
    """One value of one metric. A point of a histogram is one measurement; of all others, the present state.

    A value that was not measured has no point. Attributes may be shared between points: nobody changes them.
    """

    metric: semconv.Metric
    value: float
    attributes: Attributes = _NONE


Row: TypeAlias = tuple[semconv.Metric, str] | tuple[semconv.Metric, str, str]
"""A metric and the field with its value; or two fields, with what was received and what was sent."""


def points_of(
    rows: Iterable[Row], read: Callable[[str], float | None], *about: tuple[str, AttributeValue]
) -> Iterator[Point]:
    """A point for each field of ``rows`` that ``read`` gives (``None``: not measured), with these attributes."""
    for metric, *fields in rows:
        for field, direction in zip(fields, _DIRECTIONS if len(fields) > 1 else (None,), strict=True):
            value = read(field)
            if value is not None:
                more = () if direction is None else ((semconv.DIRECTION, direction),)
                yield Point(metric, int(value) if isinstance(value, bool) else value, attributes(*about, *more))


@functools.lru_cache(maxsize=4096)
def attributes(*about: tuple[str, AttributeValue]) -> Attributes:
    """The same mapping for the same pairs, as long as it is in use: built once, not at each sample."""
    return {str(name): value for name, value in about}  # plain strings, where semconv's know more than their name
