"""Comparison of the gradients derived from captured calls with p.grad, and the cause of a difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

import numpy as np

from tui_gru.engine.numbers import given, scientific
from tui_gru.interop.capture.calls import CapturedStep, GRUCall
from tui_gru.interop.recomputing.comparing import TOLERANCES, ArrayDifference, difference, tolerance_of
from tui_gru.interop.tensors import AnyArray

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
        factor, norm, off = given(self.factor), given(self.norm, 4), scientific(self.error)
        return {
            Relation.EQUAL: f"p.grad is the derived gradient, neither clipped nor scaled; its norm is {norm}",
            Relation.CLIPPED: f"p.grad is {factor} times the derived gradient, one common factor: clipped; the norm was {norm}",
            Relation.UNSCALED: f"the loss was scaled by {given(self.scale)}, and p.grad unscaled again, as GradScaler does",
            Relation.SCALED: (
                f"p.grad is {factor} times the derived gradient, one common factor, such as of a GradScaler with a clip"
            ),
            Relation.DIFFERENT: f"p.grad is not the derived gradient, {off} off: something else added to it or changed it",
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
    calls = [[(call, derive(call)) for call in step.calls if _counts(call)] for step in steps]
    computed = tuple(_computed(calls))
    if not recorded and not computed:
        return GradientComparison(Relation.NOTHING)
    if recorded and len(steps) < first.ranks:
        return GradientComparison(Relation.INCOMPLETE, computed)
    tolerance = max((tolerance_of(call) for share in calls for call, _ in share), default=TOLERANCES["float32"])
    finite = all(np.isfinite(value).all() for value in recorded.values())
    tried: list[GradientComparison] = []
    for added in (False, True) if first.before else (False,):
        wanted = {name: value - first.before.get(name, 0) if added else value for name, value in recorded.items()}
        for ignored in range(max(1, len(calls[0]) if len(steps) == 1 else 1)):
            total = _mean([_sum(share[ignored:]) for share in calls])
            if not wanted.keys() <= total.keys():  # otherwise no call of some module would remain
                break
            factor = _factor([(total[name], value) for name, value in wanted.items()], tolerance)
            found = (*(difference(name, factor * total[name], value) for name, value in wanted.items()), *computed)
            cause, norm = _cause(factor, tolerance) if finite else Relation.NOT_FINITE, _norm(total, computed)
            tried.append(GradientComparison(cause, found, factor, norm, ignored, added, tolerance))
            if tried[-1].error <= tolerance:
                return tried[-1]
    return replace(min(tried, key=lambda comparison: comparison.error), cause=Relation.DIFFERENT if finite else Relation.NOT_FINITE)


def _counts(call: GRUCall) -> bool:
    """Return True if a call contributes to the gradients; one without rows or timesteps does not."""
    return call.learned and bool(call.rows and call.timesteps)


def _parameters(steps: Sequence[CapturedStep]) -> list[str]:
    """Return the parameters that are weights of calls with a gradient."""
    named = (name for step in steps for call in step.calls if _counts(call) for name in call.weights.parameters.values())
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
                yield difference(f"{used.module.name}.{weight}", ours, gradient)


def _factor(pairs: Sequence[tuple[AnyArray, AnyArray]], tolerance: float) -> float:
    """Return the factor of the derived gradients; 1 if that fits as well, or if the factor cannot be determined."""
    across = sum(float(np.vdot(ours, recorded)) for ours, recorded in pairs)
    own = sum(float(np.vdot(ours, ours)) for ours, _ in pairs)
    factor = across / own if own and math.isfinite(across) and math.isfinite(own) else 1.0
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
