"""What autograd hands to the parameters of a module in the backward passes of a step, before it is added to p.grad."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from tui_gru.capture.pending import harmless

if TYPE_CHECKING:
    from torch import Tensor


class _Watcher(partial[None]):
    """A hook of a capture on a parameter."""


class HandedGradients:
    """The sums of the gradients that the backward passes of a step hand to some parameters, by the ids of these.

    A pass of torch.autograd.grad hands gradients to the script and adds none to p.grad, so it does not count.
    """

    def __init__(self) -> None:
        self.sums: dict[int, Tensor] = {}
        self.with_graph = False  # True once a pass has a graph of its own (create_graph), as for a penalty on a gradient
        self._passes: dict[int, set[int]] = {}
        self._arriving: dict[int, Tensor] = {}
        self._accumulated: dict[int, tuple[int, int]] = {}  # the memory and the version of p.grad after the last pass
        self._tensors: dict[int, weakref.ref[Tensor]] = {}
        self._handles: list[Any] = []

    def watch(self, tensors: Iterable[Tensor]) -> None:
        """Add parameters, unless they are watched already or get no gradient of their own."""
        for tensor in tensors:
            key = id(tensor)
            if key in self._tensors or not (tensor.is_leaf and tensor.requires_grad) or hasattr(tensor, "full_tensor"):
                continue
            self._tensors[key] = weakref.ref(tensor)
            arrive, accumulate = _Watcher(harmless(self._arrive), key), _Watcher(harmless(self._accumulate), key)
            for hook in (arrive, accumulate):
                hook.__torch_unserializable__ = True  # type: ignore[attr-defined]  # a copy for another process is without them
            self._handles.append(tensor.register_hook(arrive))  # type: ignore[no-untyped-call]
            self._handles.append(tensor.register_post_accumulate_grad_hook(accumulate))  # type: ignore[no-untyped-call]

    def watch_as(self, other: HandedGradients) -> None:
        """Add the parameters that another one watches."""
        self.watch(tensor for watched in other._tensors.values() if (tensor := watched()) is not None)

    def _arrive(self, key: int, gradient: Tensor) -> None:
        import torch

        self.with_graph |= torch.is_grad_enabled()
        if not gradient.is_sparse:
            self._arriving[key] = gradient.detach().clone()  # which may become p.grad itself, and is then changed in place

    def _accumulate(self, key: int, tensor: Tensor) -> None:
        import torch

        if tensor.grad is not None and not tensor.grad.is_sparse:
            self._accumulated[key] = tensor.grad.data_ptr(), tensor.grad._version
        if (more := self._arriving.pop(key, None)) is not None:
            self.sums[key] = self.sums[key] + more if key in self.sums else more
            self._passes.setdefault(key, set()).add(torch._C._current_graph_task_id())

    def passes(self, tensors: Iterable[Tensor]) -> set[int]:
        """Return the backward passes that have added to the p.grad of at least one of some parameters."""
        return {number for tensor in tensors for number in self._passes.get(id(tensor), ())}

    def forget(self, tensors: Iterable[Tensor]) -> None:
        """Begin anew for parameters whose p.grad was cleared."""
        for tensor in tensors:
            self.sums.pop(id(tensor), None)

    def watches(self, tensor: Tensor) -> bool:
        return id(tensor) in self._tensors

    def is_as_accumulated(self, tensor: Tensor) -> bool:
        """Return True if a p.grad is what a backward pass has left there."""
        gradient = tensor.grad
        return gradient is not None and (gradient.data_ptr(), gradient._version) == self._accumulated.get(id(tensor))

    def has_others(self, tensor: Tensor) -> bool:
        """Return True if a parameter has other hooks on its gradient than those of this program."""
        hooks = tensor._backward_hooks, getattr(tensor, "_post_accumulate_grad_hooks", None)
        all_hooks = [hook for hooks_of_kind in hooks for hook in (hooks_of_kind or {}).values()]
        return any(not type(hook).__module__.startswith("tui_gru.") for hook in all_hooks)

    def release(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
