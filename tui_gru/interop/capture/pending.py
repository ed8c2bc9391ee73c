"""A call whose forward pass has run and that waits for the gradients of its outputs.

The masks of dropout between layers are drawn again from the state of the generator before the call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.interop.capture.buffers import Take
from tui_gru.interop.capture.calls import GRUCall, GRUModule, HeadCall, Note
from tui_gru.interop.capture.layouts import Packed, Padded, Seen, to_array
from tui_gru.interop.capture.weights import UsedWeights
from tui_gru.interop.tensors import AnyArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module


@dataclass(eq=False)
class PendingHead:
    """The call of the head on the output of a call."""

    name: str
    logits: AnyArray
    weight: AnyArray
    bias: AnyArray | None
    dlogits: AnyArray | None = None


@dataclass(eq=False)
class PendingCall:
    """The data of a `GRUCall` that are known so far."""

    part: Module
    module: GRUModule
    layout: Padded | Packed
    x: AnyArray
    h0: AnyArray
    out: AnyArray
    hn: AnyArray
    weights: UsedWeights
    shape: tuple[int, ...]  # the shape of the output in the script
    facts: dict[str, Any]
    masks: tuple[AnyArray, ...] = ()
    dout: AnyArray | None = None
    dhn: AnyArray | None = None
    head: PendingHead | None = None
    passes: set[int] = field(default_factory=set)
    notes: dict[Note, None] = field(default_factory=dict)
    handles: list[Any] = field(default_factory=list)
    outputs: list[tuple[Tensor, int]] = field(default_factory=list)  # tensors of the script, with version counters
    step: int = 0  # identifies the step that the call belongs to

    def add(self, gradients: str, gradient: Tensor, take: Take) -> None:
        """Add a gradient to `dout` or `dhn`, once per backward pass."""
        more = self.layout.state(gradient, take) if gradients == "dhn" else self.layout.array(gradient, take)
        before = getattr(self, gradients)
        setattr(self, gradients, more if before is None else before + more)

    def check_in_place(self) -> None:
        """Note whether the script has changed the outputs in place since the call, and release them."""
        if any(output._version != version for output, version in self.outputs):
            self.notes[Note.CHANGED_IN_PLACE] = None
        self.outputs = []

    def is_read_whole_by(self, tensor: Tensor) -> bool:
        """Return True if a tensor, such as the head's input, is the complete output in any shape."""
        if tensor.numel() != math.prod(self.shape) or tensor.shape[-1] != self.shape[-1]:
            return False
        return np.array_equal(self.layout.array(tensor.reshape(self.shape), np.empty), self.out, equal_nan=True)

    def take_head(self, name: str, part: Linear, logits: Tensor, take: Take) -> None:
        """Store the call of the head on the output."""

        def array(tensor: Tensor) -> AnyArray:
            return self.layout.array(tensor.reshape(*self.shape[:-1], -1), take)

        def add_gradient(gradient: Tensor) -> None:
            more = array(gradient)
            head.dlogits = more if head.dlogits is None else head.dlogits + more

        bias = part.bias
        head = PendingHead(name, array(logits), to_array(part.weight, take), None if bias is None else to_array(bias, take))
        self.head = head
        self.handles.append(logits.register_hook(add_gradient))  # type: ignore[no-untyped-call]

    def release(self) -> None:
        """Remove the hooks from the outputs."""
        for handle in self.handles:
            handle.remove()

    def frozen(self, number: int) -> GRUCall:
        """Return the collected call."""
        self.release()
        head = None if self.head is None else HeadCall(**vars(self.head))
        self.check_in_place()
        if self.passes and not self.facts["training"]:
            self.notes[Note.EVALUATING] = None
        return GRUCall(
            self.module,
            number,
            self.x,
            self.h0,
            self.out,
            self.hn,
            self.weights.freeze(),
            self.dout,
            self.dhn,
            self.layout.lengths,
            self.masks,
            head,
            backward_passes=len(self.passes),
            notes=tuple(self.notes),
            **self.facts,
        )


def autocast_type(device: str) -> str:
    """Return the type that torch.autocast computes in, or "" if autocast is off."""
    import torch

    try:
        on, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    except TypeError:  # before PyTorch 2.4 every device has its own functions
        if device == "cpu":
            on, dtype = torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()
        else:
            on, dtype = torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()
    return str(dtype).removeprefix("torch.") if on else ""


def begun(part: Module, module: GRUModule, call: Seen, weights: UsedWeights, generator: Tensor | None, take: Take) -> PendingCall:
    """Create a call with everything that is known before the backward pass.

    `generator` is the state of the CPU's generator before the call, if dropout between layers drew from it.
    """
    layout = call.layout
    hn = layout.state(call.hn, take)
    facts = {
        "dtype": str(call.out.dtype).removeprefix("torch."),
        "autocast": autocast_type(call.out.device.type),
        "h0_given": call.h0 is not None,
        "h0_attached": call.h0 is not None and call.h0.requires_grad,
        "training": part.training,
    }
    pending = PendingCall(
        part,
        module,
        layout,
        layout.array(call.x, take),
        np.zeros_like(hn) if call.h0 is None else layout.state(call.h0, take),
        layout.array(call.out, take),
        hn,
        weights,
        tuple(call.out.shape),
        facts,
        # A detached tensor shares its version counter; a tensor of inference mode has none.
        outputs=[(tensor.detach(), tensor._version) for tensor in (call.out, call.hn) if not tensor.is_inference()],
    )
    if facts["autocast"]:
        pending.notes[Note.AUTOCAST] = None
    if module.dropout and part.training and module.layers > 1:
        if generator is None:
            pending.notes[Note.NO_MASKS] = None
        else:
            pending.masks = redrawn_masks(generator, module, call.out, layout, take)
    return pending


def draws_on_cpu(part: Module) -> bool:
    """Return True if a GRU draws its masks from the CPU's generator. cuDNN has its own generator, whose draws cannot be
    repeated."""
    return next(part.parameters()).device.type == "cpu"


def redrawn_masks(state: Tensor, module: GRUModule, output: Tensor, layout: Padded | Packed, take: Take) -> tuple[AnyArray, ...]:
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
