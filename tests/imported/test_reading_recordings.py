"""Reading of recordings that are complete, still being written, partial, damaged, or malicious."""

import json
import os
import random
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.capture.runs import IN, B, H, T, trained
from tests.extent import examples
from tests.imported.recomputed import compare_gradients, compare_outputs
from tests.rounding import of_call
from tui_gru.capture.format import read_shard
from tui_gru.capture.record import record
from tui_gru.errors import ModelFileError, RecordingError
from tui_gru.imported.recordings import open_recording
from tui_gru.session.session import Session


@pytest.fixture
def folder(tmp_path):
    trained(tmp_path / "run.gru", steps=7, every=3, last=0, on="")
    return tmp_path / "run.gru"


def shard(folder, step, rank=0):
    return folder / f"step-{step:08d}.rank{rank}.safetensors"


def without_checksums(path):
    """Rewrite a step's file as an earlier version has written it."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = re.sub(rb',"checksums":"[^"]*"', b"", data[8 : 8 + length].rstrip(b" "))
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def rewrite(path, change):
    """Change the header of a step's file. `change(header, about)` modifies both, and may return other data."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    about = json.loads(header["__metadata__"]["tui_gru"])
    rest = change(header, about)
    rest = data[8 + length :] if rest is None else rest
    header["__metadata__"] = {"tui_gru": json.dumps(about)}  # without checksums, as in an earlier version
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def test_what_is_in_it(folder):
    recording = open_recording(folder)
    assert [step.number for step in recording.steps] == [0, 3, 6]
    assert (recording.total, recording.ranks, recording.missing_ranks, recording.closed) == (7, 1, (), True)
    assert recording.gaps() == ((0, 3), (3, 6))
    assert recording.modules[0].name == "gru"
    for kept in recording.steps:
        step = recording.load(kept.number)
        assert (step.loss, step.number) == (kept.loss, kept.number)
        assert max(one.worst for one in compare_outputs(step.calls[0])) <= of_call(step.calls[0])
        assert compare_gradients(step).cause == "equal"
        assert kept.norm == pytest.approx(compare_gradients(step).norm, rel=1e-6)


def test_arrays_are_read_when_they_are_asked_for(folder):
    tensors = read_shard(shard(folder, 3))[1]
    assert tensors["calls.0.x"].shape == (T, B, IN)
    assert tensors["weights.0.weight_hh_l0"].shape == (3 * H, H)
    shard(folder, 3).write_bytes(shard(folder, 3).read_bytes()[:-100])
    assert tensors["calls.0.x"].read().shape == (T, B, IN)
    with pytest.raises(ModelFileError, match="cut off"):
        list(tensors.values())[-1].read()


def test_steps_that_differ_in_numbers_only_have_one_outline(tmp_path):
    """Their headers are checked once, also with a schedule of the learning rate."""
    import torch

    model = torch.nn.GRU(IN, H)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    with record(tmp_path / "run.gru", model, optimizer, every=1) as recorder:
        for timesteps in (T, T, T, 3):
            optimizer.zero_grad()
            loss = model(torch.randn(timesteps, B, IN))[0].pow(2).mean()
            loss.backward()
            optimizer.step()
            schedule.step()
            recorder.step(loss)
    recording = open_recording(tmp_path / "run.gru")
    outlines = [recording.outline(number, 0) for number in range(4)]
    assert outlines[0] is outlines[1] is outlines[2]
    assert len({recording.load(number).settings["lr"] for number in range(4)}) == 4
    for number, outline in enumerate(outlines):
        assert outline.calls[0].x.shape == recording.load(number).calls[0].x.shape
        assert not outline.calls[0].x.any()


FORGED = {
    "the number": (rb'"number\": 3', rb'"number\": 4', "it contains step 4 of rank 0"),
    "a number that is none": (rb'"number\": 3', rb'"number\": x', "damaged|not a step of a recording"),
    "the loss": (rb'"loss\": ', rb'"loss\": x', "damaged|cut off|not a step of a recording"),
    "a setting": (rb'"lr\": 0.1', rb'"lr\": [0]', "is not a number"),
    "a shape": (b'"shape":[5,2,3]', b'"shape":[5,3,2]', "has the shape"),
    "an offset": (b'"data_offsets":[0,', b'"data_offsets":[4,', "does not fit its shape"),
    "a name": (b'"calls.0.x"', b'"calls.1.x"', "damaged"),
    "rank": (rb'"rank\": 0', rb'"rank\": 1', "it contains step 3 of rank 1"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_header_like_those_before_it_is_checked_all_the_same(folder, what):
    before, after, message = FORGED[what]
    for step in (0, 3, 6):
        without_checksums(shard(folder, step))
    data = shard(folder, 3).read_bytes()
    assert data.count(before) >= 1
    shard(folder, 3).write_bytes(data.replace(before, after, 1))
    recording = open_recording(folder)
    recording.outline(0, 0)
    with pytest.raises(RecordingError, match=message) as caught:
        recording.outline(3, 0)
    assert "\n" not in str(caught.value)
    assert recording.outline(6, 0) is recording.outline(0, 0)


def test_a_recording_of_an_earlier_version_is_read_without_checksums(folder):
    before = [open_recording(folder).load(step) for step in (0, 3, 6)]
    for step in (0, 3, 6):
        without_checksums(shard(folder, step))
    lines = folder / "steps.rank0.jsonl"
    lines.write_text(re.sub(r', "crc": "[^"]*"', "", lines.read_text()))
    recording = open_recording(folder)
    assert recording.damaged == ()
    assert recording.outline(3, 0) is recording.outline(0, 0)
    for step, known in zip((0, 3, 6), before, strict=True):
        assert np.array_equal(recording.load(step).calls[0].out, known.calls[0].out)


def test_a_flipped_bit_is_noticed_wherever_it_is(folder):
    good, rng = shard(folder, 3).read_bytes(), random.Random(5)
    text = 8 + struct.unpack("<Q", good[:8])[0]
    checksums, end = good.index(b'"checksums"'), len(good[:text].rstrip(b" "))
    places = [*range(8), *range(checksums - 3, checksums + 40), *(rng.randrange(8, text) for _ in range(60))]
    places += [rng.randrange(text, len(good)) for _ in range(60)]
    opened = open_recording(folder)
    opened.outline(0, 0)
    for at in places:
        bit = 1 << rng.randrange(8)
        if end <= at < text:
            continue  # the padding of the header says nothing
        shard(folder, 3).write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
        with pytest.raises(RecordingError) as caught:
            open_recording(folder).load(3)
        assert str(caught.value).startswith(str(shard(folder, 3)))
        assert str(caught.value).isprintable()
        if at < checksums:
            with pytest.raises(RecordingError):
                opened.outline(3, 0)


def test_a_flipped_bit_in_a_line_is_noticed(folder):
    lines, rng = folder / "steps.rank0.jsonl", random.Random(6)
    good, before = lines.read_bytes(), open_recording(folder)
    for _ in range(examples(30, soak=1000)):
        at = rng.randrange(len(good))
        lines.write_bytes(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
        recording = open_recording(folder)
        assert recording.damaged == ("steps.rank0.jsonl: 1 lines of it are damaged; the steps themselves are not",), at
        assert recording.steps == before.steps


def test_a_step_that_was_not_kept(folder):
    recording = open_recording(folder)
    with pytest.raises(RecordingError, match=r"run\.gru: step 2 was not kept; the nearest that was is 3"):
        recording.load(2)
    with pytest.raises(RecordingError, match=r"run\.gru: rank 1 did not keep step 3; rank 0 did"):
        recording.load(3, rank=1)


def test_steps_that_were_deleted_are_gaps_and_named(folder):
    shard(folder, 3).unlink()
    recording = open_recording(folder)
    assert [step.number for step in recording.steps] == [0, 6]
    assert recording.gaps() == ((0, 6),)
    assert recording.damaged == ("1 file that was written is not there any more: step 3",)


def test_a_recording_that_is_being_written(folder):
    lines = folder / "steps.rank0.jsonl"
    whole = lines.read_text().splitlines(keepends=True)
    lines.write_text("".join(whole[:-1]))
    assert not open_recording(folder).closed
    lines.write_text(whole[0] + whole[1][:-20])  # in the middle of a line, with the step's own file complete
    (folder / "step-00000009.rank0.safetensors.part").write_bytes(b"not yet")
    recording = open_recording(folder)
    assert [step.number for step in recording.steps] == [0, 3, 6]
    assert (recording.closed, recording.damaged, recording.total) == (False, (), 7)
    assert recording.steps[2].loss == recording.load(6).loss
    lines.write_text("".join(whole))
    assert open_recording(folder).closed


def test_without_the_lines_and_without_run_json_the_steps_are_there(folder):
    before = open_recording(folder)
    (folder / "steps.rank0.jsonl").unlink()
    (folder / "run.json").unlink()
    recording = open_recording(folder)
    assert recording.steps == before.steps
    assert (recording.modules, recording.ranks) == (before.modules, 1)
    assert recording.damaged == ("there is no run.json in it that can be read",)


def test_damaged_lines_are_said_and_cost_nothing(folder):
    lines = folder / "steps.rank0.jsonl"
    bad = [
        "{",
        "[1]",
        '{"step": -1, "losses": []}',
        '{"step": 1e300, "losses": []}',
        '{"step": "\x1b[2J", "losses": []}',
        "[" * 10_000,
    ]
    bad += ['{"step": 3, "why": "every", "loss": "x", "norm": 1, "losses": []}', '{"steps": 3, "losses": [[]]}', "\x00", "9" * 5000]
    lines.write_text("\n".join([*bad, lines.read_text()]))
    recording = open_recording(folder)
    assert recording.damaged == (f"steps.rank0.jsonl: {len(bad)} lines of it are damaged; the steps themselves are not",)
    assert [step.loss for step in recording.steps] == [recording.load(step.number).loss for step in recording.steps]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run.json in it is damaged; copy it again"),
        ("[]", "run.json in it does not belong to a recording"),
        ('{"format": "other"}', "run.json in it does not belong to a recording"),
        ('{"format": "tui-gru-recording", "version": 3}', "it has version 3 of the format, and 1 and 2 are read; update tui-gru"),
        ("[" * 100_000, "run.json in it is damaged"),
        ('{"format": "tui-gru-recording", "version": 1}', "there is no run.json in it that can be read"),
        (
            '{"format": "tui-gru-recording", "version": 1, "modules": [], "ranks": 99999999999}',
            "names 99999999999 ranks; it is damaged",
        ),
        ('{"format": "tui-gru-recording", "version": 1, "modules": [], "ranks": 1}', "run.json in it names no GRU; it is damaged"),
    ],
    ids=range(8),
)
def test_a_folder_that_is_no_recording(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RecordingError, match=message) as caught:
        open_recording(tmp_path)
    assert "\n" not in str(caught.value)


def replaced(path, what):
    """Put something else than a file in the place of a file."""
    path.unlink()
    {"folder": path.mkdir, "loop": lambda: path.symlink_to(path), "pipe": lambda: os.mkfifo(path)}[what]()


@pytest.mark.parametrize("what", ["folder", "loop", "pipe"])
@pytest.mark.parametrize("name", ["run.json", "steps.rank0.jsonl", "step-00000003.rank0.safetensors"])
def test_other_things_in_the_place_of_its_files(folder, name, what):
    """The steps are read all the same, but for one that is no file itself."""
    before = open_recording(folder)
    replaced(folder / name, what)
    recording = open_recording(folder)
    assert [step.number for step in recording.steps] == [0, 3, 6]
    assert recording.modules == before.modules
    assert recording.load(6).loss == before.load(6).loss
    if name.endswith("safetensors"):
        with pytest.raises(RecordingError, match=r"it is a folder|too many levels of symbolic links|it is no file") as caught:
            recording.outline(3, 0)
        assert "\n" not in str(caught.value)
    else:
        (reason,) = recording.damaged
        assert name in reason
        assert "Errno" not in reason


def test_a_run_without_a_gru_is_read_from_its_steps(folder):
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**about, "modules": []}))
    recording = open_recording(folder)
    assert recording.damaged == ("run.json in it names no GRU; it is damaged",)
    assert [module.name for module in recording.modules] == ["gru"]


def test_another_version_is_refused_with_its_steps(folder):
    (folder / "run.json").write_text('{"format": "tui-gru-recording", "version": "\\u001b[2J"}')
    with pytest.raises(RecordingError, match=r"it has version .* of the format, and 1 and 2 are read; update tui-gru$") as caught:
        open_recording(folder)
    assert "\x1b" not in str(caught.value)


def test_other_things_than_a_folder(tmp_path):
    with pytest.raises(RecordingError, match=r"there is no run\.json in it that can be read; give the folder"):
        open_recording(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match=r"file: it is a file; give the folder that tui_gru\.record wrote"):
        open_recording(tmp_path / "file")
    with pytest.raises(RecordingError, match="none: there is no such folder"):
        open_recording(tmp_path / "none")
    with pytest.raises(RecordingError, match=r"a\\x1b\[2J: there is no such folder"):
        open_recording(tmp_path / "a\x1b[2J")


def set_about(path, value):
    """Return a change of one entry in the JSON about the step; `path` has its keys."""

    def change(header, about):
        for key in path[:-1]:
            about = about[key]
        about[path[-1]] = value

    return change


def delete(name):
    def change(header, about):
        # the removed entry is replaced by another tensor, so that there is no other fault
        header["left over"] = header.pop(name)

    return change


def reshape(name, shape):
    def change(header, about):
        header[name]["shape"] = shape

    return change


EQUATIONS = {"name": "mine.cell", "text": "h = "}
HOSTILE = {
    "no input": (delete("calls.0.x"), "its description of the calls is damaged"),
    "no output": (delete("calls.0.out"), r"calls\.0\.out is missing"),
    "no weight": (delete("weights.0.weight_hh_l0"), r"weights\.0\.weight_hh_l0 is missing"),
    "an input of two axes": (reshape("calls.0.x", [T * B, IN]), r"the input of call 0 has the shape \(10, 3\)"),
    "an input turned": (reshape("calls.0.x", [IN, B, T]), r"calls\.0\.x has the shape \(3, 2, 5\), not \(3, 2, 3\)"),
    "a weight turned": (reshape("weights.0.weight_ih_l0", [IN, 3 * H]), r"weight_ih_l0 has the shape \(3, 12\), not \(12, 3\)"),
    "a gradient flat": (
        reshape("gradients.weight_ih_l0", [9 * H]),
        r"gradients\.weight_ih_l0 has the shape \(36,\), not \(12, 3\)",
    ),
    "dout turned": (reshape("calls.0.dout", [B, T, H]), r"calls\.0\.dout has the shape \(2, 5, 4\)"),
    "a size that overflows": (set_about(["modules", 0, "hidden_size"], 2**40), "has an impossible description"),
    "a size of 0": (set_about(["modules", 0, "hidden_size"], 0), "has an impossible description"),
    "a size that is none": (
        set_about(["modules", 0, "input_size"], "\x1b[2J"),
        r"\\x1b\[2J is not a whole number",
    ),
    "a billion layers": (set_about(["modules", 0, "layers"], 10**9), "has an impossible description"),
    "another kind": (set_about(["modules", 0, "kind"], "Transformer"), "has an impossible description"),
    "equations of a module of torch": (set_about(["modules", 0, "equations"], EQUATIONS), "has an impossible description"),
    "a cell without equations": (set_about(["modules", 0, "kind"], "Cell"), "has an impossible description"),
    "equations that cannot be read": (
        lambda header, about: about["modules"][0].update(kind="Cell", equations=EQUATIONS),
        r"the equations of its cell cannot be used: mine\.cell:1",
    ),
    "a cell of layers": (set_about(["modules", 0], {}), "its description of the calls is damaged"),
    "a module that is not there": (set_about(["calls", 0, "module"], 7), "its description of the calls is damaged"),
    "a negative place": (set_about(["calls", 0, "weights"], -1), "-1 is not a whole number"),
    "calls that are none": (set_about(["calls"], {"a": 1}), "a list is expected and missing"),
    "a loss that is none": (set_about(["loss"], "much"), "much is not a number"),
    "notes that are none": (set_about(["calls", 0, "notes"], "abc"), "a list is expected and missing"),
    "parameters that are none": (set_about(["weights", 0, "parameters"], []), "its description of the calls is damaged"),
    "another step": (set_about(["number"], 4), r"it contains step 4 of rank 0, which does not match its name"),
    "another rank": (set_about(["rank"], 1), r"it contains step 3 of rank 1, which does not match its name"),
    "settings that are none": (set_about(["settings"], {"lr": []}), "is not a number"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_step_that_does_not_fit_is_refused_in_one_line(folder, case):
    change, message = HOSTILE[case]
    rewrite(shard(folder, 3), change)
    recording = open_recording(folder)
    with pytest.raises(RecordingError, match=message) as caught:
        recording.load(3)
    assert str(caught.value).startswith(str(shard(folder, 3)))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert recording.load(6).number == 6


def test_lengths_and_masks_that_do_not_fit(tmp_path):
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    class Packed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = torch.nn.GRU(IN, H, num_layers=3, dropout=0.5)

        def forward(self, x):
            packed, _ = self.gru(pack_padded_sequence(x, torch.tensor([5, 2]), enforce_sorted=False))
            return packed.data, None

    trained(tmp_path / "run.gru", steps=1, model=Packed())
    path = shard(tmp_path / "run.gru", 0)
    good = path.read_bytes()

    def lengthen(header, about):
        begin, end = header["calls.0.lengths"]["data_offsets"]
        data = bytearray(good[8 + struct.unpack("<Q", good[:8])[0] :])
        data[begin:end] = struct.pack("<2q", 5, 6)
        return bytes(data)

    rewrite(path, lengthen)
    with pytest.raises(RecordingError, match="call 0 has a row that is longer than the call"):
        open_recording(tmp_path / "run.gru").load(0)
    path.write_bytes(good)
    rewrite(path, delete("calls.0.mask_l1"))
    with pytest.raises(RecordingError, match="call 0 has masks for some of its layers only"):
        open_recording(tmp_path / "run.gru").load(0)


@pytest.mark.parametrize("keep", [0, 5, 40, -1, -300])
def test_a_step_that_is_cut_off_is_refused_and_the_others_are_there(folder, keep):
    path = shard(folder, 3)
    path.write_bytes(path.read_bytes()[:keep])
    recording = open_recording(folder)
    with pytest.raises(RecordingError, match=r"step-00000003\.rank0\.safetensors: ") as caught:
        recording.load(3)
    assert "\n" not in str(caught.value)
    assert recording.load(0).number == 0


def test_other_files_under_the_name_of_a_step(folder):
    path = shard(folder, 3)
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordingError, match="it is a folder"):
        open_recording(folder).load(3)
    path.rmdir()
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(RecordingError, match=r"it is not a step of a recording; give the folder that tui_gru\.record wrote"):
        open_recording(folder).load(3)
    path.unlink()
    with pytest.raises(RecordingError, match="it is not there any more; put it back, or go to another step"):
        open_recording_of_before(folder).load(3)


def open_recording_of_before(folder):
    """Return the recording as it was read before the file was deleted."""
    Path(shard(folder, 3)).touch()
    recording = open_recording(folder)
    shard(folder, 3).unlink()
    return recording


def test_a_step_larger_than_the_memory_is_not_read(folder):
    with shard(folder, 3).open("r+b") as file:
        file.truncate(1 << 42)  # a sparse file, which takes no disk space
    with pytest.raises(RecordingError, match=r"it has 4,096\.0 GiB, more than half of this machine's memory"):
        open_recording(folder).load(3)


def test_the_library_of_the_format_reads_it_too(folder):
    from safetensors import safe_open

    with safe_open(shard(folder, 3), "np") as file:
        step = open_recording(folder).load(3)
        assert json.loads(file.metadata()["tui_gru"])["number"] == 3
        np.testing.assert_array_equal(file.get_tensor("calls.0.out"), step.calls[0].out)
        assert "gradients.weight_hh_l0" in file.keys()  # noqa: SIM118


def test_a_step_whose_optimizer_ran_the_model_several_times_has_the_last_run(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.GRU(IN, H)
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=4)
    recorder = record(tmp_path / "run.gru", model, optimizer, every=1)
    x = torch.randn(T, B, IN)

    def closure():
        optimizer.zero_grad()
        loss = model(x)[0].square().mean()
        loss.backward()
        return loss

    for _ in range(2):
        recorder.step(optimizer.step(closure))
    recorder.close()
    s = Session.open(tmp_path / "run.gru")
    s.seek(s.end)
    assert (s.steps, s.config.batch_size) == ((0, 1), B)
    assert s.expected.agrees
