"""A user's cell, from its file through every command of the debugger."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.screenshots import CELL
from tests.tui.test_main_screen import Driver, driving
from tui_gru.cli.commands import main
from tui_gru.tui.headless import until_checked, until_idle
from tui_gru.tui.keys import execute
from tui_gru.tui.panels.check import CheckReport
from tui_gru.tui.panels.derivation import DerivationPanel, WhatIfPanel
from tui_gru.tui.session_screen import BottomLine


@pytest.fixture
def my_cell(tmp_path: Path) -> str:
    path = tmp_path / "my.cell"
    path.write_text(CELL, encoding="utf-8")
    return str(path)


async def command(d: Driver, line: str) -> None:
    execute(d.screen, line)
    await until_idle(d.pilot)
    await d.pilot.pause()
    assert not d.screen.query_one(BottomLine).warning, d.says


@pytest.mark.parametrize("options", [{}, {"layers": 2, "bidirectional": True, "embedding": 3, "optimizer": "adam", "clip": 1.0}])
async def test_everything_is_done_with_it(options: dict[str, object], my_cell: str, tmp_path: Path) -> None:
    async with driving(cell=my_cell, **options) as d:
        (h, f) = ("h", "f") if not options else ("h_l1", "f_l1")
        await d.type("l", "2n", "3o")
        for level in "osnf":
            before, where = d.session.value(h), d.session.position
            await d.type(level, level.upper())
            assert d.session.position == where
            np.testing.assert_array_equal(d.session.value(h), before)
        d.session.run_to(f"d{f}")
        await d.type("O", "o")
        assert d.session.position.line.target == f"d{f}"
        delta, state = d.session.value(f"d{h}"), d.session.value(f"{h[0]}_prev{h[1:]}")
        passed = state - d.session.value(f"g{h[1:]}")
        np.testing.assert_allclose(d.session.value(f"d{f}"), delta * passed, rtol=1e-5, atol=1e-8)
        for entry in (f"d{f}[0,1]", f"{h}[1,0]", f"Uf{h[1:]}[0,1]"):
            await command(d, f"why {entry}")
            assert isinstance(d.screen.overlay, DerivationPanel)
            await command(d, f"export! {tmp_path / 'why.tex'}")
            assert "=" in (tmp_path / "why.tex").read_text("utf-8")
            await d.type("escape")
        loss = d.session.loss
        await command(d, f"what-if {f}[0,1] 0.9")
        assert isinstance(d.screen.overlay, WhatIfPanel)
        await d.type("escape")
        assert d.session.loss == loss
        await command(d, f"set Uf{h[1:]}[0,1] 0.25")
        assert d.session.parameter(f"Uf{h[1:]}")[0, 1] == 0.25
        await d.type("k")
        await until_checked(d.pilot)
        assert isinstance(d.screen.overlay, CheckReport)
        report = d.session.check()
        assert report.agrees
        await d.type("escape", "p")
        assert d.session.samples or "cannot sample" in d.says
        assert bool(d.session.samples) == (not options)


def test_it_is_traced(my_cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cell", my_cell, "trace"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    trace = json.loads(out)
    assert (trace["config"]["cell"], trace["config"]["cell_text"]) == ("my.cell", CELL)
    first = trace["batches"][0]["timesteps"][0]
    f, g, h_prev, dh = (np.array(first[name]) for name in ("f", "g", "h_prev", "dh"))
    np.testing.assert_allclose(first["h"], f * h_prev + (1 - f) * g, atol=1e-6)
    np.testing.assert_allclose(first["df"], dh * (h_prev - g), atol=1e-6)
    parameters = {"Wf", "Wg", "Uf", "bf", "bg", "Wy", "by"}
    assert trace["batches"][0]["gradients"].keys() == trace["initial_parameters"].keys() == parameters


def test_it_is_sampled_from(my_cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cell", my_cell, "sample", "--epochs", "900", "--primer", "Ma", "--length", "10", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "MathMathMath\n"
