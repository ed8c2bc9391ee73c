"""Which cells of its input a prediction of a script's model reads, and how its targets are related to them.

One backward pass for each of some predictions, through the whole model in evaluation mode, shows at which cells (timestep, row) of
the input its gradient is not 0. A gradient of 0 does not prove that a cell is not read: that is decided by changing it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis.causes import EXACT, OBSERVED, PROVEN, ProvenCause
from tui_gru.capture.criterion import CriterionCall, Tape
from tui_gru.capture.replay import MOST_PLACES, Replay, criterion_or_linear
from tui_gru.engine.numbers import counted
from tui_gru.errors import CaptureError

if TYPE_CHECKING:
    from torch import Tensor

_ALL = 0.98  # share of targets from which on they are those of a rule; the rest are those at the borders of a text
_FEW = 0.7  # share below which they are not
_READ_WORK = 3 * 10**9  # products of a weight and an input that the reading of one step may compute
_FEWEST_PLACES = 4  # predictions that show whether rows and timesteps are read
Cells = NDArray[np.bool_]
_NOT_READ = {"input-not-read", "one-timestep", "no-context", "end-not-read"}  # what is said of one criterion's predictions


@dataclass(frozen=True, eq=False)
class PredictionReads:
    """What some predictions of a step read of one input: `cells` has for each of `places` which cells, (axis 0, axis 1)."""

    replay: Replay
    tape: Tape
    source: Tensor
    criterion: CriterionCall
    predictions: int
    places: tuple[int, ...]
    cells: tuple[Cells, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape[0], self.source.shape[1]

    @property
    def is_each_timestep(self) -> bool:
        """True if there is a prediction for each cell; otherwise there is one for each row."""
        return self.predictions == self.source.shape[0] * self.source.shape[1]

    @cached_property
    def tokens(self) -> bool:
        """True if the input is one of tokens, also of one-hot rows."""
        return not self.source.dtype.is_floating_point or self.is_one_hot

    @cached_property
    def is_one_hot(self) -> bool:
        source = self.source
        if source.dim() != 3 or source.shape[2] < 2 or not source.dtype.is_floating_point:
            return False
        return bool(((source == 0) | (source == 1)).all()) and bool((source.sum(2) == 1).all())

    @cached_property
    def within_one(self) -> tuple[bool, bool]:
        """Whether each prediction reads within one index of axis 0, and of axis 1."""
        return all(cell.any(1).sum() <= 1 for cell in self.cells), all(cell.any(0).sum() <= 1 for cell in self.cells)

    @cached_property
    def row_axis(self) -> int | None:
        """The axis of the rows of the batch: along it, a prediction reads one row. None if that is not known."""
        first, second = self.within_one
        if not self.is_each_timestep and self.shape[0] != self.shape[1]:
            return 0 if self.predictions == self.shape[0] else 1
        if first != second:
            return 0 if first else 1
        return None if self.is_each_timestep else (0 if self.predictions == self.shape[0] else 1)

    @property
    def values(self) -> NDArray[Any]:
        """The tokens, (T, B)."""
        source = self.source.argmax(2) if self.is_one_hot else self.source
        values = np.array(source.detach().cpu().tolist())
        return values.T if self.row_axis == 0 else values


def causes_by_reading(replay: Replay) -> list[ProvenCause]:
    """Return the causes that both of the last two watched steps show by what their predictions read."""
    last = [tape for tape in replay.tapes if tape.criterion is not None] or [t for t in replay.tapes if _has_linear(t)]
    shown = list[dict[str, ProvenCause]]()
    for tape in last[-2:]:
        causes = dict[str, ProvenCause]()
        for cause in _of_tape(replay, tape):
            if len(tape.criteria) <= 1 or cause.name not in _NOT_READ:  # another criterion may read it
                causes.setdefault(cause.name, cause)
        shown.append(causes)
    if not shown:
        return []
    return [cause for name, cause in shown[-1].items() if all(name in causes for causes in shown)]


def _has_linear(tape: Tape) -> bool:
    return tape.linear is not None and tape.linear.gradient is not None


def _of_tape(replay: Replay, tape: Tape) -> Iterator[ProvenCause]:
    yield from _of_row_order(replay, tape)
    unread, sources = 0, tape.sources()
    for source in sources:
        try:
            reading = read_cells(replay, tape, source)
        except (RuntimeError, CaptureError, IndexError, ValueError):  # a model that cannot be computed with other inputs
            continue
        if reading is None:
            continue
        if not any(cell.any() for cell in reading.cells):
            unread += 1
            if unread == len(sources) and not reading.is_each_timestep and not _moves(reading):
                yield ProvenCause(
                    "input-not-read",
                    PROVEN,
                    "no prediction depends on the inputs",
                    f"the gradient of {len(reading.cells)} predictions is exactly 0 at every cell of the input",
                    "look between the input and the output, and at what the head reads",
                    "with another input the predictions are the same",
                    is_effect=True,
                )
            continue
        yield from _of_rows(reading)


_CHANGED_ROWS = 5


def _of_row_order(replay: Replay, tape: Tape) -> Iterator[ProvenCause]:
    """Predictions of which there is one a row, in another order than the rows: by changing some rows, each alone."""
    criterion, sources = criterion_or_linear(tape), tape.sources()
    count = len(criterion.rows(criterion.input))
    if criterion.kind == "linear" or not sources or count < 4 or _compares_rows(criterion):
        return
    source = sources[0]
    axes = [axis for axis in (0, 1) if source.shape[axis] == count]
    if len(axes) != 1 or source.shape[0] * source.shape[1] == count:
        return
    rows = sorted({0, 1, count // 3, count // 2, count - 1})[:_CHANGED_ROWS]
    try:
        reached = replay.predictions_of_rows(tape, source, axes[0], rows)
    except (RuntimeError, CaptureError, IndexError, ValueError):
        return
    others = [(row, next(iter(places))) for row, places in zip(rows, reached, strict=True) if len(places) == 1]
    moved = [(row, place) for row, place in others if row != place]
    if len(others) == len(rows) and len(moved) >= 3 and len({place for _, place in others}) == len(others):
        row, place = moved[-1]
        yield ProvenCause(
            "rows-permuted",
            PROVEN,
            "the predictions are in another order than the rows, and so than the targets",
            f"of {len(rows)} rows that were changed, each alone, {len(moved)} change the prediction of another row",
            "bring the outputs back into the order of the rows (perm.argsort()), or bring the targets into theirs; "
            "pack_padded_sequence(…, enforce_sorted=False) does it by itself",
            f"on a copy: a change of row {row + 1} changes prediction {place + 1} alone",
        )


def _moves(reading: PredictionReads) -> bool:
    nothing = np.zeros(reading.shape, bool)
    return reading.replay.changes(reading.tape, reading.source, reading.places[-1], nothing)


def read_cells(replay: Replay, tape: Tape, source: Tensor) -> PredictionReads | None:
    """Return what predictions read of an input; None if they are not one for each row or cell, or cannot be computed again."""
    criterion = criterion_or_linear(tape)
    if _compares_rows(criterion):
        return None
    count = len(criterion.rows(criterion.input))
    first, second = source.shape[:2]
    has_all = count == first * second
    if min(first, second) < 2 or not (has_all or count in (first, second)):
        return None
    if has_all:
        chosen = {0, 1, count // 2, count - 1, count // 3, 2 * count // 3 + 1, count // 5, second + 1, 2 * second, 2 * first + 1}
        places = tuple(sorted(place for place in chosen if place < count))
    else:
        places = tuple(range(min(count, MOST_PLACES)))
    most = max(_FEWEST_PLACES, _READ_WORK // replay.work_of(tape))
    if len(places) > most:  # a backward pass of each takes as long as one of a step
        places = tuple(dict.fromkeys(places[round(i * (len(places) - 1) / (most - 1))] for i in range(most)))
    begins_alike = any(
        value.dim() == 2 and value.numel() > 1 and float(value.float().std()) == 0 for value in replay.watch.start_state.values()
    )
    cells = replay.reads(tape, source, places, start=not begins_alike)
    if cells is None:
        return None
    narrow = all(cell.any(1).sum() <= 1 and cell.any(0).sum() <= 1 for cell in cells)
    if narrow and not begins_alike and (now := replay.reads(tape, source, places, start=False)) is not None:
        cells = [one | other for one, other in zip(cells, now, strict=True)]  # nothing else is read now, either
    return PredictionReads(replay, tape, source, criterion, count, places, tuple(cells))


def _compares_rows(criterion: CriterionCall) -> bool:
    """Return True if the classes of a row are the rows of the batch, as where pairs are told from others."""
    shape, target = criterion.input.shape, criterion.target
    if criterion.kind != "ce" or len(shape) != 2 or shape[0] != shape[1] or target.dtype.is_floating_point:
        return False
    return sorted(target.reshape(-1).tolist()) == list(range(shape[0]))


# ------------------------------------------------------------------------------
# Rows and timesteps.


def _of_rows(x: PredictionReads) -> Iterator[ProvenCause]:
    one_row_0, one_row_1 = x.within_one
    first, second = x.shape
    largest = max(range(len(x.cells)), key=lambda i: int(x.cells[i].sum()))
    cell, number = x.cells[largest], x.places[largest] + 1
    mixed = not (one_row_0 or one_row_1)
    if not mixed and not x.is_each_timestep and first != second:
        mixed = not x.within_one[x.row_axis or 0]
    if mixed:
        try:
            where = x.replay.where_rows_mix(x.tape, x.source)
        except (RuntimeError, CaptureError, ValueError):
            where = ""
        yield ProvenCause(
            "rows-mixed",
            EXACT,
            f"a prediction reads several rows of the batch{f': rows begin to mix {where}' if where else ''}",
            f"prediction {number} has a gradient at {int(cell.any(1).sum())} × {int(cell.any(0).sum())} cells of the {first} × "
            f"{second} "
            "input, by a backward pass through a copy of the model in evaluation mode",
            "look at batch_first, at a view or reshape in the place of a transpose, at the axis of a softmax, at hn.view",
        )
        return
    if x.is_each_timestep and one_row_0 and one_row_1:
        if sum(not cell.any() for cell in x.cells) < 0.5 * len(x.cells):
            yield from _of_one_cell(x)
        return
    if x.row_axis is None:
        return
    if x.is_each_timestep:
        yield from _of_targets(x)
    else:
        yield from _of_ends(x)


def _of_one_cell(x: PredictionReads) -> Iterator[ProvenCause]:
    """Each prediction has a gradient at one cell: the state is not passed on, or passed on without its graph."""
    from torch import nn

    late = max(range(len(x.places)), key=lambda i: x.places[i])
    if x.replay.changes(x.tape, x.source, x.places[late], x.cells[late]):
        yield ProvenCause(
            "detached-at-every-timestep",
            PROVEN,
            "the state is detached at every timestep: no gradient flows back through time",
            f"{len(x.cells)} of {len(x.cells)} predictions have a gradient at 1 of {x.source.shape[0]} × {x.source.shape[1]} "
            "cells of "
            "the input",
            "detach the state between batches, not between timesteps",
            "changing the other inputs changes the prediction, where its gradient is exactly 0",
        )
    elif any(isinstance(part, nn.RNNBase | nn.RNNCellBase) for part in x.replay.watch.names):
        yield ProvenCause(
            "no-context",
            PROVEN,
            "each prediction reads one timestep only: the state is not passed on",
            f"{len(x.cells)} of {len(x.cells)} predictions have a gradient at 1 of {x.source.shape[0]} × {x.source.shape[1]} "
            "cells of "
            "the input",
            "pass the state that a call returns to the next one",
            "changing all other inputs does not change the prediction",
        )


def _padding(x: PredictionReads) -> tuple[int, NDArray[np.intp]] | None:
    """Return the padding's token and the length of each row without it, (B), if the ends of most rows are padded."""
    if not x.tokens:
        return None
    values = x.values
    T, B = values.shape
    last = np.bincount(values[-1] - values.min()).argmax() + values.min()
    lengths = np.array([int(np.flatnonzero(values[:, b] != last)[-1]) + 1 if (values[:, b] != last).any() else 0 for b in range(B)])
    inside = sum(int((values[: lengths[b], b] == last).sum()) for b in range(B))
    padded = lengths < T
    return (int(last), lengths) if padded.sum() >= 0.5 * B and not inside and len(set(lengths)) > 1 and T > 2 else None


def _of_ends(x: PredictionReads) -> Iterator[ProvenCause]:
    """Which timesteps are read by predictions of which there is one a row."""
    assert x.row_axis is not None
    over_time: list[Cells] = [np.asarray(cell.any(x.row_axis)) for cell in x.cells]
    T = len(over_time[0])
    places = {int(np.flatnonzero(reached)[0]) for reached in over_time if reached.any()}
    if T > 2 and all(reached.sum() == 1 for reached in over_time) and len(places) == 1:
        late = x.cells[-1]
        if not x.replay.changes(x.tape, x.source, x.places[-1], late):
            yield ProvenCause(
                "one-timestep",
                PROVEN,
                f"every prediction reads only timestep {places.pop() + 1} of {T}",
                f"the gradient at the other {T - 1} is exactly 0 in {len(x.cells)} of {counted(len(x.cells), 'row')}",
                "read the last output, output[:, -1], or hn[-1]",
                "changing the other timesteps does not change the prediction",
            )
    if (padding := _padding(x)) is not None:
        yield from _of_padding(over_time, *padding, T)
    yield from _of_target_in_input(x)


def _of_padding(over_time: Sequence[Cells], token: int, lengths: NDArray[np.intp], T: int) -> Iterator[ProvenCause]:
    extra = [int(reached[lengths[i] :].sum()) for i, reached in enumerate(over_time)]
    missing = [int((~reached[: lengths[i]]).sum()) for i, reached in enumerate(over_time)]
    reached_lengths = [int(reached.sum()) for reached in over_time]
    row_lengths = [int(length) for length in lengths[: len(over_time)]]
    count = len(over_time)
    if any(extra) and any(missing) and sorted(reached_lengths) == sorted(row_lengths):
        yield ProvenCause(
            "lengths-permuted",
            EXACT,
            "the lengths belong to other rows",
            f"{sum(map(operator.ne, reached_lengths, row_lengths))} of {counted(count, 'row')} are read to the length of "
            "another; sorted, both lists are equal",
            "sort the rows together with the lengths, or enforce_sorted=False",
        )
    elif sum(m > 0 for m in missing) >= 0.9 * count and not any(extra):
        if all(reached[0] for i, reached in enumerate(over_time) if lengths[i] > max(missing)):
            yield ProvenCause(
                "end-not-read",
                EXACT,
                f"the last {max(set(missing), key=missing.count)} timesteps of each row are never read",
                f"in {sum(m > 0 for m in missing)} of {counted(count, 'row')}, and no padding is read: the lengths are too short",
                "count all tokens of a row",
            )
    elif sum(e > 0 for e in extra) >= 0.5 * sum(length < T for length in row_lengths) and sum(extra) > sum(row_lengths):
        yield ProvenCause(
            "padding-read",
            EXACT,
            f"the padding is read as text: a prediction reads {sum(extra) / count:.0f} padded timesteps (token {token}) after the "
            "end of "
            "its row",
            f"{sum(e > 0 for e in extra)} of {counted(count, 'row')}; "
            f"the rows themselves have {np.mean(row_lengths):.0f} timesteps",
            "pack_padded_sequence, or read each row at its own length",
        )


def _of_target_in_input(x: PredictionReads) -> Iterator[ProvenCause]:
    target = x.criterion.target
    if x.tokens or not target.dtype.is_floating_point or target.numel() != x.predictions or x.predictions < 4:
        return
    if x.criterion.kind == "linear":
        return
    targets = np.array(target.detach().cpu().reshape(-1).tolist())
    inputs = np.array(x.source.detach().cpu().tolist())
    inputs = inputs if x.row_axis == 0 else inputs.swapaxes(0, 1)
    equal = np.argwhere((inputs == targets[:, None, None]).all(0))
    equal = equal[equal[:, 0] == inputs.shape[1] - 1] if len(equal) else equal
    if len(equal) and targets.std() > 0:
        yield ProvenCause(
            "target-in-input",
            EXACT,
            "the target stands in the input",
            f"timestep {equal[0][0] + 1}, feature {equal[0][1] + 1} is equal to it in all {counted(len(targets), 'row')}",
            "shift the window by one",
        )


# ------------------------------------------------------------------------------
# Targets against inputs, where there is a prediction for each timestep.


@dataclass(frozen=True, eq=False)
class _Targets:
    """Targets of tokens as (T, B) in the order of the predictions, and in the other order; `counted` are those with a gradient."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    reordered: NDArray[Any]
    counted: Cells
    causal: bool
    ahead: tuple[int, int] | None  # a prediction, and the later timestep that it reads

    def share(self, shift: int, *, reordered: bool = False, without: int | None = None) -> float:
        """Return the share of the targets that are equal to the input `shift` timesteps later."""
        T = len(self.inputs)
        values = self.reordered if reordered else self.targets
        window = slice(max(0, -shift), T - max(0, shift))
        theirs = self.inputs[max(0, shift) : T + min(0, shift)]
        among = np.ones_like(self.counted[window]) if reordered else self.counted[window].copy()
        if without is not None:
            among &= values[window] != without
        return float((values[window] == theirs)[among].mean()) if among.sum() > 8 else 0.0

    def shares(self, *, reordered: bool = False, without: int | None = None) -> dict[int, float]:
        T = len(self.inputs)
        return {s: self.share(s, reordered=reordered, without=without) for s in range(-2, 4) if abs(s) + 1 < T}


def _order(x: PredictionReads) -> bool | None:
    """Return True if the predictions are in the order of the input's cells, False if the two axes are exchanged; None if both
    fit, or none."""
    first, second = x.shape
    assert x.row_axis is not None

    def fits(same: bool) -> bool:
        for place, cell in zip(x.places, x.cells, strict=True):
            if not cell.any():
                continue
            index = divmod(place, second) if same else tuple(reversed(divmod(place, first)))
            rows = cell.any(1 - x.row_axis)  # type: ignore[operator]
            if not (rows[index[x.row_axis]] and rows.sum() == 1):  # type: ignore[index]
                return False
            if np.flatnonzero(cell.any(x.row_axis))[-1] < index[1 - x.row_axis]:  # type: ignore[operator]
                return False
        return True

    same, exchanged = fits(True), fits(False)
    return None if same == exchanged else same


def _of_targets(x: PredictionReads) -> Iterator[ProvenCause]:
    order, target, gradient = _order(x), x.criterion.target, x.criterion.gradient
    if order is None or x.criterion.kind == "linear" or gradient is None or not x.tokens:
        return
    if target.numel() != x.predictions or target.dtype.is_floating_point:
        return
    first, second = x.shape
    flat = np.array(target.detach().cpu().reshape(-1).tolist())
    reached = np.array((x.criterion.rows(gradient).abs().amax(1) > 0).cpu().tolist())

    def ordered(values: NDArray[Any], same: bool) -> NDArray[Any]:
        arranged = values.reshape(first, second) if same else values.reshape(second, first).T
        return arranged.T if x.row_axis == 0 else arranged

    ahead = None
    for place, cell in zip(x.places, x.cells, strict=True):
        index = divmod(place, second) if order else tuple(reversed(divmod(place, first)))
        time = index[1 - x.row_axis]  # type: ignore[operator]
        read_at = np.flatnonzero(cell.any(x.row_axis))
        if len(read_at) and read_at[-1] > time and ahead is None:
            ahead = time, int(read_at[-1])
    targets = _Targets(
        x.values, ordered(flat, order), ordered(flat, not order), ordered(reached, order), ahead is None, ahead
    )  # fmt: skip
    padding = _padding(x)
    yield from _of_shift(x, targets, None if padding is None else padding[0])
    if padding is not None:
        yield from _of_mask(targets, *padding, ordered(reached, not order))


def _of_shift(x: PredictionReads, y: _Targets, without: int | None) -> Iterator[ProvenCause]:
    shares = y.shares(without=without)
    others = y.shares(reordered=True)
    best, best_other = max(shares, key=lambda s: shares[s]), max(others, key=lambda s: others[s])
    share, count = shares[best], y.targets.size
    as_they_are = f"{100 * share:.0f} % of {count:,} targets"
    if share < _FEW and others[best_other] > _ALL:
        yield ProvenCause(
            "targets-in-other-order",
            EXACT,
            "the targets are flattened in another order than the predictions",
            f"as they are, {100 * share:.0f} % of the targets are the next input; with both axes exchanged "
            f"{100 * others[best_other]:.0f} % are",
            "flatten both alike: transpose before reshape",
        )
    elif share > _ALL and best <= 0 and y.causal and shares.get(1, 0.0) < 0.9:
        # To repeat an input after some timesteps can be the task; to repeat it at once is none.
        which = "its own input" if best == 0 else f"the input {counted(-best, 'timestep')} before"
        yield ProvenCause(
            "target-is-input",
            EXACT if best == 0 else OBSERVED,
            f"the target of a timestep is {which}, which the prediction reads: there is nothing to predict",
            f"{as_they_are} are equal to it, and the prediction has a gradient there",
            "shift the targets by one: text[:-1] and text[1:]",
        )
    elif share > _ALL and best >= 1 and y.ahead is not None and shares.get(1, 0.0) > _ALL:
        yield ProvenCause(
            "reads-target",
            EXACT,
            "the prediction of a timestep reads the next input, which is its target",
            f"{100 * shares[1]:.0f} % of {count:,} targets are the next input; prediction {y.ahead[0] + 1} has a gradient at input "
            f"{y.ahead[1] + 1}",
            "read only what is before: no backward direction, no attention or convolution without a mask, no norm over time",
        )
    elif share < _FEW:
        yield from _of_other_rows(x, y, share)
    elif share > _ALL and best >= 2:
        yield ProvenCause(
            "target-too-far",
            EXACT,
            f"the targets are the inputs {best} timesteps ahead, not the next ones",
            f"{as_they_are} are equal to these, {100 * shares.get(1, 0.0):.0f} % to the next input",
            "shift the targets by one",
        )
    off = ~y.counted
    if x.criterion.kind in ("ce", "nll") and without is None and shares.get(1, 0.0) > _ALL and off.mean() > 0.03:
        ids = np.unique(y.targets[off])
        if len(ids) == 1 and ids[0] >= 0 and (y.targets == ids[0]).sum() == off.sum() and (y.inputs == ids[0]).any():
            yield ProvenCause(
                "class-ignored",
                EXACT,
                f"the loss leaves out every place whose target is {ids[0]}: {100 * off.mean():.0f} % of all",
                f"the gradient there is exactly 0; {ids[0]} is an input within the rows as well, and no padding",
                "another ignore_index (the default is −100)",
            )


def _of_other_rows(x: PredictionReads, y: _Targets, share: float) -> Iterator[ProvenCause]:
    inputs, targets = y.inputs, y.targets
    T, B = inputs.shape
    next_share = float((targets[:, :-1] == inputs[:, 1:]).mean())
    if next_share > _ALL:
        yield ProvenCause(
            "axes-swapped",
            EXACT,
            "the model takes the batch for time: the targets follow along the other axis of the input",
            f"{100 * next_share:.0f} % of the targets are the next input along axis {x.row_axis}, along which the predictions read "
            "nothing; "
            f"{100 * share:.0f} % along the axis that they read",
            "batch_first=True, or a transpose of the input",
        )
        return
    # A model that reads the whole row can give it back reversed: that is a task.
    reversed_targets = targets[::-1] if y.causal else np.full_like(targets, targets.max() + 1)
    alike = [reversed_targets == inputs, reversed_targets[1:] == inputs[:-1], reversed_targets[:-1] == inputs[1:]]
    if max(float(equal.mean()) for equal in alike) > _ALL:
        yield ProvenCause(
            "time-reversed",
            EXACT,
            "inputs and targets run in opposite directions of time",
            f"reversed, {100 * max(float(equal.mean()) for equal in alike):.0f} % of the targets are the neighbouring inputs; as "
            "they "
            f"are, {100 * share:.0f} %",
            "flip both or none",
        )
        return
    for distance in range(1, B):
        rolled = np.roll(inputs, distance, 1)
        for shift in range(-1, 3):
            if abs(shift) + 1 >= T:
                continue
            window = slice(max(0, -shift), T - max(0, shift))
            equal = float((targets[window] == rolled[max(0, shift) : T + min(0, shift)]).mean())
            if equal > _ALL:
                which = f"the row {distance} before" if distance <= B // 2 else f"the row {B - distance} after"
                yield ProvenCause(
                    "targets-of-other-rows",
                    EXACT,
                    f"the targets are those of other rows: each row has the {'next ' if shift == 1 else ''}inputs of {which}",
                    f"{100 * equal:.0f} % of {targets.size:,} targets are equal to these, {100 * share:.0f} % to inputs of their "
                    "own row",
                    "roll or shift along time, not along the rows",
                )
                return


def _of_mask(y: _Targets, token: int, lengths: NDArray[np.intp], other: Cells) -> Iterator[ProvenCause]:
    """Which places the loss counts, where rows are padded."""
    T = len(y.inputs)
    rows = np.arange(T)[:, None] < lengths[None]
    reached = y.counted
    if not reached.any():
        return
    behind = float((reached & ~rows).sum() / reached.sum())
    counts = reached.sum(0)
    if behind > 0.95:
        yield ProvenCause(
            "mask-inverted",
            EXACT,
            "the loss counts the padding and leaves out the rows: the mask is inverted",
            f"{int((reached & ~rows).sum()):,} of {int(reached.sum()):,} places with a gradient lie behind the end of their row",
            "mask = x != padding",
        )
    elif behind > 0.03 and other.shape == rows.shape and (other == rows).all() and not (reached == rows).all():
        yield ProvenCause(
            "targets-in-other-order",
            EXACT,
            "the targets are flattened in another order than the predictions",
            f"{100 * behind:.0f} % of the loss lies on padding; with both axes exchanged the mask fits the rows exactly",
            "make both batch first, or both time first",
        )
    elif behind > 0.03 and sorted(counts) == sorted(lengths) and list(counts) != list(lengths):
        yield ProvenCause(
            "targets-of-other-rows",
            EXACT,
            "the targets belong to other rows",
            f"{int((counts != lengths).sum())} of {counted(len(lengths), 'row')} have as many targets as another row has tokens; "
            "sorted, "
            "both lists are equal",
            "sort rows and targets alike",
        )
    targets = y.targets[reached & ~rows]
    if behind > 0.2 and len(targets) and float((targets == token).mean()) > 0.9:
        yield ProvenCause(
            "padding-in-loss",
            EXACT,
            f"{100 * behind:.0f} % of the loss is padding: the target there is {token}",
            f"{int((reached & ~rows).sum()):,} of {int(reached.sum()):,} places with a gradient lie behind the end of their row",
            "ignore_index of the criterion, or a mask",
        )
