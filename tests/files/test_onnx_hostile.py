"""Damaged and malicious ONNX files, and weights in a file beside the model."""

import contextlib
import struct

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.extent import examples
from tests.files.onnx_models import H, gru_model
from tui_gru.errors import ModelFileError
from tui_gru.imported.inspect import inspect


@pytest.fixture
def external(random, tmp_path):
    """Write a model whose weights are in a file beside it, as torch does since 2.9."""

    def make(change=None):
        model = gru_model(random)
        onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
        if change:
            model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
            for entry in model.graph.initializer[0].external_data:
                entry.value = change.get(entry.key, entry.value)
            (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return tmp_path / "model.onnx", model

    return make


def test_weights_in_a_file_beside_the_model_are_read(external):
    path, _ = external()
    (found,) = inspect(path)
    whole = onnx.load(path)
    assert np.array_equal(found.weights().cells[0][0]["Wz"], numpy_helper.to_array(whole.graph.initializer[0])[0, :H].T)
    (path.parent / "model.data").unlink()
    with pytest.raises(ModelFileError, match=r"its weights are in model\.data, which does not exist; put that file beside it"):
        inspect(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "link", "link/secret"])
def test_no_weights_are_read_outside_of_the_models_folder(external, location, tmp_path):
    path, _ = external({"location": location})
    (path.parent / "link").symlink_to(tmp_path.parent)
    with pytest.raises(ModelFileError, match="outside its folder, which is not read"):
        inspect(path)


@pytest.mark.parametrize("location", ["", ".", "\x1b[2Jsecret", "a\0b", "x" * 5000, "circle"])
def test_a_name_of_no_file_is_refused_in_one_line(external, location):
    path, _ = external({"location": location})
    (path.parent / "circle").symlink_to("circle")
    with pytest.raises(ModelFileError, match="which does not exist; put that file beside it") as caught:
        inspect(path)
    assert not set("\x1b\0\n") & set(str(caught.value))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("change", [{"offset": "-8"}, {"offset": str(2**62)}, {"offset": "1e3"}, {"length": "4"}])
def test_a_place_that_is_not_in_the_file_beside_is_refused(external, change):
    path, _ = external(change)
    with pytest.raises(ModelFileError, match=r"get both files again|is not a number"):
        inspect(path)


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def hostile(tensor):
    """Return a model with one GRU whose W is given in the wire format."""
    node = b"".join(field(1, name) for name in (b"X", b"W", b"W")) + field(2, b"Y") + field(4, b"GRU")
    return b"\x08\x0a" + field(7, field(1, node) + field(5, tensor))


def test_graphs_nested_without_end_are_refused(tmp_path):
    graph = field(2, b"innermost")
    for _ in range(40):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a" + field(7, graph))
    with pytest.raises(ModelFileError, match="nested more than 20 deep"):
        inspect(tmp_path / "model.onnx")


def dims(*sizes):
    return b"".join(b"\x08" + varint(size) for size in sizes)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (dims(1, 2**62, 4) + b"\x10\x01" + field(8, b"W") + field(9, bytes(48)), "W in it has 48 bytes, but its shape needs"),
        (dims(1, 2**64 - 3, 4) + b"\x10\x01" + field(8, b"W") + field(9, bytes(48)), "a tensor has the shape"),
        (dims(1, 12, 1) + b"\x10\x01" + field(8, b"W") + field(9, bytes(40)), "W in it has 40 bytes, but its shape needs 48"),
        (dims(1, 12, 1) + b"\x10\x01" + field(8, b"W"), "W in it has 0 bytes, but its shape needs 48"),
        (dims(*[1] * 40) + b"\x10\x01" + field(8, b"W"), "a tensor has the shape"),
        (dims(1, 12, 4) + b"\x10\x63" + field(8, b"W"), "type 99, which is not supported; save them as float32"),
        (dims(1, 12, 4) + b"\x10\x03" + field(8, b"W") + field(9, bytes(48)), "int8, so it is quantised"),
    ],
)
def test_sizes_are_checked_before_memory_is_taken(tmp_path, tensor, reason):
    (tmp_path / "model.onnx").write_bytes(hostile(tensor))
    with pytest.raises(ModelFileError, match=reason):
        inspect(tmp_path / "model.onnx")


def test_messages_cut_off_anywhere_or_changed_are_refused_in_one_line(random, tmp_path):
    whole = gru_model(random).SerializeToString()
    path = tmp_path / "broken"
    for size in range(1, len(whole) - 1, 13):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError) as caught:
            inspect(path)
        assert "\n" not in str(caught.value)
    for _ in range(examples(60, soak=3000)):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 3):
            data[at] = random.integers(0, 256)
        path.write_bytes(data)
        with contextlib.suppress(ModelFileError):
            _ = [found.weights() for found in inspect(path)]


def test_more_fields_than_a_model_can_have_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("tui_gru.files.onnx.MOST_FIELDS", 1000)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a" + field(7, b"\x10\x01" * 2000))
    with pytest.raises(ModelFileError, match="more than 1000 fields; it is not read"):
        inspect(tmp_path / "model.onnx")


def test_names_with_escapes_are_spelled_out(tmp_path, random):
    model = gru_model(random)
    model.graph.node[0].name = "gru\x1b[31m\n‮"
    (tmp_path / "model").write_bytes(model.SerializeToString())
    (found,) = inspect(tmp_path / "model")
    assert found.name == "gru\\x1b[31m\\n\\u202e"


def test_floats_of_an_attribute_may_be_packed(tmp_path, random):
    """onnx.proto does not pack them, but other writers do."""
    node = gru_model(random, activations=["HardSigmoid", "Tanh"]).graph.node[0].SerializeToString()
    node += field(5, field(1, b"activation_alpha") + field(7, struct.pack("<f", 1 / 6)))
    tensors = [field(5, tensor.SerializeToString()) for tensor in gru_model(random).graph.initializer]
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a" + field(7, field(1, node) + b"".join(tensors)))
    assert inspect(tmp_path / "model.onnx")[0].gate == "hard_sigmoid_6"
