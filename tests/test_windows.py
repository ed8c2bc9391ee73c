"""The rules of Windows, simulated: modules, functions and signals that it lacks, files that are held open, names, encodings."""

import asyncio
import ctypes
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import tui_gru
from tests.capture.runs import trained
from tests.process import PROGRAM
from tui_gru.cli import completion
from tui_gru.cli import options as output
from tui_gru.cli.commands import main
from tui_gru.engine.config import Config, machine_memory
from tui_gru.errors import TuiGruError
from tui_gru.storage import store
from tui_gru.tui import command as line
from tui_gru.tui import configuration
from tui_gru.tui import terminal as ending
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless

CELL = "state h : H\r\nparameters Wh Uh\r\nh = tanh(x Wh + h_prev Uh)\r\n"


@pytest.fixture
def windows(monkeypatch):
    """Let a module see the `os` of Windows, where `changed` of it are also others."""

    def windows(module, **changed):
        monkeypatch.setattr(module, "os", SimpleNamespace(**{**vars(os), "name": "nt", **changed}))

    return windows


WITHOUT = """
import asyncio, os, platformdirs, select, signal, subprocess, sys, tempfile  # which import what this system has
for name in ("fcntl", "termios", "resource", "pty", "tty", "pwd", "grp"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGWINCH", "SIGTSTP", "SIGCONT", "SIGKILL", "SIGUSR1", "SIGQUIT", "SIGXCPU"):
    delattr(signal, name)
for name in ("fork", "sysconf", "pread", "getuid", "geteuid", "register_at_fork", "sync", "fchmod", "O_NOFOLLOW", "set_blocking"):
    vars(os).pop(name, None)
import tui_gru
from tui_gru.cli.commands import main
session = tui_gru.Session()
session.learning = True
session.record_to("walk.tui-gru")
session.step("batch", 3)
session.close()
assert tui_gru.Session.open("walk.tui-gru").position == session.position
assert main(["trace", "-o", "run.json"]) == main(["sample"]) == main(["--help"]) == 0
assert main(["report", "walk.tui-gru", "-o", "walk.html"]) == 0
assert main(["screenshot", "--session", "walk.tui-gru", "--keys", "s enter", "walk.svg"]) == 0
"""


def test_the_program_runs_without_what_windows_lacks(tmp_path):
    root = str(Path(tui_gru.__file__).parents[1])
    environment = {**os.environ, "TEXTUAL_DRIVER": "textual.drivers.headless_driver:HeadlessDriver", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {"walk.tui-gru", "run.json", "walk.html", "walk.svg"} <= {path.name for path in tmp_path.iterdir()}


def test_a_closed_console_ends_the_program_in_order(monkeypatch):
    for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU"):
        monkeypatch.delattr(signal, name)
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    assert ending.ending_signals() == [signal.SIGTERM, signal.SIGINT, 21]


async def test_a_terminal_that_is_gone_ends_the_program_without_sighup(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    app, taken = make_app(Config.of()), []
    monkeypatch.setattr(app, "ending", SimpleNamespace(take=taken.append, close=lambda: None))
    async with headless(app, (80, 24)):
        app.on_terminal_gone()
    assert taken == [signal.SIGTERM]


def test_a_program_that_is_stuck_leaves_the_console_as_it_was(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "termios", None)
    monkeypatch.setattr(ending, "PATIENCE", 0)
    ended = []
    with (tmp_path / "console").open("w+b") as console:
        monkeypatch.setattr(sys, "__stdin__", console)
        monkeypatch.setattr(ending.os, "_exit", ended.append)
        signals = ending.EndingSignals(lambda number: None)
        monkeypatch.setattr(ending, "ending_signals", list)

        async def take():
            signals.handle()
            signals.take(signal.SIGTERM)
            while not ended:
                await asyncio.sleep(0)

        asyncio.run(take())
        assert ended == [128 + signal.SIGTERM]
        assert (tmp_path / "console").read_bytes() == ending.LEAVE


def test_a_file_that_is_held_open_is_said_and_stays(monkeypatch, tmp_path, capsys):
    def replace(path, target):
        raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used by another process")

    target = tmp_path / "run.json"
    target.write_text("mine", encoding="utf-8")
    monkeypatch.setattr(os, "replace", replace)
    assert main(["trace", "-o", str(target)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"tui-gru: -o: cannot write {target}: The process cannot access the file")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert target.read_text(encoding="utf-8") == "mine"


def test_a_pipe_that_its_reader_has_closed_is_no_error(windows, monkeypatch):
    class Closed:
        def write(self, data):
            raise OSError(errno.EINVAL, "Invalid argument")

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=Closed(), isatty=lambda: False))
    windows(output)
    with pytest.raises(BrokenPipeError), output.open_output(output.STANDARD_OUTPUT) as out:
        out.write(b"text")


def test_a_cell_that_is_printed_to_a_file_can_be_read(tmp_path):
    own = tmp_path / "own.cell"
    with own.open("wb") as out:
        environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
        subprocess.run([*PROGRAM, "cells", "gru"], stdout=out, env=environment, check=True, timeout=120)
    assert "σ" in own.read_text(encoding="utf-8")
    assert tui_gru.Session(cell=str(own)).parameter_names == tui_gru.Session().parameter_names


def test_a_file_of_an_editor_of_windows_is_read(tmp_path):
    own = tmp_path / "own.cell"
    own.write_bytes(CELL.encode("utf-8-sig"))
    assert tui_gru.Session(cell=str(own)).parameter_names[:2] == ("Wh", "Uh")
    keys, display = tmp_path / "keys.toml", tmp_path / "config.toml"
    keys.write_bytes('[keys]\r\n"check" = "f5"\r\n'.encode("utf-8-sig"))
    display.write_bytes("[display]\r\nascii = true\r\n".encode("utf-8-sig"))
    assert configuration.load_keys(keys) == {"check": "f5"}
    assert configuration.load_display(display).ascii is True


@pytest.mark.parametrize("name", ["a:b", "what?", "nul", "COM1", "lpt9.tui-gru", "a<b", "end.", "end ", 'a"b', "a|b", "*"])
def test_a_name_that_windows_has_no_file_for_is_refused(windows, name):
    assert store.session_path(name).name.startswith(name)
    windows(store)
    with pytest.raises(TuiGruError, match="no name that Windows can give to a file"):
        store.session_path(name)


def test_the_memory_of_the_machine_is_asked_of_windows(monkeypatch):
    def report(reference):
        getattr(reference, "_obj").total = 3 * 2**30  # noqa: B009, what byref points to
        return 1

    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(ctypes, "windll", raising=False)
    assert machine_memory() == 8 * 2**30
    kernel = SimpleNamespace(GlobalMemoryStatusEx=report)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    assert machine_memory() == 3 * 2**30


async def test_files_are_completed_behind_a_backslash(windows, monkeypatch, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "own.cell").touch()
    monkeypatch.chdir(tmp_path)
    there = {"sep": "\\", "scandir": lambda folder: os.scandir(str(folder).replace("\\", "/"))}
    windows(completion, **there)
    assert [item.value for item in completion.files(".cell")(None, None, "runs\\o")] == ["runs\\own.cell"]
    app = make_app(Config.of())
    async with headless(app, (80, 24)):
        windows(line, **there)
        assert [each.text for each in line.completions(app.main, "file", "runs\\o").candidates] == ["runs\\own.cell"]


def test_a_recording_has_the_same_bytes_as_elsewhere(monkeypatch, tmp_path):
    def opened(*arguments, newline=None, **options):
        return open(*arguments, newline="\r\n" if newline is None and "b" not in arguments[1] else newline, **options)

    trained(tmp_path / "elsewhere.gru", steps=3, every=1)
    monkeypatch.setattr("tui_gru.capture.record.open", opened, raising=False)
    trained(tmp_path / "windows.gru", steps=3, every=1)
    for path in (tmp_path / "windows.gru").glob("*.json*"):
        assert b"\r" not in path.read_bytes()
    session = tui_gru.Session.open(tmp_path / "windows.gru")
    other = tui_gru.Session.open(tmp_path / "elsewhere.gru")
    assert (session.steps, session.notice) == (other.steps, other.notice)
