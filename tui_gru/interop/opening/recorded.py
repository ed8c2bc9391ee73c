"""A recording as a run: each recorded step is a batch, read on demand. Sizes come from the headers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, overload

import numpy as np

from tui_gru.engine.data.given import Given, GivenBatch
from tui_gru.engine.running.ahead import Prefetch
from tui_gru.equations.errors import did_you_mean
from tui_gru.interop.capture.calls import CapturedStep, GRUCall, GRUModule
from tui_gru.interop.errors import RecordingError, printable
from tui_gru.interop.opening.captured import CallShape, CapturedModel, Scratch, batch_of, calls_of
from tui_gru.interop.recomputing.models import HEAD_TOLERANCE
from tui_gru.interop.recomputing.sequences import sequences
from tui_gru.interop.recording.identity import identity_of, recognised
from tui_gru.interop.recording.listing import KeptStep
from tui_gru.interop.recording.reading import Recording

WHY_RECORDING_IS_FIXED = (
    "this is a recording of single steps, without the script that trained the model, so training cannot continue; "
    "edit a value in a step to see its effect within the step"
)
CACHED_STEPS = 3  # steps that are cached
CHECKED = 1 << 26  # bytes of numbers that are compared with their checksums at once, in 0.05 s; others when they are read
READ = 32  # at most so many steps of a GRUCell with different calls are read, to find the longest loop


def recorded_run(recording: Recording, name: str | None = None) -> tuple[Given, str]:
    """Return the kept steps of the GRU called `name`, by default the only one or the first, and a message on their number and on
    what is missing.

    Steps that cannot be read are left out. Raises `RecordingError`, one line, if no step remains.
    """
    folder = printable(recording.folder.name or recording.folder, 200)
    if not recording.steps:
        raise RecordingError(f"{folder}: no step was kept in it; record with every=1, or wait for the first one", option="path")
    module = _chosen_module(recording, name, folder)
    batches = RecordedBatches(recording, module)
    steps = batches.recording.steps
    numbers = np.full((len(steps), 3), np.nan)
    for i, step in enumerate(steps):
        numbers[i, :2] = [np.nan if value is None else value for value in (step.loss, step.norm)]
    frame = batches.frame
    given = Given(
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
        numbers=numbers,
        identity=partial(identity_of, batches.recording, module.name),
    )
    return given, "; ".join((*_summary(recording), *batches.left_out))


def _summary(recording: Recording) -> list[str]:
    """Return sentences on the number of kept steps, and on what is missing or incomplete."""
    kept, gaps = len(recording.steps), len(recording.gaps())
    found = [f"{kept:,} of {recording.total:,} steps were kept" + (f", with {gaps:,} gaps" if gaps else "")]
    if others := [module.name for module in recording.modules[1:]]:
        found.append(f"recorded besides: {', '.join(others)}")
    if not recording.closed:
        found.append("it is still being written, or was cut off: open it again for newer steps")
    if recording.missing_ranks:
        ranks = ", ".join(map(str, recording.missing_ranks))
        found.append(f"of {recording.ranks} ranks these are missing: {ranks}; p.grad is the mean over all, so it cannot be derived")
    return [*found, *recording.damaged]


def recognised_run(identity: Mapping[str, Any], beside: Path | None = None) -> Given:
    """Return the run of a recording by its identity; `beside` is another folder that may hold it.

    Raises `RecordingError` if the recording has moved or changed.
    """
    return recorded_run(recognised(identity, beside), identity["name"])[0]


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


_Known = dict[int, tuple[CapturedStep, list[CallShape]]]  # by the id of an outline, which steps share


def _first_of(damaged: Sequence[str]) -> str:
    return damaged[0] + (f" (and {len(damaged) - 1:,} more)" if len(damaged) > 1 else "")


class RecordedBatches(Sequence[GivenBatch]):
    """The steps of a recording; the most recently used ones are cached, and the next one is read ahead.

    `recording` has the steps that can be read and have a call of the GRU, each with the ranks that can be read; `left_out` has
    lines on all others, with the reason.
    """

    def __init__(self, recording: Recording, module: GRUModule) -> None:
        self.recording, self._module = recording, module
        self._read: OrderedDict[int, GivenBatch] = OrderedDict()  # by index of the step
        self._last, self._ahead, self._lock = 0, Prefetch[GivenBatch](), Lock()
        self._scratch = Scratch()
        self._heads = set[int]()  # the widths of the heads that got a gradient; 0 for calls without one
        self._loops: dict[tuple[int, ...], list[CallShape]] = {}  # by the numbers of rows of the calls
        shapes, usable, without = list[list[CallShape]](), list[KeptStep](), 0
        unreadable, incomplete = list[str](), list[str]()  # what is wrong with a whole step, or with the files of some ranks
        known: _Known = {}
        self._to_check = CHECKED
        for step in recording.steps:
            found, damaged = self._shapes(step, known)
            intact = tuple(rank for rank in step.ranks if rank not in damaged)
            (incomplete if intact else unreadable).extend(list(damaged.values())[:1])
            is_empty = not sum(shape.rows * shape.timesteps for shape in found)
            without += bool(intact) and is_empty
            if not is_empty:
                shapes.append(found)
                usable.append(replace(step, ranks=intact) if damaged else step)
        self.left_out = []
        if unreadable:
            self.left_out.append(f"left out, since it cannot be read: {_first_of(unreadable)}")
        if incomplete:
            self.left_out.append(f"shown without all of its ranks, since one cannot be read: {_first_of(incomplete)}")
        if without:
            steps = "1 step" if without == 1 else f"{without:,} steps"
            self.left_out.append(f"left out: {steps} in which {module.name} received no gradient, or no row")
        if not usable:
            folder = printable(recording.folder.name or recording.folder, 200)
            raise RecordingError(f"{folder}: none of its steps can be opened; {'; '.join(self.left_out)}", option="path")
        self.recording = replace(recording, steps=tuple(usable))
        self.frame = CapturedModel.around(shapes, self._classes() if module.kind == "GRU" else None)

    def __len__(self) -> int:
        return len(self.recording.steps)

    @overload
    def __getitem__(self, at: int) -> GivenBatch: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[GivenBatch]: ...

    def __getitem__(self, at: int | slice) -> GivenBatch | Sequence[GivenBatch]:
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

    def _load(self, at: int) -> GivenBatch:
        kept = self.recording.steps[at]
        number, steps = kept.number, [self.recording.load(kept.number, rank) for rank in self._ranks(kept)]
        pairs = [(step, self._calls(step)) for step in steps]
        T, B = self.frame.sizes["T"], self.frame.sizes["B"]
        if sum(call.rows for _, calls in pairs for call in calls) > B or any(c.timesteps > T for _, own in pairs for c in own):
            raise RecordingError(f"step {number:,} is longer than the others: its loop over {self._module.name} has more timesteps")
        self._check(number, [call for _, calls in pairs for call in calls])
        return batch_of(self.frame, pairs, self._scratch)

    def _check(self, number: int, every: Sequence[GRUCall]) -> None:
        """Raise `RecordingError` if the model cannot compute the calls of a step, of which only the headers were read before."""
        structure, sizes = self.frame.structure, self.frame.sizes
        whole = sum(call.rows for call in every) == sizes["B"]
        whole = whole and all(call.timesteps == sizes["T"] and call.lengths is None for call in every)
        unlike = not (whole or structure.lengths) or (not structure.dropout and any(call.masks for call in every))
        if unlike or (structure.head and {_width_of_head(call) for call in every} != {sizes["V"]}):
            raise RecordingError(f"step {number:,} has changed since the recording was opened; open it again")
        if structure.head and any(map(_has_more_than_its_head, every)):
            raise RecordingError(
                f"step {number:,}: its output received a gradient besides that of the head, unlike in the first step; "
                "record without head to see such steps"
            )

    def _calls(self, step: CapturedStep) -> list[GRUCall]:
        calls = [call for call in sequences(step) if call.module == self._module]
        if not calls:
            raise RecordingError(f"step {step.number:,} has no call of {self._module.name}; step to another one")
        return calls_of(calls)

    def _shapes(self, step: KeptStep, known: _Known) -> tuple[list[CallShape], dict[int, str]]:
        """Return the shapes of the calls that form the batch of a step, none if it has no call; and for each rank that cannot be
        read the reason. Without all ranks, they are those of the lowest rank that can be read."""
        found, damaged = list[list[CallShape]](), dict[int, str]()
        whole = len(step.ranks) == self.recording.ranks
        for rank in step.ranks:
            try:
                if whole or not found:
                    found.append(self._shapes_of(step.number, rank, known))
            except RecordingError as error:
                damaged[rank] = str(error).removeprefix(f"{printable(self.recording.folder, 250)}/")
        return [shape for own in (found if whole and not damaged else found[:1]) for shape in own], damaged

    def _shapes_of(self, number: int, rank: int, known: _Known) -> list[CallShape]:
        outline = self.recording.outline(number, rank)
        if self._to_check > 0:
            self._to_check -= self.recording.check(number, rank)
        if id(outline) not in known:
            own = [call for call in outline.calls if call.module == self._module]
            self._heads |= {_width_of_head(call) for call in own}
            calls = [replace(call, head=None) for call in own]
            is_loop = calls and self._module.kind == "GRUCell"
            shapes = self._loop(number, rank, calls) if is_loop else [CallShape.of(call) for call in calls and calls_of(calls)]
            known[id(outline)] = outline, shapes
        return known[id(outline)][1]

    def _loop(self, number: int, rank: int, calls: Sequence[GRUCall]) -> list[CallShape]:
        """Return the shapes of a step of a GRUCell. Only the numbers show which calls belong to one loop, so some steps are
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


def _has_more_than_its_head(call: GRUCall) -> bool:
    """Return True if finite entries of the output's gradient are not those that came through the head."""
    head, dout = call.head, call.dout
    assert head is not None
    assert head.dlogits is not None
    assert dout is not None
    with np.errstate(all="ignore"):
        apart = np.abs(head.dlogits @ head.weight - dout)
    largest = np.abs(dout).max(initial=0, where=np.isfinite(dout))
    return bool(apart.max(initial=0, where=np.isfinite(apart)) > HEAD_TOLERANCE * largest)


def _width_of_head(call: GRUCall) -> int:
    head = call.head
    return 0 if head is None or head.dlogits is None or call.dout is None else len(head.weight)
