"""Carry `notebook`: the gradient continues into the epoch's earlier batches, at their stored values, through the current
weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.engine.models import SIZES, disagreements, epoch, filled, learned, run
from tests.engine.test_against_torch_layers import LAYERS, as_rows, first_states, layer_of, suffixes
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.model import Structure
from tui_gru.engine.reference import check_batch
from tui_gru.engine.training import Earlier, flows_out_of, gains_of_earlier
from tui_gru.engine.weights import Weights
from tui_gru.equations.page import names_of


@pytest.mark.parametrize("cell", names_of("cell"))
def test_every_cell_against_autograd(cell):
    for layers in (1, 2):
        *earlier, record = epoch(Structure(cell=cell, layers=layers, loss="squared-error", input="dense"), 3)
        assert disagreements(check_batch(record, earlier=earlier[::-1], entries=1)) == []


def test_an_epoch_of_five_batches_and_three_layers():
    records = epoch(Structure(cell="lstm", layers=3, input="embedding", update="adam", clip=True), 5)
    for batch, record in enumerate(records):
        assert disagreements(check_batch(record, earlier=records[:batch][::-1], entries=0)) == []


def test_float32():
    *earlier, record = epoch(Structure(cell="gru"), 4, dtype="float32")
    assert disagreements(check_batch(record, earlier=earlier[::-1], entries=2)) == []


def test_without_learning_it_is_one_long_text():
    """With constant weights, the gradient of the last batch equals that of PyTorch through all batches at once."""
    structure = Structure(cell="gru-reset-after", layers=2, input="dense", loss="squared-error")
    records = epoch(structure, 3, rate=0.0)
    layer = layer_of(records[0])
    x = torch.tensor(np.concatenate([record.array("x") for record in records]))
    out, _ = layer(x, first_states(records[0])[0])
    before = records[-1].before
    logits = out[-SIZES["T"] :] @ torch.tensor(before["Wy"]) + torch.tensor(before["by"])
    loss = torch.nn.functional.mse_loss(logits, torch.tensor(records[-1].array("y")))
    assert records[-1].loss == pytest.approx(loss.item(), rel=1e-12)
    loss.backward()
    for number, suffix in suffixes(structure):
        ours = torch.cat([as_rows(records[-1].gradients, "U", gate, suffix, 0) for gate in LAYERS["gru-reset-after"][1]])
        np.testing.assert_allclose(ours.numpy(), getattr(layer, f"weight_hh{number}").grad.numpy(), rtol=1e-9, atol=1e-12)


def test_each_batch_adds_what_flows_into_it():
    """The contributions add up to the gradient, those of the head are 0, and each is computed from the deltas in `scratch`."""
    structure = Structure(cell="gru", layers=2)
    *earlier, record = epoch(structure, 3)
    alone = filled(structure, seed=2)
    alone.before = record.before
    alone.begin_with(record.states(end=False))
    total = run(alone).own_gradients.flat.copy()
    layout, scratch = record.compiled.layout, BatchRecord(record.compiled)
    gains = []
    for gain in gains_of_earlier(record, flows_out_of(record), Earlier(earlier[::-1], scratch)):
        gains.append(gain.copy())
        named = Weights(layout, gains[-1])
        share = np.einsum("tbi,tbj->ij", earlier[-len(gains)].array("h_prev_l0"), scratch.array("daz_l0"))
        np.testing.assert_allclose(named["Uz_l0"], share)
        assert not named["Wy"].any()
        assert not named["by"].any()
    assert len(gains) == 2
    np.testing.assert_allclose(total + sum(gains), record.own_gradients.flat, rtol=1e-12)


def test_the_records_of_earlier_batches_stay_as_they_are():
    records = epoch(Structure(cell="lstm"), 2)
    first = records[0]
    kept = first.block.tobytes()
    learned(Structure(cell="lstm"))
    for _ in gains_of_earlier(records[1], flows_out_of(records[1]), Earlier([first], BatchRecord(first.compiled))):
        pass
    assert first.block.tobytes() == kept
