"""Records of any model with random numbers, and comparisons of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import Compiled, compiled
from tui_gru.engine.model import Model, Structure
from tui_gru.engine.reference import Comparison
from tui_gru.engine.training import Earlier, compute
from tui_gru.engine.weights import Weights
from tui_gru.equations.syntax import with_word

SIZES = {"T": 3, "B": 2, "H": 4, "V": 5, "I": 6, "D": 7}  # all different, so that no axis can be confused with another
RATE = 0.3


def random_sizes(seed: int) -> dict[str, int]:
    """Return small sizes that are all different."""
    return dict(zip(SIZES, np.random.default_rng(seed).permutation(np.arange(1, 9))[: len(SIZES)].tolist(), strict=True))


def random_weights(model: Compiled, seed: int = 0, scale: float = 1.0) -> Weights:
    """Return normal weights and states of the update rule after three updates. States are positive, like a mean of squares."""
    weights = Weights.zeros(model.layout, str(model.dtype))
    weights.flat[...] = np.random.default_rng(seed).normal(0, scale, model.layout.size)
    weights.flat[model.layout.count :] = np.abs(weights.flat[model.layout.count :])
    weights.updates = 3
    return weights


def fill(record: BatchRecord, seed: int = 0) -> None:
    """Put random inputs, targets, row lengths, first states and given gradients into a record."""
    draw, page = np.random.default_rng(seed), record.compiled.model.page
    for name, given in page.inputs.items():
        array = record.array(name)
        if given.one_hot:
            ids = draw.integers(0, array.shape[-1], array.shape[:2])
            record.ids(name)[...] = ids
            array[...] = np.eye(array.shape[-1])[ids]
        elif name == "live":
            lengths = draw.integers(1, len(array) + 1, array.shape[1])
            array[...] = np.arange(len(array))[:, None] < lengths
        else:
            array[...] = draw.normal(size=array.shape)
    for name in page.outputs:
        given_gradient = record.array(with_word(f"d{name}", "given"))
        given_gradient[...] = draw.normal(size=given_gradient.shape)
    for flow in record.flows_in if page.outputs else ():
        flow[...] = draw.normal(size=flow.shape)
    record.begin_with(draw.normal(size=record.states(end=False).shape).astype(record.compiled.dtype))


def own(text: str, sizes: dict[str, int] = SIZES, dtype: str = "float64", **options: Any) -> Compiled:
    """Return a model with a user's cell. Raises `EquationError`."""
    return Compiled(Model(Structure(**{**options, "cell": "mine.cell", "cell_text": text})), sizes, dtype)


def filled(
    model: Structure | Compiled, sizes: dict[str, int] = SIZES, dtype: str = "float64", *, seed: int = 0, scale: float = 1.0
) -> BatchRecord:
    """Return a record of a model, ready to be computed."""
    record = BatchRecord(model if isinstance(model, Compiled) else compiled(model, sizes, dtype))
    record.before = random_weights(record.compiled, seed, scale)
    fill(record, seed)
    return record


def settings_of(record: BatchRecord) -> dict[str, float]:
    """Return the settings of the update rule, with the learning rate of the tests."""
    return {**record.compiled.model.rule.settings, "learning_rate": RATE}


def run(record: BatchRecord) -> BatchRecord:
    """Compute a record with its update."""
    with np.errstate(all="ignore"):
        compute(record, settings_of(record), learn=True)
    return record


def learned(
    model: Structure | Compiled, sizes: dict[str, int] = SIZES, dtype: str = "float64", *, seed: int = 0, scale: float = 1.0
) -> BatchRecord:
    """Return a record that has been computed."""
    return run(filled(model, sizes, dtype, seed=seed, scale=scale))


def epoch(
    structure: Structure, batches: int, sizes: dict[str, int] = SIZES, dtype: str = "float64", *, rate: float = RATE
) -> list[BatchRecord]:
    """Return batches of carry `notebook`, each with the weights and states from the one before."""
    records: list[BatchRecord] = []
    scratch = BatchRecord(compiled(structure, sizes, dtype))
    for batch in range(batches):
        record = filled(structure, sizes, dtype, seed=batch)
        if records:
            record.before = records[-1].own_after
            record.begin_with(records[-1].states(end=True))
        settings = {**settings_of(record), "learning_rate": rate}
        with np.errstate(all="ignore"):
            compute(record, settings, learn=True, earlier=Earlier(records[::-1], scratch))
        records.append(record)
    return records


def disagreements(found: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons that do not agree."""
    return [comparison for comparison in found if not comparison.agrees]
