"""npz files: known names, unknown names, and malicious files."""

import io
import struct
import sys
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from tests.extent import examples
from tests.imported.running import run
from tests.rounding import of_found
from tui_gru.errors import ModelFileError
from tui_gru.imported.inspect import inspect


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


@pytest.fixture
def arrays(random):
    shapes = {"weight_ih": (12, 3), "weight_hh": (12, 4), "bias_ih": (12,), "bias_hh": (12,)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "change", [np.ascontiguousarray, np.asfortranarray, lambda a: a.astype(">f4"), lambda a: a.astype(np.float64)]
)
def test_a_gru_with_torchs_names_is_read(path, arrays, save, change):
    save(path, **{f"encoder/{name}": change(array) for name, array in arrays.items()})
    (found,) = inspect(path)
    assert (found.name, found.order, found.reset, found.warning) == ("encoder", "rzn", "after", "")
    cell = found.weights().cells[0][0]
    assert np.array_equal(cell["Wz"], arrays["weight_ih"][4:8].T)
    assert np.array_equal(cell["bhn"], arrays["bias_hh"][8:])


def test_a_file_with_many_layers_is_read_in_proportion_to_them(path, arrays):
    def comparisons(count):
        np.savez(path, **{f"{k}/{name}": array for k in range(count) for name, array in arrays.items()})
        calls = []
        sys.setprofile(lambda frame, event, called: calls.append(event == "c_call" and called.__name__ == "startswith"))
        try:
            assert len(inspect(path)) == count
        finally:
            sys.setprofile(None)
        return sum(calls)

    assert comparisons(60) < 4 * comparisons(20)  # nine times as many, if each layer looks at all names


def test_one_bias_is_not_that_of_a_gru_of_equinox(path, arrays):
    np.savez(path, weight_ih=arrays["weight_ih"], weight_hh=arrays["weight_hh"], bias=arrays["bias_ih"])
    with pytest.raises(ModelFileError, match="it is a GRU, which is not stored as equinox's GRUCell is"):
        inspect(path)


def test_names_that_say_nothing_are_refused_until_the_order_is_given(path, arrays):
    np.savez(path, **{f"layer_{k}": array for k, array in enumerate(arrays.values())})
    with pytest.raises(
        ModelFileError, match=r"layer_0 \(12, 3\) and layer_1 \(12, 4\) may be a GRU.*give the order: rzn as in torch"
    ):
        inspect(path)
    (found,) = inspect(path, order="rzn")
    assert (found.name, found.order, found.reset, found.z, found.biases) == ("layer", "rzn", "after", "keeps", "two")
    assert "as you said" in found.evidence
    assert "give an input and its output to prove" in found.warning
    assert np.array_equal(found.weights().cells[0][0]["Uz"], arrays["weight_hh"][4:8].T)
    (other,) = inspect(path, order="zrn", reset="before", z="takes", gate="hard_sigmoid")
    assert (other.order, other.reset, other.z, other.gate) == ("zrn", "before", "takes", "hard_sigmoid")
    assert np.array_equal(other.weights().cells[0][0]["Uz"], -arrays["weight_hh"][:4].T)


BIAS_NAMES = {
    "the names of a paper": ("W_ih", "W_hh", "b_ih", "b_hh"),
    "names that say nothing": ("kernel_a", "kernel_b", "c", "d"),
    "one letter after the other": ("net.Wx", "net.Wh", "net.bx", "net.bh"),
    "a prefix before an underscore": ("cell/in_w", "cell/rec_w", "cell/in_b", "cell/rec_b"),
}


@pytest.mark.parametrize("case", BIAS_NAMES)
def test_biases_are_read_whatever_they_are_called(path, arrays, case):
    np.savez(path, **dict(zip(BIAS_NAMES[case], arrays.values(), strict=True)))
    (found,) = inspect(path, order="rzn")
    cell = found.weights().cells[0][0]
    assert np.array_equal(cell["br"], arrays["bias_ih"][:4])
    assert np.array_equal(cell["bhn"], arrays["bias_hh"][8:])


def test_two_grus_whose_names_differ_before_an_underscore_are_told_apart(path, arrays):
    np.savez(path, **{f"{side}_{k}": array for side in ("enc", "dec") for k, array in enumerate(arrays.values())})
    found = inspect(path, order="rzn")
    assert [(gru.name, gru.biases) for gru in found] == [("enc", "two"), ("dec", "two")]


def test_a_bias_of_the_same_prefix_is_enough(path, arrays):
    """The bias of another layer may have the same size."""
    np.savez(path, enc_w=arrays["weight_ih"], enc_u=arrays["weight_hh"], enc_b=arrays["bias_ih"], out_b=np.ones(12))
    (found,) = inspect(path, order="rzn")
    assert (found.name, found.biases, found.reset) == ("enc", "one", "after")


def test_two_biases_are_read_with_the_reset_after_in_every_order_of_gates(path, arrays):
    np.savez(path, **{f"layer_{k}": array for k, array in enumerate(arrays.values())})
    (found,) = inspect(path, order="zrn")
    assert (found.biases, found.reset) == ("two", "after")
    assert found.warning.startswith("reset after and z keeps are assumed")


def test_matrices_of_the_same_shape_are_told_apart_by_name_or_by_their_order(path, random):
    W, U, b = (random.normal(size=shape).astype(np.float32) for shape in ((4, 12), (4, 12), (12,)))
    np.savez(path, m_rec=U, m_in=W, m_b=b)
    (found,) = inspect(path, order="zrn")
    assert np.array_equal(found.weights().cells[0][0]["Wz"], W[:, :4])
    assert found.reset == "before"
    np.savez(path, m_1=W, m_2=U, m_3=b)
    (found,) = inspect(path, order="zrn")
    assert np.array_equal(found.weights().cells[0][0]["Uz"], U[:, :4])


def test_what_fits_together_in_more_than_one_way_is_refused(path):
    np.savez(path, a=np.zeros((12, 3)), b=np.zeros((12, 4)), c=np.zeros((12, 5)))
    with pytest.raises(ModelFileError, match="fit together as a GRU or LSTM in more than one way; give them names as in torch"):
        inspect(path, order="rzn")


@pytest.mark.parametrize("shape", [(11,), (1, 12), (3, 4), (4,), (48,), (2, 6)])
def test_a_bias_that_does_not_fit_is_refused(path, shape):
    """Without it, the outputs would be others than those of the model."""
    np.savez(path, W=np.zeros((12, 3)), U=np.zeros((12, 4)), b=np.zeros(shape))
    with pytest.raises(ModelFileError, match=r"the bias 'b' has the shape .*, which does not fit: make it \(12,\)") as caught:
        inspect(path, order="rzn")
    assert "\n" not in str(caught.value)


def test_biases_that_are_too_many_or_no_floats_are_refused(path):
    W, U = np.zeros((12, 3)), np.zeros((12, 4))
    np.savez(path, W=W, U=U, b=np.zeros(12), c=np.zeros(12), d=np.zeros(12))
    with pytest.raises(ModelFileError, match="b, c, d fit as biases, and it has two at most: leave the others out"):
        inspect(path, order="rzn")
    np.savez(path, W=W, U=U, b=np.zeros(12, int))
    with pytest.raises(ModelFileError, match="its weights are int64"):
        inspect(path, order="rzn")


def test_arrays_of_other_layers_are_no_biases_of_the_gru(path):
    np.savez(path, W=np.zeros((12, 3)), U=np.zeros((12, 4)), bias=np.zeros(12), Wy=np.zeros((4, 7)), b_1=np.zeros(7), epoch=3)
    (found,) = inspect(path, order="rzn")
    assert found.biases == "one"


@pytest.mark.parametrize(
    ("option", "value"), [("order", "rz"), ("order", "rzx"), ("reset", "inside"), ("z", "yes"), ("gate", "relu"), ("order", "")]
)
def test_a_convention_that_is_none_is_refused_by_its_option(path, arrays, option, value):
    np.savez(path, **arrays)
    with pytest.raises(ModelFileError, match=f"{option} is '{value}'; write") as caught:
        inspect(path, **{option: value})
    assert caught.value.option == option


def test_the_order_may_be_spelled_with_u_for_z_and_h_for_n(path, arrays):
    np.savez(path, **arrays)
    assert inspect(path, order="URH")[0].order == "zrn"


def npy(header, data=b"", magic=b"\x93NUMPY\x01\x00"):
    text = header.encode()
    return magic + struct.pack("<H", len(text)) + text + data


def header(shape, descr="<f4"):
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n"


HOSTILE = {
    "overflow": (npy(header("(4611686018427387904, 12)")), "does not fit its shape"),
    "a negative size": (npy(header("(-12, 4)")), "a tensor has the shape"),
    "cut off": (npy(header("(12, 3)"), bytes(100)), "does not fit its shape"),
    "bytes too many": (npy(header("(12, 3)"), bytes(200)), "does not fit its shape"),
    "no header": (npy("os.system('true')"), "not a NumPy array, or is damaged"),
    "a header of another version": (npy(header("(1,)"), magic=b"\x93NUMPY\x09\x00"), "not a NumPy array, or is damaged"),
    "no magic": (b"hello", "not a NumPy array, or is damaged"),
    "a deep header": (npy("(" * 5000), "not a NumPy array, or is damaged"),
    "a long header": (npy(" " * 60_000), "not a NumPy array, or is damaged"),
    "nothing": (b"", "not a NumPy array, or is damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_arrays_are_refused_in_one_line(path, case):
    data, reason = HOSTILE[case]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight_ih.npy", data)
    with pytest.raises(ModelFileError, match=f"weight_ih.npy in it.*{reason}|{reason}") as caught:
        inspect(path)
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_not_read(path, arrays):
    class Harm:
        def __reduce__(self):
            return print, ("harm",)

    np.savez(path, weight_ih=np.array([Harm()], dtype=object), weight_hh=arrays["weight_hh"])
    with pytest.raises(ModelFileError, match="its weights have 1 and 2 axes"):
        inspect(path)
    np.savez(path, weight_ih=np.full((12, 3), None), weight_hh=arrays["weight_hh"])
    with pytest.raises(ModelFileError, match="its weights are of the type object, which is not supported; save them as float32"):
        inspect(path)


def test_a_zip_bomb_is_not_inflated(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weight_ih.npy", npy(header("(12, 1000000)"), bytes(48_000_000)))
    assert path.stat().st_size < 60_000
    with pytest.raises(ModelFileError, match=r"weight_ih.npy in it would inflate \d+ bytes to 480\d+; it is not read"):
        inspect(path)


def archive_of(name, data, size):
    """Return a zip archive of one member with deflated `data`, whose directory gives the size as `size` bytes."""
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(data), size, len(name), 0) + name + data
    central = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(data), size, len(name), 0, 0, 0, 0, 0, 0) + name
    return local + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)


def test_a_member_that_says_less_than_it_inflates_to_gives_no_more_than_it_says(path):
    """The size in the directory is wrong; the data after it is never inflated."""
    compressor = zlib.compressobj(9, wbits=-15)
    data = compressor.compress(npy(header("(12, 3)"), bytes(50_000_000))) + compressor.flush()
    path.write_bytes(archive_of(b"weight_ih.npy", data, len(npy(header("(12, 3)"))) + 144))
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="there is no GRU, LSTM or RNN in it"):
        inspect(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_member_without_a_name_is_no_array(path):
    path.write_bytes(archive_of(b"", b"", 0))
    with pytest.raises(ModelFileError, match="its format is not known"):
        inspect(path)


def test_members_that_overlap_are_twice_there_or_encrypted_are_refused(path, arrays):
    np.savez(path, **arrays)
    whole = path.read_bytes()
    central = [i for i in range(len(whole)) if whole.startswith(b"PK\1\2", i)]
    overlapping = bytearray(whole)
    overlapping[central[1] + 42 : central[1] + 46] = struct.pack("<I", 40)  # the second begins inside the first
    path.write_bytes(overlapping)
    with pytest.raises(ModelFileError, match="overlaps another entry"):
        inspect(path)
    encrypted = bytearray(whole)
    encrypted[central[0] + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(ModelFileError, match=r"weight_ih\.npy in it is encrypted"):
        inspect(path)
    path.write_bytes(whole.replace(b"bias_hh.npy", b"bias_ih.npy"))
    with pytest.raises(ModelFileError, match=r"bias_ih\.npy is in it twice"):
        inspect(path)


def test_a_method_of_compression_that_is_not_read_is_named(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("weight_ih.npy", b"")
        archive.writestr("weight_hh.npy", bytes(1000))
    with pytest.raises(ModelFileError, match="compressed by method 14; write it with deflate or uncompressed"):
        inspect(path)


def test_files_cut_off_anywhere_or_changed_are_refused_in_one_line(path, arrays, random):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    whole = buffer.getvalue()
    for size in range(1, len(whole), 23):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError) as caught:
            inspect(path)
        assert "\n" not in str(caught.value)
    refused, count = 0, examples(60, soak=3000)
    for _ in range(count):
        data = bytearray(whole)
        data[random.integers(0, len(data))] ^= 1 << random.integers(0, 8)
        path.write_bytes(data)
        refused += not readable(path)
    assert refused > count // 2  # the remaining ones change dates, padding and the like


def readable(path):
    try:
        return [found.weights() for found in inspect(path)]
    except ModelFileError as error:
        return str(error).count("\n")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_g2p_ens_encoder_and_decoder_give_its_own_states_and_phonemes(installed, g2p):
    """Compares the package's own NumPy code with its weights as they are read here."""
    folder, package = installed("g2p_en"), g2p
    encoder, decoder = inspect(folder / "checkpoint20.npz")
    assert (encoder.name, decoder.name) == ("enc", "dec")
    assert (encoder.input_size, encoder.hidden_size) == (256, 256)
    assert package.predict("activationist") == [
        "AE2",
        "K",
        "T",
        "IH0",
        "V",
        "EY1",
        "SH",
        "AH0",
        "N",
        "IH0",
        "S",
        "T",
    ]  # as in its README
    for word in ("activationist", "grus", "tutorial"):
        x = package.encode(word)
        h = package.gru(x, len(word) + 1, package.enc_w_ih, package.enc_w_hh, package.enc_b_ih, package.enc_b_hh)
        ours = run(encoder, x.transpose(1, 0, 2))
        np.testing.assert_allclose(ours, h.transpose(1, 0, 2), rtol=0, atol=of_found(encoder, x.transpose(1, 0, 2)))
        assert phonemes(package, decoder, ours[-1:]) == package.predict(word)


def phonemes(package, decoder, state):
    said = []
    token = 2  # <s>
    for _ in range(20):
        state = run(decoder, package.dec_emb[token][None, None], state)
        token = int((state[0] @ package.fc_w.T + package.fc_b).argmax())
        if token == 3:  # </s>
            break
        said.append(package.idx2p[token])
    return said
