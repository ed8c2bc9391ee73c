"""The behaviour of a session, case by case. Properties for random actions are in test_session_laws."""

import math
import random
import re
import threading
from dataclasses import fields
from unittest.mock import patch

import numpy as np
import pytest

import tui_gru
from tests.debugger import models
from tests.debugger.oracle import Run, assert_shows, everything, same
from tests.debugger.plain import Plain, evaluated
from tests.extent import examples
from tests.session.acting import timeline_of
from tui_gru.debugger import history as record_cache
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import LEVELS
from tui_gru.debugger.state import State
from tui_gru.engine.data import Corpus
from tui_gru.engine.training import Trainer
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.session.snapshot import Snapshot

BOOM = {"learning_rate": 3e38}  # the loss is NaN from the third batch on


def learning(**options):
    session = Session(**options)
    session.learning = True
    return session


def at(session):
    position = session.position
    return position.epoch, position.batch, position.t, position.phase


# The position


def test_the_contract_in_its_own_words():
    s = tui_gru.Session()
    assert s.learning is False
    s.learning = True
    assert s.step("timestep", 3) == s.position
    assert at(s) == (0, 0, 2, "forward")
    assert s.value("z").shape == (2, 2)
    assert not s.value("z").flags.writeable
    assert s.loss is None
    assert s.value("dz") is None
    assert s.gradient("Wz") is None
    assert at(s) < (s.seek("e3 b2 t1").epoch,)
    assert at(s) == (2, 1, 0, "forward")
    s.sgd()
    assert at(s) == (2, 1, 2, "update")
    assert s.loss == pytest.approx(1.26, abs=0.2)
    assert s.run_until("loss < 1.2")
    assert s.loss < 1.2
    assert s.run_back_until("loss > 1.2")
    assert s.loss > 1.2
    assert s.sample("Ma", 10, sampler="fed-back", temperature=1.0, seed=0).startswith("Ma")
    assert len(s.sample("Ma", 10)) == 12
    assert s.branches == ("main",)
    s.edit("Wz", (0, 1), 0.5)
    assert s.branch == "main~1"
    assert s.parameter("Wz")[0, 1] == 0.5
    s.undo()
    s.redo()
    s.switch("main")
    assert s.branches == ("main", "main~1")
    assert s.parameter("Wz")[0, 1] != 0.5


def test_positions_order_and_hash_as_time_does():
    s = learning()
    visited = [s.position] + [s.step("op", 7) for _ in range(40)]
    assert sorted(visited, reverse=True)[::-1] == visited
    assert len({*visited, *[s.seek(position) for position in visited]}) == len(visited)


def test_a_position_serves_in_another_session():
    one, other = learning(), learning()
    there = one.step("op", 250)
    assert other.seek(there) == there
    assert all(same(value, everything(one)[key]) for key, value in everything(other).items())


def test_the_beginning_and_the_end_stop_a_step():
    s = learning(epochs=2)
    for level in LEVELS:
        assert s.step(level, -3).tick == 0
        assert s.step(level).tick > 0
        s.seek(0)
        assert s.step(level, 10**6) == s.end
        assert s.step(level, 1) == s.end
        assert s.step(level, -1) < s.end
        s.seek(0)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("origin", [7, 40, 200, 500])
def test_what_was_cut_short_is_gone_back_whole(level, origin):
    s = learning(epochs=2)
    s.seek(origin)
    assert s.step(level, 10**6) == s.end
    assert s.step(level, -(10**6)).tick == origin
    assert s.step(level, -(10**6)).tick == 0
    assert s.step(level, 10**6).tick == origin
    s.step(level, -(10**6))
    assert s.step(level, 1).tick == Run(s.config, ((0, "learning", True),), batches=6).places(level)[0]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [1000, 10**30])
def test_the_last_of_several_steps_is_gone_back_when_the_end_cut_it_short(tmp_path, level, count):
    s = learning(epochs=2)
    s.seek(7)
    before = s.step(level)
    assert s.step(level, count) == s.end
    s.save(tmp_path / "cut.tui-gru")
    for session in (s, Session.open(tmp_path / "cut.tui-gru")):
        assert session.step(level, -count) == before


def test_a_huge_count_is_only_a_number():
    s = learning()
    s.step("op", 100)
    threading.Timer(0.1, s.interrupt).start()
    stopped = s.step("epoch", 10**9)
    assert stopped == s.position == s.newest
    assert (stopped.phase, stopped.offset) == ("update", s.program.ticks)
    assert s.step("epoch", -(10**9)).tick == 100
    assert s.step("batch", -(10**30)).tick == 0


def test_how_many_batches_a_way_takes():
    s = learning(history_memory=0)
    ticks = s.program.ticks
    assert s.batches_to() >= 1
    assert s.batches_to(1000 * ticks) == 999  # the first is computed when a session begins
    s.seek(1000 * ticks)
    assert s.batches_to(1500 * ticks) == 500
    assert max(s.batches_to(batch * ticks) for batch in range(1000)) > 100  # few checkpoints remain
    assert s.position.tick == 1000 * ticks


def test_sgd_without_end_stops_at_the_end():
    s = learning(epochs=1)
    assert s.sgd(10**30) == s.end
    off = Session(epochs=1)
    off.seek(off.program.ticks * off.program.num_batches)
    assert off.position.phase == "loss"
    assert off.sgd(10**30).phase == "update"


# Being stopped


@pytest.mark.parametrize("where", ["step", "back", "search", "search back"])
def test_ctrl_c_leaves_a_session_whole(where):
    s = learning(history_memory=0)
    s.step("batch", 200)
    before, here, newest = everything(s), s.position, s.newest
    seen = []

    def progress(position):
        seen.append(position)
        if len(seen) > 20:
            raise KeyboardInterrupt

    verbs = {
        "step": lambda: s.step("batch", 10**6, progress=progress),
        "back": lambda: s.step("batch", -20, progress=progress),
        "search": lambda: s.run_until("z[0, 0] > 2", progress=progress),
        "search back": lambda: s.run_back_until("z[0, 0] > 2", progress=progress),
    }
    with pytest.raises(KeyboardInterrupt):
        verbs[where]()
    assert (s.position, s.newest) == (here, newest)
    assert all(same(value, before[key]) for key, value in everything(s).items())
    s.step("batch", 30)
    other = learning()
    other.step("batch", 230)
    assert all(same(value, everything(other)[key]) for key, value in everything(s).items())
    assert same(s.snapshot().losses, other.snapshot().losses)


@pytest.mark.parametrize("verb", ["undo", "switch", "edit"])
def test_ctrl_c_in_a_replay_changes_nothing(verb):
    with patch.multiple(record_cache, MOST=4):
        s = learning(history_memory=0)
    s.step("batch", 300)
    s.edit("Wz", (0, 0), 1.0)
    s.step("batch", 100)
    s.seek(s.program.ticks * 150)
    s.edit("Wz", (0, 0), 2.0)
    s.undo()
    s.redo()
    s.step("batch", 50)
    for batch in (160, 170, 180, 190, 195):  # so that no needed batch is cached
        s.seek(batch * s.program.ticks)
    here, branches, changes = s.position, (s.branch, s.branches), (s.state.branches.done, s.state.branches.undone)

    def breaking(self, *args, **kwargs):
        raise KeyboardInterrupt

    verbs = {"undo": s.undo, "switch": lambda: s.switch("main"), "edit": lambda: s.edit("Wz", (0, 0), 3.0)}
    with patch.multiple(Trainer, run=breaking, resume=breaking), pytest.raises(KeyboardInterrupt):
        verbs[verb]()
    assert (s.position, (s.branch, s.branches), (s.state.branches.done, s.state.branches.undone)) == (here, branches, changes)


def test_an_interrupted_way_back_is_not_gone():
    with patch.multiple(record_cache, MOST=4):
        s = learning(history_memory=0)
    s.step("batch", 200)
    here = s.position
    assert s.step("batch", -20, progress=lambda position: s.interrupt()) == here
    assert s.step("batch", -20).number == here.number - 20


def test_a_loss_that_is_not_finite_stops_the_run_at_its_line():
    s = learning(**BOOM)
    s.stop_on_nan = True
    for what, where in (("the largest weight grew", ("update", 0)), ("the loss grew", ("loss", 1)), ("not finite", ("loss", 2))):
        stopped = s.step("batch", 50)
        assert what in s.notice
        assert (stopped.phase, stopped.number) == where
    assert np.isnan(s.loss)
    assert s.notice.startswith("stopped here")
    assert not s.snapshot().finite
    assert s.step("batch", 3).number == 4  # it was reached before
    assert s.notice == ""
    s.step("batch", -4)
    assert s.notice == ""
    assert s.snapshot().finite
    assert s.step("op", 10**4) == stopped  # the same if it is known already
    s.seek(stopped.tick - 1)
    assert s.snapshot().finite  # later values are not known
    assert s.step("op", 5) == stopped
    s.seek(0)
    for _ in range(3):
        assert not s.run_until("z[0, 0] > 2")
    assert s.position == stopped


def test_a_loss_that_is_not_finite_is_only_a_number_otherwise():
    s = learning(**BOOM)
    assert s.step("batch", 50).number == 49
    assert s.run_back_until("loss < 2")
    assert s.run_until("isnan(loss)")
    assert s.position.number == 2


# Readable values


@models.parametrize()
def test_nothing_is_read_before_it_is_computed_and_nothing_raises(model):
    s = learning(**model)
    order, program, last = {}, s.program, s.config.seq_length - 1
    for k in range(s.program.ticks + 1):
        s.seek(k)
        for name in program.readable:
            if s.value(name) is not None:
                order.setdefault(name, k)
    run = Run(s.config, (), batches=0)
    for name in program.lines:
        if name in (*run.names.values, *run.names.deltas):
            t = 0 if program.direction_of(name) > 0 else last
            assert order[name] == run.written(name, t), name
        elif name in run.names.gradients:
            assert order[name] == min(run.written(name, t) for t in range(last + 1)), name
        elif name in (*run.names.steps, *run.names.scalars):
            assert order[name] == program.tick_of(name), name
    assert order["loss"] == program.loss_tick
    if "grad_norm" not in program.lines:
        assert order["grad_norm"] == program.backward_end
    assert {order[name] for name in (*run.names.inputs, "char", "target")} == {1}
    assert {order[name] for name in (*run.names.parameters, *run.names.kept)} == {0}


def test_characters_are_those_of_the_text():
    s = Session()
    s.step("timestep", 2)
    assert s.value("char").tolist() == ["a", "M"]
    assert s.value("target").tolist() == ["t", "a"]
    assert not s.value("char").flags.writeable


@models.parametrize("gru", "gru after, reset", "lstm", "both ways", "own cell")
def test_gradients_grow_timestep_by_timestep(model):
    s = learning(**{**model, "dtype": "float64"})
    s.sgd()
    plain, program, T = Plain(s.config, s.snapshot().record), s.program, s.config.seq_length
    for name in program.parameters:
        line, whole = program.lines[f"d{name}"], s.gradient(name)
        ticks = sorted((program.tick_of(f"d{name}", t), t) for t in range(T))
        grown = 0
        for tick, t in ticks:
            s.seek(tick)
            grown = grown + evaluated(line.formula, lambda each, t=t: plain.read(each, t), plain.sizes)
            np.testing.assert_allclose(s.gradient(name), grown, rtol=1e-9, atol=1e-14, err_msg=f"{name} {t}")
        assert same(s.gradient(name), whole)
        s.seek(program.ticks)


def test_the_last_sgd_step_outlives_an_edit():
    s = learning()
    s.sgd()
    step = s.snapshot().last_step("Wz")
    np.testing.assert_allclose(step, -0.01 * s.gradient("Wz"), rtol=1e-6)
    s.edit("Wz", (0, 0), 3.0)
    assert same(s.snapshot().last_step("Wz"), step)
    s.step("op")
    assert same(s.snapshot().last_step("Wz"), step)
    assert learning().snapshot().last_step("Wz") is None


# Changing the future


def edits_of(session):
    """Return edits of some names of each kind: weights, states of the update rule, states, the learning rate, the text."""
    page, program, config = session.config.model.page, session.program, session.config
    parameters = program.parameters
    weights = [name for each in (parameters[0], parameters[-1]) for name in (each, f"m_{each}") if name in program.names]
    states = [name for state in list(page.states)[-2:] for name in (state, page.before(state))]
    edits = [(name, tuple(n - 1 for n in session.parameter(name.removeprefix("m_")).shape), 0.5) for name in weights]
    edits += [(state, (config.batch_size - 1, 0), -0.5) for state in states]
    return [*edits, ("learning_rate", None, 0.125), ("text", 4, config.vocabulary[0])]


@pytest.mark.parametrize("switched", [False, True], ids=["learning", "learning as one goes"])
@models.parametrize("gru", "gru after, notebook, adam", "lstm", "both ways")
def test_an_edit_at_places_all_over_a_batch(model, switched):
    """Values from before the edit are unchanged; the rest of the batch is what the engine computes from there."""
    options = {**model, "learning_rate": 0.3}
    N = Session(**options).program.ticks
    for number, offset in enumerate((*range(N, 2 * N + 1, N // examples(3, soak=12)), 0)):
        for edit in edits_of(Session(**options))[number % 3 :: 3]:
            s = Session(**options)
            changes = [(0, "learning", True)]
            s.learning = True
            s.seek(offset)
            if switched and offset:
                s.learning = False
                changes.append((s.position.tick, "learning", False))
            before = everything(s)
            try:
                s.edit(*edit)
            except TuiGruError:
                page = s.config.model.page
                assert edit[0] in (*page.states, *map(page.before, page.states))
                assert all(same(value, before[key]) for key, value in everything(s).items())
                continue
            name, index, value = edit
            change = (name, value) if name == "learning_rate" else (name, index, value)
            run = Run(s.config, (*changes, (s.position.tick, *change)), batches=4)
            for level, count in (("op", 0), ("op", 1), ("batch", 2), ("op", -1)):
                tick = s.step(level, count).tick
                assert_shows(s, run, tick)


def test_states_are_edited_where_that_means_something():
    s = learning()
    with pytest.raises(TuiGruError, match="not been computed"):
        s.edit("h", (0, 0), 1.0)
    s.edit("h_prev", (0, 0), 0.25)
    s.step("op")
    assert s.value("h_prev")[0, 0] == 0.25
    s.step("timestep")
    with pytest.raises(TuiGruError, match="h_prev has already been used"):
        s.edit("h_prev", (0, 0), 1.0)
    s.seek(s.program.loss_tick + 5)
    with pytest.raises(TuiGruError, match="backward pass"):
        s.edit("h", (0, 0), 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("W", (0, 0), 1.0), "Wz"), (("Wz", (4, 0), 1.0), "4 x 2"), (("Wz", 0, 1.0), "4 x 2"), (("Wz", (0, 0), "x"), "number"),
        (("Wz", (0, 0), float("nan")), "finite"), (("Wz", (0, 0), 1e300), "finite float32"),
        (("Wz", (0, 0.5), 1.0), "whole number"),
        (("Wz", 1.0), "whole number|4 x 2"), (("lr", -1), "negative"), (("lr", "fast"), "number"), (("text", 20, "a"), "0 to 19"),
        (("text", 0, "ab"), "vocabulary"), (("text", 0, "z"), "vocabulary"), (("text", -1, "a"), "0 to 19"),
        (("z", (0, 0), 1.0), "just after its line"), (("loss", 1.0), "cannot be changed"), (("logits", (0, 9), 1.0), "2 x 4"),
        (("Wz", (0, 0)), "shape|number"),
    ],
)  # fmt: skip
def test_an_edit_that_makes_no_sense_is_refused(arguments, message):
    s = learning()
    s.step("op", 5)
    before = everything(s)
    with pytest.raises(TuiGruError, match=message):
        s.edit(*arguments)
    assert not s.state.branches.undone
    assert all(same(value, before[key]) for key, value in everything(s).items())


def test_the_rate_needs_no_index():
    s = learning()
    for value in (0.5, "0.25"):
        s.edit("lr", value)
        assert s.learning_rate == float(value)
    s.edit("learning_rate", None, 0.125)
    assert s.learning_rate == 0.125


@pytest.mark.parametrize(("name", "value"), [("lr", 0.1), ("limit", 0.25)])
def test_a_setting_that_has_the_value_already_is_no_change(name, value):
    s = learning(optimizer="adam", clip=0.5)
    s.step("batch", 2)
    s.edit(name, value)
    s.seek("e1 b1 t1")
    s.edit(name, value)  # on a branch: it had another value there
    assert not s.notice
    before = s.branches, s.state.branches.last_change
    s.edit(name, value)
    assert s.notice == f"{'learning_rate' if name == 'lr' else name} is {value} already"
    assert (s.branches, s.state.branches.last_change) == before
    assert s.undo()
    assert s.branches == ("main",)


def test_every_setting_of_the_update_rule_can_be_changed_in_a_run(tmp_path):
    """A batch after the change is that of a run which had this setting from the same weights on, to the bit."""
    config = {"optimizer": "adam", "clip": 0.5, "learning_rate": 0.1}
    for name, value in (("limit", 0.125), ("beta1", 0.5), ("beta2", 0.75), ("epsilon", 0.01), ("learning_rate", 0.25)):
        s = learning(**config)
        s.step("batch", 4)
        before = everything(s)
        s.edit(name, value)
        assert (s.value(name), s.branch) == (value, "main")
        trainer = Trainer(s.config, Corpus(s.config))
        expected, start = trainer.new_record(), s.snapshot().record
        state = trainer.carried(1, start.states(end=True))
        trainer.run(expected, 1, start.after, state, learn=True, settings={**s.config.settings, name: value})
        s.step("batch")
        assert same(s.snapshot().record.after.flat, expected.after.flat)
        assert not same(s.snapshot().record.after.flat, start.after.flat)
        assert s.explain(name).derivation.note.startswith("set by hand at epoch 2, batch 1")
        s.save(tmp_path / name)
        again = Session.open(tmp_path / name)
        assert (again.value(name), again.loss) == (value, s.loss)
        assert again.undo()
        assert all(same(value, before[key]) for key, value in everything(again).items())


@pytest.mark.parametrize(
    ("config", "name", "value", "message"),
    [
        ({"clip": 1.0}, "limit", 0, "the limit 0 would make every gradient 0"),
        ({"clip": 1.0}, "clip", -1, "limit must be finite and not negative, not -1"),
        ({}, "clip", 1, "begin a run with --clip"),
        ({"optimizer": "adam"}, "beta1", math.inf, "beta1 must be finite"),
        ({"optimizer": "momentum"}, "mu", "much", "mu must be a number"),
        ({}, "beta1", 0.5, "'beta1' cannot be changed"),
    ],
)
def test_a_setting_that_cannot_be(config, name, value, message):
    s = learning(**config)
    s.step("batch")
    change = s.state.branches.last_change
    with pytest.raises(TuiGruError, match=re.escape(message)):
        s.edit(name, value)
    with pytest.raises(TuiGruError, match="without an index"):
        s.edit("learning_rate", (0,), 0.5)
    assert s.state.branches.last_change == change


def test_learning_turned_on_at_the_loss_runs_this_batchs_backward():
    s = Session()
    s.step("phase")
    assert s.step("op").number == 1
    s.step("op", -1)
    s.learning = True
    assert at(s) == (0, 0, 2, "loss")
    assert s.branch == "main~1"
    assert s.step("op").phase == "backward"


def test_learning_turned_off_in_the_backward_pass_finishes_it():
    s = learning()
    s.seek(s.program.loss_tick + 3)
    s.learning = False
    assert s.step("batch").offset == s.program.ticks
    assert s.step("batch").offset == s.program.loss_tick


def test_sgd_from_any_place():
    finished = learning()
    finished.step("batch", 2)
    all_of_it = everything(finished)
    for offset in range(Session().program.ticks + 1):
        s = learning()
        s.step("batch")
        s.seek(s.position.tick + offset)
        s.learning = False
        s.sgd()
        assert s.position.number == 1 + (offset == s.program.ticks)
        if offset < s.program.ticks:
            assert all(same(value, all_of_it[key]) for key, value in everything(s).items())
        assert s.learning is False
        assert s.step("batch").phase == "loss"


def test_sgd_at_the_end_does_nothing():
    s = Session(epochs=1)
    s.step("epoch")
    s.sgd()
    assert s.position.phase == "update"
    end, branches = s.position, s.branches
    assert (s.sgd(), s.branches) == (end, branches)


def test_the_old_future_stays():
    s = learning()
    s.step("batch", 5)
    old = everything(s)
    s.step("batch", -3)
    s.learning_rate = 0.5
    assert s.branches == ("main", "main~1")
    assert s.newest == s.position
    s.step("batch", 3)
    assert not same(s.parameter("Wz"), old["Wz", s.config.seq_length - 1])
    s.switch("main")
    assert all(same(value, old[key]) for key, value in everything(s).items())


def test_undo_leads_to_the_change_and_redo_back():
    s = learning()
    s.step("batch", 2)
    s.edit("Wz", (0, 0), 1.0)
    made = s.position
    s.step("batch", 3)
    left = s.position
    assert s.undo()
    assert s.position == made
    assert s.parameter("Wz")[0, 0] != 1.0
    s.step("batch", 9)
    newest = s.newest
    assert s.redo()
    assert s.position == left
    s.undo()
    assert s.newest == newest  # the part reached there is still known
    s.undo()  # learning
    assert s.learning is False
    assert not s.undo()


def test_snapshots_are_never_overwritten():
    s = learning(history_memory=0)
    kept = []
    for _ in range(60):
        s.step("batch", 13)
        snapshot = s.snapshot()
        kept.append((snapshot, {key: np.copy(value) for key, value in everything(s).items() if value is not None}))
        s.step("batch", -5)
    for snapshot, values in kept:
        for (name, t), value in values.items():
            assert same(snapshot.value(name, t), value if np.ndim(value) else value.item())
        assert snapshot.previous is None or snapshot.previous.after is not None
        if snapshot.previous is not None:
            assert same(snapshot.previous.after.flat, snapshot.record.before.flat)


# Invalid requests


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.step("ops"), lambda s: s.step("op", 1.5), lambda s: s.step("op", True), lambda s: s.seek("nowhere"),
        lambda s: s.value("zz"), lambda s: s.value("drh") or s.value("dm"), lambda s: s.parameter("z"), lambda s: s.gradient("dWz"),
        lambda s: s.switch("elsewhere"), lambda s: s.run_until("loss <"), lambda s: s.run_until("los < 1"),
        lambda s: s.run_to("nothing"),
        lambda s: s.run_until(5), lambda s: s.sample("xyz"), lambda s: setattr(s, "learning_rate", -1), lambda s: Session(epochs=0),
        lambda s: Session(epochs=1.5), lambda s: Session(unknown=1), lambda s: Session(history_memory="much"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(call):
    s = learning()
    s.step("op", 4)
    with pytest.raises(TuiGruError) as caught:
        call(s)
    assert "\n" not in str(caught.value)
    assert s.position.tick == 4


def test_a_mistake_in_a_condition_has_its_column():
    with pytest.raises(TuiGruError, match="column 8") as caught:
        Session().run_until("loss < los")
    assert caught.value.column == 8


def test_an_interrupt_just_before_a_run_begins_stops_it():
    session = Session()
    session.learning = True
    session.interrupt()  # as from a screen whose thread has not begun the run yet
    session.step("batch", 1000)
    assert session.position.number < 10
    session.step("batch", 50)
    assert session.position.number >= 50, "and only that one"


def test_a_snapshot_names_what_was_changed_since_the_line_here_was_executed():
    session = Session()
    session.step("op")
    assert session.snapshot().changed == frozenset()
    session.edit("Wz", (0, 1), 0.5)
    session.edit("h_prev", (0, 0), 0.25)
    session.learning = True
    assert session.snapshot().changed == {"Wz", "h_prev"}
    session.step("op")
    assert session.snapshot().changed == frozenset()
    session.step("op", -1)
    assert session.snapshot().changed == {"Wz", "h_prev"}
    session.edit("Wz", (0, 1), float(Session().parameter("Wz")[0, 1]))
    assert session.snapshot().changed == {"h_prev"}


def test_changes_of_settings_alone_change_no_value():
    session = Session()
    session.step("timestep", 2)
    session.learning = True
    assert session.snapshot().changed == frozenset()
    session.learning_rate = 0.5
    assert session.snapshot().changed == {"learning_rate"}


def test_numbers_that_stay_nan_are_not_changed():
    session = Session()
    session.learning = True
    session.edit("Wy", (0, 0), 3e38)
    session.edit("by", (0,), 3e38)
    session.step("batch", 2)
    assert np.isnan(session.parameter("Uz")).all()
    session.edit("bz", (0,), 0.25)
    assert session.snapshot().changed == {"bz"}


@pytest.mark.parametrize("seed", [0, 1, 2, 5])
def test_the_batches_that_have_learned_are_those_that_changed_the_weights(seed):
    """Learning is switched on and off at the beginning of batches and within them, also twice at one place."""
    session, chance = Session(learning_rate=0.3), random.Random(seed)
    for _ in range(14):
        for ops in (0, chance.choice([0, 0, 5])):
            session.step("op", ops)
            for _ in range(chance.choice([0, 0, 1, 2])):
                session.learning = not session.learning
        session.step("batch")
    timeline, count = timeline_of(session), session.position.number + 1
    weights = [(record.before["Wy"], record.after["Wy"]) for record in map(timeline.record, range(count))]
    learned = [before.tobytes() != after.tobytes() for before, after in weights]
    assert {*learned} == {True, False}
    for first, last in ((0, count - 1), (3, 9), (count - 1, count - 1), (5, 4)):
        assert timeline.learned(first, last).tolist() == learned[first : last + 1]
    for batch in range(count + 1):
        assert timeline.learned_before(batch) == max((k for k in range(min(batch, count)) if learned[k]), default=None), batch


def test_a_snapshot_holds_the_state_and_the_moment_and_copies_nothing_of_them():
    s = Session()
    s.learning = True
    s.step("batch", 2)
    s.break_at("h")
    s.continue_()
    shown = s.snapshot()
    assert shown.state is s.state
    assert (shown.config, shown.program) == (s.config, s.program)
    own, theirs = ({field.name for field in fields(kind)} for kind in (Snapshot, State))
    assert own.isdisjoint(theirs | {field.name for field in fields(Moment)})
    s.step("timestep")
    assert shown.state is not s.state
    assert shown.hits == s.snapshot().hits == (shown.position.tick,)


def test_a_branch_comes_from_the_first_that_shares_most_with_it():
    s = Session()
    s.learning = True
    s.step("line", 400)
    ticks = [100, 200, 150, 200, 180, 300]  # where each branch leaves the first one
    for number, tick in enumerate(ticks):
        s.switch("main")
        s.seek(tick)
        assert s.position.tick == tick
        s.learning_rate = 0.1 + number / 100
        s.rename_branch(s.branch, f"b{number}")
    s.delete_branch("main")
    forks = {fork.name: (fork.source, fork.tick) for fork in s.snapshot().forks}
    for number, tick in enumerate(ticks[1:], 1):
        shared = [min(tick, other) for other in ticks[:number]]
        assert forks[f"b{number}"] == (f"b{shared.index(max(shared))}", max(shared))
