"""Axes: those inferred from the lines, and the errors for lines that do not fit."""

from __future__ import annotations

import pytest

from tests.equations.reading import CELL, page, refused
from tui_gru.equations.axes import infer_axes, ranges_of, union
from tui_gru.equations.functions import INSTEAD


def inferred(text: str) -> dict[str, str]:
    """Return the axes of a page's names, each as one word."""
    return {name: "".join(axes) for name, axes in infer_axes(page(text)).items()}


def test_a_mean_has_the_range_of_what_it_is_of():
    text = CELL + "z = σ(x Wz + h_prev Uz + bz)\nu = mean z over the units\ne = z − u\nv = Σ z over the units\nh = tanh(e ⊙ v)"
    ranges = ranges_of(page(text))
    assert (ranges["u"], ranges["e"], ranges["v"]) == ((0, 1), (-1, 1), (-float("inf"), float("inf")))


def test_axes_follow_from_the_lines():
    text = (
        CELL
        + "gate: z = σ(az: x Wz + h_prev Uz + bz)\nu = mean z over the units\nm = Σ (p: u ⊙ z) over the rows\nh = m ⊙ z + h_prev"
    )
    assert inferred(text) == {
        "x": "TBV",
        "h": "TBH",
        "h_prev": "TBH",
        "Wz": "VH",
        "Uz": "HH",
        "bz": "H",
        "az": "TBH",
        "z": "TBH",
        "u": "TB",
        "p": "TBH",
        "m": "TH",
    }


@pytest.mark.parametrize(
    ("lines", "name", "axes"),
    [
        ("parameters W U\nh = x W + h_prev U", "W", "VH"),
        ("parameters W U\nh = x W + h_prev U", "U", "HH"),
        ("parameters W U\na = x W\nh = a U + h_prev", "W", ""),  # errors are tested below
        ("parameters b\nh = h_prev ⊙ b", "b", "H"),
        ("parameters b\nh = b ⊙ h_prev", "b", "H"),
        ("parameters W(V H) b\nh = x (W + b)", "b", "H"),
        ("parameters W\nh = x Wᵀ + h_prev", "W", "HV"),
        ("parameters W\nt = mean h_prev over timesteps\nh = h_prev + t + x W", "t", "BH"),
        ("parameters W\nl = mean mean h_prev over rows over timesteps\nh = h_prev + l + x W", "l", "H"),
        ("parameters W\nj = [x, h_prev]\nh = j W + h_prev", "W", "V+HH"),
        ("parameters E(V D) W\ne = x E\nh = e W + h_prev", "W", "DH"),
        ("parameters W\nh = x W + h_prev ^ 2 + 1", "W", "VH"),
    ],
)
def test_a_parameter_has_the_axes_of_its_place(lines, name, axes):
    text = "input x : V\nstate h : H\n" + lines
    if axes:
        assert inferred(text)[name] == axes
    else:
        assert f"the size of {name} cannot be inferred" in refused(text)


def test_a_backwards_state_is_read_from_the_next_timestep():
    assert inferred("input x : V\nstate b : H backwards\nparameters U W\nb = b_next U + x W")["b_next"] == "TBH"


def test_a_page_of_an_update_rule_has_no_timesteps():
    axes = infer_axes(page("input dW : P\nstate m : P\nparameters W(P)\nm = m + dW\nn = Σ m over parameters\nW −= m"), time=False)
    assert axes == {"dW": ("P",), "m": ("P",), "m_prev": ("P",), "W": ("P",), "n": ()}


def test_the_axes_of_operands_together():
    assert union([("T", "B"), ("T", "B", "H")]) == ("T", "B", "H")
    assert union([("H",), ("T", "B")]) == ("T", "B", "H")
    assert union([("T", "H"), ("B", "H"), ()]) == ("T", "B", "H")
    assert union([("H", "H"), ("H", "H")]) == ("H", "H")
    assert union([]) == ()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "h = x Wy + h_prev Uz + bz",
            "4:7: Wy is not a parameter, an input, a state or a line above; declare it (parameters Wy); did you mean Wz? | Wy",
        ),
        (
            "h = Wz x + h_prev Uz + bz",
            "4:5: Wz is (any), x is (B, V): a matrix product takes a matrix on its right; write x Wz | Wz x",
        ),
        (
            "h = tahn(x Wz + h_prev Uz + bz)",
            "4:5: tahn is not a parameter, an input, a state or a line above; did you mean tanh or within? | tahn",
        ),
        (
            "h = x Wz + h_perv Uz + bz",
            "4:12: h_perv is not a parameter, an input, a state or a line above; did you mean h_prev? | h_perv",
        ),
        ("h = x Wz + h_prev Uz + bz + new\nnew = x Wz", "4:29: new is computed only in line 5; move that line up | new"),
        ("h = x Wz + h Uz + bz", "4:12: h is computed only in line 4; its value from the timestep before is h_prev | h"),
        (
            "z = h ⊙ bz\nh = x Wz + h_prev Uz + z",
            "4:5: h is computed only in line 5; its value from the timestep before is h_prev | h",
        ),
        ("z = h_prev + bz\nh = h_prev Wz + x Uz", ""),
        (
            "h = h_prev Wz + x Wz + bz",
            "4:17: x Wz does not fit: x is (B, V), Wz is (H, any) since line 4, where it follows from hₜ₋₁ Wz | x Wz",
        ),
        (
            "z = x Wz + h_prev\nh = z Wz + h_prev Uz + bz",
            "5:5: z Wz does not fit: z is (B, H), Wz is (V, H) since line 4, where it follows from x Wz | z Wz",
        ),
        (
            "z = x Wz + bz\nh = z ⊙ x + (1 − z) ⊙ h_prev + h_prev Uz",
            (
                "5:13: (1 − z)⊙hₜ₋₁ does not fit: hₜ₋₁ is (B, H), 1 − z is (B, V) since line 5, where it follows from z⊙x "
                "| (1 − z) ⊙ h_prev"
            ),
        ),
        ("h = x ⊙ h_prev + x Wz + bz + h_prev Uz", "4:5: x⊙hₜ₋₁ does not fit: hₜ₋₁ is (B, H), x is (B, V) | x ⊙ h_prev"),
        (
            "h = bz h_prev + x Wz + h_prev Uz",
            (
                "4:5: bz is (any), hₜ₋₁ is (B, H): a matrix product takes a matrix on its right; "
                "write ⊙ (or *) for the product with bz element by element | bz h_prev"
            ),
        ),
        (
            "h = 2 x + x Wz + h_prev Uz + bz",
            (
                "4:5: 2 is a number, x is (B, V): a matrix product takes a matrix on its right; "
                "write ⊙ (or *) for the product with 2 element by element | 2 x"
            ),
        ),
        ("h = h_prevᵀ + x Wz + h_prev Uz + bz", "4:5: hₜ₋₁ is (B, H); only a matrix can be transposed | h_prevᵀ"),
        (
            "h = [x, bz] + x Wz + h_prev Uz",
            "4:5: only matrices with the same rows can be joined; these are (B, V) and (any) | [x, bz]",
        ),
        (
            "j = [x, h_prev Uz]\nh = j Wz + bz",
            "4:9: how many columns hₜ₋₁ Uz has is not known yet; write the axes of its parameter, as in U(H H) | h_prev Uz",
        ),
        (
            "h = x Wz + h_prev Uz + bz + mean Uz over units",
            "4:29: Uz is (H, H); which H to sum over is ambiguous | mean Uz over units",
        ),
        ("h = x", "4:5: h is (B, H), but its line gives (B, V) | x"),
        ("h = mean x over the units", "4:5: x is (B, V), so it cannot be summed over H | mean x over the units"),
        (
            "u = Σ [h_prev, x] over H\nh = u ⊙ (x Wz) + bz + h_prev Uz",
            "4:5: [hₜ₋₁, x] is (B, H+V), so it cannot be summed over H; sum each of the joined parts over H | Σ [h_prev, x] over H",
        ),
        ("h = (mean h_prev over units) + bz + x Wz + h_prev Uz", ""),
        (
            "h = (Σ h_prev over parameters) + bz + x Wz + h_prev Uz",
            "4:5: hₜ₋₁ is (B, H), so it cannot be summed over P | (Σ h_prev over parameters)",
        ),
        (
            "u = (Σ h_prev over units) ⊙ bz\nh = u + x Wz + h_prev Uz",
            "4:5: Σ hₜ₋₁ over the units⊙bz does not fit: bz is (any), Σ hₜ₋₁ over the units is (B) | (Σ h_prev over units) ⊙ bz",
        ),
        ("h = x Wz + h_prev Uz", "3:18: the parameter bz is not read by any line; use it or remove it | bz"),
        ("h = x Wz + h_prev Uz + bz\nstate c : H", "5:7: no line computes the state c; write one, c = …, or remove it | c"),
        ("h += x Wz + h_prev Uz + bz", "4:1: an equation is written h = formula; only an update rule has W −= formula | h"),
        ("h −= x Wz + h_prev Uz + bz", "4:1: an equation is written h = formula; only an update rule has W −= formula | h"),
        ("z −= x Wz\nh = z + h_prev Uz + bz", "4:1: an equation is written z = formula; only an update rule has W −= formula | z"),
    ],
)
def test_what_does_not_fit(lines, message):
    if message:
        assert refused(CELL + lines) == f"mine.cell:{message}"
    else:
        infer_axes(page(CELL + lines))


@pytest.mark.parametrize(
    ("lines", "error", "product", "written"),
    [
        ("h = tanh(x * Wz + h_prev Uz + bz)", "4:5: h is (B, H), but its line gives (B, V)", "x⊙Wz in line 4", "x {}Wz"),
        ("h = tanh(Wz * x + h_prev Uz + bz)", "4:5: h is (B, H), but its line gives (B, V)", "Wz⊙x in line 4", "x {}Wz"),
        (
            "z = σ(x ⊙ Wz + bz)\nh = z ⊙ h_prev + h_prev Uz",
            "5:5: z⊙hₜ₋₁ does not fit: hₜ₋₁ is (B, H), z is (B, V)",
            "x⊙Wz in line 4",
            "x {}Wz",
        ),
        (
            "z = h_prev Uz + bz\nh = z + x Wz + h_prev * Uz",
            "5:16: hₜ₋₁⊙Uz does not fit: Uz is (H, H), hₜ₋₁ is (B, H)",
            "hₜ₋₁⊙Uz in line 5",
            "h_prev {}Uz",
        ),
        ("h = (mean h_prev ⊙ Uz over units) + x", "4:5: h is (B, H), but its line gives (B, V)", "", ""),
        ("h = x ⊙ bz + h_prev Uz + x Wz", "4:5: h is (B, H), but its line gives (B, V)", "", ""),
    ],
)
def test_a_product_that_would_fit_as_a_matrix_product_is_named(lines, error, product, written):
    cure = f"for the matrix product write {written.format('')} or {written.format('@ ')}"
    hint = f"; {product} is element by element, with ⊙ or *: {cure}" if product else ""
    assert refused(CELL + lines).partition(" | ")[0] == f"mine.cell:{error}{hint}"


def test_transposed_operands_do_not_fit_element_by_element():
    text = "input x : V\nstate h : H\nparameters A(V H) C(H V)\nh = x (A + C) + h_prev"
    assert refused(text).startswith("mine.cell:4:7: A + C does not fit: C is (H, V), A is (V, H)")
    assert inferred(text.replace("C)", "Cᵀ)"))["C"] == "HV"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("g += dW\nW −= g", "3:1: an equation is written g = formula; only an update rule has W −= formula | g"),
        ("g −= dW\nW −= g", "3:1: an equation is written g = formula; only an update rule has W −= formula | g"),
        ("W += dW", "3:1: an equation is written W = formula; only an update rule has W −= formula | W"),
    ],
)
def test_an_update_rule_subtracts_from_weights_and_states_alone(lines, message):
    from tests.equations.reading import said
    from tui_gru.equations.syntax import EquationError

    with pytest.raises(EquationError) as caught:
        infer_axes(page("input dW : P\nparameters W(P)\n" + lines, "mine.update"), time=False)
    assert said(caught.value) == f"mine.update:{message}"


@pytest.mark.parametrize("name", INSTEAD)
def test_a_function_without_a_row_is_an_expression_that_the_message_names(name):
    def text(formula):
        return CELL + f"parameters p\na = x Wz + h_prev Uz + bz ⊙ p\nh = {formula}"

    assert f"write {INSTEAD[name]}" in refused(text(f"{name}(a)"))
    assert inferred(text(INSTEAD[name]))["h"] == "TBH"
