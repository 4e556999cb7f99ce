"""What we replace in modules and classes of others: put in one by one, taken out by identity."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

_logger = logging.getLogger(__name__)

_MISSING: Final = object()


class Patches:
    """Replacements that stand from ``put`` to ``remove``."""

    def __init__(self) -> None:
        self._standing: list[tuple[Any, str, Any, Any]] = []

    def put(self, owner: Any, name: str, make: Callable[[Any], Any], *, costs: str = "") -> bool:
        """Replace ``owner.name`` by ``make(original)``; False where there is no such thing.

        ``costs`` says what is lost without it: that is logged.
        """
        own = vars(owner).get(name, _MISSING)
        original = getattr(owner, name, _MISSING) if own is _MISSING else own
        if original is _MISSING:
            if costs:
                where = getattr(owner, "__name__", owner)
                _logger.warning("otel-netmon: this torch has no %s.%s: %s", where, name, costs)
            return False
        ours = make(original)
        setattr(owner, name, ours)
        self._standing.append((owner, name, own, ours))
        return True

    def remove(self) -> None:
        """Put the originals back, where nobody else has replaced ours."""
        while self._standing:
            owner, name, own, ours = self._standing.pop()
            if vars(owner).get(name) is ours:
                if own is _MISSING:  # inherited
                    delattr(owner, name)
                else:
                    setattr(owner, name, own)
