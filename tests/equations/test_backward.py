"""The derived backward pass: it reads as it was once written by hand, rule by rule."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from tests.equations.reading import said
from tui_gru.engine.model import Model, Structure, model_of
from tui_gru.equations import syntax as e
from tui_gru.equations.backward import NameRead, steps_of
from tui_gru.equations.page import names_of
from tui_gru.equations.syntax import EquationError, split

LISTINGS = Path(__file__).parent / "listings"  # written by the table of lines that the derivation has replaced


def own(*lines: str, parameters: str = "W U", **options) -> Model:
    """Return a model of a user's cell, which reads x W and h_prev."""
    text = f"state h : H\nparameters {parameters}\n" + "\n".join(lines)
    return Model(Structure(cell="mine.cell", cell_text=text, **options))


def derived(model: Model) -> dict[str, str]:
    """Return each derived line as it is written, in the order of the listing."""
    lines = (*model.backward.deltas, *model.backward.gradients)
    return {line.target: model.writer.text(line.formula) for line in lines}


def labels(model: Model, target: str) -> list[str]:
    """Return the names of the terms of a derived line."""
    (line,) = [line for line in model.backward.deltas if line.target == target]
    return [node.label for node in line.formula.walk() if node.label in model.backward.paths]


@pytest.mark.parametrize("kind", ["txt", "tex"])
@pytest.mark.parametrize("cell", ["gru", "gru-reset-after"])
def test_the_listing_is_the_one_written_by_hand(cell, kind):
    model = model_of(Structure(cell=cell))
    write = {"txt": model.writer.line, "tex": model.writer.line_latex}[kind]
    lines = (*model.page.lines, *model.backward.deltas, *model.backward.gradients, *model.rule.lines_of(model.parameters))
    listing = (LISTINGS / f"{cell}.{kind}").read_text(encoding="utf-8").splitlines()
    assert [write(line.target, line.op, line.formula) for line in lines] == listing


def test_the_ways_of_a_gru_to_the_state_before():
    model = model_of(Structure(cell="gru"))
    assert dict(model.backward.paths) == {
        "dh_output": NameRead("h", "logits", 0),
        "dh_carry": NameRead("h_prev", "h", 0),
        "dh_candidate": NameRead("h_prev", "rh", 0),
        "dh_update": NameRead("h_prev", "hUz", 0),
        "dh_reset": NameRead("h_prev", "hUr", 0),
    }
    assert labels(model, "dh_prev") == ["dh_carry", "dh_candidate", "dh_update", "dh_reset"]


def test_terms_come_from_the_loss_first_and_from_the_future_last():
    assert derived(model_of(Structure(cell="lstm")))["dc"] == "dh⊙q⊙(1 − tanh(c)⊙tanh(c)) + dc←"
    backwards = own("h = tanh(x W + h_prev U)", bidirectional=True)
    assert derived(backwards)["dh_l0_reverse"].endswith(" + dh→_l0_reverse")


@pytest.mark.parametrize("cell", names_of("cell"))
def test_the_lines_of_a_layer_and_direction_follow_each_other(cell):
    backward = model_of(Structure(cell=cell, layers=2, bidirectional=True)).backward
    suffixes = [suffix for suffix, _ in groupby(split(line.target)[1] for line in backward.deltas)]
    assert suffixes == ["", "_l1", "_l1_reverse", "_l0", "_l0_reverse"]


def test_a_part_has_a_line_only_where_its_gradient_is_used_twice():
    model = own("h = tanh(a: x W + (b: h_prev U))")
    assert list(derived(model)) == [
        "dlogits",
        "dh",
        "dah" if "dah" in derived(model) else "da",
        "dh_prev",
        "dW",
        "dU",
        "dWy",
        "dby",
    ]
    assert "db" not in derived(model)


def test_what_all_terms_share_is_taken_out():
    model = own("z = σ(x W)", "c = tanh(h_prev U)", "h = z ⊙ h_prev + (1 − z) ⊙ c")
    assert derived(model)["dz"] == "dh⊙(hₜ₋₁ − c)"
    assert derived(own("a = x W", "h = a ⊙ a + h_prev U"))["da"] == "2⊙dh⊙a"


def test_numbers_are_folded_in():
    assert (
        derived(model_of(Structure(loss="squared-error")))["dlogits"] == "2⊙e/(B·T·V)"
        or derived(model_of(Structure(loss="squared-error")))["de"]
    )


def test_rules():
    model = own("a = x W + h_prev U", "h = a^3 + relu(a) / (1 + clamp(a)) + exp(a) + sqrt(a) + log(a) + mean a over the units")
    assert derived(model)["da"] == (
        "3⊙dh⊙a^2 + dh/(1 + clamp(a))⊙positive(relu(a)) − dh⊙(relu(a)/(1 + clamp(a)))/(1 + clamp(a))⊙within(clamp(a)) + dh⊙exp(a) "
        "+ dh/(2⊙sqrt(a)) + dh/a + Σ dh over the units/H"
    )


def test_the_larger_of_two_numbers_gets_the_gradient():
    lines = derived(own("a = x W", "b = h_prev U", "p = max(a, 0.1 ⊙ a)", "h = min(p, b)"))
    assert (lines["dp"], lines["db"]) == ("dh⊙(1 − positive(p − b))", "dh⊙positive(p − b)")
    assert lines["da"] == "dp⊙(positive(0.9⊙a) + 0.1⊙(1 − positive(0.9⊙a)))"
    lines = derived(own("a = x W + h_prev U", "h = max(a, 0) + a ⊙ sign(a)"))
    assert lines["da"] == "dh⊙(positive(a) + sign(a))"


def test_layer_normalisation_is_derived_as_a_person_writes_it():
    normed = "p = x W + h_prev U", "e = p − mean p over units", "s = sqrt(mean e^2 over units + 1e-5)", "h = tanh(a: g ⊙ e / s + b)"
    lines = derived(own(*normed, parameters="W U b g = 1"))
    assert {name: lines[name] for name in ("ds", "de", "dp", "dg", "db")} == {
        "ds": "Σ (−da⊙g⊙e/s/s) over the units",
        "de": "da/s⊙g + ds/s⊙e/H",
        "dp": "de − Σ de over the units/H",
        "dg": "Σ (da/s⊙e) over the rows",
        "db": "Σ da over the rows",
    }


def test_a_number_cancels_the_same_number_of_a_denominator():
    model = own("a = x W + h_prev U", "h = sqrt(a^2 + 1) + 3 ⊙ (a / (2 ⊙ exp(a)))")
    assert derived(model)["da"] == "dh/sqrt(a^2 + 1)⊙a + dh⊙3/(2⊙exp(a)) − dh⊙3⊙(a/(2⊙exp(a)))/exp(a)⊙exp(a)"


def test_softmax_and_join():
    model = own("a = x W", "s = softmax(a)", "j = [s, h_prev]", "h = j U", parameters="W(V H) U")
    lines = derived(model)
    assert lines["dj"] == "dh Uᵀ"
    assert lines["ds"] == "dj[0:H]"
    assert lines["da"] == "s⊙(ds − Σ (ds⊙s) over the units)"
    assert lines["dh_prev"] == "dj[H:H+H]"


def test_a_transposed_weight():
    model = own("h = tanh(x W + h_prev Uᵀ)")
    assert derived(model)["dU"] == "(dh⊙(1 − h⊙h))ᵀ hₜ₋₁"


def test_a_gradient_is_summed_over_what_its_operand_lacks():
    model = own("u = mean h_prev over the units", "h = u ⊙ (x W) + h_prev U + b", parameters="W U b")
    lines = derived(model)
    assert lines["du"] == "Σ (dh⊙x W) over the units"
    assert lines["dh_prev"] == "dh Uᵀ + du/H"
    assert lines["db"] == "Σ dh over the rows"


def test_a_gradient_that_is_the_same_along_an_axis_is_spread_for_a_product():
    model = own("u = Σ (p: h_prev U) over the units", "h = u ⊙ (x W)")
    (line,) = [line for line in model.backward.deltas if line.target == "dh_prev"]
    assert derived(model)["dh_prev"] == "du Uᵀ"
    assert line.formula.left == e.Spread(e.Name("du"), ("T", "B", "H"))


def test_a_sum_over_rows_is_told_from_one_over_rows_and_timesteps():
    model = own("h = x W ⊙ (mean (h_prev U) over rows) + b", parameters="W U b")
    sums = {
        line.target: [n.all_timesteps for n in line.formula.walk() if isinstance(n, e.Reduce)] for line in model.backward.gradients
    }
    assert (sums["dU"], sums["db"]) == ([False], [True])


def test_a_shipped_model_spreads_a_gradient_only_where_it_takes_a_mean_over_units():
    for cell in names_of("cell"):
        for loss in names_of("loss"):
            backward = model_of(Structure(cell=cell, loss=loss, layers=2, bidirectional=True, lengths=True)).backward
            nodes = [node for line in (*backward.deltas, *backward.gradients) for node in line.formula.walk()]
            assert any(isinstance(node, e.Spread) for node in nodes) == (cell == "layer-norm-gru")


def test_imported_gradients_take_the_place_of_the_loss():
    lines = derived(own("h = tanh(x W + h_prev U)", loss="", head="", layers=2))
    assert next(iter(lines)) == "dh_l1"
    assert lines["dh_l1"] == "dh_given_l1 + dh←_l1"


def test_terms_are_numbered_where_their_names_are_taken():
    model = own("a = x W", "k: s = a U + tanh(a P) + σ(a Q)", "h = s + h_prev", parameters="W(V H) U P Q")
    assert labels(model, "da") == ["da_k", "da_k_s", "da_k_2"]
    model = own("prev: g = x W + h_prev U", "h = tanh(g + h_prev)")
    assert labels(model, "dh_prev") == ["dh_h", "dh_prev_prev"]


def test_a_state_and_what_it_was_before_have_terms_of_different_names():
    text = "state h : H, c : H\nparameters W U P\nkeep: c = x W + c_prev U\ncarry: h = c + (c_prev P) ⊙ (h_prev + c)"
    model = Model(Structure(cell="mine.cell", cell_text=text))
    assert labels(model, "dc_prev") == ["dc_prev_carry", "dc_keep"]


def test_no_term_has_a_name_where_two_uses_make_one_term():
    model = own("a = x W + h_prev U", "p2 = (p: a + h_prev) ⊙ (q: a ⊙ h_prev) + p", "h = p2 + a + a")
    assert all(reading.name != "a" for reading in model.backward.paths.values())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["h = positive(x W + h_prev U)"],
            "mine.cell:1:7: the loss does not depend on h_prev, so it has no gradient; use it or remove it | h",
        ),
        (
            ["h = (x W)^(h_prev U)"],
            "mine.cell:3:5: power has no derivative here, so the backward pass cannot be derived | (x W)^(h_prev U)",
        ),
        (
            ["u = x U ⊙ x W", "h = tanh(x W)"],
            "mine.cell:1:7: the loss does not depend on h_prev, so it has no gradient; use it or remove it | h",
        ),
        (
            ["u = x U + h_prev ⊙ x W", "h = tanh(x W)"],
            "mine.cell:1:7: the loss does not depend on h_prev, so it has no gradient; use it or remove it | h",
        ),
        (
            ["u = h_prev ⊙ x U", "h = tanh(x W + h_prev)"],
            "mine.cell:2:14: the loss does not depend on U, so it has no gradient; use it or remove it | U",
        ),
        (
            ["z = x W", "dz = h_prev U", "h = z + dz"],
            "mine.cell:4:1: dz is the name of the gradient of z; choose another name | dz",
        ),
        (
            ["dh_future = x W", "h = dh_future + h_prev U"],
            "mine.cell:3:1: dh_future is the name of the gradient of h; choose another name | dh_future",
        ),
    ],
)
def test_what_has_no_derivative_is_refused(lines, message):
    with pytest.raises(EquationError) as caught:
        _ = own(*lines).backward
    assert said(caught.value) == message


def test_steps_are_lines_taken_apart_at_their_parts():
    steps, parts = steps_of(own("h = tanh(a: x W + (b: h_prev U))").page.lines[:1])
    assert [(step.name, step.line, step.is_part) for step in steps] == [("b", 0, True), ("a", 0, True), ("h", 0, False)]
    assert [list(step.formula.names()) for step in steps] == [["h_prev", "U"], ["x", "W", "b"], ["a"]]
    assert set(parts) == {"a", "b"}
