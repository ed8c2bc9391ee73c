"""A function is one row of the table: a new one is read, written, computed, differentiated, checked and explained."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.equations.reading import formula
from tui_gru import Session
from tui_gru.debugger.evaluate import function_in_float64
from tui_gru.engine.weights import NUMPY_SETTINGS
from tui_gru.equations import functions
from tui_gru.equations.axes import ranges_of
from tui_gru.equations.functions import FUNCTIONS, GATE_NAMES, GATES, gate_named
from tui_gru.equations.page import read_page
from tui_gru.equations.syntax import Apply, Name, Number, combined, formula_of, slope_of

#: Two rows, one with a formula and one that NumPy computes, added before anything that reads the table is imported. Then a cell
#: is written with them.
ADDED = r'''
import math, sys
from pathlib import Path
from tui_gru.equations import functions as f

f.FUNCTIONS["softplus"] = f.Function(
    "ς", r"\operatorname{softplus}", "a smooth relu", torch=lambda torch, x: torch.logaddexp(x, torch.zeros_like(x)),
    slope="dy ⊙ σ(x)", formula="max(x, 0) + log(1 + exp(min(x, −x)))", range=(0, math.inf),
)
f.FUNCTIONS["arcsinh"] = f.Function(
    "arcsinh", r"\operatorname{arsinh}", "grows as slowly as a logarithm", torch="asinh",
    slope="dy / sqrt(1 + x^2)", numpy="arcsinh",
)
f.WRITTEN |= {"ς": "softplus", "softplus": "softplus", "arcsinh": "arcsinh"}

import numpy as np
from tui_gru import Session
from tui_gru.debugger.derivation import as_latex, derivation_text, first_opened
from tui_gru.tui.help import explanation_of
from tui_gru.tui.theme import ASCII, transliterate

cell = Path(sys.argv[1], "new.cell")
cell.write_text("""state h : H
parameters Wp Up Wq Uq bp bq
p = softplus(ap: x Wp + h_prev Up + bp)
q = ς(aq: x Wq + h_prev Uq + bq)
h = arcsinh(ah: p ⊙ h_prev − q)
""", encoding="utf-8")
s = Session(cell=str(cell), text="hello hello hello hello ", hidden_size=3, seq_length=4, batch_size=2, dtype="float64")
s.learning = True
s.step("batch", 3)

listing = s.program_text()
assert "p = ς(x Wp + hₜ₋₁ Up + bp)" in listing and "h = arcsinh(p⊙hₜ₋₁ − q)" in listing, listing
assert transliterate("p = ς(ap)", ASCII) == "p = softplus(ap)"
np.testing.assert_allclose(s.value("p"), np.log1p(np.exp(s.value("ap"))), rtol=1e-12)
np.testing.assert_allclose(s.value("h"), np.arcsinh(s.value("ah")), rtol=1e-12)
assert s.program.ranges["q"] == (0, math.inf)
checked = {row.name: row for row in s.check().rows}
assert {"p", "q", "h", "dap", "dah", "dWp", "dUq"} <= checked.keys()
assert all(row.agrees for row in checked.values())
assert checked["dap"].whole.against == "autograd" and checked["dap"].slopes.against == "finite differences"
for name, words in (("p", "ς"), ("h", "arcsinh")):
    root = s.explain(name, (0, 1))
    opened = first_opened(root)
    assert words + "(" in derivation_text(root, opened, ""), derivation_text(root, opened, "")
    assert r"\operatorname{" + ("softplus" if name == "p" else "arsinh") in as_latex(root, opened, "")
assert explanation_of(s.program, "ς", str) == "ς: a smooth relu"
assert explanation_of(s.program, "arcsinh", str) == "arcsinh: grows as slowly as a logarithm"
'''


def test_a_new_function_is_one_row(tmp_path):
    done = subprocess.run([sys.executable, "-c", ADDED, str(tmp_path)], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_a_row_has_a_spelling_words_and_a_way_to_compute_it():
    texts = [row.text for row in FUNCTIONS.values()]
    assert len({*texts, *FUNCTIONS}) == len({*zip(FUNCTIONS, texts, strict=True)} | {(n, n) for n in FUNCTIONS})
    for name, row in FUNCTIONS.items():
        assert row.words
        assert row.latex
        assert bool(row.formula) + bool(row.numpy) == (name != "softmax"), name


@pytest.mark.parametrize("name", [name for name, row in FUNCTIONS.items() if row.arity == 1 and name != "softmax"])
def test_the_values_of_every_function_are_in_its_range(name):
    row, x = FUNCTIONS[name], torch.linspace(0.01 if name in ("log", "sqrt") else -30, 30, 400, dtype=torch.float64)
    values = row.in_torch(x)
    assert row.range[0] <= values.min() <= values.max() <= row.range[1]


def test_the_manual_names_every_function():
    (section,) = re.findall(
        r"### The functions\n(.*?)\n`tui-gru cells`",
        (Path(functions.__file__).parents[1] / "manual" / "equations.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section))))
    assert words >= FUNCTIONS.keys() - {"within"}


def computed(node, numbers):
    match node:
        case Name(name=name):
            return numbers[name]
        case Number(value=value):
            return np.float64(value)
        case Apply(function=function):
            return function_in_float64(function, *(computed(child, numbers) for child in node.children))
    return combined(node, [computed(child, numbers) for child in node.children])


#: The functions of torch that the rows are, by the formulas that PyTorch documents; softplus without its threshold.
OF_TORCH = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "softplus": functional.softplus,
    "elu": functional.elu, "silu": functional.silu, "gelu": functional.gelu, "erf": torch.erf, "sin": torch.sin, "cos": torch.cos,
    "abs": torch.abs, "exp": torch.exp, "sign": torch.sign, "clamp": lambda x: functional.hardtanh(x, 0, 1),
}  # fmt: skip
LARGE = [-1e300, -1e30, -800.0, -50.0, -6.0, -1.0, -0.5, -1e-9, -0.0, 0.0, 1e-9, 0.5, 1.0, 6.0, 19.0, 36.0, 600.0, 1e30, 1e300]


@pytest.mark.parametrize("name", OF_TORCH)
@pytest.mark.filterwarnings("error")
def test_a_function_and_its_slope_are_those_of_torch_at_large_numbers_too(name):
    x = np.array([each for each in LARGE if name != "exp" or each < 700])
    with NUMPY_SETTINGS:
        value = function_in_float64(name, x)
        slope = slope_of(name, Name("x"), Name("y"), Name("dy"))
        gradient = computed(slope, {"x": x, "y": value, "dy": np.full_like(x, 0.5)})
    in_torch = torch.tensor(x, requires_grad=True)
    expected = OF_TORCH[name](in_torch) if name != "softplus" else torch.logaddexp(in_torch, torch.zeros(()))
    expected.backward(torch.full_like(in_torch, 0.5))
    np.testing.assert_allclose(value, expected.detach(), rtol=4e-16, atol=4e-16)
    np.testing.assert_allclose(np.broadcast_to(gradient, x.shape), in_torch.grad, rtol=4e-16, atol=4e-16)
    own = torch.tensor(x, requires_grad=True)
    checked = FUNCTIONS[name].in_torch(own)
    np.testing.assert_array_equal(checked.detach(), expected.detach())


def test_a_cell_of_all_functions_agrees_with_autograd(tmp_path):
    (tmp_path / "all.cell").write_text(
        """state h : H
parameters W U V b
a = x W + h_prev U + b
p = softplus(a) + silu(2 ⊙ a) + gelu(3 ⊙ a) + elu(a)
q = erf(a) + sin(a) ⊙ cos(a) + abs(a) + log(1 + exp(a))
m = max(a, 0.01 ⊙ a) + min(max(p, −1), 1) + max(min(q, 0.2), −0.2)
h = tanh(h_prev V + m ⊙ p ⊙ q)
""",
        encoding="utf-8",
    )
    session = Session(
        cell=str(tmp_path / "all.cell"), text="hello hello hello hello ", hidden_size=3, dtype="float64", seq_length=4
    )
    session.learning = True
    session.step("batch", 3)
    assert session.check().agrees


def test_a_state_between_bounds_has_their_range():
    text = "state h : H\nparameters W U\nh = max(min(x W + h_prev U, 1), −0.5)"
    assert ranges_of(read_page(text, "mine.cell"))["h"] == (-0.5, 1)


def test_a_formula_is_filled_in_with_an_argument_that_is_called_as_its_own_names():
    filled = formula_of("sigmoid", Name("y"))
    assert filled is not None
    assert list(filled.names()) == ["y"]
    assert formula_of("tanh", Name("x")) is None
    slope = slope_of("log", Name("dy"), Name("x"), Number(3))
    assert slope is not None
    assert list(slope.names()) == ["dy"]
    assert slope_of("min", Name("x"), Name("y"), Name("dy")) is None
    assert all(node.span is None for node in filled.walk())


@pytest.mark.parametrize("text", ["a − b ⊙ c", "−a ⊙ b ⊙ c", "a / (b + c)", "a^2 − b^c", "tanh(a) ⊙ σ(b) + max(a, b)"])
def test_the_arithmetic_of_a_node_is_that_of_python_for_arrays_of_any_library(text):
    tree, numbers = formula(text), {"a": 0.7, "b": 1.3, "c": 2.5}

    def value(node, made, function):
        match node:
            case Name(name=name):
                return made(numbers[name])
            case Number(value=number):
                return made(float(number))
        operands = [value(child, made, function) for child in node.children]
        return combined(node, operands, function(node.function) if isinstance(node, Apply) else None)

    python = text.replace("−", "-").replace("⊙", "*").replace("^", "**").replace("σ", "sigmoid")
    known = {"tanh": math.tanh, "sigmoid": lambda a: 1 / (1 + math.exp(-a)), "max": max}
    expected = eval(python, known, numbers)
    in_torch = value(tree, lambda number: torch.tensor(number, dtype=torch.float64), lambda name: FUNCTIONS[name].in_torch)
    in_numpy = value(tree, lambda number: np.full(3, number), lambda name: partial(function_in_float64, name))
    assert in_torch.item() == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(in_numpy, np.full(3, expected), rtol=1e-14)
    with pytest.raises(TypeError):
        combined(formula("a b"), [1.0, 2.0])


@pytest.mark.parametrize("gate", GATE_NAMES)
def test_a_gate_function_of_a_file_is_recognised_by_name_and_slope(gate):
    row = GATES[gate]
    activation = "sigmoid" if row.slope is None else "hard_sigmoid"
    assert gate_named(activation, row.slope or 9.0) == gate
    assert gate_named(activation.replace("_", "").upper(), row.slope or 9.0) == gate


def test_other_gate_functions_are_not():
    assert gate_named("relu") is None
    assert gate_named("hard_sigmoid", 0.25) is None
    assert gate_named("HardSigmoid", 0.2, 0.4) is None
    assert np.isclose(GATES["hard_sigmoid_6"].slope or 0, 1 / 6)
    assert functions.MIDDLE == 0.5
