"""Recordings of several ranks: each writes its own files, and the gradient is known for steps that all ranks kept."""

import shutil

import numpy as np
import pytest

from tests.capture.runs import IN, H
from tests.imported.recomputed import compare_gradients
from tests.rounding import of_step
from tui_gru import Session, TuiGruError
from tui_gru.errors import RecordingError
from tui_gru.imported.recordings import open_recording


@pytest.fixture
def folder(folder_of_ranks, tmp_path):
    return shutil.copytree(folder_of_ranks / "record", tmp_path / "run.gru")


def test_ranks_are_combined(folder):
    recording = open_recording(folder)
    assert (recording.ranks, recording.missing_ranks, recording.closed) == (2, (), True)
    assert [step.ranks for step in recording.steps] == [(0, 1)] * 3
    for kept in recording.steps:
        together = [recording.load(kept.number, rank) for rank in kept.ranks]
        assert [step.rank for step in together] == [0, 1]
        compared = compare_gradients(together)
        assert compared.cause == "equal"
        assert compared.error <= of_step(together)


def test_a_session_has_the_rows_of_both_and_the_mean_of_their_gradients(folder, tmp_path):
    s = Session.open(folder)
    first = open_recording(folder).load(0)
    rows, allowed = first.calls[0].rows, of_step([first, first])
    assert (s.steps, s.config.batch_size) == ((0, 1, 2), 2 * rows)
    assert "missing" not in s.notice
    for _ in s.steps:
        s.step("batch")
        assert s.expected.agrees
        assert "p.grad is the derived gradient" in s.remarks
        assert "The rows are those of 2 ranks" in s.remarks
        for name in s.parameter_names:
            ours, theirs = s.gradient(name), s.recorded_gradient(name)
            assert np.abs(ours - theirs).max() <= allowed * max(1, np.abs(theirs).max()), name
    s.save(tmp_path / "s.tui-gru")
    assert Session.open(tmp_path / "s.tui-gru").position == s.position
    for path in folder.glob("*rank1*"):
        path.unlink()
    one = Session.open(folder)
    assert one.config.batch_size == rows
    assert "of 2 ranks these are missing: 1" in one.notice
    with pytest.raises(TuiGruError, match=r"step 0 of its recording .* has changed"):
        Session.open(tmp_path / "s.tui-gru")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_step_with_a_damaged_rank_shows_the_other_one(folder, tmp_path, rank):
    """The gradient of the step, the mean over both, is not known; everything else of the other rank is."""
    shard = folder / f"step-00000001.rank{rank}.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4])
    s = Session.open(folder)
    assert s.steps == (0, 1, 2)
    assert f"shown without all of its ranks, since one cannot be read: {shard.name}: its tensors take" in s.notice
    rows = open_recording(folder).load(0).calls[0].rows
    for number in s.steps:
        s.step("batch")
        assert s.expected.agrees
        assert ("The rows are those of 2 ranks" in s.remarks) is (number != 1)
        assert ("p.grad is the mean over all ranks, and not all of them are here" in s.remarks) is (number == 1)
        assert s.value("live", t=0)[rows:].any() == (number != 1)
    s.seek("e1 b2 t1")
    assert np.array_equal(s.value("x", t=0)[:rows], open_recording(folder).load(1, rank=1 - rank).calls[0].x[0])
    s.save(tmp_path / "s.tui-gru")
    assert Session.open(tmp_path / "s.tui-gru").position == s.position
    for path in folder.glob("step-00000001*"):
        path.write_bytes(b"")
    assert Session.open(folder).steps == (0, 2)
    with pytest.raises(TuiGruError, match=r"step 1 of its recording .* has changed"):
        Session.open(tmp_path / "s.tui-gru")


def test_a_rank_that_is_missing(folder):
    for path in folder.glob("*rank0*"):
        path.unlink()
    recording = open_recording(folder)
    assert (recording.missing_ranks, recording.damaged) == ((0,), ())
    assert recording.load(1).rank == 1
    assert compare_gradients(recording.load(1)).cause == "incomplete"


def test_a_step_that_one_rank_has_not_kept(folder):
    next(folder.glob("step-00000001.rank1*")).unlink()
    recording = open_recording(folder)
    assert [step.ranks for step in recording.steps] == [(0, 1), (0,), (0, 1)]
    assert recording.missing_ranks == ()
    with pytest.raises(RecordingError, match="rank 1 did not keep step 1; rank 0 did"):
        recording.load(1, rank=1)


def test_ranks_come_into_one_folder_although_an_earlier_run_has_left_a_place_for_one(folder_of_ranks):
    """Each takes a free folder by itself, without waiting for the others."""
    earlier, now = open_recording(folder_of_ranks / "again"), open_recording(folder_of_ranks / "again-2")
    assert (earlier.missing_ranks, [step.ranks for step in earlier.steps]) == ((1,), [(0,)] * 3)
    assert (now.missing_ranks, [step.ranks for step in now.steps]) == ((), [(0, 1)] * 3)


def test_ranks_given_by_hand(tmp_path):
    """Without torch.distributed, with the numbers of another launcher."""
    import torch

    from tui_gru.capture.record import record

    model = torch.nn.GRU(IN, H)
    for rank in (1, 0):
        with record(tmp_path / "run.gru", model, every=1, rank=rank) as recorder:
            model(torch.randn(3, 2, IN))[0].sum().backward()
            recorder.step(rank)
    recording = open_recording(tmp_path / "run.gru")
    assert [(step.number, step.ranks, step.loss) for step in recording.steps] == [(0, (0, 1), 0.0)]
