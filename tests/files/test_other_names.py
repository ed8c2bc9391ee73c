"""Files with only names, written by several GRU libraries, each with an input and its output."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.imported.running import prove, run
from tests.rounding import of_found
from tui_gru.errors import ModelFileError
from tui_gru.imported.inspect import inspect

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
    np.testing.assert_allclose(
        run(found, data["x"], data["h0"][None]), data["y"], rtol=0, atol=of_found(found, data["x"], data["h0"])
    )
    proof = prove(found, data["x"], data["y"], data["h0"])
    assert proof.decided
    assert proof.layers.convention == found.convention


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
    save_file({"a.weight_ih_l0": zeros(8, 3), "a.weight_hh_l0": zeros(8, 4)}, path)
    with pytest.raises(ModelFileError, match="a: it is a unit of two gates, and only GRUs, LSTMs and plain RNNs are opened"):
        inspect(path)
    save_file({"a.w_i": zeros(3, 16), "a.w_h": zeros(4, 16), "a.b": zeros(16)}, path)
    with pytest.raises(ModelFileError, match="a: it is an LSTM, which is not stored as Haiku's GRU is"):
        inspect(path)
    save_file({"a.weight_ih_l0": zeros(16, 3), "a.weight_hh_l0": zeros(16, 4), "a.peephole": zeros(4)}, path)
    with pytest.raises(ModelFileError, match="a: it has peepholes, from the cell to the gates, which are not supported"):
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
    with pytest.raises(ModelFileError, match="there is no GRU, LSTM or RNN in it; name a file with the weights of one"):
        inspect(path)


SHAPES = {
    "torch": {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "bias_ih_l0": (12,), "bias_hh_l0": (12,)},
    "keras": {"cell/kernel": (3, 12), "cell/recurrent_kernel": (4, 12), "cell/bias": (2, 12)},
    "apart": {f"{kind}{gate}": shape for kind, shape in (("W", (3, 4)), ("U", (4, 4)), ("b", (4,))) for gate in "zrh"},
}
#: The changed shapes of single arrays that fit as well: another number of inputs, and vectors as rows or columns.
FITS = {"weight_ih_l0": {(12, 4), (12, 2)}, "cell/kernel": {(4, 12), (2, 12)}, "bz": {(4, 1), (1, 4)}}
FITS |= {"br": FITS["bz"], "bh": FITS["bz"]}
LSTMS = {"weight_hh_l0": {(12, 3)}, "cell/recurrent_kernel": {(3, 12)}}  # four gates of 3 units, not three of 4
FITS |= LSTMS


def changed(shape):
    """Yield shapes with an axis more or fewer, or another size."""
    yield from ((*shape, 1), (1, *shape), shape[:-1], (0, *shape[1:]), tuple(2 * size for size in shape))
    for axis in range(len(shape)):
        for by in (1, -1):
            yield (*shape[:axis], shape[axis] + by, *shape[axis + 1 :])


@pytest.mark.parametrize("spelling", SHAPES)
def test_arrays_of_a_shape_that_does_not_fit_are_refused(tmp_path, spelling):
    """One array, or all matrices of the input or of the state, or all biases."""
    shapes = SHAPES[spelling]
    together = [{name} for name in shapes] + ([{f"{kind}{gate}" for gate in "zrh"} for kind in "WU"] if spelling == "apart" else [])
    for names in together:
        for shape in changed(shapes[min(names)]):
            arrays = {name: np.ones(shape if name in names else own, np.float32) for name, own in shapes.items()}
            np.savez(tmp_path / "m.npz", **arrays)
            if names == {"Wz", "Wr", "Wh"} and len(shape) == 2 and 4 in shape and 0 not in shape:
                fits = {(3, 4), (2, 4), (4, 4)}  # one side is of the size of the state
            else:
                fits = FITS.get(min(names), set()) if len(names) == 1 else set()
            if shape in fits:
                (gru,) = inspect(tmp_path / "m.npz")
                kind = ("lstm", 3) if shape in LSTMS.get(min(names), ()) else ("gru", 4)
                assert (gru.kind, gru.hidden_size) == kind, (names, shape)
            else:
                with pytest.raises(ModelFileError, match=r"^[^\n]*$"):
                    inspect(tmp_path / "m.npz")


MAYBE_BIASES = {
    "one": ({"enc.c": (12,)}, ["enc.c"], "one"),
    "two": ({"enc.d": (12,), "enc.c": (12,)}, ["enc.d", "enc.c"], "two"),
    "both in one": ({"enc.c": (24,)}, ["enc.c"], "two"),
    "both in two rows": ({"enc.c": (2, 12)}, ["enc.c"], "two"),
    "the second by its name": ({"enc.recurrent_c": (12,), "enc.c": (12,)}, ["enc.c", "enc.recurrent_c"], "two"),
    "one of another network": ({"enc.c": (12,), "dec.d": (12,)}, ["enc.c"], "one"),
    "one of a part of the network": ({"enc.c": (12,), "enc.part.d": (12,)}, ["enc.c"], "one"),
    "of another shape": ({"enc.c": (4,), "enc.d": (13,), "enc.e": (12, 1)}, [], "none"),
}


@pytest.mark.parametrize(
    ("names", "case"),
    [
        *product([("weight_ih", "weight_hh"), ("kernel", "recurrent_kernel")], MAYBE_BIASES),
        *product([("first", "second")], ["one", "two", "both in one", "both in two rows"]),
    ],
)
def test_biases_of_other_names_are_known_by_their_shapes(tmp_path, random, names, case):
    shapes, expected, kind = MAYBE_BIASES[case]
    by_rows, named = names[0] != "kernel", names[0] != "first"
    arrays = {f"enc.{name}": random.normal(size=(12, n) if by_rows else (n, 12)) for name, n in zip(names, (3, 4), strict=True)}
    arrays |= {name: random.normal(size=shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "m.npz", **arrays)
    (gru,) = inspect(tmp_path / "m.npz", order=None if named else "rzn")
    assert gru.biases == kind
    assert "shape of a bias" not in gru.warning
    read = np.concatenate([arrays[name].ravel() for name in expected] or [[]])
    read = np.concatenate([read, np.zeros(24 - len(read))]).reshape(2, 3, 4)
    ((cell,),) = gru.blocks()
    np.testing.assert_array_equal([cell.b, cell.b_h], read)


def test_more_arrays_than_a_gru_has_biases_are_named(tmp_path, random):
    shapes = {"enc.weight_ih": (12, 3), "enc.weight_hh": (12, 4), "enc.c": (12,), "enc.d": (12,), "enc.e": (12,)}
    np.savez(tmp_path / "m.npz", **{name: random.normal(size=shape) for name, shape in shapes.items()})
    (gru,) = inspect(tmp_path / "m.npz")
    assert gru.biases == "none"
    assert gru.warning == "enc.c, enc.d, enc.e have the shape of a bias and are not read, as a cell has two at most"
