"""ONNX models of one GRU node."""

import numpy as np
from onnx import helper, numpy_helper

T, B, INPUTS, H = 5, 2, 3, 4


def gru_model(
    random, directions=1, bias=True, arrays=(), inputs=("X", "W", "R", "B", "", ""), raw=True, dtype=np.float32, **attributes
):
    """Return a model of one GRU node; `arrays` are additional initializers."""
    shapes = {"W": (directions, 3 * H, INPUTS), "R": (directions, 3 * H, H), "B": (directions, 6 * H)}
    stored = {name: random.normal(size=shape).astype(dtype) / 2 for name, shape in shapes.items()} | dict(arrays)
    if not bias:
        del stored["B"]
    tensors = [
        numpy_helper.from_array(array, name)
        if raw
        else helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, array.flatten())
        for name, array in stored.items()
    ]
    node = helper.make_node(
        "GRU", inputs if bias else [*inputs[:3], "", *inputs[4:]], ["Y", "Y_h"], name="gru", hidden_size=H, **attributes
    )
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    layout = attributes.get("layout", 0)
    x = helper.make_tensor_value_info("X", kind, [B, T, INPUTS] if layout else [T, B, INPUTS])
    given = [helper.make_tensor_value_info("h0", kind, [directions, B, H])] if "h0" in inputs and "h0" not in stored else []
    outs = [helper.make_tensor_value_info(name, kind, None) for name in ("Y", "Y_h")]
    graph = helper.make_graph([node], "g", [x, *given], outs, tensors)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 22)])
