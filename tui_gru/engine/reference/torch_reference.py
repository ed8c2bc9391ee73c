"""The check of a batch: PyTorch computes it again from the same equations in float64, and every number is compared.

There are four comparisons, name by name, in the order of the listing. `forward pass`: each value, from the values that its formula
reads. `autograd`: every gradient of a parameter, and every delta with its labelled terms, at every timestep. `finite differences`:
a sample of the same entries as (loss(+e) − loss(−e)) / 2e, which uses no derivatives. `update`: the result of each line of the
update rule, from the values that it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.compiling.update import COUNT, GRADIENT, WEIGHT
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.reference.torch_batch import tensor_of
from tui_gru.engine.reference.torch_formulas import Value, evaluated
from tui_gru.engine.reference.torch_loading import load_torch
from tui_gru.engine.reference.torch_slopes import Slopes
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array

TOLERANCE = {"float32": 1e-3, "float64": 1e-11}  # relative to the largest entry of an array
OF_UPDATE = {"float32": 1e-5, "float64": 1e-13}  # relative, for lines of the update, which do not sum over timesteps


@dataclass(frozen=True)
class Comparison:
    """One array compared with a reference; `against` is forward pass, autograd, finite differences, or update.

    `checked` entries were compared. The largest difference, `absolute`, is at `index`, where the engine has `ours` and the
    reference `theirs`; `relative` is that difference over the reference's largest entry. Differences up to `allowed` are rounding.
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
    record: BatchRecord, *, earlier: Sequence[BatchRecord] = (), entries: int = 2, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare everything in a batch that has learned with PyTorch. Imports torch.

    `earlier` has the records that the batch was computed with (for carry `notebook`, the epoch's earlier batches, latest first).
    Finite differences take four forward passes per entry: of each array they check the largest entry and `entries` − 1 others,
    drawn with `seed`; 0 omits them. In a batch whose weights were edited halfway, values and deltas from before the edit do not
    agree. Raises `TuiGruError` for a batch that did not learn, or that has a number that is not finite.
    """
    if record.gradients is None:
        raise TuiGruError("this batch did not learn, so it has no gradients to check: turn learning on, or take an SGD step")
    model = record.compiled.model
    has_loss = not model.page.outputs
    if not (np.isfinite(record.loss) or not has_loss) or not np.isfinite(record.gradients.flat).all():
        raise TuiGruError("this batch has NaN or Inf in its loss or gradients, so nothing can be checked; step back to before it")
    load_torch()
    reference = Slopes(record, earlier)
    found = [_compare(name, "forward pass", record.array(name), value.tensor.numpy()) for name, value in reference.values.items()]
    slopes = slopes_of(record)
    gradients = reference.gradients(slopes)
    found += [_compare(name, "autograd", array, gradients[name]) for name, array in slopes.items()]
    if entries:
        generator = np.random.Generator(np.random.PCG64(seed))
        where = {name: _sample(array, entries, generator) for name, array in slopes.items()}
        steepest = max(1.0, *(float(np.abs(gradient).max()) for gradient in gradients.values()))
        for name, measured in reference.measured(where, steepest).items():
            mine = np.array([slopes[name][index] for index in where[name]])
            found.append(_compare(name, "finite differences", mine, measured[:, 0], where[name], float(measured[:, 1].max())))
    if record.settings:  # otherwise there was no update
        found += [_compare(name, "update", ours, theirs) for name, ours, theirs in updated(record)]
    return tuple(found)


def slopes_of(record: BatchRecord) -> dict[str, Array]:
    """Return every delta and its labelled terms, and the gradient of every parameter, in the order of the listing."""
    model, gradients = record.compiled.model, record.gradients
    assert gradients is not None
    found: dict[str, Array] = {}
    ahead = {model.page.ahead(state) for state in model.page.states}
    for line in (*model.backward.deltas, *model.backward.gradients):
        terms = [node.label for node in line.formula.walk() if node.label in model.backward.paths]
        for name in (*terms, *(name for name in line.formula.names() if name in ahead)):
            found[name] = record.array(name)
        parameter = line.target[1:]
        found[line.target] = gradients[parameter] if parameter in gradients.names else record.array(line.target)
    return found


def updated(record: BatchRecord) -> Iterator[tuple[str, Array, NDArray[np.float64]]]:
    """Yield each line of the update rule with its stored result, and its result in float64 from the stored values that it reads."""
    rule, names, count = record.compiled.model.rule, record.before.names, record.compiled.layout.count
    values = {name: Value(tensor_of(np.array(number)), ()) for name, number in record.settings.items()}
    values[COUNT] = Value(tensor_of(np.array(record.before.updates + 1)), ())
    values[GRADIENT] = Value(tensor_of(record.own_gradients.flat), ("P",))
    for i, name in enumerate((WEIGHT, *rule.states)):
        values[name] = Value(tensor_of(record.before.flat[i * count : (i + 1) * count]), ("P",))
    found: dict[str, tuple[Array, NDArray[np.float64]]] = {}
    for line in rule.lines:
        tensor, _ = evaluated(line.formula, values.__getitem__, {})
        theirs = (values[line.target].tensor - tensor if line.op == "-=" else tensor).numpy()
        if rule.is_vector(line.target):
            ours = record.update_vector(line.target)
            for name in names:
                start, shape = record.compiled.layout.places[name]
                own = slice(start, start + int(np.prod(shape)))
                found[rule.name_for(line.target, name)] = ours[own].reshape(shape), theirs[own].reshape(shape)
        else:
            ours = np.array(record.numbers[line.target], record.compiled.dtype)
            found[line.target] = ours, theirs
        values[line.target] = Value(tensor_of(ours), ("P",) if rule.is_vector(line.target) else ())
    for line in rule.lines_of(names):
        yield (line.target, *found[line.target])


def _sample(array: Array, entries: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Return the index of the largest entry and of others drawn without replacement, `entries` in total."""
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
    """Compare two arrays, or the sample of entries at `where`; `error` is the error of the reference itself."""
    mine = ours.astype(np.float64)
    difference = np.abs(mine - theirs)
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    absolute, scale = float(difference[worst]), float(np.abs(theirs).max())
    tolerance = (OF_UPDATE if against == "update" else TOLERANCE)[str(ours.dtype)]
    # Rounding error that remains where large numbers cancel: a few units in the last place of numbers around 1.
    allowed = tolerance * scale + error + (0 if against == "update" else 64 * float(np.finfo(ours.dtype).eps))
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
