"""Law 1: no failure of ours is seen by the user's code. It is logged once, and training goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

_logger = logging.getLogger(__name__)


def guarded(action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``action``; an exception is logged once, never passed on, and gives ``None``.

    For everything of ours that a loader, an importer or an exit handler calls.
    """
    try:
        return action(*args, **kwargs)
    except Exception as error:  # noqa: BLE001  # law 1: no failure of ours is seen by the user's code
        name = getattr(action, "__qualname__", action)
        log_once(_logger, error, f"otel-netmon: {name} failed; going on without it")
        return None


_said: Final[dict[tuple[str, type], None]] = {}
_MOST_SAID: Final = 256


def log_once(logger: logging.Logger, error: Exception, sentence: str) -> None:
    """Log ``error`` with its traceback; the next ones of its type, with the same sentence, for debugging alone."""
    again = (sentence, type(error)) in _said
    if not again:
        _said[sentence, type(error)] = None
        if len(_said) > _MOST_SAID:
            _said.pop(next(iter(_said)), None)
    logger.log(logging.DEBUG if again else logging.ERROR, "%s", sentence, exc_info=error)
