"""Calls of a module made once more under autograd, on the captured inputs and with the captured gradients of its outputs.

What they give is the gradient of the module as its author wrote it: the judge where a derived gradient is not p.grad.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.capture.call_tensors import Operations, tensors_in
from tui_gru.capture.calls import COPIES, Seen, fresh
from tui_gru.capture.pending import PendingCall, Timestep, autocast_type, own_generators
from tui_gru.files.arrays import AnyArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module


class ModuleState:
    """The parameters and buffers of a module at a call, copied, and the mode of each module in it."""

    def __init__(self, part: Module) -> None:
        tensors = _tensors_of(part)
        # A captured step may live longer than the module in the script.
        self._sources = [(weakref.ref(tensor), tensor._version) for tensor in tensors.values() if not tensor.is_inference()]
        self._values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._modes = [inner.training for inner in part.modules()]
        self._copies: dict[bool, Module] = {}
        self.ids = {name: id(parameter) for name, parameter in part.named_parameters()}

    def is_still(self, part: Module) -> bool:
        """Return True if no operation has changed a tensor of the module, and its mode is the same."""
        if part.training is not self._modes[0]:
            return False
        return all((tensors := tensor()) is not None and tensors._version == version for tensor, version in self._sources)

    def copied(self, part: Module, *, exact: bool) -> Module:
        """Return a copy of the module in this state, without hooks, the same each time; in float64 if `exact`."""
        import torch

        if exact not in self._copies:
            self._copies[exact] = self._copy(part).double() if exact else self._copy(part)
        other = self._copies[exact]
        with torch.no_grad():
            for name, tensor in _tensors_of(other).items():
                tensor.copy_(self._values[name])
        return other

    def _copy(self, part: Module) -> Module:
        # torch does not copy a tensor with a graph, such as a state that the module stores.
        inside = (tensor for inner in part.modules() for tensor in tensors_in(vars(inner)) if not tensor.is_leaf)
        other = copy.deepcopy(part, {id(tensor): tensor.detach().clone() for tensor in inside})
        for inner, mode in zip(other.modules(), self._modes, strict=True):
            inner._forward_hooks.clear()
            inner._forward_pre_hooks.clear()
            inner.training = mode
        return other

    def forget_copies(self) -> None:
        self._copies = {}


def _tensors_of(part: Module) -> dict[str, Tensor]:
    return {**dict(part.named_parameters()), **dict(part.named_buffers())}


@dataclass(eq=False)
class SourceCall:
    """A call of a module of the script: what it takes to make it again, and the gradients that its outputs got.

    `find` returns the captured calls in a call of a copy of the module, from its arguments, output and operations. `generator` is
    the state of the CPU's generator before the call, if the module drew from it.
    """

    part: weakref.ref[Module]
    state: ModuleState
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    find: Callable[[Module, tuple[Any, ...], Mapping[str, Any], Any, Operations | None], Sequence[Seen]]
    with_operations: bool
    autocast: str
    generator: Tensor | None
    versions: list[tuple[Tensor, int]] = field(default_factory=list)
    outputs: list[tuple[Any, AnyArray]] = field(default_factory=list)  # the layout and output of each captured call
    _totals: dict[int, dict[tuple[int, str], Tensor]] = field(default_factory=dict)  # by backward pass

    @classmethod
    def of(
        cls, part: Module, state: ModuleState, args: tuple[Any, ...], kwargs: Mapping[str, Any], find: Any, **more: Any
    ) -> SourceCall | None:
        """Return a call with its arguments, not copied and without their graph; None if they are of other types than tensors,
        numbers, and nested lists and the like of them."""
        try:
            copied = _without_graph(args), _without_graph(dict(kwargs))
        except TypeError:
            return None
        device = _device(copied)
        if device.type not in ("cpu", "cuda", "xpu"):  # whose generators torch can put back
            return None
        call = cls(weakref.ref(part), state, *copied, find, autocast=autocast_type(device.type), **more)
        tensors = tensors_in(copied, whole_numbers=True)
        call.versions = [(tensor, tensor._version) for tensor in tensors if not tensor.is_inference()]
        return call

    def add_call(self, call: PendingCall) -> None:
        """Add a captured call in it."""
        call.source, call.place = self, len(self.outputs)
        self.outputs.append((call.layout, call.out))

    def add(self, place: int, name: str, gradient: Tensor, this_pass: int) -> None:
        """Add a gradient of an output of a captured call."""
        of_pass, more = self._totals.setdefault(this_pass, {}), gradient.detach().clone()
        of_pass[place, name] = of_pass[place, name] + more if (place, name) in of_pass else more

    def gradients(self, passes: AbstractSet[int] | None, *, exact: bool) -> dict[int, Tensor] | None:
        """Return the gradients of the parameters for the gradients of the outputs in some backward passes, by the ids of the
        parameters; None if the module does not give the same outputs again."""
        import torch

        if any(tensor._version != version for tensor, version in self.versions):
            return None
        if (part := self.part()) is None:
            raise RuntimeError("the script has given up the module")
        other = self.state.copied(part, exact=exact)
        args, kwargs = (_in_float64(self.args), _in_float64(self.kwargs)) if exact else (self.args, self.kwargs)
        operations = Operations() if self.with_operations else None
        device = _device([args, kwargs])
        lower = torch.autocast(device.type, getattr(torch, self.autocast)) if self.autocast and not exact else nullcontext()
        others = nullcontext() if device.type == "cpu" else torch.random.fork_rng([device], device_type=device.type)
        with own_generators(), others, torch.inference_mode(False), torch.enable_grad(), lower:
            if self.generator is not None:
                torch.set_rng_state(self.generator)
            if operations is not None:
                operations.mode.__enter__()
            try:
                output = other(*args, **kwargs)
            finally:
                if operations is not None:
                    operations.end()
            calls = self.find(other, args, kwargs, output, operations)
        if len(calls) != len(self.outputs) or not all(map(_repeats, calls, self.outputs)):
            return None
        return self._through(other, calls, passes)

    def _through(self, other: Module, calls: Sequence[Seen], passes: AbstractSet[int] | None) -> dict[int, Tensor]:
        """Return the gradients of the parameters of a copy, of whose outputs each gets the captured gradient in place of what flows
        into it: that has all that flows into it, whichever output is computed from which."""
        import torch

        ends: list[Tensor] = []
        for place, call in enumerate(calls):
            for name, tensor in (("dout", call.out), ("dhn", call.hn), ("dcn", call.cn)):
                if tensor is not None and tensor.requires_grad and (name == "dout" or tensor is not call.out):
                    total = self._total((place, name), passes, tensor)
                    tensor.register_hook(lambda gradient, total=total: total)  # type: ignore[no-untyped-call]
                    ends.append(tensor)
        parameters = {name: parameter for name, parameter in other.named_parameters() if parameter.requires_grad}
        if not ends or not parameters:
            return {}
        root = torch.stack([(end * 0).sum() for end in ends]).sum()
        gradients = torch.autograd.grad(root, list(parameters.values()), allow_unused=True)
        return {self.state.ids[name]: one for name, one in zip(parameters, gradients, strict=True) if one is not None}

    def _total(self, which: tuple[int, str], passes: AbstractSet[int] | None, like: Tensor) -> Tensor:
        """Return the sum of a gradient over backward passes; zeros if there was none."""
        total = like.new_zeros(like.shape)
        for key, of_pass in self._totals.items():
            if which in of_pass and (passes is None or key in passes):
                total = total + of_pass[which].to(like.dtype)
        return total


def _repeats(call: Seen, before: tuple[Any, AnyArray]) -> bool:
    """Return True if an output has the same numbers again, up to rounding: to more than half of the digits of its type."""
    layout, out = before
    again = layout.array(call.out, fresh)
    COPIES.wait()
    eps = float(np.finfo(out.dtype).eps) if str(call.out.dtype)[6:] in ("float32", "float64") else 2.0**-7
    difference = np.abs(again - out).max(initial=0, where=np.isfinite(out))
    return bool(difference <= math.sqrt(eps) * np.abs(out).max(initial=1, where=np.isfinite(out)))


def _device(arguments: Any) -> torch.device:
    import torch

    return next((tensor.device for tensor in tensors_in(arguments)), torch.device("cpu"))


def later_calls(source: SourceCall, layout: Any, later: Sequence[Timestep], ends: Sequence[Tensor]) -> list[SourceCall] | None:
    """Return the calls of later timesteps of a loop, of which the first began with the states `ends`; None if the script has
    changed a tensor of them."""
    calls = list[SourceCall]()
    if (part := source.part()) is None:
        raise RuntimeError("the script has given up the module")
    for timestep in later:
        args = timestep.x, tuple(ends) if len(ends) > 1 else ends[0]
        call = SourceCall.of(part, source.state, args, {}, source.find, with_operations=False, generator=None)
        if call is None or timestep.is_changed:
            return None
        call.autocast = source.autocast
        call.outputs.append((layout, layout.array(timestep.out, np.empty)))
        for name, this_pass, gradient in timestep.gradients():
            call.add(0, name, gradient, this_pass)
        calls.append(call)
        ends = [timestep.hn] if timestep.cn is None else [timestep.hn, timestep.cn]
    return calls


def _without_graph(value: Any) -> Any:
    """Return nested arguments with tensors without a graph. Raises `TypeError` for an object of another type."""
    import torch
    from torch.nn.utils.rnn import PackedSequence

    if value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, PackedSequence):
        return PackedSequence(value.data.detach(), value.batch_sizes, value.sorted_indices, value.unsorted_indices)
    return _for_entries(value, _without_graph)


def _in_float64(value: Any) -> Any:
    """Return nested arguments with numbers of float64."""
    import torch
    from torch.nn.utils.rnn import PackedSequence

    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, PackedSequence):
        return PackedSequence(value.data.double(), value.batch_sizes, value.sorted_indices, value.unsorted_indices)
    return _for_entries(value, _in_float64) if isinstance(value, tuple | list | Mapping) else value


def _for_entries(value: Any, of: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(of, value))
    if type(value) in (tuple, list):
        return type(value)(map(of, value))
    if type(value) is dict:
        return {key: of(entry) for key, entry in value.items()}
    raise TypeError(type(value).__name__)


def summed(calls: Iterable[tuple[SourceCall, AbstractSet[int] | None]], *, exact: bool = False) -> dict[int, Tensor] | None:
    """Return the sum of the gradients of several calls, with the backward passes that count for each, by the ids of the parameters;
    None if a module does not give the same outputs again."""
    total, pairs = dict[int, Any](), list(calls)
    try:
        for call, passes in pairs:
            if (gradients := call.gradients(passes, exact=exact)) is None:
                return None
            for key, gradient in gradients.items():
                total[key] = total[key] + gradient if key in total else gradient
    finally:
        for call, _ in pairs:
            call.state.forget_copies()
    return total
