"""Malicious pickles: none runs code, and none uses more memory than its size."""

import contextlib
import io
import os
import pickle
import pickletools
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from tests.extent import examples
from tui_gru.errors import ModelFileError
from tui_gru.files.torch import NAMED_OPERATIONS, DamagedPickleError, PickledName, PickleReader, Unknown
from tui_gru.imported.inspect import inspect

VALUES = [
    *(None, True, False, 0, 255, 65535, -1, 2**31, -(2**40), 2**100, 1.5, float("inf")),
    *("", "text ü ☃", "x" * 70_000, b"", b"bytes", b"y" * 300),
    *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1, [2, [3]]], {}, {"a": 1, 2: [None], None: ()}),
    [("same",) * 3] * 2,
]


def read(data):
    return PickleReader(data, {}, lambda reference: reference).value()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_what_python_reads(protocol):
    for value in VALUES:
        if isinstance(value, bytes) and protocol < 3:  # written as a call
            continue
        assert read(pickle.dumps(value, protocol)) == value
    assert read(pickle.dumps(VALUES[-1] + [bytearray(b"a")] * (protocol == 5), protocol))[:2] == VALUES[-1]


class Harm:
    def __reduce__(self):
        return os.system, ("exit 1",)


def test_what_a_pickle_calls_is_only_named():
    value = read(pickle.dumps({"a": Harm()}))["a"]
    assert isinstance(value, Unknown)
    assert (value.of, value.parts) == (f"{os.system.__module__}.system", ["exit 1"])
    assert read(pickle.dumps(os.getcwd)) == PickledName(f"{os.getcwd.__module__}.getcwd")


def torch_file(path, data, members=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", data)
        for name, content in members:
            archive.writestr(f"m/{name}", content)
    return path


def test_a_checkpoint_that_calls_runs_nothing(tmp_path):
    path = torch_file(tmp_path / "model.pt", pickle.dumps({"weights": {}, "harm": Harm()}, 2))
    with pytest.raises(ModelFileError, match="there is no GRU, LSTM or RNN in it"):
        inspect(path)


HUGE = {
    "LONG_BINPUT of a huge place": b"\x80\x02N" + b"r" + struct.pack("<I", 2**32 - 1) + b".",
    "BINBYTES8 of a huge size": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "BINUNICODE of a huge size": b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"abc.",
    "LONG4 of a huge size": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
    "LONG4 of a negative size": b"\x80\x02\x8b" + struct.pack("<i", -5) + b"abc.",
    "BYTEARRAY8 of a huge size": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "a frame of a huge size": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
}


@pytest.mark.parametrize("case", HUGE)
def test_no_memory_is_taken_for_a_size_that_is_only_claimed(case):
    tracemalloc.start()
    try:
        with contextlib.suppress(DamagedPickleError):
            read(HUGE[case])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


BROKEN = {
    "nothing": b"",
    "no end": b"\x80\x02N",
    "an empty stack": b"\x80\x02.",
    "a mark that is not there": b"\x80\x02Nt.",
    "a place that is empty": b"\x80\x02h\x05.",
    "an unknown operation": b"\x80\x02\xff.",
    "an extension": b"\x80\x02\x82\x01.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a list as a key of a dictionary of lists": b"\x80\x02N]Ns.",
    "an odd number of items": b"\x80\x02}(NNNu.",
    "items for a number": b"\x80\x02K\x01(NNu.",
    "a digit that is none": b"Ix\n.",
    "digits without end": b"I" + b"9" * 10_000 + b"\n.",
    "a line without end": b"Iabc",
    "text that is none": b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
    "a tuple of too few": b"\x80\x02N\x87.",
    "a call of nothing": b"\x80\x02R.",
    "arguments that are none": b"\x80\x02cos\nsystem\nK\x01R.",
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_refused(case):
    with pytest.raises(ModelFileError, match="the pickle in it is damaged; get the file again"):
        read(BROKEN[case])


def test_depth_costs_nothing():
    deep = b"\x80\x02)" + b"\x85" * 100_000 + b"."
    assert isinstance(read(deep), tuple)
    key = b"\x80\x02}" + deep[2:-1] + b"Ns."  # hashing such a key would crash Python
    assert [type(name) for name in read(key)] == [Unknown]
    laughs = (
        b"\x80\x02]q\x00"
        + b"".join(b"](" + b"h" + bytes([k]) * 2 + b"h" + bytes([k]) + b"eq" + bytes([k + 1]) for k in range(3))
        + b"."
    )
    with pytest.raises(ModelFileError):
        read(laughs)


def test_lists_that_hold_one_another_many_times_are_entered_once(tmp_path):
    """There are 2^60 paths to the innermost list."""
    value = []
    for _ in range(60):
        value = [value, value]
    circle = {"a": value}
    circle["b"] = circle
    path = torch_file(tmp_path / "model.pt", pickle.dumps(circle, 2))
    with pytest.raises(ModelFileError, match="there is no GRU, LSTM or RNN in it"):
        inspect(path)


def tensor(storage="FloatStorage", key="0", offset=0, size=(12, 4), stride=(4, 1), function="_rebuild_tensor_v2"):
    """Return the operations that torch.save writes for a tensor."""
    out = io.BytesIO()
    out.write(f"ctorch._utils\n{function}\n((X".encode())
    out.write(struct.pack("<I", 7) + b"storage" + f"ctorch\n{storage}\n".encode())
    out.write(pickle.dumps(key, 2)[2:-1] + pickle.dumps("cpu", 2)[2:-1] + pickle.dumps(48, 2)[2:-1] + b"tQ")
    for part in (offset, size, stride, False, None):
        out.write(pickle.dumps(part, 2)[2:-1])
    out.write(b"tR")
    return out.getvalue()


def with_tensor(path, data=bytes(192), **change):
    weights = {"weight_ih": tensor(key="1", size=(12, 3), stride=(3, 1)), "weight_hh": tensor(**change)}
    body = b"".join(pickle.dumps(name, 2)[2:-1].replace(b"q\x00", b"") + operations for name, operations in weights.items())
    return torch_file(path, b"\x80\x02}(" + body + b"u.", [("data/0", data), ("data/1", bytes(144))])


def test_a_tensor_as_torch_writes_it_is_read(tmp_path):
    data = np.arange(48, dtype="<f4").tobytes()
    (found,) = inspect(with_tensor(tmp_path / "model.pt", data))
    assert np.array_equal(found.weights().cells[0][0]["Ur"], np.arange(16).reshape(4, 4).T)
    (found,) = inspect(with_tensor(tmp_path / "model.pt", data, stride=(1, 12)))
    assert found.weights().cells[0][0]["Ur"][2, 1] == 25


@pytest.mark.parametrize(
    "change",
    [
        {"size": (2**62, 4)},
        {"size": (12, 2**63)},
        {"size": (-12, 4)},
        {"size": (12.0, 4)},
        {"stride": (2**61, 1)},
        {"stride": (-4, 1)},
        {"stride": (0, 0)},
        {"stride": (0, 1)},
        {"stride": (4,)},
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**62},
        {"size": (1,) * 40, "stride": (1,) * 40},
        {"key": "7"},
        {"key": "../../secret\x1b[2J"},
        {"storage": "DoubleStorage"},
        {"data": bytes(191)},
    ],
)
def test_a_tensor_that_reaches_beyond_its_storage_or_repeats_it_is_refused(tmp_path, change):
    path = with_tensor(tmp_path / "model.pt", **change)
    with pytest.raises(ModelFileError, match=r"get (it|the file) again") as caught:
        inspect(path)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_storage_of_another_kind_is_refused_by_its_name(tmp_path):
    with pytest.raises(ModelFileError, match="of the type OddStorage, which is not supported; save them as float32"):
        inspect(with_tensor(tmp_path / "model.pt", storage="OddStorage"))
    with pytest.raises(ModelFileError, match="its weights are int8, so it is quantised"):
        inspect(with_tensor(tmp_path / "model.pt", storage="CharStorage"))


def test_a_pickle_larger_than_any_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("tui_gru.files.torch.MOST_PICKLE", 100)
    with pytest.raises(ModelFileError, match=r"its data\.pkl has \d+ bytes, more than 100"):
        inspect(torch_file(tmp_path / "model.pt", pickle.dumps("x" * 200, 2)))


def test_changed_checkpoints_are_read_or_refused(tmp_path, random):
    data = bytearray(with_tensor(tmp_path / "model.pt").read_bytes())
    for _ in range(examples(60, soak=4000)):
        changed = bytearray(data)
        for at in random.integers(0, 500, 2):
            changed[at] = random.integers(0, 256)
        (tmp_path / "changed.pt").write_bytes(changed)
        with contextlib.suppress(ModelFileError):
            _ = [found.weights() for found in inspect(tmp_path / "changed.pt")]


def test_every_operation_of_python_is_known_or_refused():
    """Fails for a new pickle protocol."""
    names = {operation.name: operation.code for operation in pickletools.opcodes}
    known = {name.partition(" ")[2]: name[0] for name in NAMED_OPERATIONS} | {"STOP": "."}
    assert known.items() <= names.items()
    refused = set(names) - set(known)
    assert refused == {"EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"}
