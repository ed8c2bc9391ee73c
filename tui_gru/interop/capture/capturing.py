"""Capture of the GRU calls of a script, step by step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tui_gru.interop.capture.buffers import Take, fresh
from tui_gru.interop.capture.calls import CapturedStep, GRUModule, Note
from tui_gru.interop.capture.layouts import Seen, has_numbers, seen
from tui_gru.interop.capture.modules import find_grus, hook_calls
from tui_gru.interop.capture.open_step import OpenStep
from tui_gru.interop.capture.pending import PendingCall, begun, draws_on_cpu
from tui_gru.interop.capture.weights import Parameters, UsedWeights, computed_once, is_parametrized, is_sharded, tensors_used
from tui_gru.interop.errors import CaptureError, printable

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module
    from torch.optim import Optimizer


class Capture:
    """Captures every nn.GRU and nn.GRUCell in a module, from `__init__` to `close`; also a context manager.

    A step ends with `step()`, called once after each optimizer.step(). If a script never calls it, a step ends at the first
    training call after the optimizer has run. Each step is passed to `on_step` when it ends; `close` ends the last one.

    The capture does not change the results of the script in any bit. The only exception: a graph of torch.compile breaks at the
    hooks of a cell, and may round differently.
    """

    def __init__(
        self,
        module: Module,
        optimizer: Optimizer | None = None,
        *,
        head: Linear | None = None,
        on_step: Callable[[CapturedStep], None] = lambda step: None,
        without_gradient: int = 0,
        take: Take = fresh,
        rank: int | None = None,
        wanted: Callable[[int], bool] = lambda number: True,
    ) -> None:
        """Begin to capture.

        `without_gradient` is the number of calls without a gradient, such as those under no_grad, that a step stores; the latest
        ones are stored. `take` allocates arrays. `rank` is the rank of this process among those that train together (default:
        torch.distributed's). `wanted` returns True for the number of a step (from 0) that is to be captured; other steps have no
        calls. Raises `CaptureError` if there is no GRU in `module`, or another argument does not fit.
        """
        self._parts: dict[Module, GRUModule] = find_grus(module)
        _check(optimizer, head)
        self._optimizer, self._head, self._on_step, self._take = optimizer, head, on_step, take
        self._head_name = next((name for name, part in module.named_modules() if part is head), "head") or "head"
        self._without_gradient = without_gradient
        self._parameters = Parameters(module, self._parts)
        self.rank, self.ranks = _ranks(rank)
        self.ended = 0  # the number of ended steps
        self.closed = False
        self._wanted, self._begun = wanted, 0
        self._open = self._new_step()
        self._waiting: OpenStep | None = None  # ended by a call, but the script can still report its loss
        self._explicit = False  # True if the script calls `step`
        self._updating = self._checked = False
        self._calls_before_update = 0
        self._seen: set[Module] = set()
        self._generators: dict[Module, Tensor] = {}
        self._gathered: dict[Module, UsedWeights] = {}
        self._once: dict[Module, ExitStack] = {}
        self._handles = self._hook()

    @property
    def modules(self) -> tuple[GRUModule, ...]:
        """The captured modules by name."""
        return tuple(self._parts.values())

    def step(self, loss: float | Tensor | None = None) -> CapturedStep | None:
        """End the step. Call it after optimizer.step(). Returns the step that `on_step` receives, or None after `close`."""
        if self.closed:
            return None
        value = math.nan if loss is None else _number(loss)
        self._explicit = True
        ended = self._waiting or self._take_open()
        self._waiting = None
        ended.loss = None if loss is None else value
        return self._emit(ended)

    def cut(self) -> CapturedStep:
        """End the current step now and return it, without switching to explicit `step` calls."""
        if self._waiting is not None:
            self._emit(self._waiting)
            self._waiting = None
        return self._emit(self._take_open())

    def close(self) -> None:
        """End the last step and remove all hooks."""
        if self.closed:
            return
        if self._waiting is not None:
            self._emit(self._waiting)
        if self._open.learned or self._open.updated or self._open.latest:
            self._emit(self._take_open())
        self.closed = True
        for handle in self._handles:
            handle.remove()
        for call in (entry.call for entry in self._open.entries):
            if call is not None:
                call.release()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # The end of a step

    def _new_step(self) -> OpenStep:
        number = self._begun
        self._begun += 1
        return OpenStep(number, self._wanted(number), deque(maxlen=self._without_gradient))

    def _take_open(self) -> OpenStep:
        """End the current step and begin a new one."""
        ended, self._open = self._open, self._new_step()
        if not ended.wanted:
            return ended
        if not ended.updated:
            ended.gradients = self._parameters.all_gradients(self._take)
            if self._optimizer is not None and ended.learned:
                ended.notes[Note.NOT_UPDATED] = None
        elif self._parameters.scaled(ended.gradients):
            ended.notes[Note.SCALED_AFTER] = None
        if ended.before:
            ended.notes[Note.NOT_CLEARED] = None
        self._parameters.forget_given()
        return ended

    def _emit(self, ended: OpenStep) -> CapturedStep:
        step = ended.freeze(self.rank, self.ranks)
        self.ended += 1
        self._on_step(step)
        return step

    def _wait(self, ended: OpenStep) -> None:
        """Hold back a step that ended implicitly, because the script can still report its loss."""
        if self._waiting is not None:
            self._emit(self._waiting)
        self._waiting = ended

    def _end_cleared(self) -> None:
        """End the current step because its gradients were cleared before the backward pass of the next one."""
        ended, self._open = self._open, self._new_step()
        ended.split_off(self._open)
        ended.notes[Note.CLEARED] = None
        self._wait(ended)

    # Hooks

    def _hook(self) -> list[Any]:
        handles = []
        self._sharded = {part for part in self._parts if is_sharded(part)}
        for part, module in self._parts.items():
            needed = module.dropout or part in self._sharded or (module.kind == "GRUCell" and is_parametrized(part))
            handles += hook_calls(part, self._before_gru if needed else None, self._after_gru)
        if self._head is not None:
            handles += hook_calls(self._head, None, self._after_head)
        if self._optimizer is not None:
            handles.append(self._optimizer.register_step_pre_hook(self._before_update))
            handles.append(self._optimizer.register_step_post_hook(self._after_update))
        return handles

    def _before_gru(self, part: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note what is only available before a call: the generator's state, weights that FSDP frees, and the computed weights of a
        cell."""
        import torch

        module = self._parts.get(part)
        if module is None or (self._explicit and not self._open.wanted):  # otherwise the call may begin a wanted step
            return
        if module.dropout and part.training and draws_on_cpu(part):
            self._generators[part] = torch.get_rng_state()
        if part in self._sharded:
            self._gathered[part] = self._weights(part, module, [getattr(part, name) for name in module.weight_names])
        elif module.kind == "GRUCell" and is_parametrized(part):
            self._once[part] = computed_once()

    def _after_gru(self, part: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        module, once = self._parts.get(part), self._once.pop(part, None)
        generator, gathered = self._generators.pop(part, None), self._gathered.pop(part, None)
        try:
            if module is not None and (call := seen(module, args, kwargs, output)) is not None:
                self._take_call(part, module, call, generator, gathered)
        finally:
            if once is not None:
                once.close()

    def _take_call(
        self, part: Module, module: GRUModule, call: Seen, generator: Tensor | None, gathered: UsedWeights | None
    ) -> None:
        import torch

        self._seen.add(part)
        again = torch._C._current_graph_task_id() != -1  # True in a backward pass; torch.utils.checkpoint uses the same test
        if call.has_graph and not again and self._open.updated and not self._explicit:
            self._wait(self._take_open())
        if not self._open.wanted:
            return
        tensors = tensors_used(part, module)
        if not all(map(has_numbers, (call.x, call.out, call.hn, *(() if gathered else tensors)))):
            self._open.notes[Note.NOT_CAPTURED] = None
            return
        entry = self._open.place(part, again=again and call.has_graph)
        if entry is None or not (call.has_graph or self._without_gradient):
            return
        with torch.no_grad():
            pending = begun(part, module, call, gathered or self._weights(part, module, tensors), generator, self._take)
        if again:
            pending.notes[Note.RECOMPUTED] = None
        self._open.take(entry, pending)
        for name, tensor in (("dout", call.out), ("dhn", call.hn)):
            if tensor.requires_grad and (name == "dout" or tensor is not call.out):
                hook = partial(self._gradient, pending, name, again)
                pending.handles.append(tensor.register_hook(hook))  # type: ignore[no-untyped-call]

    def _weights(self, part: Module, module: GRUModule, tensors: list[Tensor]) -> UsedWeights:
        known = self._open.weights.get(part)
        if known is None or not known.are(tensors):
            names = None if part in self._sharded else partial(self._parameters.name, module)
            known = UsedWeights(module, tensors, names, self._take)
            self._open.weights[part] = known
        return known

    def _gradient(self, call: PendingCall, name: str, again: bool, gradient: Tensor) -> None:
        """Add the gradient of an output of a call. `again` is True if the call was made in a backward pass."""
        import torch

        if self.closed or call.step != self._open.token:
            self._open.notes[Note.LATE] = None
            return
        this_pass = torch._C._current_graph_task_id()
        if this_pass not in self._open.passes:
            parts = self._open.parts_learned()
            if parts and not (again or self._updating or self._open.updated) and self._parameters.cleared(parts):
                self._end_cleared()
            self._open.passes.add(this_pass)
        if not call.passes:
            if call.part not in self._open.parts_learned():
                names = [name for name in self._parameters.of([call.part]) if name not in self._open.before]
                self._open.before |= self._parameters.gradients(names, self._take)
            self._open.learned[id(call)] = call
            call.check_in_place()
        call.passes.add(this_pass)
        call.add(name, gradient, self._take)

    def _after_head(self, part: Linear, args: tuple[Any, ...], kwargs: dict[str, Any], logits: Tensor) -> None:
        read = args[0] if args else kwargs["input"]
        if not (self._open.wanted and logits.requires_grad):
            return
        for entry in reversed(self._open.entries):
            if (call := entry.call) is not None and call.is_read_whole_by(read):
                call.take_head(self._head_name, part, logits, self._take)
                return
        self._open.notes[Note.HEAD_APART] = None

    def _before_update(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._updating, self._calls_before_update = True, len(self._open.entries)
        if self._open.wanted:
            self._open.gradients = self._parameters.all_gradients(self._take)

    def _after_update(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ended, self._updating = self._open, False
        if len(ended.entries) > self._calls_before_update:
            ended.notes[Note.CLOSURE] = None
            ended.gradients = self._parameters.all_gradients(self._take)
        if ended.wanted and not self._checked:
            self._checked = True
            if self._parameters.missing_in(optimizer.param_groups, ended.gradients):
                ended.notes[Note.NOT_IN_OPTIMIZER] = None
            unseen = [part for part in self._parts if part not in self._seen]
            if unseen and not self._parameters.cleared(unseen):
                ended.notes[Note.UNSEEN] = None
        ended.updated, ended.settings = True, _numbers(optimizer.param_groups[0])


def _check(optimizer: object, head: object) -> None:
    import torch

    if optimizer is not None and not hasattr(optimizer, "register_step_pre_hook"):
        raise CaptureError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}", option="optimizer")
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
        raise CaptureError(f"loss must be one number, not {printable(loss, 60)}; give the mean", option="loss") from None


def _numbers(group: Mapping[str, Any]) -> dict[str, float]:
    """Return the numeric settings of an optimizer: lr, betas_0 …"""
    found: dict[str, float] = {}
    for name, value in group.items():
        values = {f"{name}_{i}": v for i, v in enumerate(value)} if isinstance(value, tuple) else {name: value}
        found |= {key: float(v) for key, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return found


MOST_RANKS = 10**6  # as many as the names of the files have digits for


def _ranks(rank: int | None) -> tuple[int, int]:
    """Return the rank of this process, and the number of processes that train together."""
    from torch import distributed

    if rank is not None and (type(rank) is not int or rank < 0):
        raise CaptureError(f"rank must be a whole number, 0 or more, not {printable(repr(rank), 40)}", option="rank")
    if rank is not None and rank >= MOST_RANKS:
        raise CaptureError(f"rank must be less than {MOST_RANKS}", option="rank")
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() if rank is None else rank, distributed.get_world_size()
    return rank or 0, 1
