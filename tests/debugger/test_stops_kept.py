"""Breakpoints and watches survive the process."""

import pytest

from tests.debugger.acting import acted
from tui_gru import Session
from tui_gru.debugger.stops import Stops


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
    assert (other.position, other.notice) == (session.position, session.notice)
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
    session.keep("stops", kept)
    session.mark("a")
    session.save(tmp_path / "it.tui-gru")
    other = Session.open(tmp_path / "it.tui-gru")
    assert other.stops in (Stops(), Stops(last_id=1))
    assert other.notice.startswith("reopened where it was left: ")
    assert other.stops.last_id or other.notice.endswith("; what was kept as stops cannot be read and is left out")
    assert other.marks == session.marks


def test_a_session_driven_at_random_keeps_its_stops(tmp_path):
    session = acted(3, 40)
    watch = session.watch("h", stops=True)
    session.break_at("Wz")
    session.record_to(tmp_path / "it.tui-gru")
    session.change_stop(watch.id, enabled=False)
    session.close()
    other = Session.open(tmp_path / "it.tui-gru")
    assert (other.stops, other.branches) == (session.stops, session.branches)
