"""What ``otel-netmon run`` puts first on PYTHONPATH: instruments a Python that has otel-netmon, and no other.

Every Python below the command imports this, whatever its version and packages. So it must be valid in Python 2 and
never say a word of its own. Python imports one ``sitecustomize`` only, the first on the path; the next one, which
would have been it, is therefore run from here, with ``sys.path`` and PYTHONPATH as they would have been.
"""
# mypy: ignore-errors

import os
import sys

_this = sys.modules.get(__name__)  # kept: Python 2 empties a module that leaves sys.modules


def _without(folder, paths):
    return [path for path in paths if not path or os.path.realpath(path) != os.path.realpath(folder)]


def _run_the_next(folder):
    """Import the next ``sitecustomize``, and return the error that Python has to tell of, if there is one."""
    sys.modules.pop(__name__, None)
    path = list(sys.path)
    sys.path[:] = _without(folder, path)
    try:
        __import__(__name__)
    except Exception as error:
        # As in the module `site`: that there is none is no error. Python 2 does not say which name is missing.
        return None if isinstance(error, ImportError) and getattr(error, "name", __name__) == __name__ else error
    finally:
        sys.modules.setdefault(__name__, _this)
        if folder in path and folder not in sys.path:  # for those who make a child's path of it
            sys.path.insert(path.index(folder), folder)
    return None


def _instrument():
    if sys.version_info < (3, 10):
        return
    try:
        from otel_netmon.sdk.setup import instrument_this_process
    except Exception:  # it is not installed here, or for another Python
        return
    instrument_this_process()


def _start():
    folder = os.path.dirname(__file__)
    listed = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = _without(folder, listed)
    ours = len(others) < len(listed)
    if ours:  # meanwhile: a Python that was started by what runs here would start one in its turn
        _set_python_path(os.pathsep.join(others))
    try:
        error = _run_the_next(folder)
        _instrument()
    finally:
        if ours:
            now = os.environ.get("PYTHONPATH", "")
            _set_python_path(folder + os.pathsep + now if now else folder)
    if error is not None:
        raise error


def _set_python_path(value):
    if value:
        os.environ["PYTHONPATH"] = value
    else:
        os.environ.pop("PYTHONPATH", None)


_start()
