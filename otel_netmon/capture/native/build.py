"""Compiles the native capture for the torch at hand. Only ``otel-netmon build`` does, never a job."""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from otel_netmon.capture.native import loader
from otel_netmon.internals.torch_internals import hook_numbers

_FLAGS: Final = ("-O2", "-fvisibility=hidden")


class BuildError(Exception):
    """It cannot be built here; the message says what is missing, and what to do about it."""


def build(
    *,
    again: bool = False,
    waiting: Callable[[], object] = lambda: None,
    compiling: Callable[[], object] = lambda: None,
) -> tuple[Path, bool]:
    """The compiled module, and whether it was compiled just now: some 25 s of CPU. torch must be imported.

    One that is there and works is left alone, unless ``again``; else ``compiling`` is called first. Another
    process that builds the same is waited for, after a call of ``waiting``. Raises BuildError.
    """
    compiler, version = _tools()
    target = loader.folder() / f"{loader.NAME}-{compiler}-{version}.so"
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with _alone(target.parent, waiting):
            if not again and _works(target):
                return target, False
            compiling()
            _compile(target)
    except OSError as error:
        raise BuildError(
            f"{target.parent} cannot be written ({error.strerror}): set OTEL_NETMON_NATIVE_DIR to a folder that "
            "can be, also where the job runs"
        ) from error
    return target, True


def _tools() -> tuple[str, str]:
    """Name and version of the compiler, after a look whether all is there."""
    import torch

    if not hook_numbers():
        raise BuildError(
            f"torch {torch.__version__} has no hooks on process groups, of which the native capture is made: "
            "torch 2.14 is the first that has them; collectives are captured in its dispatcher, without a build"
        )
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").exists():
        raise BuildError(
            f"Python's headers are missing ({headers}/Python.h): install the development package of this Python "
            "(python3-dev, python3-devel)"
        )
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))
    if shutil.which("ninja") is None:
        raise BuildError("ninja is missing: pip install ninja")
    extension = _cpp_extension()
    compiler = extension.get_cxx_compiler()
    if shutil.which(compiler) is None:
        raise BuildError(
            f"the C++ compiler {compiler} is missing: install one (apt-get install g++), or name it in CXX"
        )
    _, version = extension.get_compiler_abi_compatibility_and_version(compiler)
    return Path(compiler).name, str(version)


def _cpp_extension() -> Any:
    try:
        return importlib.import_module("torch.utils.cpp_extension")
    except ImportError as error:
        raise BuildError(f"torch's own build tool cannot be imported ({error}): pip install setuptools") from error


@contextmanager
def _alone(folder: Path, waiting: Callable[[], object]) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _works(path: Path) -> bool:
    try:
        loader.open_module(path)
    except Exception:  # noqa: BLE001 - a damaged file may raise anything: it is built anew
        return False
    return True


def _compile(target: Path) -> None:
    """Into a folder of its own, and to its place when it is whole and has passed its self-test."""
    extension = _cpp_extension()
    source = str(loader.sources()[0])
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            extension.load(loader.NAME, [source], extra_cflags=list(_FLAGS), build_directory=folder)
        except (RuntimeError, ImportError) as error:
            raise BuildError(f"it does not compile with this torch and compiler:\n{error}") from error
        built = Path(folder, f"{loader.NAME}.so")
        try:
            loader.open_module(built)
        except ImportError as error:
            raise BuildError(f"it compiles, but does not work here: {error}") from error
        built.replace(target)
