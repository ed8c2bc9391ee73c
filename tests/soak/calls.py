"""Runs code while chosen calls of the system fail, or while all of them are written down; see calls.c."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("calls.c")
BUILT = "TUI_GRU_SOAK_CALLS"  # the variable of the environment with the built library
PATIENCE = 60  # seconds that a run may take


class Effect(IntEnum):
    """What happens at the chosen call."""

    COUNT = 0
    FAIL_ONCE = 1
    FAIL_FROM_HERE = 2
    WRITE_SHORT = 3
    DIE_BEFORE = 4
    DIE_WITHIN = 5


def with_calls() -> None:
    """Start this program again with the library loaded, built by the machine's C compiler; exit if there is none."""
    if BUILT in os.environ:
        return
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        sys.exit("this soak needs Linux and a C compiler (cc, gcc or clang), and there is none")
    with tempfile.TemporaryDirectory() as folder:
        built = f"{folder}/calls.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, str(SOURCE), "-ldl", "-lpthread"], check=True)
        module = sys.modules["__main__"].__spec__
        assert module is not None
        environment = {**os.environ, "LD_PRELOAD": built, BUILT: built, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            code = subprocess.call([sys.executable, "-m", module.name, *sys.argv[1:]], env=environment)
        except KeyboardInterrupt:
            code = 130
    sys.exit(code)


@dataclass(frozen=True)
class Ran:
    """What a process has done: what it has acknowledged, the errors that the user was messages, and any other error.

    `counted` is the number of its calls, `died` True if it ended at the chosen one.
    """

    acknowledged: tuple[Any, ...]
    refused: tuple[str, ...]
    failure: str
    counted: int
    died: bool


def ran(
    work: Callable[[Callable[[Any], None]], None],
    folder: Path,
    *,
    effect: Effect = Effect.COUNT,
    at: int = -1,
    error: int = 0,
    written_down: Path | None = None,
    refusals: Sequence[type[BaseException]] = (),
) -> Ran:
    """Call `work(acknowledge)` in a process of its own, with an effect at one of its calls that change files below a folder."""
    read, write = os.pipe()
    if not (child := os.fork()):
        os.close(read)
        _as_child(work, folder, effect, at, error, written_down, tuple(refusals), write)
    os.close(write)
    with os.fdopen(read) as lines:
        messages = [json.loads(line) for line in lines if line.endswith("\n")]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    died = code == 9 and effect in (Effect.DIE_BEFORE, Effect.DIE_WITHIN)
    failure = "".join(text for kind, text in messages if kind == "failure")
    if code and not died:
        failure += f"the process ended with {code}"
    return Ran(
        tuple(value for kind, value in messages if kind == "acknowledged"),
        tuple(value for kind, value in messages if kind == "refused"),
        failure,
        sum(value for kind, value in messages if kind == "counted"),
        died,
    )


def _as_child(
    work: Callable[[Callable[[Any], None]], None],
    folder: Path,
    effect: Effect,
    at: int,
    error: int,
    written_down: Path | None,
    refusals: tuple[type[BaseException], ...],
    out: int,
) -> None:
    calls = ctypes.CDLL(os.environ[BUILT])
    calls.calls_watch.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    calls.calls_counted.restype = ctypes.c_long
    calls.calls_acknowledge.argtypes = [ctypes.c_long]

    def tell(kind: str, value: Any) -> None:
        os.write(out, f"{json.dumps([kind, value])}\n".encode())

    def acknowledge(value: Any) -> None:
        if isinstance(value, int):
            calls.calls_acknowledge(value)
        tell("acknowledged", value)

    try:
        signal.alarm(PATIENCE)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        if written_down is not None:
            calls.calls_write_down(str(written_down).encode())
        calls.calls_watch(str(folder).encode(), at, error, effect)
        try:
            work(acknowledge)
        except refusals as refused:
            tell("refused", str(refused))
        except BaseException:
            tell("failure", traceback.format_exc()[-3000:])
        tell("counted", calls.calls_counted())
        calls.calls_stop()
    finally:
        os._exit(0)
