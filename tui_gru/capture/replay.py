"""Computes watched steps of a script again, on a copy of its model: with other inputs, weights, rates or parts of the loss.

The script's model, its optimizer and its random numbers stay as they are. What is drawn at random in a step is a constant of it.
"""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.capture.call_tensors import tensors_in
from tui_gru.capture.criterion import CRITERIA, CriterionCall, Tape
from tui_gru.capture.facts import StepWatch
from tui_gru.errors import CaptureError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

MOST_PLACES = 24  # predictions whose reading is examined
WORK = 10**9  # products of a weight and an input that one trial may compute
_OF_CALLS = 15 * 10**5  # such products that take as long as one call of torch, forwards and backwards
MOST_TRAINED, LEAST_TRAINED = 110, 24  # steps of a trial
JUDGED = 4  # steps that a trial does not train on, and is judged by
_OF_NAN = re.compile(r"Function '(\w+?)Backward\d*' returned nan values")
#: A hook of the replay on a criterion: gets the call's function, args and kwargs, and returns the last two.
ChangeCriterion = Callable[[Any, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


@dataclass(frozen=True)
class TrialOfSteps:
    """The losses of a trial: of the steps that it trained on, in order, and those of each step it is judged by, at its end."""

    trained: tuple[float, ...]
    judged: tuple[float, ...]

    @property
    def loss(self) -> float:
        """The mean loss at the end: of the steps that it is judged by, or of the last third; infinite if it is not finite."""
        last = self.judged or self.trained[-max(1, len(self.trained) // 3) :]
        return sum(last) / len(last) if last and all(map(math.isfinite, last)) else math.inf


class Replay:
    """The watched steps of a script as they can be computed again. Raises `CaptureError` if none can be."""

    def __init__(self, watch: StepWatch) -> None:
        self.watch = watch
        self.tapes = [
            tape for tape in watch.tapes
            if tape.root is not None and tape.root.requires_grad and tape.root.numel() == 1 and tape.loss is not None
        ]  # fmt: skip
        if not self.tapes:
            raise CaptureError("no watched step has a loss that depends on the model, so none can be computed again")
        self.evaluates = bool(self.tapes[-1].evaluating) and not watch.module.training

    @property
    def finite(self) -> list[Tape]:
        """The steps with a finite loss."""
        return [tape for tape in self.tapes if tape.loss is not None and math.isfinite(tape.loss)]

    def copied(self, *, start: bool) -> ModelCopy:
        """Return a copy of the model, with the weights that it had when the watch began, or with its present ones."""
        import torch

        memo: dict[int, Any] = {}
        for part in self.watch.names:  # a tensor of a graph cannot be copied
            for value in part.__dict__.values():
                for tensor in tensors_in(value, whole_numbers=True):
                    if not tensor.is_leaf:
                        memo[id(tensor)] = tensor.detach()
        module = copy.deepcopy(self.watch.module, memo)
        for mine, theirs in zip(module.parameters(), self.watch.module.parameters(), strict=True):
            mine.requires_grad_(theirs.requires_grad)
            mine.grad = None
        state = self.watch.start_state if start and self.watch.start_state else self.watch.module.state_dict()
        with torch.no_grad():
            module.load_state_dict(state)
        parts = dict(zip(self.watch.module.modules(), module.modules(), strict=True))
        values: dict[int, Tensor] = {id(a): b for a, b in zip(self.watch.module.parameters(), module.parameters(), strict=True)}
        values |= {id(a): b for a, b in zip(self.watch.module.buffers(), module.buffers(), strict=True)}
        return ModelCopy(module, parts, values)

    def train(
        self,
        tapes: Sequence[Tape],
        judged: Sequence[Tape] = (),
        *,
        steps: int = MOST_TRAINED,
        start: bool = True,
        rate: float = 1.0,
        factor: float = 1.0,
        clip: float | None = None,
        settings: Mapping[str, Any] | None = None,
        inputs: Callable[[Tape], Mapping[int, Tensor]] | None = None,
        change: ChangeCriterion | None = None,
        judged_with: ChangeCriterion | None = None,
        prepare: Callable[[Module], object] | None = None,
        optimizer: Callable[[Sequence[Any]], Optimizer] | None = None,
        check: Callable[[], object] = lambda: None,
    ) -> TrialOfSteps:
        """Train a copy on some steps, one after the other, and judge it by others that it does not see.

        `rate` and `factor` multiply the learning rate and the loss. `settings` replace those of the optimizer, `inputs` tensors of
        a step by their ids, `change` what the criterion gets, `judged_with` what it gets where the trial is judged; `prepare` gets
        the copy before.
        """
        import torch

        with self._alone():
            made = self.copied(start=start)
            if not self.evaluates:
                made.module.train()
            if prepare is not None:
                prepare(made.module)
            trained = list[float]()
            learner = self._optimizer(made, rate, settings or {}) if optimizer is None else optimizer(
                [p for p in made.module.parameters() if p.requires_grad]
            )  # fmt: skip
            for i in range(self.steps_within_work(tapes, steps)):
                check()
                tape = tapes[i % len(tapes)]
                learner.zero_grad()
                loss, _ = self.compute(tape, made, dict(inputs(tape)) if inputs else {}, change)
                (loss * factor).backward()  # type: ignore[no-untyped-call]
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(made.module.parameters(), clip)
                learner.step()
                trained.append(float(loss.detach()))
                if not math.isfinite(trained[-1]):
                    return TrialOfSteps(tuple(trained), (math.inf,) * len(judged))
            made.module.eval()
            with torch.no_grad():
                losses = [float(self.compute(t, made, dict(inputs(t)) if inputs else {}, judged_with or change)[0]) for t in judged]
        return TrialOfSteps(tuple(trained), tuple(losses))

    def steps_within_work(self, tapes: Sequence[Tape], steps: int) -> int:
        """Return how many steps a trial may take: fewer for a large model. It does not depend on the machine."""
        return max(LEAST_TRAINED, min(steps, WORK // self.work_of(tapes[0])))

    def work_of(self, tape: Tape) -> int:
        """Return about how many products of a weight and an input a step computes forwards, with the fixed cost of its calls."""
        parameters = sum(p.numel() for p in self.watch.parameters)
        sources = tape.sources()
        rows = math.prod(sources[0].shape[:2]) if sources else 1
        return parameters * rows + _OF_CALLS * max(1, len(tape.calls) + len(tape.recurrent))

    def losses(self, tapes: Sequence[Tape], inputs: Callable[[Tape], Mapping[int, Tensor]], *, start: bool = False) -> list[float]:
        """Return the losses of some steps with other inputs, in evaluation mode, without learning."""
        import torch

        with self._alone(), torch.no_grad():
            made = self.copied(start=start)
            made.module.eval()
            return [float(self.compute(tape, made, dict(inputs(tape)))[0]) for tape in tapes]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Leave the random numbers of the script as they are, and its warnings."""
        import torch

        devices = sorted({p.device.index or 0 for p in self.watch.parameters if p.device.type == "cuda"})
        uses_mkldnn = torch._C._get_mkldnn_enabled()  # whose recurrent modules have no backward pass in evaluation mode
        with torch.random.fork_rng(devices=devices), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the script has had them
            torch.manual_seed(1)
            torch._C._set_mkldnn_enabled(False)
            try:
                yield
            finally:
                torch._C._set_mkldnn_enabled(uses_mkldnn)

    def _optimizer(self, made: ModelCopy, rate: float, settings: Mapping[str, Any]) -> Any:
        """Return an optimizer of the script's kind for the copy, with its settings but for some."""
        theirs = [one for one in self.watch.optimizers_that_step() if len(one.param_groups) < 100]
        if not theirs:
            raise CaptureError("no optimizer of the model has run")
        kind, groups, held = type(theirs[-1]), list[dict[str, Any]](), set[int]()
        for group in [group for one in theirs if type(one) is kind for group in one.param_groups]:
            parameters = [made.values[id(p)] for p in group["params"] if id(p) in made.values and id(p) not in held]
            held |= {id(p) for p in group["params"]}
            changed = {name: value for name, value in group.items() if name not in ("params", "initial_lr")}
            changed |= {name: value for name, value in settings.items() if name in group}
            changed["lr"] = float(changed["lr"]) * rate
            if parameters:
                groups.append({**changed, "params": parameters})
        return kind(groups, lr=groups[0]["lr"])  # type: ignore[call-arg]

    def compute(
        self, tape: Tape, made: ModelCopy, inputs: Mapping[int, Tensor], change: ChangeCriterion | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute a step again. Returns its loss, and the inputs of its criteria."""
        values, logits = {**made.values, **inputs}, list["Tensor"]()
        for call in tape.calls:
            args, kwargs = (_replaced(part, values) for part in (call.args, dict(call.kwargs)))
            if hasattr(call.function, "parameters"):
                output = made.parts.get(call.function, call.function)(*args, **kwargs)
            else:
                if getattr(call.function, "__name__", "") in CRITERIA:
                    logits.append(args[0] if args else kwargs["input"])
                    if change is not None:
                        args, kwargs = change(call.function, args, kwargs)
                output = call.function(*args, **kwargs)
            for before, after in zip(_tensors(call.output), _tensors(output), strict=False):
                values[id(before)] = after
        assert tape.root is not None
        loss = values.get(id(tape.root))
        if loss is None:
            raise CaptureError("the loss of a watched step cannot be computed again")
        return loss, logits

    # What a prediction reads

    def reads(self, tape: Tape, source: Tensor, places: Sequence[int], *, start: bool = True) -> list[NDArray[np.bool_]] | None:
        """Return for some predictions which cells (axis 0, axis 1) of an input their gradients reach; None if that cannot be found.

        The whole model is computed in evaluation mode, with its first weights or its present ones.
        """
        import torch
        from torch.overrides import TorchFunctionMode

        with self._alone():
            made = self.copied(start=start)
            made.module.eval()
            leaves, inner, linear = list[tuple["Tensor", "Tensor"]](), list["Tensor"](), list["Tensor"]()
            tokens = not source.dtype.is_floating_point
            leaf = None if tokens else source.detach().clone().requires_grad_(True)
            for part in made.module.modules():
                if isinstance(part, torch.nn.Linear):
                    part.register_forward_hook(lambda part, args, output: linear.append(output))
            looked_up = {torch.nn.functional.embedding, torch.nn.functional.one_hot}

            class Cut(TorchFunctionMode):
                """Makes what is looked up for tokens the leaves of the graph."""

                def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                    kwargs = kwargs or {}
                    if getattr(function, "__name__", "") in CRITERIA:
                        inner.append(args[0] if args else kwargs["input"])
                    output = function(*args, **kwargs)
                    if tokens and function in looked_up:
                        ids = args[0] if args else kwargs["input"]
                        if _is_part(ids, source):
                            output = output.detach().float().requires_grad_(True)
                            leaves.append((ids, output))
                    return output

            with Cut():
                _, logits = self.compute(tape, made, {} if leaf is None else {id(source): leaf})
            of = criterion_or_linear(tape)
            outputs = linear[-1:] if of.kind == "linear" else inner or logits
            if not outputs or (tokens and not leaves):
                return None
            rows = of.rows(outputs[-1])
            cells = list[NDArray[np.bool_]]()
            for place in places:
                value = (rows[place] * torch.linspace(0.7, 1.3, rows.shape[1], dtype=rows.dtype, device=rows.device)).sum()
                if (reached := _reached(value, leaf, leaves, source)) is None:
                    return None
                cells.append(np.array(reached.cpu().tolist(), bool).reshape(source.shape[:2]))
        return cells

    def changes(self, tape: Tape, source: Tensor, place: int, cell: NDArray[np.bool_]) -> bool:
        """Return True if a prediction changes when all other cells of an input than these change. A gradient of 0 there does not
        prove that nothing is read."""
        import torch

        other = torch.from_numpy(~cell).to(source.device)
        changed = source.clone()
        changed[other] = changed[other].roll(1) if not source.dtype.is_floating_point else changed[other] + 1.0

        def row(values: Tensor) -> Tensor:
            made, linear = self.copied(start=True), list["Tensor"]()
            made.module.eval()
            for part in made.module.modules():
                if isinstance(part, torch.nn.Linear):
                    part.register_forward_hook(lambda part, args, output: linear.append(output))
            with torch.no_grad():
                _, logits = self.compute(tape, made, {id(source): values})
            of = criterion_or_linear(tape)
            return of.rows((linear if of.kind == "linear" else logits)[-1])[place]

        with self._alone():
            one, again, other_row = row(source), row(source), row(changed)
        noise = float((one - again).abs().max())
        difference = float((one - other_row).abs().max())
        return not math.isfinite(difference) or difference > max(1e-6, 10 * noise)  # of what is not finite, nothing is known

    def predictions_of_rows(self, tape: Tape, source: Tensor, axis: int, rows: Sequence[int]) -> list[set[int]]:
        """Return for some rows of an input, along an axis of it, which predictions change when the row alone does."""
        import torch

        def predictions(values: Tensor) -> Tensor:
            made = self.copied(start=True)
            made.module.eval()
            with torch.no_grad():
                _, logits = self.compute(tape, made, {id(source): values})
            of = criterion_or_linear(tape)
            return of.rows(logits[-1])

        with self._alone():
            plain, again = predictions(source), predictions(source)
            noise = float((plain - again).abs().max())
            places = list[set[int]]()
            for row in rows:
                changed = source.clone()
                part = changed.select(axis, row)
                part.copy_(part + 0.01 if source.dtype.is_floating_point else part.roll(1, 0).flip(0))
                moved = (predictions(changed) - plain).abs().amax(1) > max(1e-6, 10 * noise)
                places.append(set(torch.nonzero(moved).flatten().tolist()))
        return places

    def not_finite_function(self) -> tuple[str, Tape] | None:
        """Return the function whose backward pass is the first to give NaN in a step with a finite loss, and the step; None if none
        does. Where the weights are not finite any more, they are drawn as PyTorch does."""
        import torch

        with self._alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for tape in self.tapes[:2]:
                made = self.copied(start=True)
                if not all(bool(torch.isfinite(p).all()) for p in made.module.parameters()):
                    for part in made.module.modules():
                        if hasattr(part, "reset_parameters"):
                            part.reset_parameters()  # type: ignore[operator]
                if not self.evaluates:
                    made.module.train()
                loss, _ = self.compute(tape, made, {})
                if not math.isfinite(float(loss.detach())):
                    continue
                try:
                    with torch.autograd.set_detect_anomaly(True):
                        loss, _ = self.compute(tape, made, {})
                        loss.backward()  # type: ignore[no-untyped-call]
                except RuntimeError as error:
                    if match := _OF_NAN.search(str(error)):
                        return match[1], tape
        return None

    def where_rows_mix(self, tape: Tape, source: Tensor) -> str:
        """Return in words between which modules a row begins to depend on others; "" if that is not known."""
        import torch

        if not source.dtype.is_floating_point:
            return ""
        with self._alone():
            made = self.copied(start=True)
            made.module.eval()
            outputs = list[tuple["Module", list["Tensor"], list["Tensor"]]]()

            def note(part: Module, args: Any, output: Any) -> None:
                outputs.append(
                    (part, [t for t in _tensors(output) if t.requires_grad], [t for t in _tensors(args) if t.requires_grad])
                )

            single = (torch.nn.MultiheadAttention, torch.nn.RNNBase, torch.nn.RNNCellBase)
            for part in made.module.modules():
                if not list(part.children()) or isinstance(part, single):
                    part.register_forward_hook(note)
            leaf = source.detach().clone().requires_grad_(True)
            self.compute(tape, made, {id(source): leaf})
            names = {theirs: self.watch.names[mine] for mine, theirs in made.parts.items()}
            before = "the input"
            for part, results, arguments in outputs:
                if any(_mixes(tensor, leaf) for tensor in results[:1]):
                    if any(_mixes(tensor, leaf) for tensor in arguments[:1]):
                        return f"between {before} and the input of {names[part]}"
                    return f"in {names[part]} ({type(part).__name__})"
                before = names[part]
            return f"behind {before}"

    def flow(self, tape: Tape) -> tuple[float, int] | None:
        """Return the norm of the gradient at the input of the first timestep over the largest of all, and the number of timesteps,
        for a model with one recurrent module; None for others."""
        import torch

        with self._alone():
            made = self.copied(start=False)
            parts = [part for part in made.module.modules() if isinstance(part, torch.nn.RNNBase)]
            read = list["Tensor"]()

            def lead(part: Module, args: tuple[Any, ...]) -> Any:
                if not isinstance(args[0], torch.Tensor) or args[0].dim() != 3:
                    return None
                read.append(args[0].detach().clone().requires_grad_(True))
                return (read[-1], *args[1:])

            if len(parts) != 1:
                return None
            parts[0].register_forward_pre_hook(lead)
            loss, _ = self.compute(tape, made, {})
            if len(read) != 1:
                return None
            (gradient,) = torch.autograd.grad(loss, read, allow_unused=True)
            if gradient is None:
                return None
            norms = gradient.norm(dim=-1).mean(0 if parts[0].batch_first else 1)
            largest = float(norms.max())
        return (float(norms[0]) / largest, len(norms)) if largest > 0 and math.isfinite(largest) else None


@dataclass(frozen=True, eq=False)
class ModelCopy:
    """A copy of a model. `parts` leads from each module to that of the copy, `values` from the id of a parameter or buffer."""

    module: Module
    parts: Mapping[Module, Module]
    values: Mapping[int, Tensor]


def criterion_or_linear(tape: Tape) -> CriterionCall:
    """Return the criterion of a step, or the last Linear in its place where the loss is none of torch's."""
    if tape.criterion is not None:
        return tape.criterion
    linear = tape.linear
    if linear is None:
        raise CaptureError("a watched step has no criterion and no Linear")
    return CriterionCall(_nothing, "linear", linear.output, linear.output, (), {}, "", linear.gradient)


def _nothing(*args: Any) -> None:
    """In the place of a criterion that is not one of torch's."""


def _tensors(value: Any) -> list[Tensor]:
    return tensors_in(value, whole_numbers=True)


def _replaced(value: Any, values: Mapping[int, Tensor]) -> Any:
    """Return nested arguments with other tensors in the place of those with some ids."""
    import torch

    if isinstance(value, torch.Tensor):
        return values.get(id(value), value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_replaced(inner, values) for inner in value))
    if isinstance(value, tuple | list):
        return type(value)(_replaced(inner, values) for inner in value)
    if isinstance(value, dict):
        return {name: _replaced(inner, values) for name, inner in value.items()}
    if isinstance(value, slice):
        return slice(*(_replaced(part, values) for part in (value.start, value.stop, value.step)))
    return value


def _is_part(ids: Tensor, source: Tensor) -> bool:
    import torch

    same = ids.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
    return same or (ids.shape == source.shape and torch.equal(ids, source))


def _reached(value: Tensor, leaf: Tensor | None, leaves: Sequence[tuple[Tensor, Tensor]], source: Tensor) -> Tensor | None:
    """Return which cells of an input the gradient of a value reaches."""
    import torch

    if leaf is not None:
        (gradient,) = torch.autograd.grad(value, [leaf], retain_graph=True, allow_unused=True)
        if gradient is None:
            return torch.zeros(leaf.shape[:2], dtype=torch.bool)
        _check_finite(gradient)
        return (gradient != 0).flatten(2).any(-1)
    gradients = torch.autograd.grad(value, [output for _, output in leaves], retain_graph=True, allow_unused=True)
    # A lookup of a single timestep has a part of the source's storage: the place of each entry in it is known by its strides.
    storage = torch.zeros(source.untyped_storage().nbytes() // source.element_size(), dtype=torch.bool)
    cells = torch.zeros(source.shape, dtype=torch.bool)
    for (ids, _), gradient in zip(leaves, gradients, strict=True):
        if gradient is None:
            continue
        _check_finite(gradient)
        reached = (gradient != 0).any(-1).cpu()
        if ids.shape == source.shape:
            cells |= reached
        else:
            places = torch.arange(len(storage)).as_strided(ids.size(), ids.stride(), ids.storage_offset())
            storage[places[reached]] = True
    return cells | storage.as_strided(source.size(), source.stride(), source.storage_offset())


def _check_finite(gradient: Tensor) -> None:
    import torch

    if not bool(torch.isfinite(gradient).all()):
        raise CaptureError("the gradient of a prediction is not finite, so it does not show what is read")


def _mixes(tensor: Tensor, leaf: Tensor) -> bool:
    """Return True if the first or the last row of a tensor depends on several rows of an input, along its first axis."""
    import torch

    rows = leaf.shape[0]
    if not tensor.dim() or rows not in tensor.shape:
        return False
    for place in (0, -1):
        row = tensor.select(list(tensor.shape).index(rows), place)
        weights = torch.linspace(0.7, 1.3, row.numel(), dtype=row.dtype, device=row.device).reshape(row.shape)
        (gradient,) = torch.autograd.grad((row * weights).sum(), leaf, retain_graph=True, allow_unused=True)
        if gradient is not None and int((gradient.abs().flatten(1).sum(1) > 0).sum()) > 1:
            return True
    return False
