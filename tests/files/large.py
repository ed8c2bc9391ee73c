"""Files of about 100 MB, each with the same GRU and many other arrays."""

import h5py
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file

KINDS = ("torch", "safetensors", "npz", "onnx", "keras")


def make(path, kind):
    """Write the file, and return the torch.nn.GRU in it."""
    torch.manual_seed(4)
    gru = torch.nn.GRU(64, 1024)  # 13 MB
    weights = {f"encoder.{name}": value for name, value in gru.state_dict().items()}
    weights |= {f"blocks.{k}.weight": torch.zeros(1024, 1100) for k in range(20)}
    WRITERS[kind](path, weights)
    return gru


def _npz(path, weights):
    with path.open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in weights.items()})


def _update_first(weights):
    """Return the GRU's arrays with the update gate before the reset gate, and all other arrays."""
    arrays = {name: value.numpy() for name, value in weights.items()}
    gru = [np.concatenate([a[1024:2048], a[:1024], a[2048:]]) for name, a in arrays.items() if name.startswith("encoder")]
    return gru, {name: array for name, array in arrays.items() if not name.startswith("encoder")}


def _onnx(path, weights):
    (W, R, b, b_h), others = _update_first(weights)
    stored = {"W": W[None], "R": R[None], "B": np.concatenate([b, b_h])[None], **others}
    node = helper.make_node("GRU", ["X", "W", "R", "B"], ["Y"], name="encoder", hidden_size=1024, linear_before_reset=1)
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [], tensors)), path)


def _keras(path, weights):
    (W, R, b, b_h), others = _update_first(weights)
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights/encoder/encoder/gru_cell")
        group["kernel"], group["recurrent_kernel"], group["bias"] = W.T, R.T, np.stack([b, b_h])
        for name, array in others.items():
            file[f"model_weights/{name}/kernel"] = array


WRITERS = {
    "torch": lambda path, weights: torch.save({"state_dict": weights}, path),
    "safetensors": lambda path, weights: save_file(weights, path),
    "npz": _npz,
    "onnx": _onnx,
    "keras": _keras,
}
