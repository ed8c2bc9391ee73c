"""HDF5 formats of Keras: whole models of Keras 1 and 2 (.h5), and weights alone (.weights.h5) of any Keras."""

from __future__ import annotations

from tui_gru.interop.containers.hdf5 import read_tree
from tui_gru.interop.containers.opened import Opened
from tui_gru.interop.findings import Findings, Format
from tui_gru.interop.formats.keras_archive import parsed
from tui_gru.interop.matching.keras_layers import keras_grus

NAME = "Keras HDF5"


def fits(file: Opened) -> bool:
    return file.head.startswith(b"\x89HDF\r\n\x1a\n")


def find(file: Opened, order: str | None) -> Findings:
    """Find the GRUs in the file. Raises `ModelFileError`."""
    tree = read_tree(file.path)
    config = tree.texts.get(("", "model_config"))
    version = tree.texts.get(("", "keras_version")) or tree.texts.get(("model_weights", "keras_version"), "")
    return keras_grus(tree, parsed(config, "model_config") if config else None, version, NAME, file.path)


FORMAT = Format(NAME, fits, find)
