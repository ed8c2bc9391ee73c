"""The one walk over formulas: the terms of every entry of every line make what the line computed; only those asked for are made."""

import math

import numpy as np
import pytest

from tests.debugger.deriving import TEXT, learning
from tui_gru.debugger.entries import made_of
from tui_gru.debugger.evaluation import Numbers

FUNCTIONS = {"sigmoid": lambda a: 1 / (1 + math.exp(-a)), "tanh": math.tanh, "log": math.log}
MODELS = [{}, {"text": TEXT, "hidden_size": 3, "batch_size": 3, "seq_length": 2, "reset": "after", "seed": 4}]


def value(part, numbers):
    if part.t is not None:
        return numbers.entry(part.formula.name, part.at, part.t)
    return float(numbers.value(part.formula, part.at))


def combined(made, index, numbers):
    """What the terms make."""
    terms = [[value(part, numbers) for part in made.term(k)] for k in range(made.size)]
    signs = [made.term(k)[0].sign for k in range(made.size)]
    match made.kind:
        case "product":
            return math.prod(factor for (factor,) in terms)
        case "quotient":
            return terms[0][0] / terms[1][0]
        case "softmax":
            return math.exp(terms[index[1]][0]) / sum(math.exp(o) for (o,) in terms)
    total = sum(sign * math.prod(term) for sign, term in zip(signs, terms, strict=True))
    return made.scale * FUNCTIONS.get(made.kind, float)(total)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_the_terms_of_every_entry_make_what_its_formula_does(options, dtype):
    session = learning(**options, dtype=dtype)
    moment = session._timeline.moment(session.program.ticks + session.program.backward_end)  # before the update
    seen = set()
    for t in range(session.config.seq_length):
        numbers = Numbers(moment, t)
        for line in (*session.program.forward, session.program.loss, *session.program.backward, *session.program.update):
            for index in np.ndindex(*numbers.shape(line.formula)):
                made = made_of(line.formula, index, numbers)
                seen.add(made.kind)
                expected = float(numbers.value(line.formula, index))
                assert combined(made, index, numbers) == pytest.approx(expected, rel=1e-4, abs=1e-6), (line.text, index)
    assert seen == {"sum", "product", "quotient", "softmax", "sigmoid", "tanh"}


def test_of_a_long_sum_only_the_terms_that_are_asked_for_are_made():
    session = learning(text=TEXT, hidden_size=200)
    session.step("batch")
    numbers = Numbers(session._timeline.moment(session.position.tick), 0)
    made = made_of(session.program.lines["dz"].formula, (0, 0), numbers)
    assert (made.kind, made.size, made.over) == ("product", 2, "")
    made = made_of(session.program.lines["dh"].formula.terms[0], (0, 0), numbers)
    assert made.size == session.config.vocab_size
    made = made_of(session.program.lines["z"].formula.argument.terms[1], (1, 2), numbers)
    first, last = made.term(0), made.term(made.size - 1)
    assert made.size == 200
    assert [part.at for part in (*first, *last)] == [(1, 0), (0, 2), (1, 199), (199, 2)]
