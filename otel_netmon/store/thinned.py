"""Lines without what a look at the steps does not need: spans of single collectives that went well are passed over
unread, for a step says of each of them when it began and how long it took."""

from __future__ import annotations

import json
from typing import Any, Final

from otel_netmon.store.problems import Problems
from otel_netmon.store.values import parse

_HEAD: Final = '{"resourceSpans":[{"resource":'
_PERIODS: Final = ('"name":"rank_', '"name":"train_step"')
_SPAN: Final = '{"traceId":'
_TELLING: Final = ('"error.type"', '"torch.distributed.collective.state"')
"""A line in which one failed, or did not end, is read as a whole."""
_decode: Final = json.JSONDecoder().raw_decode


def thinned(line: bytes, problems: Problems) -> dict[str, Any]:
    """A line's message; of spans, as this package writes them, only steps. In JSON a quote within a text is
    escaped: what is looked for here stands in none."""
    try:
        text = line.decode("utf-8")
        if (
            not text.startswith(_HEAD)
            or text.count('"scopeSpans":') != 1
            or any(word in text for word in _TELLING)
        ):
            return parse(line, problems)
        if not line.endswith(b"}]}]}\n"):
            return parse(line, problems)  # cut off, or somebody else's
        resource, _ = _decode(text, len(_HEAD))
        spans = [span for word in _PERIODS for span in _spans(text, word)]
    except (ValueError, RecursionError):
        return parse(line, problems)
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}


def _spans(text: str, word: str) -> list[Any]:
    found = []
    place = text.find(word)
    while place >= 0:
        span, end = _decode(text, text.rindex(_SPAN, 0, place))
        found.append(span)
        place = text.find(word, max(end, place + 1))
    return found
