"""Where numbers come from: the terms of every number add up to it, and can be followed to a letter or an initial weight."""

import math

import numpy as np
import pytest

from tests.debugger.deriving import TEXT, assert_adds_up, learning
from tui_gru import Session, TuiGruError
from tui_gru.debugger.explainer import COUNTED, Explainer
from tui_gru.debugger.moment import readable_names
from tui_gru.debugger.origin import Number

MODELS = [
    {},
    {"text": TEXT, "hidden_size": 3, "seq_length": 4, "reset": "after", "seed": 5},
    {"text": TEXT, "hidden_size": 3, "seq_length": 3, "carry": "notebook", "seed": 3},
    {"text": TEXT, "hidden_size": 4, "batch_size": 3, "seq_length": 2, "carry": "notebook", "reset": "after", "dtype": "float64"},
    {"text": TEXT, "hidden_size": 2, "batch_size": 1, "seq_length": 5, "carry": "reset", "dtype": "float64"},
]
PLACES = ("e1 b1 t2", "e1 b2 t1", "e2 b1 t2")


def explainer(session):
    return Explainer(session._timeline)


def numbers_here(session, t=None):
    """One number of every name that can be read here: the entry in the middle, and of a small one every entry."""
    for name in readable_names(session.config.reset):
        if name in COUNTED:
            continue
        value = session._moment.value(name, t)
        if value is None:
            continue
        shape = np.shape(value)
        every = list(np.ndindex(*shape))
        for index in every if len(every) <= 8 else every[:: max(1, len(every) // 5)]:
            yield Number(name, tuple(map(int, index)), t, session.position.tick), float(np.asarray(value)[index])


@pytest.mark.parametrize("options", MODELS, ids=str)
def test_the_terms_of_every_number_add_up_to_it(options):
    session = learning(**options)
    targets = set()
    for k in range(0, session.program.ticks * (session.program.num_batches + 1), 5):
        session.seek(k)
        ask = explainer(session)
        for number, value in numbers_here(session):
            root = ask.explain(number)
            assert root.value == value, number
            targets.add(number.name)
            assert_adds_up(root, 2, session.config.dtype)
    assert targets == set(readable_names(session.config.reset)) - set(COUNTED)


@pytest.mark.parametrize("options", MODELS, ids=str)
def test_what_is_a_number_of_the_run_is_the_one_that_was_computed(options):
    session = learning(**options)
    session.step("batch", session.program.num_batches + 2)
    for number, _ in list(numbers_here(session)):
        for node in explainer(session).explain(number).walk(3):
            if node.number is not None:
                array = np.asarray(session._timeline.moment(node.number.tick).value(node.number.name, node.number.t))
                assert node.value == float(array[node.number.index])


@pytest.mark.parametrize("carry", ["detach", "notebook"])
def test_the_gradient_norm_is_computed_where_the_backward_pass_ends(carry):
    session = learning(carry=carry)
    session.step("batch", 2)
    program = session.program
    complete = program.ticks + program.backward_end
    for tick in range(complete, 2 * program.ticks + 1):
        session.seek(tick)
        assert session.explain("grad_norm").expansion.tick == complete


def test_what_was_recorded_is_exact_and_what_is_worked_out_is_not():
    session = learning(text=TEXT, hidden_size=3)
    session.step("batch")
    record, t = session._timeline.record(0).activations, 1
    recorded = {
        "1 − z": record.one_minus_z, "(1 − z)⊙h̃": record.new, "r⊙hₜ₋₁": record.rh, "hₜ₋₁ Uz": record.hUz,
        "(r⊙hₜ₋₁) Uh": record.hUh,
    }  # fmt: skip
    exact, worked_out = set(), set()
    for name in ("h", "z", "h_tilde", "daz"):
        for node in session.explain(name, (1, 2), t).walk(3):
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
    ask = explainer(session)
    for name, line in session.program.lines.items():
        index = (0,) * np.ndim(session.value(name))
        assert ask.explain(Number(name, index, None, session.position.tick)).expansion.formula == line.text


def test_a_step_of_a_weight_is_followed_down_to_the_letter_that_caused_it():
    session = learning()
    session.step("batch")
    ask = explainer(session)
    weight = ask.explain(Number("Wz", (3, 0), None, session.position.tick))
    old, step = weight.terms
    assert (old.expansion.note, step.sign) == ("an initial weight, drawn with seed 1", -1)
    rate, gradient = step.terms
    assert rate.value == 0.3
    assert [share.label for share in gradient.terms] == ["t 3", "t 2", "t 1"]
    share = gradient.terms[-1]
    assert share.value == pytest.approx(float(session.value("x")[0, 3]) * 0 + share.terms[0].value)
    daz = share.terms[0]
    dz = daz.terms[0]
    assert (daz.number.name, dz.number.name) == ("daz", "dz")
    letter = ask.explain(Number("x", (0, 3), 0, session.position.tick))
    assert letter.expansion.note == "“M” is read here: character 1 of the text"


@pytest.mark.parametrize("options", MODELS, ids=str)
def test_every_weight_is_its_last_value_less_a_step_back_to_its_initial_one(options):
    session = learning(**options)
    initial = {name: session.parameter(name).copy() for name in ("Wz", "Uh", "by")}
    session.step("batch", 3)
    for name, first in initial.items():
        index = (1,) * first.ndim
        node = session.explain(name, index)
        for _ in range(3):
            assert_adds_up(node, 2, session.config.dtype)
            old, step = node.terms
            assert (old.label, step.sign) == (f"prev({node.label.removeprefix('prev(').rstrip(')')})", -1)
            node = old
        assert node.value == first[index]
        assert not node.terms
        assert node.expansion.note == (
            "biases begin at 0" if name == "by" else f"an initial weight, drawn with seed {session.config.seed}"
        )


def test_the_gradient_that_flows_back_is_followed_over_timesteps():
    session = learning()
    session.step("batch")
    node = explainer(session).explain(Number("dh", (0, 0), 0, session.position.tick))
    seen = []
    while node.terms:
        node = node.terms[-1] if node.number is None or node.number.name != "dh_prev" else node.terms[0].terms[0]
        if node.number is not None:
            seen.append((node.number.name, node.number.t))
    assert seen[:5] == [("dh_future", 0), ("dh_prev", 1), ("dh", 1), ("dh_future", 1), ("dh_prev", 2)]
    assert node.expansion.note == "nothing comes after the last timestep"


def test_a_state_is_followed_into_the_batch_before_and_to_the_start():
    session = learning()
    session.seek("e1 b2 t1")
    ask = explainer(session)
    before = ask.explain(Number("h_prev", (1, 1), 0, session.position.tick))
    assert before.expansion.note == "h at the end of the batch before"
    assert before.terms[0].value == session._timeline.record(0).activations.h[-1][1, 1]
    session.seek("e2 b1 t1")
    assert "every epoch begins" in explainer(session).explain(Number("h_prev", (1, 1), 0, session.position.tick)).expansion.note
    reset = learning(carry="reset")
    reset.seek("e1 b2 t1")
    assert "every batch begins" in explainer(reset).explain(Number("h_prev", (1, 1), 0, reset.position.tick)).expansion.note


def test_a_gradient_has_the_shares_of_the_timesteps_done_so_far():
    session = learning()
    session.step("batch")
    done = session.position.tick
    session.seek(session.program.tick_of("dWz", 1))
    here = explainer(session).explain(Number("dWz", (2, 0), None, session.position.tick))
    whole = explainer(session).explain(Number("dWz", (2, 0), None, done))
    assert [len(node.terms) for node in (here, whole)] == [2, 3]
    assert here.expansion.tick == session.position.tick
    assert sum(whole.shares) == pytest.approx(1)


def test_with_carry_notebook_the_earlier_batches_have_a_share():
    session = learning(carry="notebook", text=TEXT, seq_length=2)
    session.step("batch", 2)
    node = explainer(session).explain(Number("dUz", (0, 1), None, session.position.tick))
    assert node.terms[-1].label == "earlier batches"
    assert node.terms[-1].value != 0
    assert "earlier" not in str(explainer(session).explain(Number("dWy", (0, 1), None, session.position.tick)).terms)


def test_over_a_thousand_batches_without_learning_a_weight_leads_to_the_step_before_them():
    session = learning()
    session.step("batch")
    stepped = session.position.tick
    session.learning = False
    session.step("batch", 1000)
    node = explainer(session).explain(Number("Wz", (3, 0), None, session.position.tick))
    assert node.expansion.tick == stepped - len(session.program.update) + 1
    assert node.terms[0].expansion.note == "an initial weight, drawn with seed 1"


@pytest.mark.parametrize("place", ["e1 b1 t2", "e1 b2 t1"])
@pytest.mark.parametrize(("name", "index"), [("Wz", (-1, 0)), ("h", (1, 0)), ("by", (2,))])
def test_what_was_set_by_hand_says_so(place, name, index):
    session = learning()
    session.seek(place)
    was = float(session.value(name)[index])
    session.edit(name, index, 0.5)
    session.step("batch")
    session.step("op", -1)
    at = session._timeline.segments[-1].start
    where = tuple(i % n for i, n in zip(index, np.shape(session.value(name)), strict=True))
    t = session._timeline.position(at).t if name == "h" else None
    node = explainer(session).explain(Number(name, where, t, at))
    assert node.value == 0.5
    assert node.expansion.note == f"set by hand at epoch 1, batch {place[4]}, t {place[-1]}; it was {was:.6g}"
    assert node.expansion.tick == at
    if name == "h":
        session.seek(at + 1)
        after = explainer(session).explain(Number("h_prev", where, session.position.t, session.position.tick))
        assert after.terms[0].expansion.note.startswith("set by hand")
    else:
        session.seek(at)
        session.step("batch")
        updated = explainer(session).explain(Number(name, where, None, session.position.tick))
        assert updated.terms[0].expansion.note.startswith("set by hand")


def test_an_edited_state_before_a_timestep_says_so():
    session = learning()
    session.seek(session.program.tick_of("z", 1))
    session.edit("h_prev", (0, 1), 0.25)
    session.seek(session.position.tick + 3)
    node = explainer(session).explain(Number("h_prev", (0, 1), 1, session.position.tick))
    assert node.terms[0].expansion.note.startswith("set by hand at epoch 1, batch 1, t 2; it was ")


def test_a_softmax_that_has_underflowed_is_explained_from_its_logits():
    session = Session()
    session.edit("Wy", (0, 0), 1e6)
    session.step("timestep")
    row = int(np.argmin(session.value("y_hat").min(1)))
    target = int(session.value("y")[row].argmax())
    node = explainer(session).explain(Number("term1", (row, target), 0, session.position.tick))
    log = node.terms[1]
    assert math.isfinite(log.value)
    assert abs(log.rounding) < 1e-6 * abs(log.value)
    assert log.terms[0].number.name in ("y_hat", "logits")


def test_numbers_that_are_not_finite_are_explained_too():
    session = learning(learning_rate=1e30)
    session.stop_on_nan = False
    session.step("batch", 3)
    ask = explainer(session)
    for number, value in numbers_here(session):
        node = ask.explain(number)
        assert node.value == value or math.isnan(value)
        for each in node.walk(2):
            assert isinstance(each.rounding, float)


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (Number("nosuch", (), None, 5), "no value named 'nosuch'"),
        (Number("t", (), None, 5), "no value named 't'"),
        (Number("h", (0, 0), 0, 2), "not computed yet"),
        (Number("z", (7, 0), 0, 2), "no entry [7, 0]"),
        (Number("z", (0,), 0, 2), "no entry [0]"),
        (Number("z", (0, -1), 0, 2), "no entry [0, -1]"),
    ],
)
def test_what_cannot_be_explained_says_why(number, word):
    session = learning()
    session.step("batch")
    with pytest.raises(TuiGruError) as error:
        explainer(session).explain(number)
    assert word in str(error.value)
