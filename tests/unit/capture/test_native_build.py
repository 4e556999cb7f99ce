"""Building and loading the native capture: what is missing is said; what is damaged costs nothing but speed."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import config
from otel_netmon.capture import capture
from otel_netmon.capture.backends import hooks
from otel_netmon.capture.native import build as module
from otel_netmon.capture.native import loader
from otel_netmon.cli.build import build as command

torch: Any = pytest.importorskip("torch", reason="pip install torch")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where it would be built: a folder that does not exist."""
    monkeypatch.setenv("OTEL_NETMON_NATIVE_DIR", str(tmp_path / "native"))
    config.current.cache_clear()
    loader.load.cache_clear()
    yield loader.folder()
    config.current.cache_clear()
    loader.load.cache_clear()


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all were there, on any torch."""
    monkeypatch.setattr(module, "hook_numbers", lambda: {"SEND": 0})
    monkeypatch.setattr(hooks, "are_available", lambda: True)


class Module:
    RECORD_BYTES = 64
    wrong = ""

    def self_test(self) -> str:
        return self.wrong


def put(folder: Path, content: bytes = b"not a library") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{loader.NAME}-g++-1.so"
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("hooks", "torch 2.14 is the first that has them"),
        ("headers", "Python's headers are missing"),
        ("ninja", "ninja is missing: pip install ninja"),
        ("compiler", "is missing: install one (apt-get install g++), or name it in CXX"),
        ("setuptools", "pip install setuptools"),
    ],
)
def test_what_is_missing_is_one_sentence_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str, sentence: str
) -> None:
    there = shutil.which
    if missing == "hooks":
        monkeypatch.setattr(module, "hook_numbers", dict)
    elif missing == "headers":
        monkeypatch.setattr(sysconfig, "get_path", lambda _: "/nowhere")
    elif missing == "setuptools":
        monkeypatch.setitem(sys.modules, "torch.utils.cpp_extension", None)
    else:
        name = "ninja" if missing == "ninja" else "g++-99"
        monkeypatch.setattr(shutil, "which", lambda one: None if one == name else there(one) or one)
        monkeypatch.setenv("CXX", "g++-99")
    assert command(again=False) == 1
    out, err = capsys.readouterr()
    assert not out and sentence in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.usefixtures("tools")
def test_a_folder_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_tools", lambda: ("g++", "1"))
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("a file")
    assert command(again=False) == 1
    assert "OTEL_NETMON_NATIVE_DIR" in capsys.readouterr().err


@pytest.mark.usefixtures("tools")
def test_two_at_once_build_once(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    compiled, waited, results = [], [], []

    def slowly(target: Path) -> None:
        compiled.append(target)
        time.sleep(0.3)
        target.write_text("built")

    monkeypatch.setattr(module, "_tools", lambda: ("g++", "1"))
    monkeypatch.setattr(module, "_works", Path.exists)
    monkeypatch.setattr(module, "_compile", slowly)
    threads = [
        threading.Thread(target=lambda: results.append(module.build(waiting=lambda: waited.append(1))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == len(waited) == 1
    assert sorted(is_new for _, is_new in results) == [False, True]
    assert {path for path, _ in results} == {loader.find()}
    assert module.build(again=True)[1] and len(compiled) == 2
    assert folder.is_dir()


@pytest.mark.usefixtures("tools")
def test_a_damaged_file_costs_one_line_and_the_python_hooks_take_over(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(folder)
    for _ in range(3):
        assert capture.choose("auto")[0] is hooks.HooksBackend
    (record,) = caplog.records
    assert str(path) in record.getMessage() and "otel-netmon build --force" in record.getMessage()


@pytest.mark.usefixtures("tools")
def test_a_self_test_that_fails_is_a_file_that_is_damaged(
    monkeypatch: pytest.MonkeyPatch, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(folder)
    one = Module()
    monkeypatch.setattr(importlib.util, "module_from_spec", lambda _: one)
    monkeypatch.setattr(importlib.machinery.ExtensionFileLoader, "exec_module", lambda *_: None)
    assert loader.load() is one
    for wrong, size, words in (("a call ended twice", 64, "a call ended twice"), ("", 72, "72 bytes")):
        loader.load.cache_clear()
        caplog.clear()
        one.wrong, one.RECORD_BYTES = wrong, size
        assert loader.load() is None and words in caplog.text


def test_what_any_user_may_replace_is_not_loaded(folder: Path) -> None:
    path = put(folder)
    for writable in (path, folder):
        writable.chmod(0o777)
        with pytest.raises(ImportError, match="any user may write"):
            loader.open_module(path)
        writable.chmod(0o755)


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("kind", ["native", "auto", "hooks"])
def test_that_it_is_not_built_is_said_where_it_was_asked_for(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    assert capture.choose(kind)[0] is hooks.HooksBackend
    said = ["run `otel-netmon build`" in record.getMessage() for record in caplog.records]
    assert said == ([True] if kind == "native" else [])


def test_another_source_or_torch_is_another_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert loader.folder() == folder
    with monkeypatch.context() as patch:
        patch.setattr(torch.version, "cuda", "99.9")
        assert loader.folder() != folder
    monkeypatch.setattr(loader, "sources", lambda: [Path(__file__)])
    assert loader.folder() != folder


def test_it_is_looked_for_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OTEL_NETMON_NATIVE_DIR")
    config.current.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert loader.folder().parent == tmp_path / "otel-netmon"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert loader.folder().parent == tmp_path / ".cache" / "otel-netmon"
    assert loader.find() is None
