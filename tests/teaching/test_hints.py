"""Hints on wrong answers: 300 slips whose kind is known, made from the arrays of a batch, without the code that gives the hints."""

import math
from collections import Counter

import numpy as np
import pytest

import tui_gru
from tui_gru.debugger.program import spoken
from tui_gru.teaching.judging import Judge
from tui_gru.teaching.lesson import Question, lesson_of
from tui_gru.teaching.values import LessonValues

SLIPS = 300
NAMED, OTHER = 0.80, 0.02
MODELS = (
    {},
    {"seed": 5},
    {
        "cell": "lstm",
        "text": "the cat sat on the mat and the dog sat",
        "hidden_size": 3,
        "batch_size": 3,
        "seq_length": 4,
        "seed": 2,
    },
    {"cell": "rnn", "text": "abcabdabcabdabcabd", "hidden_size": 3, "batch_size": 2, "seq_length": 4, "layout": "tutorial"},
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def at_the_update(**options):
    """Return a session at the end of the backward pass of its first batch, where its weights are still those that were read."""
    session = tui_gru.Session(**options)
    session.learning = True
    session.seek(session.program.backward_end)
    return session


def number_slips(session, random):
    """Yield a name, its index and timestep, a wrong number, and words that a hint on it has."""
    program, config = session.program, session.config
    B, T = config.batch_size, config.seq_length
    gates = [name for name, line in program.lines.items() if "σ(" in line.text and line.phase == "forward"]
    while True:
        t = int(random.integers(T))
        kind = random.choice(["term", "function", "sign", "neighbour", "time", "unit", "mean", "factor", "state"])
        row = int(random.integers(B))
        if kind in ("term", "function") and gates:
            gate = str(random.choice(gates))
            i = (row, int(random.integers(config.hidden_size)))
            x, before = session.value("x", t), session.value("h_prev", t)
            letter = gate if f"W{gate}" in session.parameter_names else {"q": "o"}.get(gate, gate)
            W, U, b = (session.parameter(f"{part}{letter}") for part in "WUb")
            parts = {f"W{letter}": (x @ W)[i], f"U{letter}": (before @ U)[i], f"b{letter}": b[i[1]]}
            if kind == "function":
                yield gate, i, t, sum(parts.values()), "is still to be taken"
                continue
            missing = str(random.choice(list(parts)))
            if abs(parts[missing]) > 0.01:
                yield gate, i, t, float(sigmoid(sum(v for name, v in parts.items() if name != missing))), f"{missing}"
        elif kind == "sign":
            name = str(random.choice(["do", "h", "dh", "o"]))
            code = program.code_name(name)
            array = session.value(code, t)
            i = (row, int(random.integers(array.shape[1])))
            yield code, i, t, -float(array[i]), "sign"
        elif kind == "neighbour":
            name = str(random.choice([*gates, "h", "y_hat", "dlogits", "dh"]))
            array = session.value(name, t)
            i, j = ((row, int(random.integers(array.shape[1]))) for _ in range(2))
            if i != j:
                yield name, i, t, float(array[j]), spoken(program, name, j)
        elif kind == "time":
            name = str(random.choice([*gates, "h", "y_hat"]))
            other = int(random.integers(T))
            array = session.value(name, other)
            i = (row, int(random.integers(array.shape[1])))
            if other != t:
                yield name, i, t, float(array[i]), f"at t {other + 1}"
        elif kind == "unit":
            value = float(session.value("term2", t)[row])
            base, words = ((2, "bits"), (10, "log₁₀"))[int(random.integers(2))]
            yield "term2", (row,), t, value / math.log(base), words
        elif kind == "mean":
            yield "term3", (), t, float(-session.value("term2", t).sum()), f"divides it by {B}"
        elif kind == "factor":
            array = session.value("dlogits", t)
            i = (row, int(random.integers(array.shape[1])))
            factor = int(random.choice([B, T, B * T]))
            words = "still to be divided" if factor == B * T else f"{factor} times too large"
            yield "dlogits", i, t, float(array[i]) * factor, words
        elif "z" in program.lines:
            z, h, new = (session.value(name, t) for name in ("z", "h_prev", "h_tilde"))
            i = (row, int(random.integers(config.hidden_size)))
            if t and abs(h[i]) > 0.01:
                yield "h", i, t, float(((1 - z) * new)[i]), "z⊙hₜ₋₁"


def line_slips(session, random):
    """Yield a line, a wrong formula for it, and words that a hint on it has."""
    program = session.program
    names = {program.writer.name(name) for name, named in program.names.items() if named.axes == ("B", "H")}
    while True:
        target = str(random.choice([name for name in ("h", "dh", "dh_prev", "dlogits", "dz", "daz") if name in program.lines]))
        text = program.lines[target].text.partition(" = ")[2]
        terms = [program.writer.text(term) for term in program.lines[target].formula.terms]
        kind = random.choice(["term", "sign", "name", "transpose", "factor"])
        if kind == "term" and len(terms) > 1:
            missing = int(random.integers(len(terms)))
            yield (
                target,
                " + ".join(term for i, term in enumerate(terms) if i != missing).replace("+ −", "− "),
                terms[missing].lstrip("−"),
            )
        elif kind == "sign":
            yield target, f"−({text})", "sign"
        elif kind == "name":
            used = [name for name in sorted(names) if text.startswith(f"{name}⊙") or f" {name}⊙" in text]
            if used:
                old, new = str(random.choice(used)), str(random.choice(sorted(names - set(used))))
                at = text.index(f"{old}⊙")
                yield target, f"{text[:at]}{new}{text[at + len(old) :]}", f"{new} in the place of {old}"
        elif kind == "transpose" and "ᵀ" in text:
            at = text.index("ᵀ")
            yield target, text[:at] + text[at + 1 :], "transposed"
        elif kind == "factor" and "/(B·T)" in text:
            yield target, text.removesuffix("/(B·T)"), "B·T"


@pytest.fixture(scope="module")
def outcomes():
    random, counts, wrong = np.random.default_rng(20), Counter(), []
    for options in MODELS:
        session = at_the_update(**options)
        values = LessonValues({"main": session}, "main")
        judge = Judge(lesson_of("# L\n## C\n", "l.md", None), values)
        numbers, lines = number_slips(session, random), line_slips(session, random)
        judged = 0
        while judged < SLIPS / len(MODELS):
            if random.random() < 0.7:
                name, index, t, mistaken, words = next(numbers)
                entry = f"{spoken(session.program, name, index)} t {t + 1}"
                right = float(np.asarray(session.value(name, t))[index])
                typed = f"{mistaken:.4f}"
                if f"{right:.4f}" == typed or abs(mistaken) < 0.1:  # right to the digits typed, or too few digits
                    continue
                question = Question(1, "?", "answer", entry, 1)
            else:
                name, typed, words = next(lines)
                question = Question(1, "?", "line", name, 1)
            verdict = judge.judged(question, typed)
            if verdict.right and question.kind == "line":
                continue  # an equal form: a product with what is 1, or a term that is 0 in this batch
            judged += 1
            assert not verdict.right, (question.answer, typed, words)
            silent = verdict.hint in ("not yet",) or verdict.hint.startswith(("with it ", "it has the shape", "write a digit"))
            outcome = "named" if words in verdict.hint else "silent" if silent else "other"
            counts[outcome] += 1
            if outcome != "named":
                wrong.append((outcome, question.answer, typed, words, verdict.hint))
    return counts, wrong


def test_hints_name_the_slip_and_hardly_ever_another_one(outcomes):
    counts, wrong = outcomes
    total = counts.total()
    assert total >= SLIPS
    assert counts["named"] >= NAMED * total, wrong
    assert counts["other"] <= OTHER * total, [row for row in wrong if row[0] == "other"]
