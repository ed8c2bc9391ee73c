"""The weights that a call used: parameters, results of a parametrization, or tensors from functional_call."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.interop.capture.buffers import Take
from tui_gru.interop.capture.calls import GRUModule, WeightSet
from tui_gru.interop.capture.layouts import to_array
from tui_gru.interop.tensors import AnyArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_SAMPLED = 61  # entries of a weight that are compared to detect changes through p.data


def tensors_used(part: Module, module: GRUModule) -> list[Tensor]:
    """Return the weight tensors of the call that has just ended, in the order of `module.weight_names`.

    A GRU stores them; a GRUCell has them as attributes, for which `computed_once` must have been in effect during the call.
    """
    if module.kind == "GRU":
        kept: list[Tensor] = part._flat_weights  # type: ignore[assignment]
        return kept
    return [getattr(part, name) for name in module.weight_names]


def is_parametrized(part: Module) -> bool:
    """Return True if torch.nn.utils.parametrize computes one of the weights."""
    from torch.nn.utils import parametrize

    return parametrize.is_parametrized(part)


def is_sharded(part: Module) -> bool:
    """Return True if FSDP stores only a shard of the parameters in this process."""
    return any(_is_share(parameter) for parameter in part.parameters())


def _is_share(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor; calling full_tensor would wait for all ranks


def computed_once() -> ExitStack:
    """Caches the results of parametrizations until closed, so that the weights of a GRUCell are known after the call.

    A GRUCell reads each weight once per call, so the number of computations does not change.
    """
    from torch.nn.utils import parametrize

    stack = ExitStack()
    stack.enter_context(parametrize.cached())
    return stack


class UsedWeights:
    """The weights of one or more calls of one module, copied once, and the gradients of those that are not parameters."""

    def __init__(
        self, module: GRUModule, tensors: Sequence[Tensor], names: Callable[[str, Tensor], str] | None, take: Take
    ) -> None:
        """Copy the weights of a call.

        `names` returns the name of a leaf tensor with a gradient, given the name of the weight; the p.grad of such a tensor is
        stored elsewhere. None means that FSDP has gathered the weights for this call and removes their gradients, which are then
        stored here.
        """
        self.module = module
        self._take = take
        self._seen = [(weakref.ref(tensor), tensor._version) for tensor in tensors]
        self._values = {name: to_array(tensor, take) for name, tensor in zip(module.weight_names, tensors, strict=True)}
        self._parameters: dict[str, str] = {}
        self._gradients: dict[str, AnyArray] = {}
        self._handles = []
        self.frozen: WeightSet | None = None
        for name, tensor in zip(module.weight_names, tensors, strict=True):
            if tensor.requires_grad and tensor.is_leaf and names is not None:
                self._parameters[name] = names(name, tensor)
            elif tensor.requires_grad:
                self._handles.append(tensor.register_hook(self._adder(name)))  # type: ignore[no-untyped-call]

    def are(self, tensors: Sequence[Tensor]) -> bool:
        """Return True if these are the same tensors with the same numbers."""
        return all(
            seen() is tensor and version == tensor._version and self._unchanged(name, tensor)
            for (seen, version), (name, tensor) in zip(self._seen, zip(self._values, tensors, strict=True), strict=True)
        )

    def _unchanged(self, name: str, tensor: Tensor) -> bool:
        value = self._values[name].reshape(-1)
        step = max(1, value.size // _SAMPLED)
        return np.array_equal(value[::step], to_array(tensor.detach().reshape(-1)[::step], np.empty), equal_nan=True)

    def _adder(self, name: str) -> Callable[[Tensor], None]:
        def add(gradient: Tensor) -> None:
            if self.frozen is None:
                more = to_array(gradient, self._take)
                self._gradients[name] = self._gradients[name] + more if name in self._gradients else more

        return add

    def freeze(self) -> WeightSet:
        """Return the collected weights and gradients, which no longer change."""
        if self.frozen is None:
            for handle in self._handles:
                handle.remove()
            self.frozen = WeightSet(self.module, self._values, self._parameters, self._gradients)
        return self.frozen


class Parameters:
    """The parameters of the captured modules by name, and their p.grad."""

    def __init__(self, root: Module, parts: Mapping[Module, GRUModule]) -> None:
        own = {id(parameter): part for part in parts for parameter in part.parameters()}
        self._named = {name: parameter for name, parameter in root.named_parameters() if id(parameter) in own}
        self._names = {id(parameter): name for name, parameter in self._named.items()}
        self._of: dict[Module, list[str]] = {part: [self._names[id(p)] for p in part.parameters()] for part in parts}
        self._given: dict[str, Tensor] = {}  # other leaf tensors that replaced a parameter in this step

    def name(self, module: GRUModule, weight: str, tensor: Tensor) -> str:
        """Return the name of a leaf tensor. A leaf that is not a parameter gets a name for this step, `encoder.weight_hh_l0
        (given)`."""
        if (known := self._names.get(id(tensor))) is not None:
            return known
        name = f"{module.name}.{weight} (given)"
        self._given[name] = tensor
        return name

    def of(self, parts: Sequence[Module]) -> list[str]:
        """Return the names of the parameters of these modules that require gradients."""
        found = dict.fromkeys(name for part in parts for name in self._of[part] if self._named[name].requires_grad)
        return [*found, *self._given]

    def forget_given(self) -> None:
        self._given = {}

    def gradients(self, names: Sequence[str], take: Take) -> dict[str, AnyArray]:
        """Return copies of every p.grad that exists and is not 0, by name."""
        found = {}
        for name in names:
            gradient = self._gradient(name)
            if gradient is not None and bool(gradient.any()):
                found[name] = to_array(gradient, take)
        return found

    def all_gradients(self, take: Take) -> dict[str, AnyArray]:
        """Return copies of every p.grad that exists, by name."""
        names = [*self._named, *self._given]
        return {name: to_array(gradient, take) for name in names if (gradient := self._gradient(name)) is not None}

    def cleared(self, parts: Sequence[Module]) -> bool:
        """Return True if the p.grad of all parameters of these modules is None or 0."""
        names = self.of(parts)
        if any(_is_share(self._named[name]) for name in names if name in self._named):
            return False
        return bool(names) and not any(bool(gradient.any()) for name in names if (gradient := self._gradient(name)) is not None)

    def scaled(self, gradients: Mapping[str, AnyArray]) -> bool:
        """Return True if p.grad is now a multiple of the earlier copy, with one factor other than 1 and 0."""
        for name, before in gradients.items():
            gradient = self._gradient(name)
            if gradient is None or not before.size:
                continue
            step = max(1, before.size // _SAMPLED)
            now = to_array(gradient.detach().reshape(-1)[::step], np.empty)
            then = before.reshape(-1)[::step]
            at = int(np.abs(then).argmax())
            if not np.isfinite(then).all() or not then[at] or not now[at] or np.array_equal(now, then):
                continue
            if np.allclose(now, then * (now[at] / then[at]), rtol=1e-5, atol=0):
                return True
        return False

    def missing_in(self, groups: Sequence[Mapping[str, Any]], gradients: Iterable[str]) -> bool:
        """Return True if a parameter with a gradient is in none of the optimizer's groups."""
        held = {id(parameter) for group in groups for parameter in group["params"]}
        return any(id(self._named[name]) not in held for name in gradients if name in self._named)

    def _gradient(self, name: str) -> Tensor | None:
        tensor = self._named.get(name, self._given.get(name))
        gradient = None if tensor is None else tensor.grad
        return None if gradient is None or gradient.is_sparse or _is_share(gradient) else gradient
