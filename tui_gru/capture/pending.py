"""A call of a recurrent module that waits for the gradients of its outputs: its tensors, its weights, and what is known so far."""

from __future__ import annotations

import math
import random
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.capture.call_tensors import HandwrittenCell, TogetherParameter
from tui_gru.capture.calls import (
    COPIES,
    GRUCall,
    GRUModule,
    HeadCall,
    Note,
    Packed,
    Padded,
    Seen,
    States,
    Take,
    WeightSet,
    fresh,
    reading_waits,
    to_array,
)
from tui_gru.errors import printable
from tui_gru.files.arrays import AnyArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module


# ------------------------------------------------------------------------------
# Hooks run inside of the script, which they must not end.


_warned = set[str]()  # the failures of hooks that were reported


def harmless(action: Callable[..., None]) -> Callable[..., None]:
    """Return a hook that never raises: an error inside of it must not end a training. It is reported once, as a warning."""

    @wraps(action)
    def hook(*args: Any) -> None:
        try:
            if _is_graph_captured():
                raise RuntimeError("a CUDA graph is captured, and replayed without Python; run the script without it to see inside")
            action(*args)
        except Exception as error:
            report_failure(error)

    return hook


class WeakHook:
    """A hook that does not make the owner of its method live on. PyTorch holds hooks of tensors and optimizers where the garbage
    collector does not see them."""

    def __init__(self, method: Callable[..., None]) -> None:
        self._method = weakref.WeakMethod(method)

    def __call__(self, *args: Any) -> None:
        if (method := self._method()) is not None:
            method(*args)


def is_within_optimizer_hook() -> bool:
    """Return True in a hook before or after optimizer.step(). PyTorch goes through the hooks there, and raises into the script if
    one is added or removed."""
    module = sys.modules.get("torch.optim.optimizer")
    frame: Any = sys._getframe()
    while module is not None and frame is not None:
        caller = frame.f_back
        if caller is not None and caller.f_code.co_filename == module.__file__ and "profile_name" in caller.f_locals:
            step = caller.f_locals.get("func")
            return getattr(step, "__code__", None) is not frame.f_code
        frame = caller
    return False


_silenced = list[Any]()  # handles of hooks that do nothing and are still to be removed


def remove_from_optimizers(handles: Iterable[Any]) -> None:
    """Remove hooks of optimizers. Within such a hook they only do nothing from now on, and the next call removes them."""
    if not is_within_optimizer_hook():
        for handle in (*handles, *_silenced):
            handle.remove()
        _silenced.clear()
        return
    for handle in handles:
        hooks = handle.hooks_dict_ref()
        if hooks is not None and handle.id in hooks:
            hooks[handle.id] = _do_nothing
            _silenced.append(handle)


def _do_nothing(*args: Any) -> None:
    """What is left of a hook."""


def _is_graph_captured() -> bool:
    """Return True while a CUDA graph is captured: a copy to the CPU would end the capture, and the script with it."""
    import torch

    return bool(torch.cuda.is_initialized()) and torch.cuda.is_current_stream_capturing()  # type: ignore[no-untyped-call]


def report_failure(error: Exception) -> None:
    """Warn that something could not be captured, once for each error."""
    text = f"tui_gru could not capture a call ({type(error).__name__}: {printable(error, 200)}); training continues without it"
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, stacklevel=2)


# ------------------------------------------------------------------------------
# The weights that a call used: parameters, results of a parametrization, or tensors from functional_call.


_SAMPLED = 61  # entries of a weight that are compared to detect changes through p.data


def tensors_used(part: Module, module: GRUModule) -> list[Tensor]:
    """Return the weight tensors of the call that has just ended, in the order of `module.weight_names`.

    A GRU stores them; a cell has them as attributes, for which `computed_once` must have been in effect during the call.
    """
    if not module.is_cell:
        flat_weights: list[Tensor] = part._flat_weights  # type: ignore[assignment]
        return flat_weights
    return [getattr(part, name) for name in module.weight_names]


def is_parametrized(part: Module) -> bool:
    """Return True if torch.nn.utils.parametrize computes one of the weights."""
    from torch.nn.utils import parametrize

    return parametrize.is_parametrized(part)


@contextmanager
def own_generators() -> Iterator[None]:
    """Restore the states of all generators of random numbers after this context."""
    import torch

    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def is_compiled() -> bool:
    """Return True in a hook, which torch.compile leaves alone, of a call in code that it compiles."""
    frame: Any = sys._getframe()
    while frame is not None:
        # The locals of other frames are not read: that makes a circle of a frame, which would hold the tensors of the script.
        if frame.f_code.co_filename.endswith("eval_frame.py"):
            # What leaves alone is there as well: it has nothing to clean up, or before PyTorch 2.4 no callback that compiles.
            names = frame.f_locals
            if "cleanups" in names and names.get("callback", is_compiled) is not None:
                return True
        frame = frame.f_back
    return False


def is_sharded(part: Module) -> bool:
    """Return True if FSDP stores only a shard of the parameters in this process."""
    return any(_is_share(parameter) for parameter in part.parameters())


def _is_share(tensor: Tensor | TogetherParameter) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor; calling full_tensor would wait for all ranks


def computed_once() -> ExitStack:
    """Caches the results of parametrizations until closed, so that the weights of a cell are known after the call.

    A cell reads each weight once per call, so the number of computations does not change.
    """
    from torch.nn.utils import parametrize

    stack = ExitStack()
    stack.enter_context(parametrize.cached())
    return stack


def _sample(tensor: Tensor) -> Tensor:
    """Return the bits of some entries of a weight, in which NaN is equal to itself."""
    import torch

    flat = tensor.detach().reshape(-1)[:: max(1, tensor.numel() // _SAMPLED)]
    return flat.view({2: torch.int16, 4: torch.int32, 8: torch.int64}.get(flat.element_size(), flat.dtype))


class UsedWeights:
    """The weights of one or more calls of one module, copied once, and the gradients of those that are not parameters."""

    def __init__(
        self,
        module: GRUModule,
        tensors: Sequence[Tensor],
        names: Callable[[str, Tensor], str] | None,
        take: Take,
        cell: HandwrittenCell | None = None,
    ) -> None:
        """Copy the weights of a call.

        `names` returns the name of a leaf tensor with a gradient, given the name of the weight; the p.grad of such a tensor is
        stored elsewhere. None means that FSDP has gathered the weights for this call and removes their gradients, which are then
        stored here. The weights of a hand-written cell are put together from its parameters, `tensors`.
        """
        self.module = module
        self._take = take
        self._seen = [(weakref.ref(tensor), tensor._version, _sample(tensor).clone()) for tensor in tensors]
        # The samples as views take half the time. FSDP frees the memory of its weights, whose views are then of nothing.
        self._views = [None if names is None else (tensor.data_ptr(), _sample(tensor)) for tensor in tensors]
        self._parameters: dict[str, str] = {}
        self._gradients: dict[int, dict[str, AnyArray]] = {}  # by backward pass
        self._handles = []
        self._differences = list[AnyArray]()  # whether numbers that were compared on a device differ
        self.frozen: WeightSet | None = None
        if cell is not None:
            self._values = cell.weights(tensors, take)
            self._parameters = {weight: f"{module.name}.{weight}" for weight in cell.gradients}
            return
        self._values = {name: to_array(tensor, take) for name, tensor in zip(module.weight_names, tensors, strict=True)}
        for name, tensor in zip(module.weight_names, tensors, strict=True):
            if tensor.requires_grad and tensor.is_leaf and names is not None:
                self._parameters[name] = names(name, tensor)
            elif tensor.requires_grad:
                self._handles.append(tensor.register_hook(harmless(self._adder(name))))  # type: ignore[no-untyped-call]

    def are_still(self, tensors: Sequence[Tensor]) -> bool:
        """Return True if these are the same tensors, and no operation has changed them.

        It is quicker than `are`, which sees changes of p.data as well; within a loop nobody makes these.
        """
        pairs = zip(self._seen, tensors, strict=True)
        return all(reference() is tensor and version == tensor._version for (reference, version, _), tensor in pairs)

    def are(self, tensors: Sequence[Tensor]) -> bool:
        """Return True if these are the same tensors with the same numbers. The numbers of a device are compared there, and
        `have_changed` knows the result."""
        return self.are_still(tensors) and all(map(self._has_numbers_of, range(len(tensors)), tensors))

    def _has_numbers_of(self, i: int, tensor: Tensor) -> bool:
        import torch

        (*_, sample), view = self._seen[i], self._views[i]
        now = view[1] if view is not None and view[0] == tensor.data_ptr() else _sample(tensor)
        if not reading_waits(tensor):
            return torch.equal(now, sample)
        self._differences.append(to_array((now != sample).any(), fresh))
        return True

    @property
    def have_changed(self) -> bool:
        """True if the numbers of a device have changed between two calls, which nothing but a change through p.data does."""
        return any(map(bool, self._differences))

    def _adder(self, name: str) -> Callable[[Tensor], None]:
        import torch

        def add(gradient: Tensor) -> None:
            if self.frozen is None:
                gradients = self._gradients.setdefault(torch._C._current_graph_task_id(), {})
                gradients[name] = _plus(gradients.get(name), to_array(gradient, self._take))

        return add

    def so_far(self, passes: AbstractSet[int] | None = None) -> WeightSet:
        """Return the weights, and the gradients collected so far in some backward passes, by default all."""
        gradients = dict[str, AnyArray]()
        for key, of_pass in self._gradients.items():
            for name, more in of_pass.items() if passes is None or key in passes else ():
                gradients[name] = gradients[name] + more if name in gradients else more
        return self.frozen or WeightSet(self.module, self._values, self._parameters, gradients)

    def freeze(self, passes: AbstractSet[int] | None = None) -> WeightSet:
        """Return the collected weights and gradients, which no longer change."""
        if self.frozen is None:
            for handle in self._handles:
                handle.remove()
            self.frozen = self.so_far(passes)
        return self.frozen


class Parameters:
    """The parameters of the captured modules by name, and their p.grad."""

    def __init__(self, root: Module, parts: Mapping[Module, GRUModule]) -> None:
        parts_by_id = {id(parameter): part for part in parts for parameter in part.parameters()}
        self._named: dict[str, Tensor | TogetherParameter]
        self._named = {name: parameter for name, parameter in root.named_parameters() if id(parameter) in parts_by_id}
        self._names = {id(parameter): name for name, parameter in self._named.items()}
        self._of: dict[Module, list[str]] = {part: [self._names[id(p)] for p in part.parameters()] for part in parts}
        self._root = weakref.ref(root)
        self._shared: dict[str, tuple[str, ...]] | None = None  # once it is known
        self._given: dict[str, Tensor] = {}  # other leaf tensors that replaced a parameter in this step

    def add(self, part: Module, module: GRUModule, weights: Mapping[str, TogetherParameter]) -> None:
        """Add the weights of a hand-written cell."""
        named = {f"{module.name}.{weight}": parameter for weight, parameter in weights.items()}
        self._named |= named
        self._shared = None
        self._of[part] = list(named)

    def name(self, module: GRUModule, weight: str, tensor: Tensor) -> str:
        """Return the name of a leaf tensor. A leaf that is not a parameter gets a name for this step, `encoder.weight_hh_l0
        (given)`."""
        if (name_of_parameter := self._names.get(id(tensor))) is not None:
            return name_of_parameter
        name = f"{module.name}.{weight} (given)"
        self._given[name] = tensor
        return name

    def of(self, parts: Sequence[Module]) -> list[str]:
        """Return the names of the parameters of these modules that require gradients."""
        names = dict.fromkeys(name for part in parts for name in self._of[part] if self._named[name].requires_grad)
        return [*names, *self._given]

    def forget_given(self) -> None:
        self._given = {}

    def gradients(self, names: Sequence[str], take: Take) -> dict[str, AnyArray]:
        """Return copies of every p.grad that exists and is not 0, by name; those of a device can be 0."""
        copies = {}
        for name in names:
            gradient = self._gradient(name)
            if gradient is not None and (reading_waits(gradient) or bool(gradient.any())):
                copies[name] = to_array(gradient, take)
        return copies

    def all_gradients(self, take: Take) -> dict[str, AnyArray]:
        """Return copies of every p.grad that exists, by name."""
        names = [*self._named, *self._given]
        return {name: to_array(gradient, take) for name in names if (gradient := self._gradient(name)) is not None}

    def tensors(self, names: Iterable[str]) -> list[Tensor]:
        """Return the parameters themselves of these names, also those of which a weight is put together."""
        named = [self._named[name] for name in names if name in self._named]
        return [
            tensor
            for parameter in named
            for tensor in (parameter.parameters.values() if isinstance(parameter, TogetherParameter) else [parameter])
        ]

    def named_values(self, values: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Return values in the shapes of parameters, by the ids of these, as values by name; without those that are not known."""
        values_by_name: dict[str, Tensor] = {}
        for name, parameter in self._named.items():
            value = parameter.put_together(values) if isinstance(parameter, TogetherParameter) else values.get(id(parameter))
            if value is not None:
                values_by_name[name] = value
        return values_by_name

    def shared(self) -> dict[str, tuple[str, ...]]:
        """Return the names by which other modules have the same parameters, by name."""
        if self._shared is not None:
            return self._shared
        names_by_id, root = dict[int, list[str]](), self._root()
        for name, tensor in root.named_parameters(remove_duplicate=False) if root is not None else ():
            names_by_id.setdefault(id(tensor), []).append(name)
        shared_names = dict[str, tuple[str, ...]]()
        for name in self._named:
            names = [other for tensor in self.tensors([name]) for other in names_by_id.get(id(tensor), ())]
            if len(names) > len(self.tensors([name])):
                prefix = f"{name.rpartition('.')[0]}."
                shared_names[name] = tuple(other for other in names if prefix == "." or not other.startswith(prefix))
        self._shared = shared_names
        return shared_names

    def names_of(self, holds: Callable[[Tensor], bool]) -> tuple[str, ...]:
        """Return the names of the parameters, or of the weights with a parameter, for which something holds."""
        return tuple(name for name in self._named if any(map(holds, self.tensors([name]))))

    def cleared(self, parts: Sequence[Module], is_as_accumulated: Callable[[Tensor], bool]) -> bool:
        """Return True if the p.grad of all parameters of these modules is None or 0. That of a device is read only if something
        has changed it since a backward pass left it."""
        names = self.of(parts)
        if any(_is_share(self._named[name]) for name in names if name in self._named):
            return False
        if any(reading_waits(tensor) and is_as_accumulated(tensor) for tensor in self.tensors(names)):
            return False
        return bool(names) and not any(bool(gradient.any()) for name in names if (gradient := self._gradient(name)) is not None)

    def scaled(self, gradients: Mapping[str, AnyArray]) -> bool:
        """Return True if p.grad is now a multiple of the earlier copy, with one factor other than 1 and 0."""
        pairs = list[tuple[AnyArray, AnyArray]]()
        for name, before in gradients.items():
            gradient = self._gradient(name)
            if gradient is not None and before.size:
                step = max(1, before.size // _SAMPLED)
                pairs.append((to_array(gradient.detach().reshape(-1)[::step], np.empty), before.reshape(-1)[::step]))
        COPIES.wait()
        for now, then in pairs:
            at = int(np.abs(then).argmax())
            if not np.isfinite(then).all() or not then[at] or not now[at] or np.array_equal(now, then):
                continue
            if np.allclose(now, then * (now[at] / then[at]), rtol=1e-5, atol=0):
                return True
        return False

    def held_by(self, groups: Iterable[Mapping[str, Any]]) -> set[str]:
        """Return the names of the parameters that are in the groups of an optimizer."""
        in_groups = {id(parameter) for group in groups for parameter in group["params"]}
        together = {name: put_together for name, put_together in self._named.items() if hasattr(put_together, "parameters")}
        parts = {
            name
            for name, put_together in together.items()
            if all(id(parameter) in in_groups for parameter in put_together.parameters.values())
        }
        return parts | {name for key, name in self._names.items() if key in in_groups}

    def named(self, names: Iterable[str]) -> set[str]:
        """Return those names that are names of parameters, not of other leaf tensors."""
        return {name for name in names if name in self._named}

    def _gradient(self, name: str) -> Tensor | None:
        tensor = self._named.get(name, self._given.get(name))
        gradient = None if tensor is None else tensor.grad
        return None if gradient is None or gradient.is_sparse or _is_share(gradient) else gradient


# ------------------------------------------------------------------------------
# A call whose forward pass has run and that waits for the gradients of its outputs.
#
# The masks of dropout between layers are drawn again from the state of the generator before the call.


@dataclass(eq=False)
class PendingHead:
    """The call of the head on the output of a call."""

    name: str
    logits: AnyArray
    weight: AnyArray
    bias: AnyArray | None
    dlogits: AnyArray | None = None


class Timestep:
    """A later call of a loop, of one timestep: its tensors, not copied, with the versions of x and of its output, and the gradients
    of its output and of its last states in the backward pass `this_pass`; those of other passes are in `more`."""

    __slots__ = ("cn", "dcn", "dhn", "dout", "hn", "more", "out", "this_pass", "versions", "x")

    def __init__(self, x: Tensor, out: Tensor, hn: Tensor, cn: Tensor | None) -> None:
        self.x, self.out, self.hn, self.cn = x, out, hn, cn
        self.versions = x._version, out._version
        self.this_pass = -1
        self.dout: Tensor | None = None
        self.dhn: Tensor | None = None
        self.dcn: Tensor | None = None
        self.more: list[tuple[str, int, Tensor]] | None = None

    @property
    def is_changed(self) -> bool:
        """True if the script has changed x or the output in place since the call."""
        return self.versions != (self.x._version, self.out._version)

    def add(self, name: str, this_pass: int, gradient: Tensor) -> None:
        """Add a gradient, `dout`, `dhn` or `dcn`."""
        if self.this_pass in (-1, this_pass) and getattr(self, name) is None:
            self.this_pass = this_pass
            setattr(self, name, gradient)
        else:
            self.more = [*(self.more or ()), (name, this_pass, gradient)]

    def gradients(self) -> list[tuple[str, int, Tensor]]:
        """Return all gradients with their names and backward passes."""
        entries = ((name, self.this_pass, getattr(self, name)) for name in ("dout", "dhn", "dcn"))
        return [entry for entry in entries if entry[2] is not None] + (self.more or [])

    def gradient(self, name: str, passes: AbstractSet[int] | None) -> Tensor | None:
        """Return the sum of a gradient over some backward passes, by default all; None if none of them had it."""
        if self.more is None:
            return getattr(self, name) if passes is None or self.this_pass in passes else None
        total: Tensor | None = None
        for which, this_pass, gradient in self.gradients():
            if which == name and (passes is None or this_pass in passes):
                total = gradient if total is None else total + gradient
        return total


@dataclass(eq=False)
class PendingCall:
    """The data of a `GRUCall` that are known so far.

    Calls of one timestep that go on from its very states are in `later`. Of these nothing is copied until the step ends, and then
    in one operation for all.
    """

    part_alive: weakref.ref[Module]  # hooks of its graph hold the call, and would hold the module with it
    module: GRUModule
    layout: Padded | Packed
    x: AnyArray
    h0: AnyArray
    out: AnyArray
    hn: AnyArray
    weights: UsedWeights
    shape: tuple[int, ...]  # the shape of the output in the script
    facts: dict[str, Any]
    masks: tuple[AnyArray, ...] = ()
    c0: AnyArray | None = None
    cn: AnyArray | None = None
    head: PendingHead | None = None
    by_pass: dict[int, dict[str, AnyArray]] = field(default_factory=dict)  # dout, dhn and dcn of each backward pass
    source: Any = None  # the `again.SourceCall` in which it is, if that may be made again
    place: int = 0  # among the calls that were found in it
    notes: dict[Note, None] = field(default_factory=dict)
    handles: list[Any] = field(default_factory=list)
    outputs: list[tuple[Tensor, int]] = field(default_factory=list)  # tensors of the script, with version counters
    last: list[tuple[Tensor, int]] = field(default_factory=list)  # those of the last states, hn and cn
    before: AnyArray | None = None  # the states h and c of the call before it in a loop, which are those that it begins with
    step: int = 0  # identifies the step that the call belongs to
    graph: list[weakref.ref[Any]] = field(default_factory=list)  # all dead once the script has freed the graph of the call
    in_loop: bool = False  # True if it begins with the states with which the call before it ended
    out_has_hn: bool = False  # True if the gradient of hn has that of the output at the last timestep
    follows: weakref.ref[PendingCall] | None = None  # the call that it goes on from
    is_followed: bool = False  # True if another call goes on from this one
    is_linked: bool = False  # True if the graph of autograd shows what it follows
    is_straight: bool = True  # False if the script computes the states between the two calls
    straight_states: tuple[int, ...] = ()  # of h and c those that it does not compute, if not all
    chain: object = None  # the same for all calls that follow each other
    by_script: dict[int, dict[str, AnyArray]] = field(default_factory=dict)  # as `by_pass`, the part that came through the script
    later: list[Timestep] = field(default_factory=list)
    tail: tuple[weakref.ref[Tensor], ...] = ()  # the last states as the script has them, if `later` can go on from them
    versions: list[tuple[Tensor, int]] = field(default_factory=list)  # the weights, if `later` can go on
    dtype: Any = None
    is_cell: bool = False
    gradients_of_later: int = 0
    this_pass: int = -1  # the backward pass that is known to reach it
    first_ends: list[Tensor] = field(default_factory=list)  # the last states before `later`
    watched: list[tuple[Tensor, int]] = field(default_factory=list)  # x and the outputs, with version counters, until it is frozen

    @property
    def part(self) -> Module:
        """The module that was called. Raises `ReferenceError` once the script has given it up."""
        if (part := self.part_alive()) is None:
            raise ReferenceError("the module of a call is gone")
        return part

    @cached_property
    def reference(self) -> weakref.ref[PendingCall]:
        return weakref.ref(self)

    @property
    def can_learn(self) -> bool:
        """False once the script has freed the graph, so that no gradient can come."""
        return any(hook() is not None for hook in self.graph)  # of out, hn and cn the script may have given up some

    @cached_property
    def ends(self) -> AnyArray:
        """The states h and c of each layer and direction with which a call of an LSTM ended."""
        assert self.cn is not None
        return _in_turn(self.hn, self.cn)

    @property
    def begins(self) -> AnyArray:
        """Those with which it began: the array `ends` of the call before it, if it is the next timestep of a loop."""
        if self.before is not None:
            return self.before
        assert self.c0 is not None
        return _in_turn(self.h0, self.c0)

    @property
    def rows(self) -> int:
        return int(self.x.shape[1])

    @cached_property
    def nbytes(self) -> int:
        return self.x.nbytes + self.h0.nbytes + self.out.nbytes + self.hn.nbytes

    def add(self, name: str, gradient: Tensor, this_pass: int, take: Take) -> AnyArray:
        """Store a gradient, `dout`, `dhn` or `dcn`, of a backward pass, and return it as an array."""
        more = self.layout.array(gradient, take) if name == "dout" else self.layout.state(gradient, take)
        of_pass = self.by_pass.setdefault(this_pass, {})
        of_pass[name] = _plus(of_pass.get(name), more)
        if self.source is not None:
            self.source.add(self.place, name, gradient, this_pass)
        return more

    def adder(self, inputs: Sequence[tuple[int, str]]) -> Callable[[Any, Any], None]:
        """Return what a node calls after its backward pass, to add what it hands to states of this call, at some of its inputs. It
        does not hold the call: the node is in the graph."""
        reference = weakref.ref(self)

        def add(gradients: Sequence[Tensor | None], *more: Any) -> None:
            import torch

            if (call := reference()) is None:
                return
            of_pass = call.by_script.setdefault(torch._C._current_graph_task_id(), {})
            for i, name in inputs:
                if (gradient := gradients[i]) is not None:
                    share = (call.layout.array if name == "dout" else call.layout.state)(gradient, np.empty)
                    of_pass[name] = _plus(of_pass.get(name), share)

        return harmless(add)

    def gradient(self, name: str, passes: AbstractSet[int] | None, *, by_script: bool = False) -> AnyArray | None:
        """Return the sum of a gradient over some backward passes, by default all; None if none of them had it. `by_script`: of the
        part that came through what the script computes for the next call."""
        by_pass = self.by_script if by_script else self.by_pass
        arrays = [of_pass[name] for key, of_pass in by_pass.items() if name in of_pass and (passes is None or key in passes)]
        return sum(arrays[1:], arrays[0]) if arrays else None

    def _through_script(self, passes: AbstractSet[int] | None) -> AnyArray | None:
        """Return the gradient (S, B, H) of the last states that came through what the script computes for the next call."""
        if not self.by_script:
            return None
        dout, dhn, dcn = (self.gradient(name, passes, by_script=True) for name in ("dout", "dhn", "dcn"))
        states = _or_zeros(dhn, self.hn)
        if dout is not None and self.hn.shape[0] and dout.shape[1:] == states.shape[1:]:
            states = states.copy()
            states[-1] += dout[-1]
        return states if self.cn is None else _in_turn(states, _or_zeros(dcn, self.cn))

    def check_in_place(self) -> None:
        """Note whether the script has changed the outputs in place since the call, and release them."""
        for output, version in self.outputs:
            if output._version != version:
                self.notes[Note.CHANGED_IN_PLACE] = None
        self.outputs, self.last = [], []

    def ends_with(self, h0: Tensor, c0: Tensor | None) -> bool:
        """Return True if these are the states with which the call ended, detached or not, and nothing has changed them since."""
        begins = (h0,) if c0 is None else (h0, c0)
        return len(begins) == len(self.last) and all(
            last.data_ptr() == state.data_ptr()
            and version == state._version
            and last.shape == state.shape
            and last.dtype == state.dtype
            for (last, version), state in zip(self.last, begins, strict=True)
        )

    def ended_with_numbers(self, h0: Tensor | None, c0: Tensor | None) -> bool:
        """Return True if these states have the numbers with which the call ended, in the same order."""
        import torch

        begins = [state for state in (h0, c0) if state is not None]
        return len(begins) == len(self.last) and all(
            last.numel() == state.numel()
            and version == last._version
            and (_is_view_of(state, last) or torch.equal(last.reshape(-1), state.detach().reshape(-1)))
            for (last, version), state in zip(self.last, begins, strict=True)
        )

    def goes_on_in(self, part: Module, call: Seen, weights: UsedWeights | None) -> bool:
        """Return True if a call that begins with the last states of this one is the next timestep of a loop, so that what is
        known of this call holds for it as well."""
        module, x = self.module, call.x
        return (
            part is self.part
            and weights is self.weights
            and self.x.shape[0] == 1
            and not (module.bidirectional or (module.dropout and part.training))
            and type(call.layout) is not Packed
            and type(call.x) is type(call.out)  # of torch.func and the like, has_numbers tells
            and call.out.shape == self.shape
            and x.numel() == self.x.size
            and part.training == self.facts["training"]
            and _type_name(call.out.dtype) == self.facts["dtype"]
            and type_of_products(part, call.out) == self.facts["autocast"]
        )

    def next_in_loop(self, call: Seen, take: Take) -> PendingCall:
        """Return the call of the next timestep of a loop. It begins with the states that this call ended with, in the same
        arrays, and its output is its last state."""
        assert call.h0 is not None
        hn = self.layout.state(call.hn, take)
        facts = self.facts
        new_facts = {"h0_given": True, "h0_attached": call.is_attached, "without_graph": _of_layers(call)}
        if any(facts[name] != value for name, value in new_facts.items()):
            facts = facts | new_facts
        # A copy of this call takes a fifth of the time of a new one, of which a step of a loop makes hundreds.
        following = PendingCall.__new__(PendingCall)
        fields = vars(following)
        fields.update(vars(self), x=self.layout.array(call.x, take), h0=self.hn, out=hn[-1:], hn=hn, facts=facts)
        fields.update(by_pass={}, head=None, graph=[], in_loop=True, source=None)
        fields.update(
            follows=None, is_followed=False, is_linked=False, is_straight=True, straight_states=(), chain=None, by_script={}
        )
        fields.update(later=[], tail=(), gradients_of_later=0, this_pass=-1, first_ends=[], watched=[])
        fields.update(notes={}, handles=[], outputs=[], last=[])
        fields.pop("ends", None)
        fields.pop("reference", None)
        following.watch(call)
        if call.cn is not None:
            following.cn, following.c0, following.before = self.layout.state(call.cn, take), self.cn, self.ends
        following._note_products()
        return following

    def _note_products(self) -> None:
        if self.facts["autocast"]:
            self.notes[Note.TF32 if self.facts["autocast"] == "tf32" else Note.AUTOCAST] = None

    def watch(self, call: Seen) -> None:
        """Remember the outputs and their versions, to see later whether the script has changed them in place."""
        # A detached tensor shares its version counter; a tensor of inference mode has none.
        if not (call.out.is_inference() or call.hn.is_inference()):
            self.last = [(state.detach(), state._version) for state in (call.hn, call.cn) if state is not None]
            self.outputs = [self.last[0], *([] if call.out is call.hn else [(call.out.detach(), call.out._version)])]

    def watch_all(self, call: Seen) -> None:
        """Remember what was copied, to see at the end of the step whether references would have done."""
        tensors = (call.x, call.out, call.hn)
        if any(tensor.is_inference() for tensor in tensors):
            return
        self.watched = [(tensor.detach(), tensor._version) for tensor in tensors]

    @property
    def is_written_into(self) -> bool:
        """True if the script has changed x or an output in place since the call, or since a later one of its loop."""
        changed = any(tensor._version != version for tensor, version in self.watched)
        return changed or any(timestep.is_changed for timestep in self.later)

    @property
    def can_be_longer(self) -> bool:
        """True if calls of one timestep that go on from its states can be in `later`."""
        module = self.module
        if len(self.x) > 1 or isinstance(self.layout, Packed) or module.bidirectional or self.masks or not self.graph:
            return False
        # Weights that are computed anew for each call have gradients of their own.
        names = module.weight_names if module.is_cell else ()
        return (
            Note.NO_MASKS not in self.notes
            and all(name in self.part._parameters for name in names)
            and all(tensor.is_leaf for tensor in _weights_in(self.part, is_cell=module.is_cell) if tensor is not None)
        )

    def begin_loop(self, states: Sequence[Tensor], out: Tensor) -> None:
        """Note what the next call is compared with to be in `later`."""
        self.tail, self.dtype, self.is_cell = tuple(map(weakref.ref, states)), out.dtype, self.module.is_cell
        weights = _weights_in(self.part, is_cell=self.is_cell)
        self.versions = [(tensor, tensor._version) for tensor in weights if tensor is not None]

    def can_go_on_in(self, part: Module, args: tuple[Any, ...], output: Any) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Return the output and the last states of a call of the module that begins with the very states with which this one ended,
        and is like it; None for any other call."""
        import torch

        x, begins = args
        states: tuple[Any, ...] = begins if type(begins) is tuple else (begins,)
        if len(states) != len(self.tail) or len(states) != len(self.last):
            return None
        for end, state, (_, version) in zip(self.tail, states, self.last, strict=True):
            is_same: bool = end() is state
            if not is_same or state._version != version:
                return None
        if self.is_cell:
            hn, cn = output if type(output) is tuple else (output, None)
            out = hn
        else:
            out, ends = output
            hn, cn = ends if type(ends) is tuple else (ends, None)
        weights = _weights_in(part, is_cell=self.is_cell)
        for tensor, (earlier, version) in zip(weights, self.versions, strict=False):
            if tensor is not earlier or tensor._version != version:
                return None
        is_alike = (
            type(x) is torch.Tensor
            and type(out) is torch.Tensor
            and out.dtype is self.dtype
            and x.dtype is self.dtype
            and out.shape == self.shape
            and x.numel() == self.x.size
            and part.training == self.facts["training"]
            and out.grad_fn is not None
            and hn.grad_fn is not None
            and not torch._C._functorch.is_functorch_wrapped_tensor(out)
            and type_of_products(part, out) == self.facts["autocast"]
        )
        return (out, hn, cn) if is_alike else None

    def go_on(self, x: Tensor, out: Tensor, hn: Tensor, cn: Tensor | None) -> Timestep:
        """Add a timestep, and return it."""
        detached = out.detach()
        end = detached if hn is out else hn.detach()
        memory = None if cn is None else cn.detach()
        # A write through NumPy is not counted; torch does not own such memory, and cannot resize it.
        reference = x.detach() if x.untyped_storage().resizable() else x.detach().clone()
        timestep = Timestep(reference, detached, end, memory)
        if not self.later:
            self.first_ends = [state for state, _ in self.last]
        self.later.append(timestep)
        if memory is None:
            self.tail, self.last = (weakref.ref(hn),), [(end, end._version)]
        else:
            assert cn is not None
            self.tail, self.last = (weakref.ref(hn), weakref.ref(cn)), [(end, end._version), (memory, memory._version)]
        return timestep

    def _with_later(self, call: GRUCall, passes: AbstractSet[int] | None, take: Take) -> GRUCall:
        """Return a call with all its timesteps as one, with the arrays put together at once."""
        later, (S, B, H) = self.later, call.hn.shape
        T, cn = 1 + len(later), [timestep.cn for timestep in later if timestep.cn is not None]

        def in_time(first: AnyArray, tensors: Sequence[Tensor]) -> AnyArray:
            array = take((T, *first.shape), first.dtype)
            array[0] = first
            write_stacked(tensors, array[1:])
            return array

        x, out = in_time(call.x[0], [one.x for one in later]), in_time(call.out[0], [one.out for one in later])
        if S == 1:
            states = out[:, None]
        else:
            states = in_time(self.hn, [timestep.hn for timestep in later])
            if cn and self.cn is not None:
                memories = in_time(self.cn, cn)
                states = np.stack([states, memories], axis=2).reshape(T, S, B, H)
        for timestep in later:
            if timestep.is_changed:
                self.notes[Note.CHANGED_LATER] = None
        joined = replace(call, x=x, out=out, hn=states[-1], states=states, cut=(), detached=(), notes=tuple(self.notes))

        def gradients(name: str, first: AnyArray | None, like: AnyArray) -> AnyArray | None:
            tensors = [timestep.gradient(name, passes) for timestep in later]
            some = next((tensor for tensor in tensors if tensor is not None), None)
            if first is None and some is None:
                return None
            if some is None:
                return np.concatenate([_or_zeros(first, like)[None], np.zeros((T - 1, *like.shape), like.dtype)])
            zeros = some.new_zeros(some.shape)
            return in_time(_or_zeros(first, like), [zeros if tensor is None else tensor for tensor in tensors])

        dout = gradients("dout", None if call.dout is None else call.dout[0], call.out[0])
        dhn = self.gradient("dhn", passes)
        dhn, dcn = gradients("dhn", dhn, self.hn), None
        if self.cn is not None:
            dcn = gradients("dcn", self.gradient("dcn", passes), self.cn)
        if dout is None and dhn is None and dcn is None:
            return replace(joined, dout=None, dhn=None)
        flows = np.zeros((T, *self.hn.shape), call.hn.dtype) if dhn is None else dhn
        if self.cn is not None:
            memory = np.zeros_like(flows) if dcn is None else dcn
            flows = np.stack([flows, memory], axis=2).reshape(T, S, B, H)
        has_end = any(later[-1].gradient(name, passes) is not None for name in ("dhn", "dcn"))
        return replace(joined, dout=np.zeros_like(out) if dout is None else dout, flows=flows, dhn=flows[-1] if has_end else None)

    def is_read_whole_by(self, tensor: Tensor) -> bool:
        """Return True if a tensor, such as the head's input, is the complete output in any shape."""
        if tensor.numel() != math.prod(self.shape) or tensor.shape[-1] != self.shape[-1]:
            return False
        if self._is_output_still(tensor):
            return True
        numbers = self.layout.array(tensor.reshape(self.shape), np.empty)
        COPIES.wait()
        return np.array_equal(numbers, self.out, equal_nan=True)

    def is_read_at_its_end_by(self, tensor: Tensor) -> bool:
        """Return True if a tensor, such as the head's input, is the output of the last timestep, in any shape."""
        if type(self.layout) is Packed or len(self.out) < 2 or tensor.numel() != self.out[-1].size:
            return False
        if tensor.shape[-1] != self.shape[-1]:
            return False
        last = to_array(tensor.reshape(self.out[-1].shape), np.empty)
        COPIES.wait()
        return np.array_equal(last, self.out[-1], equal_nan=True)

    def _is_output_still(self, tensor: Tensor) -> bool:
        """Return True if a tensor is the output, in any shape, and nothing has changed it since the call."""
        output, version = self.outputs[-1] if self.outputs else (None, 0)
        return output is not None and output._version == version and _is_view_of(tensor, output)

    def take_head(self, name: str, part: Linear, logits: Tensor, take: Take, *, at_end: bool = False) -> None:
        """Store the call of the head on the output; with `at_end`, on that of the last timestep. The logits of the others, which
        the script has not computed, and their gradients are 0."""

        def array(tensor: Tensor) -> AnyArray:
            if not at_end:
                return self.layout.array(tensor.reshape(*self.shape[:-1], -1), take)
            last = to_array(tensor.reshape(*self.out[-1].shape[:-1], -1), np.empty)
            logits_in_time = np.zeros((len(self.out), *last.shape), last.dtype)
            COPIES.then(lambda: np.copyto(logits_in_time[-1], last))
            return logits_in_time

        def add_gradient(gradient: Tensor) -> None:
            head.dlogits = _plus(head.dlogits, array(gradient))

        bias = part.bias
        head = PendingHead(name, array(logits), to_array(part.weight, take), None if bias is None else to_array(bias, take))
        self.head = head
        self.handles.append(logits.register_hook(harmless(add_gradient)))  # type: ignore[no-untyped-call]

    def release(self) -> None:
        """Remove the hooks from the outputs."""
        for handle in self.handles:
            handle.remove()

    def frozen(self, number: int, passes: AbstractSet[int] | None = None, take: Take = fresh) -> GRUCall:
        """Return the collected call, which can receive no more gradients, with those of some backward passes, by default all."""
        self.release()
        self.check_in_place()
        if self.by_pass and not self.facts["training"] and self.module.dropout:  # otherwise the mode changes nothing in it
            self.notes[Note.EVALUATING] = None
        if self.weights.have_changed:
            self.notes[Note.CHANGED_WEIGHTS] = None
        return self.so_far(number, self.weights.freeze(passes), passes, take)

    def so_far(self, number: int, weights: WeightSet, passes: AbstractSet[int] | None = None, take: Take = fresh) -> GRUCall:
        """Return what has been collected of the call."""
        head = None if self.head is None else HeadCall(**vars(self.head))
        h0, hn = self.h0, self.hn
        dout, dhn, dcn = (self.gradient(name, passes) for name in ("dout", "dhn", "dcn"))
        if self.out_has_hn and dhn is not None and dout is not None:
            dhn = dhn - dout[-1]
        if self.c0 is not None and self.cn is not None:
            h0, hn = self.begins, self.ends
            if dhn is not None or dcn is not None:
                dhn = _in_turn(_or_zeros(dhn, self.hn), _or_zeros(dcn, self.cn))
        call = GRUCall.of(
            module=self.module,
            number=number,
            x=self.x,
            h0=h0,
            out=self.out,
            hn=hn,
            weights=weights,
            dout=dout,
            dhn=dhn,
            lengths=self.layout.lengths,
            masks=self.masks,
            head=head,
            backward_passes=len(self.by_pass if passes is None else passes & self.by_pass.keys()),
            notes=tuple(self.notes),
            script=self._through_script(passes),
            is_linked=self.is_linked,
            is_straight=self.is_straight,
            straight_states=_of_all_layers(self.straight_states, h0, self.module),
            **self.facts,
        )
        return self._with_later(call, passes, take) if self.later else call


def _of_layers(call: Seen) -> States:
    """Return which states of a call have no graph, the first and the last ones, as numbers among those of all layers."""
    begins, ends = call.without_graph
    layers = call.hn.shape[0] if call.hn.dim() == 3 else 1
    return tuple(2 * k + i for k in range(layers) for i in begins), tuple(2 * k + i for k in range(layers) for i in ends)


def _of_all_layers(states: tuple[int, ...], h0: AnyArray, module: GRUModule) -> tuple[int, ...]:
    """Return the numbers of states among those of all layers, for some among h and c."""
    return tuple(i for i in range(len(h0)) if i % module.states in states)


def _in_turn(h: AnyArray, c: AnyArray) -> AnyArray:
    """Return (2 · layers · directions, B, H): h and c of each layer and direction."""
    pairs = np.empty((len(h), 2, *h.shape[1:]), h.dtype)
    COPIES.then(lambda: np.stack([h, c], axis=1, out=pairs))
    return pairs.reshape(-1, *h.shape[1:])


def _plus(array: AnyArray | None, more: AnyArray) -> AnyArray:
    """Return the sum of two arrays; the second if there is no first."""
    if array is None:
        return more
    COPIES.wait()
    return array + more


def _is_view_of(tensor: Tensor, other: Tensor) -> bool:
    """Return True if a tensor has the memory of another in the same order, so that nothing needs to be compared."""
    same = tensor.data_ptr() == other.data_ptr() and tensor.dtype == other.dtype and tensor.numel() == other.numel()
    return same and tensor.is_contiguous() and other.is_contiguous()


def _weights_in(part: Any, *, is_cell: bool) -> Iterable[Any]:
    weights: Iterable[Any] = part._parameters.values() if is_cell else part._flat_weights
    return weights


def write_stacked(tensors: Sequence[Tensor], array: AnyArray) -> None:
    """Write tensors, one after the other, into an array with as many entries."""
    import torch

    target = torch.from_numpy(array)
    first = tensors[0]
    if first.is_cpu and first.dtype == target.dtype:
        torch.stack(list(tensors), out=target.view(len(tensors), *first.shape))
    else:
        target.copy_(torch.stack(list(tensors)).view(target.shape))


def _or_zeros(array: AnyArray | None, like: AnyArray) -> AnyArray:
    return np.zeros_like(like) if array is None else array


def autocast_type(device: str) -> str:
    """Return the type that torch.autocast computes in, or "" if autocast is off."""
    import torch

    try:
        if not torch.is_autocast_enabled(device):
            return ""
        on, dtype = True, torch.get_autocast_dtype(device)
    except TypeError:  # before PyTorch 2.4 every device has its own functions
        if device == "cpu":
            on, dtype = torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()
        else:
            on, dtype = torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()
    return str(dtype).removeprefix("torch.") if on else ""


def type_of_products(part: Module, output: Tensor) -> str:
    """Return the type that torch.autocast computes in; "tf32" if a GPU rounds the factors of float32 products to it; else ""."""
    import torch

    if lower := autocast_type(output.device.type):
        return lower
    if output.device.type != "cuda" or output.dtype != torch.float32 or torch.cuda.get_device_capability(output.device) < (8, 0):
        return ""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    backend, before = (getattr(cudnn, "rnn", None), cudnn) if isinstance(part, torch.nn.RNNBase) else (matmul, matmul)
    precision = getattr(backend, "fp32_precision", None)
    # Where a script has set it, allow_tf32, the name before PyTorch 2.9, raises.
    return "tf32" if (precision == "tf32" if isinstance(precision, str) else before.allow_tf32) else ""


def pending_call(
    part: Module, module: GRUModule, call: Seen, weights: UsedWeights, generator: Tensor | None, take: Take
) -> PendingCall:
    """Create a call with everything that is known before the backward pass.

    `generator` is the state of the CPU's generator before the call, if dropout between layers drew from it.
    """
    layout = call.layout
    hn = layout.state(call.hn, take)
    facts = {
        "dtype": _type_name(call.out.dtype),
        "autocast": type_of_products(part, call.out),
        "h0_given": call.h0 is not None,
        "h0_attached": call.is_attached,
        "without_graph": _of_layers(call),
        "training": part.training,
        # A cell computes h from the tensor that it returns as c, unless one kernel computes both.
        "dc_through_h": module.is_cell
        and module.states == 2
        and (bool(module.written_as) or call.out.device.type not in ("cuda", "xpu")),
    }
    pending = PendingCall(
        weakref.ref(part),
        module,
        layout,
        layout.array(call.x, take),
        np.zeros_like(hn) if call.h0 is None else layout.state(call.h0, take),
        layout.array(call.out, take),
        hn,
        weights,
        tuple(call.out.shape),
        facts,
    )
    pending.out_has_hn = call.out_has_hn
    if call.memory_inside:
        pending.notes[Note.MEMORY_INSIDE] = None
    pending.watch(call)
    if call.cn is not None:
        pending.cn = layout.state(call.cn, take)
        pending.c0 = np.zeros_like(hn) if call.c0 is None else layout.state(call.c0, take)
    pending._note_products()
    if module.dropout and part.training and module.layers > 1:
        if generator is None:
            pending.notes[Note.NO_MASKS] = None
        else:
            pending.masks = redrawn_masks(generator, module, call.out, layout, take)
    return pending


@cache
def _type_name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def draws_on_cpu(part: Module) -> bool:
    """Return True if a GRU draws its masks from the CPU's generator. cuDNN has its own generator, whose draws cannot be
    repeated."""
    return next(part.parameters()).device.type == "cpu"


def redrawn_masks(state: Tensor, module: GRUModule, output: Tensor, layout: Padded | Packed, take: Take) -> tuple[AnyArray, ...]:
    """Return the mask of the output of each layer but the last, (T, B, directions · H): 0, or 1 / (1 − p).

    `state` is the state of the CPU's generator before the call. The masks have the shape and type of `output`, the output of the
    last layer, time first. The script's generator is not changed.
    """
    import torch

    generator = torch.Generator()
    generator.set_state(state)
    shape = tuple(output.shape)
    if isinstance(layout, Padded):
        shape = {"": shape, "batch first": (shape[1], shape[0], shape[2]), "no batch": (shape[0], 1, shape[-1])}[layout.turned]
    keep, masks = 1 - module.dropout, []
    plain = layout if isinstance(layout, Packed) else Padded()
    for _ in range(module.layers - 1):
        mask = torch.zeros(shape, dtype=output.dtype)
        if keep:  # torch draws no numbers if everything is dropped
            mask.bernoulli_(keep, generator=generator).div_(keep)
        masks.append(plain.array(mask, take))
    return tuple(masks)
