"""The models that the debugger is tested on. Each is small and has a feature that the others lack."""

import pytest

TEXT = "abcacbabcbacbabcaabc"
#: A cell of no library: two states, a part in parentheses, other functions than those of the built-in cells.
OWN_CELL = """\
# leaky: a mean of what was, and a clamp in the place of a sigmoid
reads x
state s : H, m : H
parameters Wg Ug bg Wc

open: g = clamp(ag: x Wg + s_prev Ug + bg)
slow: m = 0.75 ⊙ m_prev + (fresh: 0.25 ⊙ (xc: x Wc))
fast: s = g ⊙ relu(m) + (closed: 1 − g) ⊙ s_prev
"""
#: An update rule of no library: a power, a function, and a number for all weights.
OWN_RULE = """\
symbol learning_rate η \\eta
setting η = 0.02
setting ρ = 0.9    # the part of the running mean that an update keeps
state v : parameters

v = ρ ⊙ v + (1 − ρ) ⊙ dW^2
pace = 1 / sqrt(n)
move = tanh(dW / (v^0.5 + 0.01))
W −= pace ⊙ η ⊙ min(move, 0.9)
"""
SIZES = {"hidden_size": 2, "batch_size": 2, "seq_length": 3}  # of every model that has no others
SGD = {"optimizer": "sgd", "clip": 0.0, "init": "tutorial", "layout": "tutorial"}

MODELS = {
    "gru": {},
    "gru after, reset": {"reset": "after", "carry": "reset"},
    "gru notebook": {"carry": "notebook", "text": TEXT, "hidden_size": 3, "batch_size": 1, "seq_length": 4, **SGD},
    "gru after, notebook, adam": {
        "carry": "notebook", "reset": "after", "dtype": "float64", "text": TEXT, "hidden_size": 2, "seq_length": 2,
    },
    "lstm": {"text": "hello world", "cell": "lstm", "hidden_size": 3, "batch_size": 1, "seq_length": 3, "clip": 0.2},
    "two layers": {"layers": 2, "optimizer": "momentum", "hidden_size": 1},
    "both ways": {"text": TEXT, "bidirectional": True, "embedding": 3, "seq_length": 3, **SGD},
    "rnn both ways": {
        "text": "abba cab", "cell": "rnn", "layers": 2, "bidirectional": True, "hidden_size": 2, "batch_size": 1, "seq_length": 3,
        "clip": 0.0, "dtype": "float64", "init": "tutorial",
    },
    "own cell": {
        "text": TEXT, "cell": "leaky.cell", "cell_text": OWN_CELL, "batch_size": 3, "seq_length": 2,
        "optimizer": "rms.update", "optimizer_text": OWN_RULE,
    },
    "layer norm": {"text": TEXT, "cell": "layer-norm-gru", "hidden_size": 3, "seq_length": 2, **SGD},
    "one of each": {"text": "abba c", "hidden_size": 1, "batch_size": 1, "seq_length": 1},
    "nothing to learn": {"text": "aaaaaaaaa", "batch_size": 2, "seq_length": 2, "hidden_size": 3, **SGD},
}  # fmt: skip
MODELS = {name: {**SIZES, **options} if "text" in options else options for name, options in MODELS.items()}


def parametrize(*names, argument="model"):
    """Run a test for these models, or for all."""
    chosen = names or tuple(MODELS)
    return pytest.mark.parametrize(argument, [MODELS[name] for name in chosen], ids=chosen)
