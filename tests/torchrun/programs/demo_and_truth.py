"""The demo as it is, and then the entries of gloo's Flight Recorder, to hold our files against."""

import os
import runpy
import sys
from pathlib import Path

folder, script, *arguments = sys.argv[1:]
sys.argv = [script, *arguments]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    from torch._C._distributed_c10d import _dump_fr_trace_json

    Path(folder, f"{os.environ['RANK']}.json").write_bytes(_dump_fr_trace_json())
