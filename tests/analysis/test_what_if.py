"""What-if: the result equals that of the listing, unaffected numbers keep their bits, and the session is unchanged."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from tests.debugger import models
from tests.debugger.plain import Plain, evaluated
from tests.extent import examples
from tests.session.acting import assert_same, bits, pack_record, portrait
from tui_gru import Session, TuiGruError
from tui_gru.analysis.losses import without_each_unit
from tui_gru.analysis.units import can_be_silent, read_silenced
from tui_gru.debugger.edits import changeable, offset_of
from tui_gru.debugger.position import Reader
from tui_gru.debugger.program import ValueKind
from tui_gru.engine.model import Structure, model_of
from tui_gru.equations.page import names_of, of_all_units

FEW = models.parametrize("gru", "gru after, reset", "gru after, notebook, adam", "lstm", "both ways", argument="options")
SIZES = {"text": "the cat sat on the mat; the rat sat on", "hidden_size": 3, "batch_size": 2, "seq_length": 4, **models.SGD}


def standing(batch=1, **options):
    """Return a session at the end of a batch, so that everything in it can be asked for."""
    session = Session(**{"learning_rate": 0.3, **(options or SIZES)})
    session.learning = True
    session.step("batch", batch + 2)
    session.seek((batch + 1) * session.program.ticks)
    return session


def askable(session):
    """Yield every (name, timestep, index of its last entry) of the batch."""
    program, T = session.program, session.config.seq_length
    page, snapshot = program.model.page, session.snapshot()
    edges = {(page.received(state), 0 if page.states[state].backwards else T - 1) for state in page.states}
    for name in changeable(program):
        for t in (None,) if program.names[name].kind.per_batch else range(T):
            if (name, t) not in edges:
                yield name, t, tuple(size - 1 for size in np.shape(snapshot.value(name, t)))


def some(session, count, seed=0):
    """Return a random sample of them, with at least one number of each kind."""
    every, seen = list(askable(session)), set()
    random.Random(seed).shuffle(every)
    kinds = [session.program.names[name].kind for name, _, _ in every]
    first = [each for each, kind in zip(every, kinds, strict=True) if kind not in seen and not seen.add(kind)]
    return list(dict.fromkeys((*first, *every)))[:count]


@FEW
def test_the_same_number_changes_nothing_and_the_run_is_untouched(options):
    session = standing(**options)
    before = portrait(session)
    for name, t, index in some(session, examples(14, soak=200)):
        same = session.what_if(name, index, np.asarray(session.snapshot().value(name, t))[index], t)
        if session.program.names[name].kind not in (
            ValueKind.PARAMETER,
            ValueKind.OPTIMIZER_STATE,
        ):  # asked for with their values before the update
            assert same.differences == (), (name, t)
            assert pack_record(same.then.record) == pack_record(same.now.record)
        other = session.what_if(name, index, 0.3, t)
        assert other.differences, (name, t)
        assert session.what_if(name, index, other.was, t).differences == (), (name, t)
    assert portrait(session) == before


@models.parametrize(*(name for name, model in models.MODELS.items() if model.get("carry") != "notebook"))
def test_the_rest_of_the_batch_is_as_the_listing_says(model):
    session = standing(**{**model, "dtype": "float64"})
    for name, t, index in some(session, examples(14, soak=200)):
        plain = Plain(session.config, session.snapshot().record)
        plain.replace(name, t, index, 0.4)
        then = session.what_if(name, index, 0.4, t).then
        for each in session.program.readable:
            if each in plain.memory:
                ours = [then.value(each, t) for t in range(session.config.seq_length)] if plain.is_timed(each) else then.value(each)
                np.testing.assert_allclose(ours, plain.memory[each], rtol=1e-9, atol=1e-12, err_msg=f"{each}: {name} {t}")


@FEW
def test_what_is_adopted_is_what_was_shown(options):
    session = standing(**options)
    here = session.position
    for name, t, index in some(session, examples(18, soak=200)):
        shown = session.what_if(name, index, 0.3, t)
        if name == "h_prev" and t == 0 and session.config.carry == "reset":
            continue
        session.adopt(shown)
        assert session.branch == "main~1", (name, t)
        session.seek(shown.now.position)
        assert pack_record(session.snapshot().record) == pack_record(shown.then.record), (name, t)
        session.undo()
        session.switch("main")
        session.seek(here)
        assert session.branches == ("main",)


def test_what_no_timestep_of_the_run_has_left_is_not_adopted():
    session = standing(carry="reset")
    with pytest.raises(TuiGruError, match="begins with h = 0"):
        session.adopt(session.what_if("h_prev", (0, 0), 0.3, 0))
    cell = "reads x\nstate s : H backwards\nparameters W U\ns = tanh(x W + s_next U)"
    session = standing(cell="backwards.cell", cell_text=cell)
    with pytest.raises(TuiGruError, match="begins with s of the batch before"):
        session.adopt(session.what_if("s_next", (0, 0), 0.3, 2))
    session.adopt(session.what_if("s_next", (0, 0), 0.3, 1))
    assert session.branch == "main~1"


BACKWARDS = {"cell": "backwards.cell", "cell_text": "reads x\nstate s : H backwards\nparameters W U\ns = tanh(x W + s_next U)"}
#: The first state of a batch that no edit can set, by model, batch and (name, timestep), and the reason.
NOT_ADOPTED = {
    ("gru after, reset", 1): {("h_prev", 0): "begins with h = 0, which the run does not compute; change h after a timestep"},
    ("backwards", 0): {("s_next", 2): "begins with s = 0, which the run does not compute; change s after a timestep"},
    ("backwards", 1): {("s_next", 2): "begins with s of the batch before; change s after a timestep"},
}


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("name", ["gru", "gru after, reset", "both ways", "backwards"])
def test_what_a_timestep_reads_of_another_is_adopted_wherever_it_comes_from(name, batch):
    """From the batch before, from another timestep of either direction, or from the beginning of the second direction."""
    session = standing(batch, **(BACKWARDS if name == "backwards" else models.MODELS[name]))
    page, here, refused = session.program.model.page, session.position, {}
    read = {page.before(state) for state in page.states} | {page.received(state) for state in page.states}
    for each, t, index in askable(session):
        if each not in read:
            continue
        shown = session.what_if(each, index, 0.3, t)
        try:
            session.adopt(shown)
        except TuiGruError as error:
            refused[each, t] = str(error)
            continue
        session.seek(shown.now.position)
        assert pack_record(session.snapshot().record) == pack_record(shown.then.record), (each, t)
        session.undo()
        session.switch("main")
        session.seek(here)
    expected = NOT_ADOPTED.get((name, batch), {})
    assert refused == {place: f"this batch {reason} instead" for place, reason in expected.items()}


def test_a_gradient_that_the_first_line_of_a_timestep_reads_is_changed_before_that():
    """The backward pass of the second direction begins with `dh = … + dh→`."""
    session = standing(**models.MODELS["both ways"])
    begin, program = session.program.ticks, session.program
    name, handed_on = "dh_past_l0_reverse", "dh_next_l0_reverse"
    shown = session.what_if(name, (0, 1), 0.25, 1)
    assert "dh_l0_reverse" in {d.name for d in shown.differences}
    session.seek(begin + program.readable_from(name, 1))
    with pytest.raises(TuiGruError, match="just after its line"):
        session.edit(name, (0, 1), 0.25)
    session.adopt(shown)
    assert session.position.tick == begin + program.tick_of(handed_on, 0)
    assert session.value(handed_on)[0, 1] == np.float32(0.25)


def test_a_probability_that_is_changed_changes_the_loss():
    session = standing()
    y = int(session.snapshot().value("y", 1)[0].argmax())
    shown = session.what_if("y_hat", (0, y), 0.999, 1)
    changed = [(d.name, d.t) for d in shown.differences]
    assert changed[:5] == [("y_hat", 1), ("log_p", 1), ("term1", 1), ("term2", 1), ("term3", 1)]
    assert ("loss", None) in changed
    assert shown.then.value("log_p", 1)[0, y] == np.log(np.float32(0.999))


OF_A_STATE = """\
reads x
state s : H
parameters W
a = x W
s = relu(s_prev) + a
b = relu(s) ⊙ a
"""


def test_what_is_read_of_a_state_is_read_again_after_it_was_changed():
    """relu(s) is needed in the forward and in the backward pass; each line must use the value at its time."""
    session = Session(cell="twice.cell", cell_text=OF_A_STATE, hidden_size=3, seq_length=3)
    session.learning = True
    session.step("batch")
    t = 1
    shown = session.what_if("s_prev", (0, 0), -4.0, t + 1)  # s of timestep t, after b was computed from it
    assert shown.then.value("ds", t)[0, 0] != shown.now.value("ds", t)[0, 0]
    session.adopt(shown)
    session.step("batch")
    s, db = (session.snapshot().value(name, t)[0, 0] for name in ("s", "db"))
    assert s == -4
    assert session.snapshot().value("da", t)[0, 0] == pytest.approx(db * max(s, 0) + session.snapshot().value("ds", t)[0, 0])


def test_the_differences_say_where_and_how_much():
    session = standing(**SIZES, dtype="float64")
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
        (("x", (0, 0), 1, 0), "'x' is an input and cannot be changed"),
        (("loss", (), 1), "not a number that can be changed"),
        (("learning_rate", (), 1), "learning_rate is a setting of the update rule and changes nothing before the update; use set"),
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
    with pytest.raises(TuiGruError, match="not complete yet"):
        session.what_if("dWz", (0, 0), 0.1)


@FEW
def test_a_weight_is_asked_about_as_it_was_before_the_update_of_its_batch(options):
    session = standing(**options)
    session.seek(session.program.ticks + session.program.loss_tick)
    name, index = ("Wy", (0, 0))
    before = session.what_if(name, index, 0.1)
    for level in ("op", "batch"):
        session.run_to(name) if level == "op" else session.step(level)
        assert session.parameter(name)[index] != before.was
        after = session.what_if(name, index, 0.1)
        assert (after.was, after.tick, after.losses) == (before.was, before.tick, before.losses)
        assert after.differences == before.differences
    session.adopt(after)
    session.step("batch")
    assert session.loss == after.losses[1]


def test_before_an_edit_of_the_batch_it_is_refused_after_it_is_not():
    session = standing()
    session.seek("e1 b2 t2")
    session.edit("Wz", (0, 0), 0.7)
    session.step("batch")
    with pytest.raises(TuiGruError, match="edited in this batch after that line"):
        session.what_if("h", (0, 0), 0.1, 0)
    assert session.what_if("h", (0, 0), 0.1, 2).differences
    session.edit("learning_rate", None, 0.5)
    assert session.what_if("h", (0, 0), 0.1, 2).differences


def test_before_an_edit_of_the_text_it_is_computed_with_the_edited_text():
    """Only an edited number keeps what is computed after it from following from the numbers before."""
    session = standing(**{**SIZES, "dtype": "float64"})
    place, was = session.snapshot().corpus.position_in_text(1, 3, 0), session.value("char", t=3)[0]
    session.seek("e1 b2 t2")
    session.edit("text", place, next(char for char in session.config.vocabulary if char != was))
    session.step("batch")
    assert session.value("char", t=3)[0] != was
    plain = Plain(session.config, session.snapshot().record)
    plain.replace("h", 0, (0, 0), 0.1)
    then = session.what_if("h", (0, 0), 0.1, 0).then
    for name in ("h", "y_hat", "loss", "dh_prev", "dUh"):
        ours = [then.value(name, t) for t in range(4)] if plain.is_timed(name) else then.value(name)
        np.testing.assert_allclose(ours, plain.memory[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_what_if_of_another_run_is_not_adopted():
    session = standing()
    shown = session.what_if("z", (0, 0), 0.3, 1)
    session.seek(0)
    session.edit("Wz", slice_all := (0, 0), 3.0)
    session.edit("bz", 0, slice_all[0] + 2.0)
    session.step("batch", 2)
    with pytest.raises(TuiGruError, match="compute it again"):
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
    session = standing(**SIZES, carry="notebook")
    session.seek(session.program.ticks + session.program.backward_end)
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


@FEW
def test_what_was_adopted_survives(options, tmp_path):
    session = standing(**options)
    for name, t, index in some(session, 8, seed=1):
        session.adopt(session.what_if(name, index, 0.125, t))
        session.step("batch", 3)
        session.save(tmp_path / "walk.tui-gru")
        again = Session.open(tmp_path / "walk.tui-gru")
        assert_same(session, again)
        for each in (session, again):
            each.step("batch", -3)
            each.step("op", 5)
        assert_same(session, again)
        session.switch("main")
        session.seek(2 * session.program.ticks)


@FEW
def test_the_prediction_shown_is_the_one_whose_target_changes_most(options):
    session = standing(**options)
    program, snapshot = session.program, session.snapshot()
    name = program.loss_names.prediction
    for each, t, index in some(session, examples(8, soak=60)):
        shown = session.what_if(each, index, 0.3, t)
        changes = {
            (row, step): abs(float(shown.then.value(name, step)[row, target]) - float(shown.now.value(name, step)[row, target]))
            for step in range(program.seq_length)
            for row, char in enumerate(snapshot.value("target", step))
            for target in [program.config.vocabulary.index(char)]
        }
        most, found = max(changes.values()), shown.prediction
        assert (found is None) == (most == 0)
        if found is not None:
            assert changes[found.row, found.t] == most
            np.testing.assert_array_equal(found.after, shown.then.value(name, found.t)[found.row])
            np.testing.assert_array_equal(found.before, shown.now.value(name, found.t)[found.row])
            assert program.config.vocabulary[found.target] == snapshot.value("target", found.t)[found.row]


def test_what_changes_most_comes_first_and_each_name_once():
    shown = standing().what_if("Wz", (0, 0), 3.0)
    most = shown.most_changed
    assert [each.size for each in most] == sorted((each.size for each in most), reverse=True)
    assert {each.name for each in most} == {each.name for each in shown.differences}
    assert len(most) == len({each.name for each in most})
    assert most[0].size == max(each.size for each in shown.differences)


@pytest.mark.parametrize(
    ("was", "value", "more", "less"),
    [
        (0.4342, 0.5, 0.52, 0.48),
        (0.0, 0.0, 0.02, -0.02),
        (3.0, -2.0, -1.8, -2.2),
        (1e-5, 1e-5, 1.2e-5, 0.8e-5),
        (1e9, 0, 2e8, -2e8),
    ],
)
def test_a_step_is_a_round_part_of_the_number(was, value, more, less):
    shown = replace(standing().what_if("z", (0, 0), 0.5, 1), was=was, value=value)
    assert shown.nudged(1) == pytest.approx(more)
    assert shown.nudged(-1) == pytest.approx(less)
    assert shown.nudged(5) - value == pytest.approx(5 * (more - value))


# A unit held at 0


def held_loss(session, weights, record, mask):
    """The loss of a batch by torch, by the equations of the GRU with the reset gate before the product, and h ⊙ mask."""
    torch = pytest.importorskip("torch")
    p = {name: torch.tensor(np.array(array), requires_grad=True) for name, array in weights.items()}
    h = torch.tensor(record.border("h", end=False) * mask)
    x, y = (torch.tensor(record.array(name).copy()) for name in ("x", "y"))
    terms = []
    for t in range(len(x)):
        z = torch.sigmoid(x[t] @ p["Wz"] + h @ p["Uz"] + p["bz"])
        r = torch.sigmoid(x[t] @ p["Wr"] + h @ p["Ur"] + p["br"])
        new = torch.tanh(x[t] @ p["Wh"] + (r * h) @ p["Uh"] + p["bh"])
        h = (z * h + (1 - z) * new) * torch.tensor(mask)
        terms.append(-(torch.log_softmax(h @ p["Wy"] + p["by"], -1) * y[t]).sum(-1))
    loss = torch.stack(terms).mean()
    loss.backward()
    return loss.item(), {name: each.grad.numpy() for name, each in p.items()}


def test_a_silenced_unit_is_that_of_a_model_in_which_it_is_0():
    unit, session = 1, standing(**SIZES, dtype="float64")
    before, rate = portrait(session), session.learning_rate
    mask = 1.0 - np.eye(3)[unit]
    record = session.snapshot().record
    whole, _ = held_loss(session, record.before, record, np.ones(3))
    loss, gradients = held_loss(session, record.before, record, mask)
    assert session.loss == pytest.approx(whole, abs=1e-12)
    session.silence("h", unit)
    snapshot = session.snapshot()
    assert session.loss == snapshot.value("loss") == pytest.approx(loss, abs=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(session.gradient(name), gradient, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(snapshot.parameter(name), record.before[name] - rate * gradient, atol=1e-12, err_msg=name)
    for t in range(session.config.seq_length):
        for name in ("h", "h_prev"):
            assert (snapshot.value(name, t)[:, unit] == 0).all()
            assert (np.delete(snapshot.value(name, t), unit, axis=1) != 0).all()
    session.silence()
    assert portrait(session) == before


def test_a_silenced_unit_is_followed_through_the_steps_of_a_batch():
    session = Session(**SIZES)
    session.learning = True
    session.silence("h", 1)
    for batch in range(3):
        assert session.snapshot().position == session.position
        assert (session.position.number, session.loss, session.gradient("Wy")) == (batch, None, None)
        session.step("timestep")
        assert session.value("h", 0) is not None
        session.seek((batch + 1) * session.program.ticks)  # the end of the batch
        assert session.loss is not None
        assert session.gradient("Wy") is not None
        session.step("op")


def test_texts_are_read_without_the_silenced_unit():
    session = standing(**SIZES)
    config, weights, text = session.config, session.snapshot().moment.weights, session.config.text
    found = read_silenced(config, weights, text, ["h"], "h", np.array([[False, True, False]]))
    _, without = without_each_unit(session.program, weights, text, "h")
    session.silence("h", 1)
    assert np.array_equal(session.units().values, found["h"][0])
    assert session.losses(text=text).mean == pytest.approx(without[1], abs=1e-6)
    row = session.units(row=1)
    assert (row.values[:, 1] == 0).all()
    assert np.array_equal(row.values, np.stack([session.value("h", t)[1] for t in range(config.seq_length)]))


def test_what_is_of_the_run_is_refused_while_a_unit_is_silenced():
    session = standing(**SIZES)
    session.silence("h", 1)
    for ask in (
        session.influence,
        session.memory,
        lambda: session.units(without=True),
        lambda: session.sample("th", 3),
    ):
        with pytest.raises(TuiGruError, match=r"h\[unit 2\] is held at 0, and .* of the model with all units; end that first"):
            ask()


def with_a_unit_at_0(model):
    """Yield a session with the last unit of the state at 0, and one with that of another value."""
    for gate in (False, True):
        session = standing(**{**model, "dtype": "float64"})
        config = session.config
        own = next(name for name, axes in config.model.axes.items() if can_be_silent(config.model, name) and axes[-1] == "H")
        session.silence(own if gate else "", config.hidden_size - 1)
        yield session


class PlainWithout(Plain):
    """Computes a batch with a unit at 0: the result of its line is 0 there, and its gradient is not read."""

    def __init__(self, session):
        super().__init__(session.config, session.snapshot().record)
        self.silent = session.silent

    def put(self, name, t, value, index=...):
        super().put(name, t, self._held(name, self.silent.name, value) if index is ... else value, index)

    def read(self, name, t):
        return self._held(name, f"d{self.silent.name}", super().read(name, t))

    def _held(self, name, own, value):
        return value * (np.arange(np.shape(value)[-1]) != self.silent.unit) if name == own else value


@models.parametrize("lstm", "both ways", "own cell", "layer norm")
def test_with_a_unit_at_0_the_rest_of_the_batch_is_as_the_listing_says(model):
    for session in with_a_unit_at_0(model):
        before = portrait(session)
        for name, t, index in some(session, examples(14, soak=200)):
            plain = PlainWithout(session)
            plain.replace(name, t, index, 0.4)
            what = session.what_if(name, index, 0.4, t)
            assert what.silent == session.silent
            for each in session.program.readable:
                if each in plain.memory:
                    timesteps = range(session.config.seq_length) if plain.is_timed(each) else [None]
                    ours = np.stack([what.then.value(each, t) for t in timesteps])
                    theirs = plain.memory[each].reshape(ours.shape)
                    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=f"{each}: {name} {t}")
            same = session.what_if(name, index, what.was, t)
            if not session.program.names[name].kind.is_weight:  # asked for with its value before the update
                assert same.differences == (), (name, t)
                assert pack_record(same.then.record) == pack_record(same.now.record)
        assert portrait(session) == before


def test_a_what_if_with_a_unit_at_0_equals_the_batch_that_begins_with_the_weight():
    session = standing(**SIZES)
    session.silence("h", 1)
    shown = session.what_if("Wz", (0, 0), 1.0)
    with pytest.raises(TuiGruError, match=r"h\[unit 2\] is held at 0 in this what-if, and not in the run; end that first"):
        session.adopt(shown)
    assert session.branches == ("main",)
    session.silence()
    session.seek(session.position.number * session.program.ticks)
    session.edit("Wz", (0, 0), 1.0)
    session.step("batch")
    session.silence("h", 1)
    assert pack_record(session.snapshot().record) == pack_record(shown.then.record)


def test_a_derivation_says_where_a_unit_is_held_at_0():
    session = standing(**SIZES, dtype="float64")
    whole = session.explain("h", (1, 1), t=1)
    session.silence("h", 1)
    node = session.explain("h", (1, 1), t=1)
    zero, line = node.terms
    assert (zero.value, zero.derivation.note) == (0.0, "h[row 2, unit 2] is held at 0 in all panels")
    assert line.value != 0
    assert [term.label for term in line.terms] == [term.label for term in whole.terms]
    assert session.explain("h_prev", (1, 1), t=0).derivation.note == "h[row 2, unit 2] is held at 0, before the first timestep too"
    (first, *_) = session.explain("dz", (1, 1), t=1).terms
    assert (first.label, first.value) == ("dh[row 2, unit 2] through 0", 0.0)
    assert first.derivation.note == "h[row 2, unit 2] is held at 0, so nothing goes back through it"
    assert session.value("dh", t=1)[1, 1] != 0
    session.silence()
    assert session.explain("h", (1, 1), t=1).value == whole.value


def test_the_check_of_a_unit_at_0_is_refused_where_the_gradient_goes_into_earlier_batches():
    session = Session(**models.MODELS["gru notebook"])
    session.learning = False
    session.step("batch", 2)
    session.silence("h", 0)
    with pytest.raises(TuiGruError, match="a check is of the model with all units"):
        session.check()


def test_units_that_cannot_be_silenced_are_refused():
    session = standing(**SIZES)
    for name, unit, why in (
        ("Wz", 0, "Wz has no units of the network that can be held at 0; z, r, h_tilde, h have"),
        *((name, 0, f"{name} has no units") for name in ("logits", "y_hat", "term1", "x", "az")),
        ("hh", 0, "no value named 'hh'"),
        ("h", 3, "the unit must be from 0 to 2, not 3"),
    ):
        with pytest.raises(TuiGruError, match=why):
            session.silence(name, unit)
    assert session.silent is None
    notebook = standing(**models.MODELS["gru notebook"])
    with pytest.raises(TuiGruError, match="with carry notebook the gradient goes into earlier batches"):
        notebook.silence("h", 0)
    assert notebook.silent is None


def test_units_whose_gradient_needs_the_result_are_refused():
    for function in ("softmax", "sqrt"):
        cell = f"state h : H\nparameters W U\na = {function}(x W)\nh = tanh(a + h_prev U)"
        session = standing(**SIZES, cell="own.cell", cell_text=cell)
        with pytest.raises(TuiGruError, match=f"units of a cannot be held at 0: the gradient of {function} is computed from its"):
            session.silence("a", 0)
        session.silence("h", 0)


UNLABELLED = """state h : H
parameters Wf Wg Uf bf bg
f = σ(x Wf + h_prev Uf + bf)
g = tanh(x Wg + bg)
h = f ⊙ h_prev + (1 − f) ⊙ g
"""
#: Sizes of models, all with two layers or directions.
STACKS = [{"layers": 2}, {"bidirectional": True}, {"layers": 2, "bidirectional": True}]


@pytest.mark.parametrize("cell", ["own", *names_of("cell")])
def test_the_backward_pass_without_a_unit_has_all_names_of_that_with_it(cell):
    """Of every line whose units can be held at 0, in each cell, layer and direction."""
    own = {"cell": "own.cell", "cell_text": UNLABELLED} if cell == "own" else {"cell": cell}
    for options in ({}, {"bidirectional": True, "layers": 2, "loss": "", "lengths": True}):
        model = model_of(Structure(**own, **options))
        for name in (line.target for line in model.page.lines if can_be_silent(model, line.target)):
            without = model_of(replace(model.structure, silent=name)).backward
            assert {line.target for line in model.backward.deltas} <= {line.target for line in without.deltas}, name
            for path, reading in model.backward.paths.items():
                at = without.paths[path]
                assert (at.name, at.nth) == (reading.name, reading.nth), (name, path)
                assert at.step == (of_all_units(name) if reading.step == name else reading.step), (name, path)


@pytest.mark.parametrize("options", [{}, *STACKS], ids=str)
def test_every_line_of_a_cell_without_labels_can_be_silenced(options):
    session = standing(**SIZES, cell="own.cell", cell_text=UNLABELLED, **options)
    model = session.program.model
    for name in (line.target for line in model.page.lines if can_be_silent(model, line.target)):
        session.silence(name, 1)
        for t in range(SIZES["seq_length"]):
            assert (session.value(name, t)[:, 1] == 0).all()
        assert np.isfinite(session.loss)


def test_a_silenced_unit_stays_silent_from_batch_to_batch_and_ends_where_the_batch_was_edited():
    session = standing(**SIZES)
    session.silence("h", 0)
    session.step("batch")
    assert (session.value("h")[:, 0] == 0).all()
    assert (session.snapshot().value("h")[:, 0] == 0).all()
    session.step("timestep")
    session.edit("h", (0, 1), 0.5)
    snapshot = session.snapshot()
    assert snapshot.silent is session.silent is None
    assert snapshot.value("h")[0, 1] == 0.5
    assert "h[unit 1] is no longer held at 0: a number was edited in this batch" in session.notice


def test_after_a_step_with_a_silenced_unit_everything_shown_is_of_the_new_batch():
    """Values, gradients, weights and the snapshot are those of a session that was silenced only there."""
    session, fresh = standing(**SIZES), standing(**SIZES)
    session.silence("h", 1)
    before = session.value("h").copy()
    session.step("batch")
    fresh.step("batch")
    fresh.silence("h", 1)
    assert not np.array_equal(session.value("h"), before)
    assert session.loss == fresh.loss
    assert pack_record(session.snapshot().record) == pack_record(fresh.snapshot().record)
    for name in ("h", "y_hat", "dz"):
        assert np.array_equal(session.value(name), fresh.value(name)), name
    assert session.explain("loss").value == fresh.explain("loss").value == session.loss


def test_a_number_that_was_computed_just_before_an_edit_can_be_asked_about_from_there():
    """An edit at the very place of the number leaves what follows from it; the line before the edit is refused."""
    session = standing()
    session.seek("e1 b2 t2")
    session.run_to("z")
    t = session.position.t
    session.edit("z", (0, 0), 0.7)
    with pytest.raises(TuiGruError, match="edited in this batch after that line"):
        session.what_if("h", (0, 0), 0.1, t - 1)
    session.step("batch")
    assert session.what_if("z", (0, 0), 0.1, t).differences
    with pytest.raises(TuiGruError, match="edited in this batch after that line"):
        session.what_if("h", (0, 0), 0.1, t - 1)


#: The gradient of v reads c + x V, which is not computed again, and that of w reads c.
STORED = """\
reads x
state c : H
state h : H
parameters W V U Uh
c = tanh(x W + c_prev U)
v = σ(x W + h_prev Uh)
w = σ(x V)
h = tanh(v ⊙ (c + x V) + w ⊙ c)
"""


def read_elsewhere(session, shown):
    """Return the lines of the other timestep that read the changed number, by what they have computed.

    Every line of that timestep is evaluated with the number as it was and as it would be, from the numbers of the batch that is
    shown; one of both is what it has computed.
    """
    program, record = session.program, shown.then.record
    page = program.model.page
    state = next(state for state in page.states if page.before(state) == shown.name)
    there, plain = shown.t - program.direction_of(state), Plain(session.config, record)
    was = plain.memory[state].copy()
    was[there][shown.index] = shown.was

    def value(line, t, *, before):
        return evaluated(
            line.formula, lambda name: was[t] if name == state and before and t == there else plain.read(name, t), plain.sizes
        )

    readers = set()
    for block in program.blocks:
        for line in block.lines if block.direction else ():
            if state not in line.reads:
                continue
            if line.op == "+=":
                rest = sum(value(line, t, before=False) for t in range(program.seq_length) if t != there)
                ours = record.gradients[line.target[1:]]
            else:
                ours, rest = record.array(line.target)[there], 0.0
            versions = [rest + value(line, there, before=each) for each in (True, False)]
            agree = [np.allclose(ours, np.reshape(each, np.shape(ours)), rtol=1e-10, atol=1e-13) for each in versions]
            assert agree.count(True) == 1, line.text
            readers |= {line.target} if agree[1] else set()
    return readers


@pytest.mark.parametrize(
    "options",
    [
        *({"cell": cell} for cell in ("gru", "gru-reset-after", "lstm", "rnn", "mgu")),
        {"bidirectional": True},
        {"layers": 2},
        {"cell": "twice.cell", "cell_text": OF_A_STATE},
        {"cell": "stored.cell", "cell_text": STORED},
    ],
    ids=lambda options: "-".join(map(str, options.values()))[:20],
)
def test_what_else_reads_the_number_that_a_timestep_reads_of_another_is_named(options):
    """hₜ₋₁ at t 3 is h at t 2: what is computed from h there after the change reads it too, and nothing else."""
    session = standing(**{**SIZES, "hidden_size": 2, **options, "dtype": "float64"})
    page = session.program.model.page
    for state in page.states:
        name, way = page.before(state), session.program.direction_of(state)
        shown = session.what_if(name, (1, 0), 0.35, 2)
        assert set(shown.also_read_by) == read_elsewhere(session, shown), name
        written = session.program.writer.name
        beginning = f"{written(name)} at t 3 and {written(state)} at t {3 - way} are one number: "
        assert shown.remark.startswith(beginning if shown.also_read_by else "")
        assert bool(shown.remark) == bool(shown.also_read_by)
        assert all(written(each) in shown.remark for each in shown.also_read_by)
        at_border = session.what_if(name, (1, 0), 0.35, 0 if way > 0 else session.config.seq_length - 1)
        assert (at_border.also_read_by, at_border.remark) == ((), "")
        of_state = session.what_if(state, (1, 0), 0.35, 1)
        assert (of_state.also_read_by, of_state.remark) == ((), "")


def test_beside_what_is_named_only_what_reads_the_state_at_its_timestep_changes():
    """Compared with autograd of a GRU in which only timestep 3 reads the other number."""
    torch = pytest.importorskip("torch")
    session, t, index, value = standing(**SIZES, dtype="float64"), 2, (1, 0), 0.35
    shown = session.what_if("h_prev", index, value, t)
    assert shown.also_read_by == ("dWy",)
    record, p = shown.now.record, {}
    for name in session.parameter_names:
        p[name] = torch.tensor(np.array(record.before[name]), requires_grad=True)
    h, states, logits, terms = torch.tensor(record.border("h", end=False)), [], [], []
    x, y = (torch.tensor(record.array(name).copy()) for name in ("x", "y"))
    for step in range(len(x)):
        read = h
        if step == t:
            offset = torch.zeros_like(h)
            offset[index] = value - h[index].item()
            read = h + offset
        z = torch.sigmoid(x[step] @ p["Wz"] + read @ p["Uz"] + p["bz"])
        r = torch.sigmoid(x[step] @ p["Wr"] + read @ p["Ur"] + p["br"])
        h = z * read + (1 - z) * torch.tanh(x[step] @ p["Wh"] + (r * read) @ p["Uh"] + p["bh"])
        logits.append(h @ p["Wy"] + p["by"])
        logits[-1].retain_grad()
        states.append(h)
        terms.append(-(torch.log_softmax(logits[-1], -1) * y[step]).sum(-1))
    loss = torch.stack(terms).mean()
    loss.backward()
    then = shown.then.record
    assert then.loss == pytest.approx(loss.item(), abs=1e-12)
    for step, state in enumerate(states):
        if step != t - 1:  # which is shown as the number that is read
            np.testing.assert_allclose(then.array("h")[step], state.detach().numpy(), atol=1e-12)
    for name, parameter in p.items():
        theirs = parameter.grad.numpy().copy()
        if name == "Wy":
            assert not np.allclose(then.gradients[name], theirs, atol=1e-9)
            theirs[index[1]] += (value - shown.was) * logits[t - 1].grad[index[0]].numpy()
        np.testing.assert_allclose(then.gradients[name], theirs, atol=1e-12, err_msg=name)


OVERFLOWING = """\
reads x
state h : H
parameters W U V(V H)
a = exp(x V)
h = tanh(x W + h_prev U + 0.1 ⊙ a)
"""


def test_a_unit_that_is_not_finite_is_held_at_0_too():
    """0 times inf is no number, so without the unit of `a` that is inf, and of `h` that is then NaN, the loss was NaN."""
    unit, session = 1, standing(**{**SIZES, "cell": "overflowing.cell", "cell_text": OVERFLOWING, "dtype": "float64"})
    session.seek(session.program.ticks)
    for row in range(session.config.sizes["V"]):
        session.edit("V", (row, unit), 1e30)
    session.step("batch")
    assert np.isposinf(session.value("a")[:, unit]).all()
    assert not np.isfinite([session.gradient("V")[:, unit]]).all()
    session.silence("a", unit)
    assert (session.value("a")[:, unit] == 0).all()
    record, mask = session.snapshot().record, 1.0 - np.eye(3)[unit]
    torch = pytest.importorskip("torch")
    p = {name: torch.tensor(np.array(record.before[name]), requires_grad=True) for name in session.parameter_names}
    h, terms = torch.tensor(record.border("h", end=False)), []
    for x, y in zip(*(torch.tensor(record.array(name).copy()) for name in ("x", "y")), strict=True):
        a = torch.exp(torch.where(torch.tensor(mask) > 0, x @ p["V"], 0)) * torch.tensor(mask)
        h = torch.tanh(x @ p["W"] + h @ p["U"] + 0.1 * a)
        terms.append(-(torch.log_softmax(h @ p["Wy"] + p["by"], -1) * y).sum(-1))
    loss = torch.stack(terms).mean()
    loss.backward()
    assert session.loss == pytest.approx(loss.item(), abs=1e-12)
    for name, parameter in p.items():
        np.testing.assert_allclose(session.gradient(name), parameter.grad.numpy(), atol=1e-12, err_msg=name)
    found = read_silenced(
        session.config, record.before, session.config.text, ["a", "h"], "a", np.eye(3, dtype=bool)[unit : unit + 1]
    )
    assert (found["a"][0, :, unit] == 0).all()
    assert np.isfinite(found["h"]).all()


@pytest.mark.parametrize(
    ("name", "index", "typed"),
    [("z", (None, 1), "z[unit 2]"), ("z", (0, None), "z[row 1]"), ("z", None, "z"), ("h", (None, 0), "h[:, 0]")],
)
def test_all_numbers_of_a_unit_a_row_or_a_value_are_others_at_once(name, index, typed):
    """It is what becomes of the batch if they are changed one after the other at their place."""
    session, changed = Session(), Session()
    for each in (session, changed):
        each.learning = True
        each.step("batch")
        each.run_to(name)
    effect = session.what_if(name, index, 0.25)
    shape = np.shape(session.value(name))
    wanted = index or (None,) * len(shape)
    for entry in np.ndindex(*shape):
        if all(i in (None, at) for i, at in zip(wanted, entry, strict=True)):
            changed.edit(name, entry, 0.25)
    assert np.array_equal(np.asarray(effect.then.value(name, 0)), changed.value(name))
    changed.step("batch")
    assert effect.losses == (effect.now.record.loss, changed.loss)
    assert not effect.is_one
    reader = Reader(typed, "z 0")
    assert reader.entries(session.program) == (name, wanted)
    with pytest.raises(TuiGruError, match="of several numbers, and only shows its effect"):
        session.adopt(effect)


@pytest.mark.parametrize(
    ("typed", "message"),
    [("z[unit 9]", "z has the units 1 to 2"), ("z[letter 1]", "an index is|indices"), ("z[unit 1", "an index is a whole number")],
)
def test_a_row_or_unit_that_there_is_not_is_refused(typed, message):
    session = Session()
    session.step("timestep")
    with pytest.raises(TuiGruError, match=message):
        session.what_if(*Reader(typed, "z 0").entries(session.program), 0.0)


def test_a_named_part_of_a_line_is_not_the_equal_part_without_a_name():
    """v⊙v is computed before it has a name in the same line: only what reads the named one may change with it."""
    lines = "parameters U W b\nv = (h_prev ⊙ h_prev) U + σ(h_prev ⊙ h_prev ⊙ (p: h_prev ⊙ h_prev))\nh = tanh(x W + b + v)"
    session = standing(cell_text=f"reads x\nstate h : H\n{lines}", hidden_size=2, dtype="float64")
    was, step = float(session.value("p", 1)[0, 0]), 1e-5
    higher, lower = (session.what_if("p", (0, 0), was + sign * step, 1).losses[1] for sign in (1, -1))
    assert (higher - lower) / (2 * step) == pytest.approx(float(session.value("dp", 1)[0, 0]), rel=1e-5)
