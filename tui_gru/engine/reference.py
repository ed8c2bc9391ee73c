"""A second opinion on a batch: PyTorch computes it again, in float64, and every number is compared with the engine's.

Three comparisons, name by name. `forward pass`: each value, from the values that it is made of. `autograd`: every gradient, and
every delta of every timestep. `finite differences`: a sample of the same entries as (loss(+e) - loss(-e)) / 2e, which knows
nothing of derivatives.

The batch is written as a function of its weights and of something added wherever a name is computed or used, once for each
delta: dz is the gradient with respect to what is added to z. To the pre-activations, the state and the logits is added what the
equations miss of the stored ones, rounding as a rule, so that derivatives are taken at the stored values: without that, a model
with large weights drifts from its float64 twin in a few timesteps. In the earlier batches of carry `notebook`, whose values come
from weights that have changed since, it makes a function whose gradient is the one wanted: at the stored values, through today's
weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.parameters import GATES, Array, parameter_names
from tui_gru.engine.record import Activations, BatchRecord
from tui_gru.engine.torch_loading import load_torch

if TYPE_CHECKING:
    from torch import Tensor

_VALUES = ("h_prev", "az", "ar", "ah", "z", "r", "h_tilde", "h", "logits", "y_hat", "term1", "term2", "term3")
VALUES = {"before": _VALUES, "after": (*_VALUES, "hUh")}
_DELTAS = (
    "dlogits", "dh", "dh_output", "dh_future", "dz", "dr", "dh_tilde", "daz", "dar", "dah",
    "dh_prev", "dh_carry", "dh_candidate", "dh_update", "dh_reset",
)  # fmt: skip
DELTAS = {"before": (*_DELTAS, "drh"), "after": (*_DELTAS, "dm")}

TOLERANCE = {"float32": 1e-3, "float64": 1e-11}  # relative to the largest entry of an array


@dataclass(frozen=True)
class Comparison:
    """One array, as the engine computed it and as `against` has it: forward pass, autograd, or finite differences.

    `checked` entries were compared. The largest difference, `absolute`, is at `index`, where the engine has `ours` and the
    reference `theirs`; `relative` is that difference over the reference's largest entry. Up to `allowed` is rounding.
    """

    name: str
    against: str
    checked: int
    absolute: float
    relative: float
    index: tuple[int, ...]
    ours: float
    theirs: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return self.absolute <= self.allowed


def check_batch(
    record: BatchRecord, *, earlier: Sequence[Activations] = (), entries: int = 2, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare everything in a batch that has learned with PyTorch. Imports torch.

    `earlier` is what the batch was run with (carry `notebook`: the epoch's earlier batches, latest first). Finite differences
    take four forward passes an entry: of each array they check its largest entry and `entries` - 1 others, drawn with `seed`;
    0 leaves them out. In a batch whose weights were edited halfway, values and deltas from before the edit do not agree.
    Raises `TuiGruError` for a batch that did not learn, or in which a number is not finite.
    """
    if record.gradients is None or record.deltas is None:
        raise TuiGruError("this batch did not learn, so it has no gradients to check: turn learning on, or take an SGD step")
    if not np.isfinite(record.loss) or not np.isfinite(record.gradients.flat).all():
        raise TuiGruError("this batch has NaN or Inf in its loss or gradients, so nothing can be checked; step back to before it")
    load_torch()
    reference = _Reference(record, earlier)
    reset = record.activations.config.reset
    ours: dict[str, Array] = {f"d{name}": gradient for name, gradient in record.gradients.items()}
    ours |= {name: record.array(name) for name in DELTAS[reset]}

    values = reference.values()
    found = [_compare(name, "forward pass", record.array(name), values[name]) for name in VALUES[reset]]
    found.append(_compare("loss", "forward pass", np.array([record.loss], record.activations.h.dtype), values["loss"][None]))
    gradients = reference.gradients()
    found += [_compare(name, "autograd", array, gradients[name]) for name, array in ours.items()]
    steepest = max(1.0, *(float(np.abs(gradient).max()) for gradient in gradients.values()))
    generator = np.random.Generator(np.random.PCG64(seed))
    for name, array in ours.items() if entries else ():
        where = _sample(array, entries, generator)
        mine = np.array([array[index] for index in where])
        slopes, errors = np.array([reference.slope(name, index, steepest) for index in where]).T
        found.append(_compare(name, "finite differences", mine, slopes, where, float(errors.max())))
    return tuple(found)


def _sample(array: Array, entries: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """The index of the largest entry, and of others drawn without replacement, `entries` in all."""
    largest = int(np.argmax(np.abs(array)))
    others = [i for i in generator.permutation(array.size)[:entries].tolist() if i != largest]
    return [tuple(map(int, np.unravel_index(i, array.shape))) for i in (largest, *others[: entries - 1])]


def _compare(
    name: str,
    against: str,
    ours: Array,
    theirs: NDArray[np.float64],
    where: Sequence[tuple[int, ...]] | None = None,
    error: float = 0.0,
) -> Comparison:
    """Compare two arrays, or a sample of entries that stand at `where`; the reference itself is good to `error`."""
    mine = ours.astype(np.float64)
    difference = np.abs(mine - theirs)
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    absolute, scale = float(difference[worst]), float(np.abs(theirs).max())
    # What rounding leaves where large numbers cancel: some units in the last place of numbers around 1.
    allowed = TOLERANCE[str(ours.dtype)] * scale + 16 * float(np.finfo(ours.dtype).eps) + error
    return Comparison(
        name=name,
        against=against,
        checked=mine.size,
        absolute=absolute,
        relative=absolute / scale if scale else float("inf") if absolute else 0.0,
        index=tuple(map(int, worst)) if where is None else where[int(worst[0])],
        ours=float(mine[worst]),
        theirs=float(theirs[worst]),
        allowed=allowed,
    )


class _Reference:
    """The batch as a function of its weights and of what is added at each delta's place, in float64."""

    def __init__(self, record: BatchRecord, earlier: Sequence[Activations]) -> None:
        import torch

        s = record.activations
        self._reset, self._s = s.config.reset, s
        start = {f"d{name}": value.astype(np.float64) for name, value in record.parameters.items()}
        start |= {name: np.zeros(record.array(name).shape) for name in DELTAS[self._reset]}
        self._leaves = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
        self._y = torch.nn.functional.one_hot(torch.from_numpy(s.targets), s.config.vocab_size).double()
        self._state = torch.from_numpy((earlier[-1] if earlier else s).h_prev[0].astype(np.float64))
        self._earlier = []
        with torch.no_grad():
            state = self._state
            for past in reversed(earlier):
                missing, state = self._measured(past, state)
                self._earlier.append((past, missing))
            self._missing, _ = self._measured(s, state)
            for delta, missed in self._missing.items():
                self._leaves[delta].copy_(missed)

    def _measured(self, s: Activations, state: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What the equations, from a state, miss of each stored pre-activation, state and logit, by delta; and the state after it.

        It is measured on the way, so that nothing can add up: a model that explodes makes much of the least rounding.
        """
        import torch

        deltas = [delta for delta in _STORED if delta != "dm" or self._reset == "after"]
        stored = {delta: torch.from_numpy(getattr(s, _STORED[delta]).astype(np.float64)) for delta in deltas}
        missing = {delta: torch.zeros_like(array) for delta, array in stored.items()}
        return missing, self._through(s, state, missing, stored)["next"][-1]

    def values(self) -> dict[str, NDArray[np.float64]]:
        """Every forward name, (T, …), and the loss."""
        import torch

        with torch.no_grad():
            values = {name: value.numpy() for name, value in self._run().items()}
        for delta, missing in self._missing.items():
            name = _STORED[delta]
            values[name] = getattr(self._s, name) - missing.numpy()
        return values

    def gradients(self) -> dict[str, NDArray[np.float64]]:
        """Every gradient and every delta by autograd; zero where the loss does not depend on it."""
        import torch

        leaves = list(self._leaves.values())
        found = torch.autograd.grad(self._run()["loss"], leaves, allow_unused=True, materialize_grads=True)
        return {name: gradient.numpy() for name, gradient in zip(self._leaves, found, strict=True)}

    def slope(self, name: str, index: tuple[int, ...], steepest: float) -> tuple[float, float]:
        """One entry of a gradient by central finite differences, and the error to expect of it.

        `steepest` is the largest gradient of all, 1 or more. The step moves the loss by about `change`, at which the error of a
        long step, change^2 of the slope, and that of rounding, 1e-15 steepest / change of it, are as large as each other.
        """
        import torch

        change = (1e-15 * steepest) ** (1 / 3)
        added = {delta: self._leaves[delta] for delta in (*self._missing, name)}  # all others add nothing
        slopes = []
        with torch.no_grad():
            entry = self._leaves[name][index]
            middle = entry.item()
            for step in (change / steepest, 2 * change / steepest):
                losses = []
                for value in (middle + step, middle - step):
                    entry.fill_(value)
                    losses.append(self._loss(added))
                slopes.append((losses[0] - losses[1]) / (2 * step))
            entry.fill_(middle)
        return slopes[0], 4 * abs(slopes[1] - slopes[0]) + 100 * change**2 * steepest

    def _run(self) -> dict[str, Tensor]:
        """The equations of `cell` and `loss`, in the tutorial's form: a matrix a gate, and log y_hat times the one-hot target."""
        import torch

        values = {name: torch.stack(column) for name, column in self._steps(self._leaves).items()}
        log_p = torch.log_softmax(values["logits"], -1)
        values["y_hat"] = log_p.exp()
        values["term1"] = self._y * log_p
        values["term2"] = values["term1"].sum(-1)
        values["term3"] = -values["term2"].mean(-1)
        values["loss"] = values["term3"].mean()
        return values

    def _loss(self, added: Mapping[str, Tensor]) -> float:
        """The loss alone, where only `added` adds anything."""
        import torch

        log_p = torch.log_softmax(torch.stack(self._steps(added)["logits"]), -1)
        return float(-(self._y * log_p).sum(-1).mean())

    def _steps(self, added: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """The timesteps of each name, from the state with which the first of the earlier batches began."""
        state = self._state
        for past, missing in self._earlier:
            state = self._through(past, state, missing)["next"][-1]
        return self._through(self._s, state, added)

    def _through(
        self, s: Activations, state: Tensor, added: Mapping[str, Tensor], stored: Mapping[str, Tensor] | None = None
    ) -> dict[str, list[Tensor]]:
        """One batch from a state, adding to each name what `added` (T, B, ·) has for its delta; the timesteps of each name.

        Where `stored` is given, what is added is set to what makes it that.
        """
        import torch

        p = {name: self._leaves[f"d{name}"] for name in parameter_names(self._reset)}
        ids = torch.from_numpy(s.inputs)
        x_z, x_r, x_h = (p[f"W{gate}"][ids] + p[f"b{gate}"] for gate in GATES)  # a one-hot x picks rows
        steps: dict[str, list[Tensor]] = {}

        def at(delta: str, value: Tensor) -> Tensor:
            if stored is not None and delta in stored:
                added[delta][t] = stored[delta][t] - value
            return value + added[delta][t] if delta in added else value

        for t in range(len(ids)):
            h_prev = at("dh_prev", state)
            to_z, to_r = at("dh_update", h_prev) @ p["Uz"], at("dh_reset", h_prev) @ p["Ur"]
            if self._reset == "after":
                to_z, to_r = to_z + p["bhz"], to_r + p["bhr"]
            az = at("daz", x_z[t] + to_z)
            ar = at("dar", x_r[t] + to_r)
            z, r = at("dz", torch.sigmoid(az)), at("dr", torch.sigmoid(ar))
            to_candidate = at("dh_candidate", h_prev)
            if self._reset == "before":
                to_h = at("drh", r * to_candidate) @ p["Uh"]
            else:
                to_h = r * at("dm", to_candidate @ p["Uh"] + p["bhn"])
            ah = at("dah", x_h[t] + to_h)
            h_tilde = at("dh_tilde", torch.tanh(ah))
            h = at("dh", z * at("dh_carry", h_prev) + (1 - z) * h_tilde)
            logits = at("dlogits", at("dh_output", h) @ p["Wy"] + p["by"])
            state = at("dh_future", h)
            now = {"h_prev": h_prev, "az": az, "ar": ar, "ah": ah, "z": z, "r": r, "h_tilde": h_tilde, "h": h}
            for name, value in {**now, "logits": logits, "next": state}.items():
                steps.setdefault(name, []).append(value)
        return steps


_STORED = {"daz": "az", "dar": "ar", "dah": "ah", "dm": "hUh", "dh": "h", "dlogits": "logits"}
