"""Search for the modules of a script that can be captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
