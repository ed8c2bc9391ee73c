"""The tensors of a call as its hook receives them, and their conversion to arrays, time first: from batch first, without a batch,
or packed sequences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.interop.capture.buffers import Take
from tui_gru.interop.capture.calls import GRUModule
from tui_gru.interop.tensors import AnyArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn.utils.rnn import PackedSequence


def to_array(tensor: Tensor, take: Take) -> AnyArray:
    """Return a copy of the numbers. Float64 is unchanged; everything else becomes float32, which represents half precision
    exactly."""
    import torch

    tensor = tensor.detach()
    array = take(tensor.shape, np.float64 if tensor.dtype == torch.float64 else np.float32)
    torch.from_numpy(array).copy_(tensor)
    return array


@dataclass(frozen=True)
class Padded:
    """A padded sequence: (T, B, ·), or (B, T, ·) or (T, ·) according to `turned`."""

    turned: str = ""  # "", "batch first", "no batch"
    lengths: AnyArray | None = None

    def array(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the numbers (T, B, ·)."""
        if self.turned == "batch first":
            tensor = tensor.transpose(0, 1)
        elif self.turned == "no batch":
            tensor = tensor.unsqueeze(1)
        return to_array(tensor, take)

    def state(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return a state (layers · directions, B, H)."""
        return to_array(tensor.unsqueeze(1) if self.turned == "no batch" else tensor, take)


@dataclass(frozen=True)
class OneTimestep(Padded):
    """The input or output of a cell, (B, ·) or (·)."""

    no_batch: bool = False

    def array(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the numbers (1, B, ·)."""
        return to_array(tensor[None, None] if self.no_batch else tensor[None], take)

    def state(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the state (1, B, H), which a cell outputs."""
        return self.array(tensor, take)


@dataclass(frozen=True, eq=False)
class Packed:
    """A PackedSequence. Its rows are sorted by length, and its data is stored timestep by timestep."""

    batch_sizes: AnyArray  # batch sizes (T)
    order: AnyArray  # (B): the script's row at each place

    @cached_property
    def lengths(self) -> AnyArray:
        """The row lengths (B), in the script's order of rows."""
        lengths = np.empty(len(self.order), np.int64)
        lengths[self.order] = (self.batch_sizes[:, None] > np.arange(len(self.order))).sum(axis=0)
        return lengths

    @cached_property
    def _places(self) -> tuple[AnyArray, AnyArray]:
        t = np.repeat(np.arange(len(self.batch_sizes)), self.batch_sizes)
        return t, self.order[np.concatenate([np.arange(size) for size in self.batch_sizes])]

    def array(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the numbers (T, B, ·) of packed data, 0 after the end of a row."""
        data = to_array(tensor, take)
        array = take((len(self.batch_sizes), len(self.order), *data.shape[1:]), data.dtype)
        array[...] = 0
        array[self._places] = data
        return array

    def state(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return a state (layers · directions, B, H), which is already in the script's order of rows."""
        return to_array(tensor, take)


def packed_layout(sequence: PackedSequence) -> Packed:
    """Return the layout of a PackedSequence."""
    sizes = sequence.batch_sizes.numpy().astype(np.int64)
    order = sequence.sorted_indices
    return Packed(sizes, np.arange(int(sizes[0])) if order is None else order.cpu().numpy().astype(np.int64))


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
