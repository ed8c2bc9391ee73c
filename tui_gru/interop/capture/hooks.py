"""The hooks of the capture: on the GRUs, on their outputs, and on the optimizer. Nothing else in the script changes.

The hooks are functions that dynamo (torch.compile) does not trace. A copy of the module (deepcopy, pickle) has hooks that do
nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module


class Hook:
    """Calls `action`, outside of code compiled by torch.compile.

    A copy or pickle of it is a function that does nothing, and that can be loaded without this package.
    """

    def __init__(self, action: Callable[..., None]) -> None:
        import torch

        self._action = torch.compiler.disable(action)  # type: ignore[no-untyped-call]

    def __call__(self, *args: Any) -> None:
        self._action(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return _nothing()

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


def _nothing() -> Callable[..., None]:
    return contextlib.nullcontext().__exit__


def hook_calls(part: Module, before: Callable[..., None] | None, after: Callable[..., None]) -> list[Any]:
    """Register `before(part, args, kwargs)` and `after(part, args, kwargs, output)`, and return the handles. If both are given,
    `after` is called even if the module raises an error."""
    handles = [part.register_forward_hook(Hook(after), with_kwargs=True, always_call=before is not None)]
    if before is not None:
        handles.append(part.register_forward_pre_hook(Hook(before), with_kwargs=True))
    return handles
