"""LSTMs and plain RNNs of files: they are found, run as their frameworks run them, and their conventions are proved."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

import tui_gru
from tests.imported.running import prove, run
from tests.rounding import of_found
from tui_gru import TuiGruError
from tui_gru.cli.commands import main
from tui_gru.errors import ModelFileError
from tui_gru.files.kinds import KINDS
from tui_gru.imported.convention import ProofResult
from tui_gru.imported.inspect import inspect, survey

T, B, READS, H = 6, 3, 3, 4
LENGTHS = np.array([6, 2, 4])


def module(kind, **options):
    torch.manual_seed(7)
    if kind == "relu":
        return torch.nn.RNN(READS, H, nonlinearity="relu", **options)
    return {"lstm": torch.nn.LSTM, "rnn": torch.nn.RNN, "gru": torch.nn.GRU}[kind](READS, H, **options)


def ran(own, x, starts=None, lengths=None):
    """Return the output of a torch module for x (T, B, READS) as an array; its first states are those of `starts`."""
    given = torch.as_tensor(x)
    if lengths is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(given, torch.as_tensor(lengths), enforce_sorted=False)
    if starts is not None:
        starts = tuple(map(torch.as_tensor, starts)) if isinstance(own, torch.nn.LSTM) else torch.as_tensor(starts[0])
    out = own(given, starts)[0]
    return (out if lengths is None else torch.nn.utils.rnn.pad_packed_sequence(out)[0]).detach().numpy()


@pytest.fixture
def saved(tmp_path):
    def save(own):
        torch.save(own.state_dict(), tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return save


@pytest.fixture
def x(random):
    return random.normal(size=(T, B, READS)).astype(np.float32)


def starts_of(own, random):
    ways = own.num_layers * (2 if own.bidirectional else 1)
    return [random.normal(size=(ways, B, H)).astype(np.float32) / 2 for _ in range(2)]


SHAPES = [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}]


@pytest.mark.parametrize("kind", ["lstm", "rnn", "relu"])
@pytest.mark.parametrize("options", SHAPES)
def test_a_checkpoint_of_torch_is_opened_and_computes_what_torch_does(saved, x, random, kind, options):
    own = module(kind, **options)
    path, starts = saved(own), starts_of(own, random)
    (found,) = inspect(path)
    assert found.kind == ("lstm" if kind == "lstm" else "rnn")
    assert found.name == found.kind
    h0 = tuple(starts) if kind == "lstm" else starts[0]
    y = ran(own, x, starts, LENGTHS)
    s = tui_gru.load(path, inputs=x, h0=h0, lengths=LENGTHS, expect=y)
    s.step("batch")
    assert s.expected.agrees, s.expected.sentence
    assert s.expected.one_step.error <= of_found(found, x, np.stack(starts)) * 4
    assert ("relu" in s.program_text()) == (kind == "relu")
    assert s.value("c_l0" if options.get("num_layers") else "c", t=0).shape == (B, H) if kind == "lstm" else True


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("order", KINDS["lstm"].orders)
def test_every_order_of_an_lstm_is_proved(saved, x, order, layers):
    own = module("lstm", num_layers=layers)
    y = ran(own, x)
    path = saved(own)
    (found,) = inspect(path)
    proof = prove(found.read_as(order=order), x, y)
    assert proof.result is ProofResult.EQUAL
    assert proof.layers.order == "ifgo"
    assert proof.readings[0].error < of_found(found, x)
    assert proof.readings[1].error > 1e-3
    assert len({tried.convention for tried in proof.readings}) == len(KINDS["lstm"].conventions)


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid", "hard_sigmoid_6"])
def test_the_function_of_the_gates_and_the_forget_bias_are_proved(saved, x, gate):
    (found,) = inspect(saved(module("lstm")))
    read = found.read_as(gate=gate)
    for bias in (0, 1):
        there = read.proved_as(dataclasses.replace(read.convention, forget_bias=bias), "")
        proof = prove(found, x, run(there, x).astype(np.float32))
        assert proof.result is ProofResult.EQUAL
        assert (proof.layers.gate, proof.layers.convention.forget_bias) == (gate, bias)
        assert ("1 added to the bias of the forget gate" in proof.message) == bool(bias)


def test_a_relu_network_is_proved_to_be_one(saved, x):
    own = module("relu")
    (found,) = inspect(saved(own))
    assert "tanh is assumed" in found.warning
    proof = prove(found, x, ran(own, x))
    assert proof.layers.gate == "relu"
    assert proof.layers.warning == ""


def test_an_output_to_fewer_digits_is_recognised(saved, x):
    own = module("lstm")
    (found,) = inspect(saved(own))
    proof = prove(found.read_as(order="iofg"), x, ran(own, x) + np.float32(3e-4))
    assert proof.result is ProofResult.NEAR
    assert proof.layers.order == "ifgo"
    assert "this convention, but not to rounding: off by 3." in proof.message
    assert prove(found, x, ran(own, x)[::-1]).result is ProofResult.NONE


def test_an_option_restricts_the_proof(saved, x, tmp_path):
    own = module("gru")
    s = tui_gru.load(saved(own), inputs=x, expect=ran(own, x), order="rzn")
    assert s.expected.agrees
    s = tui_gru.load(saved(own), inputs=x, expect=ran(own, x), order="zrn")
    assert not s.expected.agrees


def test_stacked_arrays_are_opened_as_an_lstm_by_their_order(tmp_path, x, random):
    own = module("lstm")
    W, U, b, b_h = (value.detach().numpy() for value in own.parameters())
    np.savez(tmp_path / "m.npz", g_W=W, g_U=U, g_b=b, g_bh=b_h)
    (found,) = inspect(tmp_path / "m.npz", order="ifco")
    assert (found.kind, found.order) == ("lstm", "ifgo")
    np.testing.assert_allclose(run(found, x), ran(own, x), rtol=0, atol=of_found(found, x))
    with pytest.raises(ModelFileError, match="give the order: ifgo as in torch and Keras, iofg as in ONNX"):
        inspect(tmp_path / "m.npz")
    assert tui_gru.load(tmp_path / "m.npz", inputs=x, expect=ran(own, x)).config.source.title.startswith("g of")


def test_gates_in_matrices_of_their_own_are_opened_by_name(tmp_path, x):
    own = module("lstm")
    W, U, b, b_h = (np.split(value.detach().numpy(), 4) for value in own.parameters())
    for letters in ("ifgo", "ifco"):
        named = {f"W_x{g}": w.T for g, w in zip(letters, W, strict=True)} | {
            f"W_h{g}": u.T for g, u in zip(letters, U, strict=True)
        }
        named |= {f"b_{g}": one + other for g, one, other in zip(letters, b, b_h, strict=True)}
        np.savez(tmp_path / "m.npz", **named)
        (found,) = inspect(tmp_path / "m.npz")
        assert found.kind == "lstm"
        np.testing.assert_allclose(run(found, x), ran(own, x), rtol=0, atol=of_found(found, x))


def onnx_model(random, kind, directions=1, starts=True, **attributes):
    G = len(KINDS[kind].gates)
    shapes = {"W": (directions, G * H, READS), "R": (directions, G * H, H), "B": (directions, 2 * G * H)}
    stored = {name: random.normal(size=shape).astype(np.float32) / 2 for name, shape in shapes.items()}
    states = ["initial_h", "initial_c"][: len(KINDS[kind].states)] if starts else []
    stored |= {name: random.normal(size=(directions, B, H)).astype(np.float32) / 2 for name in states}
    stored["lens"] = LENGTHS.astype(np.int32)
    node = helper.make_node(kind.upper(), ["X", "W", "R", "B", "lens", *states], ["Y"], name="cell", hidden_size=H, **attributes)
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    inputs = [helper.make_tensor_value_info("X", 1, [T, B, READS])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("Y", 1, None)], tensors)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 22)])


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "activations"), [("lstm", None), ("lstm", "HardSigmoid"), ("lstm", "Relu"), ("rnn", None), ("rnn", "Relu")]
)
def test_an_onnx_node_computes_what_onnxruntime_does(tmp_path, random, x, kind, activations, direction, starts):
    D = 2 if direction == "bidirectional" else 1
    states = ["Relu"] if kind == "rnn" else ["Sigmoid", "Relu", "Relu"]
    own = {"HardSigmoid": ["HardSigmoid", "Tanh", "Tanh"] * D, "Relu": states * D}.get(activations)
    attributes = {"direction": direction} | ({"activations": own} if own else {})
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_model(random, kind, D, starts, **attributes).SerializeToString())
    (y,) = InferenceSession(path).run(["Y"], {"X": x})
    (found,) = inspect(path)
    assert (found.kind, found.order, found.warning) == (kind, "iofg" if kind == "lstm" else "h", "")
    assert ("initial_c in the file" in found.evidence) == (starts and kind == "lstm")
    s = tui_gru.load(path, inputs=x, expect=y)
    s.step("batch")
    assert s.expected.agrees, s.expected.sentence
    assert s.check().agrees
    live = np.arange(T)[:, None] < LENGTHS
    y = y.transpose(0, 2, 1, 3).reshape(T, B, -1)
    assert np.abs(run(found, x) - y)[live].max() < of_found(found, x)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"input_forget": 1}, "its input gate is 1 minus its forget gate"),
        ({"clip": 3.0}, "it clips the inputs of its gates"),
        ({"activations": ["Sigmoid", "Relu", "Tanh"]}, "its activations are sigmoid and relu and tanh"),
        ({"activations": ["Sigmoid", "Tanh"]}, "its directions have different activations, or some have none"),
    ],
)
def test_what_an_onnx_lstm_does_besides_is_refused(tmp_path, random, attributes, reason):
    (tmp_path / "m.onnx").write_bytes(onnx_model(random, "lstm", **attributes).SerializeToString())
    with pytest.raises(ModelFileError, match=f"cell: {reason}"):
        inspect(tmp_path / "m.onnx")


def test_options_of_another_kind_are_refused_and_of_one_of_several_used(saved, x):
    own = torch.nn.ModuleDict({"a": module("lstm"), "b": module("gru"), "c": module("rnn")})
    path = saved(own)
    assert [found.kind for found in inspect(path)] == ["lstm", "gru", "rnn"]
    assert [found.order for found in inspect(path, order="iofc")] == ["iofg", "rzn", "h"]
    assert [found.reset for found in inspect(path, reset="before")] == ["", "before", ""]
    path = saved(own["a"])
    with pytest.raises(ModelFileError, match="reset is 'before', and this is an LSTM: leave it out") as caught:
        inspect(path, reset="before")
    with pytest.raises(TuiGruError, match=r"order is 'rzn'; write one of .*ifgo.*, as this is an LSTM"):
        tui_gru.load(path, order="rzn")
    assert survey(path).layers[0].name == "lstm"
    assert "\n" not in str(caught.value)


def test_the_first_states_of_an_lstm_are_two(saved, x):
    path = saved(module("lstm"))
    state = np.ones((1, B, H), np.float32)
    with pytest.raises(TuiGruError, match=r"lstm starts from \(2, 1, 3, 4\): h0 and c0, each layers times directions, rows, units"):
        tui_gru.load(path, inputs=x, h0=state)
    with pytest.raises(TuiGruError, match=r"h0 has the shape \(1, 3, 4\), and c0 \(3, 4\)"):
        tui_gru.load(path, inputs=x, h0=(state, state[0]))
    s = tui_gru.load(path, inputs=x, h0=(torch.ones(1, B, H), 2 * torch.ones(1, B, H)))
    s.step("op")
    assert (s.value("h_prev") == 1).all()
    assert (s.value("c_prev", t=0) == 2).all()


def test_a_chaotic_lstm_is_compared_one_step_at_a_time(saved, random):
    own = module("lstm")
    with torch.no_grad():
        for value in own.parameters():
            value *= 12
    x = random.normal(size=(200, 1, READS)).astype(np.float32)
    s = tui_gru.load(saved(own), inputs=x, expect=ran(own, x))
    s.step("batch")
    assert s.expected.one_step.error < 1e-4
    assert s.expected.agrees


def test_a_head_predicts_and_trains_on_a_text(tmp_path):
    torch.manual_seed(8)
    model = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(4, 5), "fc": torch.nn.Linear(5, 4)})
    torch.save(model.state_dict(), tmp_path / "model.pt")
    s = tui_gru.load(tmp_path / "model.pt", head="fc", text="MathMathMathMath", vocabulary="hatM", seq_length=3, batch_size=1)
    s.learning = True
    ids = torch.tensor(["hatM".index(char) for char in "Mat"])
    logits = model["fc"](model["rnn"](torch.nn.functional.one_hot(ids, 4).float()[:, None])[0])[:, 0]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(["hatM".index(char) for char in "ath"]))
    s.step("batch")
    assert abs(float(loss.detach()) - s.snapshot().losses[0]) < 1e-5


@pytest.mark.parametrize("kind", ["lstm", "rnn"])
def test_the_commands_list_check_and_trace_them(saved, tmp_path, x, kind):
    own = module(kind)
    path = saved(own)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", ran(own, x))

    def command(*arguments):
        return subprocess.run([sys.executable, "-m", "tui_gru", *arguments], capture_output=True, text=True, check=True).stdout

    listed = command("inspect", str(path))
    assert ("LSTM" if kind == "lstm" else "RNN") in listed
    assert ("gates i f g o, sigmoid; biases: two" if kind == "lstm" else "tanh; biases: two") in listed
    traced = command(
        "trace", "--model", str(path), "--input", str(tmp_path / "x.npy"), "--format", "npz", "-o", str(tmp_path / "t.npz")
    )
    assert traced == ""
    with np.load(tmp_path / "t.npz") as arrays:
        found = arrays["timesteps/h"][0]
    np.testing.assert_allclose(found, ran(own, x), rtol=0, atol=of_found(inspect(path)[0], x))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_check_compares_a_file_with_the_output_of_the_original(saved, tmp_path, x, kind, capsys):
    own = module(kind)
    path, y = saved(own), ran(own, x)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)

    def check(*options):
        code = main(["check", str(path), "--input", str(tmp_path / "x.npy"), "--expect", str(tmp_path / "y.npy"), *options])
        return code, *capsys.readouterr()

    assert check()[0] == 0
    assert check()[1].startswith("the output is the expected one: off by")
    code, out, err = check("--order", "zrn" if kind == "gru" else "iofg")
    order = "r z n" if kind == "gru" else "i f g o"
    assert (code, err, out.count("\n")) == (1, "", 1)
    assert "the output is not the expected one: off by" in out
    assert f"; the convention that fits: gates {order}, " in out
    np.save(tmp_path / "y.npy", y + np.float32(3e-4))
    code, out, _ = check()
    assert code == 1
    assert "this convention, but not to rounding" in out
    np.save(tmp_path / "y.npy", y[::-1])
    code, out, _ = check()
    assert (code, out.count(";")) == (1, 0)
    assert main(["check", str(path), "--input", str(tmp_path / "x.npy")]) == 2
    assert "--expect: there is nothing to compare" in capsys.readouterr().err
