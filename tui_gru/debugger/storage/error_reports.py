"""Writes reports of unexpected errors to the state folder, for users to send in."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from itertools import count
from pathlib import Path

from platformdirs import user_state_path

from tui_gru import __version__

STAY = 20  # reports are kept; older ones are deleted
_SHOWN = 100  # characters of an error in the message
_LONGEST = 100_000  # characters of a traceback

_numbers = count(1)
_written: dict[tuple[str, ...], Path] = {}  # by the place of the error: a process writes one report for each place


def reports_folder() -> Path:
    """Return the folder of the reports. It is created when the first report is written."""
    return user_state_path("tui-gru", appauthor=False) / "reports"


def reported(error: BaseException, doing: str) -> str:
    """Write a report of an error. Returns a one-line message with the error and the path of the report.

    `doing` describes what the program was doing. Never raises: if the report cannot be written, the message says so.
    """
    summary = " ".join("".join(traceback.format_exception_only(error)).split())
    summary = summary if len(summary) <= _SHOWN else f"{summary[:_SHOWN]}…"
    try:
        where = f"report: {_report(error, doing)}"
    except Exception as problem:  # a full disk, no memory: the message must appear whatever it is
        where = f"no report could be written: {getattr(problem, 'strerror', None) or type(problem).__name__}"
    return f"internal error ({summary}); {where}"


def _report(error: BaseException, doing: str) -> Path:
    place = _place(error)
    path = _written.get(place)
    if path is None or path.parent != reports_folder() or not path.exists():
        path = _written[place] = _write(_text(error, doing))
    return path


def _place(error: BaseException) -> tuple[str, ...]:
    """Return the type of an error, and the innermost three lines of its traceback."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return (type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in frames))


def _text(error: BaseException, doing: str) -> str:
    versions = " · ".join(f"{name} {_version(name)}" for name in ("numpy", "textual", "torch"))
    written = "".join(traceback.format_exception(error))
    if len(written) > _LONGEST:
        written = f"{written[: _LONGEST // 2]}\n…\n{written[-_LONGEST // 2 :]}"
    return (
        f"tui-gru {__version__} · Python {platform.python_version()} · {versions} · {platform.platform()}\n"
        f"{datetime.now().astimezone().isoformat(timespec='seconds')}\n"
        f"while: {doing}\n\n{written}"
    )


def _version(package: str) -> str:
    """Return the version of a package. Any of them may be missing, or have no metadata, where an error is reported."""
    try:
        return metadata.version(package)
    except Exception:
        return "not installed" if package not in sys.modules else "of unknown version"


def _write(text: str) -> Path:
    folder = reports_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{datetime.now():%Y-%m-%d-%H%M%S}-{os.getpid()}-{next(_numbers):03}.txt"
    with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    _prune(folder, keep=path)
    return path


def _prune(folder: Path, keep: Path) -> None:
    """Delete the oldest reports, by name; never `keep`, even if the clock is wrong."""
    for old in sorted(path for path in folder.glob("*.txt") if path != keep)[: -(STAY - 1)]:
        with suppress(OSError):
            old.unlink()
