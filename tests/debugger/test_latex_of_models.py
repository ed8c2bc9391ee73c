"""LaTeX of models other than the tutorial's: powers, roots, min, words as names, layers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tui_gru import Session
from tui_gru.debugger.derivation import Node, ValueRef, as_latex, first_opened
from tui_gru.session.snapshot import line_latex

OWN = """
state s : H
parameters Wgate Uv bg
gate = σ(x Wgate + s_prev Uv + bg)
s = gate ⊙ s_prev + (1 − gate) ⊙ relu(s_prev Uv) / sqrt(1 + s_prev^2)
"""
MODELS = {
    "own": {"cell": "own.cell", "cell_text": OWN},
    "own layers": {"cell": "own.cell", "cell_text": OWN, "layers": 2},
    "layers": {"cell": "lstm", "layers": 2, "bidirectional": True, "embedding": 3},
    "adam": {"optimizer": "adam", "clip": 0.05},
}


def learned(model: str) -> Session:
    session = Session(**MODELS[model])
    session.learning = True
    session.step("batch", 2)
    return session


def after(session: Session, target: str) -> Session:
    """The session after the line that computes `target` in its second batch."""
    session.seek(session.program.ticks + (session.program.tick_of(target, 1) or 0))
    return session


def origin(session: Session, name: str) -> Node:
    value = session.value(name)
    timed = session.program.names[name].timed
    return session.derive(ValueRef(name, (0,) * np.ndim(value), session.position.t if timed else None, session.position.tick))


@pytest.mark.parametrize("model", MODELS)
def test_every_line_and_every_derivation_is_latex(model: str) -> None:
    session = learned(model)
    for line in [line for block in session.program.blocks for line in block.lines]:
        after(session, line.target)
        node = origin(session, line.target)
        for latex in (line_latex(session.snapshot()), as_latex(node, first_opened(node), "here")):
            assert latex is not None
            assert latex.isascii(), line.text
            assert latex.count("{") == latex.count("}")
            assert latex.count(r"\left") == latex.count(r"\right")
            assert not re.search(r"\d[ei]-?\d|nan|[a-z]_\{[a-z]{3,}\}", latex), latex


def test_a_power_a_root_and_the_smaller_number_are_written_as_such() -> None:
    session = after(learned("adam"), "Wz")
    opened = frozenset({(1,), (1, 1), (1, 1, 0), (1, 1, 0, 0), (1, 1, 0, 0, 1), (1, 1, 0, 0, 1, 1)})
    latex = as_latex(origin(session, "Wz"), opened, "")
    assert r"\sqrt{{\hat{v}}_{W_{z}}} &= \sqrt{{{\hat{v}}_{W_{z}}}_{1,1}} = \sqrt{" in latex
    assert r"{\beta_{2}}^{n} &= {\beta_{2}}^{n} = {0.999}^{2} = 0.998001" in latex
    after(session, "clip")
    factor = session.value("clip")
    assert as_latex(origin(session, "clip"), frozenset(), "").splitlines()[1] == (
        r"  \mathit{clip} &= \min\left(1, \frac{\mathit{limit}}{\lVert\nabla\rVert + 1 \cdot 10^{-6}}\right) "
        rf"= \min\left(1, {factor:.7g}\right) = {factor:.7g}"
    )


def test_a_small_number_is_written_as_a_power_of_ten() -> None:
    assert r"+ 1 \cdot 10^{-8}" in (line_latex(after(learned("adam"), "Wz").snapshot()) or "")


def test_a_name_that_is_a_word_stands_as_one() -> None:
    latex = line_latex(after(learned("own"), "gate").snapshot()) or ""
    assert latex.splitlines()[2] == r"  \mathit{gate} &= \sigma\left(x\,W_{gate} + s_{t-1}\,U_{v} + b_{g}\right) \\"
