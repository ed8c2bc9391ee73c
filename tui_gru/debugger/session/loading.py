"""A session on a GRU that someone else has trained: a file, one of the GRUs in it, and numbers or a text to run it on."""

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
    """A session on the GRU called `name` in the file at `path`; the name can be left out where there is one only.

    inputs: (T, B, I), or whole numbers (T, B) into the table `embedding` (V, I); random ones without. h0: (layers · directions,
    B, H), zero without. lengths: (B) timesteps of each row. expect: the output that the model gave for these inputs, (T, B,
    directions · H): the convention is proved with it where `order`, `reset`, `z` and `gate` do not say it, and `Session.expected`
    compares. Each array may be the path of a .npy file.

    head, text: go on to predictions and the loss. The head is the name of a tensor of the file, `fc` or `fc.weight`, and so may the
    embedding be. `vocabulary` has the characters in the order of the model's indices: a string, or a list of tokens that may be
    longer than a character, or a dict with their indices; `tokens` is the path of a file of them, one a line or JSON. A text is cut
    into the longest tokens that fit; in its place `inputs` may be token ids (N). Such a session is sampled from and trained on as
    any other; `options` are those of `Config.of`. Raises `TuiGruError`, one line that names the cure.
    """
    convention = Convention(order, reset, z, gate)
    others = {"h0": h0, "lengths": lengths, "expect": expect}
    if head is None and text is None:
        about_text = {"vocabulary": vocabulary, "tokens": tokens, **options}
        if other := next((option for option, value in about_text.items() if value is not None), None):
            raise TuiGruError("it is about a run on a text; give head= and text= as well", option=other)
        given, said = on_numbers(path, name, convention, {"inputs": inputs, "embedding": embedding, **others})
        session = Session.on(GivenConfig.of_given(given))
        found = session.expected
        session.notice = "; ".join(filter(None, (said, "" if found is None else found.sentence)))
        return session
    if other := next((option for option, value in others.items() if value is not None), None):
        raise TuiGruError("a run on a text reads that and begins with zero; leave it out", option=other)
    reads = Reads(head, embedding, text, inputs, vocabulary, tokens)
    config, weights, said = on_text(path, name, convention, reads, options)
    session = Session.on(config, weights=weights)
    session.notice = said
    return session
