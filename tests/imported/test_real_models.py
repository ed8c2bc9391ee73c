"""Published GRUs opened as sessions: their states equal those of the original package or runtime."""

import numpy as np
import onnx
import pytest

import tui_gru
from tests.rounding import of_found, of_session
from tui_gru.imported.inspect import inspect, survey


def outputs(session):
    session.seek(session.end)
    name = session.program.model.page.output
    return np.stack([session.value(name, t=t) for t in range(session.config.seq_length)])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_g2p_en_reads_a_word(installed, g2p):
    """The encoder on the letters of the word in the package's README, with its own table, and the decoder's first step."""
    package, path = g2p, installed("g2p_en") / "checkpoint20.npz"
    letters = [package.g2idx.get(char, package.g2idx["<unk>"]) for char in [*"activationist", "</s>"]]
    wanted = package.gru(
        package.encode("activationist"), len(letters), package.enc_w_ih, package.enc_w_hh, package.enc_b_ih, package.enc_b_hh
    ).transpose(1, 0, 2)
    s = tui_gru.load(path, "enc", inputs=np.array(letters)[:, None], embedding=package.enc_emb, expect=wanted)
    assert np.abs(outputs(s) - wanted).max() < of_session(s)
    assert s.expected.agrees
    state = wanted[-1]
    step = tui_gru.load(path, "dec", inputs=package.dec_emb[[[2]]], h0=state[None])
    h = package.grucell(package.dec_emb[[2]], state, package.dec_w_ih, package.dec_w_hh, package.dec_b_ih, package.dec_b_hh)
    assert np.abs(outputs(step)[0] - h).max() < of_session(step)


def test_gtcrn_at_every_one_of_its_nodes(gtcrn):
    path, nodes = gtcrn
    for gru in inspect(path):
        x, h0, Y = nodes[gru.name]
        s = tui_gru.load(path, gru.name, inputs=x, h0=h0, expect=Y)
        allowed = 2 * of_found(gru, x, h0)  # each of the two differs from exact numbers
        assert s.expected.one_step.worst < allowed, gru.name
        assert s.expected.whole.worst < allowed, gru.name


def test_a_public_keras_model_layer_by_layer(installed, keras, random):
    path = installed("khmer_transliterator") / "weights/bi_gru_attention_khmer_transliterator.keras"
    model = keras.saving.load_model(path, compile=False)
    for gru in inspect(path):
        x = random.normal(size=(6, 2, gru.input_size)).astype(np.float32)
        found = model.get_layer(gru.name)(np.ascontiguousarray(x.transpose(1, 0, 2)))
        y = (found[0] if isinstance(found, (list, tuple)) else found).detach().numpy().transpose(1, 0, 2)
        s = tui_gru.load(path, gru.name, inputs=x, expect=y)
        assert np.abs(outputs(s) - y).max() < 2 * of_found(gru, x)
        assert s.expected.agrees


VECTORS = ("defaults", "with_initial_bias", "seq_length", "batchwise")


@pytest.mark.parametrize("vector", VECTORS)
def test_the_test_vectors_of_onnx(installed, tmp_path, vector):
    """The vectors give the weights as inputs of the graph; the test stores them in the graph."""
    folder = installed("onnx") / f"backend/test/data/node/test_gru_{vector}"
    model = onnx.load(folder / "model.onnx")
    data = sorted((folder / "test_data_set_0").glob("input_*.pb"))
    arrays = {
        value.name: onnx.numpy_helper.to_array(onnx.load_tensor(path)) for value, path in zip(model.graph.input, data, strict=True)
    }
    x, *weights = arrays.items()
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights)
    onnx.save(model, tmp_path / "model.onnx")
    (output,) = (folder / "test_data_set_0").glob("output_0.pb")
    wanted = onnx.numpy_helper.to_array(onnx.load_tensor(output))
    batchwise = vector == "batchwise"
    inputs = x[1].transpose(1, 0, 2) if batchwise else x[1]
    assert not survey(tmp_path / "model.onnx").refused
    s = tui_gru.load(tmp_path / "model.onnx", inputs=inputs)
    ours = outputs(s)
    if batchwise:  # the others give the last state only
        assert np.abs(ours - wanted[:, :, 0].transpose(1, 0, 2)).max() < of_session(s)
    else:
        assert np.abs(s.value("h", t=len(ours) - 1) - wanted[0]).max() < of_session(s)
