"""A session on a GRU that someone else has trained: a file, one of the GRUs in it, and numbers to run it on."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from tui_gru.debugger.session.session import Session
from tui_gru.engine.given import Given, GivenConfig
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.found import ORDERS, FoundGRU
from tui_gru.interop.inspection import inspect
from tui_gru.interop.opening import chosen, given_run
from tui_gru.interop.opening.numbers import Numbers
from tui_gru.interop.proof import prove
from tui_gru.interop.tensors import Array


def load(
    path: str | PathLike[str],
    name: str | None = None,
    inputs: Any = None,
    h0: Any = None,
    lengths: Any = None,
    expect: Any = None,
    order: str | None = None,
    reset: str | None = None,
    z: str | None = None,
    gate: str | None = None,
    embedding: Any = None,
) -> Session:
    """A session on the GRU called `name` in the file at `path`; the name can be left out where there is one only.

    inputs: (T, B, I), or whole numbers (T, B) into the table `embedding` (V, I); random ones without. h0: (layers · directions,
    B, H), zero without. lengths: (B) timesteps of each row. expect: the output that the model gave for these inputs, (T, B,
    directions · H): the convention is proved with it where `order`, `reset`, `z` and `gate` do not say it, and `Session.expected`
    compares. Each array may be the path of a .npy file. Raises `TuiGruError`, one line that names the cure.
    """
    given, said = opened(path, name, inputs, h0, lengths, expect, order, reset, z, gate, embedding)
    session = Session.on(GivenConfig.of_given(given))
    found = session.expected
    session.notice = "; ".join(filter(None, (said, "" if found is None else found.sentence)))
    return session


def opened(
    path: str | PathLike[str],
    name: str | None = None,
    inputs: Any = None,
    h0: Any = None,
    lengths: Any = None,
    expect: Any = None,
    order: str | None = None,
    reset: str | None = None,
    z: str | None = None,
    gate: str | None = None,
    embedding: Any = None,
) -> tuple[Given, str]:
    """As `load`: what the session stands in, and what is to be said of it at first."""
    try:
        every = inspect(path, order=order, reset=reset, z=z, gate=gate)
    except ModelFileError:
        if expect is None or order is not None:
            raise
        every = inspect(path, order=ORDERS[0], reset=reset, z=z, gate=gate)  # which order it is, the output tells
    found = chosen(every, path, name)
    numbers = Numbers.of(found, inputs=inputs, h0=h0, lengths=lengths, expect=expect, embedding=embedding)
    said = found.warning
    if numbers.y is not None and not any((order, reset, z, gate)):
        found, said = _proved(found, numbers, numbers.y)
    elif inputs is None:
        said = said or f"the inputs are {numbers.source}; give your own with inputs="
    return given_run(found, numbers, Path(path)), said


def _proved(found: FoundGRU, numbers: Numbers, y: Array) -> tuple[FoundGRU, str]:
    """The GRU in the reading that gives the expected output; as the file says it where no reading or several do."""
    x = numbers.x if numbers.table is None else numbers.table[numbers.x]
    try:
        proof = prove(found, x, y, numbers.h0 if numbers.given_h0 else None, numbers.lengths)
    except ModelFileError as error:
        return found, f"the convention could not be proved: {error}"
    return proof.found, proof.message if not proof.settled or proof.found.convention != found.convention else ""
