"""Nothing leaves a trial: what would change something outside of Python's memory is stopped before it happens."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import logging
import math
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tui_gru.capture.trial import in_trial
from tui_gru.errors import printable

_EVENTS = {
    "os.remove": "deletes", "os.rename": "renames", "os.mkdir": "makes the folder", "os.rmdir": "deletes the folder",
    "os.link": "links", "os.symlink": "links", "os.truncate": "cuts", "os.chmod": "changes", "os.chown": "changes",
    "os.utime": "changes",
    "os.chdir": "changes the folder to", "os.putenv": "sets the environment's", "os.unsetenv": "sets the environment's",
    "os.system": "runs", "os.exec": "runs", "os.posix_spawn": "runs", "os.spawn": "runs", "os.startfile": "runs",
    "os.fork": "starts a process", "os.forkpty": "starts a process", "subprocess.Popen": "starts the process",
    "os.kill": "sends a signal", "os.killpg": "sends a signal", "signal.pthread_kill": "sends a signal",
    "socket.connect": "opens a connection", "socket.bind": "opens a connection", "socket.sendto": "sends something",
    "socket.sendmsg": "sends something", "socket.getaddrinfo": "opens a connection", "urllib.Request": "opens a connection",
    "shutil.rmtree": "deletes", "shutil.move": "moves", "shutil.copyfile": "copies", "shutil.copytree": "copies",
    "tempfile.mkstemp": "writes", "tempfile.mkdtemp": "makes the folder", "sqlite3.connect": "opens the database",
    "_thread.start_new_thread": "starts a thread", "_thread.start_joinable_thread": "starts a thread", "webbrowser.open": "opens",
}  # fmt: skip
_WITH_NAME = {"subprocess.Popen", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.system", "shutil.rmtree", "os.chdir",
              "shutil.move", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp", "os.putenv", "os.unsetenv"}  # fmt: skip
_NO_FILES = ("/proc/", "/sys/", "/dev/")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


_WIDTH = 80  # characters of a path
_TICK = 0.02  # seconds by which the time of a file can be behind the clock


class Outside(BaseException):
    """The body of a trial would change something that nothing can put back, or, if `is_read`, reads what was changed. No `except
    Exception` of the script catches it."""

    is_read = False


class Attempts:
    """What a trial would have changed outside, in words. Files that were changed after the time `since`, in seconds of the clock,
    are not those that the steps have read; `written` are the files that the trial would have written."""

    def __init__(self, since: float = math.inf, written: set[str] | None = None) -> None:
        self.words: list[str] = []
        self.since, self.written = since, set[str]() if written is None else written

    def check_read(self, path: str) -> None:
        """Stop where a file does not have what it had when the step ran, or would have in the trial."""
        if path.startswith(_NO_FILES) or path.endswith(".py"):  # the source of a traceback
            return
        try:
            now = os.stat(path)
        except (OSError, ValueError):
            return
        if stat.S_ISREG(now.st_mode) and (now.st_mtime > self.since - _TICK or os.path.realpath(path) in self.written):
            _stop(f"reads {_shown(path)}, which has other contents by now", is_read=True)


_attempts: list[Attempts] = []


def _shown(path: str) -> str:
    """Return the end of a path, which has the name of the file."""
    return printable(path if len(path) <= _WIDTH else "…" + path[1 - _WIDTH :], _WIDTH)


def _stop(words: str, *, is_read: bool = False) -> None:
    if _attempts:
        _attempts[-1].words.append(words)
    outside = Outside(words)
    outside.is_read = is_read
    raise outside


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _attempts or not in_trial():
        return
    if event == "open":
        path, mode, flags = arguments[:3]
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & _WRITES)
        if not isinstance(path, (str, bytes, os.PathLike)) or (name := os.fsdecode(path)) == os.devnull:
            return
        if writes:
            _attempts[-1].written.add(os.path.realpath(name))
            _stop(f"writes {_shown(name)}")
        _attempts[-1].check_read(name)
    elif (words := _EVENTS.get(event)) is not None:
        name = arguments[0] if arguments and event in _WITH_NAME else ""
        _stop(f"{words} {printable(os.fsdecode(name) if isinstance(name, bytes) else name, 80)}".strip())


_audited = False


class _Quiet(io.TextIOBase):
    """A stream that loses what a trial writes, and passes on what other threads write."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if in_trial():
            return len(text)
        return int(self._stream.write(text) or 0)

    def flush(self) -> None:
        if not in_trial():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _writers() -> Iterator[tuple[Any, str, bool]]:
    """Yield functions that write by other ways than Python's files or by threads: the owner, the name, and whether it must not run
    at all; the others only report numbers, and do nothing in a trial."""
    if (torch := sys.modules.get("torch")) is not None:
        yield torch, "save", True
    if (package := sys.modules.get("safetensors.torch")) is not None:
        yield package, "save_file", True
    for name in ("torch.utils.tensorboard.writer", "tensorboardX.writer"):
        kind = getattr(sys.modules.get(name), "SummaryWriter", None)
        for method in [] if kind is None else [method for method in vars(kind) if method.startswith(("add_", "flush"))]:
            yield kind, method, False
    for name, methods in (("wandb", ("log", "save")), ("mlflow", ("log_metric", "log_metrics", "log_param", "log_params"))):
        module = sys.modules.get(name)
        for method in methods:
            if module is not None and callable(getattr(module, method, None)):
                yield module, method, False
    yield logging.Logger, "callHandlers", False
    yield threading.Thread, "start", True  # Python tells of a new thread from version 3.12 on only
    if (bars := sys.modules.get("tqdm.std")) is not None:
        yield bars.tqdm, "display", False
        yield bars.tqdm, "refresh", False
        yield bars.tqdm, "close", False


@contextlib.contextmanager
def closed_boundary(since: float = math.inf, written: set[str] | None = None) -> Iterator[Attempts]:
    """Within this context, what a trial in this thread would write, start or send raises `Outside`, and it prints nothing; so does
    what it reads of a file that was changed after `since`, or is one of those `written` in the trial."""
    global _audited
    if not _audited:
        sys.addaudithook(_audit)
        _audited = True
    attempts = Attempts(since, written)
    with contextlib.ExitStack() as stack:
        if gc.isenabled():  # what is collected may be of any other part of the program, and delete its files
            gc.disable()
            stack.callback(gc.enable)
        for owner, name, is_refused in list(_writers()):
            stack.callback(functools.partial(_set, owner, name, vars(owner).get(name)))
            _set(owner, name, _guarded(getattr(owner, name), name, is_refused))
        stack.enter_context(contextlib.redirect_stdout(_Quiet(sys.stdout)))
        stack.enter_context(contextlib.redirect_stderr(_Quiet(sys.stderr)))
        _attempts.append(attempts)
        stack.callback(_attempts.remove, attempts)
        yield attempts


def _set(owner: Any, name: str, value: Any) -> None:
    if value is None:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _guarded(function: Callable[..., Any], name: str, is_refused: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def guard(*arguments: Any, **named: Any) -> Any:
        if not in_trial():
            return function(*arguments, **named)
        if is_refused:
            if name == "start":
                _stop("starts a thread")
            target = arguments[1] if len(arguments) > 1 else named.get("f", named.get("filename"))
            if isinstance(target, (io.BytesIO, io.StringIO)):
                return function(*arguments, **named)
            if isinstance(target, (str, os.PathLike)) and _attempts:
                _attempts[-1].written.add(os.path.realpath(target))
            _stop(f"writes {printable(target if isinstance(target, (str, os.PathLike)) else name, 80)}")
        return None

    return guard
