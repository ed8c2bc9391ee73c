"""A recording as a run: each recorded step is a batch, read on demand. Sizes come from the headers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, overload

import numpy as np

from tui_gru.engine.data.given import Given, GivenBatch
from tui_gru.equations.errors import did_you_mean
from tui_gru.interop.capture.calls import CapturedStep, GRUCall, GRUModule
from tui_gru.interop.errors import RecordingError, printable
from tui_gru.interop.opening.captured import CallShape, Frame, batch_of
from tui_gru.interop.opening.module import calls_of
from tui_gru.interop.opening.read_ahead import ReadAhead
from tui_gru.interop.recomputing.sequences import sequences
from tui_gru.interop.recording.identity import identity_of, recognised
from tui_gru.interop.recording.reading import Recording
from tui_gru.interop.tensors import checked_shape

FIXED = (
    "this is a recording: it holds the steps that were kept and not what trained them, so nothing can be trained on from it; "
    "change something in a step to see what follows inside of it"
)
AT_HAND = 3  # steps that are cached
READ = 32  # at most so many steps are read to find the longest loop over a GRUCell


def recorded_run(recording: Recording, name: str | None = None) -> Given:
    """Return the recorded steps of the GRU called `name`, by default the only one or the first. Raises `RecordingError`, one
    line."""
    folder = printable(recording.folder.name or recording.folder, 200)
    if not recording.steps:
        raise RecordingError(f"{folder}: no step was kept in it; record with every=1, or wait for the first one", option="path")
    module = _chosen(recording, name, folder)
    batches = RecordedBatches(recording, module)
    numbers = np.full((len(recording.steps), 3), np.nan)
    for i, step in enumerate(recording.steps):
        numbers[i, :2] = [np.nan if value is None else value for value in (step.loss, step.norm)]
    frame = batches.frame
    return Given(
        title=f"{module.name} of {folder}",
        origin=folder,
        inputs_from=folder,
        structure=frame.structure,
        sizes=frame.sizes,
        dtype=frame.dtype,
        batches=batches,
        fixed=FIXED,
        learns=frame.learns,
        knows_loss=any(step.loss is not None for step in recording.steps),
        places=_places(recording),
        steps=tuple(step.number for step in recording.steps),
        numbers=numbers,
        identity=partial(identity_of, recording, module.name),
    )


def recognised_run(identity: Mapping[str, Any]) -> Given:
    """Return the run of a recording by its identity. Raises `RecordingError` if the recording has moved or changed."""
    return recorded_run(recognised(identity), identity["name"])


def _chosen(recording: Recording, name: str | None, folder: str) -> GRUModule:
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


class RecordedBatches(Sequence[GivenBatch]):
    """The steps of a recording; the most recently used ones are cached, and the next one is read ahead."""

    def __init__(self, recording: Recording, module: GRUModule) -> None:
        self._recording, self._module = recording, module
        self._read: OrderedDict[int, GivenBatch] = OrderedDict()  # by index of the step
        self._last, self._ahead = -1, ReadAhead(self._load)
        self.frame = Frame.around([shapes for step in recording.steps if (shapes := self._shapes(step.number))])

    def __len__(self) -> int:
        return len(self._recording.steps)

    @overload
    def __getitem__(self, at: int) -> GivenBatch: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[GivenBatch]: ...

    def __getitem__(self, at: int | slice) -> GivenBatch | Sequence[GivenBatch]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        if at not in self._read:
            self._read[at] = self._ahead.take(at) or self._load(at)
        self._read.move_to_end(at)
        while len(self._read) > AT_HAND:
            self._read.popitem(last=False)
        goes_on, self._last = at == self._last + 1, at
        if goes_on and at + 1 < len(self) and at + 1 not in self._read:
            self._ahead.begin(at + 1)
        return self._read[at]

    def _ranks(self, number: int) -> tuple[int | None, ...]:
        """Return all ranks of a step, or the lowest available one if not all are available."""
        return tuple(range(self._recording.ranks)) if self._recording.is_complete(number) else (None,)

    def _load(self, at: int) -> GivenBatch:
        number = self._recording.steps[at].number
        steps = [self._recording.load(number, rank) for rank in self._ranks(number)]
        pairs = [(step, self._calls(step)) for step in steps]
        T, B = self.frame.sizes["T"], self.frame.sizes["B"]
        if sum(call.rows for _, calls in pairs for call in calls) > B or any(c.timesteps > T for _, own in pairs for c in own):
            raise RecordingError(f"step {number:,} is longer than the others: its loop over {self._module.name} has more timesteps")
        return batch_of(self.frame, pairs)

    def _calls(self, step: CapturedStep) -> list[GRUCall]:
        calls = [call for call in sequences(step) if call.module == self._module]
        if not calls:
            raise RecordingError(f"step {step.number:,} has no call of {self._module.name}; step on to another one")
        return calls_of(calls)

    def _shapes(self, number: int) -> list[CallShape]:
        if self._module.kind == "GRUCell":  # only the numbers show which calls belong to one loop
            position = self._by_number[number]
            if position % max(1, len(self) // READ):
                return []
            steps = [self._recording.load(number, rank) for rank in self._ranks(number)]
            return [CallShape.of(call) for step in steps for call in self._calls(step)]
        return [shape for rank in self._ranks(number) for shape in self._in_header(number, rank)]

    @cached_property
    def _by_number(self) -> dict[int, int]:
        return {step.number: i for i, step in enumerate(self._recording.steps)}

    def _in_header(self, number: int, rank: int | None) -> Iterator[CallShape]:
        about, tensors = self._recording.shapes(number, rank)
        try:
            modules, calls = about["modules"], list(enumerate(about["calls"]))
            own = [(i, call) for i, call in calls if modules[call["module"]]["name"] == self._module.name]
            learned = [(i, call) for i, call in own if any(f"calls.{i}.{part}" in tensors for part in ("dout", "dhn"))]
            last = (learned or own)[-1:]
            for i, call in learned or last:
                if call["weights"] == last[0][1]["weights"]:
                    yield self._shape(i, call, tensors, bool(learned))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise RecordingError(f"step {number:,} is damaged ({type(error).__name__}); copy it again") from None

    def _shape(self, i: int, call: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]], learned: bool) -> CallShape:
        T, B, _ = checked_shape(tensors[f"calls.{i}.x"])
        lengths, masks = (f"calls.{i}.{part}" in tensors for part in ("lengths", "mask_l0"))
        return CallShape(self._module, T, B, lengths, masks, learned, self._classes, str(call["dtype"]))

    @cached_property
    def _classes(self) -> int:
        """The width of the head in the first step; 0 without a head."""
        number = self._recording.steps[0].number
        return CallShape.of(self._calls(self._recording.load(number, self._ranks(number)[0]))[-1]).classes
