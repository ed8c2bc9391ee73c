"""`:again` and `:rates` on the screen, in a loop of a script."""

import pytest
import torch

import tui_gru
from tests.rewind.loops import LOOPS
from tests.tui.test_main_screen import driving_app
from tui_gru.errors import TuiGruError
from tui_gru.tui.app import TuiGruApp
from tui_gru.tui.panels.story import RatesPanel
from tui_gru.tui.panels.trials import TrialsList
from tui_gru.tui.rewinding import typed_change


def plain_run():
    """Return a run whose loop is over, and what it has trained."""
    torch.manual_seed(0)
    runs = []

    def wrap(loader, *stateful):
        runs.append(tui_gru.steps(loader, *stateful, keep=8, screen=False))
        return runs[0]

    losses, model = LOOPS["plain"](wrap)
    return runs[0], losses, [value.clone() for value in model.state_dict().values()], model


async def test_trials_are_made_listed_opened_and_adopted():
    run, losses, weights, model = plain_run()
    session = run.session()
    assert session.loss == pytest.approx(losses[-1])
    async with driving_app(TuiGruApp(session)) as d:
        for line, start in {
            ":again": "8 steps run again: all losses equal bit for bit",
            ":again step 10 lr=1e-1": "from step 10: loss",
            ":again skip": "from step 14: loss",
            ":again clip=0.001": "from step 7: loss",
            ":again seed=7": "8 steps run again: all losses equal bit for bit",
        }.items():
            await d.type(line)
            assert d.says.startswith(start), line
        panel = d.screen.overlay
        assert isinstance(panel, TrialsList)
        assert [trial.words for trial in panel.trials] == ["", "lr=0.1", "skip 14", "clip=0.001", "seed=7"]
        await d.type(":again line 3 x = 1")
        assert "line 3: no statement of the body begins there" in d.says
        await d.type(":again file")
        assert "is the one that was started" in d.says
        await d.type(":rates")
        assert isinstance(d.screen.overlay, RatesPanel)
        assert len(d.screen.overlay.trials) == 7
        assert all(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))
        await d.type(":again lr=1e-1")
        await d.type("k", "y")
        assert "the script goes on from the end of the trial" in d.says
    assert not any(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))


def test_what_is_typed_becomes_the_arguments():
    run, *_ = plain_run()

    def change(text):
        return typed_change(text, step=12, loop=run)

    assert change("step 9 lr=1e-3 clip=1 seed=3 weight_decay=0.1") == {
        "since": 9, "lr": 1e-3, "clip": 1.0, "seed": 3, "weight_decay": 0.1,
    }  # fmt: skip
    assert change("skip") == {"skip": 12, "since": 12}
    assert change("skip 8") == {"skip": 8, "since": 8}
    assert change("line 31 loss = f(a,  b)") == {"lines": {31: "loss = f(a,  b)"}}
    for text, reason in {"often": "takes no 'often'", "lr=fast": "takes a number", "step one": "whole number"}.items():
        with pytest.raises(TuiGruError, match=reason):
            change(text)
