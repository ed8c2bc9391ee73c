"""Files with only names, written by several GRU libraries, each with an input and its output."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.interop.running import prove, run
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.inspection import inspect

LIBRARIES = Path(__file__).parent / "libraries"
CONVENTIONS = {
    "equinox": ("cell", "rzn", "after", "keeps", "one and bhn"),
    "flax_linen": ("params", "zrn", "after", "keeps", "one and bhn"),
    "flax_nnx": ("gru", "rzn", "after", "keeps", "one"),
    "haiku": ("gru", "zrn", "before", "takes", "one"),
    "mlx": ("encoder", "rzn", "after", "keeps", "one and bhn"),
}


@pytest.mark.parametrize("library", CONVENTIONS)
def test_the_library_is_known_by_its_names_and_computed_as_it_computes(library):
    path = LIBRARIES / f"{library}.safetensors"
    (found,) = inspect(path)
    assert (found.name, found.order, found.reset, found.z, found.biases) == CONVENTIONS[library]
    assert found.warning == ""
    data = load_file(path)
    np.testing.assert_allclose(run(found, data["x"], data["h0"][None]), data["y"], atol=1e-6)
    proof = prove(found, data["x"], data["y"], data["h0"])
    assert proof.settled
    assert proof.found.convention == found.convention


@pytest.mark.parametrize("library", CONVENTIONS)
def test_the_same_names_are_known_in_an_npz(library, tmp_path):
    np.savez(tmp_path / "model.npz", **load_file(LIBRARIES / f"{library}.safetensors"))
    (found,) = inspect(tmp_path / "model.npz")
    assert (found.name, found.order, found.reset, found.z, found.biases) == CONVENTIONS[library]


def test_a_z_that_takes_the_new_state_is_negated_and_remembered():
    path = LIBRARIES / "haiku.safetensors"
    (found,) = inspect(path)
    data = load_file(path)
    cell = found.weights().cells[0][0]
    assert found.z == "takes"
    assert np.array_equal(cell["Wz"], -data["gru/w_i"][:, :4])
    assert np.array_equal(cell["Uz"], -data["gru/w_h"][:, :4])
    assert np.array_equal(cell["bz"], -data["gru/b"][:4])
    assert np.array_equal(cell["Wr"], data["gru/w_i"][:, 4:8])
    assert "bhz" not in cell


def lasagne(x, h, p):
    """The step of lasagne.layers.GRULayer, with its own names: σ for the gates, tanh for the rest."""
    σ = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    r = σ(x @ p["W_in_to_resetgate"] + p["b_resetgate"] + h @ p["W_hid_to_resetgate"])
    u = σ(x @ p["W_in_to_updategate"] + p["b_updategate"] + h @ p["W_hid_to_updategate"])
    c = x @ p["W_in_to_hidden_update"] + p["b_hidden_update"]
    c = np.tanh(c + r * (h @ p["W_hid_to_hidden_update"]))
    return (1 - u) * h + u * c


def test_lasagnes_names_take_the_new_state(tmp_path, random):
    p = {}
    for gate in ("resetgate", "updategate", "hidden_update"):
        p[f"W_in_to_{gate}"] = random.normal(size=(3, 4))
        p[f"W_hid_to_{gate}"] = random.normal(size=(4, 4))
        p[f"b_{gate}"] = random.normal(size=4)
    np.savez(tmp_path / "model.npz", **{f"gru.{name}": array for name, array in p.items()})
    (found,) = inspect(tmp_path / "model.npz")
    assert (found.name, found.reset, found.z, found.dtype) == ("gru", "after", "takes", "float64")
    x, h = random.normal(size=(1, 2, 3)), random.normal(size=(2, 4))
    np.testing.assert_allclose(run(found, x, h[None])[0], lasagne(x[0], h, p), atol=1e-12)


@pytest.mark.parametrize("on_the_right", [False, True])
@pytest.mark.parametrize("spelling", ["W{}", "W_{}"])
def test_gates_with_names_of_their_own_are_read_with_a_warning(tmp_path, random, on_the_right, spelling):
    arrays = {}
    for gate in "zrh":
        W, U = random.normal(size=(3, 4)), random.normal(size=(4, 4))
        for kind, matrix in (("W", W), ("U", U)):
            arrays[spelling.replace("W", kind).format(gate)] = matrix.T if on_the_right else matrix
        arrays[spelling.replace("W", "b").format(gate)] = random.normal(size=(4, 1))
    np.savez(tmp_path / "model.npz", **arrays)
    (found,) = inspect(tmp_path / "model.npz")
    assert (found.reset, found.z, found.input_size, found.hidden_size) == ("before", "keeps", 3, 4)
    assert found.warning == "the names do not say what z means: give an input and its output to prove it"
    U = arrays[spelling.replace("W", "U").format("r")]
    assert np.array_equal(found.weights().cells[0][0]["Ur"], U.T if on_the_right else U)


@pytest.mark.parametrize("prefix", ["", "gru/gru_cell/", "encoder.", "enc_"])
@pytest.mark.parametrize(("biases", "reset"), [((2, 12), "after"), ((12,), "before")])
def test_keras_names_are_known_with_any_prefix(tmp_path, random, prefix, biases, reset):
    """Of recurrent_kernel, "recurrent" is no prefix."""
    shapes = {"kernel": (3, 12), "recurrent_kernel": (4, 12), "bias": biases}
    arrays = {name: random.normal(size=shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "m.npz", **{prefix + name: array for name, array in arrays.items()})
    (gru,) = inspect(tmp_path / "m.npz")
    assert (gru.name, gru.order, gru.reset) == (prefix.rstrip("/._") or "gru", "zrn", reset)
    ((cell,),) = gru.blocks()
    assert np.array_equal(np.concatenate(list(cell.W), axis=1), arrays["kernel"])
    assert np.array_equal(np.concatenate(list(cell.U), axis=1), arrays["recurrent_kernel"])


def test_what_belongs_to_another_network_is_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    for name, rows, kind in (("memory", 16, "an LSTM"), ("plain", 4, "a plain RNN")):
        save_file({f"{name}.weight_ih_l0": zeros(rows, 3), f"{name}.weight_hh_l0": zeros(rows, 4)}, path)
        with pytest.raises(ModelFileError, match=f"{name}: it is {kind}, and only GRUs are opened"):
            inspect(path)
    save_file({"a.weight_ih": zeros(11, 3), "a.weight_hh": zeros(12, 4)}, path)
    with pytest.raises(ModelFileError, match=r"an array of shape \(11, 3\) does not fit its recurrent weights \(12, 4\)"):
        inspect(path)
    save_file({"a.weight_ih": zeros(12, 3), "a.weight_hh": zeros(12, 4), "a.bias_hh": zeros(4)}, path)
    with pytest.raises(ModelFileError, match=r"an array of shape \(4,\) does not fit"):
        inspect(path)
    save_file({"a.weight_ih": zeros(12, 0), "a.weight_hh": zeros(12, 4)}, path)
    with pytest.raises(ModelFileError, match="it reads no input"):
        inspect(path)
    save_file({"a.weight_ih": zeros(3, 4, 2), "a.weight_hh": zeros(12, 4)}, path)
    with pytest.raises(ModelFileError, match="its weights have 3 and 2 axes, not 2"):
        inspect(path)
    save_file(
        {
            "a.weight_ih_l0": zeros(12, 3),
            "a.weight_hh_l0": zeros(12, 4),
            "a.weight_ih_l1": zeros(12, 5),
            "a.weight_hh_l1": zeros(12, 4),
        },
        path,
    )
    with pytest.raises(ModelFileError, match="layer 1 reads 5 values into 4 units, where 4 into 4 fit"):
        inspect(path)
    save_file({"a.weight": zeros(12, 3)}, path)
    with pytest.raises(ModelFileError, match="there is no GRU in it; name a file with the weights of one"):
        inspect(path)
