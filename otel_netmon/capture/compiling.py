"""Keeps torch's compiler out of our code.

While a compiled program runs, torch._dynamo looks at every Python frame that is entered, ours in kernels, hooks
and replaced methods too. It would try to compile them, and count what it could not. Marked code is passed over;
the marks cost nothing per call and need no import of the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast


def keep_out_of(*modules: ModuleType) -> None:
    """Mark all code that ``modules`` define. Does nothing on a torch without such marks."""
    skip = _marker()
    if skip is None:
        return
    for module in modules:
        for value in vars(module).values():
            if getattr(value, "__module__", None) == module.__name__:
                _mark(value, str(module.__file__), skip)


def _marker() -> Callable[[CodeType], None] | None:
    """torch's function that has code passed over, but not what that calls; ``None`` where it has none."""
    from torch._C._dynamo import eval_frame

    if hasattr(eval_frame, "skip_code"):  # before torch 2.7
        return cast("Callable[[CodeType], None]", eval_frame.skip_code)
    try:
        strategy = eval_frame._FrameExecStrategy(eval_frame._FrameAction.SKIP, eval_frame._FrameAction.DEFAULT)
    except AttributeError:
        return None
    return lambda code: eval_frame.set_code_exec_strategy(code, strategy)


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
