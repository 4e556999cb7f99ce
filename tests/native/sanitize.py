"""``make sanitize``: the native capture under sanitizers, and interpreters that end in the middle of calls.

``python -m tests.native.sanitize FOLDER SHUTDOWNS [quick]``: everything is compiled into FOLDER. About four
minutes on two cores, and one second more for each of the SHUTDOWNS; a minute where it is to be ``quick``: the ring
under every sanitizer, the module under one, and for less long.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = ROOT / "otel_netmon" / "capture" / "native"
SANITIZERS = {"address,undefined": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
QUICK = {"address": SANITIZERS["address,undefined"]}
"""For the module: it compiles in a third of the time. The second library brings that of C++."""
FLAGS = ["-std=c++20", "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror", "-fno-sanitize-recover=all"]
OPTIONS = {
    # Python and torch are not compiled with it: they leak on purpose, and their locks are not seen.
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:halt_on_error=1",
}
COMPILE = """
import sys
from torch.utils.cpp_extension import load
source, folder, sanitizer, level = sys.argv[1:]
flags = [f"-fsanitize={sanitizer}"]
load("otel_netmon_capture", [source], extra_cflags=[level, "-g", "-fvisibility=hidden", *flags],
     extra_ldflags=flags, build_directory=folder)
"""
PYTHON = (sys.executable, "-W", "ignore")


def run(*command: str | Path, environ: dict[str, str] | None = None, check: bool = True) -> None:
    since = time.monotonic()
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env={**os.environ, **(environ or {})}, check=False)
    if check and done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}")
    print(f"  {time.monotonic() - since:.0f} s", flush=True)


def ring(folder: Path, sanitizer: str, calls: str) -> None:
    """The ring by itself, which every sanitizer sees whole."""
    print(f"ring, {sanitizer}", flush=True)
    program = folder / f"ring-{sanitizer}"
    run("g++", *FLAGS, f"-fsanitize={sanitizer}", "-I", SOURCES, HERE / "ring_stress.cpp", "-o", program)
    run(program, calls)


def module(folder: Path, sanitizer: str, libraries: Iterable[str], level: str, seconds: str) -> None:
    """The module as Python loads it."""
    print(f"module, {sanitizer}", flush=True)
    root = folder / f"module-{sanitizer}"
    own = {"OTEL_NETMON_NATIVE_DIR": str(root), "OMP_NUM_THREADS": "1"}
    find = "import torch; from otel_netmon.capture.native import loader; print(loader.folder())"
    environ = {**os.environ, **own}
    found = subprocess.run([sys.executable, "-c", find], env=environ, check=True, capture_output=True, text=True)
    place = Path(found.stdout.strip())
    place.mkdir(parents=True, exist_ok=True)
    # It compiles, and then cannot be imported without the sanitizer's library.
    compiled = *PYTHON, "-c", COMPILE, SOURCES / "capture.cpp", place, sanitizer, level
    run(*compiled, check=False)
    (place / "otel_netmon_capture.so").replace(place / "otel_netmon_capture-sanitized.so")
    preloaded = [
        subprocess.run(
            ["g++", f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in libraries
    ]
    preload = {"LD_PRELOAD": ":".join(preloaded), **OPTIONS, **own}
    run(*PYTHON, "-m", "tests.native.hammer", seconds, environ=preload)


def main() -> None:
    folder, shutdowns, is_quick = Path(sys.argv[1]).absolute(), sys.argv[2], sys.argv[3:] == ["quick"]
    folder.mkdir(parents=True, exist_ok=True)
    for sanitizer in SANITIZERS:
        ring(folder, sanitizer, "100000" if is_quick else "300000")
    for sanitizer, libraries in (QUICK if is_quick else SANITIZERS).items():
        module(folder, sanitizer, libraries, *(("-O0", "5") if is_quick else ("-O1", "20")))
    print(f"{shutdowns} interpreters that end in the middle of calls", flush=True)
    run(*PYTHON, "-m", "tests.native.shutdowns", folder / "caller", shutdowns)


if __name__ == "__main__":
    main()
