"""`tui_gru.record`, a flight recorder for training. It writes every n-th step and, if a trigger fires, also the last steps."""

from __future__ import annotations

import math
import os
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from errno import ENOTDIR
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from tui_gru.interop.capture.buffers import Buffers
from tui_gru.interop.capture.calls import CapturedStep
from tui_gru.interop.capture.capturing import Capture
from tui_gru.interop.errors import CaptureError, ModelFileError, printable
from tui_gru.interop.recording.encoding import encoded, plain
from tui_gru.interop.recording.folder import RUN, RecordingProgress, StepRecord, lines_name, read_run, shard_name, write_run
from tui_gru.interop.recording.shards import write_shard
from tui_gru.interop.recording.trigger import Trigger
from tui_gru.interop.tensors import AnyArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module
    from torch.optim import Optimizer

HALF = ("bfloat16",)


class Recorder:
    """Records a run into a folder; created by `record`. It is also a context manager."""

    def __init__(
        self,
        folder: str | PathLike[str],
        module: Module,
        optimizer: Optimizer | None = None,
        head: Linear | None = None,
        every: int = 100,
        last: int = 8,
        on: str = "nan or loss > 3*mean(loss)",
        rank: int | None = None,
    ) -> None:
        """Begin to record. Raises a `CaptureError` that names the argument and says what to do, `TuiGruError` without PyTorch."""
        from tui_gru.engine.reference.torch_loading import require_torch  # the script has loaded torch, if there is one

        require_torch("tui_gru.record")
        if not isinstance(folder, (str, PathLike)):
            raise CaptureError(f"folder must be a path, not {type(folder).__name__}", option="folder")
        if not os.fspath(folder):
            raise CaptureError("folder is empty; name the folder to record into", option="folder")
        self.folder = Path(os.path.expanduser(folder))
        self._every, self._last = _count("every", every, 10**15), _count("last", last, MOST_HELD)
        self._trigger = Trigger(on)
        self._holds = bool(self._last or self._trigger.source.strip())  # True if every step must be captured
        self._ring: deque[tuple[CapturedStep, float | None] | None] = deque(maxlen=self._last)  # None: a step already written
        self._losses: list[float | None] = []  # of the steps that are not written to a line yet
        self._written_losses = 0  # the number of steps whose losses are written to lines
        self.kept: list[int] = []
        self._warned = set[str]()
        self._process = os.getpid()
        self._capture = Capture(module, optimizer, head=head, on_step=self._take, take=Buffers(), rank=rank, wanted=self._is_wanted)
        self.rank = self._capture.rank
        try:
            self._lines = self._begin(optimizer)
        except BaseException:
            self._capture.close()
            raise

    def __repr__(self) -> str:
        written = f"{len(self.kept)} steps written" if len(self.kept) != 1 else "1 step written"
        return f"<recorder into {self.folder}: every {self._every}, last {self._last}, on {self._trigger.source!r}; {written}>"

    def step(self, loss: float | Tensor | None = None) -> None:
        """End a step of training, after optimizer.step(). Raises `CaptureError` if `loss` is not one number."""
        if self._capture.closed:
            self._warn("closed", "the recording is closed, so this step and those after it are not recorded")
        self._capture.step(loss)

    def close(self) -> None:
        """End the last step, remove all hooks, and mark the recording as complete."""
        if self._capture.closed:
            return
        self._capture.close()
        if not self._is_own():
            return
        self._append(RecordingProgress(self._capture.ended, self._losses_up_to(self._capture.ended), closed=True))
        self._ring.clear()
        self._lines.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Steps

    def _is_wanted(self, number: int) -> bool:
        return self._holds or self._is_regular(number)

    def _is_regular(self, number: int) -> bool:
        return self._every > 0 and number % self._every == 0

    def _take(self, step: CapturedStep) -> None:
        """Write an ended step, or hold it in memory."""
        if not self._is_own():
            self._warn("fork", "this process is a copy (fork) of the one that records; its steps are not recorded")
            return
        self._losses.append(step.loss)
        norm = norm_of(step)
        values = {
            "loss": math.nan if step.loss is None else step.loss,
            "norm": math.nan if norm is None else norm,
            "step": step.number,
            "lr": step.settings.get("lr", math.nan),
            "nan": float(not is_finite(step, norm)),
        }
        fires = self._trigger.fires(values)
        if fires:
            for held in self._ring:
                if held is not None:
                    self._keep(held[0], "before", held[1])
            self._ring.clear()
        if fires or self._is_regular(step.number):
            self._keep(step, "trigger" if fires else "every", norm)
            self._ring.append(None)
        else:
            self._ring.append((step, norm))
        if len(self._losses) >= MOST_LOSSES:
            self._append(RecordingProgress(step.number + 1, self._losses_up_to(step.number + 1)))

    def _keep(self, step: CapturedStep, why: str, norm: float | None) -> None:
        """Write a step, first its file and then its line. A full disk does not stop the training; it is reported once."""
        arrays, about = encoded(step)
        about |= {"why": why, "norm": plain(norm)}
        half = any(call.dtype in HALF or call.autocast in HALF for call in step.calls)
        try:
            write_shard(self.folder / shard_name(step.number, self.rank), arrays, about, half=half)
        except OSError as error:
            self._warn("disk", f"step {step.number} is not recorded: {error.strerror or error}; training continues")
            return
        self.kept.append(step.number)
        self._append(StepRecord(step.number, why, step.loss, norm, self._losses_up_to(step.number + 1)))

    def _is_own(self) -> bool:
        """Return False in a copy (fork) of the process that records, such as a worker that loads data: both have the same files."""
        return os.getpid() == self._process

    def _warn(self, what: str, text: str) -> None:
        """Warn once of each thing that goes wrong. The training continues."""
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(f"{printable(self.folder, 1000)}: {text}", stacklevel=3)

    def _losses_up_to(self, steps: int) -> tuple[float | None, ...]:
        """Return the losses of the first `steps` steps that are not written to a line yet."""
        count = max(0, steps - self._written_losses)
        losses, self._losses = self._losses[:count], self._losses[count:]
        self._written_losses += len(losses)
        return tuple(losses)

    # Files

    def _begin(self, optimizer: Optimizer | None) -> TextIO:
        """Create the folder with run.json and this rank's file of lines, without overwriting anything."""
        import torch

        shown = printable(self.folder, 250)
        run = {
            "modules": [asdict(module) for module in self._capture.modules],
            "optimizer": None if optimizer is None else type(optimizer).__name__,
            "ranks": self._capture.ranks,
            "every": self._every,
            "last": self._last,
            "on": self._trigger.source,
            "torch": torch.__version__,
        }
        try:
            if os.path.lexists(self.folder) and not self.folder.is_dir():
                raise NotADirectoryError(ENOTDIR, "it is a file" if self.folder.is_file() else "it is no folder")
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / RUN).exists():
                existing = read_run(self.folder)
                if any(existing.get(name) != run[name] for name in ("modules", "ranks")):
                    raise CaptureError(f"{shown} holds the recording of another run; name another folder", option="folder")
            else:
                write_run(self.folder, run)
            return open(self.folder / lines_name(self.rank), "x", encoding="utf-8", newline="\n")
        except FileExistsError:
            raise CaptureError(
                f"{shown} holds a recording of rank {self.rank} already; name another folder, or delete it",
                option="folder",
            ) from None
        except ModelFileError as error:
            raise CaptureError(f"cannot record into {shown}: {error}; name another folder", option="folder") from None
        except (OSError, ValueError) as error:  # ValueError: a null byte
            reason = getattr(error, "strerror", None) or str(error)
            raise CaptureError(f"{shown} cannot be written: {reason}; name another folder", option="folder") from None

    def _append(self, line: StepRecord | RecordingProgress) -> None:
        try:
            self._lines.write(line.written())
            self._lines.flush()
        except OSError:
            pass  # the file of the step has all information of its line


MOST_LOSSES = 1000  # that wait to be written with a line
MOST_HELD = 100_000  # steps in memory


def _count(name: str, value: Any, most: int) -> int:
    if type(value) is not int or value < 0:
        shown = "a negative one" if type(value) is int and value < -most else printable(repr(value), 40)
        raise CaptureError(f"{name} must be a whole number, 0 or more, not {shown}", option=name)
    if value > most:
        reason = "; these steps are held in memory" if name == "last" else ""
        raise CaptureError(f"{name} must be at most {most}{reason}", option=name)
    return value


def record(
    folder: str | PathLike[str],
    module: Module,
    optimizer: Optimizer | None = None,
    head: Linear | None = None,
    every: int = 100,
    last: int = 8,
    on: str = "nan or loss > 3*mean(loss)",
    rank: int | None = None,
) -> Recorder:
    """Record what the GRUs in `module` compute while a script trains them, into a folder that `Session.open` opens.

        rec = tui_gru.record("run.gru", model, optimizer)
        for x, y in batches:
            …; loss.backward(); optimizer.step()
            rec.step(loss)
        rec.close()

    every: record every n-th step, counted from 0; 0 records none. last, on: the last steps are held in memory, and written when the
    condition becomes true. The condition can read loss, norm (of all gradients), step, lr and nan (a number of the step is not
    finite), and mean, min, max and prev of them over the steps before. head: the torch.nn.Linear that reads the GRU's output. rank:
    the rank of this process, by default torch.distributed's. Without `rec.step`, a step ends where the next one begins, and has no
    loss. Raises a `TuiGruError` that names the argument and says what to do.
    """
    return Recorder(folder, module, optimizer, head, every, last, on, rank)


def norm_of(step: CapturedStep) -> float | None:
    """Return the Euclidean norm of all gradients that the step recorded; None if it recorded none."""
    gradients = list(_gradients(step))
    if not gradients:
        return None
    square = sum(_square(array) for array in gradients)
    return math.sqrt(square)


def is_finite(step: CapturedStep, norm: float | None) -> bool:
    """Return True if the loss, the gradients, and all outputs of the GRUs and their gradients are finite."""
    if step.loss is not None and not math.isfinite(step.loss):
        return False
    if norm is not None and not math.isfinite(norm) and not all(np.isfinite(array).all() for array in _gradients(step)):
        return False
    outside = (array for call in step.calls for array in (call.out, call.hn, call.dout, call.dhn) if array is not None)
    return all(math.isfinite(_square(array)) or bool(np.isfinite(array).all()) for array in outside)


def _gradients(step: CapturedStep) -> Iterator[AnyArray]:
    yield from step.gradients.values()
    yield from (
        gradient
        for used in {id(call.weights): call.weights for call in step.calls}.values()
        for gradient in used.gradients.values()
    )


def _square(array: AnyArray) -> float:
    """Return the sum of squares; not finite if an entry is not finite, or if it overflows."""
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):
        square = float(np.dot(flat, flat))
    return square if math.isfinite(square) or flat.dtype == np.float64 else float(np.square(flat, dtype=np.float64).sum())
