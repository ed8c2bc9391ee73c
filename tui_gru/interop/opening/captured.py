"""Captured calls of a GRU as given batches: the calls of a step joined as rows, with the gradients from outside.

Row lengths make calls of different lengths and steps with different numbers of rows equal: a missing row has the length 0. The
gradient of a step is the sum over its calls and the mean over its ranks, so both are sums over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

import numpy as np

from tui_gru.engine.compiling.compiled import Compiled, compiled
from tui_gru.engine.data.given import GivenBatch
from tui_gru.engine.model import Structure
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Weights
from tui_gru.equations.compose import LIVE
from tui_gru.interop.capture.calls import CapturedStep, GRUCall, GRUModule, WeightSet
from tui_gru.interop.recomputing.comparing import TOLERANCES, tolerance_of
from tui_gru.interop.recomputing.gradients import compare_gradients
from tui_gru.interop.recomputing.models import (
    check_masks,
    classes_of,
    compiled_for,
    recompute,
    recorded_gradients,
    sizes_of,
    structure_of,
    torch_gradients,
    weights_of,
)
from tui_gru.interop.tensors import AnyArray


@dataclass(frozen=True)
class CallShape:
    """The shape of a call, known before its numbers are read. `classes` is the width of its head, or 0."""

    module: GRUModule
    timesteps: int
    rows: int
    lengths: bool
    masks: bool
    learned: bool
    classes: int
    dtype: str

    @classmethod
    def of(cls, call: GRUCall) -> CallShape:
        shape = call.timesteps, call.rows
        return cls(call.module, *shape, call.lengths is not None, bool(call.masks), call.learned, classes_of(call), call.dtype)


@dataclass(frozen=True)
class CapturedModel:
    """The model for all batches of a run, and its sizes."""

    module: GRUModule
    structure: Structure
    sizes: dict[str, int]
    dtype: str
    learns: bool

    @classmethod
    def around(cls, steps: Sequence[Sequence[CallShape]], classes: int | None = None) -> CapturedModel:
        """Return the frame of several steps, each with one or more calls of the same module; `classes` is the width of all heads if
        it is known. Raises `CaptureError` for an empty call."""
        every = [call for calls in steps for call in calls]
        module = every[0].module
        T, B = max(call.timesteps for call in every), max(sum(call.rows for call in calls) for calls in steps)
        alike = all(call.timesteps == T for call in every) and all(sum(call.rows for call in calls) == B for calls in steps)
        widths = {call.classes for call in every} if classes is None else {classes}
        V = widths.pop() if len(widths) == 1 else 0
        lengths, dropout = not alike or any(call.lengths for call in every), any(call.masks for call in every)
        structure = structure_of(module, head=V > 0, lengths=lengths, dropout=dropout)
        dtype = "float64" if any(call.dtype == "float64" for call in every) else "float32"
        return cls(module, structure, sizes_of(module, T, B, V), dtype, any(call.learned for call in every))


def calls_of(calls: Sequence[GRUCall]) -> list[GRUCall]:
    """Return the calls of one module that form a batch: all that learned with the weights of the last call, or only the last
    call."""
    learned = [call for call in calls if call.learned]
    return [call for call in learned if _same(call.weights, learned[-1].weights)] or [calls[-1]]


def _same(one: WeightSet, other: WeightSet) -> bool:
    """Return True if two sets have equal numbers; a parametrized module computes new tensors for each call."""
    return one is other or all(np.array_equal(value, other.values[name], equal_nan=True) for name, value in one.values.items())


def batch_of(
    frame: CapturedModel, steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]], scratch: Scratch | None = None
) -> GivenBatch:
    """Return the batch of one step, from the calls of the module in one process or in several ranks.

    `scratch` is shared by the steps of a recording. Raises `CaptureError` for calls whose inner values cannot be computed.
    """
    calls = [call for _, own in steps for call in own]
    first = calls[0]
    for call in calls:
        check_masks(call)
    T, B, structure = frame.sizes["T"], frame.sizes["B"], frame.structure
    model = compiled(structure, frame.sizes, frame.dtype)
    width = frame.module.directions * frame.module.hidden_size
    join = _Joined(calls, T, B, frame.dtype)
    inputs = {"x": join.timed(lambda call: call.x, frame.module.input_size)}
    if structure.lengths:
        inputs[LIVE] = join.live()
    for layer in range(frame.module.layers - 1 if structure.dropout else 0):
        inputs[f"mask_l{layer}"] = join.timed(partial(_mask, layer=layer), width, fill=1)
    outside = flows = None
    if frame.learns:
        share = 1 / len(steps)  # p.grad is the mean over the ranks
        outside = join.timed(partial(_outside, head=bool(structure.head)), frame.sizes["V"] if structure.head else width)
        flows = list(join.states(lambda call: call.dhn))
        if share != 1:
            outside, flows = share * outside, [share * flow for flow in flows]
    expected = join.timed(lambda call: call.out, width)
    weights = weights_of(first, model)
    losses = [step.loss for step, _ in steps if step.loss is not None]
    about = _About(steps, model, scratch or Scratch())
    return GivenBatch(
        weights=weights,
        inputs=inputs,
        states=join.states(lambda call: call.h0).astype(frame.dtype).ravel(),
        outside=outside,
        flows=flows,
        expected=expected,
        tolerance=max(tolerance_of(call) for call in calls),
        loss=sum(losses) / len(losses) if losses else np.nan,
        recorded=_recorded(steps, model),
        settings=steps[0][0].settings,
        remarks=about.remarks,
        derived=about.derived,
    )


def _mask(call: GRUCall, layer: int) -> AnyArray | None:
    return call.masks[layer] if call.masks else None


def _outside(call: GRUCall, head: bool) -> AnyArray | None:
    return call.head.dlogits if head and call.head is not None else call.dout


def _recorded(steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]], model: Compiled) -> Weights | None:
    """Return p.grad under the names of the model. It is the same on all ranks."""
    step, calls = steps[0]
    sets = list({id(call.weights): call.weights for call in calls}.values())
    if not step.gradients and not any(used.gradients for used in sets):
        return None
    summed = {
        name: own if len(sets) == 1 else np.sum([used.gradients[name] for used in sets if name in used.gradients], axis=0)
        for name, own in sets[0].gradients.items()
    }
    recorded = recorded_gradients(step, replace(calls[0], weights=replace(sets[0], gradients=summed)), model)
    for name, gradient in recorded.items() if not calls[0].module.bias else ():
        if name.startswith("b") and name != "by":
            gradient[...] = np.nan
    return recorded


_NAMES = ("p.", "h0 ")  # a sentence that begins with one of these does not get a capital


class Scratch:
    """One record in which the calls of several steps are computed again, in turn; fresh memory takes as long as the computation."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._record: BatchRecord | None = None

    def gradients(self, call: GRUCall, model: Compiled) -> Mapping[str, AnyArray]:
        """Return the gradients of a call, computed by its model, under torch's names. Only under the lock."""
        if self._record is None or self._record.compiled is not model:
            self._record = None  # releases its memory first
            self._record = BatchRecord(model)
        return torch_gradients(call, recompute(call, record=self._record).own_gradients, model)


class _About:
    """The remarks on a step. The gradients of its only call are those of the batch, if that is computed by the same model."""

    def __init__(self, steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]], model: Compiled, scratch: Scratch) -> None:
        self._steps, self._model, self._scratch = steps, model, scratch
        self._gradients: Weights | None = None
        self._text: str | None = None

    def derived(self, gradients: Weights) -> None:
        """Store the gradients of the batch."""
        if self._text is None:
            self._gradients = gradients.copy()

    def remarks(self) -> str:
        """Return the sentences, created once."""
        with self._scratch.lock:
            if self._text is None:
                self._text, self._gradients = sentences(self._steps, self._of), None
            return self._text

    def _of(self, call: GRUCall) -> Mapping[str, AnyArray]:
        """Return the gradients of a call under torch's names, in its own precision, which is enough to distinguish the causes."""
        model, own = compiled_for(call), [own for _, calls in self._steps for own in calls]
        if own == [call] and model is self._model and self._gradients is not None:
            return torch_gradients(call, self._gradients, model)
        return self._scratch.gradients(call, model)


def sentences(steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]], derive: Callable[[GRUCall], Mapping[str, AnyArray]]) -> str:
    """Return the sentences about a step: the relation of p.grad to the derived gradients, and the notes on pitfalls."""
    calls = [call for _, own in steps for call in own]
    learned = any(call.learned for call in calls)
    found = [f"{compare_gradients([step for step, _ in steps], derive).sentence}."] if learned else []
    notes = dict.fromkeys(note for step, _ in steps for note in step.notes) | dict.fromkeys(n for call in calls for n in call.notes)
    found += [f"{note.sentence}." for note in notes]
    found += remarks(calls)
    if len(calls) > len(steps):
        found.append(f"The rows are those of {len(calls) // len(steps)} calls of the GRU in this step.")
    if len(steps) > 1:
        found.append(f"The rows are those of {len(steps)} ranks.")
    return " ".join(sentence if sentence.startswith(_NAMES) else sentence[0].upper() + sentence[1:] for sentence in found)


class _Joined:
    """Joins arrays of several calls along the rows, padded to the longest call."""

    def __init__(self, calls: Sequence[GRUCall], timesteps: int, rows: int, dtype: str) -> None:
        self._calls, self._T, self._B, self._dtype = calls, timesteps, rows, dtype

    def _rows(self) -> Iterable[tuple[GRUCall, slice]]:
        at = 0
        for call in self._calls:
            yield call, slice(at, at + call.rows)
            at += call.rows

    def timed(self, read: Callable[[GRUCall], AnyArray | None], width: int, fill: float = 0) -> AnyArray:
        """Return (T, B, width), padded with `fill`; the array of the call itself if there is only one call of this shape and
        type."""
        parts = [(read(call), rows) for call, rows in self._rows()]
        only = parts[0][0] if len(parts) == 1 else None
        if only is not None and only.shape == (self._T, self._B, width) and only.dtype == self._dtype:
            return only
        joined = np.full((self._T, self._B, width), fill, self._dtype)
        for part, rows in parts:
            if part is not None:
                joined[: len(part), rows] = part
        return joined

    def states(self, read: Callable[[GRUCall], AnyArray | None]) -> AnyArray:
        """Return (layers · directions, B, H), padded with 0."""
        first = self._calls[0].h0
        joined = np.zeros((len(first), self._B, first.shape[2]), self._dtype)
        for call, rows in self._rows():
            if (part := read(call)) is not None:
                joined[:, rows] = part
        return joined

    def live(self) -> AnyArray:
        """Return (T, B), with 1 at the timesteps that a row has."""
        lengths = np.zeros(self._B, np.intp)
        for call, rows in self._rows():
            lengths[rows] = call.timesteps if call.lengths is None else call.lengths
        return np.arange(self._T)[:, None] < lengths


HALF = ("float16", "bfloat16")


def remarks(calls: Sequence[GRUCall]) -> Iterator[str]:
    """Yield sentences about the calls of one module in a step."""
    if any(map(_reads_last_output_of_both_directions, calls)):
        yield (
            "Only the output of the last timestep gets a gradient: its reverse half has read one input there; "
            "hn has the last state of both directions."
        )
    if any(map(_reads_padding, calls)):
        yield "The rows that are shorter than others get no gradient: their last output is padding; hn has their last state."
    for dtype in sorted({call.dtype for call in calls} & {*HALF}):
        yield f"The GRU computed in {dtype}, so its outputs agree only to about {TOLERANCES[dtype]:g} of the largest."
    if len(states := {_first_state(call) for call in calls}) == 1:
        yield states.pop()


def _first_state(call: GRUCall) -> str:
    if not call.h0_given:
        return "No h0 was given: it begins with 0, whatever the batch before ended with."
    if call.h0_attached:
        return "h0 was given with its graph: its gradient continues into the computation of h0."
    return "h0 was given without a graph, as after detach(): the gradient ends there."


def _reads_last_output_of_both_directions(call: GRUCall) -> bool:
    """Return True if only the last timestep gets a gradient, as with `output[-1]`, whose reverse half is the first state, not the
    last."""
    if (
        not call.module.bidirectional
        or call.dout is None
        or call.timesteps == 1
        or call.lengths is not None
        or call.dhn is not None
    ):
        return False
    return not call.dout[:-1].any() and bool(call.dout[-1, :, call.module.hidden_size :].any())


def _reads_padding(call: GRUCall) -> bool:
    """Return True if only the longest rows get a gradient, as with `output[-1]` of padded rows; the shorter rows then get none."""
    if call.lengths is None or call.dout is None or call.dhn is not None:
        return False
    reached, longest = call.dout.any(axis=(0, 2)), call.lengths == call.lengths.max()
    return not longest.all() and bool(np.array_equal(reached, longest)) and not call.dout[: int(call.lengths.max()) - 1].any()
