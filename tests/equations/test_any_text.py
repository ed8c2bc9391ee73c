"""Any text gives a page or a clear error within a short time, and so does everything derived from the page."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.extent import examples
from tui_gru.engine.compiled import Compiled
from tui_gru.engine.model import Model, Structure
from tui_gru.equations.axes import infer_axes
from tui_gru.equations.backward import derive
from tui_gru.equations.page import FOLDER, Page, read_page
from tui_gru.equations.syntax import EquationError, Symbols
from tui_gru.equations.writing import Writer

CELLS = [path.read_text(encoding="utf-8") for path in sorted((FOLDER / "cells").glob("*.cell"))]
WORDS = [
    "x",
    "h",
    "h_prev",
    "c",
    "c_prev",
    "z",
    "r",
    "Wz",
    "Uz",
    "bz",
    "(",
    ")",
    "[",
    "]",
    ",",
    "+",
    "-",
    "−",
    "*",
    "⊙",
    "/",
    "^",
    "**",
    "ᵀ",
    "'",
    ".T",
    "@",
    "=",
    ":=",
    ":",
    "+=",
    "−=",
    "σ",
    "tanh",
    "softmax",
    "log",
    "exp",
    "sqrt",
    "relu",
    "clamp",
    "min",
    "max",
    "positive",
    "Σ",
    "sum",
    "mean",
    "over",
    "the",
    "vocabulary",
    "rows",
    "timesteps",
    "units",
    "T",
    "B",
    "H",
    "V",
    "1",
    "0",
    "2",
    "0.5",
    "1e-8",
    "1e999",
    "#",
    "\n",
    "state",
    "reads",
    "input",
    "target",
    "parameters",
    "output",
    "setting",
    "symbol",
    "backwards",
    "one-hot",
    "a",
    "b",
    "dz",
    "dh",
    "h̃",
    "hₜ₋₁",
    "loss",
    "lambda",
    "if",
    "x²",
    "←",
    "\x00",
    "\t",
    "ℎ",
    "ﬁ",
    "λ",
    "_",
    "__",
    "é",
    "̃",
    "\u202e",
    "値",
    "٣",
]
SIZES = {"T": 3, "B": 2, "H": 4, "V": 5}
settings.register_profile("any text", derandomize=True, suppress_health_check=list(HealthCheck))
any_text = settings.get_profile("any text")


def everything_of(text: str) -> None:
    """Read a page, and infer, derive and write everything. The only error allowed is `EquationError`, with the file's name."""
    page = _tried(lambda: read_page(text, "mine.cell"))
    if not isinstance(page, Page):
        return
    writer = Writer(Symbols(page.symbols))
    for line in page.lines:
        assert writer.line(line.target, line.op, line.formula)
        assert writer.line_latex(line.target, line.op, line.formula)
    _tried(lambda: derive(page, infer_axes(page)))


def model_of(text: str, **options) -> None:
    """Do the same with the page as the cell of a model, compiled."""

    def compile_it() -> Compiled:
        model = Model(Structure(cell="mine.cell", cell_text=text, **options))
        _ = model.backward
        return Compiled(model, SIZES, "float32")

    _tried(compile_it)


def _tried(make: Callable[[], object]) -> object:
    """Return the result, or the error."""
    try:
        return make()
    except EquationError as error:
        mistake = error
    assert str(mistake).startswith(("mine.cell:", "linear.head:"))
    assert mistake.shown
    return mistake


def mutated(seed: int) -> str:
    """Return a built-in cell with a few random changes."""
    draw = random.Random(seed)
    lines = draw.choice(CELLS).split("\n")
    for _ in range(draw.randint(1, 3)):
        i = draw.randrange(len(lines))
        words = lines[i].partition("#")[0].split(" ")
        match draw.randrange(6):
            case 0:
                words[draw.randrange(len(words))] = draw.choice(WORDS)
            case 1:
                words.insert(draw.randrange(len(words) + 1), draw.choice(WORDS))
            case 2:
                words = words[: draw.randrange(len(words) + 1)]
            case 3:
                words = [word.replace("h_prev", "h").replace("⊙", "/") for word in words]
            case 4:
                lines.insert(draw.randrange(len(lines)), lines[i])
            case 5:
                words = ["".join(draw.sample(word, len(word))) for word in words]
        lines[i] = " ".join(words)
    return "\n".join(lines)


@given(st.text(max_size=200))
@settings(any_text, max_examples=examples(70, soak=2000))
def test_any_text(text):
    everything_of(text)


@given(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))
@settings(any_text, max_examples=examples(100, soak=3000))
def test_any_words_of_the_language(text):
    everything_of("state h : H\nparameters Wz Uz bz\n" + text)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join))
@settings(any_text, max_examples=examples(70, soak=2000))
def test_any_formula(text):
    everything_of(f"input x : V\nstate h : H, c : H\nparameters Wz Uz bz\nh = {text} + h_prev")


@pytest.mark.parametrize("seeds", [range(start, start + 40) for start in range(0, 160, 40)], ids=str)
def test_a_cell_with_mistakes(seeds):
    for seed in seeds:
        text = mutated(seed)
        everything_of(text)
        model_of(text)
        model_of(text, layers=2, bidirectional=True, lengths=True)


def test_the_words_are_those_of_the_files():
    """Every keyword that a built-in file uses is among those tried."""
    used = {
        word
        for path in Path(FOLDER).rglob("*.*")
        for line in path.read_text(encoding="utf-8").splitlines()
        for word in line.split()[:1]
    }
    declarations = {"reads", "state", "parameters", "input", "target", "symbol", "setting"}
    assert declarations <= used
    assert declarations <= set(WORDS)


def test_a_long_file_is_read_in_a_moment():
    """Many lines with parts, each of which reads the one before."""
    lines = ["state h : H", "parameters W U b", "v0 = x W + h_prev U"]
    lines += [f"v{i} = (p{i}: v{i - 1} ⊙ b) + tanh(v{i - 1}) − v{max(i - 2, 0)}" for i in range(1, 300)]
    text = "\n".join([*lines, "h = v299"])
    model = Model(Structure(cell="mine.cell", cell_text=text))
    assert len(model.backward.deltas) > 300
    compiled = Compiled(model, SIZES, "float32")
    assert compiled.function("backward").code.source.count("\n") > 1000
