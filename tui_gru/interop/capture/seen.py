"""A GRU call as its hook receives it: its input and output tensors and their layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tui_gru.interop.capture.calls import GRUModule
from tui_gru.interop.capture.layouts import OneTimestep, Packed, Padded, packed_layout

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """The tensors of a call. For a PackedSequence, `x` and `out` are its data, and `layout` is `Packed`."""

    x: Tensor
    h0: Tensor | None
    out: Tensor
    hn: Tensor
    layout: Padded | Packed

    @property
    def has_graph(self) -> bool:
        """True if the call can receive a gradient."""
        return self.out.requires_grad or self.hn.requires_grad


def has_numbers(tensor: Tensor) -> bool:
    """Return True if there are numbers to copy; there are none in a call that is traced, shared among ranks, or freed."""
    import torch

    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    if tensor.is_meta or wrapped or type(tensor).__name__ in ("FakeTensor", "DTensor"):
        return False
    reach = tensor.storage_offset() + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return not tensor.numel() or reach * tensor.element_size() < tensor.untyped_storage().nbytes()


def seen(module: GRUModule, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Seen | None:
    """Return the tensors of a call; None unless it is a call of a GRU's own forward. Subclasses differ, and a call can have raised
    an error."""
    import torch
    from torch.nn.utils.rnn import PackedSequence

    x = args[0] if args else kwargs.get("input")
    h0 = args[1] if len(args) > 1 else kwargs.get("hx")
    if module.kind == "GRUCell":
        out = hn = output
    elif type(output) is tuple and len(output) == 2:
        out, hn = output
    else:
        return None
    if isinstance(x, PackedSequence) and isinstance(out, PackedSequence):
        return Seen(x.data, h0, out.data, hn, packed_layout(x))
    if not (isinstance(x, torch.Tensor) and isinstance(out, torch.Tensor) and isinstance(hn, torch.Tensor)):
        return None
    if module.kind == "GRUCell":
        layout: Padded = OneTimestep(no_batch=out.dim() == 1)
    else:
        layout = Padded("no batch" if out.dim() == 2 else "batch first" if module.batch_first else "")
    return Seen(x, h0, out, hn, layout)
