"""Numbers set by hand: they are marked with the place and the old value, and everything computed from them still adds up."""

import random

import numpy as np
import pytest

from tests.debugger import models
from tests.debugger.deriving import assert_adds_up, explained, learning, rounding, walk
from tests.extent import examples
from tui_gru import Session, TuiGruError
from tui_gru.debugger.edits import changeable
from tui_gru.engine.numbers import significant


def some_numbers_add_up(session, depth, chance, most):
    names = [name for name in explained(session) if session.value(name) is not None]
    for name in chance.sample(names, min(most, len(names))):
        value = np.asarray(session.value(name))
        index = tuple(map(chance.randrange, value.shape))
        root = session.explain(name, index)
        assert root.value == float(value[index])
        assert_adds_up(root, depth, session.config.dtype)


def changed_somewhere(session, chance):
    """Change a number at the current position; the possible edits are tried in turn."""
    for name in chance.sample(names := changeable(session.program), len(names)):
        value = session.value(name)
        shape = np.shape(session.snapshot().record.array(name)[0] if value is None and session.program.names[name].timed else value)
        index = tuple(map(chance.randrange, shape))
        number = chance.uniform(0.05, 0.9)
        try:
            session.edit(name, index, number)
        except TuiGruError:
            continue
        return name, index
    return None


@pytest.mark.parametrize("seed", range(examples(1, soak=20)))
@models.parametrize(*(name for name in models.MODELS if name not in ("nothing to learn", "one of each")))
def test_whatever_is_changed_wherever_everything_after_it_adds_up(model, seed):
    chance = random.Random(seed)
    session = learning(**model)
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
        some_numbers_add_up(session, 2, chance, 20)
    session.step("batch")
    some_numbers_add_up(session, 3, chance, 20)


def places(session):
    """Yield the position after each line of the second timestep of the first batch, and of the end of its backward pass and its
    update."""
    program, parameters = session.program, session.program.parameters
    for name, line in program.lines.items():
        if line.phase in ("forward", "backward") and line.op == "=":
            yield program.tick_of(name, 1), name
        elif line.phase == "update" and name in changeable(program) and name not in parameters:
            yield program.tick_of(name), name
    yield from ((program.backward_end, f"d{name}") for name in parameters)


@models.parametrize("gru", "gru after, reset", "lstm", "both ways", "own cell")
def test_what_is_set_just_after_its_line_says_so_and_keeps_its_formula(model):
    session, chance = learning(**model), random.Random(4)
    every = list(places(session))
    for tick, name in chance.sample(every, min(len(every), 30)):
        session.seek(tick)
        index = (0,) * np.ndim(session.value(name))
        was, line = float(np.asarray(session.value(name))[index]), session.explain(name, index)
        session.edit(name, index, 0.375)
        node = session.explain(name, index)
        t = session.position.t + 1
        assert node.value == 0.375
        assert node.derivation.note == f"set by hand at epoch 1, batch 1, t {t}; it was {significant(was)}"
        old, change = node.terms
        assert (old.value, old.derivation.formula) == (was, line.derivation.formula)
        assert [term.value for term in old.terms] == [term.value for term in line.terms]
        assert change.value == 0.375 - was
        assert rounding(node) == 0
        session.undo()


PARTS = [
    ("gru", "az", "z"), ("gru", "ar", "r"), ("gru", "ah", "h_tilde"), ("gru", "dh_output", "dh"), ("gru", "dh_update", "dh_prev"),
    ("gru", "one_minus_z", "h"), ("gru", "new", "h"), ("gru", "log_p", "term1"), ("gru after, reset", "new", "h"),
    ("lstm", "tanh_c", "h"), ("lstm", "dc_carry", "dc"), ("own cell", "closed", "s"), ("own cell", "fresh", "m"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "part", "of"), PARTS)
def test_where_a_part_of_a_line_was_set_the_line_is_made_of_that(model, part, of):
    session = learning(**models.MODELS[model])
    program = session.program
    session.seek(program.tick_of(of, 1))
    index = (0, int(session.value("y")[0].argmax()) if part == "log_p" else 0)
    session.edit(part, index, 0.375)
    node = session.explain(of, index)
    by_hand = next(n for n in walk(node, 2) if n.number is not None and n.number.name == part)
    assert by_hand.value == 0.375
    assert by_hand.derivation.note.startswith("set by hand at epoch 1, batch 1, t 2; it was ")
    assert_adds_up(node, 4, "float32")
    session.seek(program.ticks)
    for name in explained(session):
        value = np.asarray(session.snapshot().value(name, 1))
        assert_adds_up(session.explain(name, (0,) * value.ndim, 1 if program.names[name].timed else None), 3, "float32")


def test_a_state_that_was_set_before_its_loop_begins_says_so():
    """A direction that runs backwards begins in the middle of the batch, with the state of the batch before."""
    session = learning(**models.MODELS["rnn both ways"])
    program, last = session.program, session.config.seq_length - 1
    session.seek(program.ticks + program.place_of("h_l1_reverse")[0].start)
    session.edit("h_next_l1_reverse", (0, 1), 0.25)
    session.step("batch")
    node = session.explain("h_next_l1_reverse", (0, 1), last)
    assert node.derivation.note.startswith("set by hand at epoch 1, batch 2, t 3; it was ")
    old = node.terms[0]
    assert old.derivation.note == "h_l1_reverse at the end of the batch before"
    assert old.value == session.snapshot().previous.border("h_l1_reverse", end=True)[0, 1]


def test_a_probability_that_was_set_keeps_its_logarithm_whatever_else_is_set_there():
    session = learning()
    session.seek(session.program.tick_of("y_hat", 1))
    session.edit("y_hat", (0, 2), 0.75)
    session.edit("Wz", (0, 0), 0.5)
    session.learning_rate = 0.1
    session.step("op")
    assert session.value("log_p")[0, 2] == np.log(np.float32(0.75))
    assert_adds_up(session.explain("term1", (0, 2)), 3, "float32")


def test_two_numbers_set_at_one_place_both_say_so():
    session = learning()
    session.seek(session.program.tick_of("z", 1))
    session.edit("z", (0, 0), 0.25)
    session.edit("z", (1, 1), 0.5)
    session.edit("Wr", (0, 0), 1.0)
    for name, index in (("z", (0, 0)), ("z", (1, 1)), ("Wr", (0, 0))):
        assert session.explain(name, index).derivation.note.startswith("set by hand"), (name, index)
    assert not session.explain("z", (0, 1)).derivation.note
    session.step("batch")
    assert session.explain("Wr", (0, 0)).terms[0].derivation.note.startswith("set by hand")


def test_before_the_first_line():
    session = Session()
    was = float(session.parameter("Wz")[0, 0])
    session.edit("Wz", (0, 0), 0.5)
    session.edit("h_prev", (0, 1), 0.25)
    session.learning = True
    session.step("timestep")
    weight = session.explain("Wz", (0, 0))
    assert weight.derivation.note == f"set by hand before the first line; it was {significant(was)}"
    assert weight.terms[0].derivation.note == "an initial weight, drawn with seed 1"
    assert session.explain("Wz", (0, 1)).derivation.note == "an initial weight, drawn with seed 1"
    assert session.explain("h_prev", (0, 1)).derivation.note == "set by hand before the first line; it was 0"
    assert session.explain("h_prev", (0, 0)).derivation.note == "every epoch begins with h = 0"


def test_it_is_known_after_the_session_was_opened_again(tmp_path):
    session = learning()
    session.seek(session.program.tick_of("z", 1))
    session.edit("z", (0, 0), 0.25)
    session.edit("z", (1, 1), 0.5)
    session.learning = False
    session.save(tmp_path / "kept")
    again = Session.open(tmp_path / "kept")
    assert again.explain("z", (0, 0)).derivation.note == session.explain("z", (0, 0)).derivation.note
    assert again.explain("z", (0, 0)).derivation.note.startswith("set by hand")


def test_a_learning_rate_and_a_character_that_were_set():
    session = learning()
    session.step("timestep")
    session.learning_rate = 0.5
    session.edit("text", 5, "M")  # the target of the second row, and what it reads next
    session.step("batch")
    rate = session.explain("learning_rate")
    assert (rate.value, rate.derivation.note) == (0.5, "set by hand at epoch 1, batch 1, t 1; it was 0.3")
    session.seek("e1 b1 t1")
    assert session.explain("learning_rate").derivation.note == "set by hand at epoch 1, batch 1, t 1; it was 0.3"
    session.step("op", -1)
    assert (
        session.explain("learning_rate").derivation.note == "a setting of the update rule, with the value that the run began with"
    )
    corpus = session.snapshot().corpus
    session.seek("e1 b1 t3")
    found = 0
    for t in range(3):
        for row in range(2):
            for name, ahead in (("x", 0), ("y", 1)):
                place = corpus.position_in_text(0, t, row) + ahead
                note = session.explain(name, (row, 0), t).derivation.note
                set_here = place == 5 and t > 0  # the first timestep had already read it
                assert ("set by hand at epoch 1, batch 1, t 1; it was “" in note) is set_here, (place, t, note)
                found += set_here
    assert found
