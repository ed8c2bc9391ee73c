"""Why p.grad is not the derived gradient. Four gradients decide, each by the names of the parameters:

- the derived one,
- that of autograd through the module itself, on the captured inputs, with the captured gradients of its outputs,
- what autograd handed to the parameters in the script,
- p.grad, as the optimizer used it.

If the first two differ, the module was misread. If the second and the third differ, the script uses the weights elsewhere as well,
or a hook changes their gradients. If the third and the fourth differ, the script changed p.grad after the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain

import numpy as np

from tui_gru.capture.calls import CapturedStep, Note
from tui_gru.engine.numbers import scientific, significant
from tui_gru.files.arrays import AnyArray

Gradients = Mapping[str, AnyArray]


class Origin(StrEnum):
    """Where two of the gradients part first."""

    MISREAD = "misread"
    USED_ELSEWHERE = "used elsewhere"
    CHANGED_AFTER = "changed after"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Cause:
    """The origin of a difference, and sentences on what is proved about it and what is not known."""

    origin: Origin
    sentence: str


#: How often the rounding of a few multiplications and additions of one number may exceed half an ε of it.
_FEW_ROUNDINGS = 8


@dataclass(frozen=True, eq=False)
class StepGradients:
    """What is known of a step, or of the same step of several ranks, whose mean is p.grad: the derived gradients, p.grad, the
    weights, the rounding of sums, relative to the largest, and that of one number. `computed` has, for each weight that is computed
    from parameters, by how much its derived gradient is off."""

    steps: Sequence[CapturedStep]
    derived: Gradients
    recorded: Gradients
    weights: Gradients
    tolerance: float
    rounding: float
    computed: Mapping[str, float] = field(default_factory=dict)

    @property
    def handed(self) -> Gradients | None:
        """What autograd handed to the parameters, the mean over the ranks; None if it is not known of all parameters."""
        gradients_of_ranks = [step.handed for step in self.steps]
        gradients = [gradient for gradient in gradients_of_ranks if gradient is not None]
        if len(gradients) < len(gradients_of_ranks) or not all(
            name in gradient for gradient in gradients for name in self.recorded
        ):
            return None
        return {name: np.mean([gradient[name] for gradient in gradients], axis=0) for name in self.recorded}

    @property
    def before(self) -> Gradients:
        return self.steps[0].before

    @property
    def notes(self) -> set[Note]:
        return {note for step in self.steps for note in step.notes}


def error(ours: Gradients, theirs: Gradients) -> float:
    """Return the largest difference, relative to the largest number of `theirs`."""
    pairs = [(ours[name], value) for name, value in theirs.items() if name in ours]
    with np.errstate(all="ignore"):
        worst = max((float(np.nan_to_num(np.abs(a - b), nan=np.inf).max(initial=0)) for a, b in pairs), default=0.0)
    largest = _largest(theirs)
    return worst / largest if worst and largest else worst


def _largest(gradients: Gradients) -> float:
    return max((float(np.abs(value).max(initial=0, where=np.isfinite(value))) for value in gradients.values()), default=0.0)


def cause_of(evidence: StepGradients) -> Cause:
    """Return why p.grad is not the derived gradient."""
    handed, off = evidence.handed, scientific(error(evidence.derived, evidence.recorded))
    if handed is None:
        return Cause(
            Origin.UNDECIDED,
            f"p.grad is not the derived gradient, {off} off; what autograd handed to the parameters is not known here, so the "
            "script may have changed it, or tui_gru may have misread the module",
        )
    if names := [name for name, difference in evidence.computed.items() if difference > evidence.tolerance]:
        return Cause(
            Origin.UNDECIDED,
            f"the derived gradient of {', '.join(names)}, which is computed from parameters, is not that of autograd: the script "
            "uses it elsewhere, or tui_gru has misread the module",
        )
    if error(evidence.derived, handed) <= evidence.tolerance:
        return Cause(Origin.CHANGED_AFTER, f"autograd gave the derived gradient, but {_after(evidence, handed)}")
    cause = _before(evidence, handed)
    if cause.origin is not Origin.MISREAD and error(handed, evidence.recorded) > _FEW_ROUNDINGS * evidence.rounding:
        cause = replace(cause, sentence=f"{cause.sentence}; besides, {_after(evidence, handed)}")
    return cause


def _before(evidence: StepGradients, handed: Gradients) -> Cause:
    """Return why autograd handed other gradients to the parameters than are derived."""
    off = scientific(error(evidence.derived, handed))
    differ = f"autograd gave another gradient than the derived one, {off} off, for {_names(evidence.derived, handed, evidence)}"
    again = evidence.steps[0].made_again if len(evidence.steps) == 1 else None
    if again is None:
        proof = _other_use(evidence, evidence.derived, handed)
        if proof:
            return Cause(Origin.USED_ELSEWHERE, f"{differ}: {proof}")
        return Cause(
            Origin.UNDECIDED,
            f"{differ}: the script uses these weights elsewhere, or tui_gru has misread the module; tui_gru.debug in the script "
            "decides which",
        )
    try:
        module, exact = again(False), _or_none(again)
    except Exception as failure:
        module, exact = None, None
        differ += f" (called again, the module fails: {type(failure).__name__})"
    if module is None or not module.keys() >= handed.keys():
        return Cause(
            Origin.UNDECIDED,
            f"{differ}: called again on the same inputs, the module does not give the same outputs, as with random numbers "
            "inside, so it cannot be decided whether tui_gru has misread it or the script uses the weights elsewhere",
        )
    through_module = {name: module[name] for name in handed}
    rounded = 0.0 if exact is None else error({name: exact[name] for name in handed if name in exact}, through_module)
    if error(evidence.derived, through_module) > max(evidence.tolerance, 4 * rounded):
        return Cause(
            Origin.MISREAD,
            f"tui_gru has misread the module: autograd through it, on the captured inputs, gives another gradient than the one "
            f"derived here, {scientific(error(evidence.derived, through_module))} off, for "
            f"{_names(evidence.derived, through_module, evidence)}; no derived gradient is shown. Please send us "
            "the source of its class, the versions of torch and tui_gru, the type and device of its weights, and how it is called",
        )
    return Cause(Origin.USED_ELSEWHERE, f"{differ}: {_other_use(evidence, through_module, handed) or _UNKNOWN_USE}")


def _or_none(again: object) -> Gradients | None:
    """Return the gradients of the module in float64; None if it does not compute in it."""
    try:
        exact: Gradients | None = again(True)  # type: ignore[operator]
    except Exception:
        return None
    return exact


_UNKNOWN_USE = (
    "the loss uses these weights besides the captured calls, as in a penalty, a call of forward() or of a function; what comes "
    "through the captured calls is derived, and autograd through the module agrees with it"
)


def _names(ours: Gradients, theirs: Gradients, evidence: StepGradients) -> str:
    """Return the names of the parameters whose gradients differ."""
    names = _differing(ours, theirs, evidence.tolerance)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _differing(ours: Gradients, theirs: Gradients, tolerance: float) -> list[str]:
    largest = _largest(theirs)
    differences = {name: float(np.abs(ours[name] - value).max(initial=0)) for name, value in theirs.items()}
    return [name for name, difference in differences.items() if difference > tolerance * largest]


def _other_use(evidence: StepGradients, module: Gradients, handed: Gradients) -> str:
    """Return what is proved about the part of a gradient that does not come through the captured calls; "" if nothing is."""
    if Note.WITH_GRAPH in evidence.notes:
        return "a backward pass had a graph of its own (create_graph), as for a penalty on a gradient, which adds to it"
    largest, names = _largest(handed), _differing(module, handed, evidence.tolerance)
    rest = {name: handed[name].astype(np.float64) - module[name] for name in names}
    step = evidence.steps[0]
    if names and all(name in step.shared for name in names):
        others = dict.fromkeys(chain.from_iterable(step.shared[name] for name in names))
        return f"these weights are those of {', '.join(others)} as well, whose use adds to it"
    if hooked := [name for name in names if name in step.hooked]:
        return f"the script has a hook on {', '.join(hooked)}, {_changed_by(module, handed, evidence)}"
    if penalty := _penalty(rest, evidence.weights, evidence.tolerance * largest):
        return f"the loss has a penalty on the weights, {penalty}"
    return ""


def _changed_by(module: Gradients, handed: Gradients, evidence: StepGradients) -> str:
    factor = _factor(module, handed, evidence.tolerance)
    if factor is not None:
        return f"which multiplies the gradient by {significant(factor)}"
    if (bound := _bound(module, handed, evidence.tolerance * _largest(handed))) is not None:
        return f"which limits each entry to ±{significant(bound)}"
    return "which changes the gradient; how is not known"


def _penalty(rest: Gradients, weights: Gradients, rounding: float) -> str:
    """Return the penalty whose gradient `rest` is, to rounding: λ W, λ sign W, or a sum of both; "" if it is another one."""
    if not rest or not all(name in weights and weights[name].shape == value.shape for name, value in rest.items()):
        return ""
    values = np.concatenate([value.ravel() for value in rest.values()])
    W = np.concatenate([weights[name].astype(np.float64).ravel() for name in rest])
    largest = float(np.abs(values).max(initial=0))
    if not np.isfinite(values).all() or largest <= 100 * rounding:  # then rounding could look like a penalty
        return ""
    for columns, words in (([W], "{0}·W"), ([np.sign(W)], "{0}·sign W"), ([W, np.sign(W)], "{0}·W + {1}·sign W")):
        matrix = np.stack(columns, axis=1)
        factors = np.linalg.lstsq(matrix, values, rcond=None)[0]
        if float(np.abs(matrix @ factors - values).max()) <= 4 * rounding:
            return f"which adds {words.format(*map(significant, factors))} to their gradients, to rounding"
    return ""


def _factor(before: Gradients, after: Gradients, tolerance: float) -> float | None:
    """Return the factor by which all gradients were multiplied, if they were."""
    a = np.concatenate([before[name].astype(np.float64).ravel() for name in after])
    b = np.concatenate([value.astype(np.float64).ravel() for value in after.values()])
    square = float(a @ a)
    if not math.isfinite(square) or not square or not np.isfinite(b).all():
        return None
    factor = float(a @ b) / square
    return factor if float(np.abs(factor * a - b).max(initial=0)) <= tolerance * float(np.abs(b).max(initial=0)) else None


def _bound(before: Gradients, after: Gradients, rounding: float) -> float | None:
    """Return the bound to which entries were limited, if all others are as they were."""
    bound = _largest(after)
    if not bound or _largest(before) <= bound + rounding:
        return None
    alike = all(bool((np.abs(np.clip(before[name], -bound, bound) - value) <= rounding).all()) for name, value in after.items())
    return bound if alike else None


def _after(evidence: StepGradients, handed: Gradients) -> str:
    """Return how the script changed p.grad after the backward pass; if it is not proved, that it did."""
    recorded, before = evidence.recorded, evidence.before
    few = _FEW_ROUNDINGS * evidence.rounding
    hooked = [name for name in recorded if any(name in step.hooked for step in evidence.steps)]
    # A hook that was registered after those of the capture sees a gradient later than they do.
    when = f"by the hook on {', '.join(hooked)} or after the backward pass" if hooked else "after the backward pass"
    if any(name in before for name in recorded):
        total = {name: handed[name] + before.get(name, 0) for name in recorded}
        size = {name: np.abs(handed[name]) + np.abs(before.get(name, 0)) for name in recorded}
        exact = _largest(size) / (_largest(recorded) or 1)  # what cancels is rounded as well
        if error(total, recorded) <= few * exact:
            return "p.grad was not empty before the backward pass, which adds to it"
        if (factor := _factor(total, recorded, few * exact)) is not None:
            return (
                "p.grad was not empty before the backward pass, which adds to it, and the sum was then multiplied by "
                f"{significant(factor)}, as a clip does"
            )
    if (factor := _factor(handed, recorded, few)) is not None:
        return f"p.grad was multiplied by {significant(factor)} {when}, one common factor, as a clip or a scale does"
    if (bound := _bound(handed, recorded, few * _largest(recorded))) is not None:
        return f"each entry of p.grad was limited to ±{significant(bound)} {when}, as clip_grad_value_ does"
    factors = {name: _factor({name: handed[name]}, {name: value}, few) for name, value in recorded.items()}
    if all(factor is not None for factor in factors.values()):
        factors_in_words = ", ".join(f"{name} ×{significant(factor)}" for name, factor in factors.items() if factor is not None)
        return f"p.grad of each parameter was multiplied by a factor of its own {when}: {factors_in_words}"
    rest = {name: value.astype(np.float64) - handed[name] for name, value in recorded.items()}
    rest = {name: value for name, value in rest.items() if value.any()}
    if words := _penalty(rest, evidence.weights, few * max(_largest(recorded), _largest(handed))):
        return f"the script changed p.grad {when} by a decay of the weights, {words}"
    return (
        f"the script changed p.grad {when}, {scientific(error(handed, recorded))} off, for "
        f"{_names(handed, recorded, replace(evidence, tolerance=few))}; how is not known"
    )
