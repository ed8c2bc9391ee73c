"""Written derivations: opened nodes, digits that add up, long sums, text and LaTeX."""

from decimal import Decimal

import numpy as np
import pytest

from tests.debugger.deriving import combined, rounding
from tui_gru import Session
from tui_gru.debugger.derivation import (
    MOST_TERMS,
    Derivation,
    Form,
    Node,
    as_latex,
    derivation_text,
    first_opened,
    laid_out,
    not_computed,
)
from tui_gru.debugger.program import signed_sum
from tui_gru.engine.numbers import short
from tui_gru.equations.writing import latex_text

TEXT = "abcdefghijklmnopqrstuvwxyz the quick brown fox"


def leaf(value, label="x"):
    return Node(label, value, lambda: not_computed("set"), exact=True)


def total(*values, kind="sum"):
    terms = tuple(map(leaf, values))
    return Node("s", combined(Derivation(kind, terms)), lambda: Derivation(kind, terms), exact=True)


def decimal(written):
    return Decimal(written.replace("−", "-"))


def add_up(rows, path=()):
    """Return the exact sum of the terms at `path` as they are written."""
    below = [row for row in rows if len(row.path) == len(path) + 1 and row.path[:-1] == path]
    return sum((decimal(row.written) for row in below), Decimal(0))


@pytest.mark.parametrize("place", ["e1 b1 t2", "e2 b1 t3"])
@pytest.mark.parametrize("name", ["h", "dh", "term2", "Wz", "dUh", "dh_prev"])
def test_the_terms_of_a_sum_add_up_as_they_are_written(name, place):
    session = Session(text=TEXT, hidden_size=20, learning_rate=0.5)
    session.learning = True
    session.seek(place)
    session.step("batch")
    for index in list(np.ndindex(*np.shape(session.value(name))))[:4]:
        root = session.explain(name, index)
        rows = laid_out(root, frozenset())
        terms = [*(row.node.contribution for row in rows[1:] if row.node is not None)]
        form = Form.of([root.value, *terms])
        assert abs(add_up(rows) - decimal(form.write(root.value))) <= Decimal(1).scaleb(form.last) / 2


def test_each_number_has_its_own_exponent_and_they_add_up():
    rows = laid_out(total(1.25e-9, -4e-11), frozenset())
    assert [row.written for row in rows[1:]] == ["+1.250000e-09", "−4.0000e-11"]
    assert rows[0].written == "+1.210000e-09"
    assert add_up(rows) == decimal(rows[0].written)


@pytest.mark.parametrize("large", [1.0, 123456.7, 1e8, 3.4e38, 1e-6])
@pytest.mark.parametrize("ratio", [1e-3, 3e-7, 1e-8, 1e-30])
def test_what_is_not_zero_is_never_written_as_zero(large, ratio):
    small = large * ratio
    for kind in ("sum", "product"):
        rows = laid_out(total(large, small, -small, 0.0, kind=kind), frozenset())
        written = [row.written for row in rows[1:5]]
        assert [float(decimal(each)) for each in written[1:3]] == [pytest.approx(each, rel=0.5) for each in (small, -small)]
        assert written[3] == "0"
        assert all(len(each) < 15 for each in written)
        if kind == "sum":
            assert len(rows) == 5  # no rounding of digits that the sum does not show
            shown = decimal(rows[0].written)
            assert abs(add_up(rows) - shown) <= Decimal(large) * Decimal("5e-7")


def test_a_factor_beside_a_large_one_has_its_own_digits():
    rows = laid_out(total(1e8, 0.1509589, kind="product"), frozenset())
    assert [row.written for row in rows[1:]] == ["+1.000000e+08", "+0.1509589"]
    assert rows[0].made == "1.000e+08 · 0.1510"


def test_terms_have_no_shares_where_one_is_not_finite_or_all_are_zero():
    for values in ((INF, 1.0), (NAN, 1.0), (1.0, NAN), (0.0, 0.0)):
        assert [row.share for row in laid_out(total(*values), frozenset())[1:]] == [None, None]
    assert total(1e308, 1e308, kind="norm").shares == (0.5, 0.5)


def test_a_small_share_is_not_written_as_none():
    text = derivation_text(total(1.0, 1e-4), frozenset(), "")
    assert ">99%" in text
    assert "<1%" in text


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "terms", "expected"),
    [
        (NAN, (NAN, 1.0), 0.0),
        (NAN, (INF, -INF), 0.0),
        (INF, (INF, 1.0), 0.0),
        (1.5, (NAN, 1.0), NAN),
        (NAN, (0.5, 1.0), NAN),
        (1.75, (0.5, 1.0), 0.25),
    ],
)
def test_rounding_of_what_is_not_a_number_is_none_where_the_terms_make_it(value, terms, expected):
    root = Node("s", value, lambda: Derivation("sum", tuple(map(leaf, terms))), exact=True)
    assert rounding(root) == pytest.approx(expected, abs=0, nan_ok=True)
    labels = [row.label for row in laid_out(root, frozenset())]
    assert labels == ["s", "x", "x"] + ["rounding"] * (expected == 0.25)


def test_rounding_is_said_where_the_sum_was_rounded():
    terms = (leaf(1.0), leaf(1e-7))
    root = Node("s", 1.0, lambda: Derivation("sum", terms), exact=True)
    assert [(row.label, row.written) for row in laid_out(root, frozenset())[1:]] == [
        ("x", "+1.0000000"), ("x", "+0.0000001"), ("rounding", "−0.0000001")
    ]  # fmt: skip


def test_a_long_sum_shows_the_largest_first_and_the_rest_in_one_row():
    values = [(-1) ** i * i / 8 for i in range(1, 41)]
    root = total(*values)
    rows = laid_out(root, frozenset())
    assert [decimal(row.written) for row in rows[1 : MOST_TERMS + 1]] == sorted(map(Decimal, values), key=abs, reverse=True)[
        :MOST_TERMS
    ]
    assert rows[-1].label == f"… {40 - MOST_TERMS} smaller terms"
    assert add_up(rows) == decimal(rows[0].written)
    assert len(laid_out(root, frozenset({(-1,)}))) == 41


def test_the_shares_are_parts_of_the_magnitudes():
    rows = laid_out(total(3.0, -1.0), frozenset())
    assert [row.share for row in rows[1:]] == [0.75, 0.25]
    assert [row.share for row in laid_out(total(3.0, -1.0, kind="product"), frozenset())[1:]] == [None, None]


def test_what_opens_at_first_is_the_parts_of_the_line_then_its_numbers():
    session = Session()
    session.step("timestep", 2)
    root = session.explain("h", (1, 0))
    labels = [row.label for row in laid_out(root, first_opened(root, 6)) if row.opened]
    assert labels == ["h[row 2, unit 1]", "z⊙hₜ₋₁", "(1 − z)⊙h̃"]
    labels = [row.label for row in laid_out(root, first_opened(root)) if row.opened]
    assert labels == [
        "h[row 2, unit 1]", "z⊙hₜ₋₁", "z[row 2, unit 1]", "hₜ₋₁ Uz", "(1 − z)⊙h̃", "1 − z", "h̃[row 2, unit 1]"
    ]  # fmt: skip
    assert first_opened(root, 2) == frozenset()


def test_opening_a_number_of_another_batch_is_left_to_the_person():
    session = Session()
    session.learning = True
    session.step("batch", 2)
    rows = laid_out(session.explain("Wz", (0, 0)), frozenset())
    assert rows[1].made == "from the update of epoch 1, batch 1"
    assert rows[1].node is not None
    assert "terms" not in vars(rows[1].node.derivation)  # not searched yet


def test_as_text():
    session = Session()
    session.step("timestep", 2)
    root = session.explain("h", (1, 0))
    assert derivation_text(root, frozenset(), "epoch 1 · batch 1 · t 2").splitlines() == [
        "h[row 2, unit 1] = +0.7663648    epoch 1 · batch 1 · t 2",
        "h = z⊙hₜ₋₁ + (1 − z)⊙h̃",
        "h[row 2, unit 1]  +0.7663648        −0.0184 + 0.7848",
        "├   z⊙hₜ₋₁        −0.0184352    2%  0.1361 · −0.1355",
        "├ + (1 − z)⊙h̃     +0.7847999   98%  0.8639 · 0.9084",
        "└   rounding      +0.0000001        of the sum, and of the digits shown",
    ]


def test_as_latex():
    session = Session()
    session.step("timestep", 2)
    root = session.explain("h", (1, 0))
    written = as_latex(root, first_opened(root, 8), "epoch 1")
    assert written.startswith("% epoch 1\n\\begin{align*}\n")
    assert written.endswith("\n\\end{align*}\n")
    assert written.count("\\\\\n") == 3
    assert r"(1 - z) \odot \tilde{h} &= \left(1 - z\right) \cdot {\tilde{h}}^{(2)}_{2,1} = " in written
    assert written.count("{") == written.count("}")


@pytest.mark.parametrize(
    "name", ["z", "r", "h_tilde", "y_hat", "term1", "term3", "loss", "dlogits", "dz", "dWz", "by", "grad_norm"]
)
def test_every_kind_of_derivation_is_valid_latex_and_text(name):
    session = Session()
    session.learning = True
    session.step("batch")
    index = (0,) * np.ndim(session.value(name))
    root = session.explain(name, index)
    written = as_latex(root, first_opened(root), "")
    assert written.count("{") == written.count("}")
    assert written.count(r"\left(") == written.count(r"\right)")
    assert "rounding" not in written
    assert root.label in derivation_text(root, first_opened(root), "here")


def test_characters_that_latex_reads_as_commands_are_escaped():
    session = Session(text=r"a_b%c&d#e$f{g}h\i^j~k" * 3)
    session.step("timestep")
    backslash = session.config.vocabulary.index("\\")
    written = as_latex(session.explain("x", (0, backslash)), frozenset(), "")
    assert r"\text{“a” is read here" in written
    session.seek("e1 b1 t3")
    written = as_latex(session.explain("y", (0, 0)), frozenset(), "")
    assert r"\text{“\%” is to be predicted here" in written
    assert latex_text("\\ _{}^~") == r"\text{\textbackslash{} \_\{\}\textasciicircum{}\textasciitilde{}}"


@pytest.mark.parametrize(
    ("value", "written"), [(3.0, "3"), (-0.25, "−0.2500"), (1.5e-5, "1.500e−05"), (float("nan"), "nan"), (float("-inf"), "−inf")]
)
def test_short_numbers(value, written):
    assert short(value) == written


def test_a_number_that_stands_in_two_places_is_opened_at_one():
    session = Session()
    session.learning = True
    session.step("batch")
    root = session.explain("daz", (1, 0), 1)
    labels = [row.label for row in laid_out(root, first_opened(root, 40)) if row.opened]
    assert "1 − z" in labels
    assert labels.count("z[row 2, unit 1]") == 1


def test_summands_are_joined_by_their_signs():
    assert signed_sum(["1", "−2", "3"]) == ["1", "− 2", "+ 3"]
    assert signed_sum(["−1"]) == ["−1"]
