"""JSON that reads back as exactly the same numbers."""

import json

import numpy as np
import pytest

from tui_gru.storage.trace import json_text


@pytest.mark.parametrize(("dtype", "bits"), [("float32", "uint32"), ("float64", "uint64")])
def test_every_bit_pattern_reads_back(dtype, bits):
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, np.iinfo(bits).max, 3000, bits, endpoint=True)
    array = np.concatenate([patterns.view(dtype), np.array([0.0, -0.0, 1, 2**24, np.finfo(dtype).max, 5e-324], dtype)])
    array = np.where(np.isnan(array), np.array(np.nan, dtype), array).reshape(2, 3, -1)
    read = np.array(json.loads(json_text(array)), dtype)
    assert read.shape == array.shape
    assert read.tobytes() == array.tobytes()


def test_a_float32_is_written_as_short_as_it_can_be():
    assert json_text(np.array([[0.1, 1 / 3], [1e-10, -2]], np.float32)) == "[[0.1, 0.33333334], [1e-10, -2.0]]"


def test_what_json_has_no_number_for_is_a_string():
    assert json_text(np.array([np.nan, np.inf, -np.inf], np.float32)) == '["NaN", "Infinity", "-Infinity"]'
    assert json_text({"loss": float("nan"), "text": '"\n漢'}) == '{"loss": "NaN", "text": "\\"\\n\\u6f22"}'


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), (2, 0, 3)])
def test_an_array_without_numbers_keeps_its_shape_as_far_as_lists_have_one(shape):
    array = np.zeros(shape, np.float32)
    assert json.loads(json_text({"losses": array})) == {"losses": array.tolist()}


def test_a_scalar_of_an_array_is_a_number():
    assert json_text(np.array([0.1], np.float32)[0]) == "0.1"
