"""The formats of Keras: .keras of Keras 3, a zip file of config.json, metadata.json and model.weights.h5; and HDF5, with whole
models of Keras 1 and 2 (.h5) or weights alone (.weights.h5) of any Keras."""

from __future__ import annotations

import json
from typing import Any

from tui_gru.interop.containers.hdf5_process import read_tree
from tui_gru.interop.containers.opened import OpenedFile
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.found import FileFormat, Findings
from tui_gru.interop.matching.keras_layers import keras_grus

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MOST_JSON = 1 << 24


def _is_archive(file: OpenedFile) -> bool:
    return {CONFIG, METADATA} <= set(file.members)


def _find_in_archive(file: OpenedFile, order: str | None) -> Findings:
    """Find the GRUs in the archive. Raises `ModelFileError`."""
    if WEIGHTS not in file.members:
        raise ModelFileError(f"it has no {WEIGHTS}; save it with model.save, in one file")
    metadata = _json(file, METADATA)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    tree = read_tree(file.members[WEIGHTS])
    return keras_grus(tree, _json(file, CONFIG), version if isinstance(version, str) else "3", ARCHIVE.name, file.path)


def _json(file: OpenedFile, name: str) -> Any:
    member = file.members[name]
    if member.size > MOST_JSON:
        raise ModelFileError(f"its {name} has {member.size} bytes, more than {MOST_JSON}; it is not read")
    return _parsed(member.read(), name)


def _parsed(text: str | bytes, name: str) -> Any:
    """Return parsed JSON. Raises `ModelFileError` if the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ModelFileError(f"its {name} is damaged; get the file again") from None


def _is_hdf5(file: OpenedFile) -> bool:
    return file.head.startswith(b"\x89HDF\r\n\x1a\n")


def _find_in_hdf5(file: OpenedFile, order: str | None) -> Findings:
    """Find the GRUs in the file. Raises `ModelFileError`."""
    tree = read_tree(file.path)
    config = tree.texts.get(("", "model_config"))
    version = tree.texts.get(("", "keras_version")) or tree.texts.get(("model_weights", "keras_version"), "")
    return keras_grus(tree, _parsed(config, "model_config") if config else None, version, HDF5.name, file.path)


ARCHIVE = FileFormat("Keras 3 archive", _is_archive, _find_in_archive)
HDF5 = FileFormat("Keras HDF5", _is_hdf5, _find_in_hdf5)
