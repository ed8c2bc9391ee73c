"""The loss of a training step, read off the functions that a script calls between its model and backward(): which criterion it is,
what feeds it, and by which factor the gradient that arrives differs from that of the criterion's plain mean."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tui_gru.capture.call_tensors import tensors_in
from tui_gru.capture.pending import is_compiled
from tui_gru.capture.relations import NORMALIZING, AxisFacts, normalized_axis, place_of_target, share_equal

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

#: The criteria of torch.nn.functional by their functions' names, with a short name of their kind.
CRITERIA = {
    "cross_entropy": "ce", "nll_loss": "nll", "mse_loss": "mse", "l1_loss": "l1", "huber_loss": "huber", "smooth_l1_loss": "smooth",
    "binary_cross_entropy": "bce", "binary_cross_entropy_with_logits": "bcel", "kl_div": "kl", "gaussian_nll_loss": "gnll",
    "ctc_loss": "ctc",
}  # fmt: skip
REGRESSIONS = ("mse", "l1", "huber", "smooth")
_DRAWS = ("randn", "rand", "randn_like", "rand_like", "normal", "normal_", "uniform_")
#: Nodes of autograd that only arrange numbers: what feeds a criterion is before them.
_ARRANGE = (
    "View", "Reshape", "Transpose", "Permute", "TBackward", "Slice", "Select", "Index", "Clone", "Squeeze", "Unsqueeze", "Expand",
    "Stack", "Cat", "ToCopy", "AsStrided", "Unbind", "Split", "Contiguous", "Alias", "Movedim",
)  # fmt: skip
MOST_NODES = 200_000  # of a graph that are walked through
MOST_BETWEEN = 1_000  # functions that a script calls itself between a module and backward()
MOST_BEGUN = 4  # calls of a module on data of which one loss may be, as of pairs


class TapeCall(NamedTuple):
    """A call of a module or a function of torch by the script itself, not from within a module."""

    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any


@dataclass(eq=False)
class CriterionCall:
    """A call of a criterion. `feeds` is the node of autograd that its input comes from; `gradient` is what arrives at its input."""

    function: Callable[..., Any]
    kind: str
    input: Tensor
    target: Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    feeds: str
    gradient: Tensor | None = None

    def rows(self, numbers: Tensor) -> Tensor:
        """Return logits, or a gradient of them, as one row a prediction, (predictions, classes)."""
        if self.kind in ("ce", "nll") and numbers.dim() > 2:
            numbers = numbers.movedim(1, -1)
        if self.kind in REGRESSIONS and self.input.shape == self.target.shape and numbers.dim() == 2:
            return numbers
        return numbers.reshape(-1, numbers.shape[-1]) if numbers.dim() > 1 else numbers.reshape(-1, 1)

    def of_mean(self, logits: Tensor) -> Tensor:
        """Return the criterion's plain mean of other logits, with its own targets, weights and smoothing."""
        others = {name: value for name, value in self.kwargs.items() if name not in ("input", "target", "size_average", "reduce")}
        others["reduction"] = "batchmean" if self.kind == "kl" and others.get("reduction") == "batchmean" else "mean"
        args = [value for value in self.args[2:] if "reduction" not in self.kwargs or not isinstance(value, str)]
        weights = (
            [value for value in args[:1] if not isinstance(value, bool | str)] if self.kind in ("ce", "nll", "bce", "bcel") else []
        )
        loss: Tensor = self.function(logits, self.target, *weights, **others)
        return loss


@dataclass(eq=False)
class RecurrentCall:
    """A call of a recurrent module of torch: the states that it begins with, none if the script gives none, and ends with."""

    module: Module
    begins: list[Tensor]
    ends: list[Tensor]
    begins_in_graph: list[bool]
    input: Tensor
    packed: bool
    in_graph: bool


@dataclass(eq=False)
class LastLinear:
    """The output of the last torch.nn.Linear before the loss, in the place of a criterion that is not one of torch's."""

    output: Tensor
    gradient: Tensor | None = None


@dataclass(eq=False)
class Tape:
    """What a script calls in one training step. `random` has the tensors drawn at random in it; `evaluating` the modules in
    evaluation mode; `viewed` the shapes before and after a view that exchanges two axes without moving numbers; `broadcast` the
    shapes of a difference or product in which every row is combined with every other; `axes` the functions that normalize along an
    axis; `leaves` the leaves of the graph of the loss, and
    `weights` leaves that the model uses within its forward pass without having them as parameters."""

    calls: list[TapeCall] = field(default_factory=list)
    criteria: list[CriterionCall] = field(default_factory=list)
    recurrent: list[RecurrentCall] = field(default_factory=list)
    embedded: list[tuple[Module, Tensor]] = field(default_factory=list)
    random: dict[int, Tensor] = field(default_factory=dict)
    evaluating: set[Module] = field(default_factory=set)
    linear: LastLinear | None = None
    root: Tensor | None = None
    backwards: int = 0
    leaves: list[Tensor] = field(default_factory=list)
    weights: dict[int, Tensor] = field(default_factory=dict)
    viewed: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    broadcast: tuple[tuple[int, ...], ...] | None = None
    axes: dict[AxisFacts, AxisFacts] = field(default_factory=dict)
    loss: float | None = None
    number: int = 0
    begun: list[tuple[Module, tuple[int, ...]]] = field(
        default_factory=list
    )  # calls that begin with data, and what was before them

    def begin_call(self, part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Note that a module is called by the script before any backward pass.

        Of a module that is called again and again on data, as in a validation with a graph, only the last calls stay: what they
        hold is memory of the script.
        """
        if any(tensor.requires_grad for tensor in _tensors((args, kwargs))):
            return  # it goes on from another call
        lists: tuple[list[Any], ...] = (self.calls, self.criteria, self.recurrent, self.embedded)
        self.begun.append((part, tuple(map(len, lists))))
        if sum(begun is part for begun, _ in self.begun) <= MOST_BEGUN:
            return
        first = next(i for i, (begun, _) in enumerate(self.begun) if begun is part) + 1
        last = next(i for i in range(first, len(self.begun)) if self.begun[i][0] is part)
        cut = self.begun[last][1]
        for entries, count in zip(lists, cut, strict=True):
            del entries[:count]
        self.begun = [(begun, tuple(n - m for n, m in zip(counts, cut, strict=True))) for begun, counts in self.begun[last:]]

    @property
    def criterion(self) -> CriterionCall | None:
        """The last criterion that got a gradient."""
        return next((call for call in reversed(self.criteria) if call.gradient is not None), None)

    @property
    def lost(self) -> tuple[int, int]:
        """The calls of the last criterion that got a gradient on predictions of that shape, and how many of these got one."""
        last = self.criterion
        if last is None:
            return 0, 0
        alike = [call for call in self.criteria if call.function is last.function and call.input.shape == last.input.shape]
        return len(alike), sum(call.gradient is not None for call in alike)

    def prune(self, parameters: Sequence[Tensor]) -> None:
        """Leave only the calls by which the loss depends on the model: all else, such as data drawn in the step, is constant."""
        if self.root is None:
            self.calls = []
            return
        live, depends = {id(parameter) for parameter in parameters}, list[TapeCall]()
        for call in self.calls:
            if hasattr(call.function, "parameters") or any(id(tensor) in live for tensor in _tensors((call.args, call.kwargs))):
                depends.append(call)
                live |= {id(tensor) for tensor in _tensors(call.output)}
        needs, path = {id(self.root)}, list[TapeCall]()
        for call in reversed(depends):
            if any(id(tensor) in needs for tensor in _tensors(call.output)):
                path.append(call)
                needs |= {id(tensor) for tensor in _tensors((call.args, call.kwargs))}
        self.calls = path[::-1]

    def sources(self) -> list[Tensor]:
        """Return the inputs that the script gives to its modules: token ids (B, T), or numbers (B, T, features), in either order
        of the axes; without states and masks."""
        import torch

        states = {id(tensor) for call in self.recurrent for tensor in call.begins}
        states |= {id(tensor) for call in self.calls if hasattr(call.function, "parameters") for tensor in _tensors(call.output)}
        memory = {tensor.data_ptr() for call in self.recurrent for tensor in call.begins}
        sources = list["Tensor"]()
        for call in self.calls:
            if not hasattr(call.function, "parameters") or isinstance(call.function, torch.nn.modules.loss._Loss):
                continue
            for tensor in _tensors((call.args, call.kwargs)):
                is_data = tensor.dtype.is_floating_point and tensor.dim() == 3
                is_tokens = not tensor.dtype.is_floating_point and tensor.dtype != torch.bool and tensor.dim() == 2
                is_state = id(tensor) in states or tensor.requires_grad or tensor.data_ptr() in memory
                if (is_data or is_tokens) and not is_state and not any(tensor is one for one in sources):
                    sources.append(tensor)
        return sources


def _tensors(value: Any) -> list[Tensor]:
    return list(tensors_in(value, whole_numbers=True))


def feeding_node(tensor: Tensor) -> str:
    """Return the name of the node of autograd that computes the numbers of a tensor, past those that arrange them; "" if none."""
    node: Any = tensor.grad_fn
    for _ in range(MOST_NODES):
        if node is None or not any(word in node.name() for word in _ARRANGE):
            break
        node = next((inner for inner, _ in node.next_functions if inner is not None), None)
    return "" if node is None else str(node.name())


def leaves_of(root: Tensor) -> Iterator[Tensor]:
    """Yield the leaves of a graph that get a gradient."""
    stack, passed = [root.grad_fn], set[Any]()
    while stack and len(passed) < MOST_NODES:
        node: Any = stack.pop()
        if node is None or node in passed:
            continue
        passed.add(node)
        if (variable := getattr(node, "variable", None)) is not None:
            yield variable
        stack += [inner for inner, _ in node.next_functions]


class _Receiver:
    """A hook that gives the gradient of a tensor to its entry of the tape, while there is one: the entry holds the tensor."""

    def __init__(self, entry: CriterionCall | LastLinear) -> None:
        self._entry = weakref.ref(entry)

    def __call__(self, gradient: Tensor) -> None:
        if (entry := self._entry()) is not None:
            entry.gradient = gradient.detach()


class TapeMode:
    """Writes the functions of torch that a script calls onto the tape of the open step, while it is entered.

    It is a mode of torch's functions. A script can have modes of its own, as by `with torch.device(...)`, which may end after this
    one: it is taken out from under them. It is not entered where the script is in a mode already, nor once it has called
    torch.compile, which would trace it.
    """

    def __init__(self) -> None:
        import torch
        from torch.overrides import TorchFunctionMode

        self.tape = Tape()
        self.depth = 0  # of modules whose forward pass runs
        self._since_module = 0  # functions that the script has called itself since the last module
        self.registered: frozenset[int] | None = None  # the ids of the model's parameters, where others are looked for
        self.arrived = False  # True once a gradient of this step has arrived: what is called after it is no part of the loss
        self.before_backward: Callable[[Tensor], None] = lambda root: None
        functional = torch.nn.functional
        reference = weakref.ref(self)  # PyTorch holds the mode that is entered, and must not hold the tape, and with it the model
        self._criteria = {getattr(functional, name): kind for name, kind in CRITERIA.items()}
        self._views = {torch.Tensor.view, torch.Tensor.reshape, torch.reshape}
        self._differences = {torch.Tensor.sub, torch.Tensor.__sub__, torch.sub, torch.Tensor.__rsub__}
        self._differences |= {torch.Tensor.mul, torch.Tensor.__mul__, torch.mul, torch.Tensor.__rmul__}
        self._backward = {torch.Tensor.backward, torch.autograd.backward}

        class Mode(TorchFunctionMode):
            def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                kwargs = kwargs or {}
                if (own := reference()) is None:
                    return function(*args, **kwargs)
                own._before(function, args, kwargs)
                output = function(*args, **kwargs)
                own._after(function, args, kwargs, output)
                return output

        self._mode: Any = Mode()
        self.entered = False
        weakref.finalize(self, _take_out, self._mode)

    def enter(self) -> bool:
        """Begin. Returns False where it cannot."""
        import torch

        if not self.entered and not _has_compiled() and not is_compiled() and not torch._C._len_torch_function_stack():
            self._mode.__enter__()
            self.entered = True
        return self.entered

    def leave(self) -> None:
        """End, and leave the modes that the script has entered meanwhile as they are."""

        if self.entered:
            self.entered = False
            _take_out(self._mode)

    def _before(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if function in self._backward:
            root = args[0] if args else kwargs.get("tensors")
            roots = _tensors(root)
            if roots:
                self.tape.root = roots[0]
                self.tape.backwards += 1
                self.tape.leaves += leaves_of(roots[0])
                self.before_backward(roots[0])
        elif (kind := self._criteria.get(function)) is not None:
            self._note_criterion(function, kind, args, kwargs)

    def _note_criterion(self, function: Any, kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        logits: Any
        target: Any
        names = ("log_probs", "targets") if kind == "ctc" else ("input", "target")
        logits, target = (args[i] if len(args) > i else kwargs.get(name) for i, name in enumerate(names))
        if getattr(logits, "requires_grad", False) and target is not None:
            call = CriterionCall(function, kind, logits, target, args, dict(kwargs), feeding_node(logits))
            self.tape.criteria.append(call)

            logits.register_hook(_Receiver(call))

    def _after(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        if function in self._backward or self.arrived:
            return
        tape, tensors = self.tape, _tensors(output)
        if not tensors:
            return
        if self.depth == 0:
            self._since_module += 1
            if self._since_module > MOST_BETWEEN:  # what the script computes is no loss of this model
                self.tape = Tape()
                self.leave()
                return
            tape.calls.append(TapeCall(function, args, kwargs, output))
        elif self.registered is not None and tensors[0].requires_grad:
            for tensor in _tensors((args, kwargs)):
                if tensor.is_leaf and tensor.requires_grad and id(tensor) not in self.registered:
                    tape.weights[id(tensor)] = tensor
        before: Any = args[0] if args else None
        after = tensors[0]
        if function in self._views and getattr(before, "dim", lambda: 0)() == after.dim() > 1:
            shapes = tuple(before.shape), tuple(after.shape)
            tape.viewed = shapes if _exchanges(*shapes) else tape.viewed
        name = getattr(function, "__name__", "")
        if name in NORMALIZING and (normalized := normalized_axis(name, args, kwargs)) is not None and len(tape.axes) < MOST_BEGUN:
            tape.axes[normalized] = normalized
        if name in _DRAWS:
            tape.random[id(after)] = after
        elif tape.random and not after.requires_grad:  # scaled or moved: as random as before
            inputs = _tensors((args, kwargs))
            if any(id(tensor) in tape.random and tensor.numel() == after.numel() for tensor in inputs):
                tape.random[id(after)] = after
        if function in self._differences and self.depth == 0 and after.requires_grad and len(args) > 1:
            one, other = args[0], args[1]
            if all(hasattr(tensor, "numel") for tensor in (one, other)):
                sizes = one.numel(), other.numel()
                column, row = (one, other) if one.dim() == 2 else (other, one)
                is_pair = column.dim() == 2 and row.dim() == 1 and tuple(column.shape) == (len(row), 1) and len(row) > 1
                is_pair = is_pair and column.data_ptr() != row.data_ptr()  # each with each is meant, where both are the same
                if is_pair and after.numel() >= 2 * max(sizes):
                    tape.broadcast = tuple(one.shape), tuple(other.shape), tuple(after.shape)

    def note_module(self, part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Write the call of a module that has just ended."""
        import torch

        tape = self.tape
        if self.arrived:
            return
        if self.depth == 0:
            self._since_module = 0
            tape.calls.append(TapeCall(part, args, kwargs, output))
        if not part.training:
            tape.evaluating.add(part)
        if isinstance(part, torch.nn.RNNBase | torch.nn.RNNCellBase):
            states = args[1] if len(args) > 1 else kwargs.get("hx")
            ends = output[1] if isinstance(part, torch.nn.RNNBase) else output
            read: Any = args[0] if args else kwargs.get("input")
            packed = isinstance(read, torch.nn.utils.rnn.PackedSequence)
            begins = _tensors(states)
            tape.recurrent.append(
                RecurrentCall(
                    part,
                    begins,
                    [tensor.detach() for tensor in _tensors(ends)],
                    [tensor.requires_grad for tensor in begins],
                    (read.data if packed else read).detach(),
                    packed,
                    any(tensor.requires_grad for tensor in _tensors(output)),
                )
            )
        elif isinstance(part, torch.nn.Embedding) and args:
            tape.embedded.append((part, args[0]))
        elif isinstance(part, torch.nn.Linear) and getattr(output, "requires_grad", False):
            last = tape.linear = LastLinear(output.detach())
            output.register_hook(_Receiver(last))


def _take_out(mode: Any) -> None:
    """Take a mode out of those that are entered, if it is one of them."""
    import torch

    above = list[Any]()
    while torch._C._len_torch_function_stack():
        entered = torch._C._pop_torch_function_stack()
        if entered is mode:
            break
        above.append(entered)
    for entered in reversed(above):
        torch._C._push_on_torch_function_stack(entered)


def _has_compiled() -> bool:
    """Return True if this process has made something with torch.compile, and not called torch.compiler.reset since."""
    module = sys.modules.get("torch._dynamo.eval_frame")
    backends = getattr(module, "cached_backends", None)
    if backends is not None:  # None is that of functions that are left alone
        return any(backend is not None for backend in backends.values())
    patch: Any = getattr(getattr(module, "TorchPatcher", None), "patch", None)
    return module is not None and (not hasattr(patch, "cache_info") or patch.cache_info().currsize > 0)


def _exchanges(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Return True if two axes of different sizes have changed places, all others being equal."""
    different = [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    if len(different) != 2:
        return False
    i, j = different
    return before[i] == after[j] != before[j] == after[i] and min(before[i], before[j]) > 1


# ------------------------------------------------------------------------------
# What a criterion shows in numbers.


@dataclass(frozen=True)
class CriterionFacts:
    """The criterion of one step. `feeds` is the function of its input, without "Backward0".

    `factor` is the gradient that arrived at its input over that of its plain mean, with `misfit` as the relative rest; None if
    there is none. `outside` is the share of targets that the output cannot reach. `constant` is the loss of the best constant
    prediction in nats or squares, None if it is not known. `sum_error` is how far the rows of the input are from adding up to 1,
    and `log_sum_error` how far their exponentials are. `follows` is the share of the targets that are the next input of the same
    row, in the order that fits best, and `same` that of those that are the input of their own place; None where they are no tokens
    of one number. `place` is the timestep, counted from the last, and the feature of the input that are equal to the target of each
    row. Of CTC, `blank_share` is the share of targets that are the blank, and `too_long` that of rows with fewer timesteps than
    targets. `called` is the name of the criterion's function, and `arguments` has those besides the input and the target that are
    not PyTorch's defaults, in words.
    """

    kind: str
    feeds: str
    predictions: int
    classes: int
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    factor: float | None = None
    misfit: float = 0.0
    smoothing: float = 0.0
    classes_without_weight: tuple[int, ...] = ()
    share_without_weight: float = 0.0
    target_low: float = 0.0
    target_high: float = 0.0
    target_mean: float = 0.0
    target_deviation: float = 0.0
    outside: float = 0.0
    reach: tuple[float, float] = (-math.inf, math.inf)
    zeros: float = 0.0
    largest: float = 0.0
    deviation: float = 0.0
    sum_error: float = 0.0
    log_sum_error: float = 0.0
    follows: float | None = None
    constant: float | None = None
    criteria: int = 1
    called: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    output_mean: float = 0.0
    same: float | None = None
    place: tuple[int, int] | None = None
    blank_share: float = 0.0
    too_long: float = 0.0


_REACH = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0), "Relu": (0.0, math.inf), "Softmax": (0.0, 1.0)}
_FIT = 1e-2  # relative rest up to which two gradients differ by one factor


def criterion_facts(tape: Tape) -> CriterionFacts | None:
    """Return what the last criterion of a step shows; None if none of torch's got a gradient."""
    import torch

    call = tape.criterion
    if call is None:
        return None
    with torch.no_grad():
        logits, target = call.input.detach(), call.target
        rows = call.rows(logits)
        feeds = call.feeds.removesuffix("Backward0")
        numbers = target.float()
        low, high = (float(numbers.min()), float(numbers.max())) if target.numel() else (0.0, 0.0)
        reach = _REACH.get(feeds, (-math.inf, math.inf)) if call.kind in REGRESSIONS else (-math.inf, math.inf)
        reach = (0.0, 1.0) if call.kind in ("bce", "bcel") else reach
        outside = float(((numbers < reach[0] - 1e-6) | (numbers > reach[1] + 1e-6)).float().mean())
        weight: Any = call.kwargs.get("weight", call.args[2] if len(call.args) > 2 else None)
        unweighted = torch.empty(0, dtype=torch.long)
        if call.kind in ("ce", "nll") and hasattr(weight, "numel"):
            zero: Tensor = weight == 0
            unweighted = zero.nonzero().flatten()
            unweighted = unweighted[torch.isin(unweighted, target.to(unweighted.device))]
        share = float(torch.isin(target, unweighted).float().mean()) if unweighted.numel() else 0.0
        factor, misfit = _factor(call)
        is_finite = bool(torch.isfinite(rows).all())
        return CriterionFacts(
            call.kind,
            feeds,
            len(rows),
            rows.shape[-1],
            tuple(logits.shape),
            tuple(target.shape),
            factor,
            misfit,
            float(call.kwargs.get("label_smoothing") or 0.0),
            tuple(map(int, unweighted.tolist()))[:8],
            share,
            low,
            high,
            float(numbers.mean()),
            float(numbers.std()) if target.numel() > 1 else 0.0,
            outside,
            reach,
            float((logits == 0).float().mean()),
            float(logits.abs().max()) if is_finite else math.inf,
            float(logits.std()) if is_finite and logits.numel() > 1 else 0.0,
            float((rows.sum(1) - 1).abs().max()) if is_finite else math.inf,
            float((rows.exp().sum(1) - 1).abs().max()) if is_finite else math.inf,
            _following_share(tape, call),
            _of_constant(call),
            len(tape.criteria),
            call.function.__name__,
            _arguments(call),
            float(logits.float().mean()) if is_finite else math.nan,
            _share_of_same(tape, target),
            _place_of_target(tape, target),
            *(_of_ctc(call) if call.kind == "ctc" else (0.0, 0.0)),
        )


_DEFAULTS = {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0, "delta": 1.0, "beta": 1.0, "log_target": False}


def _arguments(call: CriterionCall) -> dict[str, str]:
    """Return the arguments of a criterion that are not PyTorch's defaults, in words."""
    import inspect

    try:
        names = list(inspect.signature(call.function).parameters)
    except (TypeError, ValueError):
        names = []
    values = dict(zip(names, call.args, strict=False)) | call.kwargs
    words = dict[str, str]()
    for name, value in values.items():
        if name in ("input", "target") or value is None or (name in _DEFAULTS and value == _DEFAULTS[name]):
            continue
        is_tensor = hasattr(value, "numel")
        few = is_tensor and value.numel() <= 8
        numbers = [f"{x:.4g}" for x in value.detach().float().reshape(-1).tolist()] if few else []
        words[name] = ", ".join(numbers) if few else f"shape {tuple(value.shape)}" if is_tensor else str(value)[:40]
    return words


def _factor(call: CriterionCall) -> tuple[float | None, float]:
    """Return the factor of the gradient that arrived to that of the criterion's plain mean, and the relative rest."""
    import torch

    assert call.gradient is not None
    if not bool(torch.isfinite(call.input).all()):
        return None, 0.0
    with torch.enable_grad():
        logits = call.input.detach().clone().requires_grad_(True)
        try:
            (plain,) = torch.autograd.grad(call.of_mean(logits), logits)
        except Exception:  # arguments that only the script's own call makes sense of
            return None, 0.0
    square = float((plain * plain).sum())
    if not square or not math.isfinite(square):
        return None, 0.0
    factor = float((call.gradient * plain).sum()) / square
    rest = float((call.gradient - factor * plain).norm()) / max(1e-30, float(call.gradient.norm()))
    return (factor, rest) if rest < _FIT else (None, rest)


def _of_constant(call: CriterionCall) -> float | None:
    """Return the loss of the best constant prediction of the targets of a step."""
    import torch

    target = call.target
    if call.kind in ("ce", "nll") and not target.dtype.is_floating_point and not _has_weight(call):
        ignored = call.kwargs.get("ignore_index", -100)
        classes = target.reshape(-1)
        classes = classes[(classes != ignored) & (classes >= 0)]
        if not classes.numel():
            return None
        shares = torch.bincount(classes).float()
        shares = shares[shares > 0] / shares.sum()
        return float(-(shares * shares.log()).sum())
    if call.kind == "mse" and target.numel() > 1:
        return float(target.float().var(unbiased=False))
    return None


def _following_shares(tape: Tape, call: CriterionCall) -> dict[int, float]:
    """Return for each axis of the tokens the share of the targets that are the next token along it, in the order that fits best."""
    source = next(iter(tape.sources()), None)
    target = call.target
    if source is None or source.dtype.is_floating_point or target.dtype.is_floating_point or target.numel() != source.numel():
        return {}
    orders = target.reshape(source.shape), target.reshape(source.shape[::-1]).t()
    shares = dict[int, float]()
    if source.shape[1] > 1:
        shares[1] = max(float((ordered[:, :-1] == source[:, 1:]).float().mean()) for ordered in orders)
    if source.shape[0] > 1:
        shares[0] = max(float((ordered[:-1] == source[1:]).float().mean()) for ordered in orders)
    return shares


def _following_share(tape: Tape, call: CriterionCall) -> float | None:
    return max(_following_shares(tape, call).values(), default=None)


def time_axis_of(tape: Tape, call: CriterionCall) -> int | None:
    """Return the axis of the tokens along which all targets are the next ones; None if there is none."""
    return next((axis for axis, share in _following_shares(tape, call).items() if share == 1), None)


def _tokens_of(tape: Tape) -> Tensor | None:
    """Return the tokens that the model reads: those it looks up, or those of one-hot rows; None if it reads others, or several."""
    if len(tape.embedded) == 1:
        return tape.embedded[0][1].detach()
    sources = tape.sources()
    if tape.embedded or len(sources) != 1 or not sources[0].dtype.is_floating_point:
        return None
    rows = sources[0].detach()
    is_one_hot = rows.shape[-1] > 1 and bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(-1) == 1).all())
    return rows.argmax(-1) if is_one_hot else None


def _share_of_same(tape: Tape, target: Tensor) -> float | None:
    tokens = None if target.dtype.is_floating_point else _tokens_of(tape)
    return None if tokens is None else share_equal(tokens, target)


def _place_of_target(tape: Tape, target: Tensor) -> tuple[int, int] | None:
    source = next(iter(tape.sources()), None)
    return None if source is None else place_of_target(source, target)


def _of_ctc(call: CriterionCall) -> tuple[float, float]:
    """Return the share of targets that are the blank, and that of rows with fewer timesteps than targets."""
    import torch

    names = ("input", "target", "input_lengths", "target_lengths", "blank")
    arguments = dict(zip(("log_probs", "targets", *names[2:]), call.args, strict=False)) | call.kwargs
    blank = int(arguments.get("blank", 0))
    lengths = [torch.as_tensor(arguments[name]).flatten().cpu() for name in ("input_lengths", "target_lengths")]
    target, rows = call.target.detach(), call.target.dim() == 2
    if rows:
        inside = torch.arange(target.shape[1])[None] < lengths[1][:, None]
        target = target[inside.to(target.device)]
    share = float((target == blank).float().mean()) if target.numel() else 0.0
    return share, float((lengths[0] < lengths[1]).float().mean())


def _has_weight(call: CriterionCall) -> bool:
    return call.kwargs.get("weight") is not None or (len(call.args) > 2 and call.args[2] is not None)


def linear_gradient_kind(tape: Tape) -> tuple[str, float] | None:
    """Return "minus probability" or "minus cross-entropy" if the gradient at the last Linear is of that form to rounding, with the
    relative rest; None otherwise, or where torch's own criterion is used.

    The gradient of cross-entropy is p − y a place, and that of minus the probability of the target p_y (p − y).
    """
    import torch

    linear = tape.linear
    if tape.criterion is not None or linear is None or linear.gradient is None or linear.output.shape[-1] < 2:
        return None
    logits = linear.output.reshape(-1, linear.output.shape[-1]).double()
    gradient = linear.gradient.reshape(logits.shape).double()
    reached = gradient.abs().amax(1) > 0
    if not bool(reached.any()) or not bool(torch.isfinite(logits).all() & torch.isfinite(gradient).all()):
        return None
    logits, gradient = logits[reached], gradient[reached]
    chances = logits.softmax(-1)
    for sign, kind in ((1, "minus probability"), (-1, "minus cross-entropy")):
        targets = torch.nn.functional.one_hot((sign * gradient).argmin(1), logits.shape[1])
        plain = chances - targets
        form = (chances * targets).sum(1, keepdim=True) * plain if sign > 0 else -plain
        size = (form * form).sum(1)
        if not bool((size > 0).all()):
            continue
        factors = (gradient * form).sum(1) / size
        rest = float((gradient - factors[:, None] * form).norm() / gradient.norm())
        others = (gradient * plain).sum(1) / (plain * plain).sum(1)
        is_even = len(factors) > 1 and float(factors.std() / factors.mean().abs()) < _FIT
        is_cross_entropy = sign > 0 and len(others) > 1 and float(others.std() / others.mean().abs()) < 2 * _FIT
        if rest < 1e-4 and is_even and not is_cross_entropy:
            return kind, rest
    return None
