"""What somebody sees who has just come: the first screen, the signs that `?` explains, and text that cannot be dragged over."""

from __future__ import annotations

import re

import pytest
from textual.events import MouseDown, MouseMove

import tui_gru
from tests.tui.test_main_screen import Driver, driving
from tui_gru.engine.config import Config
from tui_gru.tui.headless import take
from tui_gru.tui.help import rows_here, signs_of
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.line import SAYS, CurrentLine
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.panels.values import LossTerms
from tui_gru.tui.terminal import drawn_lines


@pytest.mark.parametrize("size", [(160, 50), (120, 36), (80, 24)])
async def test_the_first_screen_says_the_same_in_the_same_order_and_nothing_is_cut(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        panel = d.screen.query_one(CurrentLine)
        assert len(panel.drawn) <= panel.content_size.height
        assert all(strip.cell_length <= panel.content_size.width for strip in panel.drawn)
        assert panel.heading == "After 900 epochs this model says Matttttttttt. Why?"
        said = [" ".join(strip.text.split()) for strip in panel.drawn]
        assert [line for line in said if line][:3] == [
            "its sampler writes M a t t t t t t t t t t",
            "the text is M a t h M a t h M a t h",
            "The tutorial blames the small text. But the network knows the text by heart.",
        ]
        ways_in = ["enter find out why", ":lesson lessons", "o s n a line", "? ask “why is the loss 1.26”"]
        assert [any(line.startswith(way) for line in said) for way in ways_in] == [True] * 4


def test_what_the_first_screen_says_of_the_model_is_so() -> None:
    session = tui_gru.Session()
    session.learning = True
    session.step("epoch", 900)
    assert session.sample("Ma", 10, sampler="tutorial", temperature=0) == SAYS
    assert session.sample("Ma", 10, temperature=0) == session.config.text[: len(SAYS)]  # it knows the text by heart


async def test_on_a_tiny_screen_the_question_and_the_key_that_answers_it_are_left() -> None:
    async with driving((40, 12)) as d:
        panel = d.screen.query_one(CurrentLine)
        shown = [" ".join(strip.text.split()) for strip in panel.drawn]
        assert panel.heading == "It says Matttttttttt. Why?"
        assert shown[:3] == ["it writes Matttttttttt", "the text MathMathMath", "enter find out why"]


async def test_another_model_begins_with_what_it_is() -> None:
    async with driving((80, 24), hidden_size=3) as d:
        panel = d.screen.query_one(CurrentLine)
        assert panel.plain_text().startswith("the current line")
        assert "its training, before the first line" in " ".join(panel.plain_text().split())


async def signs(d: Driver, panel: type[Panel]) -> set[str]:
    """Return the signs that `?` explains while a panel has the focus."""
    focused = d.screen.query_one(panel)
    listed = {sign.sign.strip() for sign in signs_of(focused)}
    return {row[0] for row in rows_here(d.screen.snapshot, focused, None, lambda words: words) if row[0] in listed}


async def test_help_explains_the_signs_that_are_on_the_screen_and_no_others() -> None:
    async with driving() as d:
        await d.type("s")
        assert await signs(d, Listing) >= {"▶", "⊙", "σ", "① ② ③", "+= −=", "hₜ₋₁", "Wᵀ", "dh←"}
        assert not await signs(d, Listing) & {"●", "◐", "○", "◆", "◇", "n"}
        await d.type("b", ":break h if loss > 1", ":break z log {loss}", ":disable 1")
        assert await signs(d, Listing) >= {"○", "◐", "◆"}
        assert "●" not in await signs(d, Listing)
        assert await signs(d, LossTerms) == {"① ② ③"}
        assert await signs(d, Samples) == set()
        await d.type(":sample 10 0")
        assert await signs(d, Samples) == {"read"}
        await d.type(":sample 4 1", "tab")
        d.screen.maximize(d.screen.query_one(Samples))
        await d.pilot.pause()
        assert await signs(d, Samples) == {"read", "p", "u"}


async def test_every_sign_that_is_explained_is_drawn_in_some_state() -> None:
    async with driving((160, 50), optimizer="adam") as d:
        seen = set[str]()
        for keys in (["s"], ["3o"], ["l", "3n"], ["4s", "12o"], ["m", "a", "p"]):
            await d.type(*keys)
            for panel in (Listing, CurrentLine, LossTerms, Samples):
                seen |= await signs(d, panel)
        assert seen >= {"x W", "⊙", "Σ", "mean", "B", "T", "n", "Wᵀ", "hₜ₋₁", "dh", "dh←", "① ② ③", "+= −=", "│", "▶", "read"}


async def test_who_drags_over_text_is_told_that_shift_selects() -> None:
    async with driving() as d:
        listing = d.screen.query_one(Listing)
        x, y = listing.region.x + 5, listing.region.y + 3
        for kind, at in ((MouseDown, x), (MouseMove, x + 1), (MouseMove, x + 9)):
            event = kind(listing, at, y, 0, 0, 1, False, False, False, at, y)
            d.screen._forward_event(event)  # noqa: SLF001 - as the app passes it
            await d.pilot.pause()
            if at < x + 9:
                assert "shift" not in d.says
        assert d.says.startswith("to select text, hold shift while you drag")
        d.screen.say("")
        d.screen._forward_event(MouseMove(listing, x + 12, y, 0, 0, 1, False, False, False, x + 12, y))  # noqa: SLF001
        await d.pilot.pause()
        assert d.says == ""  # once for each drag


#: The questions of a learner; the keys that lead to where each comes up; at most two that answer it; what is then on the screen.
QUESTIONS = (
    (
        "Why Mattttt?", ["l", "900e", ":sample 10 0"], ["!"],
        "the sampler does not feed back its characters .* feeds the primer again at every step, so the model never reads",
    ),
    (
        "Which of the four terms is the carry, and how much is each?", ["l", "3n", ":until any(dh_prev > -9)"], ["enter"],
        r"dh_carry\[row 1, unit 1\] .* of the gradient passed back: carry \d+ %, candidate \d+ %, update \d+ %, reset \d+ %",
    ),
    ("Which row of Wz is M?", ["o"], ["enter"], "“M” picks row 4 of Wz"),
    ("What is the loss of this epoch?", ["l", "3e"], ["?", "tab"], r"The mean of 3 batches of epoch 3 is 1\.3187"),
    ("Where am I in the loops?", ["l", "4n", "s"], [], "epoch 2 batch 2/3 t 1/3 forward"),
    (
        "What is a row, what is t?", ["s"], ["?", "tab"],
        "A batch has 2 rows: pieces of the text that are computed side by side. At each timestep t, of 3, every row reads one",
    ),
    (
        "Why do rows not follow each other, and what do I do about it?", ["l", "2e"], ["!"],
        "rows do not continue where.* row 1 of batch 2 reads “thM” .* state after “Mat”.* cure.*: --layout contiguous",
    ),
    ("Why is z what it is?", ["2n", "s", "o"], ["enter"], r"where does z\[row 1, unit 1\] come .* x Wz \S+ \d+% .* hₜ₋₁ Uz"),
    ("What did the last step change most?", ["l", "3e"], ["*"], r"the largest: ΔWy\[unit 1, “a”\] = \+0\.00253"),
    ("Which character caused that change?", ["l", "3e"], ["*"], "gradient from t 1, row 1, which reads “M” and wants “a”"),
)  # fmt: skip


@pytest.mark.parametrize(("question", "before", "keys", "answer"), QUESTIONS)
async def test_a_learner_has_the_answer_within_two_keys(question: str, before: list[str], keys: list[str], answer: str) -> None:
    assert len(keys) <= 2
    async with driving((80, 24)) as d:
        await d.type(*before, *keys)
        rows = [re.sub(r"^.?[╭╮│╰╯─]+ ?│?|│.{0,3}$", " ", row.text) for row in drawn_lines(d.pilot.app.screen)]
        shown = " ".join(" ".join(rows).split())
        assert re.search(answer, shown), f"{question} {shown}"


@pytest.mark.parametrize("theme", ["whiteboard", "blackboard"])
def test_the_frame_of_a_picture_in_a_light_theme_is_light(theme: str) -> None:
    picture = take(Config.of(), ["s"], (80, 24), theme=theme)
    (frame,) = re.findall(r'<rect fill="#([0-9a-f]{6})" stroke=', picture)
    (title,) = re.findall(r'-title" fill="#([0-9a-f]{6})"', picture)
    light = sum(bytes.fromhex(frame)) > 3 * 128
    assert light == (theme == "whiteboard")
    assert light != (sum(bytes.fromhex(title)) > 3 * 128)
