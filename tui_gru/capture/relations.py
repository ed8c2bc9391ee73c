"""How the numbers of a training step are related: rows to the rows before them, targets to inputs, neighbours to each other."""

from __future__ import annotations

import dis
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

NORMALIZING = {"softmax": 1, "log_softmax": 1, "normalize": 2}  # functions, and which argument of theirs the axis is
MOST_PAIRS = 40_000  # of neighbours in a text that are counted
MOST_ROWS = 20_000  # of which it is remembered which row came after them
FLAT_FROM = 8.0  # a gate or state whose sum is farther from 0 has a slope below 1/2980: the sigmoid's at 8
_SAMPLE = 256  # timesteps of which sums are computed
_DIFFERENT = 4  # numbers that a row has at least that is known again
_SHUFFLES = 4  # that show what two texts without a connection tell about each other by chance
_OUTSIDE, _OFTEN = 20.0, 0.005  # deviations of the others that a mark of missing values lies outside; its share of a feature
_CLIPS = ("clip_grad_norm_", "clip_grad_norm", "clip_grad_value_")
_HERE = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True)
class AxisFacts:
    """A function that makes the numbers along an axis add up to something: its name, the axis, and the shape; and how many rows the
    batch has, 0 if that is not known."""

    function: str
    axis: int
    shape: tuple[int, ...]
    rows: int = 0


@dataclass(frozen=True)
class TextFacts:
    """What neighbours in the tokens of all watched steps tell about each other, in nats above what chance gives: those in time, and
    those along the rows of the batch; and the last token of all rows at a timestep about the first one at the next. The deviations
    are those of chance."""

    in_time: float
    across_rows: float
    around: float
    deviation: float
    deviation_around: float
    pairs: int


@dataclass(frozen=True)
class SuccessorFacts:
    """Rows that came more than once while the state of a row was carried on: how many, and how many of these were followed by
    another row than the first time."""

    again: int
    different: int


def normalized_axis(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AxisFacts | None:
    """Return over which axis a call normalizes; None if it is not known."""
    values: Any = args[0] if args else kwargs.get("input")
    axis = kwargs.get("dim", args[NORMALIZING[name]] if len(args) > NORMALIZING[name] else 1 if name == "normalize" else None)
    if not isinstance(axis, int) or not getattr(values, "requires_grad", False) or not -values.dim() <= axis < values.dim():
        return None
    return AxisFacts(name, axis % values.dim(), tuple(values.shape))


class RowMemory:
    """Which row of inputs has followed which one in the same place of the batch."""

    def __init__(self) -> None:
        self._next: dict[float, float | None] = {}
        self._again = self._different = 0
        self._weights: Tensor | None = None

    def add(self, before: Tensor, after: Tensor, axis: int) -> SuccessorFacts | None:
        """Add the rows of two steps that follow each other, along an axis. Returns what is known then; None if nothing is."""
        if before.shape[axis] != after.shape[axis] or len(self._next) > MOST_ROWS:
            return self.facts
        for row, later in zip(self._marks(before, axis), self._marks(after, axis), strict=True):
            if row is None:
                continue
            if row in self._next:
                self._again += 1
                self._different += self._next[row] != later
            else:
                self._next[row] = later
        return self.facts

    @property
    def facts(self) -> SuccessorFacts | None:
        return SuccessorFacts(self._again, self._different) if self._again else None

    def _marks(self, values: Tensor, axis: int) -> list[float | None]:
        """Return one number for each row, equal for equal rows; None for rows of few numbers, which come again by chance."""
        import torch

        rows = values.detach().movedim(axis, 0).flatten(1).cpu().double()
        if self._weights is None or len(self._weights) != rows.shape[1]:
            generator = torch.Generator().manual_seed(1)
            self._weights = torch.rand(rows.shape[1], dtype=torch.float64, generator=generator)
        ordered = rows.sort(1).values
        different = (ordered[:, 1:] != ordered[:, :-1]).sum(1) + 1
        marks: list[float] = (rows * self._weights).sum(1).tolist()
        return [mark if count >= _DIFFERENT else None for mark, count in zip(marks, different.tolist(), strict=True)]


class TextMemory:
    """Pairs of neighbours in the tokens of steps, in time, along the rows, and around the end of a row of the array."""

    def __init__(self) -> None:
        self._pairs: tuple[list[NDArray[np.int64]], ...] = ([], [], [])

    def add(self, tokens: NDArray[np.int64]) -> None:
        """Add the tokens of a step, (T, B)."""
        if sum(map(len, self._pairs[0])) < MOST_PAIRS and min(tokens.shape) > 1:
            for kept, one, other in zip(
                self._pairs,
                (tokens[:-1], tokens[:, :-1], tokens[:-1, -1]),
                (tokens[1:], tokens[:, 1:], tokens[1:, 0]),
                strict=True,
            ):
                kept.append(np.stack([one.ravel(), other.ravel()], axis=1))

    @property
    def facts(self) -> TextFacts | None:
        """What is known of all steps; None if there is nothing."""
        if not self._pairs[0]:
            return None
        time, rows, around = (np.concatenate(kept) for kept in self._pairs)
        (in_time, _), (in_batch, deviation) = _information(time), _information(rows)
        gained, by_chance = _gain_by(rows, around)
        return TextFacts(in_time, in_batch, gained, deviation, by_chance, len(time))


def _counts(pairs: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return how often each pair occurs, and for each the numbers of its first and of its second token."""
    size = int(pairs.max()) + 1 if len(pairs) else 1
    codes, count = np.unique(pairs[:, 0] * size + pairs[:, 1], return_counts=True)
    first, second = np.bincount(pairs[:, 0], minlength=size), np.bincount(pairs[:, 1], minlength=size)
    return count.astype(float), first[codes // size].astype(float), second[codes % size].astype(float)


def _mutual(pairs: NDArray[np.int64]) -> float:
    count, first, second = _counts(pairs)
    total = len(pairs)
    return float((count / total * np.log(count * total / (first * second))).sum())


def _information(pairs: NDArray[np.int64]) -> tuple[float, float]:
    """Return how much the first tokens of pairs tell about the second ones, above that of shuffled ones; and their deviation."""
    generator = np.random.Generator(np.random.PCG64(1))
    by_chance = [_mutual(np.stack([pairs[:, 0], generator.permutation(pairs[:, 1])], axis=1)) for _ in range(_SHUFFLES)]
    return _mutual(pairs) - float(np.mean(by_chance)), float(np.std(by_chance, ddof=1))


def _gain_by(pairs: NDArray[np.int64], others: NDArray[np.int64]) -> tuple[float, float]:
    """Return by how many nats the second tokens of `others` are likelier by the frequencies of `pairs` than if they are shuffled,
    and the standard error of that."""
    size = int(max(pairs.max(), others.max())) + 1
    codes, counts = np.unique(pairs[:, 0] * size + pairs[:, 1], return_counts=True)
    table = dict(zip(codes.tolist(), counts.tolist(), strict=True))
    firsts = np.bincount(pairs[:, 0], minlength=size)

    def likely(second: NDArray[np.int64]) -> NDArray[np.float64]:
        joint = np.array([table.get(code, 0) for code in (others[:, 0] * size + second).tolist()], float)
        return np.log((joint + 1 / size) / (firsts[others[:, 0]] + 1))

    generator = np.random.Generator(np.random.PCG64(2))
    gains = likely(others[:, 1]) - likely(generator.permutation(others[:, 1]))
    return float(gains.mean()), float(gains.std() / math.sqrt(max(1, len(gains) - 1)))


# ------------------------------------------------------------------------------
# What a recurrent module reads.


def flat_share(part: Module, values: Tensor, weights: Mapping[Any, Tensor]) -> float | None:
    """Return the share of a recurrent module's gates and states that are in the flat part of their functions by the input alone:
    |W x + b| > 8, with the weights of a mapping; None if it is not known."""
    weights_of_part = dict(part.named_parameters(recurse=False))
    weight = weights_of_part.get("weight_ih_l0", weights_of_part.get("weight_ih"))
    bias = weights_of_part.get("bias_ih_l0", weights_of_part.get("bias_ih"))
    is_relu = getattr(part, "nonlinearity", "") == "relu"  # which has no limit above
    if weight is None or is_relu or not values.dtype.is_floating_point or values.shape[-1] != weight.shape[1]:
        return None
    rows = values.detach().reshape(-1, values.shape[-1])
    rows = rows[:: max(1, len(rows) // _SAMPLE)]
    first = weights.get(weight, weight.detach())
    usual = 1 / math.sqrt(3 * max(1, int(part.hidden_size)))  # type: ignore[arg-type]
    size = float(first.square().mean().sqrt())
    # Of weights that are larger than those that PyTorch draws, it is not the input that is too large.
    sums = rows.to(weight.dtype) @ (first * min(1.0, usual / size) if size else first).t()
    if bias is not None:
        sums = sums + weights.get(bias, bias.detach())
    return float((sums.abs() > FLAT_FROM).float().mean()) if sums.numel() else None


def mark_of_missing(values: Tensor) -> tuple[float, float, float] | None:
    """Return a number far outside of all others that a feature has again and again, as −999: the number, its share of all entries,
    and the largest of the others; None if there is none."""
    import torch

    if not values.dtype.is_floating_point or values.numel() < 64:
        return None
    flat = values.detach().reshape(-1, values.shape[-1])
    if not bool(torch.isfinite(flat).all()):
        return None
    for number in (float(flat.min()), float(flat.max())):
        equal = flat == number
        shares = equal.float().mean(0)
        column = int(shares.argmax())
        others = flat[~equal[:, column], column]
        if float(shares[column]) < _OFTEN or int(equal[:, column].sum()) < 3 or len(others) < 8:
            continue
        deviation = float(others.std())
        if deviation > 0 and abs(number - float(others.mean())) > _OUTSIDE * deviation and abs(number) > float(others.abs().max()):
            return number, float(equal.float().mean()), float(flat[~equal].abs().max())
    return None


def place_of_target(source: Tensor, target: Tensor) -> tuple[int, int] | None:
    """Return the timestep, counted from the last one, and the feature of an input that are equal to the target of each row; None
    if none are."""
    count = target.numel()
    if source.dim() != 3 or not source.dtype.is_floating_point or not target.dtype.is_floating_point or count < 4:
        return None
    values = target.detach().reshape(-1)
    if float(values.std()) == 0:
        return None
    for rows in (source.detach(), source.detach().transpose(0, 1)):
        if rows.shape[0] == count and rows.shape[1] != count:
            equal = (rows == values[:, None, None]).all(0).nonzero()
            if len(equal):
                time, feature = equal[-1].tolist()
                return rows.shape[1] - 1 - time, feature
    return None


def share_equal(tokens: Tensor, target: Tensor) -> float | None:
    """Return the share of the targets that are the token of their own place; None if they are none for each place."""
    if tokens.dtype.is_floating_point or target.dtype.is_floating_point or tokens.numel() != target.numel() or tokens.dim() > 2:
        return None
    orders = [target.reshape(tokens.shape)]
    if tokens.dim() == 2:
        orders.append(target.reshape(tokens.shape[::-1]).t())
    return max(float((ordered == tokens).float().mean()) for ordered in orders) if tokens.numel() > 1 else None


# ------------------------------------------------------------------------------
# Where a script clips.


def script_frame(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the script's own function that has called, through torch and this program; None if there is none."""
    while frame is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def clip_in_source(frame: FrameType) -> tuple[str, int] | None:
    """Return where a function whose frame calls step() clips gradients, if it does so once, where it has no effect: "before
    backward()" or "after step()", with the line; None otherwise.

    It is found by the order of the instructions of the code that runs: nothing of the script is changed.
    """
    clips, passes = list[tuple[int, int]](), list[int]()
    line = frame.f_code.co_firstlineno
    for instruction in dis.get_instructions(frame.f_code):
        line = _line_of(instruction, line)
        if instruction.argval in _CLIPS and "LOAD" in instruction.opname:
            clips.append((instruction.offset, line))
        elif instruction.argval == "backward" and "LOAD" in instruction.opname:
            passes.append(instruction.offset)
    if len(clips) != 1 or len(passes) != 1:
        return None
    (clip, line), backward, step = clips[0], passes[0], frame.f_lasti
    if clip < backward < step:
        return "before backward()", line
    return ("after step()", line) if backward < step < clip else None


def _line_of(instruction: dis.Instruction, before: int) -> int:
    line = instruction.starts_line  # a number, or from Python 3.13 on whether a line begins here
    if line is None or line is False:
        return before
    number: int | None = getattr(instruction, "line_number", None) if line is True else line
    return before if number is None else number


def _is_library(name: str) -> bool:
    return name.startswith((_HERE, "<frozen")) or f"{_SEPARATOR}torch{_SEPARATOR}" in name


_SEPARATOR = "\\" if sys.platform == "win32" else "/"
