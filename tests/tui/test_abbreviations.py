"""Abbreviations as in gdb, words in `:help`, what undo says, and pages that turn to what a verb shows."""

from __future__ import annotations

import pytest

from tests.tui.test_main_screen import driving
from tui_gru.errors import TuiGruError
from tui_gru.tui.about import TERMS
from tui_gru.tui.command import complete
from tui_gru.tui.help import explanations
from tui_gru.tui.keys import execute, with_keys
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.weights import WeightsPanel


async def test_commands_are_abbreviated_as_in_gdb() -> None:
    async with driving() as d:
        await d.type(":bre z", ":wat loss", ":n")
        assert [stop.id for stop in d.session.stops.all] == [1, 2]
        assert d.says == ":n is short for near-zero, newest, next, next-mark, next-panel or not-finite; type more of it"
        await d.type(":cont")
        assert d.session.position.line is not None
        assert d.session.position.line.target == "z"
        await d.type(":bt")
        assert isinstance(d.screen.overlay, DerivationPanel)
        await d.type("escape", ":p z[row 1, unit 2]")
        panel = d.screen.overlay
        assert isinstance(panel, DerivationPanel)
        assert panel.leaf.root.number is not None
        assert (panel.leaf.root.number.name, panel.leaf.root.number.index) == ("z", (0, 1))
        await d.type("escape", ":p Ma 3")
        assert d.session.samples[-1].text.startswith("Ma")
        await d.type(":unt t == 3")
        assert d.where[2] == 2
        assert complete(d.screen, "bre z ").verb is not None
        with pytest.raises(TuiGruError, match="there is no command 'brexk'; did you mean break"):
            execute(d.screen, "brexk z")


async def test_the_help_knows_panels_and_the_words_of_the_field_and_suggests_the_word_that_was_meant() -> None:
    async with driving() as d:
        said = set()
        for word in ("nats", "perplexity", "Temperature", "seed", "occlusion", "BPTT", "norms", "cross-entropy"):
            await d.type(f":help {word}")
            assert d.says in TERMS.values(), word
            said.add(d.says)
        assert len(said) == 8
        for word, panel in (("findings", "FindingsList"), ("gates", "Gates"), ("units", "UnitsMap")):  # before a word of the field
            await d.type(f":help {word}")
            assert d.says == with_keys(d.screen, explanations()[panel])
        await d.type(":help perplexty")
        assert "did you mean perplexity" in d.says


async def test_undo_says_what_it_took_back_and_what_redo_restores() -> None:
    async with driving() as d:
        await d.type("l", ":set Wz[M, 1] 0.5", "2e", "u")
        assert d.says.startswith("undid Wz[“M”, unit 1] = 0.5 · U restores it with the 2 epochs after it")
        await d.type("U")
        assert d.session.newest.epoch == 1
        await d.type(":go newest", ":set Wz[M, 1] 0.25", "u")
        assert d.says.startswith("undid Wz[“M”, unit 1] = 0.25 · U restores it")
        assert "after it" not in d.says


@pytest.mark.parametrize(("key", "hidden_size"), [(":largest", 64), ("*", 2), ("*", 64), ("x", 2)])
async def test_a_verb_that_goes_to_a_weight_turns_to_its_page(key: str, hidden_size: int) -> None:
    async with driving((80, 24), hidden_size=hidden_size) as d:
        await d.type("l", "n", "s", "o")
        assert not d.screen.query_one(WeightsPanel).region
        await d.type(key)
        await d.pilot.pause()
        panel = d.screen.query_one(WeightsPanel)
        assert panel.region
        if key != "x":
            assert panel in d.screen.focused.ancestors_with_self  # type: ignore[union-attr]
            assert "the largest" in d.says
