"""What is packed into the rows of steps, in SQL: collectives of which there are no spans, and sums by group.

A step's calls are numbered back from the last of their group, as ``analysis.waiting`` does; those of steps with
spans are left out, so that spans and these together have each call once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

NAMES: Final = ("calls_of_steps", "sums_of_steps")
"""Of the tables."""
MADE_OF: Final = frozenset(("steps", "collectives"))
"""The tables that these read, several times."""
WHO: Final = "coalesce(rank, source_rank)"
"""A row's rank."""
_GROUP: Final = "Tuple(String, UInt64, UInt64, Nullable(Int64), Nullable(Int64), Nullable(Int64))"
_OF_STEP: Final = "name, run_id, step, trace_id"
_OF_RANK: Final = "source_rank, source_instance"
_USED: Final = (
    f"SELECT {_OF_STEP}, {_OF_RANK}, {WHO} AS who, start AS begin, calls, "
    f"JSONExtract(assumeNotNull(groups), 'Array({_GROUP})') AS used "
    "FROM {steps} WHERE groups IS NOT NULL AND sampled = false"
)
"""Steps whose collectives have no spans, and per group: name, calls, bytes, µs, last sequence number, ranks."""


def select(name: str, table: Callable[[str], str] = str) -> str:
    """The SELECT of one of them; ``table`` gives the name of a table that it is made of."""
    steps, collectives = table("steps"), table("collectives")
    return (_calls if name == "calls_of_steps" else _sums)(_USED.format(steps=steps), collectives)


def _spans(collectives: str) -> str:
    return f"SELECT trace_id, ifNull({WHO}, -1) FROM {collectives}"


def _back(*arrays: str) -> str:
    """How many are alike from each element to the end."""
    return f"arrayReverse(arrayEnumerateUniq({', '.join(f'arrayReverse({each})' for each in arrays)}))"


def _calls(used: str, collectives: str) -> str:
    """``position`` counts the calls of a step; ``start`` and ``end`` are nanoseconds, ``seconds`` may be NULL."""
    column = "JSONExtract(assumeNotNull(calls), '{}', 'Array({})')"
    after, begun = (column.format(each, "Int64") for each in ("after", "start"))
    packed = (
        f"SELECT *, {column.format('kinds', 'Array(String)')} AS kinds, "
        f"{column.format('kind', 'UInt32')} AS places, "
        f"if(JSONHas(assumeNotNull(calls), 'after'), arrayCumSum({after}), {begun}) AS starts, "
        f"{column.format('duration', 'Nullable(Int64)')} AS durations FROM ({used}) WHERE calls IS NOT NULL"
    )
    whole = "length(places) = length(starts) AND length(places) = length(durations) "
    whole += "AND arrayAll(place -> place < length(kinds), places)"
    named = (
        "SELECT *, arrayMap(place -> kinds[place + 1][1], places) AS operations, "
        "arrayMap(place -> kinds[place + 1][2], places) AS of_groups, "
        "arrayMap(each -> each IN ('send', 'recv'), operations) AS are_single "
        f"FROM ({packed}) WHERE {whole} AND (trace_id, ifNull(who, -1)) NOT IN ({_spans(collectives)})"
    )
    each = (
        f"SELECT {_OF_STEP}, {_OF_RANK}, who, begin, operation, of_group, position, is_single, began, took, "
        "left_over, of_number + of_rest - 1 AS in_group, "
        "used[indexOf(arrayMap(each -> each.1, used), of_group)] AS use "
        f"FROM ({named}) ARRAY JOIN operations AS operation, of_groups AS of_group, starts AS began, "
        "durations AS took, are_single AS is_single, arrayEnumerate(operations) AS position, "
        f"{_back('of_groups', 'are_single')} AS left_over, arrayEnumerateUniq(of_groups) AS of_number, "
        f"{_back('of_groups')} AS of_rest"
    )
    return (
        f"SELECT {_OF_STEP}, who AS rank, operation, of_group AS `group`, position, "
        "if(is_single OR use.2 != in_group, NULL, use.5 - left_over + 1) AS sequence, use.6 AS group_size, "
        "begin + began * 1000 AS start, if(took IS NULL, NULL, begin + (began + took) * 1000) AS end, "
        f"took / 1e6 AS seconds, {_OF_RANK} FROM ({each})"
    )


def _sums(used: str, _collectives: str) -> str:
    """A row for each group of a step."""
    return (
        f"SELECT {_OF_STEP}, who AS rank, use.1 AS `group`, use.2 AS calls, use.3 AS size, "
        f"use.4 / 1e6 AS seconds, use.5 AS last_sequence, use.6 AS group_size, {_OF_RANK} "
        f"FROM ({used}) ARRAY JOIN used AS use WHERE use.2 > 0"
    )
