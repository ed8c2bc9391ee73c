"""Terms of formulas: those of every entry of every line give the computed value, and only requested ones are created."""

import math
import random

import numpy as np
import pytest

from tests.debugger import models
from tests.debugger.deriving import learning
from tests.debugger.models import TEXT
from tests.session.acting import timeline_of
from tui_gru.debugger.evaluate import MomentNumbers, terms_of

FUNCTIONS = {
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)), "tanh": math.tanh, "log": math.log, "sqrt": math.sqrt, "relu": lambda a: max(a, 0),
    "clamp": lambda a: min(max(a, 0), 1),
}  # fmt: skip


def value(part, numbers):
    if part.t is not None:
        return numbers.entry(part.formula.name, part.at, part.t)
    return float(numbers.value(part.formula, part.at))


def combined(made, index, numbers):
    """Return the result of the terms."""
    terms = [[value(part, numbers) for part in made.term(k)] for k in range(made.size)]
    signs = [made.term(k)[0].sign for k in range(made.size)]
    match made.kind:
        case "product":
            return math.prod(factor for (factor,) in terms)
        case "quotient":
            return terms[0][0] / terms[1][0]
        case "power":
            return terms[0][0] ** terms[1][0]
        case "min":
            return min(terms)[0]
        case "softmax":
            return math.exp(terms[index[1]][0]) / sum(math.exp(o) for (o,) in terms)
    total = sum(sign * math.prod(term) for sign, term in zip(signs, terms, strict=True))
    return made.scale * FUNCTIONS.get(made.kind, float)(total)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@models.parametrize()
def test_the_terms_of_every_entry_make_what_its_formula_does(model, dtype):
    session, chance, seen = learning(**{**model, "dtype": dtype}), random.Random(5), set()
    program = session.program
    for line in program.lines.values():
        before = program.tick_of(line.target) - 1 if line.phase == "update" else program.backward_end
        moment = timeline_of(session).moment(program.ticks + before)  # with the value that the line of the update reads
        for t in range(session.config.seq_length) if line.phase in ("forward", "backward") else (session.config.seq_length - 1,):
            numbers = MomentNumbers(moment, t)
            every = list(np.ndindex(*numbers.shape(line.formula)))
            for index in chance.sample(every, min(3, len(every))):
                made = terms_of(line.formula, index, numbers)
                seen.add(made.kind)
                expected = float(numbers.value(line.formula, index))
                assert combined(made, index, numbers) == pytest.approx(expected, rel=1e-4, abs=1e-6), (line.text, index)
    assert {"sum", "softmax"} <= seen
    assert seen <= {"sum", "product", "quotient", "softmax", "min", "copy", *FUNCTIONS}


def test_of_a_long_sum_only_the_terms_that_are_asked_for_are_made():
    session = learning(text=TEXT, hidden_size=200)
    session.step("batch")
    numbers = MomentNumbers(timeline_of(session).moment(session.position.tick), 0)
    made = terms_of(session.program.lines["dz"].formula, (0, 0), numbers)
    assert (made.kind, made.size, made.over) == ("product", 2, "")
    made = terms_of(session.program.lines["dh"].formula.terms[0], (0, 0), numbers)
    assert made.size == session.config.vocab_size
    made = terms_of(session.program.lines["z"].formula.argument.terms[1], (1, 2), numbers)
    first, last = made.term(0), made.term(made.size - 1)
    assert made.size == 200
    assert [part.at for part in (*first, *last)] == [(1, 0), (0, 2), (1, 199), (199, 2)]
