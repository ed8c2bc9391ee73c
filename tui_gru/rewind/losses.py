"""The losses of a step: the numbers from which `backward` begins, without the factor of a gradient scaler."""

from __future__ import annotations

import functools
import math
import os
import sys
from typing import Any

import torch

_OPTIMIZERS = os.path.join("torch", "optim")


class StepLosses:
    """The losses of one step. Their total is the sum of those with which the script calls `backward`; of the calls within a closure
    that an optimizer evaluates several times, the first one counts."""

    def __init__(self) -> None:
        self._tensors: list[torch.Tensor] = []
        self._numbers: list[float] = []
        self._repeated: set[int] = set()  # the places of those that are evaluated again
        self._plain: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by the ids of scaled losses, which are kept alive

    def add(self, tensors: Any) -> None:
        """Add the argument of a call of `backward`."""
        first = self.count
        for root in [tensors] if isinstance(tensors, torch.Tensor) else list(tensors):
            plain = self._plain.get(id(root), (root, root))[1].detach()
            self._tensors.append(plain.clone() if plain.numel() == 1 else plain.sum())
        if first and _in_closure():
            self._repeated.update(range(first, self.count))

    def scale(self, scaled: Any, plain: Any) -> None:
        """Remember which loss a gradient scaler has scaled."""
        if isinstance(scaled, torch.Tensor) and isinstance(plain, torch.Tensor):
            self._plain[id(scaled)] = scaled, plain

    def end(self) -> None:
        self._plain.clear()

    @property
    def count(self) -> int:
        return len(self._numbers) + len(self._tensors)

    @property
    def numbers(self) -> list[float]:
        """All of them, in their order."""
        self._numbers += [float(tensor) for tensor in self._tensors]  # later than the step, for which a GPU would have to wait
        self._tensors = []
        return self._numbers

    @property
    def total(self) -> float:
        """The loss of the step; NaN if the step has called no `backward`."""
        numbers = [number for place, number in enumerate(self.numbers) if place not in self._repeated]
        return math.nan if not numbers else numbers[0] if len(numbers) == 1 else sum(numbers)

    def equals(self, other: StepLosses) -> bool:
        """Return True if all losses are the same, bit for bit; NaN is equal to itself."""
        pairs = zip(self.numbers, other.numbers, strict=False)
        return self.count == other.count and all(a == b or (a != a and b != b) for a, b in pairs)


def _in_closure() -> bool:
    frame: Any = sys._getframe(3)
    while frame is not None:
        if frame.f_code.co_name == "step" and _OPTIMIZERS in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


class LossWatch:
    """What collects the losses of the current step, from `begin` to `end`."""

    def __init__(self) -> None:
        self.current: StepLosses | None = None

    @property
    def is_running(self) -> bool:
        return self in _watches

    def begin(self) -> None:
        if self not in _watches:
            if not _watches:
                _patch()
            _watches.append(self)

    def end(self) -> None:
        """Stop; without others, `torch.autograd.backward` is as it was."""
        self.current = None
        if self in _watches:
            _watches.remove(self)
            if not _watches:
                _unpatch()


_watches: list[LossWatch] = []  # of nested loops, and of trials
_patched: dict[str, Any] = {}


def _patch() -> None:
    backward, scale = torch.autograd.backward, torch.amp.GradScaler.scale

    @functools.wraps(backward)
    def watched_backward(tensors: Any, *arguments: Any, **named: Any) -> Any:
        for watch in _watches:
            if watch.current is not None:
                watch.current.add(tensors)
        return backward(tensors, *arguments, **named)

    @functools.wraps(scale)
    def watched_scale(self: Any, outputs: Any) -> Any:
        result = scale(self, outputs)
        for watch in _watches:
            if watch.current is not None:
                watch.current.scale(result, outputs)
        return result

    _patched.update(backward=(backward, watched_backward), scale=(scale, watched_scale))
    torch.autograd.backward = watched_backward
    torch.amp.GradScaler.scale = watched_scale  # type: ignore[method-assign]


def _unpatch() -> None:
    """Take the functions back, unless somebody else has replaced them meanwhile."""
    if torch.autograd.backward is _patched["backward"][1]:
        torch.autograd.backward = _patched["backward"][0]
    if torch.amp.GradScaler.scale is _patched["scale"][1]:
        torch.amp.GradScaler.scale = _patched["scale"][0]  # type: ignore[method-assign]
    _patched.clear()
