"""Captures the GRU calls of a training script with hooks on its modules, tensors and optimizer."""

from __future__ import annotations

import itertools
import math
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from tui_gru.capture.again import ModuleState, SourceCall, later_calls, summed
from tui_gru.capture.call_tensors import (
    HandwrittenCell,
    InsideForm,
    LayerPart,
    ModuleCall,
    Operations,
    TogetherParameter,
    candidates,
    is_scripted,
    passed_on,
    tensors_in,
)
from tui_gru.capture.calls import (
    CALL_IT,
    COPIES,
    NO_STATES,
    CapturedStep,
    GivenCell,
    GRUCall,
    GRUModule,
    Note,
    Seen,
    Take,
    WrittenCell,
    all_entries_finite,
    can_be_copied,
    fresh,
    join_calls,
    seen,
    to_array,
)
from tui_gru.capture.cells import Passed, recognized
from tui_gru.capture.facts import StepWatch
from tui_gru.capture.handed import HandedGradients
from tui_gru.capture.links import Links
from tui_gru.capture.operations import NoCellError, WaitingError
from tui_gru.capture.pending import (
    Parameters,
    PendingCall,
    Timestep,
    UsedWeights,
    WeakHook,
    computed_once,
    draws_on_cpu,
    harmless,
    is_compiled,
    is_parametrized,
    is_sharded,
    is_within_optimizer_hook,
    pending_call,
    remove_from_optimizers,
    report_failure,
    tensors_used,
)
from tui_gru.errors import CaptureError, printable, shown
from tui_gru.files.arrays import AnyArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module
    from torch.optim import Optimizer

#: What a script gives as its optimizer: one, a wrapper of one, or several.
Optimizers: TypeAlias = "Optimizer | Sequence[Any] | Mapping[str, Any] | None"

# ------------------------------------------------------------------------------
# The modules of a script that can be captured, and the hooks on them. Nothing else in the script changes.
#
# The hooks are functions that dynamo (torch.compile) does not trace. They raise nothing into the script, and a copy of the module
# (deepcopy, pickle) is without them.


def find_modules(module: Module, cell: GivenCell | None) -> tuple[dict[Module, GRUModule], dict[Module, str], WrittenCell | None]:
    """Return every torch.nn.GRU, LSTM, RNN and cell of them in `module`, or it itself; the modules that can be hand-written cells,
    with their names: that called `cell`, or those that fit the equations in the file `cell`, by default all; and these equations.

    Raises `CaptureError` if there is none, or `cell` cannot be one.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise CaptureError(f"module must be a torch.nn.Module, not {type(module).__name__}", option="module")
    modules, others = dict[torch.nn.Module, GRUModule](), list[str]()
    for name, part in module.named_modules():
        kind = _kind_of(part)
        if isinstance(part, torch.nn.LSTM) and part.proj_size:
            others.append(f"{name or 'it'} has a projection (proj_size {part.proj_size}), which cannot be shown")
        elif kind is not None:
            modules[part] = _described(part, name, kind)
        elif _is_recurrent(part) and is_scripted(part):
            reason = f"{name or 'it'} is {part.original_name}, compiled by TorchScript"
            others.append(f"{reason}; run the script with PYTORCH_JIT=0, so that it is computed in Python")
        elif _is_recurrent(part) and any(isinstance(inner, torch.nn.modules.conv._ConvNd) for inner in part.modules()):
            others.append(f"the gates of {name or 'it'} ({type(part).__name__}) are convolutions, which cannot be shown")
        elif _is_recurrent(part):
            others.append(f"{name or 'it'} is {type(part).__module__}.{type(part).__name__}")
    written = WrittenCell.of(module, cell)
    possible = candidates(module, modules, cell) if written is None else written.candidates(module, modules)
    if not modules and not possible:
        others += [
            f"{name} is compiled by TorchScript; run the script with PYTORCH_JIT=0"
            for name, part in module.named_modules()
            if is_scripted(part)
        ]
        names = f": {printable(others[0], 200)}" if others else ""
        raise CaptureError(
            f"there is no torch.nn.GRU, LSTM, RNN or cell of them in {type(module).__name__}{names}; give a module that has one, "
            "or one that computes a timestep from x and h",
            option="module",
        )
    return modules, possible, written


KINDS = ("GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell")


def _kind_of(part: Module) -> str | None:
    """Return which recurrent module of torch a module is, also as a subclass; None if none."""
    import torch

    return next((kind for kind in KINDS if isinstance(part, getattr(torch.nn, kind))), None)


def _warn(problem: str) -> None:
    warnings.warn(f"tui_gru: {problem}; training continues", stacklevel=3)


def _described(part: Any, name: str, kind: str) -> GRUModule:
    nonlinearity = part.nonlinearity if kind.startswith("RNN") else "tanh"
    if kind.endswith("Cell"):
        return GRUModule(name or "cell", kind, part.input_size, part.hidden_size, bias=part.bias, nonlinearity=nonlinearity)
    return GRUModule(
        name or kind.lower(),
        kind,
        part.input_size,
        part.hidden_size,
        part.num_layers,
        part.bidirectional,
        part.bias,
        part.batch_first,
        float(part.dropout) if part.num_layers > 1 else 0.0,
        nonlinearity,
    )


def _seen_in(
    module: GRUModule, part: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, operations: object
) -> list[Seen]:
    call = seen(module, args, kwargs, output)
    return [] if call is None else [call]


def _seen_by(cells: Sequence[HandwrittenCell], *call: Any) -> list[Seen]:
    module_call = ModuleCall(*call)
    return [tensors for cell in cells for tensors in cell.calls(module_call)]


def _computes_as_torchs(part: Module, module: GRUModule, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> bool:
    """Return True unless a module of a subclass, with a forward of its own, gave another output than the forward of torch gives.

    Dropout between layers is not drawn again, and taken as torch's.
    """
    import torch

    torchs = getattr(torch.nn, module.kind).forward
    if type(part).forward is torchs or (part.training and module.dropout):
        return True
    try:
        with torch.no_grad():
            torch_output = torchs(part, *args, **kwargs)
    except Exception:  # as where it takes more than torch's
        return False
    pairs = list(zip(tensors_in(output), tensors_in(torch_output), strict=False))
    return all(tensor.shape == other.shape and torch.allclose(tensor, other, rtol=1e-2, atol=1e-3) for tensor, other in pairs)


def _with_last_c(part: Module, module: GRUModule, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
    """Return the output of an LSTM with its last c, computed here where a subclass returns h alone: no gradient arrives at it."""
    import torch

    if module.is_cell or module.states < 2 or (part.training and module.dropout):
        return output
    if type(output) is tuple and len(output) == 2 and isinstance(output[1], torch.Tensor):
        with torch.no_grad():
            return output[0], (output[1], getattr(torch.nn, module.kind).forward(part, *args, **kwargs)[1][1])
    return output


def _is_recurrent(part: Module) -> bool:
    """Return True if a user could expect the module to be captured, such as a scripted or quantised GRU."""
    name = getattr(part, "original_name", type(part).__name__)  # the original name of a scripted module
    return any(word in name for word in ("GRU", "LSTM", "RNN"))


class Hook:
    """Calls `action`, outside of code compiled by torch.compile."""

    def __init__(self, action: Callable[..., None]) -> None:
        import torch

        self._action, self._is_compiling = action, torch.compiler.is_compiling
        self._left_alone = torch.compiler.disable(action)  # type: ignore[no-untyped-call]

    def __call__(self, *args: Any) -> None:
        if self._is_compiling():  # to switch the compiler off takes as long as many a hook, so only where it is on
            self._left_alone(*args)
        else:
            self._action(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook(_nothing)  # of a parametrized module, which copies its attributes itself


def _nothing(*args: Any) -> None:
    """The action of a copied hook."""


class WithoutHooks:
    """Reduces a module for pickle and copy as if it had no `Hook`.

    pickle and copy look for `__reduce_ex__` in the module before they look in its class, so this is an attribute of the module.
    """

    NAME = "__reduce_ex__"

    def __init__(self, part: Module) -> None:
        self._part = weakref.ref(part)

    def __call__(self, protocol: Any) -> Any:
        part = self._part()
        assert part is not None
        reduced = list(type(part).__reduce_ex__(part, protocol))
        if len(reduced) > 2 and isinstance(reduced[2], dict):
            ours = {key for hooks in _hooks_of(part) for key, hook in hooks.items() if isinstance(hook, Hook)}
            reduced[2] = {
                name: type(value)((key, hook) for key, hook in value.items() if key not in ours) if "_hooks" in name else value
                for name, value in reduced[2].items()
                if name != self.NAME
            }
        return tuple(reduced)

    def __deepcopy__(self, memo: dict[int, Any]) -> WithoutHooks:
        part = self._part()
        assert part is not None
        return WithoutHooks(memo.get(id(part), part))


def _hooks_of(part: Module) -> tuple[Mapping[int, object], ...]:
    return part._forward_hooks, part._forward_pre_hooks


def hook_calls(part: Module, before: Callable[..., None] | None, after: Callable[..., None]) -> list[Any]:
    """Register `before(part, args, kwargs)` and `after(part, args, kwargs, output)`, and return the handles. If both are given,
    `after` is called even if the module raises an error."""
    part.__dict__.setdefault(WithoutHooks.NAME, WithoutHooks(part))
    handles = [part.register_forward_hook(Hook(after), with_kwargs=True, always_call=before is not None)]
    if before is not None:
        handles.append(part.register_forward_pre_hook(Hook(before), with_kwargs=True))
    return handles


class ForwardHook:
    """Calls `action` after calls of `module.forward(x)`, which run no hooks, until `remove`.

    The forward of the class is replaced, not that of the module: a copy or a replica of the module calls it for itself.
    """

    def __init__(self, part: Module, action: Callable[..., None]) -> None:
        import torch.nn.modules.module as modules

        reference, hook, by_module = weakref.ref(part), Hook(action), modules.__file__
        self._class, self._inherited = type(part), "forward" not in vars(type(part))
        original = self._original = type(part).forward
        self._is_removed = False

        @wraps(original)
        def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
            output = original(module, *args, **kwargs)
            if not self._is_removed and module is reference() and sys._getframe(1).f_code.co_filename != by_module:
                hook(module, args, kwargs, output)
            return output

        self._forward = type(part).forward = forward

    def remove(self) -> None:
        self._is_removed = True
        if vars(self._class).get("forward") is self._forward:  # otherwise another one has replaced it since
            if self._inherited:
                del self._class.forward
            else:
                self._class.forward = self._original


def unhook(parts: Iterable[Module], handles: Iterable[Any]) -> None:
    """Remove hooks, and what hides them from copies unless another capture still has hooks on the module."""
    for handle in handles:
        handle.remove()
    for part in parts:
        if not any(isinstance(hook, Hook) for hooks in _hooks_of(part) for hook in hooks.values()):
            part.__dict__.pop(WithoutHooks.NAME, None)


# ------------------------------------------------------------------------------
# The current step of a capture: its calls, which of them received gradients, and p.grad before the step.


MOST_KINDS = 4  # of calls of one module whose states are found among its operations
MOST_WAITING = 16  # calls of one module until one has shown which of its results are states
UNTRAINED = 8  # calls without a gradient that a step stores, where those are to be seen
LOOKED = 8  # calls of a loop: NaN stays in a state from timestep to timestep, so not every one is looked at
MOST_HELD = 1 << 28  # bytes of the calls of a step that are held although the script may have given them up
MOST_ENTRIES = 10_000  # of one step, such as a long validation; then those of calls that can receive no gradient are removed


#: A call that may be made again, the backward passes that count, and its later timesteps: their layout, and their first states.
Source: TypeAlias = "tuple[SourceCall, AbstractSet[int] | None, tuple[Any, list[Timestep], list[Tensor]]]"


@dataclass(eq=False)
class OpenCall:
    """An entry for a call. Until the call receives a gradient, only the script's graph holds it; if the graph is freed, the call
    cannot receive one.

    A call under no_grad has no graph; it is stored only as one of the latest. Checkpointing can compute the call again in a
    backward pass, with a graph; the new call replaces the first and receives the gradient.
    """

    part: Module
    has_graph: bool
    waiting: weakref.ref[PendingCall] | None = None
    count: int = 1  # with the later timesteps of a loop

    @property
    def call(self) -> PendingCall | None:
        return None if self.waiting is None else self.waiting()


@dataclass(eq=False)
class OpenStep:
    """The data of the current step.

    `latest` has the latest calls without a gradient; its length is set by the user. `held` has, if `holds`, the calls of a training
    that can still receive one, by id: if the script stops inside of the step, they are what is known of it. If the step is not
    `wanted`, no data is collected.
    """

    number: int
    wanted: bool
    latest: deque[PendingCall]
    holds: bool = False
    held: dict[int, PendingCall] = field(default_factory=dict)
    held_bytes: int = 0
    reported: bool = False  # a number of it is not finite, and the listener has been told
    entries: list[OpenCall] = field(default_factory=list)
    learned: dict[int, PendingCall] = field(default_factory=dict)  # the calls that received a gradient, by id
    parts_learned: dict[Module, None] = field(default_factory=dict)  # their modules
    used: set[Module] = field(default_factory=set)  # modules whose gradients an optimizer has used
    late: dict[int, PendingCall] = field(default_factory=dict)  # those of the calls that received one after that
    discarded: dict[int, PendingCall] = field(default_factory=dict)  # and those whose gradient was cleared before another pass
    weights: dict[Module, UsedWeights] = field(default_factory=dict)  # the latest weights of each module
    ends: dict[int, weakref.ref[PendingCall]] = field(default_factory=dict)  # calls by the memory of their last states
    links: Links = field(default_factory=Links)
    loops: dict[Module, OpenCall] = field(default_factory=dict)  # the latest call of each module, if a loop can go on from it
    states: dict[Module, ModuleState] = field(default_factory=dict)  # the latest, of calls that may be made again
    gradients: dict[str, AnyArray] = field(default_factory=dict)
    before: dict[str, AnyArray] = field(default_factory=dict)
    sums: HandedGradients = field(default_factory=HandedGradients)
    watched: set[Module] = field(default_factory=set)  # modules with parameters in `sums`
    handed: dict[str, AnyArray] | None = field(default_factory=dict)  # by name, when the optimizer used p.grad
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    hooked: tuple[str, ...] = ()
    passes: set[int] = field(default_factory=set)
    updated: bool = False
    ran: list[Optimizer] = field(default_factory=list)  # the optimizers that have updated
    complete: bool = False  # all of them have that have parameters of a captured module
    not_kept: int = 0  # the number of calls whose entries were removed
    loss: float | None = None
    settings: dict[str, float] = field(default_factory=dict)
    settings_hold: bool = False  # True if they are of an optimizer that has parameters of a captured module
    notes: dict[Note, None] = field(default_factory=dict)
    token: int = field(default_factory=itertools.count(1).__next__)

    def place(self, part: Module, *, has_graph: bool, again: bool) -> OpenCall | None:
        """Return the entry for a call: a new one, or for a call with a graph in a backward pass (`again`) that of its first call,
        None if the first call had a graph."""
        if has_graph and again:
            first = next((entry for entry in reversed(self.entries) if entry.part is part and not entry.has_graph), None)
            if first is not None:
                first.has_graph = True
            return first
        if len(self.entries) >= MOST_ENTRIES:
            self._forget_dead()
        self.entries.append(OpenCall(part, has_graph))
        return self.entries[-1]

    def _forget_dead(self) -> None:
        """Count the older calls that can no longer receive a gradient, and remove their entries."""
        older, self.entries = self.entries[: -MOST_ENTRIES // 2], self.entries[-MOST_ENTRIES // 2 :]
        alive = [entry for entry in older if entry.call is not None]
        self.not_kept += sum(entry.count for entry in older) - sum(entry.count for entry in alive)
        self.entries = alive + self.entries

    def take(self, entry: OpenCall, call: PendingCall) -> None:
        """Store the call of an entry."""
        entry.waiting, call.step = weakref.ref(call), self.token
        self.latest.append(call)
        if call.last:
            self.ends[call.last[0][0].data_ptr()] = entry.waiting

    def previous(self, call: Seen) -> PendingCall | None:
        """Return the call that ended with the very states with which a call begins, also detached."""
        before = self._with_memory(call)
        return before if before is not None and call.h0 is not None and before.ends_with(call.h0, call.c0) else None

    def _with_memory(self, call: Seen) -> PendingCall | None:
        """Return the call whose last states have the memory of the first states of a call."""
        if call.h0 is None or call.h0.is_inference():
            return None
        place = call.h0.data_ptr()
        for entry in self.loops.values():
            if (loop := entry.call) is not None and loop.later and loop.last and loop.last[0][0].data_ptr() == place:
                return loop
        reference = self.ends.get(place)
        before = None if reference is None else reference()
        return None if before is None or before.later else before

    def link(self, call: PendingCall, tensors: Seen, before: PendingCall | None) -> None:
        """Note which call a call goes on from, and mark the states that it ends with. `before` ended with the very states."""
        changed = None if before is not None else self._with_memory(tensors)
        if changed is not None and (changed.hn.shape != call.h0.shape or not changed.last):
            changed = None
        self.links.follow(call, tensors, before, changed)
        self.links.mark(call, (("dhn", tensors.hn), ("dcn", tensors.cn), ("dout", tensors.out)))

    def hold(self, call: PendingCall) -> None:
        """Hold a call of a training, and release those whose graph the script has freed: it went on without a backward pass.

        Once a number is not finite, the calls of that time are held, not those of a script that goes on after it.
        """
        if not (self.holds and call.facts["training"]):
            return
        if not next(iter(self.held.values()), call).can_learn:
            if self.reported:
                return
            self.held = {key: held_call for key, held_call in self.held.items() if held_call.can_learn}
            self.held_bytes = sum(held_call.nbytes for held_call in self.held.values())
        if self.held_bytes < MOST_HELD:
            self.held[id(call)] = call
            self.held_bytes += call.nbytes

    def learn(self, call: PendingCall) -> None:
        """Note that a call has received a gradient."""
        self.learned[id(call)], self.parts_learned[call.part] = call, None
        self.held.pop(id(call), None)
        if call.part in self.used:
            self.late[id(call)] = call

    def use(self, part: Module) -> None:
        """Note that an optimizer uses the gradients of a module, also of calls after an earlier update."""
        self.used.add(part)
        self.late = {key: call for key, call in self.late.items() if call.part is not part}

    def discard(self, part: Module, parameters: Iterable[str]) -> None:
        """Note that the gradients of a module were cleared: as those of a discriminator after the pass of the generator's loss."""
        self.discarded |= {key: call for key, call in self.learned.items() if call.part is part}
        self.used.discard(part)
        for name in parameters:
            self.before.pop(name, None)
        self.sums.forget(part.parameters())

    def split_off(self, following: OpenStep) -> None:
        """Move all calls after the last one that received a gradient to the following step."""
        following.held, self.held = self.held, {}
        last = max(i for i, entry in enumerate(self.entries) if id(entry.call) in self.learned)
        self.entries, following.entries = self.entries[: last + 1], self.entries[last + 1 :]
        following.weights, following.links = dict(self.weights), self.links
        following.sums.watch_as(self.sums)
        for call in (entry.call for entry in following.entries):
            if call is not None:
                call.step = following.token
                following.latest.append(call)

    def freeze(self, take: Take, rank: int, ranks: int) -> CapturedStep:
        """Return the collected step. Calls without a gradient are only counted, unless they are among the latest, or the script
        stopped inside of the step."""
        for call in (*self.late.values(), *self.discarded.values()):
            call.notes[Note.UNUSED] = None
        stored, cut = self.learned.keys() | set(map(id, self.latest)), Note.CUT in self.notes
        calls = self._calls(stored | self.held.keys() if cut else stored)
        counting = {part: None if cut else self.counting(part) for part in {call.part: None for call in calls}}
        frozen = _linked(calls, [call.frozen(i, counting[call.part], take) for i, call in enumerate(calls)])
        return self._frozen(frozen, take, rank, ranks)

    def share_arrays(self) -> None:
        """Let what autograd has handed to a parameter be the array of p.grad, if it is the same."""
        for name, value in (self.handed or {}).items():
            if name in self.gradients and np.array_equal(self.gradients[name], value, equal_nan=True):
                self.handed[name] = self.gradients[name]  # type: ignore[index]

    @property
    def calls(self) -> list[PendingCall]:
        """The calls that are still there."""
        return [call for entry in self.entries if (call := entry.call) is not None]

    def counting(self, part: Module) -> AbstractSet[int] | None:
        """Return the backward passes that have added to p.grad of a module; None, which means all, if none has, as where a script
        takes gradients with torch.autograd.grad and stores them itself."""
        return self.sums.passes(part.parameters()) or None

    def sources(self) -> list[Source] | None:
        """Return the calls of modules whose gradients an optimizer has used, with the backward passes that count; None if one of
        them cannot be made again."""
        sources = dict[int, Source]()
        for call in self.learned.values():
            if Note.UNUSED in call.notes:
                continue
            if call.source is None:
                return None
            later = (call.layout, list(call.later), call.first_ends)
            sources.setdefault(id(call.source), (call.source, self.counting(call.part), later))
        return list(sources.values())

    def so_far(self, take: Take, rank: int, ranks: int) -> CapturedStep:
        """Return what has been collected of the step, which goes on."""
        calls = self._calls(self.learned.keys() | self.held.keys())
        weights = {id(call.weights): call.weights.so_far() for call in calls}
        so_far = _linked(calls, [call.so_far(i, weights[id(call.weights)], None, take) for i, call in enumerate(calls)])
        step = self._frozen(so_far, take, rank, ranks)
        before = {name: value for name, value in self.before.items() if value.any()}
        return replace(step, before=before, notes=(*self.notes, Note.CUT), not_kept=0)

    def _calls(self, stored: AbstractSet[int]) -> list[PendingCall]:
        return [call for entry in self.entries if (call := entry.call) is not None and id(call) in stored]

    def _frozen(self, calls: Sequence[GRUCall], take: Take, rank: int, ranks: int) -> CapturedStep:
        return CapturedStep(
            self.number,
            tuple(
                call if (call.number, call.without_graph) == (i, NO_STATES) else replace(call, number=i, without_graph=NO_STATES)
                for i, call in enumerate(join_calls(calls, take))
            ),
            self.gradients,
            self.before,
            self.loss,
            self.updated,
            self.settings,
            rank,
            ranks,
            self.not_kept
            + sum(entry.count for entry in self.entries)
            - sum(call.timesteps if call.states is not None else 1 for call in calls),
            tuple(self.notes),
            self.handed,
            shared=self.shared,
            hooked=self.hooked,
        )


def _linked(pending: Sequence[PendingCall], calls: Sequence[GRUCall]) -> list[GRUCall]:
    """Return calls with the numbers of those that they go on from."""
    numbers = {id(call): i for i, call in enumerate(pending)}
    for call, frozen in zip(pending, calls, strict=True):
        before = None if call.follows is None else call.follows()
        vars(frozen)["follows"] = None if before is None else numbers.get(id(before))
    return list(calls)


# ------------------------------------------------------------------------------
# Capture of the GRU calls of a script, step by step.


class Capture:
    """Captures every nn.GRU, LSTM and RNN in a module, every cell of them, and hand-written cells, from `__init__` to `close`; also
    a context manager.

    A step ends with `step()`, called once after each optimizer.step(). If a script never calls it, a step ends at the first
    training call after all optimizers have run. Each step is passed to `on_step` when it ends; `close` ends the last one.

    The capture does not change the results of the script in any bit. The only exception: a graph of torch.compile breaks at the
    hooks of a cell, and may round differently.
    """

    def __init__(
        self,
        module: Module,
        optimizer: Optimizers = None,
        *,
        head: Linear | None = None,
        on_step: Callable[[CapturedStep], None] = lambda step: None,
        without_gradient: int = 0,
        until_trained: bool = False,
        take: Take = fresh,
        rank: int | None = None,
        wanted: Callable[[int], bool] = lambda number: True,
        on_not_finite: Callable[[CapturedStep], None] | None = None,
        cell: GivenCell | None = None,
        on_cell: Callable[[], None] = lambda: None,
        may_repeat: bool = False,
    ) -> None:
        """Begin to capture.

        `optimizer` is an optimizer, a wrapper that has one as `.optimizer`, or a list of them. `without_gradient` is the number of
        calls without a gradient, such as those under no_grad, that a step stores; the latest ones are stored. `until_trained`: only
        as long as none has ever received one, so that a module that is not trained can be seen, and a validation takes no memory.
        `take` allocates arrays. `rank` is the rank of this process among those that train together (default: torch.distributed's).
        `wanted` returns True for the number of a step (from 0) that is to be captured; other steps have no calls. `on_not_finite`
        receives what is known of a step as soon as an output or a gradient in it is not finite, once for a step; with it, a step
        that `close` cuts off is emitted as far as it is. `may_repeat`: steps have what it takes to make their calls again. `cell`
        is the name of a hand-written cell, or its equations; `on_cell` is called when the first call of one has shown how it
        computes. Raises `CaptureError` if there is nothing to capture in `module`, or an argument does not fit.
        """
        self._parts, self._candidates, self._written = find_modules(module, cell)
        self._cells: dict[Module, HandwrittenCell] = {}
        self._layers: dict[Module, list[Module]] = {}  # the keys of the cells of a module: itself, or one for each layer
        self._kinds: dict[Module, dict[bool, list[list[HandwrittenCell]]]] = {}  # its kinds of calls in training mode, and not
        self._undecided: dict[Module, tuple[int, list[ModuleCall]]] = {}  # the step and its calls of modules that can be cells
        self._passed: dict[Module, Passed] = {}  # what showed which results are states
        self._operations: dict[Module, Operations] = {}  # of calls that have not ended
        self.left_out: dict[str, str] = {}  # why modules that could have been cells are not captured, by name
        self.undecided = ""  # why a module that was called is not captured yet
        self._refused = list[tuple[bool, str]]()  # why modules are no cells; False first, for those that are called as cells are
        self._is_cell_named, self._on_cell = cell is not None, on_cell
        self._torchs = len(self._parts)  # the number of modules of torch
        _check_head(head)
        self._optimizers = optimizers_in(optimizer)
        self._head, self._on_step, self._take = head, on_step, take
        self._head_name = name_of_head(module, head)
        self._without_gradient, self._until_trained = without_gradient, until_trained
        self._parameters = Parameters(module, self._parts)
        self.rank, self.ranks = _ranks(rank)
        self.ended = 0  # the number of ended steps
        self.closed = False
        self._wanted, self._begun, self._on_not_finite, self._may_repeat = wanted, 0, on_not_finite, may_repeat
        self._trained: set[tuple[Module, int]] = set()  # with a gradient in the last step; with numbers of rows
        self._open = self._new_step()
        self._waiting: OpenStep | None = None  # ended by a call, but the script can still report its loss
        self._explicit = False  # True if the script calls `step`
        self._updating: Optimizer | None = None  # the optimizer that is running
        self._checked = False
        self._calls_before_update = 0
        self._called: set[Module] = set()
        self._by_reference: set[Module] = set()  # modules of whose loops the tensors are copied at the end of the step
        self._by_copy = set(self._candidates)  # those of which they are copied at once, since the script writes into some of them
        self._generators: dict[Module, Tensor] = {}
        self._gathered: dict[Module, UsedWeights] = {}
        self._once: dict[Module, ExitStack] = {}
        self._of_optimizers = list[Any]()
        self._handles = self._hook()
        self.watch = StepWatch(module, self._optimizers, hook_calls, unhook, keeps_tapes=may_repeat)

    @property
    def modules(self) -> tuple[GRUModule, ...]:
        """The captured modules, those of torch first; a hand-written cell once it was called."""
        return tuple(self._parts.values())

    @property
    def torchs_modules(self) -> tuple[GRUModule, ...]:
        """The captured modules of torch, known from the beginning."""
        return self.modules[: self._torchs]

    @property
    def names(self) -> list[str]:
        """The names of the captured modules, and of those that can turn out to be hand-written cells."""
        return [*(module.name for module in self._parts.values()), *self._candidates.values()]

    @property
    def optimizer(self) -> str | None:
        """The names of the classes of the optimizers, separated by commas; None if there are none."""
        return ", ".join(type(optimizer).__name__ for optimizer in self._optimizers) or None

    def step(self, loss: float | Tensor | None = None) -> CapturedStep | None:
        """End the step. Call it after optimizer.step(). Returns the step that `on_step` receives, or None after `close`."""
        if self.closed:
            return None
        value = math.nan if loss is None else _number(loss)
        COPIES.wait()
        if self._updating is not None and is_within_optimizer_hook():
            self._after_update(self._updating, (), {})
        self._explicit = True
        ended = self._waiting or self._take_open()
        self._waiting = None
        ended.loss = None if loss is None else value
        self.watch.implicit = False
        self.watch.end_step(ended.loss)
        return self._emit(ended)

    def begin_at(self, number: int) -> None:
        """Let the first step have this number: the steps before it are not captured. Call it before any module of the step."""
        self.ended, self._begun, self._open.number = number, number + 1, number
        self._open.wanted = self._wanted(number)

    def cut(self) -> CapturedStep:
        """End the current step now and return it, without switching to explicit `step` calls."""
        self._emit_waiting()
        self.watch.end_step(None)
        return self._emit(self._take_open())

    def close(self, stopped: bool = False) -> None:
        """End the last step and remove all hooks. `stopped`: the script ends inside of a step, if it has begun one."""
        if self.closed:
            return
        try:
            COPIES.wait()
            self._emit_waiting()
            self.watch.end_step(None)
            self._cut_off(stopped)
            is_left = bool(self._open.latest) and not self._until_trained
            if self._open.learned or self._open.updated or is_left or Note.CUT in self._open.notes:
                self._emit(self._take_open())
        finally:
            self._remove_hooks()

    def _remove_hooks(self) -> None:
        self.closed = True
        self.watch.close()
        if self._undecided and not self._parts:
            _warn(self.undecided)
        self._undecided = {}
        self._open.sums.release()
        remove_from_optimizers(self._of_optimizers)
        unhook([*self._parts, *([self._head] if self._head is not None else [])], self._handles)
        for part, handles in self._of_candidates.items():
            unhook([part], handles)
        for call in (entry.call for entry in self._open.entries):
            if call is not None:
                call.release()

    def gradients_again(self, sources: list[Source], exact: bool) -> Mapping[str, AnyArray] | None:
        """Return the gradients of the parameters by autograd through the modules themselves, by name; None if they give other
        outputs."""
        calls = list[tuple[SourceCall, AbstractSet[int] | None]]()
        for source, passes, (layout, later, ends) in sources:
            if (others := later_calls(source, layout, later, ends)) is None:
                return None
            calls += [(call, passes) for call in (*reversed(others), source)]  # in the order in which autograd adds
        if (values := summed(calls, exact=exact)) is None:
            return None
        arrays = {name: to_array(value, fresh) for name, value in self._parameters.named_values(values).items()}
        COPIES.wait()
        return arrays

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # The end of a step

    def _cut_off(self, stopped: bool) -> None:
        """Note that the script stops inside of the open step, if it does.

        A script can leave its loop by `break` or `return` and close the capture as if nothing had happened. Then the step was begun
        if its calls are like those that were trained before; others are of a validation, or of a text that is generated.
        """
        step = self._open
        if not step.holds or step.updated or not (self._explicit or self._optimizers):
            return
        alike = {key: call for key, call in step.held.items() if (call.part, call.rows) in self._trained}
        if alike or not stopped:
            step.held = alike
        if step.held or step.learned:
            step.notes[Note.CUT] = None

    def _look(self, numbers: AnyArray) -> None:
        """Tell the listener if numbers are not finite, as soon as they are known: the script can stop before the step ends."""
        if self._on_not_finite is not None and not self._open.reported:
            COPIES.then(partial(self._report_if_not_finite, self._open, numbers))

    def _report_if_not_finite(self, step: OpenStep, numbers: AnyArray) -> None:
        if self._on_not_finite is None or step is not self._open or step.reported or all_entries_finite(numbers):
            return
        step.reported = True
        try:
            self._emit_waiting()
            self._on_not_finite(step.so_far(self._take, self.rank, self.ranks))
        except Exception as error:  # as in a hook that is `harmless`
            report_failure(error)

    def _look_at(self, tensor: Tensor) -> None:
        """Look at a tensor, of which nothing is copied if its sum is finite."""
        if self._on_not_finite is not None and not self._open.reported:
            total = to_array(tensor.detach().sum(), fresh)
            COPIES.then(lambda: None if np.isfinite(total) else self._look(to_array(tensor, fresh)))

    def _new_step(self) -> OpenStep:
        number = self._begun
        self._begun += 1
        holds = self._on_not_finite is not None
        most = 0 if self._until_trained and self._trained else self._without_gradient
        return OpenStep(number, self._wanted(number), deque(maxlen=most), holds)

    @property
    def _stores_untrained(self) -> bool:
        """True if calls without a gradient are stored."""
        is_trained = self._until_trained and (self._trained or self._open.learned)
        return self._without_gradient > 0 and not is_trained

    def _take_open(self) -> OpenStep:
        """End the current step and begin a new one."""
        ended, self._open = self._open, self._new_step()
        self._undecided = {part: (step, calls[-1:]) for part, (step, calls) in self._undecided.items()}  # these hold graphs
        self._warn_of_refused()
        if ended.wanted:
            self._see_gradients(ended)
        self._end_sums(ended)
        return ended

    def _end_sums(self, ended: OpenStep) -> None:
        """Remove the hooks from the parameters, after a look at what else may change their gradients."""
        if ended.wanted and ended.learned:
            ended.shared, ended.hooked = self._parameters.shared(), self._parameters.names_of(ended.sums.has_others)
            if ended.sums.with_graph:
                ended.notes[Note.WITH_GRAPH] = None
        ended.sums.release()

    @harmless
    def _see_gradients(self, ended: OpenStep) -> None:
        if not ended.updated and (ended.learned or Note.CUT not in ended.notes):  # else p.grad is still that of the step before
            ended.gradients = self._parameters.all_gradients(self._take)
            ended.handed = self._handed(ended)
            if self._optimizers and ended.learned:
                ended.notes[Note.NOT_UPDATED] = None
        elif self._parameters.scaled(ended.gradients):
            ended.notes[Note.SCALED_AFTER] = None
        COPIES.wait()
        # Where no pass has added to p.grad, the script has stored it.
        ended.before = {name: value for name, value in ended.before.items() if value.any() and self._was_added_to(ended, name)}
        if ended.before:
            ended.notes[Note.NOT_CLEARED] = None
        self._parameters.forget_given()

    def _was_added_to(self, ended: OpenStep, name: str) -> bool:
        tensors = self._parameters.tensors([name])
        return not all(map(ended.sums.watches, tensors)) or bool(ended.sums.passes(tensors))

    def _note_writes(self, ended: OpenStep) -> None:
        """Note of which modules the script has written into x or an output after the call: later steps copy these at once. Of the
        others it need not."""
        calls = [call for call in ended.calls if call.part not in self._cells]
        written = {call.part for call in calls if call.is_written_into}
        self._by_copy |= written
        self._by_reference |= {call.part for call in calls if call.watched and id(call) in ended.learned}
        self._by_reference -= self._by_copy
        if self._head is not None:  # which is compared with the numbers of each call
            self._by_reference.clear()
        for call in calls:
            call.watched = []

    def _emit(self, ended: OpenStep) -> CapturedStep:
        try:
            COPIES.wait()
            ended.share_arrays()
            self._note_writes(ended)
            if self._until_trained and (ended.learned or self._trained):
                ended.latest.clear()
            step = ended.freeze(self._take, self.rank, self.ranks)
            if self._may_repeat and (sources := ended.sources()) is not None:
                step = replace(step, made_again=partial(_made_again, weakref.ref(self), sources))
            step = replace(step, watch=weakref.ref(self.watch)) if self._may_repeat else step
        except Exception as error:
            report_failure(error)
            step = CapturedStep(ended.number, (), loss=ended.loss, rank=self.rank, ranks=self.ranks)
        if ended.learned:
            self._trained = {(call.part, call.rows) for call in ended.learned.values()}
        self.ended += 1
        self._on_step(step)
        return step

    def _handed(self, step: OpenStep) -> dict[str, AnyArray]:
        """Return what autograd has handed to the parameters in a step, by name."""
        return {name: to_array(value, self._take) for name, value in self._parameters.named_values(step.sums.sums).items()}

    def _wait(self, ended: OpenStep) -> None:
        """Hold back a step that ended implicitly, because the script can still report its loss."""
        self._emit_waiting()
        self._waiting = ended

    def _emit_waiting(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._emit(waiting)

    def _end_cleared(self) -> None:
        """End the current step because its gradients were cleared before the backward pass of the next one."""
        ended, self._open = self._open, self._new_step()
        ended.split_off(self._open)
        self._end_sums(ended)
        ended.notes[Note.CLEARED] = None
        self._wait(ended)

    # Hooks

    def _hook(self) -> list[Any]:
        handles = []
        self._sharded = {part for part in self._parts if is_sharded(part)}
        for part, module in self._parts.items():
            with_before = module.dropout or part in self._sharded or (module.is_cell and is_parametrized(part))
            handles += hook_calls(part, self._before_gru if with_before else None, self._after_gru)
        self._of_candidates = {part: hook_calls(part, self._before_cell, self._after_cell) for part in self._candidates}
        if self._head is not None:
            handles += hook_calls(self._head, None, self._after_head)
        self._hook_optimizers()
        return handles

    def _hook_optimizers(self) -> None:
        """Register the hooks of the optimizers, with the next call if the capture begins within such a hook."""
        if self._of_optimizers or is_within_optimizer_hook():
            return
        remove_from_optimizers([])
        for optimizer in self._optimizers:
            self._of_optimizers.append(optimizer.register_step_pre_hook(self._before_update))
            self._of_optimizers.append(optimizer.register_step_post_hook(self._after_update))

    @harmless
    def _before_gru(self, part: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note what is only available before a call: the generator's state, weights that FSDP frees, and the computed weights of a
        cell."""
        import torch

        module = self._parts.get(part)
        if module is None or part in self._cells:
            return
        if self._explicit and not self._open.wanted:  # otherwise the call may begin a wanted step
            return
        if module.dropout and part.training and draws_on_cpu(part):
            self._generators[part] = torch.get_rng_state()
        if part in self._sharded:
            self._gathered[part] = self._weights(part, module, [getattr(part, name) for name in module.weight_names])
        elif module.is_cell and is_parametrized(part):
            self._once[part] = computed_once()

    @harmless
    def _after_gru(self, part: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._goes_on(part, args, kwargs, output):
            return
        module, once = self._parts.get(part), self._once.pop(part, None)
        generator, gathered = self._generators.pop(part, None), self._gathered.pop(part, None)
        try:
            if module is not None and part not in self._called and not _computes_as_torchs(part, module, args, kwargs, output):
                self._candidates[part], self._of_candidates[part] = self._parts.pop(part).name, []
                self._torchs -= 1
                self._on_cell()
            if part in self._candidates or part in self._cells:
                self._after_cell(part, args, kwargs, output)
            elif (
                module is not None
                and (call := seen(module, args, kwargs, _with_last_c(part, module, args, kwargs, output))) is not None
            ):
                source = self._source(part, args, kwargs, partial(_seen_in, module), generator=generator)
                self._take_call(part, module, call, generator, gathered, source)
        finally:
            if once is not None:
                once.close()

    def _goes_on(self, part: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> bool:
        """Add a call to the loop that it is the next timestep of, and return True; False for any other call."""
        import torch

        step = self._open
        entry = step.loops.get(part)
        if entry is None or output is None or kwargs or len(args) != 2 or (step.complete and not self._explicit):
            return False
        loop = entry.call
        if loop is None or loop.is_followed or step.held_bytes > MOST_HELD or torch._C._current_graph_task_id() != -1:
            return False
        ends = loop.can_go_on_in(part, args, output)
        if ends is None:
            return False
        out, hn, cn = ends
        timestep = loop.go_on(args[0], out, hn, cn)
        entry.count += 1
        if id(loop) in step.held:
            step.held_bytes += loop.nbytes
        is_output = hn is out
        step.links.mark_later(loop, hn, cn, None if is_output else out)
        handles = loop.handles
        handles.append(out.register_hook(partial(WeakHook(self._gradient_later), loop, timestep, "dout")))  # type: ignore[no-untyped-call]
        if not is_output:
            handles.append(hn.register_hook(partial(WeakHook(self._gradient_later), loop, timestep, "dhn")))  # type: ignore[no-untyped-call]
        if cn is not None:
            handles.append(cn.register_hook(partial(WeakHook(self._gradient_later), loop, timestep, "dcn")))  # type: ignore[no-untyped-call]
        if not len(loop.later) % LOOKED:
            self._look_at(timestep.out)
        return True

    def _gradient_later(self, call: PendingCall, timestep: Timestep, name: str, gradient: Tensor | None) -> None:
        """Hold the gradient of an output of a later timestep of a loop."""
        import torch

        try:
            this_pass = torch._C._current_graph_task_id()
            if gradient is None or (call.this_pass != this_pass and not self._reaches(call, this_pass, again=False)):
                return
            timestep.add(name, this_pass, gradient.detach())
            call.gradients_of_later += 1
            if not call.gradients_of_later % LOOKED:
                self._look_at(gradient)
        except Exception as error:  # as in a hook that is `harmless`
            report_failure(error)

    @harmless
    def _before_cell(self, part: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Collect the operations of a call whose states can be among them."""
        kinds = self._kinds.get(part, {}).get(part.training, [])
        inside = part in self._candidates or (part in self._kinds and not kinds)
        inside = inside or any(isinstance(cell.form, InsideForm) for kind in kinds for cell in kind)
        if inside and part not in self._operations and not is_compiled():
            self._operations[part] = Operations()
            self._operations[part].mode.__enter__()

    @harmless
    def _after_cell(self, part: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Take the call of a hand-written cell, after its first call has shown how it computes."""
        if (operations := self._operations.pop(part, None)) is not None:
            operations.end()
        if output is None:
            return
        call = ModuleCall(part, args, kwargs, output, operations)
        earlier = list[ModuleCall]()
        if part in self._candidates and (self._open.wanted or not self._explicit):
            earlier = self._recognize(call)
        for earlier_call in (*earlier, call) if part in self._kinds else ():
            self._take_calls(earlier_call)

    def _take_calls(self, module_call: ModuleCall) -> None:
        """Take a call of a hand-written cell, or of a module that has several."""
        part, operations = module_call.part, module_call.operations
        kinds, kind, tensors_by_cell = self._kinds[part].setdefault(part.training, []), list[HandwrittenCell](), list[list[Seen]]()
        for kind in kinds:
            tensors_by_cell = [cell.calls(module_call) for cell in kind]
            if tensors_by_cell and all(tensors_by_cell):
                break
        if not kinds or (not (tensors_by_cell and all(tensors_by_cell)) and operations is not None and len(kinds) < MOST_KINDS):
            kinds.append(kind := self._other_kind(module_call))
            tensors_by_cell = [cell.calls(module_call) for cell in kind]
        inside = any(isinstance(cell.form, InsideForm) for cell in kind)
        source = self._source(part, module_call.args, module_call.kwargs, partial(_seen_by, kind), with_operations=inside)
        for key, cell, tensors_of_cell in zip(self._layers[part], kind, tensors_by_cell, strict=False):
            pending = [self._take_call(key, self._cells[key].module, call, None, None, source) for call in tensors_of_cell]
            hook = partial(WeakHook(self._read_beside), [call for call in pending if call is not None])
            for tensor in cell.tensors_beside(module_call, tensors_of_cell):
                if tensor.requires_grad:
                    tensor.register_hook(hook)  # type: ignore[no-untyped-call]

    def _source(
        self,
        part: Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        find: Callable[..., Sequence[Seen]],
        *,
        with_operations: bool = False,
        generator: Tensor | None = None,
    ) -> SourceCall | None:
        """Return what it takes to make a call again; None if nobody asks for it, or it cannot be made again."""
        import torch

        if not (self._may_repeat and self._open.wanted and torch.is_grad_enabled()) or part in self._sharded:
            return None
        state = self._open.states.get(part)
        if state is None or not state.is_still(part):
            state = self._open.states[part] = ModuleState(part)
        return SourceCall.of(part, state, args, kwargs, find, with_operations=with_operations, generator=generator)

    def _other_kind(self, call: ModuleCall) -> list[HandwrittenCell]:
        """Return the cells of a module in a call of another kind, as in training after evaluation mode, if they compute the same;
        otherwise warn."""
        part = call.part
        first, mode = self._cells[self._layers[part][0]], "training" if part.training else "evaluation"
        name = first.module.name if len(self._layers[part]) == 1 else first.module.name.removesuffix("_l0")
        try:
            cells = recognized(call, name, is_named=True, written=self._written, passed=self._passed.get(part, ()))
            same = [cell.module for cell in cells] == [self._cells[key].module for key in self._layers[part]]
            why = "" if same else "it computes something else"
        except Exception as error:
            why = str(error)
        if why:
            _warn(f"{name} ({printable(type(part).__name__, 60)}) is not captured in {mode} mode: {why}")
        return [] if why else cells

    def _warn_of_refused(self) -> None:
        """Warn, if nothing is captured, why the module is not that is most like a cell."""
        if self._refused and not self._cells and (self._is_cell_named or not self._parts):
            _warn(min(self._refused, key=lambda refusal: refusal[0])[1])
            self._refused = []

    def _recognize(self, call: ModuleCall) -> list[ModuleCall]:
        """Find out by a call whether a module is a cell, or has several. Return the calls of the step before it, from which it was
        not known yet."""
        part, tensors = call.part, tensors_in([call.args, call.kwargs])
        if not all(map(can_be_copied, part.parameters())):
            return []  # traced, or not gathered yet
        if not all(tensor.numel() for tensor in tensors):
            return []  # without rows, it shows nothing
        if not all(map(can_be_copied, tensors)):
            self._open.notes[Note.NOT_CAPTURED] = None
            return []
        name, step, (token, waiting) = self._candidates.pop(part), self._open.token, self._undecided.pop(part, (0, []))
        passed = next((pairs for before in reversed(waiting) if (pairs := passed_on(before, call))), None)
        if passed is None and waiting and (token != step or len(waiting) >= MOST_WAITING):
            passed = ()  # it is not called again with its results
        try:
            cells = recognized(call, name, is_named=self._is_cell_named, written=self._written, passed=passed)
        except WaitingError as unseen:
            self._candidates[part] = name
            self._undecided[part] = step, [*waiting, call]
            self.undecided = f"{name} ({printable(type(part).__name__, 60)}) is not captured: {unseen}"
            return []
        except Exception as error:
            why = str(error) if isinstance(error, CaptureError) else f"{type(error).__name__}: {printable(error, 200)}"
            refusal = self.left_out[name] = f"{name} ({printable(type(part).__name__, 60)}) is not captured: {why}"
            unhook([part], self._of_candidates.pop(part))
            if _kind_of(part) is not None:  # not in doubt: it is a recurrent module
                _warn(refusal)
            else:
                self._refused.append((not isinstance(error, NoCellError), refusal))
            if self._is_cell_named:
                self._warn_of_refused()
            return []
        keys = [part] if len(cells) == 1 else [cast("Module", LayerPart(part)) for _ in cells]
        if len(cells) > 1:
            self.left_out[name] = f"{name} has several layers or directions: {', '.join(cell.module.name for cell in cells)}"
        self._layers[part], self._kinds[part], self._passed[part] = keys, {part.training: [cells]}, passed or ()
        for key, cell in zip(keys, cells, strict=True):
            self._parts[key], self._cells[key] = cell.module, cell
            self._parameters.add(key, cell.module, {weight: TogetherParameter(cell, weight, part) for weight in cell.gradients})
        inside = {id(inner) for inner in part.modules()}
        for other in list(self._candidates):
            if id(other) in inside or any(inner is part for inner in other.modules()):
                left = self._candidates.pop(other)
                self.left_out[left] = (
                    f"{left} is not captured by itself: {name}, {'around' if id(other) in inside else 'in'} it, is"
                )
                if other not in self._operations:  # otherwise its call goes on, and ends with its hook
                    unhook([other], self._of_candidates.pop(other))
        self._on_cell()
        return waiting if token == step else []

    def _take_call(
        self,
        part: Module,
        module: GRUModule,
        call: Seen,
        generator: Tensor | None,
        gathered: UsedWeights | None,
        source: SourceCall | None,
    ) -> PendingCall | None:
        """Take a call, and return it if the step wants it."""
        import torch

        self._called.add(part)
        if self._optimizers and not self._of_optimizers:
            self._hook_optimizers()
        again = torch._C._current_graph_task_id() != -1  # True in a backward pass; torch.utils.checkpoint uses the same test
        begins = call.has_graph or (self._until_trained and self._stores_untrained)
        if begins and not again and self._open.complete and not self._explicit:
            self._wait(self._take_open())
        if not self._open.wanted:
            return None
        tensors = tensors_used(part, module) if part not in self._cells else self._cells[part].tensors(part)
        latest = None if gathered else self._open.weights.get(part)
        previous = self._open.previous(call) if not again else None
        is_next = (
            previous is not None
            and not previous.later
            and latest is not None
            and latest.are_still(tensors)
            and previous.goes_on_in(part, call, latest)
        )
        before = previous if is_next else None
        used = gathered or (latest if before is not None or (latest is not None and latest.are(tensors)) else None)
        if before is None and not all(map(can_be_copied, (call.x, call.out, call.hn, *(() if used else tensors)))):
            self._open.notes[Note.NOT_CAPTURED] = None
            return None
        entry = self._open.place(part, has_graph=call.has_graph, again=again)
        if entry is None or not (call.has_graph or self._stores_untrained):
            return None
        if before is not None:
            pending = before.next_in_loop(call, self._take)
        else:
            with torch.no_grad():
                pending = pending_call(part, module, call, used or self._weights(part, module, tensors), generator, self._take)
        if again:
            pending.notes[Note.RECOMPUTED] = None
        if source is not None:
            source.add_call(pending)
        if call.has_graph and part not in self._open.watched:
            self._open.watched.add(part)
            self._open.sums.watch(part.parameters())
        self._open.link(pending, call, previous)
        self._open.take(entry, pending)
        for name, tensor in (("dout", call.out), ("dhn", call.hn), ("dcn", call.cn)):
            if tensor is not None and tensor.requires_grad and (name == "dout" or tensor is not call.out):
                hook = partial(WeakHook(self._gradient), pending, name, again)
                pending.handles.append(tensor.register_hook(hook))  # type: ignore[no-untyped-call]
                pending.graph.append(weakref.ref(hook))
        if call.has_graph and not again:
            self._open.hold(pending)
        if before is None or not len(self._open.entries) % LOOKED:
            self._look(pending.out)
        self._open.loops.pop(part, None)
        if not again and gathered is None and part in self._by_reference and pending.can_be_longer:
            self._open.loops[part] = entry
            pending.begin_loop([state for state in (call.hn, call.cn) if state is not None], call.out)
        elif part not in self._by_reference and part not in self._by_copy:
            pending.watch_all(call)
        return pending

    def _weights(self, part: Module, module: GRUModule, tensors: list[Tensor]) -> UsedWeights:
        weights = self._open.weights.get(part)
        if weights is None or not weights.are(tensors):
            names = None if part in self._sharded else partial(self._parameters.name, module)
            weights = UsedWeights(module, tensors, names, self._take, self._cells.get(part))
            self._open.weights[part] = weights
        return weights

    def _reaches(self, call: PendingCall, this_pass: int, *, again: bool) -> bool:
        """Note that a backward pass has reached a call, and return True; False if its step has ended. `again` is True if the call
        was made in a backward pass."""
        import torch

        if self.closed or call.step != self._open.token:
            self._open.notes[Note.LATE] = None
            return False
        self._open.sums.with_graph |= torch.is_grad_enabled()
        if this_pass not in self._open.passes:
            parts = list(self._open.parts_learned)
            follows = not (
                again or self._updating is not None or call.by_pass
            )  # not a second pass through one graph, as of a gradient's norm
            if parts and follows and not self._open.updated and self._parameters.cleared(parts, self._open.sums.is_as_accumulated):
                self._end_cleared()
            elif follows:
                for part in parts:
                    if self._parameters.cleared([part], self._open.sums.is_as_accumulated):
                        self._open.discard(part, self._parameters.of([part]))
            for part in self._open.parts_learned:
                if not self._open.sums.passes(part.parameters()):  # nothing was added yet, as by torch.autograd.grad
                    self._take_before(part)
            self._open.passes.add(this_pass)
            if call.later:  # the last of a loop, as a rule
                self._look_at(call.later[-1].out)
            else:
                self._look(call.out)
        if not call.by_pass:
            if call.part not in self._open.parts_learned:
                self._take_before(call.part)
            self._open.learn(call)
            call.check_in_place()
        call.by_pass.setdefault(this_pass, {})
        call.this_pass = this_pass
        return True

    @harmless
    def _gradient(self, call: PendingCall, name: str, again: bool, gradient: Tensor | None) -> None:
        """Add the gradient of an output of a call. `again` is True if the call was made in a backward pass."""
        import torch

        if gradient is None:  # autograd has none, but called the hook: another output of the same call has one
            return
        this_pass = torch._C._current_graph_task_id()
        if not self._reaches(call, this_pass, again=again):
            return
        more = call.add(name, gradient, this_pass, self._take)
        if not call.in_loop or not len(self._open.learned) % LOOKED:
            self._look(more)

    @harmless
    def _read_beside(self, calls: Sequence[PendingCall], gradient: Tensor) -> None:
        """Note that a result of calls besides their states has got a gradient."""
        for call in calls:
            if call.step == self._open.token:
                call.notes[Note.READ_BESIDE] = None

    def _take_before(self, part: Module) -> None:
        """Copy p.grad of a module before a backward pass adds to it."""
        names, before = self._parameters.of([part]), self._open.before
        shared = [part for part in self._open.parts_learned if self._open.sums.passes(part.parameters())]
        names = [name for name in names if name not in self._parameters.of(shared)]
        for name in names:
            before.pop(name, None)
        self._open.before = before | self._parameters.gradients(names, self._take)

    @harmless
    def _after_head(self, part: Linear, args: tuple[Any, ...], kwargs: dict[str, Any], logits: Tensor) -> None:
        read = args[0] if args else kwargs["input"]
        if not (self._open.wanted and logits.requires_grad):
            return
        for entry in reversed(self._open.entries):
            if (call := entry.call) is not None and call.is_read_whole_by(read):
                call.take_head(self._head_name, part, logits, self._take)
                return
        for entry in reversed(self._open.entries):
            if (call := entry.call) is not None and call.is_read_at_its_end_by(read):
                call.take_head(self._head_name, part, logits, self._take, at_end=True)
                return
        self._open.notes[Note.HEAD_APART] = None

    @harmless
    def _before_update(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._updating, self._calls_before_update = optimizer, len(self._open.entries)
        if self._open.wanted:
            step = self._open
            earlier = step.gradients if step.updated else {}  # of the optimizers that ran before this one
            names = self._parameters.held_by(optimizer.param_groups)
            new = self._parameters.all_gradients(self._take)
            if step.handed is not None:
                handed = self._handed(step)
                step.handed |= {name: value for name, value in handed.items() if name in names or name not in step.handed}
            if (
                scale := getattr(optimizer, "grad_scale", None)
            ) is not None:  # a GradScaler leaves it to the update to divide by it
                factor = to_array(scale, fresh) if hasattr(scale, "detach") else float(scale)
                COPIES.then(partial(_divide, [new[name] for name in names & new.keys()], factor))
            step.gradients = earlier | {name: value for name, value in new.items() if name in names or name not in earlier}

    @harmless
    def _after_update(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._updating is None:
            return  # the script has ended the step in a hook before this one
        ended, self._updating = self._open, None
        if len(ended.entries) > self._calls_before_update:
            ended.notes[Note.CLOSURE] = None
            ended.handed = None  # those of all its runs together
            ended.gradients = self._parameters.all_gradients(self._take)
        if ended.wanted and not self._checked:
            self._checked = True
            optimized = self._parameters.held_by(
                group for optimizer_left in self._optimizers for group in optimizer_left.param_groups
            )
            if not optimized.issuperset(self._parameters.named(ended.gradients)):
                ended.notes[Note.NOT_IN_OPTIMIZER] = None
            unseen = [part for part in self._parts if part not in self._called]
            if unseen and not self._parameters.cleared(unseen, ended.sums.is_as_accumulated):
                ended.notes[Note.UNSEEN] = None
                unseen_names = ", ".join(printable(self._parts[part].name, 60) for part in unseen[:4])
                for part in unseen:
                    if part not in self._cells:
                        self._handles.append(ForwardHook(part, self._after_gru))
                cure = "if the script calls forward itself, it is captured from the next step on"
                _warn(f"{unseen_names} received a gradient, but was not called; {cure}; otherwise {CALL_IT}")
        owned = self._parameters.held_by(optimizer.param_groups)
        if not ended.settings or bool(owned) > ended.settings_hold:
            groups = [group for group in optimizer.param_groups if self._parameters.held_by([group])] or optimizer.param_groups
            ended.settings, ended.settings_hold = _numbers(groups[0]), bool(owned)
        for part in self._parts:
            if owned.intersection(self._parameters.of([part])):
                ended.use(part)
        ended.updated = True
        ended.ran.append(optimizer)
        waiting = (optimizer_left for optimizer_left in self._optimizers if not any(optimizer_left is one for one in ended.ran))
        ended.complete = not any(self._parameters.held_by(optimizer_left.param_groups) for optimizer_left in waiting)


def _made_again(capture: weakref.ref[Capture], sources: list[Source], exact: bool) -> Mapping[str, AnyArray] | None:
    """Return the gradients of the parameters by autograd through the modules themselves, by name."""
    if (living := capture()) is None:
        raise RuntimeError("the script has given up the module")
    return living.gradients_again(sources, exact)


def optimizers_in(source: Optimizers) -> list[Optimizer]:
    """Return the optimizers in what a script gives: one, a wrapper that has one as `.optimizer` (Accelerate, Lightning), or a list,
    tuple or dict of them.

    Warns of a wrapper whose optimizer is not found. Raises `CaptureError` for anything else.
    """
    if source is None:
        return []
    optimizers = list[Any]()
    for entry in source.values() if isinstance(source, dict) else source if isinstance(source, list | tuple) else [source]:
        inner, wrappers = entry, set[int]()
        while (deeper := getattr(inner, "optimizer", None)) is not None and hasattr(deeper, "step") and id(deeper) not in wrappers:
            wrappers.add(id(inner := deeper))
        if hasattr(inner, "_optimizer_step_pre_hooks"):  # a wrapper can have inherited the methods, but not this
            optimizers += [] if any(inner is one for one in optimizers) else [inner]
        elif hasattr(entry, "step") and hasattr(entry, "param_groups"):
            problem = f"the updates by {printable(type(entry).__name__, 60)} cannot be seen, since it has no torch.optim.Optimizer"
            warnings.warn(f"{problem} as .optimizer; training continues, and a step ends at rec.step(loss)", stacklevel=2)
        else:
            kind = printable(type(entry).__name__, 60)
            raise CaptureError(f"optimizer must be a torch.optim.Optimizer, or a list of them, not {kind}", option="optimizer")
    return optimizers


def name_of_head(module: Module, head: Module | None) -> str:
    """Return the name of a head in a module; `head` if it is none of its parts."""
    return next((name for name, part in module.named_modules() if part is head), "head") or "head"


def _check_head(head: object) -> None:
    import torch

    if head is not None and not isinstance(head, torch.nn.Linear):
        raise CaptureError(
            f"head must be the torch.nn.Linear that reads the GRU's output, not {type(head).__name__}", option="head"
        )


def _number(loss: float | Tensor) -> float:
    detach = getattr(loss, "detach", None)
    try:
        return float(loss if detach is None else detach())
    except OverflowError:
        raise CaptureError("loss must be one number, not one too large for a float; give the mean", option="loss") from None
    except (TypeError, ValueError, RuntimeError):
        raise CaptureError(f"loss must be one number, not {shown(loss)}; give the mean", option="loss") from None


def _numbers(group: Mapping[str, Any]) -> dict[str, float]:
    """Return the numeric settings of an optimizer: lr, betas_0 …"""
    settings: dict[str, float] = {}
    for name, value in group.items():
        values = {f"{name}_{i}": v for i, v in enumerate(value)} if isinstance(value, tuple) else {name: value}
        settings |= {key: float(v) for key, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return settings


def _divide(arrays: Iterable[AnyArray], factor: AnyArray | float) -> None:
    for array in arrays:
        array /= factor


MOST_RANKS = 10**6  # as many as the names of the files have digits for


def _ranks(rank: int | None) -> tuple[int, int]:
    """Return the rank of this process, and the number of processes that train together."""
    from torch import distributed

    if rank is not None and (type(rank) is not int or rank < 0):
        raise CaptureError(f"rank must be a whole number, 0 or more, not {shown(rank)}", option="rank")
    if rank is not None and rank >= MOST_RANKS:
        raise CaptureError(f"rank must be less than {MOST_RANKS}", option="rank")
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() if rank is None else rank, distributed.get_world_size()
    return rank or 0, 1
