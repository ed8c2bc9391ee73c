"""Against PyTorch's own layers with the same weights, and against cells written by hand: outputs, last states, gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.models import SIZES, filled, learned, run
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.model import Structure
from tui_gru.engine.training import flow_out_of
from tui_gru.equations.syntax import with_word

#: PyTorch's layer for each cell and, in the order of its rows, the names of a gate's weights: of W and b, of U, of a second b.
LAYERS: dict[str, tuple[Callable[..., torch.nn.RNNBase], list[tuple[str, str, str]]]] = {
    "gru-reset-after": (torch.nn.GRU, [("r", "r", "hr"), ("z", "z", "hz"), ("h", "h", "hn")]),
    "lstm": (torch.nn.LSTM, [("i", "i", ""), ("f", "f", ""), ("g", "g", ""), ("o", "o", "")]),
    "rnn": (torch.nn.RNN, [("h", "h", "")]),
}


def layer_of(record: BatchRecord) -> torch.nn.RNNBase:
    """Return PyTorch's layer with the weights of a record."""
    structure, sizes = record.compiled.model.structure, record.compiled.sizes
    layer, gates = LAYERS[structure.cell]
    built = layer(sizes["I"], sizes["H"], structure.layers, bidirectional=structure.bidirectional, dtype=torch.float64)
    with torch.no_grad():
        for number, suffix in suffixes(structure):
            for kind, letter in (("weight_ih", "W"), ("weight_hh", "U"), ("bias_ih", "b"), ("bias_hh", "second")):
                rows = [as_rows(record.before, letter, gate, suffix, sizes["H"]) for gate in gates]
                getattr(built, f"{kind}{number}").copy_(torch.cat(rows))
    return built


def as_rows(weights: Mapping[str, np.ndarray], letter: str, gate: tuple[str, str, str], suffix: str, size: int) -> Tensor:
    """Return a weight of one gate in PyTorch's layout: transposed; a second bias that the cell lacks is 0."""
    if letter == "second" and not gate[2]:
        return torch.zeros(size, dtype=torch.float64)
    name = f"b{gate[2]}" if letter == "second" else f"{letter}{gate[1] if letter == 'U' else gate[0]}"
    return (
        torch.tensor(weights[name + suffix]).T.contiguous()
        if weights[name + suffix].ndim > 1
        else torch.tensor(weights[name + suffix])
    )


def suffixes(structure: Structure) -> list[tuple[str, str]]:
    """Return the suffix of every layer and direction, in PyTorch's spelling and in the project's."""
    many = structure.layers > 1 or structure.bidirectional
    ways = ["", "_reverse"] if structure.bidirectional else [""]
    return [(f"_l{layer}{way}", f"_l{layer}{way}" if many else "") for layer in range(structure.layers) for way in ways]


def first_states(record: BatchRecord) -> tuple[Tensor, ...]:
    """Return h0, and c0 of an LSTM, (layers x directions, B, H), with gradients."""
    structure = record.compiled.model.structure
    states = ("h", "c") if structure.cell == "lstm" else ("h",)
    return tuple(
        torch.tensor(np.stack([record.border(state + suffix, end=False) for _, suffix in suffixes(structure)]), requires_grad=True)
        for state in states
    )


def closely(ours: np.ndarray, theirs: Tensor) -> None:
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)


DEPTHS = [(1, False), (2, True), (3, False), (3, True)]


@pytest.mark.parametrize("lengths", [False, True], ids=["whole rows", "lengths"])
@pytest.mark.parametrize(("layers", "both"), DEPTHS, ids=lambda value: str(value))
@pytest.mark.parametrize("cell", LAYERS)
def test_with_given_gradients(cell, layers, both, lengths):
    structure = Structure(cell=cell, layers=layers, bidirectional=both, input="dense", loss="", head="", lengths=lengths)
    hold_to_a_layer(learned(structure, {**SIZES, "T": 5, "B": 3}, seed=layers))


def hold_to_a_layer(record: BatchRecord) -> None:
    """Compare one layer: its outputs, last states, and the gradients of weights and first states; row lengths as packed rows."""
    structure, page = record.compiled.model.structure, record.compiled.model.page
    built, states = layer_of(record), first_states(record)
    x, start = torch.tensor(record.array("x")), states if len(states) > 1 else states[0]
    if structure.lengths:
        rows = torch.tensor(record.array("live").sum(0).astype(int))
        out, last = built(torch.nn.utils.rnn.pack_padded_sequence(x, rows, enforce_sorted=False), start)
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, total_length=len(x))
    else:
        out, last = built(x, start)
    closely(record.array(page.output), out)
    for state, ends in zip("hc", last if len(states) > 1 else (last,), strict=False):
        closely(np.stack([record.border(state + suffix, end=True) for _, suffix in suffixes(structure)]), ends)

    (output,) = page.outputs
    total = (out * torch.tensor(record.array(with_word(f"d{output}", "given")))).sum()
    flows = dict(zip(record.compiled.states, record.flows_in, strict=True))
    for state, ends in zip("hc", last if len(states) > 1 else (last,), strict=False):
        total += (ends * torch.tensor(np.stack([flows[state + suffix] for _, suffix in suffixes(structure)]))).sum()
    total.backward()
    for state, first in zip("hc", states, strict=False):
        closely(np.stack([flow_out_of(record, state + suffix) for _, suffix in suffixes(structure)]), first.grad)
    gates = LAYERS[structure.cell][1]
    for number, suffix in suffixes(structure):
        for kind, letter in (("weight_ih", "W"), ("weight_hh", "U"), ("bias_ih", "b"), ("bias_hh", "second")):
            if letter != "second" or gates[0][2]:
                ours = torch.cat([as_rows(record.gradients, letter, gate, suffix, 0) for gate in gates])
                closely(ours.numpy(), getattr(built, f"{kind}{number}").grad)


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
@pytest.mark.parametrize("cell", LAYERS)
def test_with_a_head_and_a_loss(cell, loss):
    """Compares the loss and the gradient of the head's weights with PyTorch's."""
    record = learned(Structure(cell=cell, layers=2, bidirectional=True, input="dense", loss=loss))
    out, _ = layer_of(record)(torch.tensor(record.array("x")), first_states(record) if cell == "lstm" else first_states(record)[0])
    head = torch.tensor(record.before["Wy"], requires_grad=True)
    logits = out @ head + torch.tensor(record.before["by"])
    y = torch.tensor(record.array("y"))
    if loss == "cross-entropy":
        value = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(0, 1).argmax(-1))
    else:
        value = torch.nn.functional.mse_loss(logits, y)
    assert record.loss == pytest.approx(value.item(), rel=1e-12)
    value.backward()
    closely(record.gradients["Wy"], head.grad)


def gru(x, h, p):
    z, r = torch.sigmoid(x @ p["Wz"] + h @ p["Uz"] + p["bz"]), torch.sigmoid(x @ p["Wr"] + h @ p["Ur"] + p["br"])
    return z * h + (1 - z) * torch.tanh(x @ p["Wh"] + (r * h) @ p["Uh"] + p["bh"])


def gru_cho(x, h, p):
    z, r = torch.sigmoid(x @ p["Wz"] + h @ p["Uz"] + p["bz"]), torch.sigmoid(x @ p["Wr"] + h @ p["Ur"] + p["br"])
    return (1 - z) * h + z * torch.tanh(x @ p["Wh"] + (r * h) @ p["Uh"] + p["bh"])


def mgu(x, h, p):
    f = torch.sigmoid(x @ p["Wf"] + h @ p["Uf"] + p["bf"])
    return (1 - f) * h + f * torch.tanh(x @ p["Wh"] + (f * h) @ p["Uh"] + p["bh"])


def layer_norm_gru(x, h, p):
    def normed(a, gate):
        return torch.nn.functional.layer_norm(a, a.shape[-1:], p[f"g{gate}"], p[f"b{gate}"])

    z, r = (torch.sigmoid(normed(x @ p[f"W{gate}"] + h @ p[f"U{gate}"], gate)) for gate in "zr")
    return z * h + (1 - z) * torch.tanh(normed(x @ p["Wh"] + (r * h) @ p["Uh"], "h"))


@pytest.mark.parametrize("embedding", [False, True])
@pytest.mark.parametrize(
    ("cell", "step"),
    {"gru": gru, "gru-cho": gru_cho, "mgu": mgu, "layer-norm-gru": layer_norm_gru}.items(),
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_against_a_cell_written_by_hand(cell, step, embedding):
    """A text, one character after the other: the loss, every state, and the gradient of every weight."""
    record = learned(Structure(cell=cell, input="embedding" if embedding else "one-hot"))
    p = {name: torch.tensor(value, requires_grad=True) for name, value in record.before.items()}
    h, losses = torch.tensor(record.border("h", end=False)), []
    for t, ids in enumerate(record.ids("token" if embedding else "x")):
        x = torch.nn.functional.one_hot(torch.tensor(ids), SIZES["V"]).double()
        h = step(x @ p["E"] if embedding else x, h, p)
        closely(record.array("h")[t], h)
        losses.append(torch.nn.functional.cross_entropy(h @ p["Wy"] + p["by"], torch.tensor(record.ids("y")[t])))
    loss = torch.stack(losses).mean()
    assert record.loss == pytest.approx(loss.item(), rel=1e-12)
    loss.backward()
    for name, value in p.items():
        closely(record.gradients[name], value.grad)


def test_nothing_behind_the_end_of_a_row_counts():
    """Values after the end of a row do not affect outputs, states and gradients."""
    structure = Structure(cell="lstm", layers=2, bidirectional=True, input="dense", loss="", head="", lengths=True)
    first, second = filled(structure, seed=3), filled(structure, seed=3)
    dead = first.array("live") == 0
    assert dead.any()
    second.array("x")[dead] = 7
    run(first), run(second)
    assert first.array("out").tobytes() == second.array("out").tobytes()
    assert first.states(end=True).tobytes() == second.states(end=True).tobytes()
    np.testing.assert_allclose(first.own_gradients.flat, second.own_gradients.flat, rtol=1e-12, atol=1e-14)
    assert not first.array("out")[dead].any()
