"""Format .keras of Keras 3: a zip file of config.json, metadata.json and model.weights.h5."""

from __future__ import annotations

import json
from typing import Any

from tui_gru.interop.containers.hdf5 import read_tree
from tui_gru.interop.containers.opened import Opened
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.findings import Findings, Format
from tui_gru.interop.matching.keras_layers import keras_grus

NAME = "Keras 3 archive"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MOST_JSON = 1 << 24


def fits(file: Opened) -> bool:
    return {CONFIG, METADATA} <= set(file.members)


def find(file: Opened, order: str | None) -> Findings:
    """Find the GRUs in the archive. Raises `ModelFileError`."""
    if WEIGHTS not in file.members:
        raise ModelFileError(f"it has no {WEIGHTS}; save it with model.save, in one file")
    metadata = _json(file, METADATA)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    tree = read_tree(file.members[WEIGHTS])
    return keras_grus(tree, _json(file, CONFIG), version if isinstance(version, str) else "3", NAME, file.path)


def _json(file: Opened, name: str) -> Any:
    member = file.members[name]
    if member.size > MOST_JSON:
        raise ModelFileError(f"its {name} has {member.size} bytes, more than {MOST_JSON}; it is not read")
    return parsed(member.read(), name)


def parsed(text: str | bytes, name: str) -> Any:
    """Return parsed JSON. Raises `ModelFileError` if the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ModelFileError(f"its {name} is damaged; get the file again") from None


FORMAT = Format(NAME, fits, find)
