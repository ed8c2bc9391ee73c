"""The screen, as pictures and as texts, with other models than the tutorial's: an LSTM, layers, directions, Adam with clipping."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.tui.pressing import press
from tui_gru.debugger.program import program_of
from tui_gru.engine.config import Config
from tui_gru.tui.app import TuiGruApp, make_app


class Moment(NamedTuple):
    """The position after the line of `target` in timestep `t` (0-based) of the second batch, which learns; then `keys` are
    typed."""

    options: dict[str, Any]
    target: str
    t: int
    keys: str = ""
    theme: str = "blackboard"


ADAM = {"optimizer": "adam", "clip": 0.1}
BOTH = {"layers": 2, "bidirectional": True, "embedding": 3}
MOMENTS = {
    "lstm": Moment({"cell": "lstm"}, "c", 1),
    "lstm-backward": Moment({"cell": "lstm"}, "dh_prev", 1),
    "two-layers": Moment({"layers": 2}, "dh_l0", 1, theme="whiteboard"),
    "two-layers-the-other": Moment({"layers": 2, "cell": "mgu"}, "h_tilde_l0", 1, "L L x"),
    "bidirectional": Moment(BOTH, "h_l0_reverse", 1),
    "adam-clip": Moment(ADAM, "clip", 2),
    "adam-step": Moment(ADAM, "Wz", 2, "r x"),
}


@pytest.mark.parametrize("size", [(160, 50), (80, 24)], ids=["wide", "narrow"])
def test_pictures(snap_compare: Any, size: tuple[int, int]) -> None:
    app, run = opened_at(MOMENTS["lstm"])
    assert snap_compare(app, terminal_size=size, run_before=run)


@pytest.mark.parametrize("size", [(160, 50), (80, 24)], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", [name for name in MOMENTS if name != "lstm"])
def test_texts(snap_text: Any, name: str, size: tuple[int, int]) -> None:
    app, run = opened_at(MOMENTS[name])
    snap_text(app, terminal_size=size, run_before=run)


def opened_at(moment: Moment) -> tuple[TuiGruApp, Any]:
    """Return an app, and what brings its pilot to a moment."""
    config = Config.of(**moment.options)
    program = program_of(config)
    tick = program.ticks + (program.tick_of(moment.target, moment.t) or 0)
    typed = ("l 2n", f":go {tick}", f"escape {moment.keys}")
    return make_app(config, theme=moment.theme), lambda pilot: press(pilot, *typed)
