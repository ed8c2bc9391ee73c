"""A training that dies: the fatal step and the last ones before it are in the recording, and the process ends as without it."""

import gc
import signal
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest
import torch

import tui_gru
from tests.capture.dying import FATAL, STEPS
from tui_gru.capture.calls import Note
from tui_gru.capture.record import record
from tui_gru.imported.recordings import open_recording

ROOT = Path(__file__).parents[2]
EXITS = {
    "break": 0, "continue": 0, "end": 0, "raise": 1, "raise after backward": 1, "anomaly": 1, "exit": 3,
    "SIGINT": -2, "SIGTERM": -15, "SIGHUP": -1, "SIGKILL": -9, "worker": 0,
}  # fmt: skip
#: How the recording says that the script ended, by the way; the error is not seen where the script left its loop.
ENDS = {
    "raise": ("error", "ArithmeticError: the loss is not finite"),
    "raise after backward": ("error", "ArithmeticError: the loss is not finite"),
    "anomaly": ("error", "returned nan values in its"),
    "exit": ("stopped", "sys.exit(3)"),
    "SIGINT": ("stopped", "ctrl+c"),
    "SIGTERM": ("stopped", "SIGTERM"),
    "SIGHUP": ("stopped", "SIGHUP"),
}
BEFORE = list(range(FATAL - 8, FATAL))


@pytest.fixture(scope="module")
def process():
    """A process that runs a training that dies for each line; see tests/capture/dying.py."""
    with Popen([sys.executable, "-m", "tests.capture.dying"], cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as process:
        yield process
        process.kill()


def died(process, folder, way, where="function", nan="weights"):
    """Return the recording of a training that died."""
    process.stdin.write(f"{way} | {where} | {nan} | {folder}\n")
    code = int(process.stdout.readline())
    assert code == EXITS[way]
    recording = open_recording(folder)
    assert recording.damaged == ()
    return recording


def numbers(recording):
    return [step.number for step in recording.steps]


WAYS = [way for way in EXITS if way not in ("end", "SIGKILL", "worker")]


@pytest.mark.parametrize(
    ("way", "where", "nan"), [(way, *how) for way in WAYS for how in (("function", "weights"), ("with", "loss"))]
)
def test_the_fatal_step_and_those_before_it_are_kept(process, tmp_path, way, where, nan):
    recording = died(process, tmp_path / "run.gru", way, where, nan)
    assert numbers(recording)[: 3 + 9] == [0, 10, 20, *BEFORE, FATAL]
    assert recording.closed
    step = recording.load(FATAL)
    assert len(step.calls) == (2 if way == "continue" else 1)  # the graph of the last one is freed when the next one is complete
    assert Note.CUT in step.notes
    assert np.isnan(step.calls[0].out).any() == (nan == "weights")
    assert step.calls[0].learned == (way in ("raise after backward", "anomaly") and not (way == "anomaly" and nan == "weights"))
    whole = recording.load(FATAL - 1)
    assert (Note.CUT in whole.notes, whole.updated, whole.calls[0].learned) == (False, True, True)
    assert recording.total == FATAL + 1
    is_seen = way in ENDS and (way, where) != ("exit", "function")  # which leaves no error behind
    kind, cause = ENDS[way] if is_seen else ("unseen", "")
    assert (recording.end.kind, recording.end.step) == (kind, FATAL)
    assert cause in recording.end.cause
    assert recording.end.place.startswith("dying.py:") == is_seen


@pytest.mark.parametrize("where", ["close", "with"])
def test_a_script_that_leaves_its_loop_and_closes_is_no_different(process, tmp_path, where):
    recording = died(process, tmp_path / "run.gru", "break", where, "loss")
    assert numbers(recording) == [0, 10, 20, *BEFORE, FATAL]


def test_what_is_known_at_the_first_number_that_is_not_finite_survives_a_kill(process, tmp_path):
    recording = died(process, tmp_path / "run.gru", "SIGKILL")
    assert numbers(recording) == [0, 10, 20, *BEFORE, FATAL]
    assert not recording.closed
    step = recording.load(FATAL)
    assert Note.CUT in step.notes
    assert np.isnan(step.calls[0].out).any()


def test_a_training_that_goes_on_has_the_whole_step(process, tmp_path):
    recording = died(process, tmp_path / "run.gru", "end")
    assert numbers(recording) == [0, 10, 20, *BEFORE, FATAL, *range(FATAL + 1, STEPS)]
    step = recording.load(FATAL)
    assert (step.notes, step.updated, step.calls[0].learned) == ((), True, True)
    assert recording.closed  # at the end of the process
    assert recording.total == STEPS


def test_the_first_number_that_is_not_finite_is_found_in_the_step_that_was_cut_off(process, tmp_path):
    died(process, tmp_path / "run.gru", "break")
    session = tui_gru.Session.open(tmp_path / "run.gru")
    assert session.run_to_not_finite()
    assert session.steps[session.position.batch] == FATAL
    assert "The script stopped inside of this step" in session.remarks


def test_a_forked_worker_writes_nothing(process, tmp_path):
    recording = died(process, tmp_path / "run.gru", "worker", nan="none")
    assert numbers(recording) == [0, 10, 20, 30, *range(STEPS - 8, STEPS)]
    assert all(recording.load(number).updated for number in numbers(recording))
    assert not list(recording.folder.glob("*.part"))


def begun(folder, **options):
    model = torch.nn.GRU(3, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = record(folder, model, optimizer, every=0, last=2, **options)
    for _ in range(4):
        model(torch.randn(5, 2, 3))[0].sum().backward()
        optimizer.step()
        recorder.step()
    return model, recorder


def test_a_text_that_is_generated_after_the_last_step_is_no_step_that_was_cut_off(tmp_path):
    """It is generated with a graph and in training mode, by whoever forgets no_grad and eval; but not with the rows of a batch."""
    model, recorder = begun(tmp_path / "run.gru")
    text = model(torch.randn(1, 1, 3))
    recorder.close()
    assert open_recording(tmp_path / "run.gru").steps == ()
    assert text[0].requires_grad


def test_a_recorder_that_nobody_holds_any_more_is_closed_with_its_last_steps(tmp_path):
    begun(tmp_path / "run.gru")
    gc.collect()
    recording = open_recording(tmp_path / "run.gru")
    assert (numbers(recording), recording.closed) == ([2, 3], True)


def test_the_handlers_of_signals_are_put_back_and_those_of_the_script_are_left(tmp_path):
    first, second = begun(tmp_path / "a.gru")[1], begun(tmp_path / "b.gru")[1]
    assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
    first.close()
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    second.close()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        third = begun(tmp_path / "c.gru")[1]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        third.close()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
