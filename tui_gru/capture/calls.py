"""A captured step as data: its calls with their arrays, which come from a pool that is reused, and the calls of a loop joined; and
the tensors of a call, of which they are copies."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, dataclass, field, fields, replace
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from os import PathLike
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from tui_gru.equations import page as equations
from tui_gru.equations.axes import infer_axes
from tui_gru.equations.backward import derive
from tui_gru.equations.syntax import EquationError
from tui_gru.errors import CaptureError, printable
from tui_gru.files.arrays import AnyArray
from tui_gru.files.kinds import Convention

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.nn.utils.rnn import PackedSequence

# ------------------------------------------------------------------------------
# The data of a capture: every GRU call in one step of a training script, and the gradients for the optimizer; and notes about
# pitfalls. Does not need torch.


class Note(StrEnum):
    """A note about a call or a step. `sentence` explains it and says what to do."""

    AUTOCAST = "autocast"
    TF32 = "tf32"
    EVALUATING = "evaluating"
    RECOMPUTED = "recomputed"
    CHANGED_IN_PLACE = "changed in place"
    CHANGED_LATER = "changed later"
    CHANGED_WEIGHTS = "changed weights"
    NO_MASKS = "no masks"
    HEAD_APART = "head apart"
    NOT_UPDATED = "not updated"
    CLEARED = "cleared"
    NOT_CLEARED = "not cleared"
    SCALED_AFTER = "scaled after"
    NOT_IN_OPTIMIZER = "not in optimizer"
    UNSEEN = "unseen"
    LATE = "late"
    CLOSURE = "closure"
    NOT_CAPTURED = "not captured"
    CUT = "cut"
    UNUSED = "unused"
    MEMORY_INSIDE = "memory inside"
    WITH_GRAPH = "with graph"
    READ_BESIDE = "read beside"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


#: What to do if a module is trained and never called.
CALL_IT = "call the module itself, rnn(x), instead of rnn.forward(x), and begin before torch.compile"
_SENTENCES = {
    Note.AUTOCAST: "torch.autocast computed inside of the GRU in half precision; its outputs agree to about 5e-3 only",
    Note.TF32: "the GPU rounded factors of products to TF32, as torch.backends allows for cudnn and matmul; numbers agree to 5e-3",
    Note.EVALUATING: "a module in evaluation mode received a gradient: call .train() before training",
    Note.RECOMPUTED: "checkpointing computed it twice; this is the call that received the gradient",
    Note.CHANGED_IN_PLACE: "the script changed the output in place after the call; shown are the values computed by the GRU",
    Note.CHANGED_LATER: (
        "the script changed x or the output in place after the call, unlike in the steps before: shown are the changed numbers; "
        "from the next step on they are copied before"
    ),
    Note.CHANGED_WEIGHTS: (
        "the script changed weights through .data between two calls of a step; on a GPU that is seen at the end of the step only, "
        "and the weights shown are those of the first of the calls"
    ),
    Note.NO_MASKS: "dropout between layers was drawn on a GPU and cannot be repeated; use the CPU, or dropout 0, to see inside",
    Note.HEAD_APART: "the head read neither the whole output of a GRU nor its last timestep, so its logits are not shown",
    Note.NOT_UPDATED: "the optimizer did not run in this step",
    Note.CLEARED: "the gradients were cleared before the optimizer used them; GradScaler skips such a step",
    Note.MEMORY_INSIDE: "the module returns the last c only: the others are computed here, and nothing else reads them",
    Note.UNUSED: "no optimizer used its gradient, which was cleared before or came after the update",
    Note.NOT_CLEARED: "p.grad was not empty before the backward pass: gradients add up, or zero_grad() is missing",
    Note.SCALED_AFTER: "p.grad was scaled after the optimizer had run: a clip there has no effect; clip before optimizer.step()",
    Note.NOT_IN_OPTIMIZER: "a GRU has parameters that the optimizer does not have: they never change",
    Note.UNSEEN: f"a GRU received a gradient, but no call of it was captured: {CALL_IT}",
    Note.LATE: "a call of an earlier step, whose capture was complete, received a gradient",
    Note.CLOSURE: (
        "the model was run within optimizer.step(closure), as LBFGS, Lightning and skorch do: each run of the closure is a call "
        "here, and p.grad is that of the last one"
    ),
    Note.NOT_CAPTURED: "a call on tensors without own numbers (torch.func, fake, shared among ranks) is not kept",
    Note.WITH_GRAPH: "a backward pass had a graph of its own (create_graph), as for a penalty on a gradient",
    Note.READ_BESIDE: (
        "besides its states, the module returns a tensor that the same weights compute, and the loss reads that: the gradients of "
        "its states do not have what comes to the weights through it, so none is derived; compute it from the states, or from "
        "weights of its own"
    ),
    Note.CUT: "the script stopped inside of this step, or has not ended it: only what it had computed by then is here",
}


@dataclass(frozen=True)
class CellEquations:
    """The equations of a hand-written cell, given by the script or read off its operations: the name and text of their file, the
    shapes of their parameters at the sizes of the cell, and their states, of which the first is the output."""

    name: str
    text: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    states: tuple[str, ...]

    @classmethod
    def of(cls, name: str, text: str, input_size: int, hidden_size: int) -> CellEquations:
        """Read the equations. Raises `CaptureError` if they are invalid, or cannot be those of a captured cell."""
        try:
            cell = equations.read_page(text, name)
            page_with_input = equations.compose(equations.shipped("input", "dense"), cell).page
            axes = infer_axes(page_with_input)
        except EquationError as error:
            raise CaptureError(str(error), option="cell") from None
        sizes, shapes = {"I": input_size, "H": hidden_size, **_inner_sizes(text)}, list[tuple[str, tuple[int, ...]]]()
        for parameter in page_with_input.parameters:
            parts = [axis.split("+") for axis in axes[parameter]]
            unknown = [axis_name for part in parts for axis_name in part if axis_name not in sizes]
            if unknown:
                raise CaptureError(
                    f"{parameter} of {name} has the axis {unknown[0]}; those of a captured cell are I and H, and K with its size, "
                    "as in K10",
                    option="cell",
                )
            shapes.append((parameter, tuple(sum(sizes[axis_name] for axis_name in part) for part in parts)))
        first, *others = cell.states
        if first != cell.output or len(others) > 1:
            raise CaptureError(
                f"the first state of {name} must be its output, {cell.output}, and at most one other may follow", option="cell"
            )
        return cls(name, text, tuple(shapes), (first, *others))

    @property
    def inner_sizes(self) -> dict[str, int]:
        """The axes besides I and H, by the sizes in their names: K10 has 10."""
        return _inner_sizes(self.text)


def _inner_sizes(text: str) -> dict[str, int]:
    return {axis: int(axis[1:]) for axis in re.findall(r"\bK[1-9]\d{0,5}\b", text)}


#: What a script gives as `cell`: the name of a module; or a `.cell` file with its equations, also with the names of the parameters
#: of the module by those in the file.
GivenCell: TypeAlias = "str | PathLike[str] | tuple[str | PathLike[str], Mapping[str, str]]"


@dataclass(frozen=True)
class WrittenCell:
    """The equations of a cell in a file, and the names of the parameters of the module by those in the file, as far as they are
    given; otherwise those that fit: `Wz` fits `W_z`, `cell.Wz.weight` and `wz`; `bz` also the bias of the linear layer `W_z`."""

    name: str
    text: str
    parameters: tuple[str, ...]
    given: Mapping[str, str]
    states: int
    read_off: Any = None  # the `HandwrittenCell` of which these equations were read off, without a file

    @classmethod
    def of(cls, root: Module, cell: GivenCell | None) -> WrittenCell | None:
        """Return the equations that a script gives, None if it names a module or gives none. Raises a `TuiGruError`."""
        path, names = cell if isinstance(cell, tuple | list) and len(cell) == 2 else (cell, dict[str, str]())
        file = os.fspath(path) if isinstance(path, str | PathLike) else ""
        is_file = file.endswith(".cell") and (file != cell or os.path.exists(os.path.expanduser(file)))
        if not isinstance(cell, tuple | list | PathLike) and (not is_file or cell in dict(root.named_modules())):
            return None
        if not is_file or not isinstance(names, Mapping):
            raise CaptureError(
                "it must be the name of a module, a .cell file, or such a file with the names of its parameters in the module, "
                'as in ("mine.cell", {"Wz": "update.weight"})',
                option="cell",
            )
        text, name = equations.read_file(file, "cell"), printable(os.path.basename(file), 60)
        try:
            page = equations.read_page(text, name)
            page_with_input = equations.compose(equations.shipped("input", "dense"), page).page
            derive(
                page_with_input, infer_axes(page_with_input)
            )  # before the training, which an error in its backward pass must not end
        except EquationError as error:
            raise CaptureError(str(error), option="cell") from None
        names_given = {str(key): str(value) for key, value in names.items()}
        return cls(name, text, tuple(page.parameters), names_given, len(page.states))

    def candidates(self, root: Module, others: Mapping[Module, GRUModule]) -> dict[Module, str]:
        """Return the modules whose parameters fit, without those that have one of them inside. Raises `CaptureError` if there is
        none."""
        fitting: dict[Module, str] = {}
        nearest: tuple[int, str, list[str], list[str]] | None = None
        for name, part in root.named_modules():
            _, missing = self.names_in(part)
            if not missing:
                for outer in [module for module in fitting if any(inner is part for inner in module.modules())]:
                    del fitting[outer]
                fitting[part] = name or "cell"
            elif nearest is None or len(missing) < nearest[0]:
                nearest = len(missing), name or type(root).__name__, missing, list(dict(part.named_parameters()))
        if not fitting:
            assert nearest is not None
            _, name, missing, parameters = nearest
            raise CaptureError(
                f"no module has parameters for all of {self.name}: {name} has none for {', '.join(missing)}, but "
                f"{printable(', '.join(parameters), 200) or 'no parameters'}; give the names, as in "
                f'cell=("{self.name}", {{"{missing[0]}": "…"}})',
                option="cell",
            )
        return {part: name for part, name in fitting.items() if part not in others}

    def names_in(self, part: Module) -> tuple[dict[str, str], list[str]]:
        """Return the names of the parameters of a module by those in the file, and those in the file that none fits."""
        parameters = dict(part.named_parameters())
        plain = dict[str, list[str]]()
        for name in parameters:
            *path, last = name.split(".")
            layer = re.sub(r"[^0-9A-Za-z]", "", path[-1]) if path else ""
            plain_name = {"weight": layer, "bias": f"b{layer[1:]}"}.get(last) if layer else None
            plain.setdefault(plain_name or re.sub(r"[^0-9A-Za-z]", "", last), []).append(name)
        matches, missing = dict[str, str](), list[str]()
        for name_in_file in self.parameters:
            if name_in_file in self.given:
                fits = [self.given[name_in_file]] if self.given[name_in_file] in parameters else []
            else:
                fits = plain.get(name_in_file, []) or [
                    name for key in plain if key.lower() == name_in_file.lower() for name in plain[key]
                ]
            if len(fits) == 1:
                matches[name_in_file] = fits[0]
            else:
                missing.append(name_in_file)
        return matches, missing


@dataclass(frozen=True)
class GRUModule:
    """A recurrent module of the script, by its name in the captured module: a torch.nn.GRU, LSTM or RNN, a cell of them, or a
    hand-written cell, whose `kind` is that of the cell of torch that has such weights, in a `convention` of its own, or "Cell" with
    `equations` of its own."""

    name: str
    kind: str  # the name of its class: "GRU", "LSTMCell" …
    input_size: int
    hidden_size: int
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0  # dropout between layers
    nonlinearity: str = "tanh"  # of an RNN of torch, or "relu"
    convention: Convention | None = None  # of a hand-written cell
    written_as: str = ""  # the class of a hand-written cell
    equations: CellEquations | None = None

    @property
    def is_cell(self) -> bool:
        return self.kind.endswith("Cell")

    @property
    def family(self) -> str:
        """ "GRU", "LSTM" or "RNN"; "" of a cell with equations of its own."""
        return self.kind.removesuffix("Cell")

    @property
    def gates(self) -> str:
        """The letters of the blocks of its weights, in torch's order."""
        return {"GRU": "rzn", "LSTM": "ifgo", "RNN": "h", "": ""}[self.family]

    @property
    def states(self) -> int:
        """The number of states of a layer in one direction: h, and c of an LSTM."""
        if self.equations is not None:
            return len(self.equations.states)
        return 2 if self.family == "LSTM" else 1

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def weight_names(self) -> tuple[str, ...]:
        """The names of its weights in torch, in torch's order; or in its own equations."""
        if self.equations is not None:
            return tuple(name for name, _ in self.equations.shapes)
        roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if self.bias else ("weight_ih", "weight_hh")
        return tuple(role + suffix for suffix in self.suffixes for role in roles)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The endings of torch's names, by layer and then by direction: `_l0`, `_l0_reverse` …; empty for a cell."""
        if self.is_cell:
            return ("",)
        return tuple(f"_l{layer}{direction}" for layer in range(self.layers) for direction in ("", "_reverse")[: self.directions])


@dataclass(frozen=True, eq=False)
class WeightSet:
    """The weights that one or more calls used, at the time of the calls.

    `values` has torch's names and shapes, weight_ih_l0 (3H, I). `parameters` maps each weight that is a parameter to the name of
    the parameter, whose gradient is in `CapturedStep.gradients`. `gradients` has the gradients of weights that are computed from
    parameters (weight_norm, a parametrization, functional_call) or gathered by FSDP, as autograd computed them in this process,
    summed over all calls of this set.
    """

    module: GRUModule
    values: Mapping[str, AnyArray]
    parameters: Mapping[str, str] = field(default_factory=dict)
    gradients: Mapping[str, AnyArray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class HeadCall:
    """The linear layer that read the output of a call: logits (T, B, V), their gradient, weight (V, D·H) and bias (V).

    If it read the last timestep only, logits and gradient of the others are 0.
    """

    name: str
    logits: AnyArray
    dlogits: AnyArray | None
    weight: AnyArray
    bias: AnyArray | None


#: Some of the first states of a call, and some of its last ones, by their numbers.
States: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
NO_STATES: States = (), ()


@dataclass(frozen=True, eq=False)
class GRUCall:
    """One call of a recurrent module, time first in any layout of the script; a call of a cell has one timestep.

    The shapes are x (T, B, I), h0 and hn (layers · directions · states, B, H), and out (T, B, directions · H); each layer of
    an LSTM has two states, h and then c. `dout` and `dhn` are the
    gradients of out and hn from outside, None if there were none. `lengths` (B) are the row lengths of a PackedSequence, in the
    script's order of rows, with zeros after the end of a row. `masks` are the dropout masks between layers, (T, B, directions ·
    H), one for each layer but the last. Half precision is converted to float32; `dtype` is the original type.

    Calls that go on from each other are one call; `chunks` has their timesteps, and is empty if each has one. `states` (n, layers ·
    states, B, H) has the states that each of the n calls ended with, and `flows` their gradients, with what comes from the next
    call; `dout` likewise. `keep` (T, B) is 0 where the script detached, set or computed a state, and `states_set` (T, layers ·
    states, B, H) has these states, else 0; both are None if it did so nowhere. `script` (n, layers · states, B, H) has what comes
    back to the states before each call through what the script computes of them for it, as autograd has measured it; for the
    `straight_states`, which it does not compute, it is what is derived. `detached` has the timesteps that begin with states without
    a graph, None if it is not known. Once what comes from the next call is taken out
    (`sequences`), `flows` is None, `script` has T timesteps, and `inner` has what other states than the output get from outside
    between two calls, None if nothing. `cut` has the states that the script detached between two calls while it did not detach
    others: what they get from outside takes out what is derived. It is None if it is not known.
    """

    module: GRUModule
    number: int  # index of the call in the step, in the order of the forward passes
    x: AnyArray
    h0: AnyArray
    out: AnyArray
    hn: AnyArray
    weights: WeightSet
    dout: AnyArray | None = None
    dhn: AnyArray | None = None
    lengths: AnyArray | None = None
    masks: tuple[AnyArray, ...] = ()
    head: HeadCall | None = None
    dtype: str = "float32"
    autocast: str = ""  # the type that torch.autocast computed in; or "tf32", to which a GPU rounded the factors of products
    h0_given: bool = False  # False if the script gave none; h0 is then 0
    h0_attached: bool = False  # True if the gradient continues into the computation of h0
    training: bool = True  # the mode of the module
    dc_through_h: bool = False  # True if the gradient of the last c has the part through h of the same call
    backward_passes: int = 0  # the number of backward passes from which it received a gradient
    notes: tuple[Note, ...] = ()
    keep: AnyArray | None = None
    states_set: AnyArray | None = None
    states: AnyArray | None = None
    flows: AnyArray | None = None
    inner: AnyArray | None = None
    cut: tuple[int, ...] | None = None
    chunks: tuple[int, ...] = ()
    script: AnyArray | None = None
    straight_states: tuple[int, ...] = ()
    detached: tuple[int, ...] | None = None
    # Until the calls that go on from each other are joined:
    without_graph: States = NO_STATES
    follows: int | None = None  # the number of the call that it goes on from
    is_linked: bool = False  # True if the graph of autograd shows that
    is_straight: bool = True  # False if the script computes the states between the two

    @classmethod
    def of(cls, **values: Any) -> GRUCall:
        """Return what the constructor does, without setting each field by itself: a step of a loop has hundreds of calls."""
        call = object.__new__(cls)
        vars(call).update(_DEFAULTS, **values)
        return call

    @property
    def learned(self) -> bool:
        """True if the call received a gradient."""
        return self.dout is not None or self.dhn is not None

    @property
    def counts(self) -> bool:
        """True if the call contributes to the gradients that an optimizer used; one without rows or timesteps does not."""
        return self.learned and bool(self.rows and self.timesteps) and Note.UNUSED not in self.notes

    @property
    def timesteps(self) -> int:
        return len(self.x)

    @property
    def rows(self) -> int:
        return int(self.x.shape[1])


_DEFAULTS = {each.name: each.default for each in fields(GRUCall) if each.default is not MISSING}


@dataclass(frozen=True, eq=False)
class CapturedStep:
    """One step of a training script.

    `gradients` has p.grad of every parameter of the captured GRUs, by the parameter's name in the module, just before the optimizer
    used it, or at the end of the step if there is no optimizer or it did not run. `before` has p.grad before the step's backward
    pass for the parameters for which it was not 0. `settings` has the numeric settings of the optimizer's first group; of several
    optimizers, those of the first that has parameters of a captured module.

    `handed` has what autograd handed to the parameters in the backward passes of the step, by the same names, before it was added
    to p.grad and the script changed it; the array of `gradients` itself if it is the same, None if it is not known. `made_again`
    makes the calls again, and returns the gradients of the parameters by autograd through the modules themselves, in float64 if its
    argument is True; None if they give other outputs. It is None if a call cannot be made again, as in a recording. `shared` has
    the names by which other modules have the same parameters, and `hooked` the parameters that have a hook of the script. `watch`
    has the facts of the steps of a script that goes on, as long as they are watched.
    """

    number: int
    calls: tuple[GRUCall, ...]
    gradients: Mapping[str, AnyArray] = field(default_factory=dict)
    before: Mapping[str, AnyArray] = field(default_factory=dict)
    loss: float | None = None
    updated: bool = False
    settings: Mapping[str, float] = field(default_factory=dict)
    rank: int = 0
    ranks: int = 1
    not_kept: int = 0  # the number of calls that received no gradient, mostly in validation
    notes: tuple[Note, ...] = ()
    handed: Mapping[str, AnyArray] | None = None
    made_again: Callable[[bool], Mapping[str, AnyArray] | None] | None = None
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hooked: tuple[str, ...] = ()
    is_joined: bool = True  # False in recordings of the first versions, in which each call of a loop stands by itself
    watch: Callable[[], Any] | None = None  # a weak reference to a `StepWatch`


def square_of(array: AnyArray) -> float:
    """Return the sum of squares; not finite if an entry is not finite, or if it overflows."""
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):  # in a script, even a warning can be an error
        square = float(np.dot(flat, flat))
    if math.isfinite(square) or flat.dtype == np.float64:
        return square
    with np.errstate(all="ignore"):
        return float(np.square(flat, dtype=np.float64).sum())


def all_entries_finite(array: AnyArray) -> bool:
    """Return True if all entries are finite."""
    return math.isfinite(square_of(array)) or bool(np.isfinite(array).all())


# ------------------------------------------------------------------------------
# A pool of reused arrays. Every step needs the same arrays, and allocating new memory takes longer than the copies.


#: (shape, dtype) -> an uninitialised array
Take: TypeAlias = Callable[[Sequence[int], DTypeLike], AnyArray]

_PAGE = 4096
_SMALL = 1 << 16  # bytes; reusing smaller arrays saves no time


def fresh(shape: Sequence[int], dtype: DTypeLike) -> AnyArray:
    """Return a new array."""
    return np.empty(tuple(shape), dtype)


def _references(buffers: Sequence[AnyArray], i: int) -> int:
    """Return the reference count of an entry: that of `held`, those of all other holders, and what the call adds.

    How many a local variable or a call adds depends on the version of Python, so only counts that come from here are compared.
    """
    return sys.getrefcount(buffers[i])


_UNHELD = _references([np.empty(0)], 0)


class Buffers:
    """A `Take` that reuses its arrays. Reference counts show whether a caller still holds an array."""

    def __init__(self) -> None:
        self._buffers: dict[int, list[AnyArray]] = {}  # by size; within a size, least recently used first

    def __call__(self, shape: Sequence[int], dtype: DTypeLike) -> AnyArray:
        dtype = np.dtype(dtype)
        count = math.prod(shape)
        if count * dtype.itemsize < _SMALL:
            return np.empty(tuple(shape), dtype)
        size = _rounded(count * dtype.itemsize)
        buffers = self._buffers.setdefault(size, [])
        for i in range(len(buffers)):
            if _references(buffers, i) == _UNHELD:
                buffer = buffers.pop(i)
                break
        else:
            self._drop_unheld(size)
            buffer = np.empty(size, np.uint8)
        buffers.append(buffer)
        return buffer[: count * dtype.itemsize].view(dtype).reshape(tuple(shape))

    def _drop_unheld(self, size: int) -> None:
        """Release free arrays if they use more memory than those in use, which means that the sizes have changed."""
        unheld = {
            size_of_list: [i for i in range(len(buffers)) if _references(buffers, i) == _UNHELD]
            for size_of_list, buffers in self._buffers.items()
        }
        free = sum(size_of_list * len(places) for size_of_list, places in unheld.items())
        if 2 * free > self.nbytes + size:
            for size_of_list, places in unheld.items():
                self._buffers[size_of_list] = [buffer for i, buffer in enumerate(self._buffers[size_of_list]) if i not in places]

    @property
    def nbytes(self) -> int:
        """The size of all its arrays in bytes, free and in use."""
        return sum(size * len(buffers) for size, buffers in self._buffers.items())


def _rounded(size: int) -> int:
    """Round up to a multiple of an eighth of the power of two below, so that similar sizes share memory."""
    step = max(_PAGE, 1 << (size.bit_length() - 4))
    return -(-size // step) * step


# ------------------------------------------------------------------------------
# Calls of a module that go on from each other, of one timestep or of several, joined into one call with all their timesteps.


@dataclass(eq=False)
class CallChain:
    """Calls that go on from each other, and for each the rows (B) that begin with the state before it; None if all do."""

    calls: list[GRUCall]
    unchanged: list[AnyArray | None] = field(default_factory=lambda: [None])


def join_calls(calls: Sequence[GRUCall], take: Take = fresh, *, without_links: bool = False) -> tuple[GRUCall, ...]:
    """Return the calls of a step in order, with those that go on from each other joined into one, at the place of the first.

    Which call goes on from which is what the graph of autograd, or else the memory of the states, has shown (`follows`). Only where
    the script has cut both, as by `h.detach().clone()`, the numbers tell it: all of them, of one call that no other goes on from.
    `without_links`: the calls are of a recording that has nothing but numbers.
    """
    follows = {call.number: call.follows for call in calls if call.follows is not None}
    follows |= _copies_without_graph(calls, set(follows.values()))
    chains, by_last = list[CallChain](), dict[int, CallChain]()
    for call in calls:
        chain = by_last.pop(follows[call.number], None) if call.number in follows else None
        if chain is None or not _goes_on(chain.calls[-1], call):
            chains.append(chain := CallChain([call]))
        else:
            chain.calls.append(call)
            chain.unchanged.append(None if call.is_straight else _unchanged_rows(chain.calls[-2], call))
        by_last[call.number] = chain
    return tuple(_one_call(chain, take, without_links=without_links) for chain in chains)


def _copies_without_graph(calls: Sequence[GRUCall], followed: AbstractSet[int]) -> dict[int, int]:
    """Return the calls that begin with a copy, without a graph, of the states with which one other call ended; by their numbers."""
    copies = [call for call in calls if call.follows is None and call.h0_given and not call.is_linked and _says_something(call.h0)]
    if not copies:
        return {}
    ends = dict[bytes, list[GRUCall]]()
    for call in calls:
        if call.number not in followed:
            ends.setdefault(call.hn.tobytes(), []).append(call)
    pairs = dict[int, int]()
    for call in copies:
        alike = [end for end in ends.get(call.h0.tobytes(), ()) if end.number < call.number and _goes_on(end, call)]
        if len(alike) == 1 and alike[0].number not in pairs.values():
            pairs[call.number] = alike[0].number
    return pairs


def _says_something(states: AnyArray) -> bool:
    """Return True if states cannot be equal by chance, as those are that are 0, saturated or not finite."""
    return bool(np.isfinite(states).all()) and len(np.unique(np.abs(states))) > 2


def _unchanged_rows(before: GRUCall, call: GRUCall) -> AnyArray | None:
    """Return the rows (B) of the states that the script has left as they were between two calls; None if all."""
    if before.hn.shape != call.h0.shape:
        return np.zeros(call.rows, bool)
    rows: AnyArray = (before.hn == call.h0).all(axis=(0, 2))
    return None if rows.all() else rows


def _goes_on(before: GRUCall, call: GRUCall) -> bool:
    """Return True if two calls can be one: they had the same weights, and were made in the same way."""
    if call.module.bidirectional or call.hn.shape != before.hn.shape or not (call.timesteps and before.timesteps):
        return False
    if before.lengths is not None or call.lengths is not None:
        return False
    are_chunks = max(*_lengths_in(before), *_lengths_in(call)) > 1
    if are_chunks and (call.dc_through_h or before.dc_through_h):
        return False
    return (call.weights is before.weights and call.rows == before.rows) and (
        (call.dtype, call.autocast, call.training, len(call.masks))
        == (before.dtype, before.autocast, before.training, len(before.masks))
    )


def _one_call(chain: CallChain, take: Take, *, without_links: bool) -> GRUCall:
    """Return the calls of a chain as one call; a single call as it is."""
    run = chain.calls
    first, last, learned = run[0], run[-1], any(call.learned for call in run)
    if len(run) == 1:
        is_plain = first.follows is None and first.is_straight and first.script is None and not first.is_linked
        return (
            first if is_plain else replace(first, follows=None, is_linked=False, is_straight=True, straight_states=(), script=None)
        )
    lengths = [length for call in run for length in _lengths_in(call)]
    starts = np.cumsum([0, *(call.timesteps for call in run[:-1])])
    T = sum(lengths)
    keep: AnyArray = np.ones((T, first.rows), first.x.dtype)
    detached = list[int]()
    for t, call, rows in zip(map(int, starts[1:]), run[1:], chain.unchanged[1:], strict=True):
        # The graph of a call in a checkpoint is in that of its second computation.
        attached = call.is_linked or (call.h0_attached and (without_links or Note.RECOMPUTED in call.notes))
        keep[t] = (1 if rows is None else rows) if attached or not learned else 0
        detached += [] if attached or not learned else [t]
    cut = {
        state
        for before, call in pairwise(run)
        for state in call.without_graph[0]
        if call.h0_attached and state not in before.without_graph[1]  # without a graph of its own, there is nothing to detach
    }
    states_set = None
    if not keep.all():
        begun = np.zeros((T, *first.h0.shape), first.h0.dtype)
        for t, call in zip(starts, run, strict=True):
            begun[t] = call.h0
        states_set = np.where(keep[:, None, :, None], np.zeros((), begun.dtype), begun)
    are_chunks = len(lengths) < T
    computed = [call.straight_states for call in run[1:] if call.is_linked and not call.is_straight]
    joined = replace(
        first,
        x=_in_time((call.x for call in run), first.x, T, take),
        out=_in_time((call.out for call in run), first.out, T, take),
        hn=last.hn,
        masks=tuple(np.concatenate(layer) for layer in zip(*(call.masks for call in run), strict=True)),
        head=_joined_head(run),
        backward_passes=max(call.backward_passes for call in run),
        notes=tuple(dict.fromkeys(note for call in run for note in call.notes)),
        keep=None if states_set is None else keep,
        states_set=states_set,
        cut=tuple(sorted(cut)),
        without_graph=NO_STATES,
        chunks=tuple(lengths) if are_chunks else (),
        straight_states=tuple(sorted(set.intersection(*map(set, computed)))) if computed else (),
        script=None,
        detached=tuple(detached),
        follows=None,
        is_linked=False,
        is_straight=True,
    )
    one_state = len(first.hn) == 1 and not are_chunks
    n = len(lengths)
    states = joined.out[:, None] if one_state else _stack((end for call in run for end in _ends_in(call)), first.hn, n, take)
    if not learned:
        return replace(joined, states=states)
    flows = _stack((flow for call in run for flow in _flows_in(call)), first.hn, n, take)
    dout = _in_time((np.zeros_like(call.out) if call.dout is None else call.dout for call in run), first.out, T, take)
    script = None
    if computed:
        script = np.zeros((n, *first.hn.shape), first.hn.dtype)
        begins = np.cumsum([len(_lengths_in(call)) for call in run[:-1]])
        for k, (before, call) in zip(begins, pairwise(run), strict=True):
            if before.script is not None and call.is_linked and not call.is_straight:
                script[k] = before.script
    return replace(joined, states=states, flows=flows, dout=dout, dhn=last.dhn, script=script)


def _lengths_in(call: GRUCall) -> tuple[int, ...]:
    """Return the timesteps of the calls that one call consists of."""
    return call.chunks or ((1,) * call.timesteps if call.states is not None else (call.timesteps,))


def _ends_in(call: GRUCall) -> Iterable[AnyArray]:
    return [call.hn] if call.states is None else call.states


def _flows_in(call: GRUCall) -> Iterable[AnyArray]:
    if call.flows is not None:
        return call.flows
    zeros = np.zeros_like(call.hn)
    return [zeros if call.dhn is None else call.dhn] if call.states is None else [zeros] * len(call.states)


def _in_time(arrays: Iterable[AnyArray], like: AnyArray, timesteps: int, take: Take) -> AnyArray:
    """Return arrays (T, …) one after the other."""
    together = take((timesteps, *like.shape[1:]), like.dtype)
    np.concatenate(list(arrays), out=together)
    return together


def _stack(arrays: Iterable[AnyArray], like: AnyArray, count: int, take: Take) -> AnyArray:
    stacked = take((count, *like.shape), like.dtype)
    np.stack(list(arrays), out=stacked)
    return stacked


def _joined_head(run: Sequence[GRUCall]) -> HeadCall | None:
    heads = [call.head for call in run if call.head is not None]
    if len(heads) < len(run) or any(not np.array_equal(head.weight, heads[0].weight) for head in heads):
        return None
    dlogits = [np.zeros_like(head.logits) if head.dlogits is None else head.dlogits for head in heads]
    return replace(heads[0], logits=np.concatenate([head.logits for head in heads]), dlogits=np.concatenate(dlogits))


# ------------------------------------------------------------------------------
# The tensors of a call as its hook receives them, and their conversion to arrays, time first: from batch first, without a batch,
# or packed sequences.


SMALL = 1 << 14  # entries; memory for larger arrays is worth reusing
MOST_UNDERWAY = 1 << 28  # bytes of pinned memory; then a copy waits for those before it


def reading_waits(tensor: Tensor) -> bool:
    """Return True if Python waits for a device to finish when it reads a number of a tensor."""
    return not tensor.is_cpu


def begin_copy(tensor: Tensor, dtype: Any) -> tuple[AnyArray, Any] | None:
    """Let a device begin to copy a tensor, converted to a type. Return the array, and the event after which the numbers are in it;
    None for a device that is not known to do this.

    The copy comes in turn with what the script computes on the same stream, so nothing can change the tensor before.
    """
    import torch

    if tensor.device.type != "cuda":
        return None
    if torch.cuda.is_current_stream_capturing():  # the graph would have the copy, and nothing would come
        raise RuntimeError("a CUDA graph is captured")
    array = torch.empty(tensor.shape, dtype=dtype, pin_memory=True)
    array.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(tensor.device))
    return array.numpy(), event


class Copies:
    """The copies that devices are making while the script goes on. Whatever reads their numbers waits for them first, or is done
    by `then`."""

    def __init__(self) -> None:
        self._events = list[Any]()
        self._actions = list[Callable[[], object]]()
        self._bytes = 0
        self._lock = RLock()  # the backward pass has threads of its own

    def begin(self, tensor: Tensor, dtype: Any) -> AnyArray | None:
        """Begin to copy a tensor of a device; return its array, or None if it must be copied at once."""
        with self._lock:
            if self._bytes > MOST_UNDERWAY or (self._actions and all(event.query() for event in self._events)):
                self.wait()
            if (begun := begin_copy(tensor, dtype)) is None:
                return None
            array, event = begun
            self._events.append(event)
            self._bytes += array.nbytes
            return array

    def then(self, action: Callable[[], object]) -> None:
        """Call `action` as soon as all copies that have begun are complete: now, or when somebody waits."""
        with self._lock:
            if self._events:
                self._actions.append(action)
            else:
                action()

    def wait(self) -> None:
        """Wait until all copies are complete, those too that begin while their numbers are looked at."""
        with self._lock:
            while self._events or self._actions:
                events, self._events, self._bytes = self._events, [], 0
                actions, self._actions = self._actions, []
                for event in events:
                    event.synchronize()
                for action in actions:
                    action()


COPIES = Copies()


def to_array(tensor: Tensor, take: Take) -> AnyArray:
    """Return a copy of the numbers. Float64 is unchanged; everything else becomes float32, which represents half precision
    exactly. Those of a device are in it after `COPIES.wait()`."""
    import torch

    tensor = tensor.detach()
    if reading_waits(tensor):
        begun = COPIES.begin(tensor, torch.float64 if tensor.dtype == torch.float64 else torch.float32)
        if begun is not None:
            return begun
    if tensor.is_cpu and tensor.dtype in (torch.float32, torch.float64) and tensor.numel() < SMALL:
        # A copy by torch takes half the time of one into an array. The tensor itself must not become an array: FSDP frees weights
        # by resizing their memory, which torch refuses once NumPy has it.
        return tensor.clone(memory_format=torch.contiguous_format).numpy()
    array = take(tensor.shape, np.float64 if tensor.dtype == torch.float64 else np.float32)
    torch.from_numpy(array).copy_(tensor)
    return array


def in_float64(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU in float64. It is moved first, since not every device has this type (MPS)."""
    return tensor.detach().cpu().double()


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


@dataclass(frozen=True)
class Looped(Padded):
    """The sequences of a module that loops over the timesteps itself: its states are (B, H) or (1, B, H)."""

    def state(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the state (1, B, H)."""
        return to_array(tensor.reshape(1, *tensor.shape[-2:]), take)


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

        def put() -> None:
            array[self._places] = data

        COPIES.then(put)
        return array

    def state(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return a state (layers · directions, B, H), which is already in the script's order of rows."""
        return to_array(tensor, take)


def packed_layout(sequence: PackedSequence) -> Packed:
    """Return the layout of a PackedSequence."""
    sizes = sequence.batch_sizes.numpy().astype(np.int64)
    order = sequence.sorted_indices
    if order is None:
        return Packed(sizes, np.arange(int(sizes[0])))
    begun = COPIES.begin(order, order.dtype) if reading_waits(order) else None
    return Packed(sizes, order.cpu().numpy().astype(np.int64) if begun is None else begun)


@dataclass(frozen=True, eq=False)
class Seen:
    """The tensors of a call. For a PackedSequence, `x` and `out` are its data, and `layout` is `Packed`."""

    x: Tensor
    h0: Tensor | None
    out: Tensor
    hn: Tensor
    layout: Padded | Packed
    c0: Tensor | None = None
    cn: Tensor | None = None
    memory_inside: bool = False  # True if c is computed here, since the module returns that of its last timestep only
    out_has_hn: bool = False  # True if the output was put together from hn and others, so that the gradient of hn has that of it

    @property
    def has_graph(self) -> bool:
        """True if the call can receive a gradient."""
        return any(end is not None and end.requires_grad for end in (self.out, self.hn, self.cn))

    @property
    def is_attached(self) -> bool:
        """True if the gradient goes on into the computation of a first state. One of two states can have none to go on with: in the
        first timestep, no weight may compute it yet."""
        return any(state is not None and state.requires_grad for state in (self.h0, self.c0))

    @property
    def without_graph(self) -> States:
        """The first states and the last states without a graph, as numbers among h and c; none of a call with one state."""
        if self.cn is None:
            return NO_STATES
        pairs = (self.h0, self.c0), (self.hn, self.cn)
        begins, ends = (tuple(i for i, s in enumerate(pair) if s is None or not s.requires_grad) for pair in pairs)
        return begins, ends


def can_be_copied(tensor: Tensor) -> bool:
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
    states = args[1] if len(args) > 1 else kwargs.get("hx")
    h0, c0 = states if module.states == 2 and states is not None else (states, None)
    if module.is_cell:
        last = output
        out = last[0] if module.states == 2 and type(last) is tuple else last
    elif type(output) is tuple and len(output) == 2:
        out, last = output
    else:
        return None
    hn, cn = last if module.states == 2 and type(last) is tuple and len(last) == 2 else (last, None)
    if module.states == 2 and cn is None and not module.is_cell:
        return None
    if isinstance(x, PackedSequence) and isinstance(out, PackedSequence):
        return Seen(x.data, h0, out.data, hn, packed_layout(x), c0, cn)
    if not (isinstance(x, torch.Tensor) and isinstance(out, torch.Tensor) and isinstance(hn, torch.Tensor)):
        return None
    if module.is_cell:
        layout: Padded = OneTimestep(no_batch=out.dim() == 1)
    else:
        layout = Padded("no batch" if out.dim() == 2 else "batch first" if module.batch_first else "")
    return Seen(x, h0, out, hn, layout, c0, cn)
