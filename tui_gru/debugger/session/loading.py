"""A session on a GRU trained elsewhere: a model file, one GRU in it, and numbers or a text to run it on."""

from __future__ import annotations

from os import PathLike
from typing import Any

from tui_gru.debugger.session.session import Session
from tui_gru.engine.data.given import GivenConfig
from tui_gru.engine.errors import TuiGruError
from tui_gru.interop.opening.loading import Convention, Reads, on_numbers, on_text


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
    vocabulary: Any = None,
    tokens: str | PathLike[str] | None = None,
    **options: Any,
) -> Session:
    """Open a session on the GRU called `name` in the file at `path`; the name can be omitted if the file has only one.

    inputs: (T, B, I), or integers (T, B) that index the table `embedding` (V, I); default: random. h0: (layers · directions, B,
    H); default: zero. lengths: (B) timesteps of each row. expect: the output of the original model for these inputs, (T, B,
    directions · H). It decides the convention if `order`, `reset`, `z` and `gate` do not, and `Session.expected` compares it with
    ours. Each array may be the path of a .npy file.

    head, text: for a model with predictions and a loss. The head, and likewise the embedding, may be the name of a tensor in the
    file: `fc` or `fc.weight`. `vocabulary` has the characters in the order of the model's indices: a string, a list of tokens
    that may be longer than a character, or a dict with their indices; `tokens` is the path of a file with them, one a line or
    JSON. A text is cut into the longest tokens that match; instead of a text, `inputs` may be token ids (N). Such a session can
    be sampled from and trained like any other; `options` are those of `Config.of`. Raises `TuiGruError` with a one-line message
    that says what to do.
    """
    convention = Convention(order, reset, z, gate)
    others = {"h0": h0, "lengths": lengths, "expect": expect}
    if head is None and text is None:
        about_text = {"vocabulary": vocabulary, "tokens": tokens, **options}
        if other := next((option for option, value in about_text.items() if value is not None), None):
            raise TuiGruError(f"{other} is for a run on a text; give a head and a text as well, or leave it out", option=other)
        given, notice = on_numbers(path, name, convention, {"inputs": inputs, "embedding": embedding, **others})
        session = Session.on(GivenConfig.of_given(given))
        found = session.expected
        session.notice = "; ".join(filter(None, (notice, "" if found is None else found.sentence)))
        return session
    if other := next((option for option, value in others.items() if value is not None), None):
        raise TuiGruError(f"{other} is for a run on inputs; a run on a text begins with zero: leave it out", option=other)
    reads = Reads(head, embedding, text, inputs, vocabulary, tokens)
    config, weights, notice = on_text(path, name, convention, reads, options)
    session = Session.on(config, weights=weights)
    session.notice = notice
    return session
