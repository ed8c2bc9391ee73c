"""A loop of a script over its epochs: the last steps, the states from which they can be computed again, and trials of them."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import io
import math
import os
import queue
import random
import signal
import sys
import threading
import time
import traceback
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from tui_gru.capture.trial import trial
from tui_gru.errors import printable
from tui_gru.rewind.batches import bytes_of, copied_batch, versions_of
from tui_gru.rewind.between import Between, changes_weights
from tui_gru.rewind.body import CUT_ALL, CUT_CALL, Body
from tui_gru.rewind.boundary import Outside, closed_boundary
from tui_gru.rewind.losses import LossWatch, StepLosses
from tui_gru.rewind.states import (
    Cursor,
    Generators,
    LoopMemory,
    RewindError,
    ScriptState,
    TensorCopy,
    Unkeepable,
    free_memory,
    is_of_library,
    memory_of,
    type_name,
    version_of,
)

SPACING = 8  # steps between two kept states, at least
MOST_MEMORY = 512 << 20  # bytes of all kept states, unless two of them need more
SHARE_OF_TIME = 0.03  # of a step that keeping states may take
_MOST_ATTEMPTS = 50


@dataclass
class LoopStep:
    """A step of the loop: its batch, the random numbers before it, and its losses."""

    number: int
    batch: Any
    index: int  # in its epoch
    epoch: Epoch
    random: Generators
    versions: list[tuple[torch.Tensor, int]]
    losses: StepLosses = field(default_factory=StepLosses)
    ended: bool = False  # False if the body was left by break, return or an error
    seconds: float = 0.0


class Ring(NamedTuple):
    """The kept steps of a loop, the states before some of them, what the script did between two epochs, and the losses before."""

    states: dict[int, ScriptState]
    steps: deque[LoopStep]
    between: dict[int, Between]
    past: list[float]


@dataclass
class Epoch:
    """One run through the loop: the frame that stands in it, and the variables that functions share with the frame."""

    frame: types.FrameType | None
    cells: Mapping[str, types.CellType] = field(default_factory=dict)  # once they are looked for


@dataclass(frozen=True)
class Change:
    """What a trial does differently, from the step `since` on."""

    since: int | None = None
    lr: float | None = None
    rate: float | None = None
    clip: float | None = None
    skip: frozenset[int] = frozenset()
    seed: int | None = None
    weight_decay: float | None = None
    edit: Callable[[dict[str, Any]], object] | None = None
    lines: Mapping[int, str] = field(default_factory=dict)


@dataclass
class TrialOutcome:
    """What a trial has computed: the losses of each step, by number, and why it ended before the last step, if it did."""

    since: int
    losses: dict[int, StepLosses]
    why: str = ""
    left_out: tuple[str, ...] = ()
    error: BaseException | None = None
    same_weights: bool = False

    def losses_differ(self, steps: Iterable[LoopStep]) -> bool:
        """Return True if the loss of a whole step is not that of the run."""
        own = {step.number: step.losses for step in steps}
        last = max(self.losses, default=-1)
        return any(not losses.equals(own[number]) for number, losses in self.losses.items() if not self.why or number < last)


class TrainingLoop:
    """The loop in the frame of a script. What is wrong with it is never raised while the script trains: `refused` says it."""

    def __init__(self, stateful: Sequence[Any], *, keep: int, also: Sequence[Any], body: Callable[[Any], object] | None) -> None:
        self.stateful, self.keep, self.also, self.given_body = tuple(stateful), keep, tuple(also), body
        self.refused = ""
        self.body: Body | None = None
        self.epoch = Epoch(None)
        self.states: dict[int, ScriptState] = {}  # by the number of the step that they are before
        self.between: dict[int, Between] = {}
        self.steps: deque[LoopStep] = deque()
        self._past: list[float] = []  # the losses of the steps that are no longer kept
        self.run: Any = None  # what the script iterates over, of the last epoch
        self.recorder: Any = None  # of every n-th step, and of the last ones when the script ends
        self.trouble: Ring | None = None  # the steps at the first moment at which something went wrong
        self.count = 0  # of ended steps
        self.repeated: int | None = None  # the step that is computed again, as its body counts it
        self.open: LoopStep | None = None
        self.last_losses = StepLosses()
        self.watch = LossWatch()
        self.thread_modes: tuple[int, Any] | None = None
        self._memory = LoopMemory()
        self._unread: frozenset[str] | None = None
        self._unchanged: dict[int, list[TensorCopy]] = {}  # what has not changed since each state, when a trial begins
        self._unchanged_batches: list[list[bool]] = []
        self._at_end: ScriptState | None = None  # the state at the end of the last epoch
        self._spacing = SPACING
        self._copies_batches = False
        self._seconds = 0.0  # of a usual step
        self._began = 0.0
        self._interrupts = _Interrupts()
        self._written: set[str] = set()  # files that the trial would have written

    # While the script trains

    def begin_epoch(self, frame: types.FrameType | None) -> None:
        """The frame begins to iterate."""
        self.watch.begin()
        self._copies_of_distributed()
        if self.refused:
            return
        try:
            if self.given_body is None:
                if frame is None:
                    raise RewindError("no for loop of the script iterates over tui_gru.steps(…); write for … in tui_gru.steps(…)")
                if self.body is None:
                    self.body = Body(frame)
            self.epoch = Epoch(frame)
        except RewindError as refusal:
            self.give_up(str(refusal))

    def _copies_of_distributed(self) -> None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            self.give_up("several processes train this model together, which would all have to go back at once; use tui_gru.record")

    def give_up(self, why: str) -> None:
        """Keep nothing from now on, and say why when it is needed."""
        self.refused = self.refused or why
        self.forget()

    def forget(self) -> None:
        """Forget the steps so far."""
        for number in list(self.states):
            self._drop_state(number)
        self.states, self.between = {}, {}
        self._drop_steps(self.count)

    @property
    def all_losses(self) -> list[float]:
        """The losses of all steps; NaN for one without a loss."""
        return [*self._past, *(step.losses.total for step in self.steps)]

    def keep_for_later(self) -> None:
        """Keep what there is now, to be computed again when the script ends: in a script that goes on, nothing runs unasked."""
        if self.trouble is None and self.states and self.steps:
            self.trouble = Ring(dict(self.states), deque(self.steps), dict(self.between), list(self._past))

    @contextlib.contextmanager
    def at_trouble(self) -> Iterator[None]:
        """Within this context, the kept steps are those of `keep_for_later`."""
        assert self.trouble is not None
        now = Ring(self.states, self.steps, self.between, self._past)
        self.states, self.steps, self.between, self._past = self.trouble
        try:
            yield
        finally:
            self.states, self.steps, self.between, self._past = now

    def start_step(self, batch: Any, index: int, *, first: bool) -> None:
        """A step begins."""
        losses = StepLosses()
        self.watch.current = losses
        if self.refused:
            self.open = LoopStep(self.count, None, index, self.epoch, _NO_GENERATORS, [], losses)
            return
        try:
            if first or not self.states or self.count - next(reversed(self.states)) >= self._spacing:
                self._keep_state(first)
            kept = copied_batch(batch, tensors=self._copies_batches)
            versions = versions_of(kept)
            others = next(reversed(self.states.values())).generators if self.states else ()
            before = self.steps[-1].random if self.steps else None
            generators = Generators.now(others, before)
            self.open = LoopStep(self.count, kept, index, self.epoch, generators, versions, losses)
        except Exception as error:
            self._failed(error)
            self.open = LoopStep(self.count, None, index, self.epoch, _NO_GENERATORS, [], losses)
        self._began = time.perf_counter()

    def add_to_batch(self, part: Any) -> None:
        """Add a part to the batch of the step that has begun, a list, which is known one part after another."""
        if self.open is not None and not self.refused:
            self.open.batch.append(copied_batch(part, tensors=self._copies_batches))
            self.open.versions += versions_of(self.open.batch[-1])

    def end_step(self, *, ended: bool = True) -> None:
        """The body has come to its end, or was left."""
        step, self.open = self.open, None
        if step is None:
            return
        step.seconds = time.perf_counter() - self._began
        step.ended, self.watch.current = ended, None
        step.losses.end()
        self.count += 1
        self._seconds = min(step.seconds, 1.2 * self._seconds) if self._seconds else step.seconds
        self.last_losses = step.losses
        if self.refused:
            self._past.append(math.nan)
            return
        self.steps.append(step)
        try:
            if not self._copies_batches and any(version_of(tensor) != version for tensor, version in step.versions):
                self._copies_batches = True  # the body changes its batches: they are copied from now on
                self.forget()
            if step.number in self.states:
                self._learn_of_gradients(step.number)
            self._drop_old()
        except Exception as error:
            self._failed(error)

    def _learn_of_gradients(self, number: int) -> None:
        """See whether the step after a state has added to the gradients of the one before, as a loop does that accumulates them."""
        state, between = self.states[number], self.between.get(number)
        if changed := state.changed_gradients():
            state.copy_from_now_on(changed)
            self._drop_state(number)  # the next step begins with a state that has copies
            if self.states and between is not None:
                self.between[number] = between

    def end_epoch(self) -> None:
        """The loop is exhausted, or was left within a step."""
        if self.open is not None:
            self.end_step(ended=False)
        self.watch.end()
        if self.refused or not self.steps or not self.steps[-1].ended:
            return
        try:
            self._at_end = self.state()
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1:]
        place = f" ({os.path.basename(where[0].filename)}:{where[0].lineno})" if where else ""
        self.give_up(
            str(error) if isinstance(error, RewindError)
            else f"the steps could not be kept: {type(error).__name__}: {printable(error, 120)}{place}; the script is not affected"
        )  # fmt: skip

    def _keep_state(self, first: bool) -> None:
        began = time.perf_counter()
        last = next(reversed(self.states.values()), None)
        state = self.state(earlier=last)
        if last is not None and (changed := last.changed_since(state)):
            last.copy_from_now_on(changed)
            self.forget()
            state = self.state()
        if first and self._at_end is not None:
            if not set(map(id, self._at_end.modules)) & set(map(id, state.modules)) and state.modules:
                self.forget()  # another training
            elif changes_weights(self._at_end, state):
                self.forget()
            elif self.states:
                self.between[self.count] = Between(self._at_end, state)
            self._at_end = None
        self.states[self.count] = state
        self._choose_spacing(state, time.perf_counter() - began)

    def _choose_spacing(self, state: ScriptState, seconds: float) -> None:
        """Choose how far apart states are, from their memory, and from the time that one takes beside that of a step."""
        most = min(MOST_MEMORY, free_memory(state.devices) // 8) if state.bytes > 1 << 20 else MOST_MEMORY
        if state.bytes > 1 << 28 and 2 * state.bytes > (free := free_memory(state.devices)):
            raise RewindError(
                f"two states of this loop need {2 * state.bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; use tui_gru.record"
            )
        room = max(most - state.bytes, 1)
        spacing = max(SPACING, math.ceil(self.keep * state.bytes / room))
        if self._seconds:
            spacing = max(spacing, math.ceil(seconds / (SHARE_OF_TIME * self._seconds)))
        self._spacing = min(spacing, max(self.keep, 1))

    def _drop_old(self) -> None:
        """Drop what is not needed for the last `keep` steps."""
        numbers = list(self.states)
        while len(numbers) > 1 and numbers[1] <= self.count - self.keep:
            self._drop_state(numbers.pop(0))
        batch = bytes_of(self.steps[-1].batch) if self.steps else 0
        while len(numbers) > 1 and batch * len(self.steps) > MOST_MEMORY:
            self._drop_state(numbers.pop(0))
            self._drop_steps(numbers[0])
        if numbers:
            self._drop_steps(numbers[0])
        else:
            self._drop_steps(self.count)

    def _drop_state(self, number: int) -> None:
        state = self.states.pop(number)
        if self.trouble is None or self.trouble.states.get(number) is not state:
            state.release()
        self.between.pop(number, None)

    def _drop_steps(self, first: int) -> None:
        while self.steps and self.steps[0].number < first:
            self._past.append(self.steps.popleft().losses.total)

    # States

    def names(self) -> dict[str, Any]:
        """Return the local names that the body reads, as they are now."""
        body, frame = self.body, self.epoch.frame
        if body is None or frame is None:
            return {}
        if body.is_module:
            also = frozenset() if self._unread is None else body.unread - self._unread
            return body.live(frame.f_globals, also)
        return body.live(frame.f_locals)

    def state(self, *, earlier: ScriptState | None = None, complete: bool = False) -> ScriptState:
        """Return the state of the script now."""
        body, frame = self.body, self.epoch.frame
        if body is None or frame is None:
            roots = [*self.stateful, *self.also, self.given_body]
            return ScriptState(roots, self._memory, earlier=earlier, complete=complete, deep=self.also)
        unread = body.unread if self._unread is None else self._unread
        while True:
            names = self.names()
            cells = list(self.epoch.cells.values()) if complete else []
            state = ScriptState(
                [*self.stateful, *self.also, *names.values(), *cells],
                self._memory,
                earlier=earlier,
                complete=complete,
                loop_globals=frame.f_globals if body.is_module else None,
                unread=frozenset() if complete or not body.is_module else unread,
                mentioned=body.attributes - unread,
                namespaces=[frame.f_globals],
                deep=self.also,
            )
            read = unread - state.in_functions if body.is_module else unread
            if read == unread or complete:
                break
            state.release()
            self._unread = unread = read  # functions of the file read some of them
        self._unread = unread
        state.names = names
        return state

    def check_keepable(self, state: ScriptState) -> None:
        """Raises `RewindError` for what cannot be put back, with its name and the cure."""
        if not state.unkeepable:
            return
        first = state.unkeepable[0]
        name = self._name_of(first)
        if isinstance(first.object, weakref.ref):
            through = f", {name}" if name.isidentifier() else ""
            raise RewindError(
                f"the body reaches a {type_name(first.object())} only by a weak reference{through}, so its state cannot be kept; "
                "use a name of the object itself in the body"
            )
        if isinstance(first.object, queue.SimpleQueue | queue.Queue):
            raise RewindError(
                f"the body reaches {name}, a {type_name(first.object)}, which other threads may change; use a collections.deque, "
                "or take its items in the loader of the loop"
            )
        if isinstance(first.object, io.IOBase) and first.object.writable():
            raise RewindError(
                f"the body writes into {name}, a {type_name(first.object)} that packs what is written, which cannot be taken back; "
                "write into it after the loop"
            )
        if isinstance(first.object, types.GeneratorType) and self.body is not None and "send" in self.body.attributes:
            raise RewindError(
                f"the body sends something to the generator {name}, whose state cannot be put back; write it as a class with "
                "attributes"
            )
        if hasattr(type(first.object), "__next__"):
            if name.isidentifier():
                raise RewindError(
                    f"the body uses the iterator {name}, which cannot be put back: write {name} = tui_gru.kept({name}) before "
                    "the loop"
                )
            raise RewindError(
                f"the body reaches an open iterator, {type_name(first.object)} in {name}, which cannot be put back; wrap it "
                "into tui_gru.kept(…)"
            )
        raise RewindError(
            f"the body reaches {name}, a {type_name(first.object)}, whose state cannot be kept; also=({name},) copies it if it "
            f"can be copied, body= is a function of the batch without it"
        )

    def _name_of(self, unkeepable: Unkeepable) -> str:
        """Return how the script gets at an object: `env`, or `trainer.env`."""
        frame = self.epoch.frame
        names = {} if frame is None else {**frame.f_globals, **frame.f_locals}
        path = [*unkeepable.path, unkeepable.object]
        for place in range(len(path) - 1, -1, -1):
            subject, owner = path[place], path[place - 1] if place else None
            name = next((name for name, value in names.items() if value is subject), "")
            if isinstance(subject, types.CellType) and isinstance(owner, types.FunctionType) and owner.__closure__:
                # A variable of a function, which the functions inside of it share.
                cells = zip(owner.__code__.co_freevars, owner.__closure__, strict=True)
                name = next((name for name, cell in cells if cell is subject), "")
            if name:
                inner = [
                    attribute
                    for outer, part in zip(path[place:], path[place + 1 :], strict=False)
                    for attribute, value in getattr(outer, "__dict__", {}).items()
                    if value is part
                ]
                return ".".join([name, *inner])
        return type_name(unkeepable.object)

    # Trials

    def check_can_try(self) -> None:
        if self.refused:
            raise RewindError(self.refused)
        if not self.steps or not self.states:
            raise RewindError("no step is kept yet; let the loop run for a step")

    def check_change(self, change: Change) -> None:
        """Raises `RewindError` if lines cannot be changed so."""
        if self.body is not None and change.lines:
            self.body.check_lines(change.lines)
        elif change.lines:
            raise RewindError("the body is a function that was given; change its lines there", option="lines")

    def beginning_of(self, since: int | None) -> int:
        """Return the step with which a trial begins, by default the first of the last `keep` ones."""
        return max(self.steps[-1].number - self.keep + 1, self.first_kept) if since is None and self.steps else since or 0

    def reason_to_differ(self) -> str:
        """Say what the body reads or computes that can be otherwise each time; "" if that is not known."""
        line = None if self.body is None else self.body.line_of_clock
        if line is not None:
            return f"line {line} reads the clock, which has another time by now"
        if any(device.type != "cpu" for state in self.states.values() for device in state.devices):
            return "a GPU adds in another order each time, unless torch.use_deterministic_algorithms(True) forbids it"
        return ""

    @property
    def first_kept(self) -> int:
        """The number of the first step that can be computed again."""
        return max(self.steps[0].number, min(self.states))

    def run_again(
        self,
        change: Change,
        *,
        recorder: Callable[[int, ScriptState], Any] | None = None,
        stays: bool = False,
        on_step: Callable[[int], object] | None = None,
    ) -> TrialOutcome:
        """Compute the last steps again, from `change.since` on with a change; then put everything back, unless it `stays`.

        `recorder` is called with the number of the first step and the state of the script, and returns an object whose
        `step(losses)` ends a step. Raises `RewindError` before anything runs, and `TuiGruError` if something could not be put back.
        """
        self.check_can_try()
        self._find_cells()
        now = self.state(complete=True)
        try:
            self.check_keepable(now)
            self._drop_outdated()
            if not self.states:
                raise RewindError(
                    "the body changes large tensors in place, which were not copied until now; they are from here on: let the loop "
                    "run for a few steps, and try again"
                )
            self.check_can_try()
            since, last = self.beginning_of(change.since), self.steps[-1].number
            if not self.first_kept <= since <= last:
                raise RewindError(
                    f"step {since + 1} is not kept; the steps {self.first_kept + 1} to {last + 1} are", option="since"
                )
            begin = max(number for number in self.states if number <= since)
            changed = next(
                (s.number for s in self.steps if s.number >= begin and any(version_of(t) != v for t, v in s.versions)), None
            )
            if changed is not None:
                raise RewindError(
                    f"the batch of step {changed + 1} was changed in place later on; give tui_gru.steps batches of their own"
                )
            self.check_change(change)
            optimizers = [member for member in now.optimizers if not hasattr(member, "optimizer")]
            if not optimizers and (change.lr, change.rate, change.clip, change.weight_decay) != (None,) * 4:
                raise RewindError(
                    "the body reaches no optimizer of torch whose options could change: give it, steps(loader, model, optimizer), "
                    "or change the line of the body that updates the weights, lines={number: text}"
                )
        except BaseException:
            now.release()
            raise
        failures: list[str] = []
        put_back = True
        with self._interrupts:
            try:
                self._unchanged = {number: state.unchanged() for number, state in self.states.items()}
                self._unchanged_batches = [
                    [version_of(tensor) == version for tensor, version in step.versions] for step in self.steps
                ]
                with _as_in_thread(self.thread_modes):
                    outcome = self._attempts(begin, since, change, now, optimizers, recorder, on_step)
                outcome.same_weights = not any(isinstance(tensor, torch.nn.Parameter) for tensor in now.different())
                put_back = not stays or bool(outcome.why)
            finally:
                if put_back:
                    failures = now.put()
                    self._renew_versions(now.tensors.values())
                else:
                    self._adopt_names()
                now.release()
        if failures:
            raise RewindError(
                f"after the trial something could not be put back: {'; '.join(failures[:3])}; the script may differ from an "
                "untouched run"
            )
        return outcome

    def _renew_versions(self, entries: Iterable[TensorCopy]) -> None:
        """Count no change where numbers were put back that had not changed before the trial: all views of a tensor count them."""
        memories = {memory_of(entry.tensor) for entry in entries}
        for unchanged in self._unchanged.values():
            for entry in unchanged:
                if memory_of(entry.tensor) in memories:
                    entry.version = version_of(entry.tensor)
        for step, are_unchanged in zip(self.steps, self._unchanged_batches, strict=True):
            step.versions = [
                (tensor, version_of(tensor) if is_unchanged and memory_of(tensor) in memories else version)
                for (tensor, version), is_unchanged in zip(step.versions, are_unchanged, strict=True)
            ]

    def _find_cells(self) -> None:
        """Find the variables that functions share with the frames of the kept steps."""
        body = self.body
        if body is None or body.is_module:
            return
        for epoch in {id(epoch): epoch for epoch in (*(step.epoch for step in self.steps), self.epoch)}.values():
            if epoch.frame is not None:
                epoch.cells = body.cells(epoch.frame)

    def _drop_outdated(self) -> None:
        """Drop the states before a change in place of something that they have not copied."""
        changed = {number: state.changed_since() for number, state in self.states.items()}
        outdated = [number for number, keys in changed.items() if keys]
        if outdated:
            for number, keys in changed.items():
                self.states[number].copy_from_now_on(keys)
            for number in [number for number in self.states if number <= outdated[-1]]:
                self._drop_state(number)
            self._drop_steps(min(self.states, default=self.count))

    def _attempts(
        self,
        begin: int,
        since: int,
        change: Change,
        now: ScriptState,
        optimizers: Sequence[torch.optim.Optimizer],
        recorder: Callable[[int, ScriptState], Any] | None,
        on_step: Callable[[int], object] | None,
    ) -> TrialOutcome:
        """Run the steps until no statement of the body is left that would change something outside."""
        left_out: dict[tuple[int, int], str] = {}
        self._written = set()
        if self.body is not None:
            self.body.cuts = {}
        for _ in range(_MOST_ATTEMPTS):
            outcome, outside, step = self._attempt(begin, since, change, optimizers, recorder, on_step)
            if outside is None:
                break
            words = str(outside)
            statement = None if self.body is None else self.body.statement_of(outside)
            if statement is None or self.body is None or not _is_call(statement) or outside.is_read:
                where = "" if statement is None else f"line {statement.lineno} "
                then = "; read it before the loop" if outside.is_read else ", which nothing could put back"
                outcome.why = f"step {step + 1}: {where}{words}{then}"
                break
            place = statement.lineno, statement.col_offset
            self.body.cuts[place] = CUT_ALL if self.body.cuts.get(place) else CUT_CALL
            left_out[place] = f"line {statement.lineno}, {words}"
        outcome.left_out = tuple(left_out[place] for place in sorted(left_out))
        return outcome

    def _attempt(
        self,
        begin: int,
        since: int,
        change: Change,
        optimizers: Sequence[torch.optim.Optimizer],
        recorder: Callable[[int, ScriptState], Any] | None,
        on_step: Callable[[int], object] | None,
    ) -> tuple[TrialOutcome, Outside | None, int]:
        state, body = self.states[begin], self.body
        failures = state.put()
        self._renew_versions(self._unchanged[begin])
        names = state.substituted(dict(state.names))
        if failures:
            raise RewindError(f"the state before step {begin + 1} cannot be put back: {'; '.join(failures[:3])}")
        outcome, handles, recording = TrialOutcome(since, {}), list[Any](), None
        number, watch, epoch = begin, LossWatch(), None
        cursors = [member for member in state.objects.values() if isinstance(member, Cursor)]
        try:
            watch.begin()
            for cursor in cursors:
                if not cursor.reaches(cursor.position):
                    raise RewindError(
                        "the body takes more items from tui_gru.kept(…) than are kept; let it keep more: kept(iterator, most=…)"
                    )
                cursor.rewound = True
            _mute_captures(state)
            for step in tuple(self.steps):
                if (number := step.number) < begin:
                    continue
                if number > begin and number in self.between:
                    self.between[number].put(names)
                    unchanged = set(map(id, self._unchanged.get(number, ())))
                    self._renew_versions([entry for entry in self.between[number].tensors if id(entry) in unchanged])
                epoch = step.epoch
                if number == since:
                    if recorder is not None:
                        recording = recorder(since, state)
                    if change.edit is not None:
                        change.edit(names)
                    handles = _changed_options(optimizers, change)
                    if change.seed is not None:
                        _seed(change.seed)
                    if body is not None:
                        body.lines = change.lines
                if change.seed is None or number < since:
                    step.random.put()
                if number in change.skip and number >= since:
                    outcome.losses[number] = StepLosses()
                    if recording is not None:
                        recording.pass_over()
                    continue
                losses = watch.current = StepLosses()
                self.repeated = number
                batch = copied_batch(step.batch, tensors=True)
                try:
                    with closed_boundary(state.time, self._written) as attempts, trial(), self._interrupts.allowed():
                        ended = True
                        if body is not None:
                            ended = body.run(names, epoch.cells, batch, step.index)
                        else:
                            assert self.given_body is not None
                            self.given_body(batch)
                    if attempts.words:  # which the body has caught itself
                        outcome.why = f"step {number + 1} {attempts.words[0]}, which nothing could put back"
                finally:
                    watch.current = self.repeated = None
                    losses.end()
                    if number >= since:
                        outcome.losses[number] = losses
                if recording is not None:
                    recording.step(losses)
                if on_step is not None:
                    on_step(number)
                if outcome.why:
                    break
                if not ended and (step.ended or number != self.steps[-1].number):
                    outcome.why = f"the body ends the loop in step {number + 1}"
                    break
        except Outside as outside:
            return outcome, outside, number
        except Exception as error:
            if isinstance(error, RewindError):
                raise
            outcome.why = f"{type(error).__name__} in step {number + 1}: {printable(error, 200)}"
            outcome.error = error
        finally:
            watch.end()
            for handle in handles:
                handle.remove()
            for cursor in cursors:
                cursor.rewound = False
            if body is not None:
                body.lines = {}
            if recording is not None:
                recording.end(outcome)
            self._last_names = names
        return outcome, None, number

    def _adopt_names(self) -> None:
        """Let the frame of the script have the local names at the end of the trial that has just stayed."""
        body, frame = self.body, self.epoch.frame
        if body is not None and frame is not None and not body.is_module:
            local = frame.f_locals
            local.update(self._last_names)
            if sys.version_info < (3, 13):
                ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
        self.forget()  # the steps before belong to the run that the script has left

    @property
    def rate(self) -> float | None:
        """The learning rate of the first optimizer; None if there is none."""
        optimizers = [member for member in self.stateful if hasattr(member, "param_groups")]
        if not optimizers and self.states:
            optimizers = list(next(reversed(self.states.values())).optimizers)
        return next((float(group["lr"]) for member in optimizers for group in member.param_groups if "lr" in group), None)


_NO_GENERATORS: Any = None


def _is_call(statement: Any) -> bool:
    return isinstance(statement, (ast.Expr, ast.With))


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _changed_options(optimizers: Sequence[torch.optim.Optimizer], change: Change) -> list[Any]:
    """Change the options of optimizers, the learning rate only while they step: a scheduler goes on with its own."""
    handles: list[Any] = []
    for optimizer in optimizers:
        if change.weight_decay is not None:
            for group in optimizer.param_groups:
                if "weight_decay" in group:
                    group["weight_decay"] = change.weight_decay
        if change.lr is None and change.rate is None and change.clip is None:
            continue
        rates: list[Any] = []

        def before(optimizer: Any, arguments: Any, named: Any, rates: list[Any] = rates) -> None:
            rates[:] = [group.get("lr") for group in optimizer.param_groups]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                if change.lr is not None:
                    group["lr"] = _like(rate, change.lr)
                elif change.rate is not None and rate is not None:
                    group["lr"] = rate * change.rate
            if change.clip is not None:
                parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
                torch.nn.utils.clip_grad_norm_(parameters, change.clip)

        def after(optimizer: Any, arguments: Any, named: Any, rates: list[Any] = rates) -> None:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                if rate is not None:
                    group["lr"] = rate

        handles += [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]
    return handles


def _like(rate: Any, value: float) -> Any:
    return torch.full_like(rate, value) if isinstance(rate, torch.Tensor) else value


_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
)  # fmt: skip


def _mute_captures(state: ScriptState) -> None:
    """Take the hooks of captures off the modules of the script; they come back when everything is put back."""
    for owner in (*state.modules, *state.optimizers):
        for name in _HOOKS:
            hooks: dict[Any, Any] = vars(owner).get(name) or {}
            for key in [key for key, hook in hooks.items() if _is_of_capture(hook)]:
                del hooks[key]


def _is_of_capture(hook: Any) -> bool:
    while hasattr(hook, "func") or hasattr(hook, "__func__"):
        hook = getattr(hook, "func", None) or hook.__func__
    return str(getattr(hook, "__module__", "")).startswith("tui_gru.capture")


class _Interrupts:
    """Within this context, ctrl+c waits until its end, but for the times within `allowed`, which are those of the script's body."""

    def __init__(self) -> None:
        self._before: Any = None
        self._waits = True
        self._waiting: list[tuple[int, Any]] = []

    def __enter__(self) -> None:
        before = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
        if callable(before):
            self._before, self._waits, self._waiting = before, True, []
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: Any) -> None:
        if self._waits:
            self._waiting.append((number, frame))
            return
        self._waits = True  # before it raises, so that nothing can come between this and putting everything back
        self._before(number, frame)
        self._waits = False

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        if self._waiting:
            self._before(*self._waiting.pop(0))
        self._waits = False
        try:
            yield
        finally:
            self._waits = True

    def __exit__(self, *error: Any) -> None:
        if (before := self._before) is not None:
            self._before = None
            signal.signal(signal.SIGINT, before)
            if self._waiting:
                before(*self._waiting[0])


def modes_of_thread() -> tuple[int, Any]:
    """Return this thread and what torch does in it: whether it computes gradients, lower precision, the default device."""
    lower = []
    for device in ("cpu", "cuda"):
        with contextlib.suppress(Exception):
            lower.append((device, *_autocast(device)))
    return threading.get_ident(), (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), lower, torch.get_default_device())


def _autocast(device: str) -> tuple[bool, torch.dtype]:
    try:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    except (TypeError, AttributeError):  # before PyTorch 2.4
        if device == "cpu":
            return torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()
        return torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()


@contextlib.contextmanager
def _as_in_thread(modes: tuple[int, Any] | None) -> Iterator[None]:
    """Let torch do in this thread what it does in the script's: such modes are by thread."""
    if modes is None or modes[0] == threading.get_ident():
        yield
        return
    gradients, inference, lower, device = modes[1]
    with contextlib.ExitStack() as stack:
        if inference:
            stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.set_grad_enabled(gradients))
        for kind, enabled, dtype in lower:
            if enabled:
                stack.enter_context(torch.autocast(kind, dtype=dtype))
        if device.type != "cpu":
            stack.enter_context(device)
        yield


def frame_of_script(frame: types.FrameType | None) -> types.FrameType | None:
    """Return the frame, or the first one around it that is of no library: that of `tqdm(steps(…))` for example."""
    while frame is not None and is_of_library(frame.f_code.co_filename):
        frame = frame.f_back
    return frame
