"""The proof of a convention from an input and its output."""

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch

from tests.imported.running import prove, run
from tests.rounding import of_found
from tui_gru.equations.functions import GATE_NAMES
from tui_gru.errors import ModelFileError
from tui_gru.files.kinds import KINDS, RESETS, Z_MEANINGS, Convention, cell_step
from tui_gru.imported.inspect import inspect

READINGS = list(product(KINDS["gru"].orders, RESETS, Z_MEANINGS, GATE_NAMES))


@pytest.fixture
def found(tmp_path, random):
    """Return a GRU whose file does not give its convention."""

    def make(bias=True, inputs=3, hidden=4, dtype=np.float32):
        arrays = {"a": random.normal(size=(3 * hidden, inputs)), "b": random.normal(size=(3 * hidden, hidden))}
        if bias:
            arrays |= {"c": random.normal(size=3 * hidden), "d": random.normal(size=3 * hidden)}
        np.savez(tmp_path / "model.npz", **{f"g_{name}": array.astype(dtype) for name, array in arrays.items()})
        return inspect(tmp_path / "model.npz", order="rzn")[0]

    return make


@pytest.mark.parametrize("reading", READINGS, ids="-".join)
def test_every_one_of_the_72_readings_can_be_proved(found, random, reading):
    gru = found()
    x = random.normal(size=(5, 2, 3)).astype(np.float32)
    y = run(gru.read_as(*reading), x).astype(np.float32)
    proof = prove(gru, x, y)
    assert proof.decided
    assert (proof.layers.order, proof.layers.reset, proof.layers.z, proof.layers.gate) == reading
    assert proof.readings[0].error < of_found(gru, x)
    assert proof.readings[1].error > 1e-3
    assert len({r.convention for r in proof.readings}) == len(proof.readings) == 2 * len(READINGS)
    assert "proved by an input and its output: off by" in proof.layers.evidence
    assert proof.layers.warning == ""


def test_untrained_weights_of_torch_are_enough(tmp_path, random):
    torch.manual_seed(1)
    gru = torch.nn.GRU(24, 64)
    torch.save(gru.state_dict(), tmp_path / "model.pt")
    (found,) = inspect(tmp_path / "model.pt")
    x = torch.randn(8, 3, 24)
    proof = prove(found, x.numpy(), gru(x)[0].detach().numpy())
    assert proof.decided
    assert proof.readings[0].error < of_found(found, x.numpy())
    assert proof.readings[1].error > 1e-2


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_stacks_in_both_directions_with_lengths_and_a_start(tmp_path, layers):
    torch.manual_seed(2)
    gru = torch.nn.GRU(3, 6, layers, bidirectional=True)
    torch.save(gru.state_dict(), tmp_path / "model.pt")
    (found,) = inspect(tmp_path / "model.pt")
    x, h0, lengths = torch.randn(7, 3, 3), torch.randn(2 * layers, 3, 6), torch.tensor([7, 2, 4])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    y = torch.nn.utils.rnn.pad_packed_sequence(gru(packed, h0)[0])[0].detach().numpy()
    proof = prove(found.read_as("zrn", "before", "takes"), x.numpy(), y, h0.numpy(), lengths.numpy())
    assert proof.decided
    assert proof.layers.convention == found.convention
    assert proof.readings[0].error < of_found(found, x.numpy(), h0.numpy())


def test_a_start_that_is_not_given_is_not_held_against_a_reading(found, random):
    gru = found()
    x, h0 = random.normal(size=(5, 2, 3)), random.normal(size=(1, 2, 4))
    y = run(gru, x, h0)
    assert prove(gru, x, y).decided
    assert prove(gru, x, y, h0).decided
    assert prove(gru, x, y, h0[0]).readings[0].error < of_found(gru, x, h0)


def test_one_row_may_be_given_without_its_axis_and_a_start_may_be_a_state(found, random):
    gru = found()
    x = random.normal(size=(5, 3))
    assert prove(gru, x, run(gru, x[:, None])[:, 0]).decided


def test_a_chaotic_gru_is_proved_one_step_at_a_time(found, random):
    """Its states in float32 and float64 separate within a few steps; from recorded states each step agrees."""
    gru = found(hidden=40)
    cells = gru.weights().cells[0][0]
    wild = {name: (8 * array if name[0] == "U" else array).astype(np.float32) for name, array in cells.items()}
    x = random.normal(size=(300, 1, 3)).astype(np.float32)
    h, y = np.zeros((1, 40), np.float32), []
    for x_t in x:
        h = cell_step(x_t, (h,), wild, Convention("rzn", "after"))[0].astype(np.float32)
        y.append(h)
    blocks = gru.sources[0][0]()
    loud = dataclasses.replace(gru, sources=((lambda: dataclasses.replace(blocks, U=8 * blocks.U),),))
    assert np.abs(run(loud, x) - y).max() > 0.1
    proof = prove(loud, x, np.stack(y))
    assert proof.decided
    assert proof.readings[0].error < of_found(loud, x[:1])


def test_what_cannot_be_told_apart_is_said(found, random):
    gru = found(bias=False)
    x = random.normal(size=(1, 2, 3))
    proof = prove(gru, x, run(gru, x))  # one step from zero, in which reset has no effect
    assert not proof.decided
    assert proof.layers == gru
    assert "readings give this output" in proof.message
    assert "give more timesteps, or a start from a state that is not zero" in proof.message


def test_an_output_of_another_model_is_not_explained(found, random):
    gru = found()
    x = random.normal(size=(5, 2, 3))
    proof = prove(gru, x, np.tanh(random.normal(size=(5, 2, 4))))
    assert not proof.decided
    assert proof.message.startswith("no reading gives this output: the best, gates")
    assert proof.message.endswith("check that x and y are of g, timesteps first, and that h0 is given")


def test_half_precision_is_judged_by_its_own_measure(found, random):
    gru = found(dtype=np.float16)
    x = random.normal(size=(5, 2, 3)).astype(np.float16)
    proof = prove(gru.read_as("zrn"), x, run(gru, x).astype(np.float16))
    assert proof.decided
    assert proof.layers.order == "rzn"


def test_an_output_in_bfloat16_is_judged_by_its_numbers(tmp_path):
    torch.manual_seed(3)
    gru = torch.nn.GRU(8, 16)
    torch.save(gru.state_dict(), tmp_path / "model.pt")
    (found,) = inspect(tmp_path / "model.pt")
    x = torch.randn(6, 4, 8)
    y = gru.bfloat16()(x.bfloat16())[0].detach().float().numpy()
    assert prove(found.read_as("zrn"), x.numpy(), y).decided  # its values are bfloat16 values
    scaled = y * np.float32(1 + 1e-6)
    assert not prove(found, x.numpy(), scaled).decided


@pytest.mark.parametrize(
    ("x", "y", "more", "message"),
    [
        ((5, 2, 3), (5, 2, 5), {}, r"the expected output has the shape \(5, 2, 5\); g gives \(5, 2, 4\) for these inputs"),
        ((5, 2, 3), (5, 2, 4), {"lengths": np.array([5])}, "lengths must be 2 whole numbers from 0 to 5"),
        ((5, 2, 3), (5, 2, 4), {"lengths": np.array([5, 6])}, "lengths must be 2 whole numbers from 0 to 5"),
        ((5, 2, 3), (5, 2, 4), {"lengths": [2.5, 1]}, "lengths must be 2 whole numbers from 0 to 5"),
        ((5, 2, 3), (5, 2, 4), {"lengths": [0, 0]}, "has no step"),
    ],
)
def test_what_does_not_fit_is_refused(found, x, y, more, message):
    with pytest.raises(ModelFileError, match=message):
        prove(found(), np.zeros(x), np.zeros(y), **more)


def test_an_output_that_is_not_finite_is_refused(found):
    y = np.zeros((5, 2, 4))
    y[3, 1, 2] = np.nan
    with pytest.raises(ModelFileError, match="the output is not finite everywhere"):
        prove(found(), np.zeros((5, 2, 3)), y)
