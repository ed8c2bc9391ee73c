"""Facts of the watched steps of a training: what the optimizer uses, which parameters move, what the loss is, what is read.

A fact is a number, a name or a shape that was measured; what it means is said elsewhere (`analysis/causes.py`). Four steps at the
beginning and two of twenty later are watched, fewer in a long run, and in between there is not one hook.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tui_gru.capture.call_tensors import is_scripted, tensors_in
from tui_gru.capture.criterion import (
    CriterionFacts,
    RecurrentCall,
    Tape,
    TapeMode,
    criterion_facts,
    linear_gradient_kind,
    time_axis_of,
)
from tui_gru.capture.pending import WeakHook, harmless, is_within_optimizer_hook, remove_from_optimizers, report_failure
from tui_gru.capture.relations import (
    AxisFacts,
    RowMemory,
    SuccessorFacts,
    TextFacts,
    TextMemory,
    clip_in_source,
    flat_share,
    mark_of_missing,
    script_frame,
)
from tui_gru.errors import ModelFileError, printable

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer

FIRST_WATCHED = 4  # steps at the beginning
WATCHED_OF, WATCHED_PERIOD = 2, 20  # steps that follow each other, of so many
_STRIDE = 7  # by which the place of the watched steps in a period moves on
EARLY, LATE_PERIOD = 400, 200  # steps after which fewer are watched, and of how many
MOST_NAMES = 8  # of parameters in a fact
MOST_COPIED = 2**26  # bytes of the parameters at the start, with which it is seen that one never moves
MOST_FACTS, FIRST_FACTS = 18, 4  # watched steps that are remembered, and the first ones among them
MOST_PASSED = 64  # calls of a module in one step of which it is seen whether the state is passed on
MOST_TOKENS = 512  # different tokens of a step whose vectors are compared
MOST_ROWS = 200  # parameters in the table of a step
MOST_COUNTS = 8  # values of a target, or tokens of an input, that are counted
MOST_SORTED = 2**18  # numbers of a tensor whose different values are counted
MOST_TARGETS = 3  # of a step
MOST_PATH = 12  # last calls by which a loss is computed
MOST_STEPS_WITHOUT_UPDATE = 64  # that one watched window may last, as where gradients are accumulated
_ONE_FACTOR = 1e-5  # relative rest up to which float32 numbers are multiples of others: some hundred roundings
_HIDDEN_OPTIONS = ("params", "foreach", "capturable", "differentiable", "fused")

# ------------------------------------------------------------------------------
# The facts, as they are recorded.


@dataclass(frozen=True)
class UpdateFacts:
    """A step() of an optimizer. `parameters` counts those of the model among its own; `passes` the backward passes since its
    last step(). `norm` is that of p.grad when the optimizer used it, `handed` that of the sum of what autograd handed to the
    same parameters since, and `last` that of the last pass alone; the cosines are those of p.grad with both. `stale`: p.grad
    less what was handed is bit for bit the p.grad that the step before has used. `emptied` has parameters whose gradient was
    taken away. `settings` are those of all groups with parameters of the model, of different ones the largest. `rescaled` is the
    factor of p.grad at the end of the step to what the optimizer has used, None if it is another, or not known. `training` says
    whether the model was in training mode. `still` is the share of the entries with a gradient that step() has left bit for bit as
    they were, None if that is not known. `clip` says where the script clips, if its order of calls leaves the clip without effect,
    and `line` in which line."""

    optimizer: int
    kind: str
    parameters: int
    passes: int
    begins: bool
    closure: bool
    settings: Mapping[str, float]
    norm: float = 0.0
    handed: float = 0.0
    last: float = 0.0
    cosine: float = 0.0
    cosine_of_last: float = 0.0
    stale: bool = False
    emptied: tuple[str, ...] = ()
    rescaled: float | None = None
    training: bool = True
    still: float | None = None
    clip: str = ""
    line: int = 0


@dataclass(frozen=True)
class OutsideFacts:
    """How the weights differ at the beginning of a step from those that the last step() left: the number of `changed` entries of
    `total`, and the shares of those that are numbers of 16 bits, or back at their value before the update. `distance` is the
    norm of the change over that of the weights. `at_start`: all are those of the beginning."""

    changed: int
    total: int
    sixteen_bits: float
    back: float
    distance: float
    at_start: bool


@dataclass(frozen=True)
class InputFacts:
    """An input of the model: token ids or numbers. `same` says that it is bit for bit that of the watched step before, and `share`
    which part of its storage it is. `random`: it is drawn in the step itself. `slices` has, for each of the first two axes, how
    many slices along it there are, and how many of them are different; `counts` the most frequent tokens. `rows_alike`: all rows of
    the batch are equal, and not all timesteps."""

    tokens: bool
    shape: tuple[int, ...]
    not_finite: int
    features_not_finite: tuple[int, ...]
    random: bool
    zero: bool
    constant: bool
    mean: float
    deviation: float
    largest_offset: float
    same: bool
    share: float
    first: float = 0.0
    dtype: str = ""
    low: float = math.nan
    high: float = math.nan
    zeros: float = math.nan
    slices: tuple[tuple[int, int], ...] = ()
    counts: tuple[tuple[float, int], ...] = ()
    distinct: int = 0
    rows_alike: bool = False


@dataclass(frozen=True)
class TargetFacts:
    """What a loss compares the output with: a tensor without a gradient that the function `read_by` of the loss reads. `counts` has
    the most frequent values, each with how often it occurs, of `distinct` different ones (0: not counted); `ignored` counts the
    entries that the criterion leaves out. `same`: it is bit for bit that of the watched step before."""

    read_by: str
    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float
    deviation: float
    not_finite: int
    zeros: float
    distinct: int
    counts: tuple[tuple[float, int], ...]
    ignored: int
    same: bool


@dataclass(frozen=True)
class ParameterRow:
    """One parameter in one step. `gradient` is the norm of p.grad that the optimizer has used, None without one; `optimizer` and
    `group` count from 0, None if it is in no optimizer that ran; `size` is the norm of the parameter, `update` that of its change
    by step() over it, and `moved` that of its change since the first step over its norm there. None: not measured."""

    name: str
    shape: tuple[int, ...]
    trains: bool
    gradient: float | None
    optimizer: int | None
    group: int | None
    rate: float | None
    decay: float | None
    size: float | None
    update: float | None
    moved: float | None


@dataclass(frozen=True)
class StateFacts:
    """How a recurrent module is called in a step. `carried`: it begins with the last states of the step before, bit for bit;
    `swapped`: with these in exchanged places. Each is None where it begins with none, or the step before was not watched. `passed`
    counts the calls that begin with the very states with which the call before them in the step has ended, and `passed_in_graph`
    those of them through which a gradient flows. `continued` is the share of rows whose first input is the last target of the same
    row one step before, None if not known. `repeated` counts the calls of one timestep that begin with the state of the call before
    them, not with what that has returned. `flat` is the share of gates and states that the input alone brings into the flat part of
    their functions, None if it is not known; `missing` a number far outside of all others that a feature has again and again, its
    share, and the largest other one. `following` says how rows followed each other while the state was carried on. `shape`
    is that of the first input, as the module reads it."""

    module: str
    calls: int
    timesteps: int
    begins: bool
    random: bool
    size: float
    in_graph: bool
    carried: bool | None
    swapped: bool | None
    continued: float | None
    read_size: float
    passed: int = 0
    passed_in_graph: int = 0
    repeated: int = 0
    shape: tuple[int, ...] = ()
    batch_first: bool = False
    flat: float | None = None
    missing: tuple[float, float, float] | None = None
    following: SuccessorFacts | None = None
    bidirectional: bool = False


@dataclass(frozen=True)
class ParameterFacts:
    """The parameters of the model over all watched steps up to one. The names are the first few; `cut` has recurrent modules
    none of whose parameters got a gradient, with False if their output had no graph. `copies` are those all of whose units have
    the same weights. `alike_tokens`: how many of the different tokens that are read in the step have one and the same vector.
    `replaced`: the parameters in no optimizer are as many, and of the same shapes, as this number of tensors of the optimizers that
    the model does not have and that never had a gradient; otherwise 0."""

    total: int
    reached: int
    always_zero: tuple[str, ...]
    always_zero_count: int
    in_no_optimizer: tuple[str, ...]
    in_no_optimizer_count: int
    unmoved: tuple[str, ...]
    unmoved_count: int
    unmoved_rate: float | None
    frozen: tuple[str, ...]
    cut: Mapping[str, bool]
    strange: tuple[tuple[int, ...], ...]
    equal: tuple[str, ...]
    equal_value: float
    dropout: Mapping[str, float]
    embedded_count: int
    copies: tuple[str, ...] = ()
    alike_tokens: tuple[int, int] = (0, 0)
    replaced: int = 0


@dataclass(frozen=True)
class StepFacts:
    """The facts of one watched step. `backward` says that a gradient arrived. `path` has the last calls of the script by which the
    loss is computed, each with its name and the shapes that it reads and returns; `table` the parameters, of which `rows_left_out`
    are left out; it is empty in some steps. `lost` are the calls of the criterion on predictions of one shape, and how many of them
    backward() has reached. `constant_nan` has the shape of a constant of the loss with NaN, and how many; `text` what neighbours in
    the tokens of all steps tell about each other."""

    number: int
    loss: float | None
    backward: bool
    updates: tuple[UpdateFacts, ...] = ()
    outside: OutsideFacts | None = None
    criterion: CriterionFacts | None = None
    linear: tuple[str, float] | None = None
    inputs: tuple[InputFacts, ...] = ()
    states: tuple[StateFacts, ...] = ()
    parameters: ParameterFacts | None = None
    evaluating: tuple[str, ...] = ()
    viewed: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    broadcast: tuple[tuple[int, ...], ...] | None = None
    taped: bool = False
    targets: tuple[TargetFacts, ...] = ()
    path: tuple[tuple[str, tuple[tuple[int, ...], ...], tuple[int, ...]], ...] = ()
    table: tuple[ParameterRow, ...] = ()
    rows_left_out: int = 0
    axes: tuple[AxisFacts, ...] = ()
    lost: tuple[int, int] = (0, 0)
    constant_nan: tuple[tuple[int, ...], int] | None = None
    text: TextFacts | None = None

    def encoded(self) -> dict[str, Any]:
        """Return it as a JSON object; numbers that are not finite become strings."""
        encoded: dict[str, Any] = _plain(asdict(self))
        encoded["table"] = [list(row.values()) for row in encoded["table"]]  # of a long run, most of its lines
        return encoded

    @classmethod
    def decoded(cls, entry: Any) -> StepFacts:
        """Return what `encoded` gave. Raises `ModelFileError`."""
        try:
            step: StepFacts = _record(cls, entry)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ModelFileError(f"the facts of a step are damaged ({printable(error, 60)})") from None
        return step


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


_INNER: Mapping[str, type] = {
    "updates": UpdateFacts, "outside": OutsideFacts, "criterion": CriterionFacts, "inputs": InputFacts, "states": StateFacts,
    "parameters": ParameterFacts, "targets": TargetFacts, "table": ParameterRow,
    "axes": AxisFacts, "text": TextFacts, "following": SuccessorFacts,
}  # fmt: skip
_Record = TypeVar("_Record")


def _record(kind: type[_Record], entry: Mapping[str, Any] | Sequence[Any]) -> _Record:
    names = {item.name: None for item in fields(kind)}  # type: ignore[arg-type]
    if isinstance(entry, list) and len(entry) == len(names):
        entry = dict(zip(names, entry, strict=True))
    if not isinstance(entry, dict) or not entry.keys() <= names.keys():
        raise ValueError("an unknown entry")
    values: dict[str, Any] = {}
    for name, value in entry.items():
        inner = _INNER.get(name)
        if inner is not None and isinstance(value, list):
            values[name] = tuple(_record(inner, one) for one in value)
        elif inner is not None and isinstance(value, dict):
            values[name] = _record(inner, value)
        else:
            values[name] = _deep(value)
    return kind(**values)


def _deep(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_deep, value))
    if isinstance(value, dict):
        return {key: _deep(inner) for key, inner in value.items()}
    return float(value) if value in ("nan", "inf", "-inf") else value


class FactMemory:
    """The facts of the watched steps of a run: all first ones, and the latest."""

    def __init__(self) -> None:
        self._steps: list[StepFacts] = []
        self._new: list[StepFacts] = []

    def add(self, step: StepFacts) -> None:
        """Add a step."""
        self._steps.append(step)
        self._new = [*self._new, step][-MOST_FACTS:]
        if len(self._steps) > MOST_FACTS:
            del self._steps[FIRST_FACTS]

    @property
    def steps(self) -> tuple[StepFacts, ...]:
        """The steps that are remembered, in order."""
        return tuple(self._steps)

    def new(self) -> list[StepFacts]:
        """Return the steps that were added since the last call."""
        new, self._new = self._new, []
        return new


# ------------------------------------------------------------------------------
# Watching.


def _unseen_by_modes(action: Callable[..., None]) -> Callable[..., None]:
    """Return a hook whose own operations no mode of torch's functions sees, such as that in which a capture reads the operations of
    a module."""

    @wraps(action)
    def hook(*args: Any) -> None:
        import torch

        with torch._C.DisableTorchFunction():
            action(*args)

    return hook


@dataclass(eq=False)
class _Handed:
    """What autograd has handed to a parameter since its optimizer's last step(): the sum, and that of the last pass."""

    total: Tensor
    last: Tensor
    last_pass: int


@dataclass(eq=False)
class _OpenStep:
    """What is collected of a watched step."""

    number: int
    updates: list[UpdateFacts] = field(default_factory=list)
    outside: OutsideFacts | None = None
    gradients: dict[Tensor, float] = field(default_factory=dict)  # the norms of p.grad before step()
    changes: dict[Tensor, float] = field(default_factory=dict)  # by step(), over the norm of the parameter before


class StepWatch:
    """Watches training steps from the beginning to `close`. A step ends with `end_step`; while `implicit`, also where the model is
    called after an optimizer has run.

    `hook_calls` and `unhook` are those of `capture/hooks.py`. `keeps_tapes`: the calls of the last steps are remembered, which it
    takes to compute them again (`tapes`); `all_steps`: each step is watched. Nothing in the script changes, and no error comes into
    it.
    """

    MOST_TAPES = 14

    def __init__(
        self,
        module: Module,
        optimizers: Sequence[Optimizer],
        hook_calls: Callable[..., list[Any]],
        unhook: Callable[..., None],
        *,
        keeps_tapes: bool = False,
        all_steps: bool = False,
    ) -> None:
        self.module, self.optimizers, self._keeps = module, tuple(optimizers), keeps_tapes
        self._hook_calls, self._unhook = hook_calls, unhook
        self._all, self.implicit = all_steps, True
        self.memory, self.tapes, self.count = FactMemory(), list[Tape](), 0
        self.names = {part: name or type(part).__name__ for name, part in module.named_modules()}
        self.parameters = {parameter: name for name, parameter in module.named_parameters()}
        size = sum(parameter.numel() * parameter.element_size() for parameter in self.parameters)
        plain = all(type(parameter).__name__ != "DTensor" and parameter.numel() for parameter in self.parameters)
        self._copies = plain and size <= MOST_COPIED
        self.start: dict[Tensor, Tensor] = {}  # the parameters before the first watched call
        self.start_state: dict[str, Tensor] = {}
        self._tapes_allowed = plain and not any(_is_compiled(part) for part in self.names)
        self._mode = TapeMode() if self._tapes_allowed else None
        self._registered = frozenset(map(id, self.parameters))
        self._handles, self._of_calls, self._of_optimizers = list[Any](), list[Any](), list[Any]()
        self._watching = False
        self._window = 0  # steps since the watched window began
        self._handed: dict[Tensor, _Handed] = {}
        self._passes, self._arrived = 0, False
        self._base: dict[int, int] = {}
        self._last_used: dict[Tensor, Tensor] = {}
        self._left: dict[Tensor, Tensor] | None = None  # the weights that the last step() left
        self._before: dict[Tensor, Tensor] = {}  # and those before it
        self._reached, self._nonzero, self._in_optimizer = set["Tensor"](), set["Tensor"](), set["Tensor"]()
        self._above_rounding = set["Tensor"]()
        self._seen_optimizers: dict[int, Optimizer] = {}
        self._in_any: set[int] = set()  # ids of all parameters of the optimizers that step
        self._not_of_model: dict[int, tuple[int, ...]] = {}  # shapes of those without a gradient that the model does not have
        self._trained_elsewhere: set[int] = set()
        self._emptied = list[str]()
        self._ends: tuple[int, dict[Module, list[Tensor]], tuple[Tensor, Tensor] | None] = (-2, {}, None)
        self._last_inputs, self._last_targets = list["Tensor"](), list["Tensor"]()
        self._cut: dict[str, bool] = {}
        self._called = set["Module"]()
        self._strange: tuple[tuple[int, ...], ...] = ()
        self._open = _OpenStep(0)
        self._rows, self._text = dict["Module", RowMemory](), TextMemory()
        self._clips = dict[Any, tuple[str, int] | None]()
        self.closed = False
        self.begin()

    def optimizers_that_step(self) -> list[Optimizer]:
        """Return the optimizers of the model that have run, in the order of their first step()."""
        ours = set(self.parameters)
        return [o for o in self._seen_optimizers.values() if any(p in ours for group in o.param_groups for p in group["params"])]

    # The watched window

    def begin(self) -> None:
        """Begin to watch, if the step that begins is to be watched."""
        if self.closed or self._watching or not self._is_watched(self.count) or any(p.is_meta for p in self.parameters):
            return  # on the meta device there are no numbers
        self._watching, self._window, self._open, self._arrived = True, 0, _OpenStep(self.count), False
        self._handed, self._last_used, self._left, self._before = {}, {}, None, {}
        self._base = dict.fromkeys(self._base, self._passes)  # what came since the last window is not known
        for part in self.names:
            if is_scripted(part):  # TorchScript takes no hooks
                continue
            self._of_calls += self._hook_calls(part, self._before_call, self._after_call)
        for parameter in self.parameters:
            if parameter.requires_grad and parameter.is_leaf:
                hook = _Arrival(weakref.ref(self), parameter)
                self._handles.append(parameter.register_hook(hook))  # type: ignore[no-untyped-call]
        self._begin_tape()

    def _is_watched(self, number: int) -> bool:
        """Return True for the first steps, and for some of each period, which begin at another place of it each time: else an epoch
        that is as long would always be watched in the same batches."""
        period = WATCHED_PERIOD if number < EARLY else LATE_PERIOD
        return self._all or number < FIRST_WATCHED or 0 <= number % period - _begins(number, period) < WATCHED_OF

    def _watch_optimizers(self) -> None:
        """Register hooks on all optimizers, once the script has loaded them: to load them here would take a second."""
        module = sys.modules.get("torch.optim.optimizer")
        if module is not None and not self._of_optimizers and not is_within_optimizer_hook():
            remove_from_optimizers([])
            before, after = WeakHook(self._before_update), WeakHook(self._after_update)
            self._of_optimizers = [
                module.register_optimizer_step_pre_hook(before),
                module.register_optimizer_step_post_hook(after),
            ]

    def _begin_tape(self) -> None:
        self._watch_optimizers()
        if self._mode is not None:
            self._mode.tape, self._mode.depth, self._mode.arrived = Tape(), 0, False
            self._mode.registered = self._registered if self.count < FIRST_WATCHED or self._all else None
            if self.count:  # in the first step, when the model is called: before that, the script may still compile it
                self._mode.enter()

    def _stop(self) -> None:
        if self._mode is not None:
            self._mode.leave()
        self._unhook(self.names, self._of_calls)
        for handle in self._handles:
            handle.remove()
        remove_from_optimizers(self._of_optimizers)
        self._handles, self._of_calls, self._of_optimizers, self._watching = [], [], [], False
        self._handed, self._last_used, self._left, self._before = {}, {}, None, {}
        self._ends = -2, {}, None
        if self._mode is not None:
            self._mode.tape = Tape()  # which holds what the script may have given up

    def close(self) -> None:
        """Stop, and remove all hooks."""
        self._stop()
        self.closed = True

    def end_step(self, loss: float | None) -> StepFacts | None:
        """End a step, and return its facts; None if it was not watched."""
        if self.closed:
            return None
        facts = None
        try:
            if self._watching:
                facts = self._facts(loss)
                if facts is not None:
                    self.memory.add(facts)
        except Exception as error:  # of the script's own tensors: the training goes on
            report_failure(error)
        updated = bool(self._open.updates)
        self.count += 1
        self._window += 1
        if self._watching:
            goes_on = self._is_watched(self.count) or not (updated or self._window > MOST_STEPS_WITHOUT_UPDATE or self._all)
            if goes_on:
                self._open, self._arrived = _OpenStep(self.count), False
                self._begin_tape()
            else:
                self._stop()
        else:
            self.begin()
        return facts

    # Hooks

    @harmless
    @_unseen_by_modes
    def _before_call(self, part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._copies and not self.start:  # not when the watch begins: a script may load its weights after that
            self.start = {p: p.detach().clone() for p in self.parameters}
        if self._keeps and not self.start_state:
            self.start_state = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self._called.add(part)
        if self._mode is None:
            self._watch_optimizers()
            return
        if self._mode.depth == 0:
            if self.implicit and self._open.updates and not _in_backward():
                self.end_step(None if self._mode.tape.root is None else _number(self._mode.tape.root))
            if self._left is not None:
                self._open.outside = self._compare_with_left()
            self._watch_optimizers()
            if not _in_backward():
                self._mode.arrived = False  # another pass begins
            if self._mode.tape.root is None and not _in_backward():
                self._mode.tape.begin_call(part, args, kwargs)
                self._mode.enter()
        self._mode.depth += 1

    @harmless
    @_unseen_by_modes
    def _after_call(self, part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        if self._mode is None:
            return
        self._mode.depth = max(0, self._mode.depth - 1)
        if output is None:  # it has raised
            return
        if (self._mode.entered or self._mode.tape.root is None) and not _in_backward():
            self._mode.note_module(part, args, kwargs, output)

    def arrive(self, parameter: Tensor, gradient: Tensor) -> None:
        """Add what autograd hands to a parameter."""
        import torch

        if not self._arrived:
            self._arrived = True
            if self._mode is not None:
                self._mode.arrived = True
        this_pass = torch._C._current_graph_task_id()
        if this_pass != getattr(self, "_this_pass", None):
            self._this_pass = this_pass
            self._passes += 1
        if gradient.is_sparse:
            gradient = gradient.to_dense()
        gradient = gradient.detach()
        if not self._copies:
            pass  # of a large model, only what arrives is noted
        elif (handed := self._handed.get(parameter)) is None:
            self._handed[parameter] = _Handed(gradient.clone(), gradient, self._passes)
        else:
            last = handed.last + gradient if handed.last_pass == self._passes else gradient
            self._handed[parameter] = _Handed(handed.total + gradient, last, self._passes)
        self._reached.add(parameter)
        if parameter not in self._nonzero and bool((gradient != 0).any()):
            self._nonzero.add(parameter)
        if parameter not in self._above_rounding and parameter.numel():
            # One that is 0 but for rounding, as along the length of a normed weight, moves nothing.
            largest, size = float(gradient.abs().max()), float(parameter.detach().abs().max())
            if largest > math.sqrt(torch.finfo(gradient.dtype).eps) * size:
                self._above_rounding.add(parameter)

    @harmless
    def _before_update(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._mode is not None and self._mode.tape.root is not None:
            self._mode.leave()  # the loss is on the tape
        self._in_any |= {id(p) for group in optimizer.param_groups for p in group["params"]}
        ours = [p for group in optimizer.param_groups for p in group["params"] if p in self.parameters]
        if not ours and not any(optimizer is one for one in self.optimizers):
            return
        leaves = set() if self._mode is None else {id(leaf) for leaf in self._mode.tape.leaves}
        if not ours and any(id(p) in leaves for group in optimizer.param_groups for p in group["params"]):
            return  # the script computes the model with other weights, as by functional_call, and trains these
        others = [p for group in optimizer.param_groups for p in group["params"] if p not in self.parameters]
        self._trained_elsewhere |= {id(p) for p in others if p.grad is not None}
        self._not_of_model |= {id(p): tuple(p.shape) for p in others if ours}
        key = id(optimizer)
        begins = not optimizer.state
        new = key not in self._seen_optimizers
        self._seen_optimizers[key] = optimizer
        self._in_optimizer |= set(ours)
        base = self._base.get(key, max(self._base.values(), default=0) if new and begins else 0)
        emptied = [p for p in ours if p.grad is None and p in self._handed]
        groups = [group for group in optimizer.param_groups if any(p in self.parameters for p in group["params"])]
        settings = _settings_of(groups or optimizer.param_groups)
        closure = bool(args[1:] or kwargs.get("closure")) if args and args[0] is optimizer else bool(args or kwargs.get("closure"))
        norms = self._compare_gradients(ours)
        order = list(self._seen_optimizers).index(key)
        self._open.updates.append(
            UpdateFacts(
                order, type(optimizer).__name__, len(ours), self._passes - base, begins, closure, settings, *norms,
                emptied=tuple(self.parameters[p] for p in emptied[:MOST_NAMES]), training=self.module.training,
            )
        )  # fmt: skip
        self._note_clip()
        self._emptied += [self.parameters[p] for p in emptied]
        self._open.gradients |= {p: _norm(p.grad) for p in ours if p.grad is not None}
        self._last_used = {p: v for p, v in self._last_used.items() if p not in set(ours)}
        if self._copies:
            self._last_used |= {p: p.grad.detach().clone() for p in ours if p.grad is not None and not p.grad.is_sparse}
            self._before = {p: p.detach().clone() for p in ours}

    def _note_clip(self) -> None:
        """Note where the function that calls step() clips, if that has no effect there. It is looked up once for each place."""
        if (caller := script_frame(sys._getframe())) is None:
            return
        key = caller.f_code, caller.f_lasti
        if key not in self._clips:
            self._clips[key] = clip_in_source(caller)
        if (clip := self._clips[key]) is not None:
            self._open.updates[-1] = replace(self._open.updates[-1], clip=clip[0], line=clip[1])

    def _compare_gradients(self, ours: Sequence[Tensor]) -> tuple[float, float, float, float, float, bool]:
        """Return the norms of p.grad, of what was handed, of the last pass; the cosines of p.grad with both; and whether p.grad
        still has all that the step before has used."""
        import torch

        products = torch.zeros(5, dtype=torch.float64)  # g·g, sum·sum, last·last, g·sum, g·last
        rest = used = 0.0
        for parameter in ours:
            gradient, handed, before = parameter.grad, self._handed.get(parameter), self._last_used.get(parameter)
            if gradient is not None and gradient.is_sparse:
                gradient = gradient.to_dense()
            total = None if handed is None else handed.total
            last = handed.last if handed is not None and handed.last_pass == self._passes else None
            for i, (one, other) in enumerate(
                ((gradient, gradient), (total, total), (last, last), (gradient, total), (gradient, last))
            ):
                if one is not None and other is not None and one.shape == other.shape:
                    products[i] += float((one.double() * other.double()).sum())
            if gradient is not None and before is not None:
                remainder = gradient - before - (0 if total is None else total)
                rest += float((remainder * remainder).sum())
                used += float((before * before).sum())
        g, s, last_square, gs, gl = products.tolist()
        stale = used > 0 and g > 0 and rest < 1e-8 * g and used > 1e-4 * g
        norm, handed_norm, last_norm = (math.sqrt(v) if v >= 0 else math.nan for v in (g, s, last_square))
        return (
            norm,
            handed_norm,
            last_norm,
            _cosine(gs, g, s),
            _cosine(gl, g, last_square),
            stale,
        )

    @harmless
    def _after_update(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        ours = [p for group in optimizer.param_groups for p in group["params"] if p in self.parameters]
        if not ours:
            return
        self._base[id(optimizer)] = self._passes
        if self._open.updates and not optimizer.state:  # it has none at any time, as one of the script's own
            self._open.updates[-1] = replace(self._open.updates[-1], begins=False)
        if self._copies:
            self._left = (self._left or {}) | {p: p.detach().clone() for p in ours}
            self._open.changes |= {p: _relative(p.detach(), self._before[p]) for p in ours if p in self._before}
            self._note_still(ours)
        for parameter in ours:
            self._handed.pop(parameter, None)

    def _note_still(self, ours: Sequence[Tensor]) -> None:
        """Note which share of the entries with a gradient step() has left as they were."""
        still = total = 0
        for parameter in ours:
            used, before = self._last_used.get(parameter), self._before.get(parameter)
            if used is not None and before is not None:
                has_gradient = used != 0
                total += int(has_gradient.sum())
                still += int(((parameter.detach() == before) & has_gradient).sum())
        if total and self._open.updates:
            self._open.updates[-1] = replace(self._open.updates[-1], still=still / total)

    def _note_rescaled(self) -> None:
        """Note by which factor p.grad differs from what the last optimizer has used, where it is one factor for all."""
        if not self._open.updates or not self._last_used:
            return
        product = square = size = 0.0
        pairs = [(p.grad.detach().double(), used.double()) for p, used in self._last_used.items() if p.grad is not None]
        for gradient, used in pairs:
            if gradient.is_sparse or gradient.shape != used.shape:
                return
            product, square = product + float((gradient * used).sum()), square + float((used * used).sum())
            size += float((gradient * gradient).sum())
        if not (size > 0 and square > 0 and math.isfinite(size) and math.isfinite(square)):
            return
        factor = product / square
        rest = sum(float((gradient - factor * used).pow(2).sum()) for gradient, used in pairs)
        if factor > 0 and rest <= _ONE_FACTOR**2 * size:
            self._open.updates[-1] = replace(self._open.updates[-1], rescaled=factor)

    def _compare_with_left(self) -> OutsideFacts:
        assert self._left is not None
        changed = total = sixteen = back = 0
        moved = size = 0.0
        for parameter, left in self._left.items():
            now = parameter.detach()
            total += left.numel()
            if now.shape != left.shape:
                continue
            different = (now != left) & (left == left)
            count = int(different.sum())
            if not count:
                continue
            changed += count
            moved += float((now - left).double().square().sum())
            size += float(left.double().square().sum())
            short = (now == now.bfloat16().to(now.dtype)) | (now == now.half().to(now.dtype))
            sixteen += int((short & different).sum())
            if parameter in self._before:
                back += int(((now == self._before[parameter]) & different).sum())
        import torch

        at_start = bool(self.start) and all(torch.equal(p.detach(), self.start[p]) for p in self._left if p in self.start)
        self._left = None
        distance = math.sqrt(moved / size) if size > 0 and math.isfinite(moved) else math.inf if moved else 0.0
        return OutsideFacts(changed, total, sixteen / max(1, changed), back / max(1, changed), distance, at_start)

    # Facts of a step

    def _facts(self, loss: float | None) -> StepFacts | None:
        taped = self._mode is not None and (self._mode.entered or self._mode.tape.root is not None)
        tape = self._mode.tape if self._mode is not None else Tape()
        if self._mode is not None:
            self._mode.leave()
        if not (tape.calls or tape.recurrent or self._open.updates or self._arrived):
            return None
        import torch

        self._note_rescaled()
        tape.loss = loss if loss is not None or tape.root is None else _number(tape.root)
        tape.number = self._open.number
        tape.prune([*self.parameters])
        with torch.no_grad():
            sources = tape.sources()
            facts = StepFacts(
                self._open.number,
                tape.loss,
                self._arrived or tape.root is not None,
                tuple(self._open.updates),
                self._open.outside,
                criterion_facts(tape),
                linear_gradient_kind(tape),
                tuple(self._input_facts(i, source, id(source) in tape.random) for i, source in enumerate(sources[:4])),
                tuple(self._state_facts(tape, sources)),
                self._parameter_facts(tape),
                tuple(self.names[part] for part in self.names if part in tape.evaluating and _acts_in_training(part))[:MOST_NAMES],
                tape.viewed,
                tape.broadcast,
                taped,
                tuple(self._target_facts(tape, sources)),
                tuple(_path(tape)),
                *self._table(),
                tuple(replace(axis, rows=_rows_of(tape)) for axis in tape.axes),
                tape.lost,
                _nan_constant(tape, sources),
                self._text_facts(tape, sources),
            )
        self._last_inputs = [source.detach().clone() for source in sources[:1]]
        ends = {call.module: call.ends for call in tape.recurrent}
        target = None if tape.criterion is None else tape.criterion.target
        # Not the tape itself, which holds the graph of the step, and with it all that is captured of it.
        read = (sources[0].detach(), target.detach()) if sources and target is not None else None
        self._ends = self._open.number, ends, read
        is_one_pass = tape.backwards <= 1 or len({update.optimizer for update in self._open.updates}) <= 1
        if self._keeps and tape.root is not None and is_one_pass:
            self.tapes.append(tape)
            if len(self.tapes) > self.MOST_TAPES:
                del self.tapes[2]
        return facts

    def _text_facts(self, tape: Tape, sources: Sequence[Tensor]) -> TextFacts | None:
        """Return what neighbours tell about each other, of tokens whose targets are the next ones in time."""
        call = tape.criterion
        axis = None if call is None else time_axis_of(tape, call)
        if axis is None or not sources:
            return None
        tokens = np.array(sources[0].detach().cpu().tolist(), np.int64)
        self._text.add(tokens if axis == 0 else tokens.T)
        return self._text.facts

    def _input_facts(self, order: int, source: Tensor, random: bool) -> InputFacts:
        import torch

        values = source.detach()
        tokens = not values.dtype.is_floating_point
        numbers = values.float()
        finite = torch.isfinite(numbers)
        bad = tuple(i for i in range(values.shape[-1]) if not bool(finite[..., i].all()))[:MOST_NAMES] if not tokens else ()
        # Numbers are constant if all rows and all timesteps are alike: a feature may differ from another.
        constant = bool((numbers == numbers.reshape(-1)[:1]).all()) if tokens else bool(
            (numbers == numbers[:1]).all() and (numbers == numbers[:, :1]).all()
        )  # fmt: skip
        flat = numbers.reshape(-1, values.shape[-1]) if not tokens else numbers.reshape(-1, 1)
        offset = float((flat.mean(0).abs() / (flat.std(0, unbiased=False) + 1e-9)).max()) if len(flat) and not tokens else 0.0
        before = self._last_inputs[order] if order < len(self._last_inputs) else None
        same = before is not None and before.shape == values.shape and torch.equal(before, values)
        storage = max(1, values.untyped_storage().nbytes() // values.element_size())
        return InputFacts(
            tokens,
            tuple(values.shape),
            int((~finite).sum()),
            bad,
            random,
            bool((numbers == 0).all()),
            constant and values.numel() > 4,
            float(numbers.mean()),
            float(numbers.std(unbiased=False)) if numbers.numel() else math.nan,  # PyTorch would warn
            offset,
            same,
            values.numel() / storage,
            float(numbers.reshape(-1)[0]) if numbers.numel() else 0.0,
            _dtype(values),
            *_range(numbers),
            float((numbers == 0).float().mean()) if numbers.numel() else math.nan,
            tuple(_slices(values, axis) for axis in range(min(2, values.dim()))) if values.numel() <= MOST_SORTED else (),
            *(_counts(values) if tokens else ((), 0)),
            not constant and self._rows_alike(numbers),
        )

    def _target_facts(self, tape: Tape, sources: Sequence[Tensor]) -> Iterator[TargetFacts]:
        import torch

        targets: list[tuple[str, Tensor, int | None]] = [
            (call.function.__name__, call.target, call.kwargs.get("ignore_index", -100) if call.kind in ("ce", "nll") else None)
            for call in tape.criteria
            if call.gradient is not None
        ]
        read = [*sources, *(target for _, target, _ in targets)]
        if not targets:  # a loss that the script writes itself
            for call in tape.calls:
                if hasattr(call.function, "parameters"):
                    continue
                for tensor in tensors_in((call.args, call.kwargs), whole_numbers=True):
                    constant = not tensor.requires_grad and tensor.dtype != torch.bool and tensor.numel() > 1
                    if constant and id(tensor) not in tape.random and not any(tensor is one for one in read):
                        read.append(tensor)
                        targets.append((_function_name(call.function), tensor, None))
        targets = targets[-MOST_TARGETS:]
        for i, (name, target, ignored) in enumerate(targets):
            values, numbers = target.detach(), target.detach().float()
            before = self._last_targets[i] if i < len(self._last_targets) else None
            counts, distinct = _counts(values)
            low, high = _range(numbers)
            yield TargetFacts(
                name,
                _dtype(values),
                tuple(values.shape),
                low,
                high,
                float(numbers.mean()) if numbers.numel() else math.nan,
                float(numbers.std(unbiased=False)) if numbers.numel() else math.nan,
                int((~torch.isfinite(numbers)).sum()),
                float((numbers == 0).float().mean()) if numbers.numel() else math.nan,
                distinct,
                counts,
                int((values == ignored).sum()) if ignored is not None and not values.dtype.is_floating_point else 0,
                before is not None and before.shape == values.shape and torch.equal(before, values),
            )
        self._last_targets = [target.detach().clone() for _, target, _ in targets]

    def _table(self) -> tuple[tuple[ParameterRow, ...], int]:
        """Return the table of parameters, and how many are left out of it; none in most steps of a long run."""
        number = self._open.number
        period = WATCHED_PERIOD if number < EARLY else LATE_PERIOD
        if not (self._all or number < FIRST_WATCHED or number % period == _begins(number, period)):
            return (), 0
        groups = [
            (i, k, group) for i, optimizer in enumerate(self._seen_optimizers.values())
            for k, group in enumerate(optimizer.param_groups)
        ]  # fmt: skip
        place = {p: (i, k, group) for i, k, group in reversed(groups) for p in group["params"] if p in self.parameters}
        rows = list[ParameterRow]()
        for parameter, name in [*self.parameters.items()][:MOST_ROWS]:
            optimizer, order, group = place.get(parameter, (None, None, dict[str, Any]()))
            start = self.start.get(parameter)
            decay = group.get("weight_decay")
            rows.append(
                ParameterRow(
                    name,
                    tuple(parameter.shape),
                    parameter.requires_grad,
                    _digits(self._open.gradients.get(parameter)),
                    optimizer,
                    order,
                    float(group["lr"]) if "lr" in group else None,
                    None if decay is None else float(decay),
                    _digits(_norm(parameter)),
                    _digits(self._open.changes.get(parameter)),
                    None if start is None else _digits(_relative(parameter.detach(), start)),
                )
            )
        return tuple(rows), len(self.parameters) - len(rows)

    def _rows_alike(self, numbers: Tensor) -> bool:
        """Return True if all rows of a batch are equal, along the axis that the recurrent module takes for that of the rows."""
        axis = self._row_axis
        return axis is not None and numbers.shape[axis] > 1 and bool((numbers == numbers.narrow(axis, 0, 1)).all())

    @property
    def _row_axis(self) -> int | None:
        """The axis of the rows of the batch, by the recurrent modules of the model; None if they do not agree."""
        import torch

        axes = {0 if part.batch_first else 1 for part in self.names if isinstance(part, torch.nn.RNNBase)}
        return axes.pop() if len(axes) == 1 else None

    def _state_facts(self, tape: Tape, sources: Sequence[Tensor]) -> Iterator[StateFacts]:
        import torch

        number, ends, before = self._ends
        follows = number == self._open.number - 1
        for part in dict.fromkeys(call.module for call in tape.recurrent):
            calls = [call for call in tape.recurrent if call.module is part]
            first = calls[0]
            last = ends.get(part, []) if follows else []
            carried = swapped = None
            if first.begins and last:
                carried = _are_equal(first.begins, last)
                swapped = len(last) == 2 and not carried and _are_equal(first.begins, last[::-1])
            time_axis = 1 if getattr(part, "batch_first", False) else 0
            is_cell = isinstance(part, torch.nn.RNNCellBase)
            timesteps = 1 if is_cell or first.packed or first.input.dim() < 3 else first.input.shape[time_axis]
            continued = _continued(before, sources) if carried and before is not None else None
            following = None
            if carried and before is not None and sources and (axis := self._row_axis) is not None:
                following = self._rows.setdefault(part, RowMemory()).add(before[0], sources[0], axis)
            yield StateFacts(
                self.names.get(part, type(part).__name__),
                len(calls),
                0 if first.packed else timesteps,
                bool(first.begins),
                any(id(state) in tape.random for state in first.begins),
                float(first.begins[0].detach().float().pow(2).mean().sqrt()) if first.begins else 0.0,
                any(first.begins_in_graph),
                carried,
                swapped,
                continued,
                float(first.input.float().pow(2).mean().sqrt()) if first.input.numel() else 0.0,
                *_passed(calls),
                tuple(first.input.shape),
                bool(getattr(part, "batch_first", False)),
                flat_share(part, first.input, self.start) if self._open.number < FIRST_WATCHED else None,
                None if first.packed and not first.input.numel() else mark_of_missing(first.input),
                following,
                bool(getattr(part, "bidirectional", False)),
            )

    def _is_trained(self, parameter: Parameter) -> bool:
        """Return False for a parameter of no optimizer, where those that run are known: that of a copy that follows another
        network."""
        return not self._in_optimizer or parameter in self._in_optimizer

    def _first_names(self, parameters: Sequence[Parameter]) -> tuple[str, ...]:
        return tuple(self.parameters[p] for p in parameters[:MOST_NAMES])

    def _parameter_facts(self, tape: Tape) -> ParameterFacts:
        import torch

        trainable = [p for p in self.parameters if p.requires_grad]
        recurrent = [part for part in self.names if isinstance(part, torch.nn.RNNBase | torch.nn.RNNCellBase)]
        for call in tape.recurrent:
            own = [p for p in call.module.parameters() if p.requires_grad and self._is_trained(p)]
            name = self.names.get(call.module, "")
            if own and name and not self._reached.intersection(own):
                if self._arrived:
                    self._cut[name] = call.in_graph
            else:
                self._cut.pop(name, None)
        of_cut = {p for part in recurrent if self.names[part] in self._cut for p in part.parameters()}
        single = all(call.input.dim() == 2 or 1 in call.input.shape[:2] for call in tape.recurrent)
        reads_zero = {call.module for call in tape.recurrent if not bool(call.input.any())}
        unread = {p for part in reads_zero for name, p in part.named_parameters() if "weight_ih_l0" in name or name == "weight_ih"}
        # Not in doubt: a part that is not called, or a linear layer whose output the script gets and does not use.
        used = {
            p
            for part in self._called
            for p in part.parameters(recurse=False)
            if p in self._reached or not isinstance(part, torch.nn.Linear)
        }
        zero = [
            p
            for p in trainable
            if p not in self._nonzero
            and self._is_trained(p)
            and p not in of_cut
            and p not in unread
            and p in used
            and p.dim() > 1
            and not (single and "weight_hh" in self.parameters[p])
            and "bias" not in self.parameters[p]
        ]
        # One that gets no gradient either can be that of a copy of a network, as a target; one that is trained, of a fine-tuning.
        drawn = {p for part in self.names if _is_as_drawn(part) for p in part.parameters()}
        missing = [p for p in trainable if p not in self._in_optimizer and p in self._nonzero] if self._seen_optimizers else []
        left = Counter(shape for key, shape in self._not_of_model.items() if key not in self._trained_elsewhere)
        replaced = len(missing) if missing and not Counter(tuple(p.shape) for p in missing) - left else 0
        missing = missing if replaced or drawn.intersection(missing) else []
        still = [
            p for p in trainable
            if p in self._in_optimizer and p in self._above_rounding and p in self.start and torch.equal(p.detach(), self.start[p])
        ] if self._open.updates and self._open.number > 0 else []  # fmt: skip
        rate = None
        if still:
            groups = [group for optimizer in self._seen_optimizers.values() for group in optimizer.param_groups]
            rates = [float(group["lr"]) for group in groups if any(still[0] is p for p in group["params"])]
            rate = rates[0] if rates else None
        learners = [part for part in self.names if part in recurrent or isinstance(part, torch.nn.Linear)]
        frozen = [
            part
            for part in learners
            if list(part.parameters()) and not any(p.requires_grad for p in part.parameters()) and _is_as_drawn(part)
        ]
        leaves = {id(leaf) for leaf in tape.leaves}
        leaves -= {
            id(tensor) for call in tape.calls for tensor in tensors_in((call.args, call.kwargs))
        }  # as an input with a gradient
        strange = [leaf for key, leaf in tape.weights.items() if key in leaves and key not in self._in_any and leaf.numel() > 1]
        self._strange = (
            tuple(tuple(leaf.shape) for leaf in strange[:MOST_NAMES]) if tape.weights or not self._strange else self._strange
        )
        equal = [
            (p, self.start[p]) for part in recurrent for p in part.parameters()
            if p in self.start and p.dim() == 2 and p.numel() > 4 and bool((self.start[p] == self.start[p].flatten()[0]).all())
        ]  # fmt: skip
        dropout = {
            self.names[part]: float(part.p if isinstance(part, torch.nn.Dropout) else part.dropout)
            for part in self.names
            if isinstance(part, torch.nn.Dropout) or (isinstance(part, torch.nn.RNNBase) and part.num_layers > 1)
        }
        embeddings = {p for part in self.names if isinstance(part, torch.nn.Embedding) for p in part.parameters()}
        return ParameterFacts(
            len(self.parameters),
            len(self._nonzero),
            self._first_names(zero),
            len(zero),
            self._first_names(missing),
            len(missing),
            self._first_names(still),
            len(still),
            rate,
            tuple(self.names[part] for part in frozen[:MOST_NAMES]),
            dict(self._cut),
            self._strange,
            tuple(self.parameters[p] for p, _ in equal[:MOST_NAMES]),
            float(equal[0][1].flatten()[0]) if equal else 0.0,
            dropout,
            sum(p in embeddings for p in zero),
            tuple(self.names[part] for part in recurrent if _has_one_unit(part))[:MOST_NAMES],
            _alike_tokens(tape),
            replaced,
        )


class _Arrival:
    """Hands what arrives at a parameter to the watch."""

    __torch_unserializable__ = True  # a copy for another process is without it

    def __init__(self, watch: weakref.ref[StepWatch], parameter: Tensor) -> None:
        self._watch, self._parameter = watch, weakref.ref(parameter)

    def __call__(self, gradient: Tensor) -> None:
        watch, parameter = self._watch(), self._parameter()
        if watch is not None and parameter is not None and gradient is not None:
            try:
                watch.arrive(parameter, gradient)
            except Exception as error:
                report_failure(error)


def _passed(calls: Sequence[RecurrentCall]) -> tuple[int, int, int]:
    """Return how many calls begin with the states of the call before them, how many of these in the graph of it; and how many calls
    of one timestep begin with the state with which the call before them has begun."""
    import torch

    passed = in_graph = repeated = 0
    for before, call in pairwise(calls[:MOST_PASSED]):
        if before.in_graph and call.begins and _are_equal(call.begins, before.ends):
            passed += 1
            in_graph += any(call.begins_in_graph)
            continue
        part = call.module
        axis = 1 if getattr(part, "batch_first", False) else 0
        is_one = isinstance(part, torch.nn.RNNCellBase) or (call.input.dim() == 3 and call.input.shape[axis] == 1)
        alike = _are_equal(call.begins, before.begins) if call.begins else not before.begins
        repeated += is_one and not call.packed and alike and call.input.shape == before.input.shape
    return passed, in_graph, repeated


def _rows_of(tape: Tape) -> int:
    """Return how many rows the batch has that the recurrent modules read; 0 if they do not agree."""
    rows = {
        call.input.shape[0 if call.input.dim() == 2 or getattr(call.module, "batch_first", False) else 1]
        for call in tape.recurrent
        if not call.packed
    }
    return rows.pop() if len(rows) == 1 else 0


def _nan_constant(tape: Tape, sources: Sequence[Tensor]) -> tuple[tuple[int, ...], int] | None:
    """Return the shape of a constant with NaN that the loss is computed from behind the model, and how many it has."""
    inputs = {id(source) for source in sources}
    made = {id(tensor) for call in tape.calls for tensor in tensors_in(call.output)}
    for call in tape.calls:
        if hasattr(call.function, "parameters") and not hasattr(call.function, "reduction"):
            continue
        for tensor in tensors_in((call.args, call.kwargs)):
            if tensor.requires_grad or id(tensor) in inputs or id(tensor) in made or not tensor.dtype.is_floating_point:
                continue
            if count := int((tensor != tensor).sum()):
                return tuple(tensor.shape), count
    return None


def _has_one_unit(part: Module) -> bool:
    """Return True if all units of a recurrent module have the same weights, so that they compute the same and stay equal."""
    import torch

    units = int(part.hidden_size)  # type: ignore[arg-type]
    weights = [p.detach() for name, p in part.named_parameters() if "weight" in name and p.shape[0] % units == 0]
    if units < 2 or not weights or not all(bool(torch.isfinite(weight).all()) and bool(weight.any()) for weight in weights):
        return False
    for weight in weights:
        of_gates = weight.reshape(-1, units, weight.shape[1])  # (gates, units, inputs)
        if float((of_gates - of_gates[:, :1]).abs().max()) > _ONE_FACTOR * float(weight.abs().max()):
            return False
    return True


def _alike_tokens(tape: Tape) -> tuple[int, int]:
    """Return how many of the different tokens that are looked up have one and the same vector, and how many there are in all."""
    import torch

    most = 0, 0
    for part, ids in tape.embedded:
        tokens = torch.unique(ids.detach())
        vectors: Any = part.weight
        if 1 < len(tokens) <= MOST_TOKENS and vectors.layout == torch.strided:
            counts = torch.unique(vectors.detach()[tokens], dim=0, return_counts=True)[1]
            most = max(most, (int(counts.max()), len(tokens)))
    return most


def _is_as_drawn(part: Module) -> bool:
    """Return True if the weights of a recurrent module or a Linear are distributed as PyTorch draws them: uniformly within
    ±1 / √n, n being the units of a recurrent module, or the inputs of a Linear. Those of a trained one leave this range."""
    import torch

    if isinstance(part, torch.nn.RNNBase | torch.nn.RNNCellBase):
        bound, weights = part.hidden_size**-0.5, [p.detach() for name, p in part.named_parameters() if "weight" in name]
    elif isinstance(part, torch.nn.Linear):
        bound, weights = part.in_features**-0.5, [part.weight.detach()]
    else:
        return False
    largest = [float(weight.abs().max()) for weight in weights if weight.numel() > 8]
    return bool(largest) and max(largest) <= bound * (1 + 1e-5) and max(largest) > 0.8 * bound


def _acts_in_training(part: Module) -> bool:
    """Return True for a module that computes something else in training than in evaluation."""
    import torch

    if isinstance(part, torch.nn.RNNBase):
        return bool(part.dropout > 0 and part.num_layers > 1)
    return isinstance(part, torch.nn.Dropout | torch.nn.modules.batchnorm._BatchNorm) and getattr(part, "p", 1.0) > 0


def _settings_of(groups: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the settings of groups of parameters that are numbers. Where groups differ, it is the largest number; and something is
    true if it is in all of them, as `maximize`."""
    numbers = [
        {name: value for name, value in group.items() if isinstance(value, int | float) and name not in _HIDDEN_OPTIONS}
        for group in groups
    ]
    names = dict.fromkeys(name for group in numbers for name in group)
    values = {name: [group[name] for group in numbers if name in group] for name in names}
    return {name: float((min if isinstance(of[0], bool) else max)(of)) for name, of in values.items()}


def _begins(number: int, period: int) -> int:
    """Return at which place of its period the watched steps begin."""
    return number // period * _STRIDE % (period - WATCHED_OF + 1)


def _is_compiled(part: Module) -> bool:
    return hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None or hasattr(part, "original_name")


def _in_backward() -> bool:
    import torch

    return torch._C._current_graph_task_id() != -1


def _number(tensor: Tensor) -> float:
    return float(tensor.detach().sum()) if tensor.numel() == 1 else math.nan


def _norm(tensor: Tensor) -> float:
    values = tensor.detach()
    return float((values.to_dense() if values.is_sparse else values).double().norm())


def _relative(now: Tensor, before: Tensor) -> float:
    """Return the norm of the change of a tensor over its norm before; from 0, infinity."""
    change, size = _norm(now - before), _norm(before)
    return change / size if size else math.inf if change else 0.0


def _digits(x: float | None) -> float | None:
    """Return a number to five digits, which are short in a file."""
    return None if x is None else float(f"{x:.4e}")


def _dtype(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def _range(numbers: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest of the finite numbers."""
    import torch

    finite = numbers[torch.isfinite(numbers)]
    return (float(finite.min()), float(finite.max())) if finite.numel() else (math.nan, math.nan)


def _slices(values: Tensor, axis: int) -> tuple[int, int]:
    """Return the number of slices along an axis, and that of different ones."""
    import torch

    if not values.numel():  # slices without numbers are alike
        return values.shape[axis], min(values.shape[axis], 1)
    return values.shape[axis], len(torch.unique(values.movedim(axis, 0).reshape(values.shape[axis], -1), dim=0))


def _counts(values: Tensor) -> tuple[tuple[tuple[float, int], ...], int]:
    """Return the most frequent values, each with how often it occurs, and the number of different ones; 0 if it is not counted."""
    import torch

    if not 0 < values.numel() <= MOST_SORTED:
        return (), 0
    different, counts = torch.unique(values.reshape(-1), return_counts=True)
    order = torch.argsort(counts, descending=True, stable=True)[:MOST_COUNTS]
    return tuple((float(different[i]), int(counts[i])) for i in order.tolist()), len(different)


def _function_name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__)).strip("_")


def _path(tape: Tape) -> Iterator[tuple[str, tuple[tuple[int, ...], ...], tuple[int, ...]]]:
    """Yield the last calls by which the loss of a step is computed."""
    for call in tape.calls[-MOST_PATH:]:
        name = type(call.function).__name__ if hasattr(call.function, "parameters") else _function_name(call.function)
        read = tuple(tuple(tensor.shape) for tensor in tensors_in((call.args, call.kwargs), whole_numbers=True))
        returned = next(iter(tensors_in(call.output, whole_numbers=True)), None)
        yield name, read[:4], () if returned is None else tuple(returned.shape)


def _cosine(product: float, one: float, other: float) -> float:
    size = one * other
    return product / math.sqrt(size) if size > 0 and math.isfinite(size) else 0.0


def _are_equal(states: Iterable[Tensor], others: Iterable[Tensor]) -> bool:
    import torch

    pairs = list(zip(states, others, strict=False))
    return bool(pairs) and all(one.shape == other.shape and torch.equal(one.detach(), other) for one, other in pairs)


def _continued(before: tuple[Tensor, Tensor], later: Sequence[Tensor]) -> float | None:
    """Return the share of rows whose first token is the last target of the same row in the step before, of which `before` has input
    and targets; None if inputs or targets are no tokens of the same number. Which axis is time, and how the targets lie, is where
    they follow the inputs best."""
    if not later:
        return None
    (x, target), y = before, later[0]
    if x.dtype.is_floating_point or x.dim() != 2 or x.shape != y.shape or target.numel() != x.numel():
        return None
    layouts = list[tuple[float, float]]()
    for ordered in (target.reshape(x.shape), target.reshape(x.shape[::-1]).t()):
        for targets, read, next_read in ((ordered, x, y), (ordered.t(), x.t(), y.t())):
            follows = float((targets[:, :-1] == read[:, 1:]).float().mean()) if read.shape[1] > 1 else 1.0
            layouts.append((follows, float((targets[:, -1] == next_read[:, 0]).float().mean())))
    return max(layouts)[1]
