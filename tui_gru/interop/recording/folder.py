"""The folder of a recording: its file names, and its two kinds of text file.

run.json describes the recording. steps.rank0.jsonl has a line for each kept step, with the losses since the line before. Each kept
step is a file: step-00000100.rank0.safetensors. Each rank writes its own files, independently of the others.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from tui_gru.interop.capture.calls import CapturedStep
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.recording.encoding import decoded, number, plain
from tui_gru.interop.tensors import Tensor

FORMAT, VERSION = "tui-gru-recording", 1
RUN = "run.json"
MOST_TEXT = 1 << 28  # bytes of a text file that are read at most
_SHARD = re.compile(r"step-(\d{8,15})\.rank(\d{1,6})\.safetensors")
_LINES = re.compile(r"steps\.rank(\d{1,6})\.jsonl")


class RecordingVersionError(ModelFileError):
    """The recording was written by another version of this program."""


def holds_a_recording(folder: Path) -> bool:
    """Return True if a folder has a file with a name of a recording."""
    try:
        names = os.listdir(folder)
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return False
    return any(name == RUN or step_and_rank(name) is not None or rank_of_lines(name) is not None for name in names)


def shard_name(step: int, rank: int) -> str:
    return f"step-{step:08d}.rank{rank}.safetensors"


def lines_name(rank: int) -> str:
    return f"steps.rank{rank}.jsonl"


def step_and_rank(name: str) -> tuple[int, int] | None:
    """Return the step and rank in the name of a file; None for other files."""
    match = _SHARD.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


def rank_of_lines(name: str) -> int | None:
    match = _LINES.fullmatch(name)
    return None if match is None else int(match[1])


def step_in(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> CapturedStep:
    """Return the step in the contents of a file. Raises `ModelFileError` if they are damaged, or of another step than its name."""
    step = decoded(tensors, about)
    if shard_name(step.number, step.rank) != path.name:
        raise ModelFileError(f"it contains step {step.number} of rank {step.rank}, which does not match its name")
    return step


@dataclass(frozen=True)
class StepRecord:
    """A kept step; `why` is "every", "trigger", or "before" a trigger. `losses` has the losses of all steps since the line
    before, up to this one; None for steps without a loss."""

    step: int
    why: str
    loss: float | None = None
    norm: float | None = None
    losses: tuple[float | None, ...] = ()

    def written(self) -> str:
        entry = {"step": self.step, "why": self.why, "loss": plain(self.loss), "norm": plain(self.norm)}
        return _sealed({**entry, "losses": [plain(loss) for loss in self.losses]})


@dataclass(frozen=True)
class RecordingProgress:
    """The number of steps so far, with the losses since the line before. `closed` is True if the recording has ended."""

    steps: int
    losses: tuple[float | None, ...] = ()
    closed: bool = False

    def written(self) -> str:
        losses = [plain(loss) for loss in self.losses]
        return _sealed({"steps": self.steps, "closed": self.closed, "losses": losses})


def _sealed(entry: Mapping[str, Any]) -> str:
    """Return a line of JSON that ends with its own checksum (CRC-32)."""
    text = json.dumps(entry, allow_nan=False)[:-1]
    return f'{text}, "crc": "{zlib.crc32(text.encode()):08x}"}}\n'


def read_line(text: str) -> StepRecord | RecordingProgress:
    """Parse one line of steps.rankN.jsonl, without its `losses`. Raises `ModelFileError` for an invalid or incomplete line."""
    try:
        entry = json.loads(text)
        sealed, _, checksum = text.rpartition(', "crc": "')
        if "crc" in entry and f'{zlib.crc32(sealed.encode()):08x}"}}' != checksum:
            raise ModelFileError("a line does not match its checksum")
        if not entry.keys() <= {"step", "why", "loss", "norm", "losses", "steps", "closed", "crc"}:
            raise ModelFileError("a line has an unknown entry")  # such as a damaged name of the checksum
        if "step" not in entry:
            return RecordingProgress(_count(entry["steps"]), closed=entry["closed"] is True)
        return StepRecord(_count(entry["step"]), str(entry["why"]), number(entry["loss"]), number(entry["norm"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise error if isinstance(error, ModelFileError) else ModelFileError("a line is damaged or cut off") from None


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 10**15:
        raise ModelFileError("a line has a step that is not a number")
    return value


def write_run(folder: Path, about: Mapping[str, Any]) -> None:
    """Write run.json atomically. Raises `OSError`."""
    beside = folder / f"{RUN}.{os.getpid()}.part"
    beside.write_text(json.dumps({"format": FORMAT, "version": VERSION, **about}, indent=1) + "\n", encoding="utf-8", newline="\n")
    os.replace(beside, folder / RUN)


def read_run(folder: Path) -> dict[str, Any]:
    """Read run.json. Raises `ModelFileError` if it is invalid, and `OSError`."""
    try:
        run = json.loads(read_text(folder / RUN))
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, ModelFileError) else ModelFileError(f"{RUN} in it is damaged; copy it again") from None
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        raise ModelFileError(f"{RUN} in it does not belong to a recording")
    if run.get("version") != VERSION:
        version = printable(repr(run.get("version")), 20)
        raise RecordingVersionError(f"it has version {version} of the format, and {VERSION} is read; update tui-gru")
    return run


def read_text(path: Path) -> str:
    """Return the text of a file. Raises `ModelFileError` if it is no file or too large, and `OSError`."""
    if not S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
        raise ModelFileError(f"{path.name} in it is no file; copy it again")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_TEXT:
            raise ModelFileError(f"{path.name} in it has {size} bytes, more than {MOST_TEXT}; it is not read")
        return file.read(MOST_TEXT).decode("utf-8", "replace")
