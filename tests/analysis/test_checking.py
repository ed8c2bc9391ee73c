"""The check of the current batch: at any moment, for every kind of model, and without changing the run."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.debugger import models
from tests.debugger.models import SGD
from tests.extent import spread
from tests.session.acting import pack_record, portrait, timeline_of
from tui_gru import Session, TuiGruError
from tui_gru.debugger.edits import changeable
from tui_gru.debugger.program import ValueKind
from tui_gru.engine.config import CARRIES, DTYPES, RESETS

TEXT = "the cat sat on the mat; the rat sat on"
WAYS = list(product(RESETS, CARRIES, DTYPES))
#: A weight that two lines read, so that its gradient is a sum of two sums.
READ_TWICE = "state h : H\nparameters W U b\none: a = tanh((xa: x W) + (first: h_prev U) + b)\ntwo: h = tanh((second: a U) + b)\n"


def model(**options):
    sizes = {"hidden_size": 3, "batch_size": 2, "seq_length": 4, "learning_rate": 0.3}
    session = Session(**{"text": TEXT, **SGD, **sizes, **options})
    session.learning = False
    return session


def learning(batches=2, **options):
    session = model(**options)
    session.learning = True
    session.step("batch", batches)
    return session


def plant(monkeypatch, session, fault):
    """Make `fault(record, gradients)` corrupt the result of every backward pass of the session's model."""
    functions = session.config.compiled.functions
    right = functions["backward"]

    def wrong(record, weights, gradients):
        right.run(record, weights, gradients)
        fault(record, gradients)

    monkeypatch.setitem(functions, "backward", right._replace(run=wrong))


def assert_all_agrees(session):
    program, start = session.program, session.position.tick
    derived, computed = program.names_of(ValueKind.VALUE_GRADIENT, ValueKind.GRADIENT), (*program.names_of(ValueKind.VALUE), "loss")
    for ticks in (0, 1, program.loss_tick + 7, program.backward_end + 2):
        session.seek(start + ticks)
        before = portrait(session)
        report = session.check()
        assert portrait(session) == before
        assert report.agrees, report.summary
        assert not report.copied
        assert report.notes == ()
        assert report.position == session.position
        names = [row.name for row in report.rows]
        assert sorted(names[: len(derived)]) == sorted(derived)
        assert sorted(names[len(derived) :]) == sorted(computed)
        assert all((row.slopes is not None) == (row.name in derived) for row in report.rows)
        assert report.summary.startswith(f"all {len(report.rows)} arrays agree: the largest difference is ")
        assert report.summary.endswith("; finite differences on 2 entries of each, chosen with seed 0")


@pytest.mark.parametrize(("reset", "carry", "dtype"), spread(WAYS, 5))
def test_everything_agrees_at_any_moment_and_the_run_is_untouched(reset, carry, dtype):
    assert_all_agrees(learning(reset=reset, carry=carry, dtype=dtype))


@models.parametrize("gru notebook", "lstm", "both ways", "own cell")
def test_everything_agrees_in_models_of_all_kinds(model):
    session = Session(**model)
    session.learning = True
    session.step("batch", 2)
    assert_all_agrees(session)


@pytest.mark.parametrize(("reset", "carry", "dtype"), spread(WAYS, 5))
def test_a_batch_that_does_not_learn_is_checked_on_a_copy(reset, carry, dtype):
    session = model(reset=reset, carry=carry, dtype=dtype)
    session.step("batch")
    session.step("timestep")
    before, record = portrait(session), session.snapshot().record
    whole = pack_record(record)
    report = session.check(entries=1)
    assert report.agrees
    assert report.copied
    assert "a copy of it was given a backward pass" in report.notes[0]
    assert "finite differences on 1 entry of each" in report.summary
    assert portrait(session) == before
    assert (pack_record(record), record.learned) == (whole, False)
    learned = learning(1, reset=reset, carry=carry, dtype=dtype, learning_rate=0.0)
    learned.step("timestep")
    same = {row.name: row.whole.ours for row in learned.check(entries=0).rows}
    assert {row.name: row.whole.ours for row in report.rows} == same


def test_the_summary_and_the_worst_say_where_it_is(monkeypatch):
    session = learning(dtype="float64")
    row = {row.name: row for row in session.check().rows}
    assert row["dUh"].whole.checked == 9
    assert row["dUh"].slopes.checked == 2

    def spoil(record, gradients):
        gradients["Uh"][1, 2] += 0.5

    plant(monkeypatch, session, spoil)
    session = learning(1, dtype="float64")
    report = session.check(entries=0)
    assert not report.agrees
    assert report.worst.name == "dUh"
    assert report.place(report.worst.worst) == "dUh[unit 2, unit 3]"
    assert report.summary == (
        f"1 of {len(report.rows)} arrays do not agree, the first computed is dUh: autograd differs by 5.0e-1 at dUh[unit 2, unit 3]"
    )
    assert [row.name for row in report.rows if row.wrong] == ["dUh"]
    assert float(report.written(report.worst.whole.ours)) == session.gradient("Uh")[1, 2]


def test_where_all_agree_the_worst_is_what_the_summary_names():
    for carry in CARRIES:
        report = learning(carry=carry).check()
        assert report.agrees
        assert report.place(report.worst.whole) in report.summary
        assert report.worst.whole.absolute == max(row.whole.absolute for row in report.rows)


def test_places_are_written_as_on_the_screen():
    session = learning()
    report = session.check(entries=0)
    (dz,) = [row.whole for row in report.rows if row.name == "dz"]
    t, row, unit = dz.index
    assert report.place(dz) == f"dz[row {row + 1}, unit {unit + 1}] at t {t + 1}"
    (logits,) = [row.whole for row in report.rows if row.name == "logits"]
    t, row, character = logits.index
    assert report.place(logits) == f"o[row {row + 1}, “{session.config.vocabulary[character]}”] at t {t + 1}"
    (term3,) = [row.whole for row in report.rows if row.name == "term3"]
    assert report.place(term3) == f"③ at t {term3.index[0] + 1}"
    number = float(np.float32(0.1))
    assert report.written(number) == "0.1"


@pytest.mark.parametrize(
    ("place", "edit", "spoilt"),
    [
        ("e1 b2 t2", ("Wy", (0, 0), 2.0), {"logits", "y_hat", "term1", "term2", "term3", "loss"}),
        ("e1 b2 t2", ("Uz", (0, 0), 2.0), {"hUz", "az", "z", "h"}),
        ("e1 b2 t2", ("h", (0, 0), 2.0), {"h", "logits"}),
        ("az", ("az", (0, 0), 0.9), {"az"}),
        ("new", ("new", (0, 0), 0.9), {"new"}),
        ("z", ("z", (0, 0), 0.9), None),
        ("one_minus_z", ("one_minus_z", (0, 0), 0.9), None),
        ("h_tilde", ("h_tilde", (0, 0), 0.9), None),
        ("y_hat", ("y_hat", (0, 0), 0.9), None),
        ("dz", ("dz", (0, 0), 0.9), None),
        ("dz", ("Uz", (0, 0), 2.0), None),
        ("dby", ("dWz", (0, 0), 0.9), None),
    ],
)
def test_a_batch_changed_in_its_middle_says_what_cannot_agree(place, edit, spoilt):
    session = learning()
    if place.startswith("e"):
        session.seek(place)
    else:
        session.seek(session.program.ticks + session.program.tick_of(place, 0))
    session.edit(*edit)
    session.step("batch")
    report = session.check()
    assert report.agrees, report.summary
    excused = {row.name for row in report.rows if row.excuse}
    assert excused
    if spoilt is not None:
        assert excused <= spoilt
        assert not {name for name in excused if name[0] == "d"}
    assert f"{session.program.writer.name(edit[0])} was changed in the middle of this batch, so " in report.notes[0]
    assert all(not row.agrees for row in report.rows if row.excuse)
    session.step("batch")
    assert session.check().notes == ()


@models.parametrize("gru", "gru after, notebook, adam", "lstm", "two layers", "rnn both ways", "own cell")
def test_whatever_value_is_changed_all_agrees_but_what_cannot(model):
    session = Session(**model)
    session.learning = True
    session.step("batch", 2)
    program = session.program
    for name in set(program.names_of(ValueKind.VALUE)) & set(changeable(program)):
        session.seek(program.ticks + program.tick_of(name, 0))
        session.edit(name, (0,) * len(program.names[name].axes), 0.7)
        session.seek(2 * program.ticks)
        report = session.check(entries=0)
        assert report.agrees, (name, report.summary)
        assert name in {row.name for row in report.rows if row.excuse}
        assert session.branch != "main"
        session.switch("main")


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("edit", [("Wz", (0, 0), 2.0), ("h", (0, 0), 2.0), ("Wy", (1, 1), 2.0)])
def test_a_change_at_the_end_of_a_batch_is_no_part_of_it(learns, edit):
    session = learning() if learns else model()
    session.step("batch")
    session.edit(*edit)
    report = session.check()
    assert report.agrees
    assert not any(row.excuse for row in report.rows)
    if learns:
        session.step("op", -3)
        session.edit(*edit)
        report = session.check()
        assert report.agrees
        assert not any(row.excuse for row in report.rows)


def test_a_text_or_a_rate_changed_on_the_way_excuses_nothing():
    session = learning()
    session.seek("e1 b2 t2")
    session.edit("text", 11, "m")
    session.learning_rate = 0.9
    report = session.check()
    assert report.agrees
    assert not any(row.excuse for row in report.rows)


def test_nothing_can_be_said_where_nothing_is_finite():
    session = learning()
    session.edit("Wy", (0, 0), 3e38)
    session.step("batch", 3)
    with pytest.raises(TuiGruError, match="NaN or Inf"):
        session.check()


def test_a_check_that_was_taken_up_is_of_that_moment():
    session = learning()
    check = session.batch_check()
    where = session.position
    session.step("batch", 3)
    session.edit("Wz", (0, 0), 3.0)
    session.step("batch", 200)
    late, session = check.run(), learning()
    assert late.position == where
    assert [row.whole for row in late.rows] == [row.whole for row in session.check().rows]


# Every batch


@pytest.mark.parametrize(("reset", "carry"), list(product(RESETS, CARRIES)))
def test_every_batch_that_is_finished_is_checked(reset, carry):
    session, plain = model(reset=reset, carry=carry), learning(0, reset=reset, carry=carry)
    session.learning = session.check_every_batch = True
    plain.step("batch", 7)
    session.step("timestep", 2)
    assert session.checked.batches == 0
    session.step("batch")
    assert session.checked.batches == 1
    session.step("batch", 3)
    session.step("timestep", 3)
    session.step("op", -2)
    assert session.checked.batches == 4
    session.run_until("batch == 3 and t == 2")
    session.seek(plain.position)
    assert session.checked.batches == 7
    assert session.notice == ""
    assert 0 < session.checked.worst < 1e-5
    assert session.checked.place
    for name in plain.program.parameters:
        np.testing.assert_array_equal(session.parameter(name), plain.parameter(name))
    assert session.snapshot().checked is session.checked


def test_what_was_run_before_is_checked_when_it_is_gone_through_again():
    session = learning(5)
    session.seek(0)
    session.check_every_batch = True
    session.step("batch", 3)
    assert session.checked.batches == 3
    session.check_every_batch = True
    assert session.checked.batches == 3
    session.check_every_batch = False
    assert session.checked is None
    session.step("batch", 1)


def test_no_batch_is_checked_twice():
    session = learning(0)
    session.check_every_batch = True
    session.step("batch", 3)
    session.step("batch", -2)
    session.step("batch", 4)
    assert session.checked.batches == 5
    session.edit("Wz", (0, 0), 0.5)
    session.step("batch", 2)
    assert session.checked.batches == 7


def test_what_is_run_to_a_breakpoint_is_checked_too():
    session, plain = learning(0), learning(0)
    session.check_every_batch = True
    for each in (session, plain):
        each.break_at("h", condition="epoch == 2 and batch == 2")
        assert each.continue_()
        assert (each.position.epoch, each.position.batch) == (1, 1)
    assert session.checked.batches == 5
    assert session.notice == plain.notice
    session.step("batch")
    assert session.checked.batches >= 5


def test_it_stops_at_the_first_batch_that_does_not_agree(monkeypatch):
    session = model()
    session.learning = session.check_every_batch = True
    calls = []

    def spoil(record, gradients):
        calls.append(1)
        record.array("dz")[1, 0, 2] += len(calls) == 5

    plant(monkeypatch, session, spoil)
    session.step("batch", 50)
    assert len(calls) == 5
    assert session.checked.batches == 6
    assert session.position == timeline_of(session).position(6 * session.program.ticks)
    assert session.notice.startswith("stopped: batch 2 of epoch 2 does not agree with PyTorch: dz differs by ")
    assert session.notice.endswith("at dz[row 1, unit 3] at t 2 (autograd)")
    session.step("op")
    assert session.notice == ""


def test_what_cannot_be_checked_is_passed_over():
    session = model()
    session.check_every_batch = True
    session.step("batch", 3)
    assert session.checked.batches == 0
    session.learning = True
    session.seek("e2 b2 t1")
    session.edit("Wy", (0, 0), 2.0)
    session.step("batch", 3)
    assert session.notice == ""
    assert session.checked.batches == 4
    session.edit("Wy", (0, 0), 1e38)
    session.step("batch", 3)
    assert session.notice == ""


def test_a_checked_run_can_be_interrupted():
    session = model()
    session.learning = session.check_every_batch = True

    def progress(position):
        if position.number == 4:
            session.interrupt()

    session.step("batch", 10**6, progress=progress)
    assert session.checked.batches == 4
    assert session.position.number == 4


def test_of_a_gradient_that_is_a_sum_of_sums_the_whole_is_checked(monkeypatch):
    session = model(cell="twice.cell", cell_text=READ_TWICE)
    session.learning = session.check_every_batch = True

    def spoil(record, gradients):
        record.array("dU_two")[...] += 1  # which has no panel on the screen, and is not read any more

    plant(monkeypatch, session, spoil)
    session.step("batch", 6)
    assert session.notice == ""
    assert session.checked.batches == 6
    assert {row.name for row in session.check().rows} <= set(session.program.readable)


@pytest.mark.parametrize(("carry", "spoilt"), [("detach", ""), ("notebook", "bg was changed in the middle of an earlier batch")])
def test_a_weight_in_a_part_without_a_name_that_was_changed_in_the_middle_is_named(carry, spoilt):
    cell = "state h : H\nparameters Wf Wg Uf bg\nf = σ(x Wf + h_prev Uf)\ng = tanh(x Wg + bg)\nh = f ⊙ h_prev + (1 − f) ⊙ g\n"
    session = learning(0, cell="own.cell", cell_text=cell, carry=carry, dtype="float64")
    session.seek("e1 b1 t2")
    session.edit("bg", 0, 1.7)
    session.step("batch")
    report = session.check(entries=0)
    assert report.agrees, report.summary
    assert report.notes == ("bg was changed in the middle of this batch, so dWg, dbg, g cannot agree",)
    session.step("batch")
    report = session.check(entries=0)
    assert report.agrees, report.summary
    assert report.notes == ((f"{spoilt}, so dWg, dbg cannot agree",) if spoilt else ())
