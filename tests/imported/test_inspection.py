"""Recognition of file formats, and the cost of an inspection."""

import gzip
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import tui_gru
from tests.files.large import KINDS, make
from tui_gru.errors import ModelFileError
from tui_gru.imported.inspect import FORMATS, inspect, survey

ROOT = Path(__file__).parents[2]


def tarred(**files):
    """A tar archive with these files, a folder, a link, and a name that leads out of it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        folder, link = tarfile.TarInfo("model"), tarfile.TarInfo("model/link")
        folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(folder)
        archive.addfile(link)
        for name, content in files.items():
            info = tarfile.TarInfo(f"../../{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


FOREIGN = {
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(100), "it is TFLite, which is not supported; it has no GRU, only the steps of one"),
    "gguf": (b"GGUF\x03\x00\x00\x00", "it is GGUF, which is not supported"),
    "npy": (b"\x93NUMPY\x01\x00", "one array of NumPy, or several without names.*save them with names"),
    "session": (b"SQLite format 3\0" + b"\x10\x00", "it is a session of this program.*open a session with tui-gru --session FILE"),
    "git lfs": (b"version https://git-lfs.example\noid sha256:0", "a Git LFS pointer, not the file itself.*run git lfs pull"),
    "gzip": (gzip.compress(b"hello"), "compressed with gzip.*decompress it first"),
    "damaged gzip": (gzip.compress(b"hello")[:3] + b"\xff" * 9, "compressed with gzip.*decompress it first"),
    "tar": (tarred(weights=b"hello"), "no file in the archive has a format that is read"),
    "an empty tar": (tarred(), "no file in the archive has a format that is read"),
    "tar of what is refused": (tarred(model=b"GGUF\x03\x00\x00\x00"), "model: it is GGUF, which is not supported"),
    "tar.gz cut off": (gzip.compress(tarred(model=bytes(range(256)) * 99))[:300], "its tar archive is damaged or cut off"),
    "a bomb": (gzip.compress(tarred(model=bytes(1 << 25))), "what is in the archive is larger than a model; unpack the model"),
    "pickle of JAX": (
        b"\x80\x04\x95\x20\x8c\x05gates\x94\x8c\x0ejax._src.array\x94\x8c\x12_reconstruct_array",
        "it is a pickle of JAX, which is not supported; save flatten_dict.*as safetensors or with np.savez",
    ),
    "pickle of torch": (pickle.dumps({"w": torch.zeros(2)}, 4), "it is a pickle of torch, .*torch.save\\(model.state_dict"),
    **{
        f"pickle of NumPy, protocol {number}": (
            pickle.dumps(content, number),
            "it is a pickle of NumPy, which is not supported; load it in the program that made it, and save its arrays by name",
        )
        for number, content in enumerate([[np.zeros(2)], {"w": np.zeros(2)}, (np.zeros(2),), np.zeros(2)])
    },
    "msgpack": (b"\x81\xa6params", "it is msgpack, as flax writes it, which is not supported; save flatten_dict.*as safetensors"),
    "pickle": (b"\x80\x04\x95", "it is a pickle, which is not supported"),
    "text": (b"hello\n", "its format is not known, or it is cut off; torch checkpoints, safetensors, ONNX, npz and Keras"),
    "nothing": (b"", "it is empty; get the file again"),
    "zeros": (bytes(1000), "its format is not known"),
    "a zip of something else": (None, "its format is not known"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_read_is_refused_in_one_line_that_names_the_cure(tmp_path, kind):
    data, reason = FOREIGN[kind]
    path = tmp_path / "model.pt"  # the name of a file is not used
    if data is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello.txt", "hello")
    else:
        path.write_bytes(data)
    with pytest.raises(ModelFileError, match=reason) as caught:
        inspect(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.option == "path"


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_tar_archive_is_read_through(tmp_path, compress):
    torch.manual_seed(1)
    model = nn.ModuleDict({"rnn": nn.GRU(3, 4), "fc": nn.Linear(4, 3)})
    torch.save(model.state_dict(), tmp_path / "model.pt")
    path = tmp_path / "model.tar.gz"
    path.write_bytes(compress(tarred(model=(tmp_path / "model.pt").read_bytes(), readme=b"hello\n")))
    before = sorted(tmp_path.iterdir())
    (found,) = inspect(path)
    assert (found.name, found.path, found.format) == ("rnn", path, inspect(tmp_path / "model.pt")[0].format)
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    s = tui_gru.load(path, inputs=x, expect=model["rnn"](torch.from_numpy(x))[0].detach().numpy())
    assert s.expected.agrees
    assert tui_gru.load(path, head="fc", text="abcabcabc", vocabulary="abc", seq_length=2).config.hidden_size == 4
    assert sorted(tmp_path.iterdir()) == before  # nothing is unpacked beside it, or where its names say
    np.savez(tmp_path / "other.npz", **{f"cell.{k}": v.numpy() for k, v in nn.GRUCell(2, 3).state_dict().items()})
    both = tarred(model=(tmp_path / "model.pt").read_bytes(), other=(tmp_path / "other.npz").read_bytes())
    path.write_bytes(compress(both))
    assert [layers.name for layers in inspect(path)] == ["../../model:rnn", "../../other:cell"]


def test_a_recording_is_no_model_file(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ModelFileError, match="it is a recording, not a model file; open it with tui-gru open"):
        inspect(tmp_path)


def test_a_path_may_begin_at_home(tmp_path, monkeypatch, random):
    """A script writes ~ into a string, where no shell expands it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    gru = torch.nn.GRU(3, 4)
    torch.save(gru.state_dict(), tmp_path / "model.pt")
    np.save(tmp_path / "x.npy", random.normal(size=(5, 2, 3)).astype(np.float32))
    assert [found.name for found in inspect("~/model.pt")] == ["gru"]
    assert tui_gru.load("~/model.pt", inputs="~/x.npy").value("h", t=4) is None
    with tui_gru.record("~/runs/run.gru", gru, every=1) as recorder:
        gru(torch.zeros(2, 1, 3))[0].sum().backward()
        recorder.step()
    assert (tmp_path / "runs" / "run.gru").is_dir()
    assert tui_gru.Session.open("~/runs/run.gru").steps == (0,)


def test_what_is_no_file_is_refused(tmp_path):
    for path, reason in (
        (tmp_path / "nothing", "it cannot be opened: no such file or directory; check the name"),
        (tmp_path, "it is a folder; name the file that holds the weights"),
        (Path(os.devnull), "it is no file; name the file"),
        (str(tmp_path / "a\0b"), "it is not a file name; check the name"),
    ):
        with pytest.raises(ModelFileError, match=reason) as caught:
            inspect(path)
        assert "\0" not in str(caught.value)


def test_a_file_is_what_its_content_says(tmp_path):
    weights = torch.nn.GRU(3, 4).state_dict()
    torch.save(weights, tmp_path / "model.safetensors")
    save_file(weights, tmp_path / "model.pt")
    assert inspect(tmp_path / "model.safetensors")[0].format == "torch checkpoint"
    assert inspect(tmp_path / "model.pt")[0].format == "safetensors"


def test_the_table_of_formats_has_each_once():
    read = [format_.name for format_ in FORMATS]
    assert read[:5] == ["torch checkpoint", "Keras 3 archive", "npz", "Keras HDF5", "safetensors"]
    assert read[-1] == "ONNX"


def test_what_cannot_be_opened_is_listed_beside_what_can(tmp_path):
    model = torch.nn.ModuleDict({"a": torch.nn.LSTM(3, 4, proj_size=2), "b": torch.nn.GRU(3, 4)})
    save_file(model.state_dict(), tmp_path / "model")
    found = survey(tmp_path / "model")
    assert [gru.name for gru in found.layers] == ["b"]
    reason = "it is an LSTM with a projection (proj_size), which is not supported; an LSTM without one is opened"
    assert found.refused == (f"a: {reason}",)
    save_file(model["a"].state_dict(), tmp_path / "model")
    with pytest.raises(ModelFileError, match=rf"there is no GRU, LSTM or RNN in it that can be opened: lstm: {re.escape(reason)}$"):
        inspect(tmp_path / "model")


@pytest.mark.parametrize("kind", KINDS)
def test_looking_at_a_large_file_reads_no_weights(tmp_path, kind):
    path = tmp_path / "model"
    gru = make(path, kind)
    assert path.stat().st_size > 95_000_000
    tracemalloc.start()
    (found,) = inspect(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000
    assert (found.name, found.hidden_size) == ("encoder", 1024)
    assert np.array_equal(found.weights().cells[0][0]["Uz"], gru.weight_hh_l0[1024:2048].T.detach().numpy())


def test_no_framework_is_loaded(tmp_path):
    torch.save(torch.nn.GRU(3, 4).state_dict(), tmp_path / "model")
    code = (
        "import sys, json; from tui_gru.imported.inspect import inspect; inspect(sys.argv[1])[0].weights();"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "numpy" in loaded
    assert not loaded & {"torch", "keras", "tensorflow", "onnx", "onnxruntime", "h5py", "safetensors", "textual", "rich", "click"}
