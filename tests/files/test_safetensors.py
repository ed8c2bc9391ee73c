"""safetensors files, compared with the safetensors library: the same numbers, and at least the same refusals."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tests.imported.running import run
from tui_gru.errors import ModelFileError
from tui_gru.imported.inspect import inspect, survey


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_gru_is_read_exactly(path, dtype):
    torch.manual_seed(3)
    gru = torch.nn.GRU(3, 5, 2, bidirectional=True).to(dtype)
    save_file({f"encoder.{name}": value for name, value in gru.state_dict().items()}, path, {"format": "pt"})
    (found,) = inspect(path)
    assert (found.name, found.layers, found.bidirectional, found.dtype) == ("encoder", 2, True, str(dtype).removeprefix("torch."))
    Wz = found.weights().cells[1][1]["Wz"]
    assert np.array_equal(Wz, gru.weight_ih_l1_reverse[5:10].T.detach().to(torch.float64).numpy())
    x = torch.randn(4, 2, 3)
    expected = gru.to(torch.float64)(x.to(torch.float64))[0].detach().numpy()
    np.testing.assert_allclose(run(found, x.numpy()), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(path, dtype):
    save_file({name: value.to(dtype) for name, value in torch.nn.GRU(3, 5).state_dict().items()}, path)
    with pytest.raises(ModelFileError, match="so it is quantised; open the model in float that it was made from"):
        inspect(path)


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


HOSTILE = {
    "overlap": ({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, bytes(12), "overlap or leave gaps"),
    "the same bytes": ({"a": entry([2], [0, 8]), "b": entry([2], [0, 8])}, bytes(8), "overlap or leave gaps"),
    "a gap": ({"a": entry([2], [0, 8]), "b": entry([2], [12, 20])}, bytes(20), "overlap or leave gaps"),
    "overflow": ({"a": entry([2**62, 4], [0, 0])}, b"", "does not fit its shape"),
    "larger than the file": ({"a": entry([2**40], [0, 2**42])}, bytes(8), "it is cut off or damaged"),
    "larger than its bytes": ({"a": entry([2**40], [0, 8])}, bytes(8), "does not fit its shape"),
    "cut off": ({"a": entry([2], [0, 8])}, bytes(4), "it is cut off or damaged"),
    "bytes too many": ({"a": entry([2], [0, 8])}, bytes(20), "it is cut off or damaged"),
    "a negative size": ({"a": entry([-1], [0, 4])}, bytes(4), "a tensor has the shape"),
    "a fraction": ({"a": entry([1.5], [0, 4])}, bytes(4), "a tensor has the shape"),
    "offsets reversed": ({"a": entry([2], [8, 0])}, bytes(8), "does not fit its shape"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8), "its header is damaged"),
    "not an object": ({"a": [1, 2]}, b"", "its header is damaged"),
    "nested without end": (b'{"a":' + b"[" * 100_000, b"", "its header is damaged"),
    "no JSON": (b"{a", b"", "its header is damaged"),
    "no text": (b'{"\xff": 1}', b"", "its header is damaged"),
    "a huge number": (b'{"a": ' + b"9" * 100_000 + b"}", b"", "its header is damaged"),
    "a name twice": (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
        "names a tensor twice",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused_as_the_library_refuses_them(path, case):
    header, data, reason = HOSTILE[case]
    write(path, header, data)
    with pytest.raises(SafetensorError):
        safe_open(path, "np")
    with pytest.raises(ModelFileError, match=reason) as caught:
        inspect(path)
    assert "\n" not in str(caught.value)


def test_a_header_longer_than_the_file_or_than_any_is_not_read(path):
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}" + bytes(600))
    with pytest.raises(ModelFileError, match="its format is not known, or it is cut off"):
        inspect(path)
    with path.open("wb") as file:  # a sparse file, which takes no disk space
        file.write(struct.pack("<Q", 2**35) + b"{}")
        file.truncate(2**36)
    with pytest.raises(ModelFileError, match=r"its header has 34359738368 bytes, more than \d+; it is not read"):
        inspect(path)


def test_names_with_escapes_are_spelled_out(path):
    names = {"weight_ih": [12, 3], "weight_hh": [12, 4]}
    header, at = {}, 0
    for name, shape in names.items():
        size = 4 * shape[0] * shape[1]
        header[f"a\x1b[2J\n{'x' * 300}.{name}"] = entry(shape, [at, at + size])
        at += size
    write(path, header, bytes(at))
    (found,) = inspect(path)
    assert found.name.startswith("a\\x1b[2J\\nxxx")
    assert len(found.name) == 120


def test_an_unknown_type_stops_nothing_but_its_own_tensor(path):
    gru = {"g.weight_ih": entry([12, 1], [0, 48]), "g.weight_hh": entry([12, 4], [48, 240]), "other": entry([8], [240, 244], "F4")}
    write(path, gru, bytes(244))
    found = survey(path)
    assert [one.name for one in found.layers] == ["g"]


def test_a_file_that_is_cut_off_later_is_noticed(path):
    gru = {"g.weight_ih": entry([12, 1], [0, 48]), "g.weight_hh": entry([12, 4], [48, 240])}
    write(path, gru, bytes(240))
    (found,) = inspect(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelFileError, match=r"g: g\.weight_hh in it is cut off"):
        found.weights()
    path.unlink()
    with pytest.raises(ModelFileError, match="it cannot be read: No such file or directory; open it again"):
        found.weights()
