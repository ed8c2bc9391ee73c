"""Recordings of scripts that ended within a step: what is not known stays blank, and why the script ended is said first."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tui_gru import Session
from tui_gru.cli.commands import main
from tui_gru.debugger.position import as_typed, place_name
from tui_gru.errors import TuiGruError
from tui_gru.imported.recordings import open_recording
from tui_gru.session.answers import place_in_words, position_facts
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


def test_all_steps_of_a_recording_are_there_before_any_is_stepped_through(session):
    assert session.position.tick == 0
    assert session.newest == session.snapshot().newest == session.end
    batches, losses = session.history("loss")
    assert (batches[-1], len(session.story(5).columns["loss"])) == (STEPS, STEPS + 1)
    assert losses[0] == pytest.approx(session.snapshot().losses[0])


def test_a_place_has_one_name_that_can_be_typed(tmp_path):
    model, head, optimizer = parts()
    with tui_gru.record(tmp_path / "run.gru", model, optimizer, every=5, last=0, on="") as recorder:
        train(recorder, model, head, optimizer)
    session = Session.open(tmp_path / "run.gru")
    session.seek("step 10 t2")
    snapshot = session.snapshot()
    assert place_name(session.position) == as_typed(session.position) == "step 10 t2"
    assert place_in_words(snapshot) == "at step 10 · t 2 · forward"
    assert position_facts(session.position) == {
        "epoch": 1, "batch": 3, "t": 2, "step": 10, "phase": "forward", "words": "step 10 · t 2 · forward",
    }  # fmt: skip
    assert "step 10, t 2, forward" in repr(session)
    session.seek("step 5")
    session.step("batch")
    assert place_in_words(session.snapshot()) == "at the end of step 5: step 10 begins with the next line"


def test_a_gradient_that_was_not_recorded_is_blank_and_no_zero(session):
    assert session.config.source.without_gradients == {STEPS}
    session.seek(session.end)
    assert (session.position.number, session.position.phase) == (STEPS, "forward")
    assert session.value("h") is not None
    assert session.value("dh") is None
    assert session.value("grad_norm") is None
    assert session.gradient("Wz") is None
    assert session.recorded_gradient("Wz") is None
    with pytest.raises(TuiGruError, match=f"^no gradient was recorded in step {STEPS}$"):
        session.explain("dh", (0, 0), 0)
    session.step("batch", -1)
    assert session.value("dh") is not None
    assert session.run_to("dz").number == STEPS  # no line of it is executed there, so it ends where the recording does
    assert session.position == session.end


def test_p_grad_of_the_step_before_is_not_that_of_a_step_without_a_backward_pass(tmp_path):
    model, head, optimizer = parts()
    with tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1):
        for number in range(3):
            out, _ = model(torch.randn(5, 4, 3))
            if number < 2:  # the script leaves its loop before it clears p.grad
                optimizer.zero_grad()
                head(out).pow(2).mean().backward()
                optimizer.step()
    recording = open_recording(tmp_path / "run.gru")
    assert [step.norm is None for step in recording.steps] == [False, False, True]
    assert not recording.load(2).gradients
    session = Session.open(tmp_path / "run.gru")
    session.seek(session.end)
    assert session.recorded_gradient("Wz") is None
    assert [norm is None for norm in session.history("grad_norm")[1].tolist()] == [False, False, True]


NOT_GIVEN, WAS_NAN = 4, 6  # steps


@pytest.fixture(scope="module")
def gaps(tmp_path_factory):
    """A recording in which one step has no loss, and another has one that is NaN; its gradients are clipped."""
    folder = tmp_path_factory.mktemp("gaps") / "run.gru"
    model, head, optimizer = parts()
    with tui_gru.record(folder, model, optimizer, every=2) as recorder:
        for number in range(STEPS):
            optimizer.zero_grad()
            loss = head(model(torch.randn(5, 4, 3))[0]).pow(2).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
            recorder.step(None if number == NOT_GIVEN else torch.tensor(float("nan")) if number == WAS_NAN else loss)
    return folder


def test_a_loss_that_is_not_known_differs_from_one_that_was_nan(gaps, tmp_path, capsys):
    losses = open_recording(gaps).losses.tolist()
    assert [losses.index(None), losses.count(None)] == [NOT_GIVEN, 1]
    assert [at for at, loss in enumerate(losses) if loss is not None and np.isnan(loss)] == [WAS_NAN]
    session = Session.open(gaps)
    place, bad = session.steps.index(NOT_GIVEN), session.steps.index(WAS_NAN)
    values = session.history("loss")[1].tolist()
    assert values[place] is None
    assert np.isnan(values[bad])
    frame = session.to_frame("history")
    assert frame["loss"].isna().tolist() == [at == place for at in range(len(values))]
    assert np.isnan(frame["loss"][bad])
    told = session.story()
    assert (told.number("loss", place), told.recorded["loss"].sum()) == (None, len(values) - 1)
    assert np.isnan(told.number("loss", bad))
    facts = dict(session.report().facts)
    assert facts["losses that are not finite"] == "1 step"
    path = tmp_path / "story.csv"
    assert main(["run", "--session", str(gaps), "--json", "-x", f"e; story; export {path}"]) == 0
    plain = json.loads(capsys.readouterr().out.splitlines()[1])["data"]["columns"]
    assert (plain["loss"][place], plain["loss"][bad], plain["max_weight"][bad]) == (None, "NaN", None)
    with path.open(encoding="utf-8") as lines:
        rows = {row["recorded_step"]: row["loss"] for row in csv.DictReader(lines)}
    assert (rows[str(NOT_GIVEN)], rows[str(WAS_NAN)]) == ("", "nan")


def test_the_norm_of_the_gradient_is_that_of_p_grad_wherever_it_is_read(gaps):
    session = Session.open(gaps)
    session.seek(session.end)
    last = session.value("grad_norm")
    assert last == pytest.approx(1e-3, rel=1e-2)
    assert session.history("grad_norm")[1][-1] == last == session.story().columns["grad_norm"][-1]
    derived = np.sqrt(sum(float((session.gradient(name).astype(float) ** 2).sum()) for name in session.parameter_names))
    assert derived > 2 * last
    note = session.explain("grad_norm", ()).derivation.note
    assert note.startswith("the norm of p.grad as your script's optimizer used it at step 10")
    assert "; that of the derived gradients is " in note
    assert float(note.rpartition(" ")[2]) == pytest.approx(derived, rel=1e-3)
    session.edit("Wz", (0, 0), 0.5)
    assert session.value("grad_norm") > 2 * last  # of the changed weights, which no script has
