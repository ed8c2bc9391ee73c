"""How a hand-written cell is called: where x, the states and the parts of its weights are among the tensors of a call."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.capture.calls import GRUModule, Looped, OneTimestep, Seen, Take, fresh, to_array
from tui_gru.files.arrays import AnyArray
from tui_gru.files.kinds import Blocks, Cell, canonical, step

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


# ------------------------------------------------------------------------------
# The weights of a hand-written cell: parts of its parameters, put together as torch's cells have them.


@dataclass(frozen=True)
class Block:
    """A part of a parameter: the name of the parameter in its module, and the shape, strides and offset of the part."""

    name: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def of(self, parameter: Tensor) -> Tensor:
        """Return the part of a parameter, or of its gradient."""
        whole = parameter.detach().contiguous()
        return whole.as_strided(self.shape, self.stride, whole.storage_offset() + self.offset)

    def cut(self, axis: int, begin: int, size: int) -> Block:
        shape = tuple(size if k == axis else length for k, length in enumerate(self.shape))
        return replace(self, shape=shape, offset=self.offset + begin * self.stride[axis])


@dataclass(frozen=True)
class OneTimestepForm:
    """How a module that computes one timestep is called: `takes` has the positions of x, h (and c) among the tensors of its
    arguments, `gives` those of h (and c) among its results. `beside` is "xh" or "hx" if x and h are one argument, side by side."""

    takes: tuple[int, ...]
    gives: tuple[int, ...]
    beside: str = ""

    def calls(self, module: GRUModule, given: Sequence[Tensor], results: Sequence[Tensor]) -> list[Seen]:
        """Return the call as a list; an empty one if it is a call of another kind, as with other arguments."""
        states = self._states(module, given)
        if states is None or max(self.gives) >= len(results):
            return []
        x, *begins = states
        ends = [results[i] for i in self.gives]
        sized = all(each.shape[-1] == module.hidden_size for each in (*ends, *(state for state in begins if state is not None)))
        if not sized or x.shape[-1] != module.input_size or ends[0].dim() > 2:
            return []
        layout = OneTimestep(no_batch=ends[0].dim() == 1)
        return [Seen(x, begins[0], ends[0], ends[0], layout, *((begins[1], ends[1]) if len(ends) > 1 else ()))]

    def _states(self, module: GRUModule, given: Sequence[Tensor]) -> tuple[Tensor, *tuple[Tensor | None, ...]] | None:
        """Return x, and the states that a call begins with; None where it was given none."""
        if self.beside:
            if len(given) <= self.takes[0]:
                return None
            return set_apart(given[self.takes[0]], self.beside, module.hidden_size)
        x, *states = (given[i] if i < len(given) else None for i in self.takes)
        return None if x is None else (x, *states)


ABSENT = -1  # the position of a state that a module does not return


class LastState(StrEnum):
    """How the last state that a module returns hangs together with its output, by the graph of autograd."""

    APART = ""
    IN_OUTPUT = "in the output"  # the output was put together from it and the states before it
    OF_OUTPUT = "of the output"  # it was taken from the output, whose gradient has that of it


@dataclass(frozen=True)
class LoopForm:
    """How a module that loops over all timesteps itself is called.

    x and the output are (T, B, ·), or (B, T, ·) if `batch_first`; states are (B, H) or (1, B, H). `takes` has the positions of x,
    h (and c) among the tensors of its arguments, as far as they are known; `gives` those of the output, and of the last h (and c)
    among its results. If `out_is_list`, the states are a list, with which the results begin, and the others are counted after it.
    """

    takes: tuple[int, ...]
    gives: tuple[int, ...]
    batch_first: bool
    out_is_list: bool
    last: LastState

    def calls(self, module: GRUModule, given: Sequence[Tensor], results: Sequence[Tensor]) -> list[Seen]:
        """Return the call as a list, of each timestep where the output is a list; an empty one if it is a call of another kind."""
        tensors = [given[i] if i < len(given) else None for i in self.takes]
        x, begins = tensors[0], tensors[1:] + [None] * (module.states + 1 - len(tensors))
        if x is None or x.dim() != 3 or len(given) > len(self.takes) or x.shape[-1] != module.input_size or not x.numel():
            return []
        in_time = x.detach().transpose(0, 1) if self.batch_first else x.detach()
        T, B, _ = in_time.shape
        state = B, module.hidden_size
        out_at, *end_at = self.gives
        if any(i >= len(results) for i in self.gives):
            return []
        ends = [None if i == ABSENT or self.out_is_list else results[i] for i in end_at]
        if any(each is not None and each.numel() != math.prod(state) for each in (*begins, *ends)):
            return []
        if self.out_is_list:
            outs = list(results[:T])
            if len(outs) < T or any(out.shape != state for out in outs):
                return []
            # Each is a state that the next timestep reads, as in the calls of a cell.
            calls = [Seen(x_t, h, out, out, OneTimestep()) for x_t, h, out in zip(in_time, [begins[0], *outs], outs, strict=False)]
            if module.states == 1:
                return calls
            at = T + end_at[1]
            if at >= len(results) or results[at].numel() != math.prod(state):
                return []
            calls[0] = replace(calls[0], c0=begins[1], memory_inside=True)
            calls[-1] = replace(calls[-1], cn=results[at])
            return calls
        out = results[out_at]
        if out.shape != (*x.shape[:2], module.hidden_size):
            return []
        hn = ends[0]
        if hn is None or self.last is LastState.OF_OUTPUT:
            hn = (out[:, -1] if self.batch_first else out[-1]).detach()
        layout = Looped("batch first" if self.batch_first else "")
        c0, cn = (begins[1], ends[1]) if module.states == 2 else (None, None)
        return [Seen(x, begins[0], out, hn, layout, c0, cn, out_has_hn=self.last is LastState.IN_OUTPUT)]


@dataclass(frozen=True)
class HandwrittenCell:
    """A module that computes as a GRU, an LSTM or a plain RNN does, or as equations of its own say, and how it is called.

    `values` has the blocks of each weight of torch's cells, gate by gate in torch's order, None for zeros: matrices (I, H) or
    (H, H) that multiply from the right, and biases (H). `gradients` has, for each weight whose gradient is known, the blocks whose
    gradients make it up: two biases that are added have the same gradient, so that of an absent one is the gradient of the other.
    Of a cell with equations, both have one block a weight, in the shape of the equations.
    """

    module: GRUModule
    form: OneTimestepForm | LoopForm
    values: Mapping[str, tuple[Block | None, ...]]
    gradients: Mapping[str, tuple[Block, ...]]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters in its module."""
        return tuple(dict.fromkeys(block.name for blocks in self.values.values() for block in blocks if block is not None))

    def tensors(self, part: Module) -> list[Tensor]:
        """Return its parameters, in the order of their names."""
        found = []
        for name in self.parameters:
            *path, last = name.split(".")
            owner = part
            for each in path:
                owner = owner._modules[each]  # type: ignore[assignment]
            found.append(getattr(owner, last))
        return found

    def weights(self, tensors: Sequence[Tensor], take: Take) -> dict[str, AnyArray]:
        """Return its weights under the names and in the shapes of torch's cells, (G · H, I), or of its equations."""
        by_name = dict(zip(self.parameters, tensors, strict=True))
        return {role: to_array(self._together(blocks, by_name), take) for role, blocks in self.values.items()}

    def gradient(self, role: str, by_name: Mapping[str, Tensor]) -> Tensor | None:
        """Return the gradient of a weight from p.grad of the parameters; None if one of them has none."""
        blocks = self.gradients[role]
        grads = {block.name: by_name[block.name].grad for block in blocks}
        found = {name: grad for name, grad in grads.items() if grad is not None}
        return self._together(blocks, found) if len(found) == len(grads) else None

    def _together(self, blocks: Sequence[Block | None], tensors: Mapping[str, Tensor]) -> Tensor:
        import torch

        like = next(iter(tensors.values()))
        zero = like.new_zeros(self.module.hidden_size)
        parts = (zero if block is None else block.of(tensors[block.name]) for block in blocks)
        if self.module.equations is not None:
            (own,) = parts
            return own
        return torch.cat([part.t() for part in parts])  # t() of a vector is the vector

    def calls(self, part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> list[Seen]:
        """Return the tensors of a call of the module, as one call or one for each timestep; an empty list if it is a call of
        another kind, as with other arguments."""
        calls = self.form.calls(self.module, inputs_of(part, args, kwargs), tensors_in(output))
        return self._with_memory(part, calls) if calls and calls[0].memory_inside else calls

    def _with_memory(self, part: Module, calls: Sequence[Seen]) -> list[Seen]:
        """Return calls with the c of each timestep, which the formulas give."""
        convention, cell, first = self.module.convention, self.formula_weights(part), calls[0]
        assert convention is not None
        h, c = (
            np.zeros(first.out.shape) if s is None else to_array(s, fresh).reshape(first.out.shape) for s in (first.h0, first.c0)
        )
        found, begin = list[Seen](), first.c0
        for call in calls:
            _, c = step(to_array(call.x, fresh).astype(np.float64), (h, c), cell, convention)
            h = to_array(call.out, fresh)
            end = call.out.detach().new_tensor(c) if call.cn is None else call.cn
            found.append(replace(call, c0=begin, cn=end))
            begin = end
        return found

    def formula_weights(self, part: Module) -> Cell:
        """Return its weights in float64 for `files.kinds.step`."""
        found, H, G = self.weights(self.tensors(part), fresh), self.module.hidden_size, len(self.module.gates)
        W, U = (found[f"weight_{side}"].reshape(G, H, -1).transpose(0, 2, 1).astype(np.float64) for side in ("ih", "hh"))
        b, b_h = (np.asarray(found.get(f"bias_{side}", np.zeros(G * H)), np.float64).reshape(G, H) for side in ("ih", "hh"))
        assert self.module.convention is not None
        return canonical(Blocks(W, U, b, b_h), self.module.convention)


def set_apart(both: Tensor, beside: str, hidden_size: int) -> tuple[Tensor, Tensor]:
    """Return x and h, which are side by side."""
    at = hidden_size if beside == "hx" else both.shape[-1] - hidden_size
    first, second = both[..., :at], both[..., at:]
    return (first, second) if beside == "xh" else (second, first)


class TogetherParameter:
    """A weight of a hand-written cell as if it were a parameter: what its parameters have for it."""

    def __init__(self, cell: HandwrittenCell, role: str, part: Module) -> None:
        self._cell, self._role, self._part = cell, role, part

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name."""
        names = {block.name for block in self._cell.gradients[self._role]}
        return {n: p for n, p in zip(self._cell.parameters, self._cell.tensors(self._part), strict=True) if n in names}

    @property
    def requires_grad(self) -> bool:
        return all(parameter.requires_grad for parameter in self.parameters.values())

    @property
    def grad(self) -> Tensor | None:
        return self._cell.gradient(self._role, self.parameters)


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors of numbers in nested tuples, lists and dicts, in their order."""
    import torch

    if isinstance(values, torch.Tensor):
        return [values] if values.is_floating_point() else []
    inner = values.values() if isinstance(values, Mapping) else values if isinstance(values, tuple | list) else ()
    return [tensor for value in inner for tensor in tensors_in(value)]


def inputs_of(part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors of a call's arguments, in the order of the signature."""
    return tensors_in(arguments_of(part, args, kwargs)) if kwargs else tensors_in(args)


def arguments_of(part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(inspect.signature(part.forward).bind(*args, **kwargs).arguments)
