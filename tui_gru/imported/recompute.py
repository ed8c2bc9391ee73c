"""Computes captured calls again and compares the results with what the script had: outputs, gradients, sequences of calls."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np

from tui_gru.capture.calls import CapturedStep, GRUCall, GRUModule, Note, join_calls
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import Compiled, compiled
from tui_gru.engine.config import machine_memory
from tui_gru.engine.model import Structure
from tui_gru.engine.numbers import gib, same, scientific, significant
from tui_gru.engine.training import compute, forward_setting
from tui_gru.engine.weights import Weights
from tui_gru.equations.functions import GATES
from tui_gru.equations.page import KEEP, LIVE, SCRIPT, SET, Layer, text_of
from tui_gru.equations.syntax import Name, with_word
from tui_gru.errors import CaptureError
from tui_gru.files.arrays import AnyArray
from tui_gru.files.kinds import KINDS, Blocks, Convention, canonical
from tui_gru.imported.causes import Cause, Origin, StepGradients, cause_of, error

# ------------------------------------------------------------------------------
# Comparison of recomputed outputs with recorded ones, end to end and one step at a time.


#: The largest rounding error, relative to the largest number, by the type in which the numbers were computed.
TOLERANCES = {"float64": 1e-10, "float32": 1e-5, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 2e-2}
#: Half an ε: the rounding of one number, relative to it.
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def tolerance_of(call: GRUCall) -> float:
    """Return the tolerance for a call: that of its type, or of the type in which its products were computed."""
    return max(TOLERANCES.get(call.dtype, 0.0), TOLERANCES.get(call.autocast, 0.0))


@dataclass(frozen=True, eq=False)
class ArrayDifference:
    """Two arrays that should be equal, `ours` and the `recorded` one.

    `worst` is their largest difference, `largest` the largest finite recorded number. `over_time` (T) has the largest difference at
    each timestep, if they have timesteps.
    """

    name: str
    ours: AnyArray
    recorded: AnyArray
    worst: float
    largest: float
    over_time: AnyArray | None = None

    @property
    def error(self) -> float:
        """The largest difference over the largest recorded number."""
        return self.worst / self.largest if self.worst and self.largest else self.worst


def array_difference(name: str, ours: AnyArray, recorded: AnyArray, *, timed: bool = False) -> ArrayDifference:
    """Compare two arrays. NaN equals NaN, and infinities equal themselves."""
    with np.errstate(all="ignore"):
        difference = np.where(same(ours, recorded), 0, np.abs(ours - recorded))
    difference = np.nan_to_num(difference, nan=np.inf)
    largest = np.abs(recorded).max(initial=0, where=np.isfinite(recorded))
    over_time = difference.reshape(len(difference), -1).max(axis=1, initial=0) if timed else None
    return ArrayDifference(name, ours, recorded, float(difference.max(initial=0)), float(largest), over_time)


def output_name(record: BatchRecord) -> str:
    """Return the name of the GRU's output in a model."""
    structure = record.compiled.model.structure
    return (
        "out"
        if structure.lengths
        else record.compiled.model.composed.layers[-1].output
        if not structure.bidirectional
        else (f"out_l{structure.layers - 1}")
    )


def stepwise(record: BatchRecord, out: AnyArray, lengths: AnyArray | None = None) -> ArrayDifference:
    """Compare outputs (T, B, directions · H) from elsewhere with those of a record, each computed from the recorded state before
    it, and the first ones from the initial states of the record. `lengths` (B) are the row lengths.

    Layers below the last have no recorded states, so they run from their first state to their end.
    """
    T, B = (record.compiled.sizes[axis] for axis in "TB")
    live = np.ones((T, B), bool) if lengths is None else np.arange(T)[:, None] < lengths
    layers = record.compiled.model.composed.layers[-2 if record.compiled.model.structure.bidirectional else -1 :]
    ours = [
        _one_step(record, layer, outputs, live) for layer, outputs in zip(layers, np.split(out, len(layers), axis=2), strict=True)
    ]
    return array_difference("out, one step at a time", np.where(live[..., None], np.concatenate(ours, axis=2), 0), out, timed=True)


def _one_step(record: BatchRecord, layer: Layer, out: AnyArray, live: AnyArray) -> AnyArray:
    """Return the outputs (T, B, H) of a layer in one direction, each computed from the output that `out` records before it.

    The cell of an LSTM is not recorded, so it is computed along the timesteps.
    """
    compiled_, x = record.compiled, record.array(layer.reads)
    T, B, H = out.shape
    one = replace(compiled_.model.structure, layers=1, bidirectional=False, backwards=False, input="dense", head="", loss="",
                  lengths=False, dropout=False, resets=False)  # fmt: skip
    at_once = len(compiled_.states) == len(compiled_.model.composed.layers)  # the output is the only state of a layer
    rows = T * B if at_once else B
    step = compiled(one, {**compiled_.sizes, "I": x.shape[2], "B": rows, "T": 1}, str(compiled_.dtype))
    single, weights = BatchRecord(step), Weights.zeros(step.layout, str(step.dtype))
    for name, value in weights.items():
        value[...] = record.before[name + layer.suffix]
    single.before = weights
    output, *memory = step.states
    for name in memory:
        single.border(name, end=False)[...] = record.border(name + layer.suffix, end=False)
    before = _states_before(out, record.border(layer.output, end=False), live, backwards=layer.backwards)
    if compiled_.model.structure.resets:
        keep, at = record.array(KEEP).reshape(T, B, 1), {name: record.array(with_word(name + layer.suffix, SET)) for name in memory}
        before = keep * before + record.array(with_word(layer.output, SET)).reshape(T, B, H)
    ours, times = np.empty_like(before), range(T)[:: -1 if layer.backwards else 1]
    for t in [slice(None)] if at_once else times:
        for name in memory if compiled_.model.structure.resets else ():
            begin = single.border(name, end=False)
            begin[...] = keep[t] * begin + at[name].reshape(T, B, H)[t]
        single.array("x")[...] = x[t].reshape(1, rows, -1)
        single.border(output, end=False)[...] = before[t].reshape(rows, H)
        with np.errstate(all="ignore"):
            compute(single, None, learn=False)
        ours[t] = single.array(output).reshape(before[t].shape)
        for name in memory:
            begin = single.border(name, end=False)
            begin[...] = np.where(live[t, :, None], single.array(name)[0], begin)
    return ours


def _states_before(out: AnyArray, h0: AnyArray, live: AnyArray, *, backwards: bool) -> AnyArray:
    """Return the recorded state (T, B, H) before each timestep; h0 at the start of a row."""
    if not backwards:
        return np.concatenate([h0[None], out[:-1]])
    later = np.concatenate([out[1:], h0[None]])
    first = live & ~np.concatenate([live[1:], np.zeros_like(live[:1])])  # its last timestep, the first one backwards
    return np.where(first[..., None], h0, later)


# ------------------------------------------------------------------------------
# Comparison of the gradients derived from captured calls with p.grad, and the cause of a difference.


Derive: TypeAlias = Callable[[GRUCall], Mapping[str, AnyArray]]  # call -> its gradients, by torch's names

SMALLEST_CLIP = 1e-4  # clipping alone seldom gives a smaller factor


class Relation(StrEnum):
    """The relation of p.grad to the derived gradients."""

    EQUAL = "equal"
    CLIPPED = "clipped"
    UNSCALED = "unscaled"
    SCALED = "scaled"
    DIFFERENT = "different"
    NOT_FINITE = "not finite"
    INCOMPLETE = "incomplete"
    NOTHING = "nothing"


@dataclass(frozen=True, eq=False)
class GradientComparison:
    """The comparison. `differences` has, for each parameter, `factor` times the derived gradient and p.grad; and for each weight
    that is computed from parameters, the derived gradient and its gradient from autograd, which is not scaled yet.

    `ignored` is the number of first calls that are omitted because the script cleared their gradients. `added` says that p.grad was
    not empty before, so that only the added part is compared. `norm` is the norm of all derived gradients together.
    """

    cause: Relation
    differences: tuple[ArrayDifference, ...] = ()
    factor: float = 1.0
    norm: float = math.nan
    ignored: int = 0
    added: bool = False
    tolerance: float = 0.0
    evidence: StepGradients | None = None

    @cached_property
    def origin(self) -> Cause | None:
        """Why p.grad is another gradient; None if it is not. The captured calls may be made again to find out."""
        return cause_of(self.evidence) if self.cause is Relation.DIFFERENT and self.evidence is not None else None

    @property
    def is_misread(self) -> bool:
        """True if autograd through the module itself has shown that the derived gradients are wrong."""
        return self.origin is not None and self.origin.origin is Origin.MISREAD

    @property
    def error(self) -> float:
        """The largest difference relative to the largest gradient, over all parameters."""
        largest = max((one.largest for one in self.differences), default=0.0)
        worst = max((one.worst for one in self.differences), default=0.0)
        return worst / largest if worst and largest else worst

    @property
    def scale(self) -> float:
        """The scale of the GradScaler; 1 if there is none."""
        return float(2.0 ** round(-math.log2(self.factor))) if self.cause is Relation.UNSCALED else 1.0

    @property
    def sentence(self) -> str:
        """The result in words."""
        factor, norm = significant(self.factor), significant(self.norm, 4)
        if self.origin is not None:
            return self.origin.sentence
        return {
            Relation.EQUAL: (
                f"what the backward pass added to p.grad is the derived gradient; its norm is {norm}"
                if self.added
                else f"p.grad is the derived gradient, neither clipped nor scaled; its norm is {norm}"
            ),
            Relation.CLIPPED: (
                f"p.grad is {factor} times the derived gradient, one common factor, as of a clip; the norm was {norm}"
            ),
            Relation.UNSCALED: (
                f"p.grad is the derived gradient divided by {significant(self.scale)}, a power of two, as where a GradScaler has "
                "scaled the loss by it"
            ),
            Relation.SCALED: (
                f"p.grad is {factor} times the derived gradient, one common factor, such as of a GradScaler with a clip"
            ),
            Relation.DIFFERENT: f"p.grad is not the derived gradient, {scientific(self.error)} off",
            Relation.NOT_FINITE: (
                "p.grad has NaN or infinities: GradScaler skips such a step, any other script gets NaN weights by it"
            ),
            Relation.INCOMPLETE: "p.grad is the mean over all ranks, and not all of them are here",
            Relation.NOTHING: "no gradient is recorded",
        }[self.cause]


def compare_gradients(steps: Sequence[CapturedStep], derive: Derive) -> GradientComparison:
    """Compare the derived gradients of a step, summed over all calls, with the gradients for the optimizer.

    `steps` has the step of one process, or the same step of all ranks, whose mean is p.grad. `derive` computes the gradients of a
    call.
    """
    first = steps[0]
    recorded = {name: first.gradients[name] for name in _parameters(steps) if name in first.gradients}
    calls = [[(call, derive(call)) for call in step.calls if call.counts] for step in steps]
    computed = tuple(_computed(calls))
    if not recorded and not computed:
        return GradientComparison(Relation.NOTHING)
    if recorded and len(steps) < first.ranks:
        return GradientComparison(Relation.INCOMPLETE, computed)
    tolerance = max((tolerance_of(call) for share in calls for call, _ in share), default=TOLERANCES["float32"])
    finite = all(np.isfinite(value).all() for value in recorded.values())
    comparisons: list[GradientComparison] = []
    evidence = _evidence(steps, calls, recorded, computed, tolerance)
    for added in (False, True) if first.before else (False,):
        gradients = {name: value - first.before.get(name, 0) if added else value for name, value in recorded.items()}
        for ignored in range(max(1, len(calls[0]) if len(steps) == 1 else 1)):
            total = _mean([_sum(share[ignored:]) for share in calls])
            if not gradients.keys() <= total.keys():  # otherwise no call of some module would remain
                break
            factor = _factor([(total[name], value) for name, value in gradients.items()], tolerance)
            differences = (*(array_difference(name, factor * total[name], value) for name, value in gradients.items()), *computed)
            cause, norm = _cause(factor, tolerance) if finite else Relation.NOT_FINITE, _norm(total, computed)
            comparisons.append(GradientComparison(cause, differences, factor, norm, ignored, added, tolerance, evidence))
            if comparisons[-1].error <= tolerance and (factor == 1 or ignored or _is_handed(evidence)):
                return comparisons[-1]
    return replace(
        min(comparisons, key=lambda comparison: comparison.error), cause=Relation.DIFFERENT if finite else Relation.NOT_FINITE
    )


def _evidence(
    steps: Sequence[CapturedStep],
    calls: Sequence[Sequence[tuple[GRUCall, Mapping[str, AnyArray]]]],
    recorded: Mapping[str, AnyArray],
    computed: Sequence[ArrayDifference],
    tolerance: float,
) -> StepGradients:
    all_calls = [call for share in calls for call, _ in share]
    types = {name for call in all_calls for name in (call.dtype, call.autocast) if name} or {"float32"}
    weights = {name: call.weights.values[weight] for call in all_calls for weight, name in call.weights.parameters.items()}
    total = _mean([_sum(share) for share in calls])
    return StepGradients(
        steps,
        {name: total[name] for name in recorded if name in total},
        recorded,
        weights,
        tolerance,
        max(ROUNDOFF.get(name, ROUNDOFF["float32"]) for name in types),
        {one.name: one.error for one in computed},
    )


def _is_handed(evidence: StepGradients) -> bool:
    """Return True unless autograd is known to have handed another gradient to the parameters than the derived one: then the script
    did not multiply that."""
    handed = evidence.handed
    return handed is None or error(evidence.derived, handed) <= evidence.tolerance


def _parameters(steps: Sequence[CapturedStep]) -> list[str]:
    """Return the parameters that are weights of calls with a gradient."""
    named = (name for step in steps for call in step.calls if call.counts for name in call.weights.parameters.values())
    return list(dict.fromkeys(named))


def _sum(share: Sequence[tuple[GRUCall, Mapping[str, AnyArray]]]) -> dict[str, AnyArray]:
    """Return the sum of the derived gradients of several calls, by parameter."""
    total: dict[str, AnyArray] = {}
    for call, gradients in share:
        for weight, name in call.weights.parameters.items():
            total[name] = total[name] + gradients[weight] if name in total else gradients[weight]
    return total


def _mean(shares: Sequence[Mapping[str, AnyArray]]) -> dict[str, AnyArray]:
    names = dict.fromkeys(name for share in shares for name in share)
    return {name: np.sum([share[name] for share in shares if name in share], axis=0) / len(shares) for name in names}


def _computed(calls: Sequence[Sequence[tuple[GRUCall, Mapping[str, AnyArray]]]]) -> Iterator[ArrayDifference]:
    """Return the weights that are computed from parameters, separately for each set, summed over the calls that used it."""
    for share in calls:
        sets = {id(call.weights): call.weights for call, _ in share}
        for used in sets.values():
            for weight, gradient in used.gradients.items():
                ours: AnyArray = np.sum([derived[weight] for call, derived in share if call.weights is used], axis=0)
                yield array_difference(f"{used.module.name}.{weight}", ours, gradient)


def _factor(pairs: Sequence[tuple[AnyArray, AnyArray]], tolerance: float) -> float:
    """Return the factor of the derived gradients; 1 if that fits as well, or if the factor cannot be determined."""
    products = sum(float(np.vdot(ours, recorded)) for ours, recorded in pairs)
    squares = sum(float(np.vdot(ours, ours)) for ours, _ in pairs)
    factor = products / squares if squares and math.isfinite(products) and math.isfinite(squares) else 1.0
    return factor if factor > 0 and abs(factor - 1) > tolerance else 1.0


def _cause(factor: float, tolerance: float) -> Relation:
    if factor == 1:
        return Relation.EQUAL
    if factor < 1 and abs(factor * 2.0 ** round(-math.log2(factor)) - 1) <= tolerance:
        return Relation.UNSCALED
    return Relation.CLIPPED if SMALLEST_CLIP < factor < 1 else Relation.SCALED


def _norm(total: Mapping[str, AnyArray], computed: Sequence[ArrayDifference]) -> float:
    arrays = [*total.values(), *(one.ours for one in computed)]
    return math.sqrt(sum(float(np.vdot(array, array)) for array in arrays))


# ------------------------------------------------------------------------------
# The equations of a convention.


_SHIPPED = {("before", "keeps"): "gru", ("before", "takes"): "gru-cho", ("after", "keeps"): "gru-reset-after"}
_GATE_LINE = re.compile(r"^(\w+: .*= )σ\((.*)\)(\s*#.*)$", re.MULTILINE)
_KEEPS, _TAKES = "near 1 keeps the old state", "near 1 takes the candidate"


def cell_in(convention: Convention) -> tuple[str, str]:
    """Return the name of the cell and the text of its equations; the text is empty for a built-in cell."""
    if convention.kind == "gru":
        return _gru(convention)
    if (convention.gate, convention.state_function) == (KINDS[convention.kind].functions[0], "tanh"):
        return convention.kind, ""
    text = text_of("cell", convention.kind)
    if convention.kind == "rnn":
        return "rnn, relu", text.replace("tanh", "relu")
    return f"lstm, {convention.functions}", _with_functions(text, convention)


def _with_functions(text: str, convention: Convention) -> str:
    """Return the text of a cell with other functions of its gates and of its state."""
    gate = GATES[convention.gate]
    text = text.replace("tanh", convention.state_function)
    return text if gate.slope is None else _GATE_LINE.sub(lambda line: line[1] + gate.formula.format(line[2]) + line[3], text)


@lru_cache(maxsize=16)
def _gru(convention: Convention) -> tuple[str, str]:
    shipped = _SHIPPED.get((convention.reset, convention.z), "")
    if shipped and convention.functions == "sigmoid":
        return shipped, ""
    text = text_of("cell", shipped or "gru-reset-after")
    if not shipped:
        old, new = (re.search("^carry:.*$", template, re.MULTILINE) for template in (text, text_of("cell", "gru-cho")))
        assert old is not None
        assert new is not None
        text = text.replace(old[0], new[0]).replace(_KEEPS, _TAKES)
    return f"gru, {convention.without_order}", _with_functions(text, convention)


# ------------------------------------------------------------------------------
# A captured call as a model: its structure, sizes and weights, the computation of its values, and the conversion back to torch's
# names and shapes.


HEAD_TOLERANCE = 1e-4  # of the largest gradient of an output, for its part that came through the head


def convention_of(module: GRUModule) -> Convention:
    """Return the convention of a module: torch's, or that of a hand-written cell."""
    if module.convention is not None:
        return module.convention
    if module.family == "GRU":
        return Convention(module.gates, "after")
    gate = module.nonlinearity if module.family == "RNN" else "sigmoid"
    return Convention(module.gates, z="", gate=gate, kind=module.family.lower())


def structure_of(
    module: GRUModule,
    *,
    head: bool,
    lengths: bool,
    dropout: bool,
    resets: bool,
    inner: bool = False,
    script: bool = False,
) -> Structure:
    """Return the model of a module on imported numbers: its stack, with `head` if only the head read the output."""
    equations = module.equations
    cell, text = cell_in(convention_of(module)) if equations is None else (equations.name, equations.text)
    return Structure(
        cell=cell,
        cell_text=text,
        layers=module.layers,
        bidirectional=module.bidirectional,
        input="dense",
        head="linear" if head else "",
        loss="",
        lengths=lengths,
        dropout=dropout,
        resets=resets,
        inner=inner,
        script=script,
    )


def sizes_of(module: GRUModule, timesteps: int, rows: int, classes: int) -> dict[str, int]:
    """Return the sizes of the model; `classes` is the width of the head, or 0. Raises `CaptureError` for an empty call."""
    if not rows or not timesteps:
        raise CaptureError(f"{module.name}: a call without rows or timesteps has nothing to show; choose another one")
    sizes = {"I": module.input_size, "H": module.hidden_size, "B": rows, "T": timesteps}
    inner = {} if module.equations is None else module.equations.inner_sizes
    return sizes | inner | ({"V": classes} if classes else {})


def check_masks(call: GRUCall) -> None:
    """Raise `CaptureError` for a call with unknown masks, whose inner values cannot be computed."""
    if call.module.dropout and call.training and call.module.layers > 1 and not call.masks:
        raise CaptureError(f"{call.module.name}: the masks of its dropout are not known; run it on the CPU, or with dropout 0")


def classes_of(call: GRUCall) -> int:
    """Return the width of the head of a call, if the model can include it; otherwise 0."""
    return len(call.head.weight) if call.head is not None and reads_head(call) else 0


def reads_head(call: GRUCall) -> bool:
    """Return True if the complete gradient of the output came through the head, so that the model can include the logits."""
    head = call.head
    if head is None or head.dlogits is None or call.dout is None:
        return False
    dout = head.dlogits @ head.weight
    largest = np.abs(call.dout).max(initial=0)
    return bool(np.abs(dout - call.dout).max(initial=0) <= HEAD_TOLERANCE * largest)


def compiled_for(call: GRUCall, dtype: str | None = None) -> Compiled:
    """Return the model of a call compiled for its sizes, in `dtype`; by default float64 for a float64 call, otherwise float32.

    Raises `CaptureError` for a call whose inner values cannot be computed: with unknown masks, or too large for the memory.
    """
    check_masks(call)
    classes = classes_of(call)
    sizes = sizes_of(call.module, call.timesteps, call.rows, classes)
    structure = structure_of(
        call.module,
        head=classes > 0,
        lengths=call.lengths is not None,
        dropout=bool(call.masks),
        resets=call.keep is not None,
        inner=call.inner is not None,
        script=call.script is not None,
    )
    model = compiled(structure, sizes, dtype or ("float64" if call.dtype == "float64" else "float32"))
    if model.record_bytes > machine_memory() // 2:
        raise CaptureError(
            f"{call.module.name}: the inner values of this call take {gib(model.record_bytes)}, more than half of "
            "this machine's memory; capture a smaller batch"
        )
    return model


def model_weights(call: GRUCall, model: Compiled) -> Weights:
    """Return the weights of a call, under the names of the model."""
    weights = _canonical(call.module, call.weights.values, model, 0.0)
    if (head := call.head) is not None and model.model.structure.head:
        weights["Wy"][...] = head.weight.T
        weights["by"][...] = 0 if head.bias is None else head.bias
    return weights


def recorded_gradients(step: CapturedStep, call: GRUCall, model: Compiled) -> Weights:
    """Return p.grad as the step recorded it, under the names of the model, as `BatchRecord.gradients`; NaN if nothing is known.

    It is the sum over all calls of the step, as the optimizer used it. For a weight that is computed from parameters it is the
    gradient from autograd.
    """
    used = call.weights
    gradients = {weight: step.gradients[name] for weight, name in used.parameters.items() if name in step.gradients}
    return _canonical(call.module, {**used.gradients, **gradients}, model, np.nan)


def _canonical(module: GRUModule, arrays: Mapping[str, AnyArray], model: Compiled, missing: float) -> Weights:
    """Return arrays with torch's names and shapes under the names of the model; missing arrays are filled with `missing`."""
    weights = Weights.zeros(model.layout, str(model.dtype))
    weights.flat[...] = np.nan
    if module.equations is not None:
        for name in module.weight_names:
            weights[name][...] = arrays.get(name, missing)
        return weights
    convention, G, H = convention_of(module), len(module.gates), module.hidden_size
    # The equations have the meaning of z, so no weights are negated; what is added to a bias is not in its gradient.
    convention = replace(convention, z="keeps", forget_bias=0 if math.isnan(missing) else convention.forget_bias)
    letters = KINDS[convention.kind].letters
    for suffix, layer in zip(module.suffixes, model.model.composed.layers, strict=True):
        width = len(weights[f"W{letters[convention.order[0]]}{layer.suffix}"])
        shapes = {"weight_ih": (G, H, width), "weight_hh": (G, H, H), "bias_ih": (G, H), "bias_hh": (G, H)}
        parts: list[AnyArray] = []
        for role, shape in shapes.items():
            absent = 0.0 if role.startswith("bias") and not module.bias else missing
            array = arrays.get(role + suffix)
            part = np.full(shape, absent) if array is None else array.reshape(shape)
            parts.append(part.transpose(0, 2, 1) if part.ndim == 3 else part)
        if math.isnan(missing) and convention.reset != "after":
            parts[3] = np.zeros((G, H))  # the two biases of a gate are one, with the gradient that each has
        for name, value in canonical(Blocks(*parts), convention).items():
            weights[name + layer.suffix][...] = value
    return weights


def torch_gradients(call: GRUCall, gradients: Weights, model: Compiled) -> dict[str, AnyArray]:
    """Return copies of gradients of the model, under torch's names and in torch's shapes: weight_ih_l0 (3H, I) …"""
    if call.module.equations is not None:
        return {name: gradients[name].copy() for name in call.module.weight_names}
    named: dict[str, AnyArray] = {}
    convention = convention_of(call.module)
    both, letters = convention.reset == "after", [KINDS[convention.kind].letters[gate] for gate in convention.order]
    for ending, layer in zip(call.module.suffixes, model.model.composed.layers, strict=True):
        suffix = layer.suffix
        rows = {
            "weight_ih": [gradients[f"W{letter}{suffix}"].T for letter in letters],
            "weight_hh": [gradients[f"U{letter}{suffix}"].T for letter in letters],
            "bias_ih": [gradients[f"b{letter}{suffix}"] for letter in letters],
            "bias_hh": [
                gradients[f"bh{gate}{suffix}" if both else f"b{letter}{suffix}"]
                for gate, letter in zip(convention.order, letters, strict=True)
            ],
        }
        named |= {role + ending: np.concatenate(parts) for role, parts in rows.items()}
    return {name: named[name] for name in call.module.weight_names}


def fill(record: BatchRecord, call: GRUCall) -> None:
    """Load the inputs, first states, weights and outside gradients of a call into a record of `compiled_for(call)`."""
    model = record.compiled.model
    record.array("x")[...] = call.x
    if call.lengths is not None:
        record.array(LIVE)[...] = np.arange(call.timesteps)[:, None] < call.lengths
    for number, mask in enumerate(call.masks):
        record.array(f"mask_l{number}")[...] = mask
    for i, (state, h0) in enumerate(zip(record.compiled.states, call.h0, strict=True)):
        record.border(state, end=False)[...] = h0
        if call.keep is not None and call.states_set is not None:
            record.array(KEEP)[...] = call.keep
            record.array(with_word(state, SET))[...] = call.states_set[:, i]
    output, *others = model.page.outputs
    for name in others:
        gradient = outside_gradient(call, name, record.compiled.states)
        record.array(with_word(f"d{name}", "given"))[...] = 0 if gradient is None else gradient
    output_gradient = call.head.dlogits if call.head is not None and model.structure.head else call.dout
    record.array(with_word(f"d{output}", "given"))[...] = 0 if output_gradient is None else output_gradient
    for i, flow in enumerate(record.flows_in):
        flow[...] = 0 if call.dhn is None else call.dhn[i]
    record.before = model_weights(call, record.compiled)


def outside_gradient(call: GRUCall, name: str, states: Sequence[str]) -> AnyArray | None:
    """Return the gradient (T, B, H) from outside of a state that is no output, or of what the script reads of one between two
    timesteps; None if it has none."""
    read = {with_word(state, SCRIPT): state for state in states}
    array = call.script if name in read else call.inner
    return None if array is None else array[:, states.index(read.get(name, name))]


def recompute(call: GRUCall, dtype: str | None = None, record: BatchRecord | None = None) -> BatchRecord:
    """Compute all inner values of a call: forward, and backward if it received a gradient. There is no update.

    The dtype is `dtype`, by default that of `compiled_for`. The values are written to `record`, or to a new record, which is
    returned. Raises `CaptureError`.
    """
    call = upstream(call)
    record = BatchRecord(compiled_for(call, dtype)) if record is None else record
    with np.errstate(all="ignore"):  # NaN and infinities are valid numbers here
        fill(record, call)
        compute(record, None, learn=call.learned)
    return record


def stepped_call(call: GRUCall) -> GRUCall:
    """Return a call in which each timestep begins with the state before it as the script had it, if end to end the module amplifies
    rounding beyond its tolerance; otherwise the call itself.

    `keep` is then 1 everywhere, and `states_set` has the differences of the captured states from the computed ones, timestep by
    timestep. It is known for one layer in one direction whose state is its output.
    """
    module = call.module
    if call.timesteps < 2 or len(call.h0) > 1 or module.bidirectional or call.lengths is not None or call.keep is not None:
        return call
    record = recompute(replace(call, dout=None, dhn=None, head=None))
    if array_difference("out", record.array(output_name(record)), call.out).error <= tolerance_of(call):
        return call
    one_step = stepwise(record, call.out)
    if one_step.error > tolerance_of(call):
        return call  # these are other numbers, whatever the reason
    with_states_set = replace(call, keep=np.ones(call.out.shape[:2], call.out.dtype), states_set=np.zeros_like(call.out[:, None]))
    record = BatchRecord(compiled_for(with_states_set))
    fill(record, with_states_set)
    output = output_name(record)
    computed, states = record.array(output), record.array(with_word(output, SET))

    def set_next(t: int) -> None:
        # From the state that this pass has computed: what another pass would round differently would be amplified as well.
        if t + 1 < call.timesteps:
            states[t + 1] = call.out[t] - computed[t]

    with np.errstate(all="ignore"):
        forward_setting(record, output, set_next)
    return replace(with_states_set, states_set=states[:, None].copy())


def growth(call: GRUCall) -> float:
    """Return the factor by which the difference from the captured output grows in a timestep, computed end to end, before it is as
    large as the output itself."""
    record = recompute(replace(call, dout=None, dhn=None, head=None, keep=None, states_set=None))
    difference = array_difference("out", record.array(output_name(record)), call.out, timed=True)
    assert difference.over_time is not None
    errors = difference.over_time
    rising = np.flatnonzero((errors > 0) & (errors < 0.1 * difference.largest))
    rising = rising[: int(np.argmax(np.diff(rising) > 1)) + 1] if (np.diff(rising) > 1).any() else rising
    if len(rising) < 2:
        return math.nan
    return float(np.exp(np.polyfit(rising, np.log(errors[rising]), 1)[0]))


def upstream(call: GRUCall) -> GRUCall:
    """Return a call with the gradients from outside only: a loop without what comes from the next timestep, and the last states of
    a cell with two without what comes through the other state of the same timestep. Any other call is returned as it is."""
    if call.flows is not None:
        return _from_outside(call)
    if not call.dc_through_h or call.dhn is None:
        return replace(call, dc_through_h=False) if call.dc_through_h else call
    dhn, dout = np.array(call.dhn, np.float64), call.dout
    if call.module.equations is not None and (through_c := _through_second_state(call, dhn)).any():
        total = dhn[0] if dout is None else dout[-1]
        from_outside = total - through_c
        from_outside[np.abs(from_outside) <= rounding_of(call) * np.abs(total).max(initial=0)] = 0
        if dout is None:
            dhn[0] = from_outside
        else:
            dout = np.concatenate([dout[:-1], from_outside[None].astype(dout.dtype)])
        return replace(call, dout=dout, head=None, dhn=np.asarray(dhn, call.dhn.dtype), dc_through_h=False)
    if dout is not None or dhn[0].any():
        record = recompute(replace(call, dhn=np.stack([call.dhn[0], np.zeros_like(call.dhn[1])]), dc_through_h=False), "float64")
        dhn[1] -= record.array(f"d{record.compiled.states[1]}")[-1]
    dhn[np.abs(dhn) <= rounding_of(call) * np.abs(call.dhn).max(initial=0)] = 0
    return replace(call, dhn=np.asarray(dhn, call.dhn.dtype), dc_through_h=False)


def _through_second_state(call: GRUCall, dhn: AnyArray) -> AnyArray:
    """Return the part (B, H) of the gradient of a cell's last first state that comes through its second state, which may read the
    new first one. The captured gradient of the first has it, since both are tensors of the script."""
    if not dhn[1].any():
        return np.zeros_like(dhn[0])
    second = replace(call, dout=None, head=None, dhn=np.stack([np.zeros_like(dhn[0]), dhn[1]]), dc_through_h=False)
    record = recompute(second, "float64")
    through: AnyArray = record.array(f"d{_tensor_of(record, record.compiled.states[0])}")[-1]
    return through


def _tensor_of(record: BatchRecord, name: str) -> str:
    """Return the value that a state is a copy of, which is the tensor that the script has: h_new of `h = h_new`."""
    formulas = {line.target: line.formula for line in record.compiled.model.page.lines}
    while isinstance(formula := formulas.get(name), Name):
        name = formula.name
    return name


# ------------------------------------------------------------------------------
# Loops of calls of one timestep: what comes to each timestep from outside, without what comes from the next one.


def rounding_of(call: GRUCall) -> float:
    """Return how far rounding takes the gradient of a state, relative to the largest gradient: one that is smaller is not from
    outside.

    It is a sum over all gates and units. Rounding errors of a sum of n terms add up like random ones, to at most λ √n u, except
    with a probability of 2 exp(−λ²/2) (Higham and Mary 2019, theorem 2.4). λ makes that 1 / N for all N sums of the call together.
    """
    module = call.module
    n = module.hidden_size * max(1, len(module.gates) or len(module.weight_names))
    N = max(2, call.out.size)
    largest = math.sqrt(2 * math.log(2 * N * N))
    unit = max(ROUNDOFF.get(call.dtype, ROUNDOFF["float32"]), ROUNDOFF.get(call.autocast, 0.0))
    return unit * largest * math.sqrt(n)


def sequences(step: CapturedStep) -> tuple[GRUCall, ...]:
    """Return the calls of a step in order, those that go on from each other as one, with the gradients from outside only: `dout` of
    the output, `inner` of the other states, such as c or the h of a lower layer, if the script reads them between two calls, and
    `script` of what it computes there."""
    calls = step.calls if step.is_joined else join_calls(step.calls, without_links=True)
    return tuple(map(upstream, map(derivable, calls)))


def derivable(call: GRUCall) -> GRUCall:
    """Return a call, without its gradients if what is known of them is not all that comes to its weights."""
    return without_gradients(call) if Note.READ_BESIDE in call.notes else call


def without_gradients(call: GRUCall) -> GRUCall:
    """Return a call as if it had received no gradient, so that none is derived."""
    return replace(call, dout=None, dhn=None, flows=None, inner=None, head=None, script=None)


def _as_rows(call: GRUCall, flows: AnyArray, keep: AnyArray) -> GRUCall:
    """Return the timesteps of a loop as the rows of one timestep, which get the gradients `flows` of their states."""
    assert call.states is not None
    assert call.dout is not None
    T, S, B, H = flows.shape
    before = np.concatenate([call.h0[None], call.states[:-1]])
    begun = before if call.states_set is None else np.where(keep[:, None, :, None] != 0, before, call.states_set)
    return replace(
        call,
        x=call.x.reshape(1, T * B, -1),
        h0=begun.transpose(1, 0, 2, 3).reshape(S, T * B, H),
        out=call.out.reshape(1, T * B, -1),
        hn=call.states.transpose(1, 0, 2, 3).reshape(S, T * B, H),
        dout=call.dout.reshape(1, T * B, -1),
        dhn=flows.astype(np.float64).transpose(1, 0, 2, 3).reshape(S, T * B, H),
        masks=tuple(mask.reshape(1, T * B, -1) for mask in call.masks),
        head=None,
        keep=None,
        states_set=None,
        states=None,
        flows=None,
        script=None,
    )


def _with_flows_of_memory(call: GRUCall, flows: AnyArray, keep: AnyArray) -> AnyArray:
    """Return the gradients of the states (T, 2, B, H) of a loop whose script cannot read c between two timesteps: that of c then
    comes from the h of the same timestep and from the next c alone."""
    flows = flows.astype(np.float64)
    of_c = flows[:, 1].copy()
    flows[:, 1] = 0
    record = recompute(replace(_as_rows(call, flows, keep), dc_through_h=False), "float64")
    through_h, f = (record.array(name)[0].reshape(of_c.shape) for name in (f"d{record.compiled.states[1]}", "f"))
    for t in reversed(range(call.timesteps - 1)):
        if not of_c[t].any():
            of_c[t] = through_h[t] + keep[t + 1][:, None] * f[t + 1] * of_c[t + 1]
    flows[:, 1] = of_c
    return flows


def _from_outside(call: GRUCall) -> GRUCall:
    """Return calls that were joined, whose gradients are without the part from the next of them."""
    assert call.flows is not None
    assert call.dout is not None
    n, S, B, H = call.flows.shape
    lengths = np.array(call.chunks or [1] * n)
    starts = np.cumsum(lengths) - lengths
    ends, begins = starts[1:] - 1, starts[1:]  # of all but the last, and of all but the first
    keep = np.ones((call.timesteps, B)) if call.keep is None else call.keep
    memory_inside = Note.MEMORY_INSIDE in call.notes
    if call.chunks:
        flows, own_dout, back, dhn = call.flows.astype(np.float64), call.dout, _back_of_chunks(call, keep, starts), call.dhn
    else:
        rows = upstream(_as_rows(call, _with_flows_of_memory(call, call.flows, keep) if memory_inside else call.flows, keep))
        assert rows.dhn is not None
        assert rows.dout is not None
        own_dout = rows.dout.reshape(call.dout.shape)
        record = recompute(rows, "float64")
        names = (record.compiled.model.page.before(state) for state in record.compiled.states)
        back = np.stack([record.array(f"d{name}").reshape(n, B, H) for name in names], axis=1)[1:]
        flows = rows.dhn.reshape(S, n, B, H).transpose(1, 0, 2, 3)
        dhn = flows[-1].astype(call.flows.dtype)
    top = S - call.module.states  # h of the last layer, which is the output as well
    # It is the same tensor in a cell; elsewhere the script may go on from the output in place of the state.
    reads_output = np.array([(call.module.is_cell and not call.chunks) or not flow[top].any() for flow in flows[:-1]])
    total, kept_back = flows[:-1].copy(), keep[begins][:, None, :, None] * back
    total[reads_output, top] += own_dout[ends][reads_output]
    largest = max(np.abs(array).max(initial=0, where=np.isfinite(array)) for array in (call.dout, flows, back))
    rounding = rounding_of(call) * largest
    between, script = total - kept_back, None
    if call.script is not None:
        measured = call.script[1:].astype(np.float64)
        is_computed: AnyArray = np.abs(measured).max(axis=(1, 2, 3), keepdims=True) > 0
        straight = list(call.straight_states)
        measured[:, straight] = np.where(is_computed, back[:, straight], 0)
        through = np.where(is_computed, measured - kept_back, 0)
        through[np.abs(through).max(axis=3) <= rounding] = 0
        between -= through
        if through.any():
            script = np.zeros((call.timesteps, S, B, H), call.flows.dtype)
            script[begins] = through
    between[np.abs(between).max(axis=(2, 3)) <= rounding] = 0
    if call.cut is not None and not memory_inside:
        # A state that no weight has computed yet gets no gradient at all: none is from outside, and what is derived goes nowhere.
        captured = np.asarray(call.flows[:-1].any(axis=(2, 3)))
        captured[:, top] |= reads_output & call.dout[ends].any(axis=(1, 2))
        captured[:, list(call.cut)] = True
        between[~captured] = 0
    outside = own_dout.astype(call.dout.dtype)
    outside[ends] = between[:, top] + np.where(reads_output[:, None, None], 0, own_dout[ends])
    inner = None
    if np.delete(between, top, axis=1).any():
        inner = np.zeros((call.timesteps, S, B, H), call.flows.dtype)
        inner[ends] = between
        inner[:, top] = 0
    if dhn is not None and not dhn.any():
        dhn = None
    return replace(call, dout=outside, dhn=dhn, flows=None, inner=inner, script=script, dc_through_h=False)


def _back_of_chunks(call: GRUCall, keep: AnyArray, starts: AnyArray) -> AnyArray:
    """Return the gradients (n − 1, S, B, H) of the states with which all chunks but the first begin, which get those of their own
    last states as autograd has summed them up."""
    assert call.flows is not None
    assert call.dout is not None
    assert call.states is not None
    S, top = len(call.h0), len(call.h0) - call.module.states
    cut, begun = np.ones_like(keep), np.zeros((call.timesteps, *call.h0.shape), np.float64)
    cut[starts[1:]] = 0
    for start, before in zip(starts[1:], call.states[:-1], strict=True):
        begun[start] = before if call.states_set is None else np.where(keep[start][:, None] != 0, before, call.states_set[start])
    inner, ends = np.zeros_like(begun), starts[1:] - 1
    inner[ends] = call.flows[:-1]
    dout = call.dout.astype(np.float64)
    dout[ends] += inner[ends, top]
    inner[:, top] = 0
    own = replace(
        call,
        dout=dout,
        head=None,
        keep=cut,
        states_set=begun,
        states=None,
        flows=None,
        script=None,
        chunks=(),
        inner=inner if S > 1 else None,
    )
    record = recompute(own, "float64")
    return np.stack([record.array(f"d{with_word(state, 'in')}")[starts[1:]] for state in record.compiled.states], axis=1)
