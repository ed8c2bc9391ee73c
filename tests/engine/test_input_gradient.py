"""The gradient of a model's input, if its structure requests it, compared with PyTorch's autograd."""

from __future__ import annotations

import pytest

from tests.engine.models import disagreements, filled, learned, run
from tui_gru.engine.model import Structure
from tui_gru.engine.reference import check_batch


@pytest.mark.parametrize("cell", ["gru", "gru-reset-after", "lstm", "rnn"])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])
@pytest.mark.parametrize("source", ["one-hot", "embedding", "dense"])
def test_the_gradient_of_the_input_is_autograds(cell, layers, both, source):
    structure = Structure(cell=cell, layers=layers, bidirectional=both, input=source, input_gradient=True)
    record = learned(structure, seed=3)
    read = next(name for name, given in record.compiled.model.page.inputs.items() if not given.target)
    found = check_batch(record, entries=2)
    assert disagreements(found) == []
    assert f"d{read}" in {comparison.name for comparison in found}


def test_without_asking_nothing_is_computed():
    assert "dx" not in run(filled(Structure())).compiled.schedule.named
