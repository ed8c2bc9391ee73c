"""The table of file formats, one module each. The first format that fits a file reads it."""

from __future__ import annotations

from tui_gru.interop.findings import Format
from tui_gru.interop.formats import keras_archive, keras_h5, npz, onnx, safetensors, torch_checkpoint
from tui_gru.interop.formats.refused import REFUSED

#: ONNX comes last because its files have no magic number.
FORMATS: tuple[Format, ...] = (
    torch_checkpoint.FORMAT,
    keras_archive.FORMAT,
    npz.FORMAT,
    keras_h5.FORMAT,
    safetensors.FORMAT,
    *REFUSED,
    onnx.FORMAT,
)
