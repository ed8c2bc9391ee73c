"""User-defined cells: unusual uses of every construct, names of any letters, and random equations, compared with autograd."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

from tests.engine.line_by_line import points
from tests.engine.models import disagreements, learned, own
from tests.session.pairs.cells import random_cell
from tui_gru.engine.config import Config
from tui_gru.engine.model import Structure
from tui_gru.engine.reference import check_batch
from tui_gru.engine.training import gradients_so_far
from tui_gru.equations.syntax import EquationError
from tui_gru.errors import TuiGruError

CELLS = {
    "a gradient that is the same along the units, in a product": "u = Σ (h_prev U) over the units\nh = tanh(u + x W)",
    "a mean over the rows inside the loop": "h = tanh(x W ⊙ (mean (h_prev U) over rows) + b)",
    "a vector that is the mean of a batch": "m = mean h_prev over rows\nh = tanh(x W + h_prev U + m ⊙ b)",
    "one number of each timestep": "m = mean mean h_prev over rows over units\nh = tanh(x W + h_prev U + m ⊙ h_prev)",
    "batch normalization": (
        "a = x W + h_prev U\ne = a − mean a over rows\nv = mean (e ⊙ e) over rows\nh = tanh(e / sqrt(v + 0.1) ⊙ b)"
    ),
    "layer normalization": "a = x W + h_prev U\ne = a − mean a over units\nh = tanh(e / sqrt(mean (e^2) over units + 0.1) ⊙ b)",
    "a weight in a sum over the rows": "m = Σ (h_prev + b) over rows\nh = tanh(x W + h_prev U + m)",
    "a mean over the timesteps of what is not in the loop": "m = mean x over timesteps\nh = tanh(x W + m P + h_prev U)",
    "a state that nothing in its own line makes": "state c : H\nc = tanh(x W)\nh = tanh(c_prev + h_prev U + c)",
    "a state read twice so that it cancels": "state c : H\nc = tanh(c_prev + x W − c_prev)\nh = tanh(h_prev U + c_prev + c)",
    "a state that the loss reads through one line only": "state c : H\nc = c_prev ⊙ 0.5 + x W\nh = tanh(c + h_prev U)",
    "a state read whole after the loop": "h = tanh(x W + h_prev U)\nout2 = h ⊙ h_prev",
    "two weights with the same gradient": "h = tanh(x W + x P + h_prev U)",
    "a weight that is read twice": "z = σ(x W + h_prev U + b)\nh = z ⊙ h_prev + tanh(x W + (z ⊙ h_prev) U + b)",
    "a weight that is squared": "h = tanh(x W + (h_prev U) ⊙ b ⊙ b + b)",
    "a product of weights": "h = tanh(x W + h_prev U + x P)\nk = h (U + U)",
    "a matrix that is a product of weights": "h = tanh(x W + h_prev (U Q))",
    "a transposed product of weights": "h = tanh(x W + h_prev (U Q)ᵀ)",
    "a vector of weights through a matrix, alone": "h = tanh(x W + h_prev U + b Q)",
    "a vector of weights through a matrix": "h = tanh(x W + h_prev U + σ(b) U)",
    "a mean of a matrix of weights": "h = tanh(x W + h_prev U + mean W over the vocabulary)",
    "a vector of weights in a sum over the units": "h = tanh(x W + h_prev U + Σ (b − tanh(h_prev)) over units)",
    "a bias in a sum over the rows": "m = Σ (h_prev + b) over rows\nh = tanh(0.1 ⊙ m + x W + h_prev U)",
    "a bias in a mean over the rows": "m = mean (h_prev U + b) over rows\nh = tanh(m + x W)",
    "a number of each row in a sum over the units": (
        "m = mean h_prev over units\nu = Σ (m + h_prev U) over units\nh = tanh(u + x W)"
    ),
    "one number in a sum over the units and the rows": (
        "m = mean mean h_prev over rows over units\nn = Σ Σ (m + h_prev) over units over rows\nh = tanh(0.1 ⊙ n + x W + h_prev U)"
    ),
    "a vector of the batch in a sum over the rows": (
        "m = mean h_prev over rows\nn = Σ (m + h_prev U) over rows\nh = tanh(0.3 ⊙ n + x W)"
    ),
    "a sum of the logs of a softmax": "s = softmax(x W + h_prev U)\nl = Σ (log s) over units\nh = tanh(0.1 ⊙ l + x W)",
    "the joined form of a GRU": "r = σ([x, h_prev] P)\nh = tanh([x, r ⊙ h_prev] W + h_prev U)",
    "a labelled part of weights alone, read twice": "a = x W + (p: b ⊙ b)\nh = tanh(a + h_prev U ⊙ p)",
    "a transposed weight": "h = tanh(x W + h_prev Uᵀ)",
    "a joined input": "j = [x, h_prev]\nh = tanh(j W + h_prev U)",
    "a join of three": "j = [h_prev, x, (p: h_prev U)]\nh = tanh(j W + p)",
    "the same name three times in a line": "a = x W\nk: s = a U + tanh(a P) + σ(a Q)\nh = tanh(s + h_prev)",
    "a part read twice in its line": "h = tanh((a: x W + h_prev U) ⊙ σ(a) + a)",
    "two uses that are one term": "a = x W + h_prev U\np2 = (p: a + h_prev) ⊙ (q: a ⊙ h_prev) + p\nh = tanh(p2 + a + a)",
    "a factor that one term has twice": "a = x W\nk = h_prev U\nh = tanh(k ⊙ a ⊙ a + k ⊙ a − k ⊙ a ⊙ a ⊙ a)",
    "a softmax inside the cell, and its log": "a = x W + h_prev U\ns = softmax(a)\nl = log s\nh = tanh(s ⊙ h_prev + 0.1 ⊙ l)",
    "every function": (
        "a = x W + h_prev U\nh = tanh(relu(a) + clamp(a) + exp(−a^2) + sqrt(1 + a^2) + log(2 + σ(a)) + a^3 / (1 + a^2))"
    ),
    "a line that nobody reads": "u = mean h_prev over units\nh = tanh(x W + h_prev U)",
    "a line that only repeats another": "a = x W + h_prev U\nk = a\nl = k\nh = tanh(l)\nm = h",
    "a constant": "k = 0.5\nh = tanh(x W + h_prev U ⊙ k) + 1",
    "names that Python or the compiler have": (
        "lambda = x W\nadd = lambda ⊙ 2\npart = add + h_prev U\nc_1 = part ⊙ part\nones = c_1 + 1 ⊙ part\nR = ones\nkeep = R\n"
        "h = tanh(part + keep)"
    ),
    "names that look the same": "ℎ = x W\nx² = ℎ ⊙ ℎ\nx_ = x² + h_prev U\nλ = x_\nμ = λ ⊙ λ\né = μ + x_\nh = tanh(é + ℎ)",
    "a backwards state": "state s : H backwards\ns = tanh(x W + s_next U)\nh = tanh(s + h_prev U)",
}


def cell(lines: str) -> str:
    """Return the text of a cell with a state h and the weights that the lines read."""
    read = [name for name in ("W", "U", "P", "Q", "b") if re.search(rf"\b{name}\b", lines.replace("ᵀ", ""))]
    unclear = "(p: h_prev U)", "s = a U", "(U Q)", "b Q"
    axes = {"U": "U(H H)", "Q": "Q(H H)"} if any(each in lines for each in unclear) else {}
    return f"state h : H\nparameters {' '.join(axes.get(name, name) for name in read)}\n{lines}\n"


@pytest.mark.parametrize("lines", CELLS.values(), ids=CELLS)
def test_against_autograd(lines):
    both = {"bidirectional": True, "input": "dense", "loss": "", "head": ""}
    for options in ({}, both) if "backwards" not in lines and "vocabulary" not in lines else ({},):
        record = learned(own(cell(lines), **options), scale=0.6)
        assert disagreements(check_batch(record, entries=not options)) == []
        for name, gradient in gradients_so_far(record, list(points(record, update=False))[-1]).items():
            assert gradient.tobytes() == record.own_gradients[name].tobytes(), name


def _random(seed: int, **options: object) -> Structure:
    ends = [{}, {"input": "dense", "loss": "", "head": ""}, {"loss": "squared-error", "lengths": True}]
    chosen = {**ends[seed % len(ends)], "layers": 1 + seed % 2, "bidirectional": seed % 3 == 0, "update": "momentum"}
    return Structure(cell="mine.cell", cell_text=random_cell(seed).equations, **chosen)


@pytest.mark.parametrize("seeds", [range(7), range(7, 14)], ids=str)
def test_random_equations(seeds):
    """Sums, products, reductions over rows and units, parts, all functions: few cells are refused, none gives wrong numbers."""
    accepted = 0
    for seed in seeds:
        structure = _random(seed)
        with suppress(EquationError):
            model = own(structure.cell_text, **vars(structure))
            assert disagreements(check_batch(learned(model, seed=seed, scale=0.4), entries=seed % 2)) == [], structure.cell_text
            accepted += 1
    assert accepted >= 5


def test_a_sum_over_the_timesteps_in_their_loop_is_refused():
    with pytest.raises(EquationError, match=r"^mine.cell:3:5: m takes a sum over the timesteps, but the timesteps need m$"):
        own(cell("m = mean h_prev over timesteps\nh = tanh(x W + h_prev U + m)"))


def test_a_cycle_through_both_directions_is_refused():
    lines = "state s : H backwards\ns = tanh(x W + s_next U + h_prev)\nh = tanh(s + h_prev U)"
    with pytest.raises(
        EquationError, match=r"^mine.cell:4:1: s depends on a state of the timestep before and on one of the timestep after$"
    ):
        own(cell(lines))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "softmax(mean h_prev over units)",
            "3:10: a softmax is taken along the units, but mean hₜ₋₁ over the units is (B) and has no",
        ),
        ("softmax(mean mean h_prev over rows over units)", "over the units is a number and has no units"),
        (
            "h_prev (P ⊙ U)",
            "3:17: U is (H), P is (H, H); which H is meant is ambiguous: write the axes of its parameters, as in U(H H)",
        ),
    ],
)
def test_what_has_no_clear_axis_is_refused(line, message):
    with pytest.raises(EquationError) as error:
        own(f"state h : H\nparameters W P(H H) U\nh = tanh({line} + x W + h_prev P + U)")
    assert message in str(error.value)


def test_an_axis_without_a_size_is_refused():
    with pytest.raises(
        EquationError, match=r"^mine.cell:2:12: W has the axis K, which has no size; axes with a size: T B H V I D$"
    ):
        own("state h : H\nparameters W(V K) P(K H) U\nh = tanh(x W P + h_prev U)")


@pytest.mark.parametrize("options", [{"layers": 2}, {"bidirectional": True}, {"layers": 3, "bidirectional": True}])
def test_an_error_has_the_names_of_the_file_however_many_layers_there_are(options):
    text = "state h : H\nparameters W U\nh = tan(x W + h_prev U)"
    with pytest.raises(TuiGruError) as one:
        Config.of(cell="own.cell", cell_text=text)
    with pytest.raises(TuiGruError) as several:
        Config.of(cell="own.cell", cell_text=text, **options)
    assert str(several.value) == str(one.value)
    assert "own.cell:3:5: tan is not" in str(one.value)


def test_a_number_that_the_type_cannot_hold_is_refused():
    lines = "h = tanh(x W + h_prev U ⊙ 0.5 + min(x W, 1e39))"
    with pytest.raises(EquationError, match=r"1e\+39 is larger than any number in float32; write a smaller one"):
        own(cell(lines), dtype="float32")
    own(cell(lines), dtype="float64")
