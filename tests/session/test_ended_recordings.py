"""Recordings of scripts that ended within a step: what is not known stays blank, and why the script ended is said first."""

import pytest
import torch
from torch import nn

import tui_gru
from tui_gru import Session
from tui_gru.imported.recordings import open_recording
from tui_gru.tui.panels.time import loss_columns
from tui_gru.tui.plots import Envelope, TimeScale

STEPS = 12


def train(recorder, model, head, optimizer, fail=lambda: None):
    """Train for some steps, and call `fail` between the forward and the backward pass of one more."""
    for number in range(STEPS + 1):
        optimizer.zero_grad()
        out, _ = model(torch.randn(5, 4, 3))
        if number == STEPS:
            fail()
            return
        loss = head(out).pow(2).mean()
        loss.backward()
        optimizer.step()
        recorder.step(loss)


def parts():
    torch.manual_seed(3)
    model, head = nn.GRU(3, 4), nn.Linear(4, 2)
    return model, head, torch.optim.Adam([*model.parameters(), *head.parameters()], 1e-2)


def wrong_shape():
    nn.Linear(4, 2)(torch.randn(3, 9))


def stopped(folder, fail, error):
    model, head, optimizer = parts()
    with pytest.raises(error), tui_gru.record(folder, model, optimizer, every=1) as recorder:
        train(recorder, model, head, optimizer, fail)
    return Session.open(folder)


def interrupted():
    raise KeyboardInterrupt


@pytest.fixture
def session(tmp_path):
    return stopped(tmp_path / "run.gru", interrupted, KeyboardInterrupt)


def test_a_loss_that_is_not_known_is_blank_and_no_number_that_is_not_finite(session):
    assert session.steps[-1] == STEPS
    assert not session.run_to_not_finite()
    assert session.notice == "every number so far is finite"
    session.seek(session.end)
    assert session.loss is None
    assert session.snapshot().finite
    assert session.findings() == ()
    assert not any("not finite" in name for name, _ in session.report().facts)


def test_a_run_over_a_loss_that_is_not_known_does_not_stop_there(session):
    session.stop_on_nan = True
    assert not session.continue_()
    assert session.position == session.end


def test_the_time_line_marks_no_loss_that_is_not_known(session):
    snapshot = session.snapshot()
    envelope, ticks = Envelope(snapshot.losses), snapshot.program.ticks
    assert float(envelope.newest) == pytest.approx(snapshot.losses[STEPS - 1], abs=1e-3)
    for width in (40, STEPS // 3):  # columns narrower and wider than a batch
        columns = loss_columns(envelope, TimeScale(ticks * len(envelope), width), ticks, ticks * len(envelope))
        assert not columns.broken.any()


def test_the_error_that_ended_a_script_is_said_first(tmp_path):
    session = stopped(tmp_path / "run.gru", wrong_shape, RuntimeError)
    said = f"the script ended in step {STEPS}: RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x9 and 4x2), "
    assert session.notice.startswith(said + "test_ended_recordings.py:")
    (finding,) = session.findings()
    assert finding.name == "script-ended"
    assert finding.title.startswith(said)
    assert "nn.Linear(4, 2)(torch.randn(3, 9))" in finding.evidence[0].words


@pytest.mark.parametrize("where", ["finally", "except"])
def test_a_recording_that_is_closed_because_of_an_error_says_which(tmp_path, where):
    model, head, optimizer = parts()
    recorder = tui_gru.record(tmp_path / "run.gru", model, optimizer, every=0, last=3, on="")
    try:
        train(recorder, model, head, optimizer, wrong_shape)
    except RuntimeError:
        if where == "except":
            recorder.close()
    finally:
        recorder.close()
    recording = open_recording(tmp_path / "run.gru")
    if where == "finally":  # the error was handled before
        assert (recording.end.kind, recording.end.step) == ("unseen", STEPS)
    else:
        assert (recording.end.kind, recording.end.step) == ("error", STEPS)
        assert [step.number for step in recording.steps] == [STEPS - 3, STEPS - 2, STEPS - 1, STEPS]


def test_an_error_that_was_handled_before_the_recording_began_has_not_ended_it(tmp_path):
    model, head, optimizer = parts()
    try:
        raise MemoryError
    except MemoryError:
        recorder = tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1)
        train(recorder, model, head, optimizer)
        recorder.close()
    assert open_recording(tmp_path / "run.gru").end.kind == "unseen"  # it left its loop within a step
    assert Session.open(tmp_path / "run.gru").findings() == ()


def test_a_file_that_was_removed_is_named(tmp_path):
    model, head, optimizer = parts()
    with tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1) as recorder:
        train(recorder, model, head, optimizer)
    files = sorted((tmp_path / "run.gru").glob("*.safetensors"))
    assert open_recording(tmp_path / "run.gru").damaged == ()
    files[0].unlink()
    assert "1 file that was written is not there any more: step 0" in Session.open(tmp_path / "run.gru").notice
    files[-1].unlink()
    said = f"2 files that were written are not there any more, among steps 0 to {STEPS}"
    assert said in Session.open(tmp_path / "run.gru").notice
