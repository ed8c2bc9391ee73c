"""Cells written by hand in PyTorch, found in a file by the names that such cells commonly have, and computed as they compute."""

from itertools import product

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from tests.imported.running import prove, run
from tests.rounding import of_found
from tui_gru.errors import ModelFileError
from tui_gru.imported.inspect import inspect

H = 4


class Cell(nn.Module):
    """A GRU with linear layers of the given names; each is that of a gate, or of three in the order r z n."""

    def __init__(self, names, bias=True, inputs=3):
        super().__init__()
        torch.manual_seed(4)
        for name in names:
            reads = inputs if name in (names[0], "W_ir", "W_iz", "W_in", "fc_ir", "fc_iz", "fc_in") else H
            self.add_module(name, nn.Linear(reads, 3 * H // (len(names) // 2), bias=bias))
        self.names = names

    def forward(self, x, h):
        named = [getattr(self, name) for name in self.names]
        W, U = named[: len(named) // 2], named[len(named) // 2 :]
        (a_r, a_z, a_n), (c_r, c_z, c_n) = (
            torch.cat([layer(value) for layer in layers], 1).chunk(3, 1) for layers, value in ((W, x), (U, h))
        )
        r, z = torch.sigmoid(a_r + c_r), torch.sigmoid(a_z + c_z)
        return z * h + (1 - z) * torch.tanh(a_n + r * c_n)


class Concatenated(nn.Module):
    """A GRU whose gates each have a linear layer of x and h side by side."""

    def __init__(self, first, names=("W_z", "W_r", "W_h")):
        super().__init__()
        torch.manual_seed(4)
        self.names, self.first = names, first
        for name in names:
            self.add_module(name, nn.Linear(3 + H, H))

    def both(self, x, h):
        return torch.cat([x, h] if self.first == "xh" else [h, x], 1)

    def forward(self, x, h):
        z, r, n = (getattr(self, name) for name in self.names)
        update, reset = torch.sigmoid(z(self.both(x, h))), torch.sigmoid(r(self.both(x, h)))
        return update * h + (1 - update) * torch.tanh(n(self.both(x, reset * h)))


class Sequence(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        h, outs = torch.zeros(x.shape[1], H), []
        for each in x:
            h = self.cell(each, h)
            outs.append(h)
        return torch.stack(outs)


SIX = [f"{part}{gate}" for part, gate in product(("fc_i", "fc_h"), "rzn")]
CELLS = {
    "x2h and h2h": lambda: Cell(["x2h", "h2h"]),
    "i2h and h2h without biases": lambda: Cell(["i2h", "h2h"], bias=False),
    "xh and hh": lambda: Cell(["xh", "hh"]),
    "ih and hh": lambda: Cell(["ih", "hh"]),
    "x2h and h2h of a square input": lambda: Cell(["x2h", "h2h"], inputs=H),
    "six layers": lambda: Cell(SIX),
    "six square layers": lambda: Cell(SIX, inputs=H),
    "six layers W": lambda: Cell([name.replace("fc", "W") for name in SIX]),
    "x and h side by side": lambda: Concatenated("xh"),
    "h and x side by side": lambda: Concatenated("hx", ("fc_z", "fc_r", "fc_n")),
}


@pytest.fixture(params=CELLS)
def sequence(request):
    return Sequence(CELLS[request.param]())


def test_a_cell_is_found_by_its_names_and_computed_as_it_computes(sequence, tmp_path):
    torch.save(sequence.state_dict(), tmp_path / "m.pt")
    inputs = 3 if not isinstance(sequence.cell, Cell) else next(sequence.cell.children()).in_features
    x = torch.randn(5, 2, inputs, generator=torch.Generator().manual_seed(1))
    y = sequence(x).detach().numpy()
    found = inspect(tmp_path / "m.pt")
    side_by_side = isinstance(sequence.cell, Concatenated)
    assert [each.name for each in found] == (["cell.xh", "cell.hx"] if side_by_side else ["cell"])
    own = next(each for each in found if not side_by_side or each.name.endswith(sequence.cell.first))
    np.testing.assert_allclose(run(own, x.numpy()), y, rtol=0, atol=of_found(own, x.numpy(), None))
    assert "give an input and its output to prove it" in own.warning
    assert prove(own, x.numpy(), y).decided
    for other in found:
        if other is not own:
            assert not prove(other, x.numpy(), y).decided


def test_the_weights_of_an_onnx_graph_of_single_operations(tmp_path):
    cell = Cell(SIX)
    tensors = [numpy_helper.from_array(value.numpy(), f"cell.{name}") for name, value in cell.state_dict().items()]
    node = helper.make_node("Gemm", ["x", "cell.fc_ir.weight", "cell.fc_ir.bias"], ["y"], transB=1)
    graph = helper.make_graph([node], "g", [], [], tensors)
    onnx.save(helper.make_model(graph, ir_version=10), tmp_path / "m.onnx")
    (found,) = inspect(tmp_path / "m.onnx")
    assert (found.name, found.kind, found.reset) == ("cell", "gru", "after")
    assert found.evidence.endswith("the graph computes it in single operations")
    torch.save(cell.state_dict(), tmp_path / "m.pt")
    (same,) = inspect(tmp_path / "m.pt")
    for ours, theirs in zip(vars(found.blocks()[0][0]).values(), vars(same.blocks()[0][0]).values(), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    "shapes",
    [
        {"W_z": (4, 4), "W_r": (4, 4), "W_h": (4, 4)},
        {"W_z": (4, 7), "W_r": (4, 7), "W_h": (4, 8)},
    ],
)
def test_matrices_that_do_not_hold_an_input_and_a_state_are_refused(shapes, tmp_path):
    np.savez(tmp_path / "m.npz", **{f"{name}.weight": np.zeros(shape, np.float32) for name, shape in shapes.items()})
    with pytest.raises(ModelFileError, match="its gates have matrices"):
        inspect(tmp_path / "m.npz")
