"""`tui_gru.record`: writes every n-th step of a training script and, if its condition holds, the last steps before it."""

from __future__ import annotations

import ast
import atexit
import contextlib
import itertools
import math
import multiprocessing.util
import operator
import os
import secrets
import signal
import sys
import sysconfig
import threading
import traceback
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from errno import ENOTDIR
from os import PathLike
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tui_gru.capture.calls import Buffers, CapturedStep, GivenCell, GRUCall, Note, all_entries_finite, square_of
from tui_gru.capture.format import (
    RUN,
    EndKind,
    RecordingProgress,
    ScriptEnd,
    StepRecord,
    described_module,
    encoded_number,
    encoded_step,
    lines_name,
    ranks_in,
    read_run,
    remove_recording,
    shard_name,
    write_run,
    write_shard,
    written_facts,
)
from tui_gru.capture.hooks import UNTRAINED, Capture, Optimizers
from tui_gru.capture.trial import in_trial
from tui_gru.disk import Flusher, GrowingFile, synchronise_folder
from tui_gru.errors import CaptureError, ModelFileError, printable, shown
from tui_gru.files.arrays import AnyArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module

# ------------------------------------------------------------------------------
# The condition at which a recorder writes the steps that it holds in memory, such as `nan or loss > 3*mean(loss)`.
#
# A name is a number of the step that has just ended; `mean`, `min` and `max` are over the steps before it, `prev` is the value of
# the step before. Unknown numbers are NaN, for which every comparison is false. The text is parsed by Python's parser, and only
# listed nodes are allowed.


NAMES = ("loss", "norm", "step", "lr", "nan")  # norm: of all gradients; nan: 1 if a number is not finite
WINDOW = 100  # the number of steps over which mean, min and max are computed
LONGEST = 1000
DEEPEST = 50

Evaluate: TypeAlias = Callable[[Mapping[str, float]], float]

_ARITHMETIC: Mapping[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b if b else math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a),
}
_COMPARISONS: Mapping[type[ast.AST], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_OVER_STEPS: Mapping[str, Callable[[list[float]], float]] = {
    "mean": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "prev": lambda values: values[-1],
}
_OF_A_NUMBER: Mapping[str, Callable[[float], float]] = {
    "abs": abs,
    "isnan": lambda a: float(math.isnan(a)),
    "isfinite": lambda a: float(math.isfinite(a)),
}


class Trigger:
    """A condition that fires at a step at which it becomes true, and not again while it stays true.

    Each part of an `or` fires by itself: a run that explodes, and later turns NaN, fires at both places.
    """

    def __init__(self, source: str) -> None:
        """Parse the condition; an empty one never fires. Raises a `CaptureError` with the column for an invalid condition."""
        if not isinstance(source, str):
            raise CaptureError(f"on must be a condition in quotes, not {type(source).__name__}; {_EXAMPLE}", option="on")
        self.source = source
        self._earlier: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in NAMES}
        self._parts = _compile(source, self._earlier) if source.strip() else []
        self._true_parts = [False] * len(self._parts)  # at the last step

    @property
    def waits_for_nan(self) -> bool:
        """True if a number that is not finite makes it fire, as far as its text shows, and that part is not true already."""
        return any(part.reads_nan and not is_true for part, is_true in zip(self._parts, self._true_parts, strict=True))

    def fires(self, values: Mapping[str, float]) -> bool:
        """Evaluate the condition on the numbers of a step. Returns True if a part is true and was not at the step before."""
        numbers = {name: float(values[name]) for name in NAMES}
        before, self._true_parts = self._true_parts, [_true(part.evaluate(numbers)) for part in self._parts]
        fires = any(now and not was for now, was in zip(self._true_parts, before, strict=True))
        for name, earlier in self._earlier.items():
            if math.isfinite(values[name]):
                earlier.append(float(values[name]))
        return fires


def _true(value: float) -> bool:
    return bool(value) and not math.isnan(value)


class _TriggerPart(NamedTuple):
    """A part of the `or` of a condition; `reads_nan` is True if it says whether a number is not finite."""

    evaluate: Evaluate
    reads_nan: bool


def _compile(source: str, earlier: Mapping[str, deque[float]]) -> list[_TriggerPart]:
    if len(source) > LONGEST:
        raise CaptureError(f"on is longer than {LONGEST} characters; shorten it", option="on")
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = getattr(error, "offset", None) or 1
        raise CaptureError(f"on: column {column}: {printable(source, 60)!r} is not a condition; {_EXAMPLE}", option="on") from None
    compiler, parts = _ConditionCompiler(earlier), [tree]
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.Or):
        parts = tree.values
    names = [{node.id for node in ast.walk(part) if isinstance(node, ast.Name)} for part in parts]
    return [_TriggerPart(compiler.number(part, 0), "nan" in read) for part, read in zip(parts, names, strict=True)]


_EXAMPLE = "write one such as nan or loss > 3*mean(loss)"


@dataclass(frozen=True)
class _ConditionCompiler:
    earlier: Mapping[str, deque[float]]

    def number(self, node: ast.expr, depth: int) -> Evaluate:
        """Return the value of a node: a number, with 1 and 0 for true and false."""
        if depth > DEEPEST:
            raise self._error(node, "it is nested too deeply")
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                number = self._float(node, value)
                return lambda values: number
            case ast.Name(id=name):
                return operator.itemgetter(self._checked_name(node, name))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inverted = self.number(operand, depth + 1)
                return lambda values: float(not _true(inverted(values)))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                positive = self.number(operand, depth + 1)
                return lambda values: -positive(values)
            case ast.BoolOp(op=op, values=parts):
                operands = [self.number(part, depth + 1) for part in parts]
                decide = any if isinstance(op, ast.Or) else all
                return lambda values: float(decide(_true(part(values)) for part in operands))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                a, b, apply = self.number(left, depth + 1), self.number(right, depth + 1), _ARITHMETIC[type(op)]
                return lambda values: apply(a(values), b(values))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                a, b, compare = self.number(left, depth + 1), self.number(right, depth + 1), _COMPARISONS[type(op)]
                return lambda values: float(compare(a(values), b(values)))
            case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]):
                return self._call(node, function, argument, depth)
        raise self._error(node, "this is not allowed here")

    def _call(self, node: ast.Call, function: str, argument: ast.expr, depth: int) -> Evaluate:
        if function in _OF_A_NUMBER:
            value, apply = self.number(argument, depth + 1), _OF_A_NUMBER[function]
            return lambda values: apply(value(values))
        if function not in _OVER_STEPS:
            raise self._error(node, f"there is no function {function}; there are {', '.join((*_OVER_STEPS, *_OF_A_NUMBER))}")
        if not isinstance(argument, ast.Name):
            raise self._error(node, f"{function} takes a name, as in {function}(loss)")
        steps, reduce = self.earlier[self._checked_name(argument, argument.id)], _OVER_STEPS[function]
        return lambda values: reduce(list(steps)) if steps else math.nan

    def _checked_name(self, node: ast.expr, name: str) -> str:
        if name not in NAMES:
            near = get_close_matches(name, NAMES)
            hint = f"did you mean {near[0]}?" if near else f"the names are {', '.join(NAMES)}"
            raise self._error(node, f"unknown name {name}; {hint}")
        return name

    def _float(self, node: ast.expr, value: float) -> float:
        try:
            return float(value)
        except OverflowError:
            raise self._error(node, "this number is too large") from None

    @staticmethod
    def _error(node: ast.expr, reason: str) -> CaptureError:
        return CaptureError(f"on: column {node.col_offset + 1}: {reason}; {_EXAMPLE}", option="on")


# ------------------------------------------------------------------------------
# `tui_gru.record`, a flight recorder for training. It writes every n-th step and, if a trigger fires, also the last steps.


HALF = ("bfloat16",)


class Recorder:
    """Records a run into a folder; created by `record`. It is also a context manager."""

    def __init__(
        self,
        folder: str | PathLike[str],
        module: Module,
        optimizer: Optimizers = None,
        head: Linear | None = None,
        every: int = 100,
        last: int = 8,
        on: str = "nan or loss > 3*mean(loss)",
        rank: int | None = None,
        overwrite: bool = False,
        cell: GivenCell | None = None,
    ) -> None:
        """Begin to record. Raises a `CaptureError` that names the argument and says what to do, `TuiGruError` without PyTorch."""
        from tui_gru.torch_loading import require_torch

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
        self._rates: list[tuple[int, float]] = []  # changes of the learning rate that are not written to a line yet
        self._rate: float | None = None
        self._written_losses = 0  # the number of steps whose losses are written to lines
        self._flusher = Flusher()
        self._missed, self._why_missed = 0, ""  # the steps that could not be written, and the first reason
        self.kept: list[int] = []
        self._cut: int | None = None  # the step within which the script stopped
        self._raised_before = sys.exception()  # one that is being handled while the recording begins does not end it
        self._warned = set[str]()
        self._process = os.getpid()
        self._asked = self.folder.absolute(), id(module)
        self._capture = Capture(
            module,
            optimizer,
            head=head,
            on_step=self._take,
            without_gradient=UNTRAINED,
            until_trained=True,
            take=Buffers(),
            rank=rank,
            wanted=self._is_wanted,
            on_not_finite=self._write_so_far,
            cell=cell,
            on_cell=self._write_cells,
        )
        self.rank = self._capture.rank
        try:
            self._lines = self._begin(overwrite)
        except BaseException:
            self._capture.close()
            raise
        _close_at_the_end(self)

    def __repr__(self) -> str:
        written = f"{len(self.kept)} steps written" if len(self.kept) != 1 else "1 step written"
        return f"<recorder into {self.folder}: every {self._every}, last {self._last}, on {self._trigger.source!r}; {written}>"

    def step(self, loss: float | Tensor | None = None) -> None:
        """End a step of training, after optimizer.step(). In a body that `tui_gru.steps` tries, it does nothing.

        Raises `CaptureError` if `loss` is not one number in the first step; later that is reported as a warning.
        """
        if in_trial():
            return
        if self._capture.closed:
            self._warn("closed", "the recording is closed, so this step and those after it are not recorded")
        try:
            self._capture.step(loss)
        except CaptureError as error:
            if self._capture.ended == 0:
                raise
            self._warn("loss", f"{error}; training continues")
            self._capture.step(None)

    def begin_at(self, number: int, losses: Sequence[float | None] = ()) -> None:
        """Let the first step have this number, after steps that are not recorded, with these losses. Call it before that step."""
        self._losses = [*losses[:number], *[None] * (number - len(losses))]
        self._capture.begin_at(number)

    def pass_over(self) -> None:
        """Leave a step out, which is not computed: the one after it has the next number. Call it between two steps."""
        self._losses.append(None)
        self._capture.begin_at(self._capture.ended + 1)

    def add(self, step: CapturedStep) -> None:
        """Write an earlier step, captured when it was computed again, unless it is written already."""
        with self._going_on():
            if step.number not in self.kept:
                self._keep(step, "before", norm_of(step))

    def close(self) -> None:
        """End the last step, remove all hooks, and mark the recording as complete.

        In a `finally` or `except` clause that an error has led to, the recording says by which error the script ended, and has the
        last steps before it.
        """
        end = _end_by(self._raised)
        self._close(stopped=end is not None, keeps_last=end is not None, end=end)

    def _close(self, *, stopped: bool, keeps_last: bool, end: ScriptEnd | None = None) -> None:
        """Close. `stopped`: the script ends by an error or a signal. `keeps_last`: the steps in memory are written as well."""
        if self._capture.closed:
            return
        with self._going_on():
            self._capture.close(stopped)
        _forget(self)
        if not self._is_own():
            return
        if end is None and (stopped or self._cut is not None):
            end = ScriptEnd(EndKind.UNSEEN)
        with self._going_on():
            if keeps_last:
                self._write_ring()
        with self._going_on():
            self._append_facts()
            end = None if end is None else replace(end, step=self._cut)
            self._append_progress(self._capture.ended, closed=True, end=end)
        self._ring.clear()
        with self._going_on():
            self._lines.close()
        with self._going_on():
            self._flusher.now()
            self._check_flusher()

    @property
    def closed(self) -> bool:
        """True once nothing is recorded any more."""
        return self._capture.closed

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close(stopped=error is not None, keeps_last=error is not None, end=_end_by(error))

    @property
    def _raised(self) -> BaseException | None:
        """The exception that is being handled, if it was raised since the recording began."""
        error = sys.exception()
        return None if error is self._raised_before else error

    def __del__(self) -> None:
        if hasattr(self, "_lines"):  # nobody can close it any more
            with contextlib.suppress(Exception):
                self._close(stopped=False, keeps_last=True)

    # Steps

    def _is_wanted(self, number: int) -> bool:
        return self._holds or self._is_regular(number)

    def _is_regular(self, number: int) -> bool:
        return self._every > 0 and number % self._every == 0

    def _take(self, step: CapturedStep) -> None:
        with self._going_on():
            self._record(step)

    def _record(self, step: CapturedStep) -> None:
        """Write an ended step, or hold it in memory."""
        if not self._is_own():
            self._warn("fork", "this process is a copy (fork) of the one that records; its steps are not recorded")
            return
        self._losses.append(step.loss)
        rate = step.settings.get("lr")
        if rate is not None and rate != self._rate:
            self._rates.append((step.number, rate))
            self._rate = rate
        self._append_facts()
        norm = norm_of(step)
        values = {
            "loss": math.nan if step.loss is None else step.loss,
            "norm": math.nan if norm is None else norm,
            "step": step.number,
            "lr": step.settings.get("lr", math.nan),
            "nan": float(not is_finite(step, norm)),
        }
        fires, stopped = self._trigger.fires(values), Note.CUT in step.notes
        self._cut = step.number if stopped else None
        if fires or stopped:
            self._write_ring()
        self._ring.append((step, norm))  # before it is written, since a signal can end the process in the meantime
        if fires or stopped or self._is_regular(step.number):
            self._keep(step, "trigger" if fires else "end" if stopped else "every", norm)
            if self._last:
                self._ring[-1] = None
        if fires or stopped:
            self._flusher.now()
        if len(self._losses) % MOST_LOSSES == 0 and self._losses:  # not at every step, if they cannot be written
            self._append_progress(step.number + 1)

    def _write_so_far(self, step: CapturedStep) -> None:
        """Write the steps in memory and what is known of the open step, in which a number is not finite: the script may stop in it.

        The step is written again, and gets its line, when it ends.
        """
        if self._is_own() and self._trigger.waits_for_nan:
            self._write_ring()
            self._write(step, "trigger", None)
            self._flusher.now()

    def _write_ring(self) -> None:
        for entry in self._ring:
            if entry is not None:
                self._keep(entry[0], "before", entry[1])
        self._ring.clear()

    def _keep(self, step: CapturedStep, why: str, norm: float | None) -> None:
        """Write a step, first its file and then its line; if its file cannot be written, a line that says so."""
        if self._write(step, why, norm):
            self.kept.append(step.number)
            self._append(StepRecord(step.number, why, step.loss, norm, *self._course_up_to(step.number + 1)))
        else:
            self._missed += 1
            self._append_progress(step.number + 1)

    def _write(self, step: CapturedStep, why: str, norm: float | None) -> bool:
        """Write the file of a step. Returns False if that fails: a full disk does not stop the training; it is reported once."""
        try:
            arrays, about = encoded_step(step)
            about |= {"why": why, "norm": encoded_number(norm)}
            half = any(call.dtype in HALF or call.autocast in HALF for call in step.calls)
            path = self._place / shard_name(step.number, self.rank)
            write_shard(path, arrays, about, half=half)
            self._flush_soon(path, self._place)
        except Exception as error:
            reason = _reason(error)
            self._why_missed = self._why_missed or reason
            self._warn("disk", f"step {step.number} is not recorded: {reason}; training continues")
            return False
        return True

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """Turn an error of the recorder into a warning: it must not end the training, nor what the script does at its end."""
        try:
            yield
        except Exception as error:
            self._warn("error", f"recording failed: {_reason(error)}; training continues")

    def _is_own(self) -> bool:
        """Return False in a copy (fork) of the process that records, such as a worker that loads data: both have the same files."""
        return os.getpid() == self._process

    def _warn(self, kind: str, text: str) -> None:
        """Warn once of each thing that goes wrong. The training continues."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"{printable(self.folder, 1000)}: {text}", stacklevel=3)

    def _course_up_to(self, steps: int) -> tuple[tuple[float | None, ...], tuple[tuple[int, float], ...]]:
        """Return the losses of the first `steps` steps, and the changes of their rate, that are not written to a line yet."""
        count = max(0, steps - self._written_losses)
        losses, self._losses = self._losses[:count], self._losses[count:]
        self._written_losses += len(losses)
        rates = tuple(change for change in self._rates if change[0] < steps)
        self._rates = self._rates[len(rates) :]
        return tuple(losses), rates

    # Files

    def _begin(self, overwrite: bool) -> GrowingFile:
        """Create the folder with run.json and this rank's file of lines.

        A recording that is there is replaced with `overwrite`; otherwise the next free name is taken, and said.
        """
        import torch

        named = self.folder
        run = {
            "modules": [described_module(module) for module in self._capture.torchs_modules],
            "cells": [],  # those written by hand, when they are found
            "optimizer": self._capture.optimizer,
            "ranks": self._capture.ranks,
            "run": _run_of_all_ranks(named) if self._capture.ranks > 1 else "",
            "every": self._every,
            "last": self._last,
            "on": self._trigger.source,
            "torch": torch.__version__,
        }
        try:
            if os.path.lexists(named) and not named.is_dir():
                raise NotADirectoryError(ENOTDIR, "it is a file" if named.is_file() else "it is no folder")
            for other in list(_open):  # whose cell of a notebook runs again: nobody ends its steps, and its hooks would go on
                if other.rank == self.rank and other._asked == self._asked:
                    other._close(stopped=False, keeps_last=True)
            if overwrite:
                self._remove_earlier(run)
            for folder in itertools.chain([named], _next_names(named)):
                with contextlib.suppress(FileExistsError):  # a file, or another process has just begun to record into it
                    folder.mkdir(parents=True, exist_ok=True)
                    if self._is_free(folder, run):
                        lines = GrowingFile(folder / lines_name(self.rank))
                        break
        except ModelFileError as error:
            folder_name = printable(named, 250)
            raise CaptureError(f"cannot record into {folder_name}: {error}; name another folder", option="folder") from None
        except (OSError, ValueError) as error:  # ValueError: a null byte
            reason = getattr(error, "strerror", None) or str(error)
            raise CaptureError(
                f"{printable(named, 250)} cannot be written: {reason}; name another folder", option="folder"
            ) from None
        self.folder, self._place = folder, folder.absolute()  # a script may change its working directory later
        for changed in (self._place, self._place.parent):
            synchronise_folder(changed)
        if folder != named:
            notice = f"{printable(named, 250)} has a recording already, so this one is {printable(folder, 250)}"
            print(f"tui_gru.record: {notice}; overwrite=True replaces it", file=sys.stderr)
        return lines

    def _write_cells(self) -> None:
        """Write the modules to run.json anew when a hand-written cell is found, or one that only seemed to be torch's; those of
        another rank are the same."""
        try:
            torchs = len(self._capture.torchs_modules)
            described = [described_module(module) for module in self._capture.modules]
            write_run(self._place, {**read_run(self._place), "modules": described[:torchs], "cells": described[torchs:]})
        except (ModelFileError, OSError) as error:
            self._warn("run", f"its {RUN} cannot be written: {error}; training continues")

    def _is_free(self, folder: Path, run: Mapping[str, Any]) -> bool:
        """Return True if a folder has no recording, or that of other ranks of this run; run.json is then in it."""
        if self.rank in ranks_in(folder):
            return False
        if (folder / RUN).exists():
            existing = read_run(folder)
            return all(existing.get(name, "") == run[name] for name in ("modules", "ranks", "run"))
        write_run(folder, run)
        return True

    def _remove_earlier(self, run: Mapping[str, Any]) -> None:
        """Delete what an earlier recording has in the folder: the files of this rank, and of ranks that do not train now."""
        for other in list(_open):
            if other.rank == self.rank and other.folder.resolve() == self.folder.resolve():
                other.close()
        if self.folder.is_dir():
            if (self.folder / RUN).exists():
                read_run(self.folder)  # raises an error if it is of something else
            ranks = self._capture.ranks
            remove_recording(self.folder, lambda rank: rank == self.rank or (self.rank == 0 and rank >= ranks))
            write_run(self.folder, run)

    def _append_facts(self) -> None:
        """Write what was seen of the watched steps since the last call."""
        for facts in self._capture.watch.memory.new():
            try:
                self._lines.append(written_facts(facts).encode())
            except OSError as error:
                self._warn("disk", f"its list of steps cannot be written: {_reason(error)}; training continues")

    def _append_progress(self, steps: int, *, closed: bool = False, end: ScriptEnd | None = None) -> None:
        self._append(RecordingProgress(steps, *self._course_up_to(steps), closed, self._missed, self._why_missed, end))

    def _append(self, line: StepRecord | RecordingProgress) -> None:
        """Write a line. If that fails, its losses come with the next one, and the file of the step has the rest of it."""
        try:
            self._lines.append(line.written().encode())
            self._flush_soon(self._lines.path)
        except OSError as error:  # also after the file was closed
            self._losses, self._rates = [*line.losses, *self._losses], [*line.rates, *self._rates]
            self._written_losses -= len(line.losses)
            self._warn("disk", f"its list of steps cannot be written: {_reason(error)}; training continues")

    def _flush_soon(self, *paths: Path) -> None:
        """Have files and folders flushed to the disk within a second, so that a power cut loses no more."""
        for path in paths:
            self._flusher.soon(path)
        self._check_flusher()

    def _check_flusher(self) -> None:
        if (failure := self._flusher.failure) is not None:
            self._warn("flush", f"what is recorded does not reach the disk: {_reason(failure)}; training continues")


def _reason(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__, 200)


_recorders = Counter[str]()  # by folder


def _run_of_all_ranks(folder: Path) -> str:
    """Return a name that all processes which train together have for this recording, so that they come into one folder; "" if they
    were not started by torch.distributed. None of them waits for another."""
    from torch import distributed

    _recorders[str(folder)] += 1
    if not distributed.is_available() or not distributed.is_initialized():
        return ""
    try:
        store = distributed.distributed_c10d._get_default_store()
        stored = store.compare_set(f"tui_gru {folder} {_recorders[str(folder)]}", "", secrets.token_hex(8))
    except (RuntimeError, AttributeError, NotImplementedError):  # a store of another kind
        return ""
    return str(stored.decode() if isinstance(stored, bytes) else stored)


def _next_names(folder: Path) -> Iterator[Path]:
    """Yield `run-2.gru`, `run-3.gru` … for the folder `run.gru`."""
    resolved = folder if folder.name not in ("", "..") else folder.resolve()
    yield from (resolved.with_name(f"{resolved.stem}-{number}{resolved.suffix}") for number in itertools.count(2))


# The open recorders. They are closed where the process ends without doing so: at the end of the interpreter, after an error or not,
# and at a signal that would end it without a word. A recorder lives no longer than its module; see `Recorder.__del__`.
_open: weakref.WeakSet[Recorder] = weakref.WeakSet()
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _close_at_the_end(recorder: Recorder) -> None:
    if not _open:
        atexit.unregister(_close_all)  # a process of multiprocessing forgets what its parent has registered
        atexit.register(_close_all)
        if multiprocessing.parent_process() is not None:  # which may end without running what atexit has
            multiprocessing.util.Finalize(None, _close_all, exitpriority=100)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is signal.SIG_DFL:  # another handler ends the process in a way of its own
                    signal.signal(number, _end)
    _open.add(recorder)


def _forget(recorder: Recorder) -> None:
    _open.discard(recorder)
    if not _open and threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)


def _close_all(stopped: bool | None = None, end: ScriptEnd | None = None) -> None:
    if stopped is None:  # at the end of the interpreter, which stores the error that it has shown
        stopped = hasattr(sys, "last_type")
    if end is None:
        # In a prompt or a notebook, the last error is that of some cell; a process of multiprocessing handles its error meanwhile.
        shown_last = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
        end = _end_by(sys.exception() or shown_last)
    for recorder in [recorder for recorder in _open if recorder._is_own()]:
        with contextlib.suppress(Exception):
            recorder._close(stopped=stopped or end is not None, keeps_last=True, end=end)


def _end(number: int, frame: FrameType | None) -> None:
    """Close all recorders and end by the signal, as the process would have without them."""
    place, code = "", ""
    with contextlib.suppress(Exception):  # the process ends by the signal, whatever happens
        place, code = _place_in_script(traceback.extract_stack(frame))
    _close_all(stopped=True, end=ScriptEnd(EndKind.STOPPED, signal.Signals(number).name, place, code))
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _end_by(error: BaseException | None) -> ScriptEnd | None:
    """Return how a script ends by an exception; None if that is none, or only the end of a generator."""
    if error is None or isinstance(error, (GeneratorExit, StopIteration, StopAsyncIteration)):
        return None
    kind = EndKind.STOPPED if isinstance(error, (KeyboardInterrupt, SystemExit)) else EndKind.ERROR
    try:
        cause = _in_one_line(error)
        place, code = _place_in_script(traceback.extract_tb(error.__traceback__))
    except Exception:  # an exception of the script's own, which cannot be written
        cause, place, code = type(error).__name__, "", ""
    return ScriptEnd(kind, printable(cause, MOST_OF_ERROR), place, code)


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "ctrl+c"
    if isinstance(error, SystemExit):
        return f"sys.exit({'' if error.code is None else shown(error.code)})"
    lines = [line.strip() for line in "".join(traceback.format_exception_only(error)).splitlines() if line.strip()]
    is_of_another_process = any(line.startswith("Traceback (") or "Original Traceback" in line for line in lines)
    return f"{lines[0]} … {lines[-1]}" if is_of_another_process else lines[0]


def _place_in_script(frames: traceback.StackSummary) -> tuple[str, str]:
    """Return the innermost place in the user's own files, `train.py:31`, and the text of that line; of any file if none is."""
    user_frames = [frame for frame in frames if not _is_of_a_library(frame.filename)] or list(frames)[-1:]
    if not user_frames:
        return "", ""
    frame = user_frames[-1]
    return f"{printable(os.path.basename(frame.filename), 100)}:{frame.lineno}", printable(frame.line or "", MOST_OF_ERROR)


def _is_of_a_library(path: str) -> bool:
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders.append(str(Path(__file__).parents[1]))
    return path.startswith(("<frozen ", *(folder + os.sep for folder in folders))) or "site-packages" in Path(path).parts


MOST_OF_ERROR = 200  # characters of an error or of a line of code
MOST_LOSSES = 1000  # that wait to be written with a line
MOST_HELD = 100_000  # steps in memory


def _count(name: str, value: Any, most: int) -> int:
    if type(value) is not int or value < 0:
        amount = "a negative one" if type(value) is int and value < -most else shown(value)
        raise CaptureError(f"{name} must be a whole number, 0 or more, not {amount}", option=name)
    if value > most:
        reason = "; these steps are held in memory" if name == "last" else ""
        raise CaptureError(f"{name} must be at most {most}{reason}", option=name)
    return value


def record(
    folder: str | PathLike[str],
    module: Module,
    optimizer: Optimizers = None,
    head: Linear | None = None,
    every: int = 100,
    last: int = 8,
    on: str = "nan or loss > 3*mean(loss)",
    rank: int | None = None,
    overwrite: bool = False,
    cell: GivenCell | None = None,
) -> Recorder:
    """Record what the GRUs in `module` compute while a script trains them, into a folder that `Session.open` opens.

        rec = tui_gru.record("run.gru", model, optimizer)
        for x, y in batches:
            …; loss.backward(); optimizer.step()
            rec.step(loss)
        rec.close()

    every: record every n-th step, counted from 0; 0 records none. last, on: the last steps are held in memory, and written when
    the condition becomes true, or when the script stops inside of a step. The condition can read loss, norm (of all gradients),
    step, lr and nan (a number of the step is not finite), and mean, min, max and prev of them over the steps before. optimizer:
    one, a list of them, or a wrapper that has `.optimizer`. head: the torch.nn.Linear that reads the GRU's output. rank: the
    rank of this process, by default torch.distributed's. overwrite: replace a recording in the folder; otherwise the next free
    name is taken, `run-2.gru`, and said (`rec.folder`). cell: the name of a hand-written cell or its equations,
    as of `debug`.

    Without `rec.step`, a step ends where the next one begins, and has no loss. Without `rec.close`, it is closed when the
    process ends, or gets SIGTERM or SIGHUP and `record` was called in its main thread; or when `record` is called again for the
    same folder and module, as by a cell of a notebook. Raises a `TuiGruError` that names the argument and says what to do; what
    it finds while the script trains never ends the script.
    """
    return Recorder(folder, module, optimizer, head, every, last, on, rank, overwrite, cell)


def norm_of(step: CapturedStep) -> float | None:
    """Return the Euclidean norm of all gradients that the step recorded; None if it recorded none."""
    gradients = list(_gradients(step))
    if not gradients:
        return None
    square = sum(square_of(array) for array in gradients)
    return math.sqrt(square)


def is_finite(step: CapturedStep, norm: float | None) -> bool:
    """Return True if the loss, the gradients, and all outputs of the GRUs and their gradients are finite."""
    if step.loss is not None and not math.isfinite(step.loss):
        return False
    if norm is not None and not math.isfinite(norm) and not all(map(all_entries_finite, _gradients(step))):
        return False
    outside = (array for call in step.calls for array in _outside(call) if array is not None)
    return all(map(all_entries_finite, outside))


def _outside(call: GRUCall) -> tuple[AnyArray | None, ...]:
    return call.out, call.hn, call.dout, call.dhn, call.states if len(call.hn) > 1 else None, call.flows


def _gradients(step: CapturedStep) -> Iterator[AnyArray]:
    yield from step.gradients.values()
    yield from (
        gradient
        for used in {id(call.weights): call.weights for call in step.calls}.values()
        for gradient in used.gradients.values()
    )
