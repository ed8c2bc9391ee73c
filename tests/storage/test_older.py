"""Conditions of older session files, which count epoch, batch and t from 0, hold at the same places after opening."""

import re
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given

from tests.debugger.test_condition_laws import columns_of, conditions, scalar_conditions
from tui_gru import Session
from tui_gru.debugger.expressions import ConditionError, UnevenSliceError, compile_condition, compile_expression
from tui_gru.debugger.stops import resolve
from tui_gru.imported.captured import recognised_run
from tui_gru.storage import file as session_file
from tui_gru.storage.older import from_one
from tui_gru.storage.state import read_state

PROGRAM = Session().program
NAMES = {name: name for name in ("loss", "grad_norm", "epoch", "t", "z", "h", "Wz", "char")}


class Names:
    spellings = NAMES


def older(path):
    """Make a session file one of version 2, in whose conditions counters count from 0."""
    with closing(session_file.connect(path, "rw")) as connection:
        connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("epoch == 3 and t == 1", "epoch == 4 and t == 2"),
        ("epoch≥3 and loss < 0.5", "epoch≥4 and loss < 0.5"),
        ("0 < t <= 2", "1 < t <= 3"),
        ("-1 < epoch < 2.5", "0 < epoch < 3.5"),
        ("epoch % 100 == 0", "epoch % 100 == 1"),
        ("epoch % 3 != 2", "epoch % 3 != 0"),
        ("epoch == batch", "epoch == batch"),
        ("epoch == batch + 1", "epoch - 1 == batch"),
        ("epoch > loss", "epoch - 1 > loss"),
        ("loss * epoch > 1", "loss * (epoch - 1) > 1"),
        ("1 + t + 2 < loss", "t + 2 < loss"),
        ("t - 1 < loss", "t - 2 < loss"),
        ("prev(t) == 0", "prev(t) == 1"),
        ("not t", "t == 1"),
        ("t or loss < 1", "t > 1 or loss < 1"),
        ("z[0, t] > 0.5", "z[0, t - 1] > 0.5"),
        ("any(z[:t] > 0.5)", "any(z[:t - 1] > 0.5)"),
        ("loss < 1e999 and t < 1e999", "loss < 1e999 and t - 1 < 1e999"),
        ("loss < 0.5", "loss < 0.5"),
        ("t ==", "t =="),
    ],
)
def test_a_condition_is_rewritten_as_a_person_would(before, after):
    assert from_one(before, PROGRAM, test=True) == after


def test_a_counter_that_is_shown_stays():
    assert from_one("t", PROGRAM) == "t"
    assert from_one("prev(epoch)", PROGRAM) == "prev(epoch)"
    assert from_one("epoch + 1", PROGRAM) == "epoch"


def outcome(compiled, columns):
    try:
        return compiled.over_columns(columns, columns).tolist()
    except (ConditionError, UnevenSliceError) as error:
        return re.sub("column [0-9]+: ", "", str(error)) and type(error)


@given(conditions | scalar_conditions, columns_of(4))
def test_any_condition_holds_at_the_same_moments(condition, columns):
    from_zero = compile_condition(condition, NAMES)
    after = compile_condition(from_one(condition, Names, test=True), NAMES)
    counted = {**columns, **{name: columns[name] + 1 for name in ("epoch", "t")}}
    assert outcome(after, counted) == outcome(from_zero, columns)


@pytest.mark.parametrize("source", ["epoch + 0.1", "-t", "epoch ** t", "2 - t", "abs(t) + 1", "epoch - t - 1", "0 + t", "1.5 + t"])
def test_a_value_is_the_same(source):
    moments = {"epoch": np.arange(5), "t": np.array([0, 1, 2, 1, 0])}
    now = compile_expression(source, NAMES)
    then = compile_expression(from_one(source, Names), NAMES)
    for i in range(5):
        read = {name: column[i] for name, column in moments.items()}
        assert then.value({name: value + 1 for name, value in read.items()}.get) == now.value(read.get)


def test_an_older_session_opens_with_the_same_stops(tmp_path):
    path, session = tmp_path / "it.tui-gru", Session(epochs=2)
    session.break_at("h", condition="epoch == 3 and t == 1")
    session.break_at("z", condition="t == 1", hits="%50")
    session.watch("loss * (epoch > 2)", stops=True)
    session.watch("t")
    session.break_at("loss", log="after {epoch + 1}: {loss:.3f} {{t}} {z[t]}")
    session.run_until("epoch == 1 and t == 0")
    session.save(path)
    older(path)
    other = Session.open(path)
    assert [stop.condition for stop in other.stops.breakpoints] == ["epoch == 4 and t == 2", "t == 2", ""]
    assert [watch.expression for watch in other.stops.watches] == ["loss * (epoch > 3)", "t"]
    assert other.stops.breakpoints[2].log == "after {epoch}: {loss:.3f} {{t}} {z[t - 1]}"
    assert other.state.last_condition == "epoch == 2 and t == 1"
    other.save(tmp_path / "new.tui-gru")
    assert Session.open(tmp_path / "new.tui-gru").stops == other.stops
    with closing(Session.open(path, record=True)) as recorded:
        assert recorded.stops == other.stops
    assert Session.open(path).stops == other.stops


def test_hits_that_were_counted_in_an_older_session_are_not_counted_again(tmp_path):
    path, session = tmp_path / "it.tui-gru", Session()
    session.break_at("h", condition="t == 1 and any(h > -9)", hits=">1000")
    session.step("batch", 300)
    session.save(path)
    older(path)
    with session_file.reading(path) as file:
        state, _ = read_state(file, recognised_run)
    ((key, counts),) = state.hit_counts.items()
    assert key == resolve(state.stops.breakpoints[0], PROGRAM).key == ("breakpoint", "h", "t == 2 and any(h > -9)")
    assert counts.before(300) == 300


def test_t_epoch_and_step_are_those_on_the_screen():
    session = Session(epochs=4)
    assert session.run_until("epoch == 3 and t == 1")
    assert (session.position.epoch, session.position.t) == (2, 0)
    session.watch("t")
    assert session.snapshot().watched[0].value == 1
    assert session.value("t") == 0
    assert session.run_until("step == 8")
    assert session.position.number == 7
    assert session.run_back_until("prev(step) == 6")
    assert session.position.number == 6
    assert session.history("step", points=1)[1].tolist() == [6.0]
