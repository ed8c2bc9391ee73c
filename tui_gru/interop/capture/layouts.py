"""Conversion of the tensors of a script to arrays, time first: from batch first, without a batch, or packed sequences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tui_gru.interop.capture.buffers import Take
from tui_gru.interop.tensors import Array

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn.utils.rnn import PackedSequence


def to_array(tensor: Tensor, take: Take) -> Array:
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
    lengths: Array | None = None

    def array(self, tensor: Tensor, take: Take) -> Array:
        """Return the numbers (T, B, ·)."""
        if self.turned == "batch first":
            tensor = tensor.transpose(0, 1)
        elif self.turned == "no batch":
            tensor = tensor.unsqueeze(1)
        return to_array(tensor, take)

    def state(self, tensor: Tensor, take: Take) -> Array:
        """Return a state (layers · directions, B, H)."""
        return to_array(tensor.unsqueeze(1) if self.turned == "no batch" else tensor, take)


@dataclass(frozen=True)
class OneTimestep(Padded):
    """The input or output of a cell, (B, ·) or (·)."""

    no_batch: bool = False

    def array(self, tensor: Tensor, take: Take) -> Array:
        """Return the numbers (1, B, ·)."""
        return to_array(tensor[None, None] if self.no_batch else tensor[None], take)

    def state(self, tensor: Tensor, take: Take) -> Array:
        """Return the state (1, B, H), which a cell outputs."""
        return self.array(tensor, take)


@dataclass(frozen=True, eq=False)
class Packed:
    """A PackedSequence. Its rows are sorted by length, and its data is stored timestep by timestep."""

    batch_sizes: Array  # batch sizes (T)
    order: Array  # (B): the script's row at each place

    @cached_property
    def lengths(self) -> Array:
        """The row lengths (B), in the script's order of rows."""
        lengths = np.empty(len(self.order), np.int64)
        lengths[self.order] = (self.batch_sizes[:, None] > np.arange(len(self.order))).sum(axis=0)
        return lengths

    @cached_property
    def _places(self) -> tuple[Array, Array]:
        t = np.repeat(np.arange(len(self.batch_sizes)), self.batch_sizes)
        return t, self.order[np.concatenate([np.arange(size) for size in self.batch_sizes])]

    def array(self, tensor: Tensor, take: Take) -> Array:
        """Return the numbers (T, B, ·) of packed data, 0 after the end of a row."""
        data = to_array(tensor, take)
        array = take((len(self.batch_sizes), len(self.order), *data.shape[1:]), data.dtype)
        array[...] = 0
        array[self._places] = data
        return array

    def state(self, tensor: Tensor, take: Take) -> Array:
        """Return a state (layers · directions, B, H), which is already in the script's order of rows."""
        return to_array(tensor, take)


def packed_layout(sequence: PackedSequence) -> Packed:
    """Return the layout of a PackedSequence."""
    sizes = sequence.batch_sizes.numpy().astype(np.int64)
    order = sequence.sorted_indices
    return Packed(sizes, np.arange(int(sizes[0])) if order is None else order.cpu().numpy().astype(np.int64))
