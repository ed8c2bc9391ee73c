"""Breakpoints and watches are saved with the session."""

from contextlib import closing

import pytest

from tests.session.acting import acted, altered
from tui_gru import Session
from tui_gru.debugger.stops import Stops
from tui_gru.engine.training import Trainer


def test_stops_survive_the_process(tmp_path):
    session = Session()
    session.break_at("h̃", condition="any(h_tilde > 0.9)", hits=">2")
    session.break_at("loss", log="{loss}")
    session.watch("Wz[0, 0]", stops=True)
    session.change_stop(2, enabled=False)
    session.delete_stop(session.watch("h").id)
    session.save(tmp_path / "it.tui-gru")
    other = Session.open(tmp_path / "it.tui-gru")
    assert other.stops == session.stops
    assert session.continue_()
    assert other.continue_()
    assert other.position == session.position
    assert other.notice.startswith(f"{session.notice}; not recorded")
    assert other.break_at("z").id == 5


@pytest.mark.parametrize(
    "kept",
    [
        3, [], {}, {"last_id": 1}, {"last_id": "1", "breakpoints": [], "watches": []}, {"last_id": 1, "breakpoints": 7},
        {"last_id": 1, "breakpoints": [{"id": 1}], "watches": []},
        {"last_id": 0, "breakpoints": [], "watches": [{"id": 1, "expression": "h", "stops": False, "enabled": True}]},
        {"last_id": 1, "breakpoints": [], "watches": [{"id": 1, "expression": "h +", "stops": False, "enabled": True}]},
        {"last_id": 1, "breakpoints": [], "watches": [{"id": 1, "expression": "h", "stops": 1, "enabled": True}]},
    ],
)  # fmt: skip
def test_kept_stops_that_make_no_sense_are_left_out(tmp_path, kept):
    session = Session()
    session.mark("a")
    session.save(tmp_path / "it.tui-gru")
    altered(tmp_path / "it.tui-gru", "kept", lambda fact: {**fact, "stops": kept})
    other = Session.open(tmp_path / "it.tui-gru")
    assert other.stops in (Stops(), Stops(last_id=1))
    assert other.notice.startswith("reopened where it was left: ")
    assert other.stops.last_id or other.notice.endswith("; the entry stops cannot be read and is left out")
    assert other.marks == session.marks


def test_where_runs_stopped_and_what_was_logged_survive_the_process(tmp_path):
    session = Session()
    session.learning = True
    session.break_at("loss", log="{loss:.4f}")
    session.break_at("h", condition="any(h > 0.9)", hits="%3")
    with closing(session):
        session.record_to(tmp_path / "it.tui-gru")
        for _ in range(5):
            session.continue_()
        session.step("batch", -2)
        session.edit("Wz", (0, 0), 0.5)
        session.rename_branch("main~1", "warm")
        session.step("batch", 6)
        shown = session.snapshot()
        assert len(shown.log) > 3
        assert len(shown.hits) > 2
    for name in session.branches:
        session.switch(name)
        with closing(Session.open(tmp_path / "it.tui-gru", record=True)) as other:
            other.switch(name)
            now, then = other.snapshot(), session.snapshot()
            assert (now.hits, now.log) == (then.hits, then.log)


def test_a_branch_that_is_deleted_takes_what_was_logged_on_it_along():
    session = Session()
    session.break_at("loss", log="{loss:.4f}")
    session.step("batch", 3)
    session.step("batch", -1)
    session.edit("Wz", (0, 0), 0.5)
    session.step("batch", 2)
    session.switch("main")
    session.delete_branch("main~1")
    assert set(session.state.log) == {"main"}
    assert len(session.snapshot().log) == 3


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("hits", []), ("hits", {"main": 7}), ("hits", {"main": [-1]}), ("hits", {"main": ["1"]}), ("hits", {"main": [True]}),
        ("log", {"main": [[1, 2]]}), ("log", {"main": [[1, 2, 3]]}), ("log", {"main": [["1", 2, "text"]]}), ("log", "main"),
    ],
)  # fmt: skip
def test_kept_hits_and_lines_that_make_no_sense_are_left_out(tmp_path, name, kept):
    session = Session()
    session.step("batch")
    session.save(tmp_path / "it.tui-gru")
    altered(tmp_path / "it.tui-gru", "kept", lambda fact: {**fact, name: kept})
    other = Session.open(tmp_path / "it.tui-gru")
    assert (other.snapshot().hits, other.snapshot().log) == ((), ())
    assert other.notice.endswith(f"; the entry {name} cannot be read and is left out")


@pytest.mark.parametrize("saved", ["closed", "saved", "reopened twice"])
def test_hits_that_were_counted_are_not_counted_again_after_reopening(tmp_path, monkeypatch, saved):
    path, session = tmp_path / "it.tui-gru", Session()
    session.learning = True
    session.break_at("h", condition="any(h > 0.2)", hits="%100000")
    session.break_at("z", condition="any(z > 0.1)", hits=">1000")
    session.step("batch", 300)
    session.edit("Wz", (0, 0), 0.5)
    session.step("batch", 3)
    if saved == "saved":
        session.save(path)
    else:
        session.record_to(path)
        session.step("batch")
        session.close()
    if saved == "reopened twice":
        Session.open(path, record=True).close()
    other, runs, run = Session.open(path), [], Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda *args, **options: (runs.append(args[2]), run(*args, **options)))
    for one in (other, session):
        one.step("batch", 2)
        one.run_back_until("loss > 9")
        one.step("batch", 400)
    assert (other.position, other.notice) == (session.position, session.notice)
    assert "breakpoint 2, hit 1001" in other.notice
    runs.clear()
    Session.open(path).step("batch", 2)
    assert len(runs) < 20


def test_counts_of_a_timeline_that_was_left_hold_as_far_as_it_is_shared(tmp_path):
    session = Session()
    session.learning = True
    session.break_at("h", condition="any(h > 0.2)", hits=">700")
    session.step("batch", 200)
    with closing(session):
        session.record_to(tmp_path / "it.tui-gru")
        session.step("batch", -100)
        session.edit("Wz", (0, 0), 5.0)
    other = Session.open(tmp_path / "it.tui-gru")
    for one in (other, session):
        one.step("batch", 400)
    assert other.position == session.position
    assert ", hit 701" in session.notice
    assert other.notice.startswith(session.notice)


def test_a_session_driven_at_random_keeps_its_stops(tmp_path):
    session = acted(3, 40)
    watch = session.watch("h", stops=True)
    session.break_at("Wz")
    session.record_to(tmp_path / "it.tui-gru")
    session.change_stop(watch.id, enabled=False)
    session.close()
    other = Session.open(tmp_path / "it.tui-gru")
    assert (other.stops, other.branches) == (session.stops, session.branches)
