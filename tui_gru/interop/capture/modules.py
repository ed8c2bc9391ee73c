"""The modules of a script that can be captured, and the hooks on them. Nothing else in the script changes.

The hooks are functions that dynamo (torch.compile) does not trace. A copy of the module (deepcopy, pickle) has hooks that do
nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tui_gru.interop.capture.calls import GRUModule
from tui_gru.interop.errors import CaptureError, printable

if TYPE_CHECKING:
    from torch.nn import Module


def find_grus(module: Module) -> dict[Module, GRUModule]:
    """Return every torch.nn.GRU and torch.nn.GRUCell in `module`, itself included. Raises `CaptureError` if there is none."""
    import torch

    if not isinstance(module, torch.nn.Module):
        raise CaptureError(f"module must be a torch.nn.Module, not {type(module).__name__}", option="module")
    found, others = dict[torch.nn.Module, GRUModule](), list[str]()
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.GRU):
            found[part] = GRUModule(
                name or "gru",
                "GRU",
                part.input_size,
                part.hidden_size,
                part.num_layers,
                part.bidirectional,
                part.bias,
                part.batch_first,
                float(part.dropout) if part.num_layers > 1 else 0.0,
            )
        elif isinstance(part, torch.nn.GRUCell):
            found[part] = GRUModule(name or "cell", "GRUCell", part.input_size, part.hidden_size, bias=part.bias)
        elif _is_recurrent(part):
            others.append(f"{name or 'it'} is {type(part).__module__}.{type(part).__name__}")
    if not found:
        seen = f": {printable(others[0])}" if others else ""
        raise CaptureError(
            f"there is no torch.nn.GRU or torch.nn.GRUCell in {type(module).__name__}{seen}; give a module that has one",
            option="module",
        )
    return found


def _is_recurrent(part: Module) -> bool:
    """Return True if a user could expect the module to be captured, such as an LSTM or a scripted or quantised GRU."""
    name = getattr(part, "original_name", type(part).__name__)  # the original name of a scripted module
    return any(word in name for word in ("GRU", "LSTM", "RNN"))


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
