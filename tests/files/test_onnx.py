"""ONNX files, compared with onnxruntime and the operator's own test vectors."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.files.onnx_models import INPUTS, B, H, T, gru_model
from tests.imported.running import prove, run
from tests.rounding import of_found
from tui_gru.errors import ModelFileError
from tui_gru.imported.inspect import inspect, survey

VECTORS = Path(onnx.__file__).parent / "backend/test/data/node"


@pytest.fixture
def saved(tmp_path):
    def save(model):
        onnx.save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return save


def runtime(path, **inputs):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["Y"], inputs)[0]


def joined(Y):
    """Return Y (T, D, B, H) as (T, B, D · H)."""
    return Y.transpose(0, 2, 1, 3).reshape(Y.shape[0], Y.shape[2], -1)


CASES = {
    "defaults": {},
    "after": {"linear_before_reset": 1},
    "reverse": {"direction": "reverse"},
    "bidirectional": {"direction": "bidirectional", "directions": 2, "linear_before_reset": 1},
    "no bias": {"bias": False},
    "hard sigmoid": {"activations": ["HardSigmoid", "Tanh"]},
    "hard sigmoid of Keras 3": {"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [1 / 6], "activation_beta": [0.5]},
    "relu": {"activations": ["Sigmoid", "Relu"]},
    "numbers one field each": {"raw": False},
}
GATES = {"hard sigmoid": "hard_sigmoid", "hard sigmoid of Keras 3": "hard_sigmoid_6"}


@pytest.mark.parametrize("case", CASES)
def test_a_gru_node_computes_what_onnxruntime_does(saved, random, case):
    path = saved(gru_model(random, **CASES[case]))
    (found,) = inspect(path)
    assert (found.name, found.input_size, found.hidden_size, found.batch_first) == ("gru", INPUTS, H, False)
    assert (found.order, found.z, found.gate) == ("zrn", "keeps", GATES.get(case, "sigmoid"))
    assert found.reset == ("after" if "linear_before_reset" in CASES[case] else "before")
    assert found.directions == {"reverse": ("reverse",), "bidirectional": ("forward", "reverse")}.get(case, ("forward",))
    x = random.normal(size=(T, B, INPUTS)).astype(np.float32)
    np.testing.assert_allclose(run(found, x), joined(runtime(path, X=x)), rtol=0, atol=of_found(found, x))


def test_lengths_and_a_start_in_the_file_are_read(saved, random):
    lengths, h0 = np.array([5, 3], np.int32), random.normal(size=(2, B, H)).astype(np.float32)
    model = gru_model(
        random,
        directions=2,
        direction="bidirectional",
        arrays={"lengths": lengths, "h0": h0},
        inputs=("X", "W", "R", "B", "lengths", "h0"),
    )
    path = saved(model)
    (found,) = inspect(path)
    weights = found.weights()
    assert np.array_equal(weights.lengths, lengths)
    assert np.array_equal(weights.h0, h0)
    assert "sequence_lens in the file, initial_h in the file" in found.evidence
    x = random.normal(size=(T, B, INPUTS)).astype(np.float32)
    Y = runtime(path, X=x)
    np.testing.assert_allclose(run(found, x), joined(Y), rtol=0, atol=of_found(found, x))
    assert prove(found, x, Y).decided


def test_a_start_that_is_given_is_named(saved, random):
    (found,) = inspect(saved(gru_model(random, inputs=("X", "W", "R", "B", "", "h0"))))
    assert found.weights().h0 is None
    assert found.evidence.endswith("initial_h from h0")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("raw", [True, False])
def test_other_precisions_are_read_exactly(saved, random, dtype, raw):
    model = gru_model(random, dtype=dtype, raw=raw)
    (found,) = inspect(saved(model))
    W = numpy_helper.to_array(model.graph.initializer[0])
    assert found.dtype == np.dtype(dtype).name
    assert np.array_equal(found.weights().cells[0][0]["Wr"], W[0, H : 2 * H].T)


@pytest.mark.parametrize("case", ["test_gru_defaults", "test_gru_with_initial_bias", "test_gru_seq_length", "test_gru_batchwise"])
def test_the_operators_own_vectors_are_computed(saved, case):
    model = onnx.load(VECTORS / case / "model.onnx")
    data = VECTORS / case / "test_data_set_0"
    node = model.graph.node[0]
    arrays = {}
    for k, name in enumerate(model.graph.input):
        arrays[name.name] = numpy_helper.to_array(onnx.load_tensor(data / f"input_{k}.pb"))
    outputs = dict(zip([o.name for o in model.graph.output], sorted(data.glob("output_*.pb")), strict=True))
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items() if name != "X")
    (found,) = inspect(saved(model))
    assert (found.order, found.reset, found.z) == ("zrn", "before", "keeps")
    x = arrays["X"].transpose(1, 0, 2) if found.batch_first else arrays["X"]
    assert found.batch_first is (case == "test_gru_batchwise")
    y = run(found, x)
    for name, path in outputs.items():
        expected = numpy_helper.to_array(onnx.load_tensor(path))
        if name == node.output[0]:
            expected = expected[:, :, 0].transpose(1, 0, 2) if found.batch_first else joined(expected)
            np.testing.assert_allclose(y, expected, rtol=0, atol=of_found(found, x))
        else:
            last = expected[:, 0] if found.batch_first else expected[0]
            np.testing.assert_allclose(y[-1], last, rtol=0, atol=of_found(found, x))


def test_a_model_whose_weights_are_inputs_is_refused():
    with pytest.raises(ModelFileError, match="its W is an input of the graph, not stored; store it as an initializer"):
        inspect(VECTORS / "test_gru_defaults/model.onnx")


def test_constants_and_graphs_inside_graphs_are_read(saved, random):
    """In the branch of an If, W is a Constant, and R is in the outer graph behind an Identity."""
    inner = gru_model(random)
    W, R, bias = inner.graph.initializer
    nodes = [helper.make_node("Constant", [], ["W"], value=W), *inner.graph.node]
    branch = helper.make_graph(nodes, "branch", [], inner.graph.output)
    other = helper.make_graph(nodes, "other", [], inner.graph.output)
    outer_R = numpy_helper.from_array(numpy_helper.to_array(R), "R_stored")
    outer = helper.make_graph(
        [
            helper.make_node("Identity", ["R_stored"], ["R"]),
            helper.make_node("If", ["c"], ["Y", "Y_h"], then_branch=branch, else_branch=other),
        ],
        "outer",
        [*inner.graph.input, helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        inner.graph.output,
        [outer_R, bias],
    )
    found = inspect(saved(helper.make_model(outer)))
    assert [gru.name for gru in found] == ["gru", "gru#2"]
    assert np.array_equal(found[0].weights().cells[0][0]["Uz"], numpy_helper.to_array(R)[0, :H].T)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"activations": ["Relu", "Tanh"]},
            "its activations are relu and tanh; sigmoid or hard sigmoid, and tanh or relu are supported",
        ),
        ({"activations": ["Sigmoid", "Affine"]}, "its activations are sigmoid and affine"),
        ({"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [0.3]}, "its hard sigmoid is 0.3 a [+] 0.5"),
        ({"activations": ["Sigmoid"]}, "some have none"),
        ({"clip": 3.0}, "it clips the inputs of its gates"),
        ({"direction": "sideways"}, "its direction is sideways"),
        ({"direction": "bidirectional"}, "do not fit 2 directions"),
    ],
)
def test_what_is_not_read_is_refused(saved, random, change, reason):
    with pytest.raises(ModelFileError, match=f"gru: .*{reason}"):
        inspect(saved(gru_model(random, **change)))


def test_computed_and_quantised_weights_and_peepholes_are_refused_by_name(saved, random):
    model = gru_model(random)
    del model.graph.initializer[:2]
    model.graph.node.insert(0, helper.make_node("Concat", ["a", "b"], ["W"], axis=0))
    model.graph.node.insert(1, helper.make_node("DequantizeLinear", ["q", "s"], ["R"]))
    model.graph.node.append(helper.make_node("LSTM", ["X", "a", "b", "", "", "", "", "P"], ["Z"], name="memory"))
    with pytest.raises(ModelFileError, match=r"gru: its W is computed by Concat.*constant folding \(and 1 more"):
        inspect(saved(model))
    model.graph.node[0].op_type = "DequantizeLinear"
    found = survey(saved(model))
    assert found.refused[0] == "gru: it is quantised; open the model in float that it was made from"
    assert found.refused[1].startswith("memory: it has peepholes, from the cell to the gates, which are not supported")


def test_reset_before_with_both_biases_is_doubted_as_an_exporters_mistake(saved, random):
    (found,) = inspect(saved(gru_model(random)))
    assert found.reset == "before"
    assert found.warning.endswith("if it was an nn.GRU, read it with reset after")
    assert inspect(saved(gru_model(random, linear_before_reset=1)))[0].warning == ""
    model = gru_model(random)
    halved = numpy_helper.to_array(model.graph.initializer[2]).copy()
    halved[:, 3 * H :] = 0
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(halved, "B"))
    assert inspect(saved(model))[0].warning == ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layers", [1, 2])
def test_what_torch_exports_is_read(tmp_path, layers):
    torch.manual_seed(5)
    gru = torch.nn.GRU(3, 4, layers, bidirectional=True)
    x = torch.randn(5, 2, 3)
    torch.onnx.export(gru, (x,), tmp_path / "model.onnx", dynamo=False)
    found = inspect(tmp_path / "model.onnx")
    assert [gru.input_size for gru in found] == [3, 8][:layers]
    assert all(gru.reset == "after" for gru in found)
    y, allowed = x.numpy(), 0.0
    for one in found:
        allowed += of_found(one, y)
        y = run(one, y)
    np.testing.assert_allclose(y, gru(x)[0].detach().numpy(), rtol=0, atol=allowed)


def test_gtcrn_computes_what_onnxruntime_does_at_every_node(gtcrn):
    """Inputs and states are those of onnxruntime."""
    path, nodes = gtcrn
    found = inspect(path)
    assert len(found) == 14
    assert sum(gru.bidirectional for gru in found) == 4
    assert {gru.hidden_size for gru in found} == {4, 8, 16}
    assert {gru.reset for gru in found} == {"after"}
    for gru in found:
        x, given, Y = nodes[gru.name]
        h0 = gru.weights().h0 if given is None else given
        np.testing.assert_allclose(run(gru, x, h0), joined(Y), rtol=0, atol=of_found(gru, x, h0))
        assert prove(gru, x, Y, h0).layers.convention == gru.convention
