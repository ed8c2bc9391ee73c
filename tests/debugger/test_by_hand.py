"""Numbers that were set by hand: they say so, where, and what they were; and all that was made of them still adds up."""

import random

import numpy as np
import pytest
from tui_gru.debugger.changeable import gradients_of, values_of
from tui_gru.engine.parameters import parameter_names

from tests.debugger.deriving import TEXT, assert_adds_up, learning
from tui_gru import Session, TuiGruError
from tui_gru.debugger.moment import readable_names

MODELS = [
    {},
    {"text": TEXT, "hidden_size": 3, "seq_length": 3, "reset": "after", "seed": 5},
    {"text": TEXT, "hidden_size": 2, "seq_length": 3, "carry": "notebook", "seed": 3},
    {"text": TEXT, "hidden_size": 2, "seq_length": 2, "carry": "reset", "reset": "after", "dtype": "float64", "seed": 4},
]
UNEXPLAINED = ("epoch", "batch", "t", "char", "target")


def every_number_adds_up(session, depth, chance):
    for name in readable_names(session.config.reset):
        value = None if name in UNEXPLAINED else session.value(name)
        if value is not None:
            indices = list(np.ndindex(*np.shape(value)))
            for index in chance.sample(indices, min(2, len(indices))):
                root = session.explain(name, index)
                assert root.value == float(np.asarray(value)[index])
                assert_adds_up(root, depth, session.config.dtype)


def changed_somewhere(session, chance):
    """Change a number where one is; what can be is tried."""
    reset = session.config.reset
    names = [*parameter_names(reset), *values_of(reset), *gradients_of(reset), "h", "h_prev"]
    for name in chance.sample(names, len(names)):
        value = session.value(name)
        if value is None and name != "h_prev":
            continue
        shape = (session.config.batch_size, session.config.hidden_size) if value is None else np.shape(value)
        index = tuple(chance.randrange(n) for n in shape)
        number = chance.uniform(0.05, 0.9)
        try:
            session.edit(name, index, number)
        except TuiGruError:
            continue
        return name, index
    return None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_whatever_is_changed_wherever_everything_after_it_adds_up(options, seed):
    chance = random.Random(seed)
    session = learning(**options)
    for _ in range(4):
        session.step("op", chance.randrange(1, session.program.ticks))
        for _ in range(chance.choice((1, 1, 2))):
            found = changed_somewhere(session, chance)
        if chance.random() < 0.3:
            session.edit("learning_rate", chance.uniform(0.1, 0.5))
        if chance.random() < 0.3:
            session.edit("text", chance.randrange(len(session.config.text)), chance.choice(session.config.vocabulary))
        if found is not None and session.value(found[0]) is not None:
            assert_adds_up(session.explain(*found), 4, session.config.dtype)
        every_number_adds_up(session, 2, chance)
    session.step("batch")
    every_number_adds_up(session, 3, chance)


def places(session):
    """Just after each line of the second timestep of the first batch, and the end of its backward pass."""
    forward, program = [line.target for line in session.program.forward], session.program
    yield from ((program.tick_of(name, 1), name) for name in forward)
    yield from ((program.tick_of(line.target, 1), line.target) for line in program.backward if line.op == "=")
    yield from ((program.backward_end, f"d{name}") for name in parameter_names(session.config.reset))


@pytest.mark.parametrize("reset", ["before", "after"])
def test_what_is_set_just_after_its_line_says_so_and_keeps_its_formula(reset):
    for tick, name in places(learning(text=TEXT, hidden_size=2, reset=reset)):
        session = learning(text=TEXT, hidden_size=2, reset=reset)
        session.seek(tick)
        index = (0,) * np.ndim(session.value(name))
        was, line = float(np.asarray(session.value(name))[index]), session.explain(name, index)
        session.edit(name, index, 0.375)
        node = session.explain(name, index)
        t = session.position.t + 1
        assert node.value == 0.375
        assert node.expansion.note == f"set by hand at epoch 1, batch 1, t {t}; it was {was:.6g}"
        old, change = node.terms
        assert (old.value, old.expansion.formula) == (was, line.expansion.formula)
        assert [term.value for term in old.terms] == [term.value for term in line.terms]
        assert change.value == 0.375 - was
        assert node.rounding == 0


@pytest.mark.parametrize(
    ("part", "of"), [("az", "z"), ("ar", "r"), ("ah", "h_tilde"), ("dh_output", "dh"), ("dh_update", "dh_prev")]
)
def test_where_a_part_of_a_line_was_set_the_line_is_made_of_that(part, of):
    session = learning()
    session.seek(session.program.tick_of(of, 1))
    session.edit(part, (1, 0), 0.375)
    node = session.explain(of, (1, 0))
    by_hand = next(term for term in node.terms if term.number.name == part)
    assert by_hand.expansion.note.startswith("set by hand at epoch 1, batch 1, t 2; it was ")
    assert_adds_up(node, 4, "float32")


def test_two_numbers_set_at_one_place_both_say_so():
    session = learning()
    session.seek(session.program.tick_of("z", 1))
    session.edit("z", (0, 0), 0.25)
    session.edit("z", (1, 1), 0.5)
    session.edit("Wr", (0, 0), 1.0)
    for name, index in (("z", (0, 0)), ("z", (1, 1)), ("Wr", (0, 0))):
        assert session.explain(name, index).expansion.note.startswith("set by hand"), (name, index)
    assert not session.explain("z", (0, 1)).expansion.note
    session.step("batch")
    assert session.explain("Wr", (0, 0)).terms[0].expansion.note.startswith("set by hand")


def test_before_the_first_line():
    session = Session()
    was = float(session.parameter("Wz")[0, 0])
    session.edit("Wz", (0, 0), 0.5)
    session.edit("h_prev", (0, 1), 0.25)
    session.learning = True
    session.step("timestep")
    weight = session.explain("Wz", (0, 0))
    assert weight.expansion.note == f"set by hand before the first line; it was {was:.6g}"
    assert weight.terms[0].expansion.note == "an initial weight, drawn with seed 1"
    assert session.explain("Wz", (0, 1)).expansion.note == "an initial weight, drawn with seed 1"
    assert session.explain("h_prev", (0, 1)).expansion.note == "set by hand before the first line; it was 0"
    assert session.explain("h_prev", (0, 0)).expansion.note == "every epoch begins with h = 0"


def test_it_is_known_after_the_session_was_opened_again(tmp_path):
    session = learning()
    session.seek(session.program.tick_of("z", 1))
    session.edit("z", (0, 0), 0.25)
    session.edit("z", (1, 1), 0.5)
    session.learning = False
    session.save(tmp_path / "kept")
    again = Session.open(tmp_path / "kept")
    assert again.explain("z", (0, 0)).expansion.note == session.explain("z", (0, 0)).expansion.note
    assert again.explain("z", (0, 0)).expansion.note.startswith("set by hand")


def test_a_learning_rate_and_a_character_that_were_set():
    session = learning()
    session.step("timestep")
    session.learning_rate = 0.5
    session.edit("text", 5, "M")  # the target of the second row, and what it reads next
    session.step("batch")
    rate = session.explain("learning_rate")
    assert (rate.value, rate.expansion.note) == (0.5, "set by hand at epoch 1, batch 1, t 1; it was 0.3")
    session.seek("e1 b1 t1")
    assert session.explain("learning_rate").expansion.note == "set by hand at epoch 1, batch 1, t 1; it was 0.3"
    session.step("op", -1)
    assert session.explain("learning_rate").expansion.note == "the learning rate that the run began with"
    corpus = session.snapshot().corpus
    session.seek("e1 b1 t3")
    found = 0
    for t in range(3):
        for row in range(2):
            for name, ahead in (("x", 0), ("y", 1)):
                place = corpus.position_in_text(0, t, row) + ahead
                note = session.explain(name, (row, 0), t).expansion.note
                set_here = place == 5 and t > 0  # the first timestep had been read by then
                assert ("set by hand at epoch 1, batch 1, t 1; it was “" in note) is set_here, (place, t, note)
                found += set_here
    assert found
