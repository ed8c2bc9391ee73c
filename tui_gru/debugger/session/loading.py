"""A session on a GRU that someone else has trained: a file, one of the GRUs in it, and numbers to run it on."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from tui_gru.debugger.session.session import Session
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.given import Given, GivenConfig
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.found import ORDERS, FoundGRU
from tui_gru.interop.inspection import inspect
from tui_gru.interop.opening import chosen, given_run
from tui_gru.interop.opening.characters import character_run
from tui_gru.interop.opening.named_tensors import matrix, tensors_of
from tui_gru.interop.opening.numbers import Numbers, array_of
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
    head: Any = None,
    text: str | None = None,
    vocabulary: str | None = None,
    **options: Any,
) -> Session:
    """A session on the GRU called `name` in the file at `path`; the name can be left out where there is one only.

    inputs: (T, B, I), or whole numbers (T, B) into the table `embedding` (V, I); random ones without. h0: (layers · directions,
    B, H), zero without. lengths: (B) timesteps of each row. expect: the output that the model gave for these inputs, (T, B,
    directions · H): the convention is proved with it where `order`, `reset`, `z` and `gate` do not say it, and `Session.expected`
    compares. Each array may be the path of a .npy file.

    head, text: go on to predictions and the loss. The head is the name of a tensor of the file, `fc` or `fc.weight`, and so may the
    embedding be; `vocabulary` has the characters in the order of the model's indices. Such a session is sampled from and trained on
    as any other; `options` are those of `Config.of`. Raises `TuiGruError`, one line that names the cure.
    """
    if head is not None or text is not None:
        others = {"inputs": inputs, "h0": h0, "lengths": lengths, "expect": expect}
        return _on_text(path, name, head, text, vocabulary, embedding, (order, reset, z, gate), others, options)
    if options or vocabulary is not None:
        other = next(iter(options), "vocabulary")
        raise TuiGruError("it is about a run on a text; give head= and text= as well", option=other)
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


def _on_text(
    path: str | PathLike[str],
    name: str | None,
    head: Any,
    text: str | None,
    vocabulary: str | None,
    embedding: Any,
    convention: tuple[str | None, ...],
    others: dict[str, Any],
    options: dict[str, Any],
) -> Session:
    """A session on a text, with the head of the file."""
    if head is None or text is None:
        missing = "head" if head is None else "text"
        raise TuiGruError("predictions need a head= of the file, and a text= to predict", option=missing)
    if other := next((option for option, value in others.items() if value is not None), None):
        raise TuiGruError("a run on a text reads that and begins with zero; leave it out", option=other)
    found = chosen(inspect(path, **dict(zip(("order", "reset", "z", "gate"), convention, strict=True))), path, name)
    table = None
    tensors = tensors_of(path)
    if embedding is not None:
        by_name = isinstance(embedding, str) and not embedding.endswith(".npy")
        table = matrix(tensors, embedding, "embedding")[0] if by_name else array_of(embedding, "embedding")
    weight = matrix(tensors, head, "head") if isinstance(head, str) else (array_of(head, "head"), None)
    config, weights = character_run(found, weight, table, text, vocabulary, options)
    session = Session.on(config, weights=weights)
    session.notice = found.warning
    return session


def _proved(found: FoundGRU, numbers: Numbers, y: Array) -> tuple[FoundGRU, str]:
    """The GRU in the reading that gives the expected output; as the file says it where no reading or several do."""
    x = numbers.x if numbers.table is None else numbers.table[numbers.x]
    try:
        proof = prove(found, x, y, numbers.h0 if numbers.given_h0 else None, numbers.lengths)
    except ModelFileError as error:
        return found, f"the convention could not be proved: {error}"
    return proof.found, proof.message if not proof.settled or proof.found.convention != found.convention else ""
