"""Origins of numbers: the terms of every number add up to it, and lead to an input character or an initial weight."""

import math
import random

import numpy as np
import pytest

from tests.debugger import models
from tests.debugger.deriving import UNEXPLAINED, assert_adds_up, explained, learning, numbers_here, rounding, walk
from tests.debugger.models import TEXT
from tests.extent import examples
from tests.session.acting import timeline_of
from tui_gru import Session, TuiGruError
from tui_gru.debugger.derivation import ValueRef
from tui_gru.engine.numbers import significant

PLACES = ("e1 b1 t2", "e1 b2 t1", "e2 b1 t2")


@models.parametrize("gru", "gru after, notebook, adam", "lstm", "both ways", "own cell")
def test_the_terms_of_every_number_add_up_to_it(model):
    """Some numbers at every position, and every name at the end of a batch."""
    session, chance = learning(**model), random.Random(7)
    ticks, last = session.program.ticks, min(1, session.program.num_batches - 1)
    places = sorted(chance.sample(range(ticks * (session.program.num_batches + 1)), examples(6, soak=40)))
    targets = set()
    for tick in (*places, (last + 1) * ticks):
        session.seek(tick)
        for name, index, value in numbers_here(session, chance, None if tick == (last + 1) * ticks else 12):
            root = session.explain(name, index)
            assert root.value == value, (name, index, tick)
            targets.add(name)
            assert_adds_up(root, 2, session.config.dtype)
    assert targets == set(explained(session))
    assert targets == set(session.program.readable) - set(UNEXPLAINED)


@pytest.mark.parametrize("carry", ["detach", "notebook"])
def test_the_gradient_norm_is_computed_where_the_backward_pass_ends(carry):
    session = learning(carry=carry)
    session.step("batch", 2)
    program = session.program
    complete = program.ticks + program.backward_end
    for tick in range(complete, 2 * program.ticks + 1):
        session.seek(tick)
        assert session.explain("grad_norm").derivation.tick == complete


def test_what_was_recorded_is_exact_and_what_is_worked_out_is_not():
    session = learning(text=TEXT, hidden_size=3)
    session.step("batch")
    record, t = timeline_of(session).record(0), 1
    labels = {"1 − z": "one_minus_z", "(1 − z)⊙h̃": "new", "r⊙hₜ₋₁": "rh", "hₜ₋₁ Uz": "hUz", "(r⊙hₜ₋₁) Uh": "hUh"}
    recorded = {label: record.array(name) for label, name in labels.items()}
    exact, worked_out = set(), set()
    for name in ("h", "z", "h_tilde", "daz"):
        for node in walk(session.explain(name, (1, 2), t), 3):
            if node.number is None and node.label in recorded:
                exact.add(node.label)
                assert node.exact
                assert node.value in recorded[node.label][t, 1]
            elif node.number is None and " at " not in node.label:
                worked_out.add(node.label)
                assert not node.exact
            else:
                assert node.exact == (node.number is not None)
    assert exact == set(recorded)
    assert "z⊙hₜ₋₁" in worked_out


def test_every_line_says_its_own_text():
    session = learning()
    session.step("batch", 2)
    for name, line in session.program.lines.items():
        index = (0,) * np.ndim(session.value(name))
        assert session.derive(ValueRef(name, index, None, session.position.tick)).derivation.formula == line.text


def test_a_step_of_a_weight_is_followed_down_to_the_letter_that_caused_it():
    session = learning()
    session.step("batch")
    weight = session.derive(ValueRef("Wz", (3, 0), None, session.position.tick))
    old, step = weight.terms
    assert (old.derivation.note, step.sign) == ("an initial weight, drawn with seed 1", -1)
    rate, gradient = step.terms
    assert rate.value == 0.3
    assert [share.label for share in gradient.terms] == ["t 3", "t 2", "t 1"]
    share = gradient.terms[-1]
    assert share.value == pytest.approx(float(session.value("x")[0, 3]) * 0 + share.terms[0].value)
    daz = share.terms[0]
    dz = daz.terms[0]
    assert (daz.number.name, dz.number.name) == ("daz", "dz")
    letter = session.derive(ValueRef("x", (0, 3), 0, session.position.tick))
    assert letter.derivation.note == "“M” is read here: character 1 of the text"
    text, target = session.config.text, session.program.model.target
    for t in range(session.config.seq_length):
        note = session.explain(target, (0, 0), t).derivation.note
        assert note.startswith(f"“{text[t + 1]}” is to be predicted here: character {t + 2} of the text")


@models.parametrize()
def test_every_weight_is_its_last_value_less_a_step_back_to_its_initial_one(model):
    session = learning(**model)
    parameters = session.program.parameters
    initial = {name: session.parameter(name).copy() for name in dict.fromkeys((*parameters[:2], *parameters[-2:]))}
    session.step("batch", 3)
    for name, first in initial.items():
        index = tuple(n - 1 for n in first.shape)
        node = session.explain(name, index)
        for _ in range(3):
            assert_adds_up(node, 2, session.config.dtype)
            old, step = node.terms
            assert (old.label, step.sign) == (f"prev({node.label.removeprefix('prev(').rstrip(')')})", -1)
            node = old
        assert node.value == first[index]
        assert not node.terms
        assert node.derivation.note == (
            "biases begin at 0"
            if first.ndim == 1 and session.config.init == "tutorial"
            else f"an initial weight, drawn with seed {session.config.seed}"
        )


def test_the_gradient_that_flows_back_is_followed_over_timesteps():
    session = learning()
    session.step("batch")
    node = session.derive(ValueRef("dh", (0, 0), 0, session.position.tick))
    seen = []
    while node.terms:
        node = node.terms[-1] if node.number is None or node.number.name != "dh_prev" else node.terms[0].terms[0]
        if node.number is not None:
            seen.append((node.number.name, node.number.t))
    assert seen[:5] == [("dh_future", 0), ("dh_prev", 1), ("dh", 1), ("dh_future", 1), ("dh_prev", 2)]
    assert node.derivation.note == "nothing comes after the last timestep"


def test_a_state_is_followed_into_the_batch_before_and_to_the_start():
    session = learning()
    session.seek("e1 b2 t1")
    before = session.derive(ValueRef("h_prev", (1, 1), 0, session.position.tick))
    assert before.derivation.note == "h at the end of the batch before"
    assert before.terms[0].value == timeline_of(session).record(0).array("h")[-1][1, 1]
    session.seek("e2 b1 t1")
    assert "every epoch begins" in session.derive(ValueRef("h_prev", (1, 1), 0, session.position.tick)).derivation.note
    reset = learning(carry="reset")
    reset.seek("e1 b2 t1")
    assert "every batch begins" in reset.derive(ValueRef("h_prev", (1, 1), 0, reset.position.tick)).derivation.note


@models.parametrize()
def test_every_state_is_followed_into_the_batch_before(model):
    session = learning(**model)
    session.step("batch", 2)
    program, previous = session.program, session.snapshot().previous
    page, T = program.model.page, session.config.seq_length
    for state in page.states:
        way = program.direction_of(state)
        first = 0 if way > 0 else T - 1
        root = session.explain(page.before(state), (0, 0), first)
        if session.config.carry == "reset":
            assert root.derivation.note == f"every batch begins with {program.writer.name(state)} = 0"
            continue
        assert root.derivation.note == f"{program.writer.name(state)} at the end of the batch before"
        assert root.terms[0].value == root.value == previous.border(state, end=True)[0, 0]
        assert (root.terms[0].number.name, root.terms[0].number.t) == (state, T - 1 - first)
        for t in range(T):
            if 0 <= t - way < T:
                found = session.explain(page.before(state), (0, 0), t).terms[0]
                assert (found.number.name, found.number.t) == (state, t - way)
            if 0 <= t + way < T:
                ahead = session.explain(page.received(state), (0, 0), t).terms[0]
                assert (ahead.number.name, ahead.number.t) == (f"d{page.before(state)}", t + way)


def test_what_an_update_keeps_is_followed_to_its_last_update_and_to_zero():
    session = learning(**models.MODELS["lstm"])
    session.step("batch", 2)
    node = session.explain("m_Wi", (0, 0))
    assert node.derivation.formula == "m_Wi = β1⊙m_Wi + (1 − β1)⊙g_Wi"
    kept, new = node.terms
    assert [term.label for term in kept.terms] == ["β1", "prev(m_Wi[“␣”, unit 1])"]
    assert kept.terms[0].derivation.note == "a setting of the update rule, with the value that the run began with"
    assert [term.label for term in new.terms] == ["1 − β1", "g_Wi[“␣”, unit 1]"]
    before = kept.terms[1]
    assert before.value == session.snapshot().previous.after["m_Wi"][0, 0]
    assert before.terms[0].terms[1].derivation.note == "m_Wi begins at 0"
    (count,) = [n for n in walk(session.explain("m_hat_Wi", (0, 0)), 3) if n.label == "n"]
    assert (count.value, count.derivation.note) == (2, "updates so far, including this one")
    scaled = session.explain("g_Wi", (0, 0)).terms[0]
    assert scaled.number.name == "clip"
    assert scaled.derivation.kind == "min"
    assert {"limit", "‖∇‖"} <= {n.label for n in walk(scaled, 3)}


@pytest.mark.parametrize("rule", [{}, {"optimizer": "momentum"}, {"optimizer": "adam", "clip": 0.5}])
def test_a_cell_can_have_the_names_that_the_update_rules_use(rule):
    text = "state h : H\nparameters W U\nn = σ(x W)\nv = h_prev U\nm = tanh(v)\nh = n ⊙ v + m"
    session = learning(cell="own.cell", cell_text=text, **rule)
    session.step("batch")
    for name, index, value in numbers_here(session, random.Random(7)):
        root = session.explain(name, index)
        assert root.value == value, name
        assert_adds_up(root, 3, session.config.dtype)
    for name in session.parameter_names:
        assert session.snapshot().last_step(name).shape == session.parameter(name).shape
    assert session.check().agrees


@pytest.mark.parametrize("name", ["epoch", "batch", "t", "char", "target", "grad_norm", "max_weight"])
def test_a_cell_cannot_have_a_name_that_every_run_has(name):
    with pytest.raises(TuiGruError, match=f"^own.cell:3:1: {name} is also a name of every run; choose another one here$"):
        Session(cell="own.cell", cell_text=f"state h : H\nparameters W U\n{name} = x W\nh = {name} + h_prev U")


def test_a_gradient_has_the_shares_of_the_timesteps_done_so_far():
    session = learning()
    session.step("batch")
    done = session.position.tick
    session.seek(session.program.tick_of("dWz", 1))
    here = session.derive(ValueRef("dWz", (2, 0), None, session.position.tick))
    whole = session.derive(ValueRef("dWz", (2, 0), None, done))
    assert [len(node.terms) for node in (here, whole)] == [2, 3]
    assert here.derivation.tick == session.position.tick
    assert sum(whole.shares) == pytest.approx(1)


def test_with_carry_notebook_the_earlier_batches_have_a_share():
    session = learning(carry="notebook", text=TEXT, seq_length=2)
    session.step("batch", 2)
    node = session.derive(ValueRef("dUz", (0, 1), None, session.position.tick))
    assert node.terms[-1].label == "earlier batches"
    assert node.terms[-1].value != 0
    assert "earlier" not in str(session.derive(ValueRef("dWy", (0, 1), None, session.position.tick)).terms)


def test_over_a_thousand_batches_without_learning_a_weight_leads_to_the_step_before_them():
    session = learning()
    session.step("batch")
    stepped = session.position.tick
    session.learning = False
    session.step("batch", 1000)
    node = session.derive(ValueRef("Wz", (3, 0), None, session.position.tick))
    assert node.derivation.tick == stepped - len(session.program.update) + 1
    assert node.terms[0].derivation.note == "an initial weight, drawn with seed 1"


@pytest.mark.parametrize("place", ["e1 b1 t2", "e1 b2 t1"])
@pytest.mark.parametrize(("name", "index"), [("Wz", (-1, 0)), ("h", (1, 0)), ("by", (2,))])
def test_what_was_set_by_hand_says_so(place, name, index):
    session = learning()
    session.seek(place)
    was = float(session.value(name)[index])
    session.edit(name, index, 0.5)
    session.step("batch")
    session.step("op", -1)
    at = timeline_of(session).segments[-1].start
    where = tuple(i % n for i, n in zip(index, np.shape(session.value(name)), strict=True))
    t = timeline_of(session).position(at).t if name == "h" else None
    node = session.derive(ValueRef(name, where, t, at))
    assert node.value == 0.5
    assert node.derivation.note == f"set by hand at epoch 1, batch {place[4]}, t {place[-1]}; it was {significant(was)}"
    assert node.derivation.tick == at
    if name == "h":
        session.seek(at + 1)
        after = session.derive(ValueRef("h_prev", where, session.position.t, session.position.tick))
        assert after.terms[0].derivation.note.startswith("set by hand")
    else:
        session.seek(at)
        session.step("batch")
        updated = session.derive(ValueRef(name, where, None, session.position.tick))
        assert updated.terms[0].derivation.note.startswith("set by hand")


def test_an_edited_state_before_a_timestep_says_so():
    session = learning()
    session.seek(session.program.tick_of("z", 1))
    session.edit("h_prev", (0, 1), 0.25)
    session.seek(session.position.tick + 3)
    node = session.derive(ValueRef("h_prev", (0, 1), 1, session.position.tick))
    assert node.terms[0].derivation.note.startswith("set by hand at epoch 1, batch 1, t 2; it was ")


def test_a_softmax_that_has_underflowed_is_explained_from_its_logits():
    session = Session()
    session.edit("Wy", (0, 0), 1e6)
    session.step("timestep")
    row = int(np.argmin(session.value("y_hat").min(1)))
    target = int(session.value("y")[row].argmax())
    node = session.derive(ValueRef("term1", (row, target), 0, session.position.tick))
    log = node.terms[1]
    assert math.isfinite(log.value)
    assert abs(rounding(log)) < 1e-6 * abs(log.value)
    assert log.terms[0].number.name in ("y_hat", "logits")


def test_numbers_that_are_not_finite_are_explained_too():
    session = learning(learning_rate=1e30)
    session.stop_on_nan = False
    session.step("batch", 3)
    for name, index, value in numbers_here(session, random.Random(9)):
        node = session.explain(name, index)
        assert node.value == value or math.isnan(value)
        for each in walk(node, 2):
            assert isinstance(rounding(each), float)


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (ValueRef("nosuch", (), None, 5), "no value named 'nosuch'"),
        (ValueRef("t", (), None, 5), "no value named 't'"),
        (ValueRef("h", (0, 0), 0, 2), "not been computed yet"),
        (ValueRef("z", (7, 0), 0, 2), "no entry [7, 0]"),
        (ValueRef("z", (0,), 0, 2), "no entry [0]"),
        (ValueRef("z", (), 0, 2), "z has the shape 2 x 2; name an entry of it, such as z[row 1, unit 1]"),
        (ValueRef("z", (0, -1), 0, 2), "no entry [0, -1]"),
    ],
)
def test_what_cannot_be_explained_says_why(number, word):
    session = learning()
    session.step("batch")
    with pytest.raises(TuiGruError) as error:
        session.derive(number)
    assert word in str(error.value)


def test_a_gradient_that_is_the_same_for_all_units_is_explained():
    cell = "reads x\nstate h : H\nparameters W U b\na = x W + h_prev U + b\nu = Σ (h_prev U) over units\nh = tanh(a + u)\n"
    s = Session(cell="sum.cell", cell_text=cell, hidden_size=3, dtype="float64", learning_rate=0.1)
    s.learning = True
    s.step("batch", 2)
    assert s.check().agrees
    values = {name: s.value(name) if name != "dU" else s.gradient("U") for name in ("da", "du", "dh_prev", "u", "dU")}
    for name, value in values.items():
        for index in np.ndindex(value.shape):
            node = s.explain(name, index)
            assert_adds_up(node, 2, "float64")
            assert node.value == value[index]


OWN = {
    "a softmax inside a line": ("V W", "h = tanh(softmax(h_prev + x V) + x W)"),
    "a softmax of a product": ("V W U", "h = tanh(h_prev ⊙ softmax(h_prev U + x V) + x W)"),
    "the input before the state": ("Wf Wg", "f = σ([x, h_prev] Wf)\nh = f ⊙ h_prev + (1 − f) ⊙ tanh([x, h_prev] Wg)"),
    "the state before the input": ("Wf Wg", "f = σ([h_prev, x] Wf)\nh = f ⊙ h_prev + (1 − f) ⊙ tanh([h_prev, x] Wg)"),
    "a joined line": ("W U(H H)", "j = [x, h_prev, (p: h_prev U)]\nh = tanh(j W)"),
    "a weight in a sum over rows": ("W U b", "m = Σ (h_prev + b) over rows\nh = tanh(x W + h_prev U + m)"),
    "a weight in a sum over rows, and as it is": ("W U b", "h = tanh(x W + h_prev U + b + Σ (h_prev ⊙ b) over rows)"),
    "a mean of a matrix": ("W U", "h = tanh(x W + h_prev U + mean W over the vocabulary)"),
    "a mean over the timesteps": ("W U P", "m = mean x over timesteps\nh = tanh(x W + h_prev U + m P)"),
    "a sum over the timesteps of an expression": ("W P", "h = tanh(x W + h_prev + (Σ (x ⊙ x) over timesteps) P)"),
    "weights alone, read twice": ("W U b", "a = x W + (p: b ⊙ b)\nh = tanh(a + h_prev U ⊙ p + b)"),
    "a vector times a matrix": ("W U P", "m = mean h_prev over rows\nh = tanh(x W + h_prev U + m P)"),
    "a product of weights": ("W(V H) P(H H) U", "h = tanh(x (W P) + h_prev U)"),
    "a transposed product": ("W P(H H) U(H H)", "h = tanh(x W + h_prev (U P)ᵀ)"),
}


def own(case, **options):
    parameters, lines = OWN[case]
    text = f"state h : H\nparameters {parameters}\n{lines}\n"
    return learning(text=TEXT, cell="own.cell", cell_text=text, **{"seq_length": 3, "learning_rate": 0.3, **options})


@pytest.mark.parametrize(
    ("case", "sizes"), [*((case, (2, 2)) for case in OWN), ("a softmax inside a line", (3, 2)), ("a softmax inside a line", (2, 3))]
)
def test_the_lines_of_own_cells_add_up(case, sizes):
    """Softmaxes inside lines, joins both ways, sums over any axis, gradients that are added once for all timesteps."""
    session, chance = own(case, hidden_size=sizes[0], batch_size=sizes[1], dtype="float64"), random.Random(case)
    session.step("batch", 2)
    for name in (*session.program.deltas, *session.program.values, *(f"d{name}" for name in session.program.parameters)):
        shape = np.shape(session.value(name))
        for index in (tuple(0 for _ in shape), tuple(map(chance.randrange, shape))):
            assert_adds_up(session.explain(name, index), 2, "float64")
    session.step("op", -session.program.ticks // 3)
    for name in (name for name in explained(session) if name[0] == "d" and session.value(name) is not None):
        assert_adds_up(session.explain(name, (0,) * np.ndim(session.value(name))), 2, "float64")


def test_a_column_of_a_join_is_called_what_it_counts():
    session = own("the input before the state", hidden_size=2)
    session.step("timestep")
    assert session.explain("Wf", (0, 1)).label == "Wf[“a”, unit 2]"
    assert session.explain("Wf", (len(session.config.vocabulary) + 1, 0)).label == "Wf[unit 2, unit 1]"
    (product,) = session.explain("f", (0, 0)).terms
    assert product.derivation.note == "over characters and units"
    assert [term.label.rpartition(" at ")[2] for term in product.terms] == ["“a”", "“b”", "“c”", "unit 1", "unit 2"]
    session = own("the state before the input", hidden_size=2)
    session.step("timestep")
    assert [session.explain("Wf", (row, 0)).label for row in (1, 2)] == ["Wf[unit 2, unit 1]", "Wf[“a”, unit 1]"]
    session = own("a joined line", hidden_size=2)
    session.step("timestep")
    assert [session.explain("j", (0, k)).label for k in (2, 3, 4, 5, 6)] == [
        "j[row 1, “c”]", "j[row 1, unit 1]", "j[row 1, unit 2]", "j[row 1, unit 3]", "j[row 1, unit 4]",
    ]  # fmt: skip


def test_the_shares_of_a_norm_are_those_of_the_squares():
    session = learning(**models.MODELS["lstm"])  # clips the norm of its gradient
    session.step("batch", 2)
    norms = [node for node in walk(session.explain("grad_norm"), 3) if node.terms and node.derivation.kind == "norm"]
    assert norms
    for node in norms:
        squares = [term.value**2 for term in node.terms]
        assert node.shares == pytest.approx([square / sum(squares) for square in squares])
        assert sum(node.shares) == pytest.approx(1)


def test_a_number_that_is_not_finite_is_explained_without_a_warning():
    """0 times an infinite state is NaN in the terms of the line, and nothing is written to the terminal of the user."""
    growing = "reads x\nstate h : H\nparameters Wh Uh bh\nh = 3 ⊙ h_prev + x Wh + h_prev Uh + bh"
    text = "the cat sat on the mat and the dog " * 3
    s = Session(text=text, hidden_size=4, batch_size=2, seq_length=16, cell_text=growing, optimizer="sgd", learning_rate=0.01)
    s.learning = True
    for index, value in (((0, 0), 3e38), ((0, 0), 0.0), ((1, 0), 0.0)):
        s.edit("Wh" if value else "Uh", index, value)
    s.step("batch")
    explained = list(nodes_of(s.explain("h", (0, 0), 5), 4))
    assert any(np.isnan(node.value) for node in explained)
    assert len(explained) > 4


def nodes_of(node, depth):
    yield node
    if depth and node.derivation.near:
        for term in node.terms:
            yield from nodes_of(term, depth - 1)
