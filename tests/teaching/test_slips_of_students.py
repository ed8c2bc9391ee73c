"""Hints on 300 wrong answers of other kinds than those of `test_hints`: mistakes that students make with pencil and paper."""

import math
from collections import Counter

import numpy as np
import pytest

from tests.teaching.test_hints import at_the_update, sigmoid
from tui_gru.debugger.program import spoken
from tui_gru.teaching.judging import Judge
from tui_gru.teaching.lesson import Question, lesson_of
from tui_gru.teaching.values import LessonValues

SLIPS = 300
NAMED, OTHER = 0.80, 0.02
CAT = "the cat sat on the mat and the dog sat"
MODELS = (
    {"seed": 3},
    {"seed": 11, "text": CAT, "hidden_size": 3, "batch_size": 3, "seq_length": 4, "optimizer": "sgd", "learning_rate": 0.1},
    {"cell": "lstm", "text": CAT, "hidden_size": 4, "batch_size": 2, "seq_length": 5, "seed": 7},
    {"cell": "rnn", "text": "abcabdabcabdabcabd", "hidden_size": 3, "batch_size": 2, "seq_length": 4, "seed": 4},
)


class Paper:
    """What a student computes from the numbers of a batch; each kind of slip yields what is asked, what is typed, and words of
    which a hint that names the slip has one."""

    def __init__(self, session, random):
        self.session, self.random, self.program = session, random, session.program
        self.B, self.T = session.config.batch_size, session.config.seq_length
        self.H, self.V = session.config.hidden_size, session.value("y_hat", 0).shape[1]
        lines = self.program.lines.items()
        self.gates = [name for name, line in lines if line.phase == "forward" and "σ(" in line.text]

    def kinds(self):
        kinds = [getattr(self, name) for name in dir(self) if name.startswith("slip_")]
        needs = {"slip_keeps_the_other_share": "z" in self.gates, "slip_other_gate": len(self.gates) > 1}
        needs |= dict.fromkeys(("slip_transposed_weights", "slip_no_bias", "slip_one_digit"), bool(self.gates))
        needs["slip_no_slope"] = bool(self.gates)
        return [kind for kind in kinds if needs.get(kind.__name__, True)]

    def some(self, name, t):
        array = self.session.value(name, t)
        return array, tuple(int(self.random.integers(size)) for size in array.shape)

    def t(self, first=0):
        return int(self.random.integers(first, self.T))

    def named(self, name, index, t=None):
        return f"{spoken(self.program, name, index)}{'' if t is None else f' t {t + 1}'}"

    def gate(self, t):
        gate = str(self.random.choice(self.gates))
        letter = gate if f"W{gate}" in self.session.parameter_names else {"q": "o"}[gate]
        W, U, b = (self.session.parameter(part + letter) for part in "WUb")
        return gate, letter, self.session.value("x", t), self.session.value("h_prev", t), W, U, b

    def slip_timestep_before(self):
        name, t = str(self.random.choice([*self.gates, "h", "y_hat", "logits", "dh"])), self.t(1)
        _, index = self.some(name, t)
        return self.named(name, index, t), self.session.value(name, t - 1)[index], (f"at t {t}",)

    def slip_other_row(self):
        name, t = str(self.random.choice([*self.gates, "h", "dlogits", "dh"])), self.t()
        array, (row, column) = self.some(name, t)
        other = (row + 1) % self.B, column
        return self.named(name, (row, column), t), array[other], (spoken(self.program, name, other),)

    def slip_transposed_entry(self):
        name = str(self.random.choice([name for name in self.session.parameter_names if name.startswith("U")]))
        array = self.session.gradient(name)
        i, j = (int(k) for k in self.random.choice(self.H, 2, replace=False))
        return self.named(f"d{name}", (i, j)), array[j, i], ("row and column exchanged", "transposed")

    def slip_transposed_weights(self):
        t = self.t(1)
        gate, letter, x, h, W, U, b = self.gate(t)
        _, index = self.some(gate, t)
        return self.named(gate, index, t), sigmoid(x @ W + h @ U.T + b)[index], (f"U{letter}ᵀ", "transposed")

    def slip_no_bias(self):
        t = self.t()
        gate, letter, x, h, W, U, _ = self.gate(t)
        _, index = self.some(gate, t)
        return self.named(gate, index, t), sigmoid(x @ W + h @ U)[index], (f"b{letter}",)

    def slip_percent(self):
        name, t = str(self.random.choice([*self.gates, "y_hat"])), self.t()
        array, index = self.some(name, t)
        return self.named(name, index, t), 100 * array[index], ("percent", "per cent", "%", "100 times")

    def slip_base_two(self):
        t, row = self.t(), int(self.random.integers(self.B))
        return self.named("term2", (row,), t), self.session.value("term2", t)[row] / math.log(2), ("bits",)

    def update(self):
        name = str(self.random.choice(self.session.parameter_names))
        before, slope = self.session.parameter(name), self.session.gradient(name)
        index = tuple(int(self.random.integers(size)) for size in before.shape)
        return f"{self.named(name, index)} - learning_rate * {self.named('d' + name, index)}", before[index], slope[index]

    def slip_step_without_the_rate(self):
        asked, before, slope = self.update()
        return asked, before - slope, ("learning_rate", "η", "rate")

    def slip_step_uphill(self):
        asked, before, slope = self.update()
        return asked, before + self.session.value("learning_rate") * slope, ("sign",)

    def slip_no_step(self):
        asked, before, _ = self.update()
        return asked, before, ("term", "missing", "before")

    def slip_sum_for_mean(self):
        terms = [self.session.value("term3", t) for t in range(self.T)]
        return "loss", math.fsum(map(float, terms)), ("sum", f"T = {self.T}")

    def slip_mean_for_sum(self):
        name = str(self.random.choice(self.session.parameter_names))
        slope = self.session.gradient(name)
        index = tuple(int(self.random.integers(size)) for size in slope.shape)
        size, words = ((self.T, f"T = {self.T}"), (self.B, f"B = {self.B}"))[int(self.random.integers(2))]
        return self.named(f"d{name}", index), slope[index] / size, (words,)

    def slip_one_digit(self):
        t = self.t()
        gate, _, x, h, W, U, b = self.gate(t)
        _, index = self.some(gate, t)
        total = (x @ W)[index].round(1) + (h @ U)[index].round(1) + b[index[1]].round(1)
        return self.named(gate, index, t), sigmoid(total), ("round", "digits")

    def slip_chance_for_surprise(self):
        t, row = self.t(), int(self.random.integers(self.B))
        return f"-{self.named('term2', (row,), t)}", math.exp(float(self.session.value("term2", t)[row])), ("chance",)

    def slip_log_without_minus(self):
        t = self.t()
        return self.named("term3", (), t), -float(self.session.value("term3", t)), ("sign",)

    def slip_no_slope(self):
        t = self.t()
        gate = str(self.random.choice(self.gates))
        value, slope = self.session.value(gate, t), self.session.value(f"d{gate}", t)
        _, index = self.some(gate, t)
        mistaken, words = ((slope[index], f"d{gate}["), ((slope * value)[index], f"1 − {gate}"))[int(self.random.integers(2))]
        return self.named(f"da{gate}", index, t), mistaken, (words, "σ′", "1 − ")

    def slip_state_before(self):
        t = self.t(1)
        _, index = self.some("h", t)
        return self.named("h", index, t), self.session.value("h_prev", t)[index], ("hₜ₋₁", f"at t {t}")

    def slip_other_gate(self):
        t = self.t()
        gate, other = (str(name) for name in self.random.choice(self.gates, 2, replace=False))
        _, index = self.some(gate, t)
        return self.named(gate, index, t), self.session.value(other, t)[index], (f"{other}[",)

    def slip_keeps_the_other_share(self):
        t = self.t()
        z, h, new = (self.session.value(name, t) for name in ("z", "h_prev", "h_tilde"))
        _, index = self.some("h", t)
        return self.named("h", index, t), ((1 - z) * h + z * new)[index], ("exchanged", "1 − z")

    def slip_letter_read(self):
        t, row = self.t(), int(self.random.integers(self.B))
        read, sought = (int(self.session.value(name, t)[row].argmax()) for name in ("x", "y"))
        array, other = self.session.value("y_hat", t), (row, read)
        return self.named("y_hat", (row, sought), t), array[other], (spoken(self.program, "y_hat", other),)

    def slip_square_for_norm(self):
        name = str(self.random.choice(self.session.parameter_names))
        return f"norm(d{name})", float((self.session.gradient(name) ** 2).sum()), ("square", "root", "√")


def judged_slips():
    """Return how many hints name the slip, say nothing, or name another one, by the kind of slip, and those that do not name it."""
    random, counts, others = np.random.default_rng(2026), Counter(), []
    for options in MODELS:
        session = at_the_update(**options)
        judge = Judge(lesson_of("# L\n## C\n", "l.md", None), LessonValues({"main": session}, "main"))
        paper = Paper(session, random)
        kinds, judged, tries = paper.kinds(), 0, 0
        while judged < SLIPS / len(MODELS):
            kind, tries = kinds[tries % len(kinds)], tries + 1
            asked, mistaken, words = kind()
            question = Question(1, "?", "answer", asked, 1)
            right, mistaken = float(judge.value(question)), float(mistaken)
            if abs(mistaken) < 1e-4:
                continue
            typed = f"{mistaken:#.4g}"
            if abs(right - mistaken) < 2e-3 * abs(right):  # right to the digits that a reader has on the screen
                continue
            verdict = judge.judged(question, typed)
            judged += 1
            assert not verdict.right, (asked, typed, words)
            silent = verdict.hint == "not yet" or verdict.hint.startswith("write a digit")
            outcome = "named" if any(word in verdict.hint for word in words) else "silent" if silent else "other"
            counts[outcome, kind.__name__.removeprefix("slip_")] += 1
            if outcome != "named":
                others.append((outcome, kind.__name__, asked, right, typed, verdict.hint))
    return counts, others


@pytest.fixture(scope="module")
def outcomes():
    return judged_slips()


def test_hints_name_the_slips_of_students_and_hardly_ever_another_one(outcomes):
    counts, others = outcomes
    totals = Counter()
    for (outcome, _), count in counts.items():
        totals[outcome] += count
    assert totals.total() >= SLIPS
    assert totals["named"] >= NAMED * SLIPS, [row for row in others if row[0] == "silent"]
    assert totals["other"] <= OTHER * SLIPS, [row for row in others if row[0] == "other"]
