"""``otel-netmon build``: compiles the native capture, and says what is going on."""

from __future__ import annotations

import logging
import sys
import time
import warnings

from otel_netmon import threads
from otel_netmon.streams import say

_EVERY = 5.0
"""Seconds between two signs of life."""


def build(*, again: bool) -> int:
    """Print what was built to stdout; 0 when the native capture is there, 1 when it cannot be."""
    try:
        import torch.distributed
    except (ImportError, OSError) as error:  # OSError: a library of CUDA is missing
        say(
            f"torch cannot be imported: {error}; the native capture is compiled against the torch of your training"
        )
        return 1
    if not torch.distributed.is_available():
        say("this torch was built without torch.distributed: there is nothing to capture")
        return 1
    from otel_netmon.capture.native.build import BuildError
    from otel_netmon.capture.native.build import build as compile_it

    logging.getLogger("torch").setLevel(logging.ERROR)  # that no CUDA toolkit is found: none is needed
    warnings.simplefilter("ignore")
    since, ended = time.monotonic(), threads.Event()

    def compiling() -> None:
        say(f"compiling the native capture for torch {torch.__version__}; this takes about half a minute")
        threads.start(_signs_of_life, "otel-netmon-build", since, ended)

    try:
        path, is_new = compile_it(
            again=again,
            waiting=lambda: say("another process is building it: waiting for that one"),
            compiling=compiling,
        )
    except BuildError as error:
        say(str(error))
        return 1
    finally:
        ended.set()
    say(f"built in {time.monotonic() - since:.0f} s" if is_new else "it was built already")
    sys.stdout.write(f"{path}\n")
    return 0


def _signs_of_life(since: float, ended: threads.Event) -> None:
    while not ended.wait(_EVERY):
        say(f"compiling: {time.monotonic() - since:.0f} s")
