"""Where the compiled module is, and its import. Nothing here compiles, and nothing is probed beyond one folder.

A module serves exactly the torch, the Python and the sources that it was built of: they are in the folder's name.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.util
import logging
import os
import platform
import struct
import sysconfig
from pathlib import Path
from typing import Any, Final

from otel_netmon import config

_logger = logging.getLogger(__name__)

NAME: Final = "otel_netmon_capture"
"""Of the module: what its initialisation function is called after."""
RECORD: Final = struct.Struct("<Qqqqq16sII")
"""As ``record.h`` has it: ticket, start, end, sequence, boundary, kind, error, flags."""
_SOURCES: Final = Path(__file__).parent


def sources() -> list[Path]:
    """The C++ of this version of the package; the first is the one to compile."""
    return [_SOURCES / "capture.cpp", *sorted(_SOURCES.glob("*.h"))]


def folder() -> Path:
    """Where the module for this torch and Python is, or would be. torch must be imported; some 0.2 ms."""
    import torch

    digest = hashlib.sha256()
    version = torch.version
    for part in (
        *(torch.__version__, version.git_version, version.cuda, getattr(version, "hip", None)),
        *(torch.compiled_with_cxx11_abi(), sysconfig.get_config_var("EXT_SUFFIX"), platform.machine()),
    ):
        digest.update(f"{part}\n".encode())
    for source in sources():
        digest.update(source.read_bytes())
    root = config.current().native_dir or _cache()
    return root / f"torch-{torch.__version__}-{sysconfig.get_config_var('SOABI')}-{digest.hexdigest()[:16]}"


def _cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if named.startswith("/") else Path.home() / ".cache") / "otel-netmon"


def find() -> Path | None:
    """The module that was built last, of those by different compilers; ``None`` where there is none."""
    try:
        found = sorted(folder().glob(f"{NAME}-*.so"), key=lambda path: path.stat().st_mtime)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    return found[-1] if found else None


@functools.cache
def load() -> Any:
    """The module, or ``None`` where it is not built or does not work; why is logged, once."""
    path = find()
    if path is None:
        return None
    try:
        return open_module(path)
    except Exception as error:  # noqa: BLE001 - a damaged file may raise anything; the Python hooks do the same
        _logger.warning(
            "otel-netmon: the native capture in %s cannot be used (%s): collectives are captured by hooks in "
            "Python, at a higher cost per call; `otel-netmon build --force` builds it anew",
            path,
            error,
        )
        return None


def open_module(path: Path) -> Any:
    """Import ``path`` and test it. Raises ImportError where it does not do what it must, or others could replace
    it."""
    for each in (path, path.parent):
        status = each.stat()
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o002:
            raise ImportError(f"{each} belongs to another user, or any user may write to it")
    spec = importlib.util.spec_from_file_location(
        NAME, path, loader=importlib.machinery.ExtensionFileLoader(NAME, str(path))
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wrong = module.self_test()
    if RECORD.size != module.RECORD_BYTES:
        wrong = f"its records have {module.RECORD_BYTES} bytes, not {RECORD.size}"
    if wrong:
        raise ImportError(f"its self-test failed: {wrong}")
    return module
