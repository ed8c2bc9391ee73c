"""The display data of breakpoints and watches: values, places of stops, and logs."""

import pytest

from tui_gru import Session
from tui_gru.debugger.expressions import ConditionError
from tui_gru.debugger.stops import LogLine


def learning(**options):
    session = Session(**options)
    session.learning = True
    return session


def test_a_watch_shows_its_value_and_what_it_was_before():
    session = Session()
    session.watch("h[0, 0]")
    session.watch("h[0, 0] - prev(h)[0, 0]")
    session.watch("char[0]")
    session.watch("z[epoch + 4]")
    session.watch("dz")
    seen = {}
    for _ in range(60):
        session.step("op")
        seen[session.position.tick] = session.value("h")
        h, difference, char, wrong, never = session.snapshot().watched
        lines = {tick: session.program.line_at((tick - 1) % 102 + 1)[0].target for tick in seen}
        computed = [value[0, 0] for tick, value in seen.items() if lines[tick] == "h"]
        now = session.value("h")
        earlier = computed if now is None else computed[:-1]
        assert h.value == (None if now is None else now[0, 0])
        assert h.before == (earlier[-1] if earlier else None)
        assert difference.value is None or difference.value == pytest.approx(float(computed[-1]) - float(computed[-2]))
        assert char.value == session.value("char")[0]
        assert never.value is None
        assert never.before is None
        assert not h.error
    assert wrong.error.startswith("column 3: ")
    assert wrong.value is None


def test_a_watched_weight_was_before_what_the_last_update_left():
    """Until the update of a batch, that is the value that it still has."""
    session, computed = learning(), []
    session.watch("Wz[0, 0]")
    for _ in range(3 * session.program.ticks):
        session.step("op")
        if session.program.line_at((session.position.tick - 1) % session.program.ticks + 1)[0].target == "Wz":
            computed.append((session.position.number, session.parameter("Wz")[0, 0]))
        (weight,) = session.snapshot().watched
        assert weight.value == session.parameter("Wz")[0, 0]
        earlier = [value for batch, value in computed if batch < session.position.number]
        assert weight.before == (earlier[-1] if earlier else None)


def test_what_was_watched_before_is_found_behind_batches_that_have_none_of_it():
    session = learning()
    session.watch("dz[0, 0]")
    session.sgd()
    last = session.snapshot().value("dz", 0)  # the last timestep comes first
    session.learning = False
    session.seek(102 * 40)
    assert session.snapshot().watched[0].value is None
    assert session.snapshot().watched[0].before == last[0, 0]


def test_what_reads_nothing_is_watched_too_and_never_changes():
    session = Session(epochs=2)
    session.watch("1 + 1", stops=True)
    session.step("op")
    assert (session.snapshot().watched[0].value, session.snapshot().watched[0].before) == (2, None)
    assert not session.continue_()
    assert not session.reverse_continue()


def test_what_could_not_be_evaluated_has_no_value_before():
    session = Session(epochs=4)
    session.watch("z[2 - (epoch - 1), 0] > -1")  # there are two rows: row 0 in the third epoch, row -1 in the fourth
    session.seek("e2 b3 t3")
    session.step("timestep", 1)
    assert session.snapshot().watched[0].value
    assert session.snapshot().watched[0].before
    session.seek("e1 b3 t3")
    assert "column 3" in session.snapshot().watched[0].error
    session.run_to("z")
    assert (session.position.epoch, session.position.t) == (1, 0)
    assert session.snapshot().watched[0].value
    assert session.snapshot().watched[0].before is None
    session.change_stop(1, stops=True)
    assert not session.continue_()
    with pytest.raises(ConditionError, match="column 3"):
        session.reverse_continue()
    assert (session.position.epoch, session.position.batch, session.position.t) == (0, 2, 2)


def test_where_runs_stopped_is_kept_with_the_branch():
    session = Session(epochs=3)
    session.break_at("loss")
    session.continue_()
    session.continue_()
    session.run_until("t == 2")
    main = session.snapshot().hits
    assert main == (28, 130, 214)
    session.seek(130)
    session.learning = True
    assert session.branch == "main~1"
    assert session.snapshot().hits == (28, 130)
    session.continue_()
    assert session.snapshot().hits == (28, 130, 232)
    session.switch("main")
    assert session.snapshot().hits == main
    session.seek(0)
    session.continue_()
    assert session.snapshot().hits == (130, 214, 28)


# Logs


def test_a_log_point_writes_and_does_not_stop():
    session = Session(epochs=2)
    session.break_at("h", condition="t != 2", log="t {t} h {h[0, 0]:.3f} {dz}")
    session.break_at("loss", log="{loss:.4f}", hits="%2")
    assert not session.continue_()
    log = session.snapshot().log
    assert [(line.tick, line.id) for line in log] == [
        (102 * b + k, id) for b in range(6) for k, id in ((4, 1), (22, 1), (28, 2)) if id == 1 or b % 2
    ]
    session.seek(4)
    assert log[0] == LogLine(4, 1, f"t 1 h {session.value('h')[0, 0]:.3f} ·")
    session.seek(0)
    session.step("batch", 2)
    assert session.snapshot().log == log
    session.change_stop(1, log="{z[t + 8]}", condition="")
    session.step("timestep", -2)
    session.step("timestep")
    assert [line.text[:17] for line in session.snapshot().log if line.tick == 102 + 22] == ["cannot be written"]
    assert len(session.snapshot().log) == len(log)


def test_whatever_runs_on_writes_and_what_goes_back_or_jumps_does_not():
    session = Session()
    session.break_at("z", log="{t}")
    session.seek("e2 b1 t1")
    session.step("batch", -2)
    assert session.snapshot().log == ()
    session.run_until("t == 3")
    assert len(session.snapshot().log) > 0
    for go in (lambda: session.run_to("loss"), session.sgd, lambda: session.step("op"), lambda: session.run_until("any(z > -1)")):
        before = session.position.tick
        written = session.snapshot().log
        go()
        new = [line.tick for line in session.snapshot().log if line not in written]
        assert new == [tick for tick in range(before + 1, session.position.tick + 1) if (tick - 1) % 102 in (0, 9, 18)]


def test_a_log_holds_the_last_thousand_lines():
    session = Session()
    session.break_at("z", log="{t}")
    session.break_at("r", condition="any(r > -1)", log="r")
    session.step("batch", 300)
    log = session.snapshot().log
    assert len(log) == 1000
    ticks = sorted(102 * b + 9 * t + k for b in range(300) for t in range(3) for k in (1, 2))[-1000:]
    assert [line.tick for line in log] == ticks


def test_a_log_is_the_branchs():
    session = learning()
    session.break_at("loss", log="{loss:.6f}")
    session.step("batch", 3)
    main = session.snapshot().log
    session.seek("b2 t1")
    session.edit("Wz", (0, 0), 2.0)
    assert session.snapshot().log == main[:1]
    session.step("batch", 2)
    assert [line.tick for line in session.snapshot().log] == [line.tick for line in main]
    assert [line.text for line in session.snapshot().log][1:] != [line.text for line in main][1:]
    session.switch("main")
    assert [line.text for line in session.snapshot().log] == [line.text for line in main]
    session.seek(session.newest)
    session.learning_rate = 0.5  # continues on the same branch
    session.step("batch", 2)
    assert len(session.snapshot().log) == 5
    session.undo()
    assert session.snapshot().log == main
