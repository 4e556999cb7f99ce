"""What runs in each Python below `otel-netmon run`: the user's own `sitecustomize`, and ours where it belongs."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.instrumentation import auto_instrumentation

from otel_netmon.cli.environment import SITE
from tests.installed import ROOT
from tests.unit.cli.conftest import Cli, clean_environment

USERS = """
import os, sys
os.environ["USERS_RAN"] = os.environ.get("PYTHONPATH", "unset") + " " + str({site!r} in sys.path)
"""
SAY = "import os, sys; print(os.environ.get('USERS_RAN'), 'otel_netmon' in sys.modules, os.environ['PYTHONPATH'])"
ORIGINAL = str(Path(auto_instrumentation.__file__ or "").parent)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A folder with a ``sitecustomize`` of the user's, which takes down what it sees."""
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(USERS.format(site=SITE))
    return folder


def python(code: str, paths: list[object], *options: str, exe: str = sys.executable) -> tuple[str, str]:
    """stdout and stderr of a Python with these on PYTHONPATH."""
    environ = {**clean_environment(), "PYTHONPATH": os.pathsep.join(map(str, paths))}
    environ["OTEL_NETMON_HOST_MONITORS"] = "off"
    done = subprocess.run([exe, *options, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    return done.stdout.strip(), done.stderr


@pytest.mark.row("a `sitecustomize` of the user's; another Python in the job, without us")
def test_the_users_own_runs_as_without_us(users: Path) -> None:
    out, err = python(SAY, [SITE, users])
    assert (out, err) == (f"{users} False True {SITE}:{users}", "")
    assert python("import sitecustomize; print(sitecustomize.__file__)", [SITE, users])[0].startswith(str(users))


def test_under_run(users: Path, cli: Cli, environment: dict[str, str]) -> None:
    before = f"{users}{os.pathsep}{environment['PYTHONPATH']}"
    process = cli("run", "--output", "out", "--", sys.executable, "-c", SAY, PYTHONPATH=before)
    out, _ = process.communicate(timeout=60)
    assert out.decode().strip() == f"{before} False True {SITE}:{before}"
    assert process.returncode == 0


@pytest.mark.parametrize(
    "body", ["raise ValueError('mine')", "import no_such_module", "import sys; sys.exit(3)", "print('said')"]
)
def test_what_it_does_is_seen_as_without_us(users: Path, body: str) -> None:
    (users / "sitecustomize.py").write_text(body)
    with_us, without = python("print(1)", [SITE, users]), python("print(1)", [users])
    assert (with_us[0], with_us[1].splitlines()[-1:]) == (without[0], without[1].splitlines()[-1:])
    assert body.startswith("import sys") or with_us == without  # a fatal error comes with its frames


def test_one_in_site_packages_and_a_usercustomize(tmp_path: Path) -> None:
    venv.create(tmp_path / "v", symlinks=True)
    (packages,) = (tmp_path / "v" / "lib").glob("python*/site-packages")
    (packages / "sitecustomize.py").write_text("print('site')")
    (tmp_path / "usercustomize.py").write_text("print('user')")
    exe = str(tmp_path / "v" / "bin" / "python")
    (tmp_path / "v" / "pyvenv.cfg").write_text(
        (tmp_path / "v" / "pyvenv.cfg").read_text().replace("packages = false", "packages = true")
    )
    assert python("print('program')", [SITE, tmp_path], exe=exe) == ("site\nuser\nprogram", "")


@pytest.mark.parametrize("paths", [[SITE, ORIGINAL], [ORIGINAL, SITE], [SITE, SITE], [SITE, "copy"]])
def test_once_however_often_it_is_on_the_path(paths: list[str], tmp_path: Path) -> None:
    """`opentelemetry-instrument` above or below us, or a second `run`, of another installation perhaps."""
    shutil.copytree(SITE, tmp_path / "copy")
    paths = [str(tmp_path / "copy") if path == "copy" else path for path in paths]
    out, err = python("import sys; print('otel_netmon' in sys.modules)", [*paths, *ours()])
    assert (out, err) == ("True", "")  # a second time would log "already instrumented"


def ours() -> list[str]:
    """What makes the package visible where it is not installed."""
    return [str(Path(__file__).parents[3])]


@pytest.mark.parametrize("option", ["-S", "-I", "-E"])
def test_a_python_that_does_not_look_is_left_alone(users: Path, option: str) -> None:
    assert python("import sys; print('otel_netmon' in sys.modules)", [SITE, users], option) == ("False", "")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Python of this version that has no package at all."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    yield str(folder / "bin" / "python")


@pytest.mark.row("a `sitecustomize` of the user's; another Python in the job, without us")
def test_a_python_without_us_says_nothing(bare: str, tmp_path: Path) -> None:
    assert python("print(1)", [SITE], exe=bare) == ("1", "")
    (tmp_path / "otel_netmon").mkdir()
    for broken in ("import opentelemetry_that_is_not_there", "1 +", "raise RuntimeError"):
        (tmp_path / "otel_netmon" / "__init__.py").write_text(broken)
        assert python("print(1)", [SITE, tmp_path], exe=bare) == ("1", "")


def test_any_other_python_on_this_machine() -> None:
    for name in ("python2", "python2.7", *(f"python3.{minor}" for minor in range(4, 20)), "python3"):
        exe = shutil.which(name, path=os.defpath + os.pathsep + os.environ.get("PATH", ""))
        plain = python("print(1)", [], exe=exe) if exe else ("", "")
        if exe and plain[0] == "1":
            assert python("print(1)", [SITE], "-B", exe=exe) == plain, exe


def test_its_text_is_that_of_any_python() -> None:
    """No annotation, f-string, keyword-only argument, walrus, ``raise … from`` or ``nonlocal``."""
    tree = ast.parse((Path(SITE) / "sitecustomize.py").read_text())
    newer = (
        ast.AnnAssign,
        ast.JoinedStr,
        ast.NamedExpr,
        ast.Nonlocal,
        ast.AsyncFunctionDef,
        ast.Starred,
    )
    for node in ast.walk(tree):
        assert not isinstance(node, newer), ast.dump(node)
        assert not (isinstance(node, ast.Raise) and node.cause)
        if isinstance(node, ast.FunctionDef):
            assert not (node.returns or node.args.kwonlyargs or node.args.posonlyargs)
            assert not any(argument.annotation for argument in node.args.args)


def test_garbage_collections_do_not_visit_what_was_set_up() -> None:
    out, err = python("import gc; print(gc.isenabled(), gc.get_freeze_count() > 10_000)", [SITE, ROOT])
    assert (out, err) == ("True True", "")
