"""The current line in models other than the tutorial's: every operation of a cell, layers and directions, every update rule."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import pytest

from tests.tui.panels.sessions import on_every_size
from tui_gru.session.session import Session
from tui_gru.session.snapshot import Snapshot, line_latex, values_latex
from tui_gru.tui.panel import View
from tui_gru.tui.panels.line import drawn_line
from tui_gru.tui.theme import BLACKBOARD, palette_for
from tui_gru.tui.written import ExampleEntry, Operands

P = palette_for(BLACKBOARD)
#: Every function, a power, quotients, a matrix product as a factor, and no labels.
OWN = """
state s : H
parameters Ww Wv Uw Uv bw
w = σ(x Ww + s_prev Uw + bw)
v = relu(x Wv) + w ⊙ (s_prev Uv)
s = w ⊙ sqrt(1 + v ⊙ v) + (1 − w) ⊙ tanh(s_prev Uv - v / 2) + 0.1 ⊙ exp(-v)^2 / (1 + exp(v))
"""
#: The names that the update rules use.
NAMES = "state h : H\nparameters W U\nn = tanh(x W)\nh = n ⊙ (h_prev U) + (1 − n)"
MODELS = {
    "lstm": {"cell": "lstm"},
    "own": {"cell": "own.cell", "cell_text": OWN},
    "layers": {"layers": 2, "bidirectional": True, "embedding": 3},
    "adam": {"optimizer": "adam", "clip": 0.05},
    "momentum": {"optimizer": "momentum"},
    "names": {"cell": "names.cell", "cell_text": NAMES, "optimizer": "adam", "clip": 0.05},
}


@cache
def lines_of(model: str) -> tuple[Snapshot, ...]:
    """Return snapshots after each line of the second batch, learning."""
    session = Session(**MODELS[model])
    session.learning = True
    session.step("batch")
    found = []
    for _ in range(session.program.ticks):
        session.step("op")
        found.append(session.snapshot())
    return tuple(found)


def after(model: str, target: str) -> Snapshot:
    """Return the last of them that computes `target`."""
    return next(s for s in reversed(lines_of(model)) if s.line is not None and s.line.target == target)


def worked(snapshot: Snapshot, row: int = 0) -> str:
    assert snapshot.line is not None
    return " ".join(piece for piece, _ in ExampleEntry(Operands(snapshot, snapshot.line), row).pieces(P))


def drawn(snapshot: Snapshot, width: int = 114, height: int = 9) -> list[str]:
    assert snapshot.line is not None
    return [line.rstrip() for line in drawn_line(P, snapshot, snapshot.line, View(0), width, height)[0].text.splitlines()]


FUNCTIONS = {"exp": math.exp, "log": math.log, "sqrt": math.sqrt, "tanh": math.tanh, "σ": lambda a: 1 / (1 + math.exp(-a))}
FUNCTIONS |= {"relu": lambda a: max(a, 0), "positive": lambda a: float(a > 0), "min": min, "e": math.e}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("row", [0, 1])
def test_the_worked_entry_adds_up(model: str, row: int) -> None:
    for snapshot in lines_of(model):
        words = worked(snapshot, row)
        if "…" in words:
            continue
        code = words.split(": ", 1)[-1].replace("−", "-").replace("·", "*").replace("^", "**")
        code = re.sub(r"(sqrt|exp|log|tanh|relu|positive) (-?[\d.]+(?:e-?\d+)?)", r"\1(\2)", code)
        match = re.match(r"(.*?) = (-?[\d.]+(?:e-?\d+)?)", code)
        assert match is not None, words
        made = eval(match[1], FUNCTIONS)
        digits = 1e-2 if snapshot.line.op == "-=" else 1.5e-3  # a quotient of numbers of one digit
        assert made == pytest.approx(float(match[2]), abs=digits, rel=1e-3), words


def test_a_gradient_that_is_a_sum_has_all_its_terms() -> None:
    snapshot = after("own", "dUv")
    assert snapshot.line is not None
    assert snapshot.line.text.startswith("dUv += sₜ₋₁ᵀ (ds")
    pieces = [piece for piece, _ in ExampleEntry(Operands(snapshot, snapshot.line), 0).pieces(P, brief=True)]
    assert len(pieces) == 1 + 2 * snapshot.config.batch_size + 1  # what it was, two terms of each row of the batch, and the result
    state, dv, w = (snapshot.value(name)[-1, 0] for name in ("s_prev", "dv", "w"))
    assert pieces[-2] == f"+ {state:.4f}·{dv:.4f}·{w:.4f}".replace("+ -", "− ").replace("-", "−")


@pytest.mark.parametrize("model", MODELS)
def test_every_line_fits_every_size(model: str) -> None:
    for snapshot, (width, height) in on_every_size(lines_of(model), ((36, 4), (76, 3), (114, 9))):
        assert snapshot.line is not None
        box = drawn_line(P, snapshot, snapshot.line, View(1), width, height)[0]
        assert max(box.width - width, box.height - height) <= 0, (snapshot.line.text, width, height)


def line_latex_of(value: Any) -> str:
    return values_latex(lines_of("adam")[0], [("a", value)]).splitlines()[2].partition("&= ")[2]


@pytest.mark.parametrize(("model", "kept"), [("adam", "m_by"), ("adam", "v_by"), ("momentum", "m_by")])
def test_what_an_update_keeps_is_read_as_it_was(model: str, kept: str) -> None:
    snapshot = after(model, kept)
    before, now = snapshot.record.before[kept], snapshot.value(kept)
    assert (before != now).any()
    operands = Operands(snapshot, snapshot.line)
    assert (operands.read(kept).values == before).all()
    assert (operands.result.values == now).all()
    left, right = line_latex(snapshot).splitlines()[3].split("&=")
    assert left.strip() == line_latex_of(now)
    assert line_latex_of(before) in right
    assert line_latex_of(now) not in right


def test_the_norm_of_the_gradient_is_the_root_of_a_sum() -> None:
    snapshot = after("adam", "grad_norm")
    first, *_, last = [float(gradient.ravel() @ gradient.ravel()) ** 0.5 for _, gradient in snapshot.record.gradients.items()]
    norm = snapshot.record.numbers["grad_norm"]
    assert worked(snapshot) == (f"sqrt({first:.4f}·{first:.4f} + … 11 terms … + {last:.4f}·{last:.4f}) = {norm:.4f}")


def test_a_line_of_numbers_says_which_is_which() -> None:
    snapshot = after("adam", "clip")
    norm, factor = (f"{snapshot.record.numbers[name]:.4f}" for name in ("grad_norm", "clip"))
    assert drawn(snapshot) == [
        "          limit    ‖∇‖                clip",
        f"min ( 1 , 0.05  / ({norm} + 1e-6) ) = {factor}",
        "",
        f"min(1, 0.05 / ({norm} + 1e-6)) = {factor}",
    ]


def test_a_small_setting_has_the_digits_it_was_given() -> None:
    assert any("+ 1e-8" in line for line in drawn(after("adam", "Wz")))
    assert "+ 1e−8)" in worked(after("adam", "Wz"))


def test_the_example_of_a_vector_has_its_place_on_a_low_panel() -> None:
    session = Session(text="the quick brown fox jumps over the lazy dog " * 5, hidden_size=20, batch_size=2, seq_length=8)
    session.learning = True
    session.step("batch")
    snapshot = session.snapshot()
    assert snapshot.line is not None
    written = drawn_line(P, snapshot, snapshot.line, View(), 110, 5)[0].text.splitlines()
    assert written[0].split() == ["largest", "step", "by", "m̂_by", "v̂_by", "by", "step"]
    steps = [abs(float(row.split()[-2])) for row in written[1:-1]]  # the last is of the entry in focus
    assert sorted(steps, reverse=True) == steps == [max(steps)] * len(steps)
    assert drawn_line(P, snapshot, snapshot.line, View(), 76, 5)[0].text.splitlines()[0].rstrip().endswith(" by")
    assert all(row.startswith("“") for row in written[1:])  # the characters whose biases are computed
