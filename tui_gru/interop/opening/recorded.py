"""A recording as a run of ours: each kept step is a batch, read when it is asked for. How large they are, their headers say."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, overload

import numpy as np

from tui_gru.engine.given import Given, GivenBatch
from tui_gru.equations.errors import did_you_mean
from tui_gru.interop.capture.calls import CapturedStep, GRUCall, GRUModule
from tui_gru.interop.errors import RecordingError, printable
from tui_gru.interop.opening.captured import CallShape, Frame, batch_of
from tui_gru.interop.opening.module import calls_of
from tui_gru.interop.recomputing.sequences import sequences
from tui_gru.interop.recording.listing import KeptStep
from tui_gru.interop.recording.reading import Recording
from tui_gru.interop.tensors import checked_shape

FIXED = (
    "this is a recording: it holds the steps that were kept and not what trained them, so nothing can be trained on from it; "
    "change something in a step to see what follows inside of it"
)
AT_HAND = 3  # steps that stay in memory
READ = 32  # steps of GRUCells that are read to learn how long their loops are


def recorded_run(recording: Recording, name: str | None = None) -> tuple[Given, tuple[str, ...]]:
    """The kept steps of the GRU called `name`, by default of the first that was called; and a line for what is left out.

    Raises `RecordingError`, one line.
    """
    folder = printable(recording.folder.name or recording.folder, 200)
    if not recording.steps:
        raise RecordingError(f"{folder}: no step was kept in it; record with every=1, or wait for the first one", option="path")
    module = _chosen(recording, name, folder)
    batches = RecordedBatches(recording, module)
    if not batches.steps:
        reason = batches.left_out[0] if batches.left_out else f"no kept step called {module.name}"
        raise RecordingError(f"{folder}: {reason}", option="path")
    numbers = np.full((len(batches), 3), np.nan)
    for i, step in enumerate(batches.steps):
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
        fixed=FIXED,
        learns=frame.learns,
        knows_loss=any(step.loss is not None for step in batches.steps),
        places=_places(batches.steps),
        steps=tuple(step.number for step in batches.steps),
        numbers=numbers,
    )
    return given, tuple(batches.left_out)


def _chosen(recording: Recording, name: str | None, folder: str) -> GRUModule:
    names = [module.name for module in recording.modules]
    if name is not None and name not in names:
        raise RecordingError(f"{folder}: no GRU {name!r} was recorded in it; {did_you_mean(name, names)}", option="name")
    if name is not None or len(names) == 1:
        return next(module for module in recording.modules if name in (None, module.name))
    for step in recording.steps:
        with suppress(RecordingError):
            called = names_called(recording.shapes(step.number)[0])
            return next((module for module in recording.modules if module.name in called), recording.modules[0])
    return recording.modules[0]


def names_called(about: Mapping[str, Any]) -> list[str]:
    """The names of the modules that a step called, in order, as its header says. Raises `RecordingError` where it is damaged."""
    try:
        return [str(about["modules"][call["module"]]["name"]) for call in about["calls"]]
    except (KeyError, TypeError, IndexError) as error:
        raise RecordingError(f"a step is damaged ({type(error).__name__}); copy it again") from None


def _places(steps: Sequence[KeptStep]) -> tuple[str, ...]:
    """`step 300`, and how many before it are not here."""
    places, before = [], -1
    for step in steps:
        gap = step.number - before - 1
        places.append(f"step {step.number:,}" + (f" ({gap:,} before it not kept)" if gap else ""))
        before = step.number
    return tuple(places)


class RecordedBatches(Sequence[GivenBatch]):
    """The steps of a recording that called a module, `steps`, those used last in memory; `left_out` says which cannot be read."""

    def __init__(self, recording: Recording, module: GRUModule) -> None:
        self._recording, self._module = recording, module
        self._read: OrderedDict[int, GivenBatch] = OrderedDict()
        self.steps: list[KeptStep] = []
        self.left_out: list[str] = []
        self._classes: int | None = None  # how wide the head is that the first step was read by; 0 without one
        shapes: list[list[CallShape]] = []
        for i, step in enumerate(recording.steps):
            try:
                called = [shape for rank in self._ranks(step.number) for shape in self._in_header(step.number, rank)]
                if called and module.kind == "GRUCell":  # which calls belong to one loop, only their numbers tell
                    shapes.append([] if i % max(1, len(recording.steps) // READ) else self._shapes(step.number))
                elif called:
                    shapes.append(called)
            except RecordingError as error:
                self.left_out.append(str(error))
                continue
            if called:
                self.steps.append(step)
        self._shapes_known = [each for each in shapes if each]

    @cached_property
    def frame(self) -> Frame:
        """The model and the sizes that all steps are computed with."""
        return Frame.around(self._shapes_known)

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, at: int) -> GivenBatch: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[GivenBatch]: ...

    def __getitem__(self, at: int | slice) -> GivenBatch | Sequence[GivenBatch]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        number = self.steps[at].number
        if number not in self._read:
            self._read[number] = self._load(number)
        self._read.move_to_end(number)
        while len(self._read) > AT_HAND:
            self._read.popitem(last=False)
        return self._read[number]

    def _ranks(self, number: int) -> tuple[int | None, ...]:
        """All ranks of a step, or the lowest that is there, where not all are."""
        return tuple(range(self._recording.ranks)) if self._recording.is_complete(number) else (None,)

    def _load(self, number: int) -> GivenBatch:
        steps = [self._recording.load(number, rank) for rank in self._ranks(number)]
        pairs = [(step, self._calls(step)) for step in steps]
        T, B = self.frame.sizes["T"], self.frame.sizes["B"]
        if sum(call.rows for _, calls in pairs for call in calls) > B or any(c.timesteps > T for _, own in pairs for c in own):
            raise RecordingError(f"step {number:,} is longer than the others: its loop over {self._module.name} has more timesteps")
        return batch_of(self.frame, pairs)

    def _calls(self, step: CapturedStep) -> list[GRUCall]:
        calls = [call for call in sequences(step) if call.module == self._module]
        if not calls:
            raise RecordingError(f"step {step.number:,} has no call of {self._module.name} in it; step on to another one")
        return calls_of(calls)

    def _shapes(self, number: int) -> list[CallShape]:
        steps = [self._recording.load(number, rank) for rank in self._ranks(number)]
        return [CallShape.of(call) for step in steps for call in self._calls(step)]

    def _in_header(self, number: int, rank: int | None) -> list[CallShape]:
        """The calls of a step that make its batch, as its header says; none where it did not call the module."""
        about, tensors = self._recording.shapes(number, rank)
        own = [i for i, name in enumerate(names_called(about)) if name == self._module.name]
        if not own:
            return []
        if self._classes is None:
            step = self._recording.load(number, rank)
            self._classes = CallShape.of(self._calls(step)[-1]).classes
        try:
            calls = about["calls"]
            learned = [i for i in own if any(f"calls.{i}.{part}" in tensors for part in ("dout", "dhn"))]
            last = (learned or own)[-1]
            alike = [i for i in learned or [last] if calls[i]["weights"] == calls[last]["weights"]]
            return [self._shape(i, str(calls[i]["dtype"]), tensors, bool(learned)) for i in alike]
        except (KeyError, TypeError, ValueError) as error:
            raise RecordingError(f"step {number:,} is damaged ({type(error).__name__}); copy it again") from None

    def _shape(self, i: int, dtype: str, tensors: Mapping[str, tuple[int, ...]], learned: bool) -> CallShape:
        T, B, _ = checked_shape(tensors[f"calls.{i}.x"])
        lengths, masks = (f"calls.{i}.{part}" in tensors for part in ("lengths", "mask_l0"))
        return CallShape(self._module, T, B, lengths, masks, learned, self._classes or 0, dtype)
