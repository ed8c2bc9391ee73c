"""Every number of every shipped model: values, deltas, their terms, gradients and updates, against PyTorch in float64."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.models import disagreements, filled, learned, random_sizes, run
from tui_gru.engine.model import Structure
from tui_gru.engine.reference import check_batch
from tui_gru.equations.page import names_of

DEPTHS = [(1, False), (2, False), (3, False), (1, True), (2, True), (3, True)]
ENDS = [
    {"input": "one-hot"},
    {"input": "embedding", "loss": "squared-error"},
    {"input": "dense", "loss": "", "head": ""},
    {"input": "dense", "lengths": True},
    {"input": "one-hot", "loss": "squared-error"},
    {"input": "embedding", "lengths": True, "loss": "", "head": ""},
    {"input": "dense", "loss": "squared-error"},
]
UPDATES = ["sgd", "adam", "momentum"]


def _structures() -> list[Structure]:
    """Return every cell with every number of layers, in one direction and both; inputs, losses and updates alternate."""
    ends, updates = cycle(ENDS), cycle(UPDATES)
    return [
        Structure(cell=cell, layers=layers, bidirectional=both, update=next(updates), clip=bool(i % 2), **next(ends))
        for i, (cell, (layers, both)) in enumerate((cell, depth) for cell in names_of("cell") for depth in DEPTHS)
    ]


def _name(structure: Structure) -> str:
    """Return the name of a structure in the name of a test."""
    words = [
        structure.cell,
        f"{structure.layers}x{1 + structure.bidirectional}",
        structure.input,
        structure.loss or "given",
        structure.update,
    ]
    return "-".join(words + ["lengths"] * structure.lengths + ["clip"] * structure.clip)


@pytest.mark.parametrize("structure", _structures(), ids=_name)
def test_every_name(structure):
    seed = sum(map(ord, _name(structure)))
    assert disagreements(check_batch(learned(structure, random_sizes(seed), seed=seed), entries=0)) == []


@pytest.mark.parametrize("cell", names_of("cell"))
def test_finite_differences(cell):
    for number, both in enumerate((False, True)):
        structure = Structure(cell=cell, layers=2 - both, bidirectional=both, **ENDS[number + 3])
        found = check_batch(learned(structure, seed=number, scale=0.7), entries=2)
        assert disagreements(found) == []
        assert {c.checked for c in found if c.against == "finite differences"} <= {1, 2}


@pytest.mark.parametrize("cell", names_of("cell"))
def test_float32(cell):
    for number, end in enumerate((ENDS[0], ENDS[3])):
        structure = Structure(cell=cell, layers=1 + number % 2, bidirectional=number == 0, update="adam", clip=True, **end)
        assert (
            disagreements(check_batch(learned(structure, random_sizes(number), "float32", seed=number, scale=0.5), entries=0)) == []
        )


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_batch_of_more_than_a_few_numbers(cell):
    record = learned(Structure(cell=cell, update="adam", clip=True), {"T": 32, "B": 16, "H": 64, "V": 64}, "float32", scale=0.2)
    assert disagreements(check_batch(record, entries=0)) == []


@given(st.integers(0, 10**6), st.sampled_from(names_of("cell")), st.sampled_from(ENDS), st.sampled_from(DEPTHS[:4]))
@settings(max_examples=6, derandomize=True)
def test_random_sizes(seed, cell, end, depth):
    structure = Structure(cell=cell, layers=depth[0], bidirectional=depth[1], **end)
    assert disagreements(check_batch(learned(structure, random_sizes(seed), seed=seed), entries=0)) == []


@pytest.mark.parametrize(
    "structure", [Structure(cell="lstm", layers=2, bidirectional=True, lengths=True), Structure(update="adam", clip=True)]
)
def test_every_array_is_written_and_finite(structure):
    """No named value keeps the contents of reused memory."""
    record = filled(structure)
    inputs = {name: record.array(name).copy() for name in record.compiled.model.page.inputs}
    states = record.states(end=False)
    record.block[...] = np.nan
    for name, value in inputs.items():
        record.array(name)[...] = value
    record.begin_with(states)
    run(record)
    named = [name for name, operation in record.compiled.schedule.named.items() if operation.memory.kind in ("record", "state")]
    assert all(np.isfinite(record.array(name)).all() for name in named)
    assert np.isfinite(record.own_gradients.flat).all()
    assert np.isfinite(record.own_after.flat).all()
