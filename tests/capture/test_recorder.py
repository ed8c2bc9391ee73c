"""`tui_gru.record`: which steps are written, and when."""

import errno
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.runs import IN, B, H, T, recorded, trained
from tests.capture.scripts import HALF, SCRIPTS
from tests.capture.test_putting_back import hooks
from tests.capture.test_scripts import captured
from tui_gru.capture.calls import Buffers
from tui_gru.capture.format import read_shard
from tui_gru.capture.record import record
from tui_gru.errors import CaptureError
from tui_gru.imported.recordings import open_recording

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run.gru"


def lines_of(folder):
    """Return the lines on the steps of the first rank."""
    return [json.loads(line) for line in (folder / "steps.rank0.jsonl").read_text().splitlines()]


def kept(folder):
    return sorted((line["step"], line["why"]) for line in lines_of(folder) if "step" in line)


def losses_in(folder):
    return [None if loss is None else float(loss) for line in lines_of(folder) for loss in line.get("losses", ())]


def test_every_k_th_step_is_kept(folder):
    recorder = trained(folder, steps=10, every=4, last=0, on="")
    assert kept(folder) == [(0, "every"), (4, "every"), (8, "every")]
    assert recorder.kept == [0, 4, 8]


def test_a_trigger_writes_the_last_steps_before_it(folder):
    trained(folder, losses=[1, 1, 1, 1, 1, 10, 1, 1], every=0, last=3, on="loss > 3*mean(loss)")
    assert kept(folder) == [(2, "before"), (3, "before"), (4, "before"), (5, "trigger")]


def test_a_trigger_writes_no_step_twice(folder):
    trained(folder, losses=[1, 1, 1, 1, 10, 1, 10, 1], every=3, last=2, on="loss > 3")
    assert kept(folder) == [(0, "every"), (2, "before"), (3, "every"), (4, "trigger"), (5, "before"), (6, "trigger")]


def test_by_default_the_first_nan_is_caught(folder):
    trained(folder, losses=[1.0] * 12 + [float("nan")] * 5, every=0)
    assert [number for number, _ in kept(folder)] == list(range(4, 13))


def test_a_nan_inside_is_caught_without_a_loss(folder):
    model = nn.GRU(IN, H)

    class Poisoned(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.calls = model, 0

        def forward(self, x):
            self.calls += 1
            return self.gru(x * (float("nan") if self.calls == 4 else 1))

    trained(folder, losses=[None] * 6, model=Poisoned(), every=0, last=1)
    assert kept(folder) == [(2, "before"), (3, "trigger")]


class CountingBuffers(Buffers):
    """Counts the arrays that are allocated or reused."""

    taken = 0

    def __call__(self, shape, dtype):
        self.taken += 1
        return super().__call__(shape, dtype)


@pytest.fixture
def buffers(monkeypatch):
    """The memory that the recorder of the test uses for copies."""
    memory = CountingBuffers()
    monkeypatch.setattr("tui_gru.capture.record.Buffers", lambda: memory)
    return memory


def after_each_step(measure, folder, *, steps, **options):
    """Record steps of a GRU. Returns what `measure` returns after each."""
    model = nn.GRU(64, 128)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    measured = []
    with record(folder, model, optimizer, **options) as recorder:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(16, 16, 64))[0].sum().backward()
            optimizer.step()
            recorder.step()
            measured.append(measure())
    return measured


def test_nothing_is_copied_for_steps_that_are_not_wanted(folder, buffers):
    taken = after_each_step(lambda: buffers.taken, folder, steps=6, every=3, last=0, on="")
    assert [after > before for before, after in pairwise([0, *taken])] == [True, False, False, True, False, False]


def test_memory_is_used_again(folder, buffers):
    sizes = after_each_step(lambda: buffers.nbytes, folder, steps=12, every=0, last=3)
    assert sizes[4] > 0
    assert len(set(sizes[4:])) == 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_step_comes_back_as_it_was(script):
    """Every kind of script, recorded and captured: the same numbers, bit for bit, and the same words.

    Those of the captured run are those of the script alone: tests/capture/test_scripts.py.
    """
    steps, result = captured(script)
    folder, recorded_result = recorded(script)
    assert recorded_result == result
    recording = open_recording(folder)
    assert recording.damaged == ()
    assert [step.number for step in recording.steps] == [step.number for step in steps]
    for step in steps:
        same(recording.load(step.number), step)
    half = script.__name__ in HALF
    kinds = {tensor.dtype for tensor in read_shard(next(folder.glob("step-00000000.*")))[1].values()}
    assert ("bfloat16" in kinds) is half


def same(ours, theirs):
    """Check that dataclasses have the same values, and arrays the same bits."""
    if isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == np.ascontiguousarray(theirs).tobytes()
    elif hasattr(theirs, "__dataclass_fields__"):
        assert type(ours) is type(theirs)
        for name in theirs.__dataclass_fields__:
            same(getattr(ours, name), getattr(theirs, name))
    elif isinstance(theirs, dict):
        assert sorted(ours) == sorted(theirs)
        for name in theirs:
            same(ours[name], theirs[name])
    elif isinstance(theirs, tuple):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    else:
        assert ours == theirs


def test_calls_of_the_same_weights_share_them_again(folder):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(IN, H)

        def forward(self, x):
            outputs, h = self.gru(x)
            return outputs + self.gru(x, torch.randn(1, B, H))[0], h

    trained(folder, steps=1, model=Twice())
    first, second = open_recording(folder).load(0).calls
    assert first.weights is second.weights
    assert not first.h0_given
    assert second.h0_given


def test_the_losses_of_steps_that_were_not_kept_are_there(folder):
    losses = [float(n) for n in range(10)] + [float("nan"), None, float("inf")]
    trained(folder, losses=losses, every=4, last=0, on="")
    np.testing.assert_array_equal(np.array(losses_in(folder), float), np.array(losses, float))


def test_a_long_run_without_a_kept_step_writes_its_losses(folder, monkeypatch):
    monkeypatch.setattr("tui_gru.capture.record.MOST_LOSSES", 4)
    model = nn.GRU(IN, H)
    recorder = record(folder, model, every=0, last=0, on="")
    for number in range(9):
        recorder.step(number)
    assert losses_in(folder) == list(range(8))
    recorder.close()
    assert losses_in(folder) == list(range(9))


def test_run_json_says_what_was_recorded(folder):
    trained(folder, steps=1, every=2, last=3, on="nan")
    run = json.loads((folder / "run.json").read_text())
    module = {"name": "gru", "kind": "GRU", "input_size": IN, "hidden_size": H, "layers": 1, "bidirectional": False}
    assert (run["format"], run["version"], run["optimizer"], run["ranks"]) == ("tui-gru-recording", 2, "SGD", 1)
    assert run["modules"] == [{**module, "bias": True, "batch_first": False, "dropout": 0.0, "nonlinearity": "tanh"}]
    assert (run["every"], run["last"], run["on"]) == (2, 3, "nan")


def test_it_is_there_under_the_projects_own_name(folder):
    assert tui_gru.record is record
    with tui_gru.record(folder, nn.GRU(IN, H)) as recorder:
        recorder.step(0.5)
    assert open_recording(folder).closed


def test_a_script_that_fails_leaves_a_recording_and_no_hooks(folder):
    model = nn.GRU(IN, H)

    def script():
        with record(folder, model, every=1) as recorder:
            model(torch.randn(T, B, IN))[0].sum().backward()
            recorder.step()
            raise RuntimeError("of the script")

    with pytest.raises(RuntimeError, match="of the script"):
        script()
    assert not hooks(model)
    assert kept(folder) == [(0, "every")]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_folder_again_is_the_next_free_name_and_is_said(folder, capsys):
    trained(folder, steps=2, every=1)
    before = contents(folder)
    second = trained(folder, steps=3, every=1)
    assert second.folder == folder.with_name("run-2.gru")
    assert capsys.readouterr().err == (
        f"tui_gru.record: {folder} has a recording already, so this one is {second.folder}; overwrite=True replaces it\n"
    )
    folder.with_name("run-3.gru").write_text("a file")
    other = trained(folder, steps=1, every=1, model=nn.GRU(IN, H + 1), rank=1)  # another model, of which there is no such rank
    assert other.folder == folder.with_name("run-4.gru")
    assert [len(open_recording(each).steps) for each in (folder, second.folder, other.folder)] == [2, 3, 1]
    assert contents(folder) == before


def test_steps_without_a_list_are_a_recording_too(folder):
    trained(folder, steps=2, every=1)
    (folder / "run.json").unlink()
    (folder / "steps.rank0.jsonl").unlink()
    assert trained(folder, steps=1).folder == folder.with_name("run-2.gru")


def test_a_folder_without_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert trained(".", steps=1).folder == Path()
    assert trained(".", steps=1).folder == tmp_path.with_name(f"{tmp_path.name}-2")


def test_a_script_changes_its_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    model = nn.GRU(IN, H)
    model.register_forward_hook(lambda *_: os.chdir(tmp_path / "outputs"))
    assert trained("run.gru", steps=4, every=1, model=model).kept == [0, 1, 2, 3]
    assert len(open_recording(tmp_path / "run.gru").steps) == 4


def test_overwrite_replaces_a_recording_and_nothing_else(folder, capsys):
    trained(folder, steps=6, every=1)
    trained(folder, steps=2, every=1, rank=1)
    (folder / "notes.txt").write_text("mine")
    (folder / "step-1.safetensors").write_text("mine as well")
    (folder / "step-00000009.rank0.safetensors.part").write_text("of a process that was killed")
    new = trained(folder, steps=2, every=2, model=nn.GRU(IN, H + 1), overwrite=True)
    assert (new.folder, capsys.readouterr().err) == (folder, "")
    names = {"run.json", "steps.rank0.jsonl", "step-00000000.rank0.safetensors", "notes.txt", "step-1.safetensors"}
    assert contents(folder).keys() == names
    recording = open_recording(folder)
    assert (recording.modules[0].hidden_size, [step.number for step in recording.steps], recording.damaged) == (H + 1, [0], ())


def test_overwrite_closes_a_recorder_of_the_same_folder(folder):
    model = nn.GRU(IN, H)
    first = record(folder, model, every=1)
    first.step(1.0)
    with record(folder, model, every=1, overwrite=True) as second:
        second.step(2.0)
    assert losses_in(folder) == [2.0]
    assert not hooks(model)


def test_a_cell_of_a_notebook_that_runs_again_closes_its_recorder(folder):
    """Its hooks would otherwise capture every later call into a step that nobody ends."""
    model = nn.GRU(IN, H)
    trained(folder, steps=3, every=2, model=model, close=False)
    other = record(folder.with_name("other.gru"), model)
    last = trained(folder, steps=2, every=1, model=model, close=False)
    assert last.folder == folder.with_name("run-2.gru")
    assert [step.number for step in open_recording(folder).steps] == [0, 1, 2]  # with those that were in memory
    assert len(losses_in(folder)) == 3
    assert lines_of(folder)[-1]["closed"]
    last.close()
    assert hooks(model)
    other.close()
    assert not hooks(model)


def test_overwrite_does_not_touch_what_is_no_recording(folder):
    folder.mkdir()
    (folder / "run.json").write_text('{"format": "of another program"}')
    for overwrite in (False, True):
        with pytest.raises(CaptureError, match=r"run\.json in it does not belong to a recording; name another folder"):
            record(folder, nn.GRU(IN, H), overwrite=overwrite)
    assert contents(folder) == {"run.json": b'{"format": "of another program"}'}
    (folder / "run.json").unlink()
    assert trained(folder, steps=1, overwrite=True).folder == folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": -1}, "every must be a whole number, 0 or more, not -1"),
        ({"every": 1.5}, "every must be a whole number, 0 or more, not 1.5"),
        ({"every": -(10**9999)}, "every must be a whole number, 0 or more, not a negative one"),
        ({"every": 10**9999}, "every must be at most 1000000000000000"),
        ({"last": 10**12}, "last must be at most 100000; these steps are held in memory"),
        ({"rank": 10**12}, "rank must be less than 1000000"),
        ({"last": True}, "last must be a whole number, 0 or more, not True"),
        ({"on": "lss > 1"}, "on: column 1: unknown name lss"),
        ({"on": None}, "on must be a condition in quotes, not NoneType; write one such as nan or loss"),
        ({"rank": -1}, "rank must be a whole number, 0 or more, not -1"),
        ({"rank": "first"}, "rank must be a whole number, 0 or more, not 'first'"),
        ({"optimizer": 3}, "optimizer must be a torch.optim.Optimizer, or a list of them, not int"),
        ({"head": nn.ReLU()}, "head must be the torch.nn.Linear"),
    ],
)
def test_arguments_that_do_not_fit(folder, options, message):
    model = nn.GRU(IN, H)
    with pytest.raises(CaptureError, match=message) as caught:
        record(folder, model, **options)
    assert caught.value.option == next(iter(options))
    assert not hooks(model)
    assert not folder.exists()


@pytest.mark.parametrize("loss", [10**400, -(10**9999)], ids=["large", "very large"])
def test_a_loss_that_is_too_large_is_refused(folder, loss):
    with record(folder, nn.GRU(IN, H)) as recorder:
        with pytest.raises(CaptureError, match="loss must be one number, not one too large for a float; give the mean"):
            recorder.step(loss)
        recorder.step(1e308)
    assert losses_in(folder) == [1e308]


def test_a_step_after_the_end_of_the_recording_is_said_once(folder):
    recorder = trained(folder, steps=2, every=1)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.warns(UserWarning, match=r"run\.gru: the recording is closed, so this step and those after it are not recorded"):
        recorder.step(1.0)
    recorder.step(1.0)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_a_copy_of_the_process_does_not_write_into_the_recording(folder):
    code = FORKING.format(folder=str(folder))
    done = subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this process is a copy (fork) of the one that records; its steps are not recorded") == 1
    recording = open_recording(folder)
    assert ([step.number for step in recording.steps], recording.total, recording.closed) == ([0, 1, 2], 3, True)
    assert [line["step"] for line in lines_of(folder) if "step" in line] == [0, 1, 2]


FORKING = """
import os, sys
import torch
from tui_gru import record
torch.set_num_threads(1)
model = torch.nn.GRU(3, 4)
recorder = record({folder!r}, model, every=1)
def train(steps):
    for _ in range(steps):
        loss = model(torch.randn(5, 2, 3))[0].sum()
        loss.backward()
        recorder.step(loss)
train(1)
child = os.fork()
train(2)
if child:
    assert os.waitpid(child, 0)[1] == 0
recorder.close()
"""


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptureError, match="folder must be a path, not NoneType"):
        record(None, nn.GRU(IN, H))
    with pytest.raises(CaptureError, match="file cannot be written: it is a file; name another folder"):
        record(tmp_path / "file", nn.GRU(IN, H))
    with pytest.raises(CaptureError, match="cannot be written: Not a directory; name another folder"):
        record(tmp_path / "file" / "run.gru", nn.GRU(IN, H))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(CaptureError, match="loop cannot be written: it is no folder; name another folder"):
        record(tmp_path / "loop", nn.GRU(IN, H))
    with pytest.raises(CaptureError, match=r"a\\x00b cannot be written: .*embedded null (byte|character).*; name another folder"):
        record(str(tmp_path / "a\0b"), nn.GRU(IN, H))
    with pytest.raises(CaptureError, match="folder is empty; name the folder to record into"):
        record("", nn.GRU(IN, H))
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "run.json")
    with pytest.raises(CaptureError, match=r"cannot record into .*pipe: run\.json in it is no file; copy it again; name another"):
        record(tmp_path / "pipe", nn.GRU(IN, H))


def no_space(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_does_not_stop_the_training(folder, monkeypatch):
    """It is reported once, also in the recording; the steps before and after are in it."""
    import tui_gru.capture.record as module

    write = module.write_shard

    def writing(path, *args, **options):
        return (no_space if path.name[:13] in ("step-00000001", "step-00000002") else write)(path, *args, **options)

    monkeypatch.setattr(module, "write_shard", writing)
    with pytest.warns(UserWarning, match="step 1 is not recorded: No space left on device; training continues") as warned:
        recorder = trained(folder, steps=4, every=1)
    assert len(warned) == 1
    assert recorder.kept == [0, 3]
    assert [number for number, _ in kept(folder)] == [0, 3]
    recording = open_recording(folder)
    assert recording.closed
    assert recording.damaged == ("2 steps could not be written: No space left on device",)
    assert np.isfinite(recording.losses).all()


@pytest.mark.parametrize("names", [("write",), ("write", "fstat", "ftruncate"), ("write", "ftruncate", "close")], ids=" ".join)
def test_a_disk_that_is_full_at_the_end_does_not_stop_the_script(folder, monkeypatch, names):
    """Nothing leaves `close`: the script saves its weights after it."""
    recorder = trained(folder, steps=4, every=2, close=False)
    with monkeypatch.context() as patched:
        for name in names:
            patched.setattr(f"tui_gru.disk.os.{name}", no_space)
        with pytest.warns(UserWarning, match="No space left on device; training continues"):
            recorder.close()
    recording = open_recording(folder)
    assert [step.number for step in recording.steps] == [0, 2]
    assert not recording.closed
    assert recording.damaged == ()


def test_a_line_that_could_not_be_written_costs_no_loss(folder, monkeypatch):
    """Its losses come with the next line; what was written of it is taken back."""
    write = os.write

    def in_part(handle, data):
        return write(handle, data[:9]) if len(data) > 9 else no_space()

    recorder = trained(folder, losses=[1, 2, 3, 4], every=1, close=False)
    with monkeypatch.context() as patched:
        patched.setattr("tui_gru.disk.os.write", in_part)
        with pytest.warns(UserWarning, match="its list of steps cannot be written: No space left"):
            recorder.step(5)
    recorder.step(6)
    recorder.close()
    recording = open_recording(folder)
    assert recording.losses.tolist() == [1, 2, 3, 4, 5, 6]
    assert (recording.closed, recording.damaged) == (True, ())


def test_a_line_that_cannot_be_taken_back_damages_no_other(folder, monkeypatch):
    write = os.write

    def in_part(handle, data):
        return write(handle, data[:9]) if len(data) > 9 else no_space()

    recorder = trained(folder, losses=[1, 2], every=1, close=False)
    with monkeypatch.context() as patched:
        patched.setattr("tui_gru.disk.os.write", in_part)
        patched.setattr("tui_gru.disk.os.ftruncate", no_space)
        with pytest.warns(UserWarning, match="its list of steps cannot be written"):
            recorder.step(3)
    recorder.step(4)
    recorder.close()
    recording = open_recording(folder)
    assert recording.losses.tolist() == [1, 2, 3, 4]
    assert recording.damaged == ("steps.rank0.jsonl: 1 lines of it are damaged; the steps themselves are not",)


@pytest.mark.parametrize("where", ["norm_of", "shard_name", "is_finite"])
def test_no_error_of_the_recorder_reaches_the_training(folder, monkeypatch, where):
    def fail(*arguments, **options):
        raise ZeroDivisionError("a fault")

    recorder = trained(folder, steps=1, every=1, close=False)
    monkeypatch.setattr(f"tui_gru.capture.record.{where}", fail)
    with pytest.warns(UserWarning, match="a fault.*training continues"):
        recorder.step(1.0)
    recorder.close()


def test_a_loss_that_is_no_number_any_more_is_said(folder):
    recorder = trained(folder, steps=1, every=1, close=False)
    with pytest.warns(UserWarning, match="loss must be one number, not .*; give the mean; training continues"):
        recorder.step(torch.zeros(2))
    recorder.close()
    losses = open_recording(folder).losses
    assert np.ma.getmaskarray(losses).tolist() == [False, True]


@pytest.fixture
def flushed(folder, monkeypatch):
    """Return a function that returns the names of the files and folders that were flushed to the disk since it was last called."""
    inodes = set()
    monkeypatch.setattr("tui_gru.disk.SOON", 10**6)
    monkeypatch.setattr("tui_gru.disk.os.fsync", lambda handle: inodes.add(os.fstat(handle).st_ino))

    def names():
        paths = [folder.parent, folder, *folder.iterdir()]
        names = {path.name for path in paths if path.stat().st_ino in inodes}
        inodes.clear()
        return names

    return names


def test_what_survives_a_power_cut(folder, flushed):
    """The description from the beginning, the steps around a trigger at once, and everything at the end."""
    recorder = trained(folder, steps=2, every=2, last=1, on="loss > 3", close=False)
    assert {"run.json", folder.name, folder.parent.name} <= flushed()
    recorder.step(1.0)
    assert flushed() == set()
    recorder.step(4.0)
    steps = {f"step-{number:08}.rank0.safetensors" for number in (0, 2, 3)}
    assert {*steps, "steps.rank0.jsonl", folder.name} <= flushed()
    recorder.step(1.0)
    recorder.close()
    assert {"step-00000004.rank0.safetensors", "steps.rank0.jsonl", folder.name} <= flushed()


def test_a_disk_that_loses_what_it_is_given_is_reported_once(folder, monkeypatch):
    recorder = trained(folder, steps=2, every=1, close=False)
    with monkeypatch.context() as patched:
        patched.setattr("tui_gru.disk.os.fsync", no_space)
        with pytest.warns(UserWarning, match="what is recorded does not reach the disk: No space left on device") as warned:
            recorder.close()
    assert len(warned) == 1


def test_a_file_that_is_half_written_is_taken_away(folder, monkeypatch):
    import tui_gru.capture.format as module

    def failing(*args):
        raise OSError(28, "No space left on device")

    trained(folder, steps=1, every=1)
    monkeypatch.setattr(module.os, "replace", failing)
    with pytest.raises(OSError, match="No space"):
        module.write_shard(folder / "step-00000009.rank0.safetensors", {"a": np.zeros(3, np.float32)}, {})
    assert sorted(path.name for path in folder.iterdir()) == ["run.json", "step-00000000.rank0.safetensors", "steps.rank0.jsonl"]
