"""Runs on captured batches, and those of a recording."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, overload

import numpy as np

from tui_gru.capture.calls import CapturedStep, GRUCall, GRUModule, Note, WeightSet
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import Compiled, compiled
from tui_gru.engine.model import Structure
from tui_gru.engine.numbers import counted, scientific
from tui_gru.engine.source import Imported, ImportedBatch, ModuleLink
from tui_gru.engine.training import Prefetch
from tui_gru.engine.weights import Weights
from tui_gru.equations.page import KEEP, LIVE, SET
from tui_gru.equations.syntax import did_you_mean, with_word
from tui_gru.errors import CaptureError, RecordingError, printable
from tui_gru.files.arrays import AnyArray
from tui_gru.files.kinds import KINDS
from tui_gru.imported.recompute import (
    HEAD_TOLERANCE,
    TOLERANCES,
    GradientComparison,
    Relation,
    array_difference,
    check_masks,
    classes_of,
    compare_gradients,
    compiled_for,
    derivable,
    growth,
    model_weights,
    output_name,
    outside_gradient,
    recompute,
    recorded_gradients,
    sequences,
    sizes_of,
    stepped_call,
    structure_of,
    tolerance_of,
    torch_gradients,
)
from tui_gru.imported.recordings import KeptStep, Recording, identity_of, open_recording, recognised, stamp_of

# ------------------------------------------------------------------------------
# Captured calls of a GRU as imported batches: the calls of a step joined as rows, with the gradients from outside.
#
# Row lengths make calls of different lengths and steps with different numbers of rows equal: a missing row has the length 0. The
# gradient of a step is the sum over its calls and the mean over its ranks, so both are sums over rows.


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
    resets: bool = False
    inner: bool = False
    script: bool = False

    @classmethod
    def of(cls, call: GRUCall) -> CallShape:
        shape = call.timesteps, call.rows
        masks, resets = bool(call.masks), call.keep is not None
        inner = call.inner is not None or (call.flows is not None and len(call.hn) > 1)  # flows: what it has is not known yet
        lengths, classes = call.lengths is not None, classes_of(call)
        return cls(call.module, *shape, lengths, masks, call.learned, classes, call.dtype, resets, inner, call.script is not None)


@dataclass(frozen=True, eq=False)
class CapturedBatch(ImportedBatch):
    """The batch of a step of a script. `steps` has the step of each rank, with the calls of which the batch consists. `is_misread`
    returns True if autograd through the module itself has shown that the derived gradients are wrong."""

    steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]] = ()
    is_misread: Callable[[], bool] = lambda: False


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
        shapes = [call for calls in steps for call in calls]
        module = shapes[0].module
        T, B = max(call.timesteps for call in shapes), max(sum(call.rows for call in calls) for calls in steps)
        alike = all(call.timesteps == T for call in shapes) and all(sum(call.rows for call in calls) == B for calls in steps)
        widths = {call.classes for call in shapes} if classes is None else {classes}
        V = widths.pop() if len(widths) == 1 else 0
        lengths, dropout = not alike or any(call.lengths for call in shapes), any(call.masks for call in shapes)
        resets = any(call.resets for call in shapes)
        inner = any(call.inner for call in shapes)
        script = any(call.script for call in shapes)
        structure = structure_of(module, head=V > 0, lengths=lengths, dropout=dropout, resets=resets, inner=inner, script=script)
        dtype = "float64" if any(call.dtype == "float64" for call in shapes) else "float32"
        return cls(module, structure, sizes_of(module, T, B, V), dtype, any(call.learned for call in shapes))


def calls_of(calls: Sequence[GRUCall]) -> list[GRUCall]:
    """Return the calls of one module that form a batch: all that learned with the weights of the last call, if they can without
    those whose gradient no optimizer used, or only the last call."""
    learned = [call for call in calls if call.counts] or [call for call in calls if call.learned]
    return [call for call in learned if _same(call.weights, learned[-1].weights)] or [calls[-1]]


def _same(one: WeightSet, other: WeightSet) -> bool:
    """Return True if two sets have equal numbers; a parametrized module computes new tensors for each call."""
    return one is other or all(np.array_equal(value, other.values[name], equal_nan=True) for name, value in one.values.items())


def batch_of(
    frame: CapturedModel, steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]], reused: ReusedRecord | None = None
) -> CapturedBatch:
    """Return the batch of one step, from the calls of the module in one process or in several ranks.

    `reused` is shared by the steps of a recording. Raises `CaptureError` for calls whose inner values cannot be computed.
    """
    calls = [call for _, calls in steps for call in calls]
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
    if structure.resets:
        inputs[KEEP] = join.keep()
        inputs |= {
            with_word(state, SET): join.timed(partial(_set, i), frame.module.hidden_size) for i, state in enumerate(model.states)
        }
    upstream = flows = None
    inner = dict[str, AnyArray]()
    if frame.learns and any(call.learned for call in calls):
        share = 1 / len(steps)  # p.grad is the mean over the ranks
        upstream = join.timed(partial(_upstream, head=bool(structure.head)), frame.sizes["V"] if structure.head else width)
        flows = list(join.states(lambda call: call.dhn))
        for name in model.model.page.outputs[1:]:
            gradient = partial(outside_gradient, name=name, states=model.states)
            inner[name] = share * join.timed(gradient, frame.module.hidden_size)
        if share != 1:
            upstream, flows = share * upstream, [share * flow for flow in flows]
    expected = join.timed(lambda call: call.out, width)
    weights = model_weights(first, model)
    losses = [step.loss for step, _ in steps if step.loss is not None]
    step_remarks = _StepRemarks(steps, model, reused or ReusedRecord())
    return CapturedBatch(
        weights=weights,
        inputs=inputs,
        states=join.states(lambda call: call.h0).astype(frame.dtype).ravel(),
        upstream=upstream,
        flows=flows,
        inner=inner,
        expected=expected,
        tolerance=max(tolerance_of(call) for call in calls),
        loss=sum(losses) / len(losses) if losses else np.nan,
        recorded=_recorded(steps, model),
        settings=steps[0][0].settings,
        remarks=step_remarks.remarks,
        derived=step_remarks.derived,
        links=partial(_links, steps),
        steps=steps,
        is_misread=step_remarks.is_misread,
    )


def changed_parameters(batch: CapturedBatch, weights: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Return the parameters of the script, by their names in its module, that other weights of a batch need, under the names of the
    model; {} if the weights are those of the batch.

    Raises `CaptureError` if a changed weight is no parameter of the script, or not one alone.
    """
    call = batch.steps[0][1][0]
    model, used = compiled_for(call), call.weights
    before, after = (Weights.zeros(model.layout, str(model.dtype)) for _ in range(2))
    changed = set[str]()
    for name in before.names:
        before[name][...] = batch.weights[name]
        after[name][...] = weights[name]
        if not np.array_equal(before[name], after[name], equal_nan=True):
            changed.add(name)
    if not changed:
        return {}
    was, new = torch_gradients(call, before, model), torch_gradients(call, after, model)
    values = {name: np.array(value) for name, value in used.values.items()}
    for name, array in new.items():
        differs = (array != was[name]).reshape(values[name].shape)
        if differs.any() and name.startswith("bias_") and not _is_one(was[name], values[name]):
            if name.startswith("bias_hh"):
                continue  # the equations have the sum of both biases, and the first one takes the change
            values[name][differs] += (array - was[name]).reshape(differs.shape)[differs]
        else:
            values[name][differs] = array.reshape(differs.shape)[differs]
    head, of_head = call.head, dict[str, AnyArray]()
    if head is not None and changed & {"Wy", "by"}:
        if head.bias is None and "by" in changed:
            raise CaptureError("by: the head of the script has no bias, so that there is nothing to change; use edit=")
        of_head = {f"{head.name}.{part}": after[name].T for part, name in (("weight", "Wy"), ("bias", "by")) if name in changed}
        head = replace(head, weight=after["Wy"].T, bias=None if head.bias is None else after["by"])
    edited_call = replace(call, weights=replace(used, values=values), head=head)
    if np.array_equal(model_weights(edited_call, model).flat, after.flat, equal_nan=True):
        altered = {name: value for name, value in values.items() if not np.array_equal(value, used.values[name], equal_nan=True)}
        if altered.keys() <= used.parameters.keys():
            return {used.parameters[name]: value for name, value in altered.items()} | of_head
    words = ", ".join(sorted(changed))
    raise CaptureError(f"{words}: no single parameter of the script has these numbers; change them with edit=")


def _is_one(named: AnyArray, value: AnyArray) -> bool:
    """Return True if a bias of the model is one of torch's, and not the sum of two."""
    return np.array_equal(named.ravel(), value.ravel(), equal_nan=True)


def _links(steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]]) -> dict[str, ModuleLink]:
    """Return the links of a batch to the other modules of its step. They are known for one call in one process; several are joined
    as rows."""
    if len(steps) > 1 or len(steps[0][1]) > 1:
        return {}
    (step, (call,)), links = steps[0], dict[str, ModuleLink]()
    for other in step.calls:
        if other.number == call.number or other.module == call.module:
            continue
        first, then = (other, call) if other.number < call.number else (call, other)
        for i, j in _passed_on(first, then):
            ends, begins = compiled_for(first), compiled_for(then)
            if then is call:
                back = ends.model.page.states[ends.states[i]].backwards
                links[begins.states[j]] = ModuleLink(first.module.name, ends.states[i], 0 if back else first.timesteps - 1)
            else:
                page = begins.model.page
                back, before = page.states[begins.states[j]].backwards, page.before(begins.states[j])
                link = ModuleLink(then.module.name, f"d{before}", then.timesteps - 1 if back else 0)
                links.setdefault(f"d{ends.states[i]}", link)
    return links


def _passed_on(first: GRUCall, then: GRUCall) -> Iterator[tuple[int, int]]:
    """Yield the last states of a call, and the first states of a later one, that are the same; states of zeros are not."""
    if not then.h0_given:
        return
    for j, begin in enumerate(then.h0):
        same = (i for i, end in enumerate(first.hn) if end.shape == begin.shape and begin.any() and np.array_equal(end, begin))
        if (i := next(same, None)) is not None:
            yield i, j


def _mask(call: GRUCall, layer: int) -> AnyArray | None:
    return call.masks[layer] if call.masks else None


def _set(state: int, call: GRUCall) -> AnyArray | None:
    return None if call.states_set is None else call.states_set[:, state]


def _upstream(call: GRUCall, head: bool) -> AnyArray | None:
    return call.head.dlogits if head and call.head is not None else call.dout


def _recorded(steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]], model: Compiled) -> Weights | None:
    """Return p.grad under the names of the model. It is the same on all ranks."""
    step, calls = steps[0]
    if Note.CUT in step.notes and not any(call.learned for call in calls):
        return None  # p.grad is still that of the step before
    sets = list({id(call.weights): call.weights for call in calls}.values())
    if not step.gradients and not any(used.gradients for used in sets):
        return None
    summed = {
        name: gradient if len(sets) == 1 else np.sum([used.gradients[name] for used in sets if name in used.gradients], axis=0)
        for name, gradient in sets[0].gradients.items()
    }
    recorded = recorded_gradients(step, replace(calls[0], weights=replace(sets[0], gradients=summed)), model)
    for name, gradient in recorded.items() if not calls[0].module.bias else ():
        if name.startswith("b") and name != "by":
            gradient[...] = np.nan
    return recorded


_NAMES = ("p.", "h0 ", "torch.", "tui_gru ")  # a sentence that begins with one of these does not get a capital


class ReusedRecord:
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


class _StepRemarks:
    """The remarks on a step. The gradients of its only call are those of the batch, if that is computed by the same model."""

    def __init__(self, steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]], model: Compiled, reused: ReusedRecord) -> None:
        self._steps, self._model, self._reused = steps, model, reused
        self._gradients: Weights | None = None
        self._text: str | None = None
        self._misread = False

    def derived(self, gradients: Weights) -> None:
        """Store the gradients of the batch."""
        if self._text is None:
            self._gradients = gradients.copy()

    def remarks(self) -> str:
        """Return the sentences, created once."""
        with self._reused.lock:
            if self._text is None:
                compared = compared_with_recorded(self._steps, self._of)
                self._misread = compared is not None and compared.is_misread
                self._text, self._gradients = sentences(self._steps, compared), None
            return self._text

    def is_misread(self) -> bool:
        self.remarks()
        return self._misread

    def _of(self, call: GRUCall) -> Mapping[str, AnyArray]:
        """Return the gradients of a call under torch's names, in its own precision, which is enough to distinguish the causes."""
        model, calls = compiled_for(call), [other for _, others in self._steps for other in others]
        if calls == [call] and model is self._model and self._gradients is not None:
            return torch_gradients(call, self._gradients, model)
        return self._reused.gradients(call, model)


def compared_with_recorded(
    steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]], derive: Callable[[GRUCall], Mapping[str, AnyArray]]
) -> GradientComparison | None:
    """Return the relation of p.grad to the derived gradients; None if the calls of the batch received none."""
    if not any(call.learned for _, calls in steps for call in calls):
        return None
    compared = compare_gradients([step for step, _ in steps], derive)
    if compared.cause is not Relation.DIFFERENT:
        return compared
    # By rounding, if it is not from the states that the script had.
    again = compare_gradients([step for step, _ in steps], lambda call: derive(stepped_call(call)))
    return again if again.cause is not Relation.DIFFERENT or again.error < compared.error else compared


def sentences(steps: Sequence[tuple[CapturedStep, Sequence[GRUCall]]], compared: GradientComparison | None) -> str:
    """Return the sentences about a step: the relation of p.grad to the derived gradients, and the notes on pitfalls."""
    calls = [call for _, calls in steps for call in calls]
    lines = [] if compared is None else [f"{compared.sentence}."]
    notes = dict.fromkeys(note for step, _ in steps for note in step.notes) | dict.fromkeys(n for call in calls for n in call.notes)
    lines += [f"{note.sentence}." for note in notes]
    lines += remarks(calls)
    for name, link in _links(steps).items():
        if name.startswith("d"):
            lines.append(f"The last {name[1:]} is the first state of {link.module}.")
        else:
            on = ", and its gradient goes on there" if calls[-1].h0_attached else ""
            lines.append(f"The first {name} is the last state of {link.module}{on}.")
    if len(calls) > len(steps):
        lines.append(f"The rows are those of {len(calls) // len(steps)} calls of {calls[0].module.name} in this step.")
        if any(call.h0_attached for call in calls[1:]):
            lines.append("The script computes the first state of some of them, so a loop can be in parts, which stand as rows.")
    if len(steps) > 1:
        lines.append(f"The rows are those of {len(steps)} ranks.")
    return " ".join(sentence if sentence.startswith(_NAMES) else sentence[0].upper() + sentence[1:] for sentence in lines)


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

    def keep(self) -> AnyArray:
        """Return (T, B), with 0 at the timesteps at which the states of a row are set."""
        keep = np.ones((self._T, self._B), self._dtype)
        for call, rows in self._rows():
            if call.keep is not None:
                keep[: call.timesteps, rows] = call.keep
        return keep

    def live(self) -> AnyArray:
        """Return (T, B), with 1 at the timesteps that a row has."""
        lengths = np.zeros(self._B, np.intp)
        for call, rows in self._rows():
            lengths[rows] = call.timesteps if call.lengths is None else call.lengths
        return np.arange(self._T)[:, None] < lengths


HALF = ("float16", "bfloat16")


def remarks(calls: Sequence[GRUCall]) -> Iterator[str]:
    """Yield sentences about the calls of one module in a step."""
    for module in dict.fromkeys(call.module for call in calls):
        if module.convention is not None:
            kind = KINDS[module.convention.kind].words
            yield (
                f"{module.written_as} is hand-written: it computes {kind}, {module.convention.without_order}, proved on random "
                "numbers and on its first call."
            )
        if module.equations is not None:
            yield _of_equations(module, next(call for call in calls if call.module == module))
    if any(map(reads_last_output_of_both_directions, calls)):
        yield (
            "Only the output of the last timestep gets a gradient: its reverse half has read one input there; "
            "hn has the last state of both directions."
        )
    if any(map(reads_padding, calls)):
        yield "The rows that are shorter than others get no gradient: their last output is padding; hn has their last state."
    for dtype in sorted({call.dtype for call in calls} & {*HALF}):
        yield f"The GRU computed in {dtype}, so its outputs agree only to about {TOLERANCES[dtype]:g} of the largest."
    if amplified := [call for call in calls if call.keep is not None and call.keep.all()]:
        yield (
            f"Rounding is amplified ×{growth(amplified[0]):.3g} a timestep, so each timestep begins with the state that the script "
            "had; computed end to end, the numbers drift away from the script's."
        )
    if any(call.chunks for call in calls):
        chunks = next(call.chunks for call in calls if call.chunks)
        yield f"Its timesteps are those of {len(chunks)} calls that go on from each other, of {_lengths(chunks)}."
    detached, computed = False, list[bool]()  # whether all rows are computed at a timestep
    for call in calls:
        for t in _set_between(call):
            assert call.keep is not None
            is_detached = not call.keep[t].any() if call.detached is None else t in call.detached
            detached |= is_detached
            computed += [] if is_detached else [not call.keep[t].any()]
    if detached:
        yield "Between timesteps the script detached the state: keep is 0 there, h_set is the state, and no gradient flows back."
    if computed:
        back = ", and dh_script is what comes back to the state before it through that, as autograd measured it"
        yield (
            f"Between timesteps the script computes the state{'' if any(computed) else ' of some rows'}: keep is 0 there, h_in is "
            f"what it computed{back if any(call.script is not None for call in calls) else ''}."
        )
    if cut := dict.fromkeys(compiled_for(call).states[i] for call in calls for i in call.cut or ()):
        yield (
            f"Between timesteps the script detached {' and '.join(cut)} alone: no gradient comes back through it there, so what is "
            "given to it from outside takes out what is derived."
        )
    if read := dict.fromkeys(name for call in calls for name in _read_between(call)):
        gets = "gets" if len(read) == 1 else "get"
        yield f"Between timesteps the script also reads {' and '.join(read)}, which {gets} a gradient from outside."
    if len(states := {_first_state(call) for call in calls}) == 1:
        yield states.pop()


def _set_between(call: GRUCall) -> list[int]:
    """Return the timesteps, after the first, that begin with states that the script has detached, set or computed."""
    return [] if call.keep is None else [t for t in range(1, call.timesteps) if not call.keep[t].all()]


def _lengths(chunks: Sequence[int]) -> str:
    """Return the lengths of calls in words, with at most three numbers."""
    if len(set(chunks)) == 1:
        return f"{counted(chunks[0], 'timestep')} each"
    return f"{', '.join(map(str, chunks[:3]))}{' …' if len(chunks) > 3 else ''} timesteps"


def _of_equations(module: GRUModule, call: GRUCall) -> str:
    """Say whether the equations of a cell, given by the script or read off, compute what the cell computed."""
    assert module.equations is not None
    record = recompute(replace(call, dout=None, dhn=None, head=None))
    difference = array_difference("out", record.array(output_name(record)), call.out)
    is_read_off = module.equations.name == module.written_as  # the name of a file ends in .cell
    read = "its equations are read off its operations" if is_read_off else f"read as {module.equations.name}"
    subject = f"{module.written_as} is hand-written, and {read}"
    if difference.error <= tolerance_of(call):
        return f"{subject}: the output is the same to {scientific(difference.error)}."
    return (
        f"{subject}, which compute{'' if is_read_off else 's'} something else: its output is off by {scientific(difference.error)}."
    )


def _read_between(call: GRUCall) -> Iterator[str]:
    """Yield the names of the states that get a gradient from outside between two timesteps, besides the output."""
    if call.inner is not None:
        states = enumerate(compiled_for(call).states)
        yield from (state for i, state in states if i not in (call.cut or ()) and call.inner[:, i].any())


def _first_state(call: GRUCall) -> str:
    if not call.h0_given:
        return "No h0 was given: it begins with 0, whatever the batch before ended with."
    if call.h0_attached:
        return "h0 was given with its graph: its gradient continues into the computation of h0."
    return "h0 was given without a graph, as after detach(): the gradient ends there."


def reads_last_output_of_both_directions(call: GRUCall) -> bool:
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


def reads_padding(call: GRUCall) -> bool:
    """Return True if only the longest rows get a gradient, as with `output[-1]` of padded rows; the shorter rows then get none."""
    if call.lengths is None or call.dout is None or call.dhn is not None:
        return False
    reached, longest = call.dout.any(axis=(0, 2)), call.lengths == call.lengths.max()
    return not longest.all() and bool(np.array_equal(reached, longest)) and not call.dout[: int(call.lengths.max()) - 1].any()


# ------------------------------------------------------------------------------
# A recording as a run: each recorded step is a batch, read on demand. Sizes come from the headers.


WHY_RECORDING_IS_FIXED = (
    "this is a recording of single steps, without the script that trained the model, so training cannot continue; "
    "edit a value in a step to see its effect within the step"
)
CACHED_STEPS = 3  # steps that are cached
CHECKED = 1 << 26  # bytes of numbers that are compared with their checksums at once, in 0.05 s; others when they are read
READ = 32  # at most so many steps of a cell with different calls are read, to find the longest loop


def recorded_run(recording: Recording, name: str | None = None, *, followed: bool = False) -> tuple[Imported, str]:
    """Return the kept steps of the GRU called `name`, by default the only one or the first, and a message on their number and on
    what is missing. `followed`: someone looks for newer steps.

    Steps that cannot be read are left out. Raises `RecordingError`, one line, if no step remains.
    """
    folder = printable(recording.folder.name or recording.folder, 200)
    if not recording.steps:
        raise RecordingError(f"{folder}: no step was kept in it; record with every=1, or wait for the first one", option="path")
    module = _chosen_module(recording, name, folder)
    batches = RecordedBatches(recording, module)
    steps = batches.recording.steps
    norms = [None if i in batches.cut_before_gradients else step.norm for i, step in enumerate(steps)]
    numbers = np.full((len(steps), 3), np.nan)
    for i, step in enumerate(steps):
        numbers[i, :2] = [np.nan if value is None else value for value in (step.loss, norms[i])]
    frame = batches.frame
    source = Imported(
        title=f"{module.name} of {folder}",
        origin=folder,
        inputs_from=folder,
        structure=frame.structure,
        sizes=frame.sizes,
        dtype=frame.dtype,
        batches=batches,
        fixed=WHY_RECORDING_IS_FIXED,
        learns=frame.learns,
        knows_loss=any(step.loss is not None for step in steps),
        places=_places(batches.recording),
        steps=tuple(step.number for step in steps),
        unknown_losses=frozenset(i for i, step in enumerate(steps) if step.loss is None),
        unknown_norms=frozenset(i for i, norm in enumerate(norms) if norm is None),
        without_gradients=batches.without_gradients if frame.learns else frozenset(),
        numbers=numbers,
        identity=partial(identity_of, batches.recording, module.name),
        module=module.name,
        modules=_in_order(batches.recording, recording.modules),
        of_module=partial(recorded_run, recording),
    )
    return source, "; ".join((*_summary(recording, followed=followed), *batches.left_out))


def followed_run(folder: Path, name: str | None = None) -> tuple[Imported, str]:
    """Return the run of a recording that may still be written, as `recorded_run` does; its `newer` returns one with newer steps."""
    stamp = stamp_of(folder)  # before the recording is read, so that nothing which is written meanwhile is missed
    recording = open_recording(folder)
    source, notice = recorded_run(recording, name, followed=True)
    of_module = partial(followed_run, folder)
    return replace(source, newer=_NewerSteps(recording, source, stamp), of_module=of_module), notice


class _NewerSteps:
    """Reads a recording again if its files have changed, until every rank has closed it."""

    def __init__(self, recording: Recording, source: Imported, stamp: object) -> None:
        self._folder, self._module, self._stamp, self.closed = recording.folder, source.module, stamp, recording.closed
        self.steps = {step.number: repr(step) for step in recording.steps}  # repr, in which NaN equals itself

    def __call__(self) -> tuple[Imported, str] | None:
        """Raises `RecordingError`, one line, if the recording cannot be read any more."""
        if self.closed or (stamp := stamp_of(self._folder)) == self._stamp:
            return None
        newer_run, _ = followed_run(self._folder, self._module)
        self._stamp, newest = stamp, newer_run.newer
        assert isinstance(newest, _NewerSteps)
        changed = [number for number, step in newest.steps.items() if self.steps.get(number) != step]
        self.steps, self.closed = newest.steps, newest.closed
        if not changed:
            return None
        complete = "; the recording is complete" if self.closed else ""
        return newer_run, f"{counted(len(changed), 'new step')}, up to step {max(changed):,}{complete}"


def _in_order(recording: Recording, modules: Sequence[GRUModule]) -> tuple[str, ...]:
    """Return the names of the modules in the order in which the last step calls them."""
    names = [module.name for module in modules]
    if len(names) < 2:
        return tuple(names)
    last = recording.steps[-1]
    called = [call.module.name for call in recording.outline(last.number, last.ranks[0]).calls]
    return tuple(dict.fromkeys([*called, *names]))


def _summary(recording: Recording, *, followed: bool) -> list[str]:
    """Return sentences on the number of kept steps, and on what is missing or incomplete."""
    steps, gaps = len(recording.steps), len(recording.gaps())
    lines = [] if recording.end is None else [recording.end.sentence(recording.total)]
    lines.append(f"{steps:,} of {recording.total:,} steps were kept" + (f", with {counted(gaps, 'gap')}" if gaps else ""))
    if others := [module.name for module in recording.modules[1:]]:
        lines.append(f"recorded besides: {', '.join(others)}")
    if not recording.closed:
        by_itself = (
            "it is still being written, or its process ended without closing it: open it again, or with --follow, for newer steps"
        )
        lines.append("it is followed: newer steps appear when they are written" if followed else by_itself)
    if recording.missing_ranks:
        ranks = ", ".join(map(str, recording.missing_ranks))
        lines.append(f"of {recording.ranks} ranks these are missing: {ranks}; p.grad is the mean over all, so it cannot be derived")
    return [*lines, *recording.damaged]


def recognised_run(identity: Mapping[str, Any], folder: Path | None = None) -> Imported:
    """Return the run of a recording by its identity; `folder` is another one that may hold it.

    Raises `RecordingError` if the recording has moved or changed.
    """
    return recorded_run(recognised(identity, folder), identity["name"])[0]


def _chosen_module(recording: Recording, name: str | None, folder: str) -> GRUModule:
    names = [module.name for module in recording.modules]
    if name is not None and name not in names:
        raise RecordingError(f"{folder}: no GRU {name!r} was recorded in it; {did_you_mean(name, names)}", option="name")
    return next(module for module in recording.modules if name in (None, module.name))


def _places(recording: Recording) -> tuple[str, ...]:
    """Return the names of the steps, such as `step 300`, with the number of steps before each that were not recorded."""
    places, before = [], -1
    for step in recording.steps:
        gap = step.number - before - 1
        places.append(f"step {step.number:,}" + (f" ({gap:,} before it not kept)" if gap else ""))
        before = step.number
    return tuple(places)


_ShapesOfOutlines = dict[int, tuple[CapturedStep, list[CallShape]]]  # by the id of an outline, which steps share


def _first_of(damaged: Sequence[str]) -> str:
    return damaged[0] + (f" (and {len(damaged) - 1:,} more)" if len(damaged) > 1 else "")


class RecordedBatches(Sequence[ImportedBatch]):
    """The steps of a recording; the most recently used ones are cached, and the next one is read ahead. `without_gradients` has the
    indices of those in which the GRU received none, `cut_before_gradients` of those of them inside of which the script stopped.

    `recording` has the steps that can be read and have a call of the GRU, each with the ranks that can be read; `left_out` has
    lines on all others, with the reason.
    """

    def __init__(self, recording: Recording, module: GRUModule) -> None:
        self.recording, self._module = recording, module
        self._read: OrderedDict[int, ImportedBatch] = OrderedDict()  # by index of the step
        self._last, self._ahead, self._lock = 0, Prefetch[ImportedBatch](), Lock()
        self._reused = ReusedRecord()
        self._heads = set[int]()  # the widths of the heads that got a gradient; 0 for calls without one
        self._loops: dict[tuple[int, ...], list[CallShape]] = {}  # by the numbers of rows of the calls
        shapes, usable, without = list[list[CallShape]](), list[KeptStep](), 0
        unreadable, incomplete = list[str](), list[str]()  # what is wrong with a whole step, or with the files of some ranks
        shapes_of_outlines: _ShapesOfOutlines = {}
        self._to_check = CHECKED
        for step in recording.steps:
            step_shapes, damaged = self._shapes(step, shapes_of_outlines)
            intact = tuple(rank for rank in step.ranks if rank not in damaged)
            (incomplete if intact else unreadable).extend(list(damaged.values())[:1])
            is_empty = not sum(shape.rows * shape.timesteps for shape in step_shapes)
            without += bool(intact) and is_empty
            if not is_empty:
                shapes.append(step_shapes)
                usable.append(replace(step, ranks=intact) if damaged else step)
        self.left_out = []
        if unreadable:
            self.left_out.append(f"left out, since it cannot be read: {_first_of(unreadable)}")
        if incomplete:
            self.left_out.append(f"shown without all of its ranks, since one cannot be read: {_first_of(incomplete)}")
        if without:
            self.left_out.append(f"left out: {counted(without, 'step')} in which {module.name} received no gradient, or no row")
        if not usable:
            folder = printable(recording.folder.name or recording.folder, 200)
            why = f"; {_why_without_gradient(recording, module.name)}" if without else ""
            if any(Note.UNSEEN in outline.notes for outline, _ in shapes_of_outlines.values()):
                why = f"; {Note.UNSEEN.sentence}"
            raise RecordingError(f"{folder}: none of its steps can be opened; {'; '.join(self.left_out)}{why}", option="path")
        self.recording = replace(recording, steps=tuple(usable))
        self.without_gradients = frozenset(i for i, calls in enumerate(shapes) if not any(call.learned for call in calls))
        if len(self.without_gradients) == len(usable):
            self.left_out.append(f"{module.name} received no gradient in any step: {_why_without_gradient(recording, module.name)}")
        self.cut_before_gradients = frozenset(
            i for i in self.without_gradients if Note.CUT in recording.outline(usable[i].number, usable[i].ranks[0]).notes
        )
        self.frame = CapturedModel.around(shapes, None if module.is_cell else self._classes())

    def __len__(self) -> int:
        return len(self.recording.steps)

    @overload
    def __getitem__(self, at: int) -> ImportedBatch: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[ImportedBatch]: ...

    def __getitem__(self, at: int | slice) -> ImportedBatch | Sequence[ImportedBatch]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        with self._lock:  # the screen reads the batch that it shows while a run or a thread reads others
            if at not in self._read:
                self._read[at] = self._ahead.take(at) or self._load(at)
            self._read.move_to_end(at)
            while len(self._read) > CACHED_STEPS:
                self._read.popitem(last=False)
            consecutive, self._last = at == self._last + 1, at
            if consecutive and at + 1 < len(self) and at + 1 not in self._read:
                self._ahead.begin(at + 1, partial(self._load, at + 1))
            return self._read[at]

    def _ranks(self, step: KeptStep) -> tuple[int, ...]:
        """Return all ranks of a step, or the lowest available one if not all are available."""
        return step.ranks if len(step.ranks) == self.recording.ranks else step.ranks[:1]

    def _load(self, at: int) -> ImportedBatch:
        step = self.recording.steps[at]
        number, steps = step.number, [self.recording.load(step.number, rank) for rank in self._ranks(step)]
        steps = [replace(step, calls=sequences(step)) for step in steps]
        pairs = [(step, self._calls(step)) for step in steps]
        T, B = self.frame.sizes["T"], self.frame.sizes["B"]
        if sum(call.rows for _, calls in pairs for call in calls) > B or any(c.timesteps > T for _, calls in pairs for c in calls):
            raise RecordingError(f"step {number:,} is longer than the others: its loop over {self._module.name} has more timesteps")
        self._check(number, [call for _, calls in pairs for call in calls])
        return batch_of(self.frame, pairs, self._reused)

    def _check(self, number: int, calls: Sequence[GRUCall]) -> None:
        """Raise `RecordingError` if the model cannot compute the calls of a step, of which only the headers were read before."""
        structure, sizes = self.frame.structure, self.frame.sizes
        is_uniform = sum(call.rows for call in calls) == sizes["B"]
        is_uniform = is_uniform and all(call.timesteps == sizes["T"] and call.lengths is None for call in calls)
        unlike = not (is_uniform or structure.lengths) or (not structure.dropout and any(call.masks for call in calls))
        if not structure.resets and any(call.keep is not None for call in calls):
            raise RecordingError(f"step {number:,}: the script set or detached states between timesteps, unlike in the first steps")
        if not structure.inner and any(call.inner is not None for call in calls):
            raise RecordingError(
                f"step {number:,}: the script reads a state that is no output between timesteps, unlike in the first steps"
            )
        if not structure.script and any(call.script is not None for call in calls):
            raise RecordingError(f"step {number:,}: the script computes the state between timesteps, unlike in the first steps")
        if unlike or (structure.head and {_width_of_head(call) for call in calls} != {sizes["V"]}):
            raise RecordingError(f"step {number:,} has changed since the recording was opened; open it again")
        if structure.head and any(map(_has_more_than_its_head, calls)):
            raise RecordingError(
                f"step {number:,}: its output received a gradient besides that of the head, unlike in the first step; "
                "record without head to see such steps"
            )

    def _calls(self, step: CapturedStep) -> list[GRUCall]:
        """Return the calls of a step that form its batch. Loops are joined already, except in recordings of earlier versions."""
        calls = [call for call in sequences(step) if call.module == self._module]
        if not calls:
            raise RecordingError(f"step {step.number:,} has no call of {self._module.name}; step to another one")
        return calls_of(calls)

    def _shapes(self, step: KeptStep, shapes_of_outlines: _ShapesOfOutlines) -> tuple[list[CallShape], dict[int, str]]:
        """Return the shapes of the calls that form the batch of a step, none if it has no call; and for each rank that cannot be
        read the reason. Without all ranks, they are those of the lowest rank that can be read."""
        by_rank, damaged = list[list[CallShape]](), dict[int, str]()
        has_all_ranks = len(step.ranks) == self.recording.ranks
        for rank in step.ranks:
            try:
                if has_all_ranks or not by_rank:
                    by_rank.append(self._shapes_of(step.number, rank, shapes_of_outlines))
            except RecordingError as error:
                damaged[rank] = str(error).removeprefix(f"{printable(self.recording.folder, 250)}/")
        return [shape for shapes in (by_rank if has_all_ranks and not damaged else by_rank[:1]) for shape in shapes], damaged

    def _shapes_of(self, number: int, rank: int, shapes_of_outlines: _ShapesOfOutlines) -> list[CallShape]:
        outline = self.recording.outline(number, rank)
        if self._to_check > 0:
            self._to_check -= self.recording.check(number, rank)
        if id(outline) not in shapes_of_outlines:
            derivable_calls = [derivable(call) for call in outline.calls if call.module == self._module]
            self._heads |= {_width_of_head(call) for call in derivable_calls}
            calls = [replace(call, head=None) for call in derivable_calls]
            is_loop = len(calls) > 1 and all(call.timesteps == 1 for call in calls)  # recorded by an earlier version
            if is_loop:
                shapes = self._loop(number, rank, calls)
            else:
                if len({id(call.weights) for call in calls}) > 1:  # only the numbers show which are those of the last call
                    calls = self._calls(self.recording.load(number, rank))
                shapes = [CallShape.of(call) for call in calls and calls_of(calls)]
            shapes_of_outlines[id(outline)] = outline, shapes
        return shapes_of_outlines[id(outline)][1]

    def _loop(self, number: int, rank: int, calls: Sequence[GRUCall]) -> list[CallShape]:
        """Return the shapes of a step of a cell. Only the numbers show which calls belong to one loop, so some steps are
        read."""
        rows = tuple(call.rows for call in calls)
        if rows not in self._loops and len(self._loops) < READ:
            self._loops[rows] = [CallShape.of(call) for call in self._calls(self.recording.load(number, rank))]
        if rows in self._loops:
            return self._loops[rows]
        return [replace(shape, timesteps=len(calls)) for shape in self._loops[max(self._loops, key=len)]]

    def _classes(self) -> int:
        """Return the width of the head if it read the output of every call, and all of the output's gradient came through it in the
        first step; otherwise 0."""
        if len(self._heads) != 1 or 0 in self._heads:
            return 0
        first = self.recording.steps[0]
        calls = self._calls(self.recording.load(first.number, first.ranks[0]))
        return min(CallShape.of(call).classes for call in calls)


class _TrialBatches(RecordedBatches):
    """The batches of a run up to a trial of its last steps, and those of the trial. `recording` is that of the trial."""

    def __init__(
        self, chosen: Sequence[tuple[Imported, int]], left_out: frozenset[int], trial: RecordedBatches, owner: object
    ) -> None:
        self.recording, self._chosen, self._left_out = trial.recording, chosen, left_out
        self._owner = owner  # the files are there as long as it lives

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        source, number = self._chosen[at]
        batch = source.batches[number]
        if range(len(self))[at] in self._left_out and isinstance(batch, CapturedBatch):
            batch = replace(batch, loss=math.nan, steps=[(replace(step, loss=None), calls) for step, calls in batch.steps])
        return batch


def join_trial(run: Imported, trial: Imported, since: int, owner: object) -> tuple[Imported, int] | None:
    """Return a run with the steps of a trial in the place of its own, from the step `since` on, and the batch where these begin.

    A step that the trial has left out stays as it was, without its loss; the last step is that of the trial. None if both are not
    of the same model and sizes. `owner` lives as long as the batches.
    """
    alike = (run.structure, run.sizes, run.dtype, run.learns) == (trial.structure, trial.sizes, trial.dtype, trial.learns)
    steps = [step for step in run.steps if step <= trial.steps[-1]]
    batch = bisect_left(steps, since)
    if not alike or batch == len(steps) or not isinstance(trial.batches, RecordedBatches):
        return None
    tried = {step: number for number, step in enumerate(trial.steps)}
    chosen = [(trial, tried[step]) if step in tried else (run, place) for place, step in enumerate(steps)]
    left_out = frozenset(place for place, (source, _) in enumerate(chosen) if source is run and place >= batch)

    def where(name: str) -> frozenset[int]:
        return frozenset(place for place, (source, number) in enumerate(chosen) if number in getattr(source, name))

    rows = [[math.nan] * 3 if source.numbers is None else source.numbers[number] for source, number in chosen]
    numbers = np.array([[math.nan] * 3 if place in left_out else row for place, row in enumerate(rows)])
    places = run.places[: len(steps)]
    joined = replace(
        trial,
        batches=_TrialBatches(chosen, left_out, trial.batches, owner),
        steps=tuple(steps),
        places=[f"{name}, left out of the trial" if place in left_out else name for place, name in enumerate(places)],
        knows_loss=run.knows_loss or trial.knows_loss,
        unknown_losses=where("unknown_losses") | left_out,
        unknown_norms=where("unknown_norms") | left_out,
        without_gradients=where("without_gradients"),
        numbers=numbers,
        identity=None,
        modules=(trial.module,),
        of_module=None,
    )
    return joined, batch


def _why_without_gradient(recording: Recording, module: str) -> str:
    """Return why a module got no gradient, by the facts of the watched steps; where they do not show it, what usually is."""
    table = next((step.parameters for step in reversed(recording.facts) if step.parameters is not None), None)
    steps = counted(len(recording.facts), "watched step")
    if table is not None and module in table.frozen:
        return f"{module} is frozen: no weight of it had requires_grad in {steps}; p.requires_grad_(True) for its parameters"
    if table is not None and module in table.cut:
        if table.cut[module]:
            return (
                f"the loss does not reach its output, which had a graph in {steps}; read it without detach(), .data or a new tensor"
            )
        return f"its output had no graph in {steps}: it was called under no_grad, or on detached weights; train it without that"
    updates = [update for step in recording.facts for update in step.updates if update.parameters]
    if updates and not any(update.passes for update in updates):
        return (
            f"no backward pass came before {counted(len(updates), 'watched step')} of the optimizer; loss.backward() before step()"
        )
    return "a frozen module (requires_grad) gets none, and none under torch.no_grad()"


def _has_more_than_its_head(call: GRUCall) -> bool:
    """Return True if finite entries of the output's gradient are not those that came through the head."""
    head, dout = call.head, call.dout
    assert head is not None
    assert head.dlogits is not None
    assert dout is not None
    with np.errstate(all="ignore"):
        difference = np.abs(head.dlogits @ head.weight - dout)
    largest = np.abs(dout).max(initial=0, where=np.isfinite(dout))
    return bool(difference.max(initial=0, where=np.isfinite(difference)) > HEAD_TOLERANCE * largest)


def _width_of_head(call: GRUCall) -> int:
    head = call.head
    return 0 if head is None or head.dlogits is None or call.dout is None else len(head.weight)
