"""Models composed from pieces: the names and inputs of each instance, masks, and name clashes."""

from __future__ import annotations

import pytest

from tests.equations.reading import page, said
from tui_gru.engine.model import Model, Structure
from tui_gru.equations.page import CarriedState, compose, shipped
from tui_gru.equations.syntax import EquationError, Symbols
from tui_gru.equations.writing import Writer

RNN = "state h : H\nparameters W U\ncarry: h = tanh(a: x W + h_prev U)"


def lines(model: Model) -> list[str]:
    """Return the lines of a model as they are written."""
    return [model.writer.line(line.target, line.op, line.formula) for line in model.page.lines]


def own(text: str, **options) -> Model:
    """Return a model of a user's cell."""
    return Model(Structure(cell="mine.cell", cell_text=text, **options))


def refused(text: str, **options) -> str:
    """Return the error for a cell that cannot be used in a model."""
    with pytest.raises(EquationError) as caught:
        _ = own(text, **options).backward
    return said(caught.value)


def test_one_layer_has_no_suffix():
    model = own(RNN)
    assert lines(model)[:2] == ["h = tanh(x W + hₜ₋₁ U)", "o = h Wy + by"]
    assert model.parameters == ("W", "U", "Wy", "by")
    (layer,) = model.composed.layers
    assert (layer.number, layer.backwards, layer.suffix, layer.reads, layer.output, layer.states) == (
        0,
        False,
        "",
        "x",
        "h",
        ("h",),
    )


def test_layers_and_directions_have_suffixes_as_in_pytorch():
    model = own(RNN, layers=2, bidirectional=True, loss="", head="")
    assert lines(model) == [
        "h_l0 = tanh(x W_l0 + hₜ₋₁_l0 U_l0)",
        "h_l0_reverse = tanh(x W_l0_reverse + hₜ₊₁_l0_reverse U_l0_reverse)",
        "out_l0 = [h_l0, h_l0_reverse]",
        "h_l1 = tanh(out_l0 W_l1 + hₜ₋₁_l1 U_l1)",
        "h_l1_reverse = tanh(out_l0 W_l1_reverse + hₜ₊₁_l1_reverse U_l1_reverse)",
        "out_l1 = [h_l1, h_l1_reverse]",
    ]
    assert model.page.states["h_l0_reverse"] == CarriedState("H", backwards=True)
    assert model.axes["W_l1"] == ("H+H", "H")
    assert (model.page.outputs, model.page.output) == (("out_l1",), "out_l1")
    assert [layer.name for layer in model.composed.layers] == ["layer 1", "layer 1 ←", "layer 2", "layer 2 ←"]
    assert [layer.lines for layer in model.composed.layers][1] == ("h_l0_reverse",)
    assert {node.label for line in model.page.lines for node in line.formula.walk()} == {
        "",
        "a_l0",
        "a_l0_reverse",
        "a_l1",
        "a_l1_reverse",
    }


def test_a_cell_that_runs_backwards_runs_forwards_in_reverse():
    model = own("state b : H backwards\nparameters W U\nb = tanh(x W + b_next U)", bidirectional=True)
    assert [(name, state.backwards) for name, state in model.page.states.items()] == [("b_l0", True), ("b_l0_reverse", False)]


def test_row_lengths_hold_a_state_behind_the_end_of_a_row():
    model = own(RNN, lengths=True, loss="", head="")
    assert lines(model) == ["h_new = tanh(x W + hₜ₋₁ U)", "h = live⊙h_new + (1 − live)⊙hₜ₋₁", "out = live⊙h"]
    assert [line.label for line in model.page.lines] == ["carry", "held", ""]
    assert (model.axes["live"], model.axes["out"]) == (("T", "B"), ("T", "B", "H"))


@pytest.mark.parametrize(
    ("name", "first", "axes"),
    [("one-hot", "x W", ("V", "H")), ("dense", "x W", ("I", "H")), ("embedding", "x W", ("D", "H"))],
)
def test_a_cell_reads_what_the_input_hands_on(name, first, axes):
    model = own(RNN, input=name, loss="squared-error")
    assert first in lines(model)[1 if name == "embedding" else 0]
    assert model.axes["W"] == axes


def test_the_gradient_of_an_input_can_be_asked_for():
    composed = compose(shipped("input", "dense"), page(RNN), input_gradient=True)
    assert composed.page.differentiated == ("x",)


def test_instances_are_renamed_as_trees_and_symbols_with_them():
    cell = "symbol h ĥ \\hat{h}\nstate h : H\nparameters W U\nĥ = tanh(x W + h_prev U)"
    composed = compose(shipped("input", "one-hot"), page(cell), layers=2)
    writer = Writer(Symbols(composed.page.symbols))
    assert [writer.line(line.target, line.op, line.formula) for line in composed.page.lines] == [
        "ĥ_l0 = tanh(x W_l0 + ĥₜ₋₁_l0 U_l0)",
        "ĥ_l1 = tanh(ĥ_l0 W_l1 + ĥₜ₋₁_l1 U_l1)",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "parameters W\nh = x W",
            "mine.cell: a cell needs a state that is carried from one timestep to the next; declare one, state h : H |",
        ),
        ("state h : H", "mine.cell: a cell needs at least one equation |"),
        ("state h : K\nparameters W U\nh = x W + h_prev U", "mine.cell:1:7: a state of a cell has the axis H: state h : H | h"),
        (
            "input u : I\n" + RNN,
            (
                "mine.cell:1:7: u is declared as an input, but a cell cannot declare one; "
                "a cell reads the output of the layer below: reads x | u"
            ),
        ),
        (
            "setting β = 0.5\n" + RNN,
            "mine.cell:1:9: β is declared as a setting, but a cell cannot declare one; write the number itself | β",
        ),
        (
            RNN + "\noutput h",
            "mine.cell:1:7: h is declared as an output, but a cell cannot declare one; the last line of a cell is its output | h",
        ),
        (
            RNN.replace("a:", "logits:"),
            "mine.cell:3:16: logits is also a name of linear.head; choose another one here | (logits: x W + h_prev U)",
        ),
        (
            "state h : H\nparameters Wy U\nh = x Wy + h_prev U",
            "mine.cell:2:12: Wy is also a name of linear.head; choose another one here | Wy",
        ),
        (
            "state h : H\nparameters W U\nloss = x W\nh = loss + h_prev U",
            "mine.cell:3:1: loss is also a name of cross-entropy.loss; choose another one here | loss",
        ),
        (
            "state h : H\nparameters W U\nx = h_prev U\nh = x + h_prev ⊙ (x W)",
            "mine.cell:3:1: x is also a name of one-hot.input; choose another one here | x",
        ),
        (
            "state h : H\nparameters W U\nm_W = x W\nh = m_W + h_prev U",
            "mine.cell:3:1: m_W is also a name of the update rule adam; choose another one here | m_W",
        ),
        (
            "state h : H\nparameters W U\nclip = x W\nh = clip + h_prev U",
            "mine.cell:3:1: clip is also a name of the update rule adam; choose another one here | clip",
        ),
        (
            "state h : H\nparameters W U\nlearning_rate = x W\nh = learning_rate + h_prev U",
            "mine.cell:3:1: learning_rate is also a name of the update rule adam; choose another one here | learning_rate",
        ),
        (
            "state h : H\nparameters W U\nz = x W\nh = z + h_perv U",
            "mine.cell:4:9: h_perv is not a parameter, an input, a state or a line above; did you mean h_prev? | h_perv",
        ),
    ],
)
def test_a_cell_that_cannot_be_used(text, message):
    assert refused(text, update="adam", clip=True) == message


def test_the_mask_of_row_lengths_has_a_name_that_is_taken():
    cell = "state h : H\nparameters W U\nlive = x W\nh = live + h_prev U"
    assert lines(own(cell))[0] == "live = x W"
    assert refused(cell, lengths=True) == "mine.cell:3:1: live is also a name of the model; choose another one here | live"


def test_a_mistake_in_a_layer_is_found_in_the_file():
    message = refused("state h : H\nparameters W U\nz = x W + h_prev U\nh = z W + h_prev", layers=2)
    assert message.startswith("mine.cell:4:5: z_l0 W_l0 + hₜ₋₁_l0 does not fit: hₜ₋₁_l0 is (B, H), z_l0 W_l0 is (B, V)")


def test_there_is_something_to_learn():
    assert (
        refused("state h : H\nh = tanh(h_prev)", loss="", head="")
        == "mine.cell: there is nothing to learn; a model needs parameters |"
    )
