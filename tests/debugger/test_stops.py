"""Breakpoints and watches of a session: creation, errors, and the places where runs and steps stop."""

import pytest

from tui_gru import Session, TuiGruError
from tui_gru.debugger.expressions import ConditionError
from tui_gru.debugger.search import distinguished
from tui_gru.debugger.stops import Breakpoint, Stops, Watch


def learning(**options):
    session = Session(**options)
    session.learning = True
    return session


# Creation and changes


def test_they_are_numbered_in_the_order_in_which_they_are_made_and_no_number_comes_twice():
    session = Session()
    one, two, three = session.break_at("h"), session.watch("loss"), session.break_at(condition="loss < 1", hits="%5")
    assert (one, two) == (Breakpoint(1, "h"), Watch(2, "loss"))
    assert three == Breakpoint(3, "", "loss < 1", "%5")
    assert session.stops == Stops((one, three), (two,), 3)
    session.delete_stop(3)
    assert session.break_at("z").id == 4
    assert session.change_stop(1, condition="any(h > 0)", enabled=False) == Breakpoint(1, "h", "any(h > 0)", enabled=False)
    assert session.change_stop(2, stops=True) == Watch(2, "loss", stops=True)
    assert [stop.id for stop in session.stops.all] == [1, 2, 4]
    assert session.snapshot().state.stops == session.stops


@pytest.mark.parametrize(("named", "target"), [("h̃", "h_tilde"), ("ŷ", "y_hat"), ("o", "logits"), ("dWz", "dWz"), ("loss", "loss")])
def test_a_line_is_named_as_in_the_code_or_as_on_screen(named, target):
    assert Session().break_at(named).line == target


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"line": "hh"}, "there is no line that computes 'hh'; did you mean h or dh or bh?"),
        ({"line": "lr"}, "there is no line that computes 'lr'; "),
        ({"line": 3}, "line of a breakpoint is a text, not 3"),
        ({}, "a breakpoint needs a line to stop at, or a condition such as loss < 0.5"),
        ({"hits": "5"}, "a breakpoint needs a line"),
        ({"log": "{loss}"}, "a breakpoint needs a line"),
        ({"line": "h", "condition": "loss <"}, "column 7: "),
        ({"condition": "loss < 1", "hits": "0"}, "column 1: 0 never stops"),
        ({"line": "h", "hits": "x"}, "column 1: a hit count is"),
        ({"line": "h", "log": "loss {los}"}, "column 7: unknown name los"),
        ({"line": "h", "condition": 1}, "condition of a breakpoint is a text"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_everything_as_it_was(arguments, said):
    session = Session()
    kept = session.break_at("z")
    with pytest.raises(TuiGruError, match=said.replace("?", r"\?").replace("{", r"\{")):
        session.break_at(**arguments)
    with pytest.raises(TuiGruError):
        session.change_stop(1, **{"line": "", **arguments})
    assert session.stops.all == (kept,)


def test_changes_that_make_no_sense_are_refused():
    session = Session()
    session.break_at("h")
    session.watch("loss")
    for id, changes, said in (
        (9, {"enabled": False}, "there is no breakpoint or watch 9; there are 1, 2"),
        (1, {"id": 3}, "a breakpoint has no 'id' to change; it has line, condition, hits, log, enabled"),
        (2, {"line": "h"}, "a watch has no 'line' to change; it has expression, stops, enabled"),
        (2, {"stops": "yes"}, "stops of a watch is True or False, not 'yes'"),
        (2, {"expression": "h +"}, "column 4: "),
    ):
        with pytest.raises(TuiGruError, match=said):
            session.change_stop(id, **changes)
    with pytest.raises(TuiGruError, match="there is no breakpoint or watch 7"):
        session.delete_stop(7)
    for id in (1, 2):
        session.delete_stop(id)
    with pytest.raises(TuiGruError, match="there is no breakpoint or watch 1; there is none at all"):
        session.delete_stop(1)


# Stopping


def test_it_says_why_it_stopped():
    session = learning(epochs=2)
    session.break_at("h_tilde", hits="2")
    session.break_at(condition="loss < 1.28", log="")
    session.watch("h[0, 1]")
    assert session.continue_()
    assert session.notice == "stopped at h̃ = tanh(…): breakpoint 1, hit 2"
    assert session.continue_()
    assert session.notice == f"stopped at {session.position.line.text}: breakpoint 2, hit 1 · loss < 1.28"
    session.change_stop(3, stops=True)
    assert session.reverse_continue()
    assert session.position.line.target == "h"
    before, now = session.snapshot().watched[0].before, session.snapshot().watched[0].value
    assert session.notice == f"stopped: watch 3, h[0, 1] {before:.4f} → {now:.4f}"
    assert session.snapshot().notice == session.notice
    session.step("op", 0)
    assert not session.notice


def test_what_stops_at_the_same_place_is_said_together():
    session = Session()
    session.break_at("h")
    session.break_at("h", condition="any(h > -1)")
    session.watch("t == 8", stops=True)
    session.watch("h[1, 1]", stops=True)
    session.continue_()
    assert session.continue_()
    assert session.notice.startswith(
        "stopped at h = z⊙hₜ₋₁ + (1 − z)⊙h̃: breakpoint 1, hit 2; breakpoint 2, hit 2 · any(h > -1); watch 4, h[1, 1] "
    )


def test_what_is_disabled_stops_nothing_and_a_watch_only_where_it_is_asked_to():
    session = Session(epochs=1)
    session.break_at("h")
    session.watch("h")
    session.change_stop(1, enabled=False)
    assert not session.continue_()
    assert session.position == session.end
    assert not session.reverse_continue()
    assert session.position.tick == 0
    session.change_stop(2, stops=True)
    session.change_stop(2, enabled=False)
    assert not session.continue_()
    assert session.snapshot().watched[0].value is None


def test_lines_that_are_stepped_over_are_never_hit():
    session = Session(epochs=2)
    session.break_at("dWz")
    session.break_at("Wz")
    assert not session.continue_()
    assert session.position == session.end
    session.seek(0)
    session.learning = True
    session.delete_stop(1)
    assert session.continue_()
    assert session.position.tick == session.program.tick_of("Wz")


def test_steps_stop_on_their_way_and_count_as_steps_that_are_cut_short():
    session = Session()
    session.break_at("h", condition="t == 2")
    session.step("op", 2)
    assert session.step("batch").tick == 13
    assert session.notice == "stopped at h = z⊙hₜ₋₁ + (1 − z)⊙h̃: breakpoint 1, hit 1 · t == 2"
    assert session.step("batch", -1).tick == 2
    assert not session.notice
    assert session.step("batch", 2).tick == 13
    assert session.step("timestep").tick == 18
    assert session.step("timestep", -1).tick == 13
    assert session.notice
    session.seek(0)
    assert session.step("op", 13).tick == 13
    assert session.notice
    assert session.step("op", -13).tick == 0
    for go in (lambda: session.seek("t3"), session.sgd, lambda: session.run_to("loss"), lambda: session.run_until("loss > 0")):
        session.seek(0)
        go()
        assert session.position.tick > 13
        assert not session.notice


def test_a_run_stops_where_a_number_ceases_to_be_finite_if_that_comes_first():
    session = learning(learning_rate=3e38)
    session.stop_on_nan = True
    session.break_at("loss", hits="100")
    assert session.continue_()
    assert "the largest weight grew" in session.notice
    assert session.continue_()
    assert "the loss grew" in session.notice
    assert session.continue_()
    assert session.notice == "stopped here: the loss or a weight is not finite (NaN or infinite)"
    lost = session.position
    session.seek(0)
    session.break_at("z", hits="2")
    assert session.continue_()
    assert session.position.tick == 10
    for _ in range(3):
        assert session.continue_()
    assert session.position == lost
    session.seek(0)
    session.delete_stop(2)
    assert [session.step("epoch", 3) for _ in range(3)][-1] == lost
    session.seek(0)
    session.delete_stop(1)
    for _ in range(3):
        assert session.continue_()
    assert session.position == lost
    assert session.snapshot().hits[-1] == lost.tick


def test_where_a_condition_cannot_be_evaluated_is_where_it_stops():
    session = Session(epochs=4)
    session.break_at("r", condition="any(z[epoch - 1] > 9)")  # there are two rows
    with pytest.raises(ConditionError, match="column 7"):
        session.continue_()
    here = session.position
    assert (here.epoch, here.batch, here.t, here.line.target) == (2, 0, 0, "r")
    assert session.notice.startswith("stopped at r = σ(…): breakpoint 1 cannot be evaluated, column 7: ")
    session.seek(here.tick - 2)
    assert session.step("batch") == here
    assert "column 7" in session.notice
    session.seek(session.end)
    with pytest.raises(ConditionError, match="column 7"):
        session.reverse_continue()
    assert (session.position.epoch, session.position.t) == (3, 2)
    assert session.position > here


@pytest.mark.parametrize(
    ("line", "condition", "first", "last"),
    [
        ("z", "any(prev(z)[epoch - 1] > 9)", (2, 0, 0), (3, 2, 2)),
        ("z", "prev(loss) > 0 and any(z[epoch - 1] > 9)", (2, 0, 0), (3, 2, 2)),
        ("", "epoch == 3 and any(z[epoch - 1] > 9)", (2, 0, 0), (2, 2, 2)),
    ],
)
def test_what_was_before_that_cannot_be_evaluated_is_where_it_stops(line, condition, first, last):
    session = Session(epochs=4)
    session.break_at(line, condition=condition)
    with pytest.raises(ConditionError):
        session.continue_()
    assert (session.position.epoch, session.position.batch, session.position.t) == first
    session.seek(session.end)
    with pytest.raises(ConditionError):
        session.reverse_continue()
    assert (session.position.epoch, session.position.batch, session.position.t) == last


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("h > 0.9", "column 1: h > 0.9 has 4 values; use any(...) or all(...)"),
        ("t == 2 and (loss < 0.1 or not z)", "column 31: z has 4 values; use any(...) or all(...)"),
        ("0 < h < 1", "column 1: 0 < h < 1 has 4 values; write the two comparisons separately"),
        ("prev(Wz) == 1", "column 1: prev(Wz) == 1 has 8 values; use any(...) or all(...)"),
        ("char == 'M'", "column 1: char == 'M' has 2 values; use any(...) or all(...)"),
        ("char", "column 1: char is text; compare it, as in char == 'a'"),
        ("any(h + x > 0)", "column 5: h + x combines the shapes (2, 2) and (2, 4), which do not fit"),
        ("z[t - 1, 5] > 0", "column 10: index 5 is out of range: this axis has 2, counted from 0"),
        ("z[t - 1] > 0", "column 1: z[t - 1] > 0 has 2 values; use any(...) or all(...)"),
        ("loss[0] > 1", "column 1: loss[0]: a single value takes no index"),
        ("min(h[2:]) > 0", "column 1: min(h[2:]): no values, so no min"),
    ],
)
def test_what_cannot_be_evaluated_wherever_it_is_tested_is_refused_when_it_is_set(condition, said):
    session = learning()
    good = session.break_at("h", condition="loss < 1")
    for begin in (
        lambda: session.break_at(condition=condition),
        lambda: session.break_at("h", condition=condition),
        lambda: session.change_stop(good.id, condition=condition),
        lambda: session.run_until(condition),
        lambda: session.run_back_until(condition),
    ):
        with pytest.raises(ConditionError) as caught:
            begin()
        assert str(caught.value).startswith(said)
    assert session.stops.all == (good,)
    assert (session.position.tick, session.state.last_condition) == (0, "")


def test_watches_and_log_points_may_have_many_values_that_fit():
    session = learning()
    assert session.watch("h > 0.9", stops=True).stops
    assert session.break_at("h", log="{h > 0.9} {prev(z)[t - 1:, 0]}").log
    for begin in (lambda: session.watch("h + x", stops=True), lambda: session.break_at("h", log="h {h + x}")):
        with pytest.raises(ConditionError, match="combines the shapes"):
            begin()
    with pytest.raises(ConditionError, match="column 4: z has 4 values; use any"):
        session.break_at("h", log="h {z and t}")
    assert len(session.stops.all) == 2


@pytest.mark.parametrize(
    "condition",
    [
        "any(z[epoch - 1] > 9)",
        "sum(h[t - 1:]) > 0",
        "h[t - 1, 0] > 1 / loss",
        "Wz[(batch - 1) % 2, 0] > 0 or max(h) > 9",
        "loss < 1 / 0",
        "any(z[:t - 1, 1] < 0)",
    ],
)
def test_what_depends_on_values_is_not_refused(condition):
    assert learning().break_at(condition=condition).condition == condition


def test_a_stop_that_an_older_version_accepted_is_read_and_refused_where_it_is_tested(tmp_path):
    session = Session(epochs=4)
    stops = Stops((Breakpoint(1, "", "epoch == 3 and prev(loss)[0] > 9"),), (), 1)
    Session(state=session.state.replaced(stops=stops)).save(tmp_path / "old.tui-gru")
    session = Session.open(tmp_path / "old.tui-gru")
    with pytest.raises(ConditionError, match="a single value takes no index"):
        session.continue_()
    assert (session.position.epoch, session.position.batch, session.position.t) == (2, 0, 2)
    session.seek(session.end)
    with pytest.raises(ConditionError, match="a single value takes no index"):
        session.reverse_continue()
    assert (session.position.epoch, session.position.batch, session.position.t) == (2, 2, 2)
    assert not session.change_stop(1, enabled=False).enabled


@pytest.mark.parametrize(
    "arguments", [{"condition": "any(z > 2)"}, {"line": "loss", "hits": "99999"}, {"condition": "loss < 0"}, None]
)
def test_a_run_is_interrupted_at_a_whole_place(arguments):
    session = learning()
    if arguments is not None:
        session.break_at(**arguments)
    seen = []

    def progress(at):
        seen.append(at)
        if at.number == 90:
            session.interrupt()

    assert not session.continue_(progress)
    here = session.position
    assert here == session.newest
    assert here.tick % session.program.ticks == 0
    assert 85 <= here.number <= 95
    assert len(seen) > 80
    session.seek(0)
    assert session.step("op", 3).tick == 3
    assert session.step("batch", 200, progress=lambda at: session.interrupt() if at.number == 100 else None).number in range(
        95, 105
    )


def test_a_way_back_is_interrupted_too():
    session = learning(history_memory=0)
    session.break_at(condition="any(z > 2)")
    session.seek(102 * 90)
    assert not session.reverse_continue(lambda at: session.interrupt() if at.number == 20 else None)
    assert 0 < session.position.tick <= 102 * 90
    assert session.position.tick % session.program.ticks == 0
    here = session.position
    session.change_stop(1, condition="any(r > 2)")
    assert session.step("batch", -60, progress=lambda at: session.interrupt()) == here
    assert not session.reverse_continue()
    assert session.position.tick == 0


def test_the_past_is_looked_at_once():
    session = learning(history_memory=0, epochs=30)
    session.break_at("z", condition="any(z > 2)", hits="7")
    looked = []
    assert not session.continue_(looked.append)
    assert not session.reverse_continue()
    looked.clear()
    assert not session.continue_(looked.append)
    assert len(looked) < 40  # to show the last one, replayed from the nearest checkpoint


def test_stopping_changes_nothing_of_the_training():
    session, plain = Session(), Session()
    session.break_at("h", condition="any(h > prev(h))")
    session.watch("Wz", stops=True)
    session.break_at("loss", log="{loss}")
    for each in (session, plain):
        each.learning = True
    for _ in range(90):
        session.continue_()
    for each in (session, plain):
        each.seek(102 * 30)
    assert (session.parameter("Wz") == plain.parameter("Wz")).all()
    assert (session.snapshot().losses[:30] == plain.snapshot().losses[:30]).all()


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        (0.1204, 0.13804, ("0.1204", "0.1380")), (0.12041, 0.12042, ("0.120410", "0.120420")), (1e-9, 2e-9, ("1e-09", "2e-09")),
        ("a", "b", ("a", "b")), (True, False, ("True", "False")), (1.0, float("nan"), ("1", "nan")),
    ],
)  # fmt: skip
def test_a_change_is_shown_with_the_digits_that_it_takes(before, now, shown):
    assert distinguished(before, now) == shown


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
