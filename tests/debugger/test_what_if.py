"""What a number would come to if it were another: as the listing says, to the bit the same where it is not, and no trace of it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.debugger.acting import assert_same, bits, portrait
from tests.engine.interpreter import finish
from tests.engine.test_replacing import as_listed
from tests.engine.test_resume import VALUES
from tui_gru import Session, TuiGruError
from tui_gru.debugger.changeable import gradients_of, offset_of, values_of
from tui_gru.debugger.state_writer import pack_record
from tui_gru.engine.parameters import parameter_names
from tui_gru.engine.reference import DELTAS

WAYS = [
    {"reset": reset, "carry": carry, "dtype": dtype}
    for reset, carry, dtype in (
        ("before", "detach", "float64"),
        ("after", "reset", "float32"),
        ("before", "notebook", "float32"),
        ("after", "notebook", "float64"),
    )
]
TEXT = "the cat sat on the mat; the rat sat on"


def standing(batch=1, **options):
    """A session at the end of a batch's backward pass, before its update, so that everything can be asked for."""
    session = Session(**{"text": TEXT, "hidden_size": 3, "batch_size": 2, "seq_length": 4, "learning_rate": 0.3, **options})
    session.learning = True
    session.step("batch", batch + 2)
    session.seek(batch * session.program.ticks + session.program.backward_end)
    return session


def askable(session):
    """Every (name, timestep, index of its last entry) that there is in the batch."""
    reset, T = session.config.reset, session.config.seq_length
    once = [(name, None) for name in (*parameter_names(reset), *gradients_of(reset))]
    each = [(name, t) for name in values_of(reset) for t in range(T) if (name, t) != ("dh_future", T - 1)]
    for name, t in (*once, *each):
        yield name, t, tuple(size - 1 for size in np.shape(session.snapshot().value(name, t)))


@pytest.mark.parametrize("options", WAYS, ids=lambda o: "-".join(o.values()))
def test_the_same_number_changes_nothing_and_the_run_is_untouched(options):
    session = standing(**options)
    before = portrait(session)
    for name, t, index in askable(session):
        same = session.what_if(name, index, np.asarray(session.snapshot().value(name, t))[index], t)
        assert same.differences == (), (name, t)
        assert pack_record(same.then.record) == pack_record(same.now.record)
        other = session.what_if(name, index, 0.3, t)
        assert other.differences, (name, t)
    assert portrait(session) == before


@pytest.mark.parametrize("reset", ["before", "after"])
def test_the_rest_of_the_batch_is_as_the_listing_says(reset):
    session = standing(reset=reset, dtype="float64")
    record, names, deltas = session.snapshot().record, parameter_names(reset), DELTAS[reset]
    for name, t, index in askable(session):
        if t is None:
            continue
        memory = {each: record.array(each).copy() for each in (*VALUES, *deltas)} | dict(record.parameters.items())
        memory["loss"] = record.loss
        finish(memory, names, *as_listed(memory, name, t, index, 0.4), 0.3)
        then = session.what_if(name, index, 0.4, t).then
        for each in (*VALUES, *deltas):
            np.testing.assert_allclose(then.record.array(each), memory[each], rtol=1e-10, atol=1e-13, err_msg=f"{each}: {name} {t}")
        for each in names:
            np.testing.assert_allclose(then.value(each), memory[each], rtol=1e-10, atol=1e-13, err_msg=f"{each}: {name} {t}")


@pytest.mark.parametrize("options", WAYS, ids=lambda o: "-".join(o.values()))
def test_what_is_adopted_is_what_was_shown(options):
    session = standing(**options)
    for name, t, index in askable(session):
        if name == "h_prev" and t == 0 and options["carry"] == "reset":
            with pytest.raises(TuiGruError, match="begins with h = 0"):
                session.adopt(session.what_if(name, index, 0.3, t))
            continue
        shown = session.what_if(name, index, 0.3, t)
        session.adopt(shown)
        assert session.branch == "main~1", (name, t)
        assert session.position.tick == session._timeline.place(shown.tick)
        session.seek(shown.now.position)
        assert pack_record(session.snapshot().record) == pack_record(shown.then.record), (name, t)
        session.undo()
        session.switch("main")
        session.seek(shown.now.position.number * session.program.ticks + session.program.backward_end)
        assert session.branches == ("main",)


def test_the_differences_say_where_and_how_much():
    session = standing(dtype="float64")
    z = session.snapshot().value("z", 2)
    shown = session.what_if("z", (1, 2), 0.25, 2)
    first = shown.differences[0]
    assert (first.name, first.t, first.index, first.before, first.after) == ("z", 2, (1, 2), z[1, 2], 0.25)
    assert first.entries == 1
    assert (shown.was, shown.value) == (z[1, 2], 0.25)
    names = [(d.name, d.t) for d in shown.differences]
    assert names.index(("h", 2)) < names.index(("ah", 3)) < names.index(("loss", None)) < names.index(("dlogits", 3))
    assert names[-1] == ("by", None)
    assert not any(t in (0, 1) and name in ("z", "h", "logits") for name, t in names)
    loss = next(d for d in shown.differences if d.name == "loss")
    assert (loss.before, loss.after) == shown.losses
    for d in shown.differences:
        now, then = (np.asarray(m.value(d.name, d.t)) for m in (shown.now, shown.then))
        change = np.abs(then - now)
        assert change[d.index] == change.max() > 0
        assert (d.before, d.after, d.entries) == (now[d.index], then[d.index], np.count_nonzero(change))
    listed = set(names)
    for name in ("az", "z", "r", "h", "y_hat", "dz", "dh_prev"):
        for t in range(4):
            changes = not np.array_equal(shown.now.value(name, t), shown.then.value(name, t))
            assert ((name, t) in listed) == changes, (name, t)


def test_a_batch_that_does_not_learn_ends_with_its_loss():
    session = Session()
    session.step("phase")
    shown = session.what_if("h", (0, 0), 0.5, 1)
    assert [d.name for d in shown.differences][-2:] == ["term3", "loss"]
    assert shown.then.position.phase == "loss"
    with pytest.raises(TuiGruError, match="dz has not been computed here yet"):
        session.what_if("dz", (0, 0), 0.5, 1)


def test_what_makes_no_sense_is_refused_with_the_cure():
    session = standing()
    session.seek("e1 b2 t2")
    for arguments, message in (
        (("x", (0, 0), 1, 0), "'x' is what goes in"),
        (("loss", (), 1), "no number that can be changed"),
        (("zz", (0, 0), 1), "did you mean"),
        (("z", (0, 0), 0.1, 2), "z has not been computed here yet"),
        (("z", (0, 0), 0.1, 7), "the timestep t must be from 0 to 3, not 7"),
        (("z", (0, 9), 0.1), "shape 2 x 3"),
        (("z", (0, 0), float("nan")), "takes a finite"),
        (("dWz", (0, 0), 0.1), "dWz has not been computed here yet"),
        (("dh_future", (0, 0), 0.1, 3), "has not been computed"),
    ):
        with pytest.raises(TuiGruError, match=message):
            session.what_if(*arguments)
    session.run_to("dh_prev")
    with pytest.raises(TuiGruError, match="nothing comes after it"):
        session.what_if("dh_future", (0, 0), 0.1, 3)
    session.step("op", 2)
    with pytest.raises(TuiGruError, match="still growing"):
        session.what_if("dWz", (0, 0), 0.1)
    session.run_to("Wz")
    with pytest.raises(TuiGruError, match="updated Wz already"):
        session.what_if("Wz", (0, 0), 0.1)
    assert session.what_if("Wr", (0, 0), 0.1).differences


def test_before_an_edit_of_the_batch_it_is_refused_after_it_is_not():
    session = standing()
    session.seek("e1 b2 t2")
    session.edit("Wz", (0, 0), 0.7)
    session.step("batch")
    with pytest.raises(TuiGruError, match="changed in this batch after that line"):
        session.what_if("h", (0, 0), 0.1, 0)
    assert session.what_if("h", (0, 0), 0.1, 2).differences
    session.edit("learning_rate", None, 0.5)
    assert session.what_if("h", (0, 0), 0.1, 2).differences


def test_a_what_if_of_another_run_is_not_adopted():
    session = standing()
    shown = session.what_if("z", (0, 0), 0.3, 1)
    session.seek(0)
    session.edit("Wz", slice_all := (0, 0), 3.0)
    session.edit("bz", 0, slice_all[0] + 2.0)
    session.step("batch", 2)
    with pytest.raises(TuiGruError, match="ask again"):
        session.adopt(shown)


@pytest.mark.parametrize("name", ["z", "logits", "y_hat", "dz", "dh_prev"])
def test_an_edit_of_a_value_is_made_just_after_its_line_and_nowhere_else(name):
    session = standing()
    session.seek(session.program.ticks + offset_of(session.program, name, 1))
    before = bits(session.value(name))
    session.step("op")
    with pytest.raises(TuiGruError, match="just after its line"):
        session.edit(name, (0, 0), 0.25)
    session.step("op", -1)
    session.edit(name, (0, 0), 0.25)
    assert session.value(name)[0, 0] == np.float32(0.25)
    assert name in session.snapshot().changed
    assert session.branch == "main~1"
    session.undo()
    assert bits(session.value(name)) == before


def test_a_gradient_is_edited_at_the_end_of_the_backward_pass():
    session = standing(carry="notebook")
    with pytest.raises(TuiGruError, match="shape"):
        session.edit("dUh", (0, 9), 0.25)
    session.edit("dUh", (0, 1), 0.25)
    before = session.parameter("Uh")[0, 1]
    session.step("batch")
    assert session.gradient("Uh")[0, 1] == np.float32(0.25)
    assert session.parameter("Uh")[0, 1] == np.float32(before - np.float32(0.25) * np.float32(0.3))
    session.seek("e1 b2 t2")
    with pytest.raises(TuiGruError, match="not been computed"):
        session.edit("dUh", (0, 1), 0.25)


@pytest.mark.parametrize("options", WAYS, ids=lambda o: "-".join(o.values()))
def test_what_was_adopted_survives(options, tmp_path):
    session = standing(**options)
    for name, t, value in (("y_hat", 1, 0.75), ("term2", 2, -3.0), ("dh_update", 2, 0.5), ("dUh", None, 0.25), ("r", 0, 0.125)):
        index = (1, 2) if name in ("y_hat", "dUh", "dh_update", "r") else (1,)
        session.adopt(session.what_if(name, index, value, t))
        session.step("batch", 3)
        session.save(tmp_path / "walk.tui-gru")
        again = Session.open(tmp_path / "walk.tui-gru")
        assert_same(session, again)
        for each in (session, again):
            each.step("batch", -3)
            each.step("op", 5)
        assert_same(session, again)
        session.switch("main")
        session.seek(session.program.ticks + session.program.backward_end)
