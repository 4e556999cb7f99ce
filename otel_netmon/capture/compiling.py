"""Keeps torch.compile out of our code.

While a compiled program runs, torch._dynamo looks at every Python frame that is entered, ours in kernels, hooks
and replaced methods too. It would try to compile them, and count what it could not. Marked code is passed over;
the marks cost nothing per call and need no import of the compiler.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, Final

from otel_netmon.internals.torch_internals import compiler_skip

_PACKAGE: Final = __name__.partition(".")[0] + "."


def keep_compiler_out() -> None:
    """Mark all code of ours that is imported by now; some milliseconds."""
    skip = compiler_skip()
    if skip is None:
        return
    for name, module in list(sys.modules.items()):
        if name.startswith(_PACKAGE):
            for value in list(vars(module).values()):
                if getattr(value, "__module__", None) == name:
                    _mark(value, str(module.__file__), skip)


def _mark(value: Any, file: str, skip: Callable[[CodeType], None]) -> None:
    if isinstance(value, FunctionType):
        _mark(value.__code__, file, skip)
        _mark(getattr(value, "__wrapped__", None), file, skip)
    elif isinstance(value, CodeType):
        if value.co_filename != file:
            return  # of a decorator, an enum, a named tuple: others have the same code
        skip(value)
        for constant in value.co_consts:
            _mark(constant, file, skip)
    elif isinstance(value, type):
        for member in list(vars(value).values()):
            _mark(getattr(member, "__func__", getattr(member, "fget", member)), file, skip)
