"""Keras files, compared with Keras itself one layer at a time."""

import io
import random as chances
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from tests.extent import examples
from tests.imported.running import named, prove, run
from tests.rounding import of_found
from tui_gru import TuiGruError, load
from tui_gru.errors import ModelFileError
from tui_gru.files import hdf5
from tui_gru.imported.inspect import inspect, survey

#: Warnings of Keras about torch's arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def model(keras, random):
    """Return a model of layers of every kind, with biases that are not zero."""
    layers = keras.layers
    every = {"return_sequences": True}
    stack = [
        layers.GRU(4, name="after", **every),
        layers.GRU(4, reset_after=False, name="before", **every),
        layers.GRU(4, recurrent_activation="hard_sigmoid", name="hard", **every),
        layers.Bidirectional(layers.GRU(4, reset_after=False, **every), name="both"),
        layers.RNN(layers.GRUCell(5), name="of_a_cell", **every),
        layers.RNN([layers.GRUCell(5), layers.GRUCell(6)], name="stacked", **every),
        layers.LSTM(3, name="memory", **every),
        layers.SimpleRNN(3, name="plain", **every),
        layers.GRU(4, go_backwards=True, name="backwards", **every),
        layers.GRU(4, use_bias=False, name="without", **every),
        layers.GRU(4, activation="relu", name="relu", **every),
        layers.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", name="relu_memory", **every),
        layers.Dense(2, name="head"),
    ]
    model = keras.Sequential([keras.Input((None, 3)), *stack])
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape).astype(np.float32) / 2)
    return model


LAYERS = [
    "after",
    "before",
    "hard",
    "both",
    "of_a_cell",
    "stacked",
    "stacked",
    "memory",
    "plain",
    "backwards",
    "without",
    "relu",
    "relu_memory",
]


def output(layer, x):
    """Return (T, B, units) for (T, B, I)."""
    y = layer(np.ascontiguousarray(x.transpose(1, 0, 2), np.float32))
    return y.detach().numpy().transpose(1, 0, 2)


def check(found, layer, random):
    x = random.normal(size=(5, 2, found.input_size)).astype(np.float32)
    y = output(layer, x)
    if found.directions == ("reverse",):
        y = y[::-1]  # Keras gives them in the order of computation
    np.testing.assert_allclose(run(found, x), y, rtol=0, atol=of_found(found, x))


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_every_layer_is_found_and_computes_what_keras_does(model, tmp_path, random, file):
    model.save(tmp_path / file)
    found = survey(tmp_path / file)
    assert [gru.name.split("/")[0] for gru in found.layers] == LAYERS
    assert found.refused == ()
    for gru in found.layers:
        assert not gru.warning
        assert gru.batch_first
        if not gru.name.startswith("stacked"):
            check(gru, model.get_layer(gru.name), random)
    conventions = {gru.name: (gru.order, gru.reset, gru.z, gru.gate) for gru in found.layers}
    assert conventions["after"] == ("zrn", "after", "keeps", "sigmoid")
    assert conventions["before"] == ("zrn", "before", "keeps", "sigmoid")
    assert conventions["hard"] == ("zrn", "after", "keeps", "hard_sigmoid_6")
    assert named(found.layers, "both").bidirectional
    assert (named(found.layers, "memory").kind, named(found.layers, "memory").order) == ("lstm", "ifgo")
    assert named(found.layers, "relu").convention.functions == "sigmoid, relu in place of tanh"
    assert named(found.layers, "relu_memory").convention.functions == "hard_sigmoid_6, relu in place of tanh"
    assert (named(found.layers, "plain").kind, named(found.layers, "plain").gate) == ("rnn", "tanh")


def test_cells_stacked_in_one_layer_are_run_one_after_the_other(model, tmp_path, random):
    model.save(tmp_path / "model.keras")
    first, second = (gru for gru in inspect(tmp_path / "model.keras") if gru.name.startswith("stacked/"))
    x = random.normal(size=(5, 2, first.input_size)).astype(np.float32)
    between = run(first, x)
    allowed = of_found(first, x) + of_found(second, between)
    np.testing.assert_allclose(run(second, between), output(model.get_layer("stacked"), x), rtol=0, atol=allowed)


def test_weights_alone_say_what_they_assume_and_it_can_be_proved(model, tmp_path, random):
    model.save_weights(tmp_path / "model.weights.h5")
    hard = named(inspect(tmp_path / "model.weights.h5"), "hard")
    assert hard.gate == "sigmoid"
    assert hard.warning == "gates sigmoid assumed: the file does not say; give an input and its output to prove it"
    x = random.normal(size=(5, 2, hard.input_size)).astype(np.float32)
    proof = prove(hard, x, output(model.get_layer("hard"), x))
    assert proof.decided
    assert proof.layers.gate == "hard_sigmoid_6"
    assert proof.layers.warning == ""
    for name, functions in (("relu", "sigmoid"), ("relu_memory", "hard_sigmoid_6")):
        found = named(inspect(tmp_path / "model.weights.h5"), name)
        x = random.normal(size=(5, 2, found.input_size)).astype(np.float32)
        proof = prove(found, x, output(model.get_layer(name), x))
        assert proof.decided
        assert proof.layers.convention.functions == f"{functions}, relu in place of tanh"


def test_an_activation_that_is_not_read_is_refused(keras, tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4, activation="elu", name="odd")])
    model.save(tmp_path / "model.keras")
    with pytest.raises(
        ModelFileError, match="odd: its activations are sigmoid and elu; sigmoid or hard_sigmoid, and tanh or relu are supported"
    ):
        inspect(tmp_path / "model.keras")


def legacy(path, version, config=None, group="model_weights/gru_1/gru_1", **arrays):
    """Write a layer as Keras 1 and 2 do."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = np.bytes_(version)
        if config is not None:
            file.attrs["model_config"] = config.encode()
        for name, array in arrays.items():
            file[f"{group}/{name}:0"] = array
    return path


KERAS_2 = """{"class_name": "Sequential", "config": [
    {"class_name": "%s", "config": {"name": "gru_1", %s "units": 4, "activation": "tanh"}}
]}"""


@pytest.mark.parametrize(
    ("version", "said", "gate", "sure"),
    [
        ("2.2.4", '"recurrent_activation": "hard_sigmoid",', "hard_sigmoid", True),
        ("1.2.2", '"inner_activation": "hard_sigmoid",', "hard_sigmoid", True),
        ("2.2.4-tf", '"recurrent_activation": "sigmoid",', "sigmoid", True),
        ("2.2.4", None, "hard_sigmoid", False),
        ("2.3.1", None, "sigmoid", False),
        ("2.2.4-tf", None, "sigmoid", False),
    ],
)
def test_the_hard_sigmoid_of_keras_2_is_another_than_that_of_keras_3(tmp_path, random, version, said, gate, sure):
    arrays = {
        "kernel": random.normal(size=(3, 12)).astype(np.float32),
        "recurrent_kernel": random.normal(size=(4, 12)).astype(np.float32),
        "bias": random.normal(size=12).astype(np.float32),
    }
    config = None if said is None else KERAS_2 % ("GRU", said)
    (found,) = inspect(legacy(tmp_path / "model.h5", version, config, **arrays))
    assert (found.name, found.reset, found.gate, not found.warning) == ("gru_1", "before", gate, sure)
    assert np.array_equal(found.weights().cells[0][0]["Ur"], arrays["recurrent_kernel"][:, 4:8])


@pytest.mark.parametrize("config", [KERAS_2 % ("CuDNNGRU", ""), None], ids=["a model", "weights alone"])
def test_cudnn_gru_is_read_in_the_layout_of_cudnn(config, tmp_path, random):
    """Its documentation gives the layout: input kernels [[0, 1, 2], [3, 4, 5]] are [[0, 2, 4], [1, 3, 5]] of GRU's. The shape of
    its biases tells it from a GRU of the same Keras, whose gates can be hard_sigmoid."""
    kernel = np.concatenate([np.arange(6).reshape(2, 3) + 10 * gate for gate in range(3)], axis=1).astype(np.float32)
    recurrent, bias = random.normal(size=(3, 9)).astype(np.float32), random.normal(size=18).astype(np.float32)
    (found,) = inspect(legacy(tmp_path / "model.h5", "2.2.4", config, kernel=kernel, recurrent_kernel=recurrent, bias=bias))
    assert (found.reset, found.gate, found.input_size, found.hidden_size, found.warning) == ("after", "sigmoid", 2, 3, "")
    assert "a Keras 2.2.4 CuDNNGRU: gates z r n, its bias is (6H)" in found.evidence
    cell = found.weights().cells[0][0]
    for k, gate in enumerate("zrh"):
        assert np.array_equal(cell[f"W{gate}"], np.array([[0, 2, 4], [1, 3, 5]]) + 10 * k)
        assert np.array_equal(cell[f"U{gate}"], recurrent[:, 3 * k : 3 * k + 3].T)
    assert np.array_equal(cell["bhr"], bias[12:15])


def test_without_h5py_it_says_what_to_install(tmp_path, monkeypatch):
    path = legacy(tmp_path / "model.h5", "2.2.4", kernel=np.zeros((3, 12)), recurrent_kernel=np.zeros((4, 12)))
    monkeypatch.setattr(hdf5, "find_spec", lambda name: None)
    with pytest.raises(ModelFileError, match=r"needs h5py: pip install 'tui-gru\[keras\]'"):
        inspect(path)


ARRAYS = {"kernel": np.zeros((3, 12), np.float32), "recurrent_kernel": np.zeros((4, 12), np.float32)}


def test_links_and_datasets_that_lead_out_of_the_file_are_not_followed(tmp_path):
    secret = legacy(tmp_path / "secret.h5", "2.2.4", **ARRAYS)
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["model_weights/a"] = h5py.ExternalLink(str(secret), "model_weights/gru_1")
        file["model_weights/b"] = h5py.SoftLink("/model_weights/a")
    with pytest.raises(ModelFileError, match="there is no GRU, LSTM or RNN in it"):
        inspect(tmp_path / "model.h5")
    (tmp_path / "raw").write_bytes(bytes(10_000))
    with h5py.File(tmp_path / "model.h5", "w") as file:
        group = file.create_group("model_weights/gru_1")
        group.create_dataset("kernel:0", (3, 12), "f4", external=[(str(tmp_path / "raw"), 0, 144)])
        layout = h5py.VirtualLayout((4, 12), "f4")
        layout[:] = h5py.VirtualSource(secret, "model_weights/gru_1/gru_1/recurrent_kernel:0", (4, 12))
        group.create_virtual_dataset("recurrent_kernel:0", layout)
    (found,) = inspect(tmp_path / "model.h5")
    with pytest.raises(ModelFileError, match="has its numbers in another file; it is not read"):
        found.weights()


def test_groups_in_a_circle_are_entered_once(tmp_path):
    path = legacy(tmp_path / "model.h5", "2.2.4", **ARRAYS)
    with h5py.File(path, "a") as file:
        file["model_weights/gru_1/again"] = file["model_weights"]
        file["model_weights/round"] = file["/"]
    assert len(inspect(path)) >= 1


def test_what_would_inflate_beyond_measure_is_not_read(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        group = file.create_group("model_weights/gru_1")
        for name, shape in (("kernel:0", (3, 3 * 200_000)), ("recurrent_kernel:0", (200_000, 600_000))):
            group.create_dataset(name, shape, "f4", chunks=(1, 1000), compression="gzip")
    (found,) = inspect(tmp_path / "model.h5")
    with pytest.raises(ModelFileError, match="would inflate to 480000000000 bytes; it is not read"):
        found.weights()


def test_a_file_cut_off_anywhere_is_refused_in_one_line(keras, tmp_path):
    keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4)]).save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = members["model.weights.h5"]
    path = tmp_path / "model.keras"
    for size in range(0, len(weights) - 1, len(weights) // 60):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data[:size] if name == "model.weights.h5" else data)
        refused(path)
        (tmp_path / "model.weights.h5").write_bytes(weights[:size])
        refused(tmp_path / "model.weights.h5")
    whole = (tmp_path / "whole.keras").read_bytes()
    for size in range(1, len(whole), len(whole) // 40):
        path.write_bytes(whole[:size])
        refused(path)


def read_all(path):
    return [found.weights() for found in inspect(path)]


def refused(path):
    with pytest.raises(ModelFileError) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def mutated(data, rng):
    """Return the bytes with some bits flipped, bytes set, or a part repeated or left out."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 20])):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice([0, 255, rng.randrange(256)])
            case 2:
                data[at : at + 8] = rng.choice([bytes(8), b"\xff" * 8, data[at // 2 : at // 2 + 8]])
            case 3:
                del data[at : at + rng.choice([1, 8, 64])]
    return bytes(data)


def test_a_mutated_file_is_read_or_refused_in_one_line(tmp_path, monkeypatch):
    """One in a thousand crashes the HDF5 library, or keeps it busy for ever."""
    monkeypatch.setattr(hdf5, "SECONDS", 2)
    good, rng = legacy(tmp_path / "model.h5", "2.2.4", KERAS_2 % ("GRU", ""), **ARRAYS).read_bytes(), chances.Random(3)
    for _ in range(examples(60, soak=5000)):
        (tmp_path / "model.h5").write_bytes(mutated(good, rng))
        said = ""
        try:
            read_all(tmp_path / "model.h5")
        except ModelFileError as error:
            said = str(error)
        assert said.isprintable()


BAD = {
    "it crashes the HDF5 library": "os.kill(os.getpid(), 11)",
    "reading it did not end in 1 seconds": "[0 for _ in iter(int, 1)]",  # a loop without an end
    "is damaged or cut off": "bytearray(1 << 33)",  # more memory than it may take
}


@pytest.fixture
def bad_library(monkeypatch):
    """Return a function that lets the process that reads HDF5 do something else when it opens a file."""

    def set_to(work):
        hdf5.READER.end()
        patch = f"import os; from tui_gru.files import hdf5; hdf5._refusal = hdf5._texts = lambda *_: {work}; answer_requests()"
        monkeypatch.setattr(hdf5, "CODE", hdf5.CODE.removesuffix("answer_requests()") + patch)
        monkeypatch.setattr(hdf5, "SECONDS", 1)

    yield set_to
    hdf5.READER.end()


@pytest.mark.parametrize("use", [inspect, load], ids=["inspect", "load"])
@pytest.mark.parametrize("said", BAD)
def test_a_file_that_breaks_the_library_is_refused_and_the_next_is_read(tmp_path, bad_library, monkeypatch, said, use):
    path = legacy(tmp_path / "model.h5", "2.2.4", KERAS_2 % ("GRU", ""), **ARRAYS)
    with monkeypatch.context():
        bad_library(BAD[said])
        with pytest.raises(TuiGruError, match=r"its HDF5 structure is damaged.*; get the file again") as caught:
            use(path)
        assert str(caught.value).startswith(str(path))
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.undo()
    hdf5.READER.end()
    assert len(inspect(path)) == 1


def test_the_clock_ends_what_no_other_limit_ends(tmp_path, bad_library, monkeypatch):
    """As on Windows, or where the library waits without using the processor."""
    bad_library("__import__('time').sleep(1000)")
    monkeypatch.setattr(hdf5, "PATIENCE", 0.5)
    path = legacy(tmp_path / "model.h5", "2.2.4", **ARRAYS)
    with pytest.raises(ModelFileError, match="reading it did not end in 1 seconds"):
        inspect(path)


def test_the_process_that_reads_is_started_again_after_it_has_ended(tmp_path, monkeypatch):
    path = legacy(tmp_path / "model.h5", "2.2.4", **ARRAYS)
    monkeypatch.setattr(
        hdf5,
        "CODE",
        hdf5.CODE.replace("answer_requests()", "hdf5.IDLE = 0.01; answer_requests()").replace(
            "import answer_requests", "import answer_requests; from tui_gru.files import hdf5"
        ),
    )
    hdf5.READER.end()
    for _ in range(3):
        read_all(path)
    hdf5.READER.end()


def test_the_program_that_reads_ends_the_process_and_does_not_load_the_library(tmp_path):
    path = legacy(tmp_path / "model.h5", "2.2.4", **ARRAYS)
    code = f"import sys, tui_gru; tui_gru.inspect({str(path)!r})[0].weights(); assert 'h5py' not in sys.modules"
    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_member_that_is_compressed_is_read(model, tmp_path):
    model.save(tmp_path / "stored.keras")
    with (
        zipfile.ZipFile(tmp_path / "stored.keras") as stored,
        zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in stored.namelist():
            small.writestr(name, stored.read(name))
    for one, other in zip(inspect(tmp_path / "stored.keras"), inspect(tmp_path / "model.keras"), strict=True):
        cell, same = one.weights().cells[0][0], other.weights().cells[0][0]
        assert all(np.array_equal(cell[name], same[name]) for name in cell)


def test_a_window_is_a_file_of_its_own(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(100)))
    with hdf5.Window(tmp_path / "file", 10, 50) as window:
        assert window.read(3) == bytes([10, 11, 12])
        assert window.seek(-2, io.SEEK_END) == 48
        assert window.read(10) == bytes([58, 59])
        assert window.read(10) == b""


def test_netra_transliterates_layers_compute_what_keras_does(keras, installed, random):
    path = installed("khmer_transliterator") / "weights/bi_gru_attention_khmer_transliterator.keras"
    encoder, decoder = inspect(path)
    assert (encoder.name, encoder.bidirectional, encoder.input_size, encoder.hidden_size) == ("bidirectional_3", True, 32, 64)
    assert (decoder.name, decoder.bidirectional, decoder.input_size, decoder.hidden_size) == ("gru_7", False, 32, 64)
    assert all(
        (gru.order, gru.reset, gru.z, gru.biases, gru.warning) == ("zrn", "after", "keeps", "two", "") for gru in (encoder, decoder)
    )
    model = keras.saving.load_model(path, compile=False)
    for gru in (encoder, decoder):
        x = random.normal(size=(6, 2, 32)).astype(np.float32)
        outputs = model.get_layer(gru.name)(np.ascontiguousarray(x.transpose(1, 0, 2)))
        y = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        y = y.detach().numpy().transpose(1, 0, 2)
        np.testing.assert_allclose(run(gru, x), y, rtol=0, atol=of_found(gru, x))
        assert prove(gru.read_as("rzn"), x, y).layers.convention == gru.convention
