"""Recomputation of the masks of dropout between layers from the state of the generator before the call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_gru.interop.capture.buffers import Take
from tui_gru.interop.capture.calls import GRUModule
from tui_gru.interop.capture.layouts import Packed, Padded
from tui_gru.interop.tensors import Array

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def draws_on_cpu(part: Module) -> bool:
    """Return True if a GRU draws its masks from the CPU's generator. cuDNN has its own generator, whose draws cannot be
    repeated."""
    return next(part.parameters()).device.type == "cpu"


def redrawn_masks(state: Tensor, module: GRUModule, output: Tensor, layout: Padded | Packed, take: Take) -> tuple[Array, ...]:
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
