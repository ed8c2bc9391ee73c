"""Explanations of everything on the screen, for every model; `?`, the legend and `:help` show them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import tui_gru.tui.panels
from tests.debugger import models
from tests.tui.test_main_screen import Driver, driving
from tui_gru import Session, TuiGruError
from tui_gru.tui.about import about
from tui_gru.tui.app import TuiGruApp
from tui_gru.tui.ask import AskPanel
from tui_gru.tui.headless import headless, until_idle
from tui_gru.tui.help import SIGNS, HelpPanel, Legend, about_panel, explanation_of, explanations
from tui_gru.tui.keys import VERB, execute
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.values import ValueMatrix
from tui_gru.tui.theme import ASCII, UNICODE
from tui_gru.tui.verbs import KEYS

SIZES = [(160, 50), (120, 36), (80, 24), (40, 12)]
OWN = """state h : H
parameters Wf Uf bf
f = σ(x Wf + h_prev Uf + bf)    # near 1 keeps what was known
h = f ⊙ h_prev
"""


@models.parametrize("gru", "gru after, reset", "gru after, notebook, adam", "lstm", "both ways", argument="options")
def test_every_name_of_every_model_has_a_sentence(options: dict[str, Any]) -> None:
    program = Session(**options).program
    for name in program.names:
        words = about(program, name)
        assert len(words) > 10, name
        assert "{}" not in words
        assert not words.endswith("."), name


def test_a_comment_in_the_file_of_a_model_is_the_sentence_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "own.cell"
    path.write_text(OWN, encoding="utf-8")
    program = Session(cell=str(path)).program
    assert about(program, "f") == "near 1 keeps what was known"
    assert about(program, "h") == "computed by the line h = f⊙hₜ₋₁"
    assert about(program, "Uf") == "weights from hₜ₋₁ to f: a row for each input, a column for each unit; training changes them"
    assert about(program, "df").startswith("gradient of the loss with respect to f")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("z", "near 1 keeps the old state"),
        ("Wz", "weights from x to z"),
        ("bh", "bias of h̃"),
        ("az", "the argument of σ"),
        ("dWz", "with respect to Wz, summed"),
        ("dh_carry", "the share of dhₜ₋₁ that flows through the line of h"),
        ("dh_future", "receives from the next timestep"),
        ("h_prev", "h after the previous timestep"),
        ("learning_rate", "against the gradient"),
    ],
)
def test_what_names_of_the_tutorial_are(name: str, words: str) -> None:
    assert words in about(Session().program, name)


def panel_classes() -> Iterator[type[Panel]]:
    """Yield every class of a panel that is shown: those in the panels' folder except base classes."""
    folder = Path(tui_gru.tui.panels.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        module = import_module(".".join(("tui_gru.tui.panels", *path.relative_to(folder).with_suffix("").parts)))
        for kind in vars(module).values():
            if inspect.isclass(kind) and issubclass(kind, Panel) and kind.__module__ == module.__name__:
                yield kind


def test_every_panel_has_a_sentence_and_every_sentence_a_panel() -> None:
    classes = [kind for kind in panel_classes() if kind.__name__ not in ("SnapshotPanel", "Legend")]
    assert [kind.__name__ for kind in classes if not kind.ABOUT] == []
    assert {"TimeLine", "CommandLine", "Gates", *(kind.__name__ for kind in classes)} <= set(explanations())
    assert all(words.endswith(".") for words in explanations().values())


def test_the_legend_has_the_signs_that_stops_targets_and_places_are_drawn_with() -> None:
    written = "".join(sign.sign for signs in SIGNS.values() for sign in signs)
    glyphs = UNICODE
    for sign in (
        glyphs.arrow, glyphs.breakpoint, glyphs.breakpoint_sometimes, glyphs.breakpoint_off, glyphs.log_point,
        glyphs.log_point_off, glyphs.target, glyphs.target_end, glyphs.here, glyphs.not_finite, glyphs.times, glyphs.blank,
        glyphs.ellipsis, glyphs.vertical_ellipsis,
    ):  # fmt: skip
        assert sign in written, sign
    panels = {panel for signs in SIGNS.values() for sign in signs for panel in sign.panels.split()}
    assert panels <= {*explanations(), "Header"}


@pytest.mark.parametrize("size", SIZES)
async def test_the_legend_is_on_a_key_and_fits(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("?", ";")
        legend = d.screen.overlay
        assert isinstance(legend, Legend)
        assert "does not follow" in " ".join(legend.plain_text().split())
        assert "tenths of the largest" in " ".join(legend.plain_text().split())
        assert legend.virtual_size.width <= legend.size.width
        await d.type("?", ";")
        assert d.screen.overlay is None


def help_text(d: Driver) -> str:
    return " ".join(d.pilot.app.screen.query_one(HelpPanel).plain_text().split())


@pytest.mark.parametrize("size", SIZES)
async def test_help_begins_with_what_has_the_focus(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("s", "O", "O", "O")
        await d.type("?", "tab")
        assert "Here" in help_text(d)
        assert help_text(d).index("Prediction: a probability") < help_text(d).index("one line of the program")
        assert "tab goes from panel to panel" in help_text(d)
        await d.type("escape")
        gates = next(matrix for matrix in d.screen.query(ValueMatrix) if matrix.value_name == "z")
        if gates.region:
            d.screen.set_focus(gates)
            await d.type("?", "tab")
            shown = help_text(d)
            z = d.session.value("z")[0, 0]
            assert shown.index(f"z[row 1, unit 1] = {z!s}") < shown.index("Update gate: near 1 keeps the old state.")
            assert about_panel(gates).split(":")[0] in shown


async def test_what_is_asked_finds_values_panels_and_signs_below_the_questions() -> None:
    async with driving((160, 50)) as d:
        await d.type("?", *"update gate")
        groups = dict(d.pilot.app.screen.query_one(AskPanel).groups)
        assert "z" in [entry.text for entry in groups["Explanations"]]
        await d.type("ctrl+u", *"carry candidate paths")
        groups = dict(d.pilot.app.screen.query_one(AskPanel).groups)
        assert groups["Explanations"][0].words.startswith("The paths of the gradient")


@pytest.mark.parametrize("size", [(160, 50), (80, 24)])
async def test_the_paths_of_the_gradient_are_explained_as_percents_and_as_letters(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("l", "3s", "8o")
        d.screen.set_focus(d.screen.query_one(Sequence))
        await d.type("?", "tab")
        assert "with their shares of it in percent, or each letter a fifth of it: the line of the carry" in help_text(d)


async def test_the_insight_of_the_sequence_is_explained_where_it_has_the_focus() -> None:
    async with driving() as d:
        await d.type("n", "n", "s")
        d.screen.set_focus(d.screen.query_one(Sequence))
        await d.type("?", "tab")
        assert "for example: row 1 begins with “th…”" in help_text(d)  # the texts on screen are others
        assert "another place of the text" in help_text(d)


async def test_a_name_a_sign_or_a_panel_can_be_asked_about_by_typing_it() -> None:
    async with driving() as d:
        for words, answer in (
            ("h̃", "h̃: candidate: what the new state could be"),
            ("h_tilde", "h̃: candidate: what the new state could be"),
            ("◐", "◐: a breakpoint with a condition or a hit count: runs stop there sometimes"),
            ("u", "u: the random number from 0 to 1 that chose the character; none if the likeliest was chosen"),
            ("loss curve", explanations()["LossCurve"]),
            ("training loop", explanations()["Listing"]),
            ("findings", explanations()["FindingsList"].replace("<findings>", "!")),
            (
                "log V",
                "╌ blind guess: all characters equally likely, log V; unigram: knowing the counts of characters; bigram: of pairs",
            ),
            (
                "bigram",
                "╌ blind guess: all characters equally likely, log V; unigram: knowing the counts of characters; bigram: of pairs",
            ),
            ("V", "V: the number of characters in the vocabulary"),
            ("Σ", "Σ: the sum; “over” says along which direction"),
            ("n", "n: the number of updates so far, including this one"),
            (
                "blind guess",
                "blind guess: all characters equally likely, log V; unigram: knowing the counts of characters; bigram: of pairs",
            ),
            ("opposite", "opposite: of a unit that follows a feature in reverse, and is drawn with the other sign"),
            ("output gate", "output gate: of an LSTM, says how much of its cell is shown as the state h"),
            ("lines back", "past, 5 lines back: you are 5 executed lines before the newest moment reached"),
            ("tenths of", "tenths of 0.7: the scale of these digits, in a narrow panel ×0.07: with it, +7 is 0.49"),
        ):
            execute(d.screen, f"help {words}")
            await until_idle(d.pilot)
            assert d.says == answer
        with pytest.raises(TuiGruError, match="there is no explanation of 'unheard'"):
            execute(d.screen, "help unheard")


async def test_a_line_under_the_mouse_says_what_it_is_for() -> None:
    async with driving() as d:
        listing = d.screen.query_one(Listing)
        row = next(i for i, row in enumerate(d.session.program.rows) if row.line is not None and row.line.target == "z")
        await d.pilot.hover(Listing, offset=(12, 1 + row))
        assert "near 1 keeps the old state" in str(listing.tooltip)


async def test_in_ascii_the_legend_is_ascii() -> None:
    app = TuiGruApp(Session(), glyphs=ASCII)
    async with headless(app, (160, 50)) as pilot:
        await pilot.press("question_mark", "semicolon")
        await until_idle(pilot)
        await pilot.pause()
        assert app.screen.query_one(Legend).plain_text().isascii()


@pytest.mark.parametrize("words", [*explanations().values(), *(sign.meaning for signs in SIGNS.values() for sign in signs)])
def test_the_verbs_in_sentences_have_keys(words: str) -> None:
    assert set(VERB.findall(words)) <= set(KEYS)


def test_what_is_not_known_has_no_explanation() -> None:
    assert explanation_of(Session().program, "nothing", str) == ""
