"""The origin of every number that the cursor can select, opened by enter."""

from __future__ import annotations

import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.debugger.derivation import ValueRef
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import CellPanel
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.sequence import Samples, Sequence
from tui_gru.tui.panels.time import LossCurve
from tui_gru.tui.panels.values import LossTerms, Softmax, ValueMatrix

SIZES = [(160, 50), (80, 24), (40, 12)]
PHASE = ":step phase"


def asked(d: Driver) -> ValueRef:
    panel = d.screen.overlay
    assert isinstance(panel, DerivationPanel), d.says
    number = panel.leaf.root.number
    assert number is not None
    return number


@pytest.fixture(scope="module")
def known() -> set[ValueRef]:
    """What has been asked, in runs that are the same on every size of screen."""
    return set()


@pytest.mark.parametrize("size", SIZES, ids=["wide", "narrow", "tiny"])
async def test_every_cell_that_shows_a_number_can_be_asked(size: tuple[int, int], known: set[ValueRef]) -> None:
    async with driving(size) as d:
        for keys in ("l", "s", "o o o", "n", "N", PHASE, "o o o o", PHASE, "o o o o o o o", PHASE, "o o", "x", "n o o o"):
            await d.type(*keys.split(" ") if keys != PHASE else [keys])
            for page in range(d.screen.panels.pages):
                if page:
                    await d.type("v")
                refs = [s.ref for p in d.screen.query(CellPanel) if p.region for s in p.spots if p.read(s.ref) is not None]
                for matrix in d.screen.query(MatrixView):
                    if matrix.region and matrix.values is not None and matrix.refs is not None:
                        refs += [matrix.refs(i, j) for i in range(matrix.shape[0]) for j in range(matrix.shape[1])]
                numbers = {ValueRef(ref.name, ref.index, ref.t, d.session.position.tick) for ref in refs}
                for number in numbers - known:
                    assert d.session.derive(number).number is not None
                known |= numbers
        assert known


@pytest.mark.parametrize("size", SIZES, ids=["wide", "narrow", "tiny"])
async def test_the_characters_of_the_sequence_can_be_asked_in_every_form(size: tuple[int, int]) -> None:
    async with driving(size, text="MathMathMathMathMath" * 4, seq_length=12) as d:
        await d.type("s", "o", *("v" if size[0] == 40 else ""))
        sequence = d.screen.query_one(Sequence)
        assert {"x"} <= {spot.ref.name for spot in sequence.spots}
        sequence.focus()
        await d.type("enter")
        assert asked(d).name == "x"


async def test_what_is_not_computed_yet_says_so() -> None:
    async with driving() as d:
        await d.type("s")
        for matrix in d.screen.query(ValueMatrix):
            if matrix.value_name == "h":
                matrix.focus()
        await d.type("o", "enter")
        assert "h has not been computed yet" in d.says
        d.screen.query_one(LossTerms).focus()
        await d.type("enter")
        assert "term1 has not been computed yet" in d.says
        d.screen.query_one(Softmax).focus()
        await d.type("enter")
        assert "there is no number to ask about here" in d.says
        assert d.screen.overlay is None


async def test_the_curve_asks_for_the_loss_at_its_mark() -> None:
    async with driving() as d:
        curve = d.screen.query_one(LossCurve)
        curve.focus()
        await d.type("enter")
        assert d.says == "no loss has been computed yet; n runs a batch"
        await d.type("n", "enter")
        assert asked(d) == ValueRef("loss", (), None, d.session.position.tick)
        value = d.session.loss
        await d.type("escape", "s")
        curve.focus()
        await d.type("enter")
        panel = d.screen.overlay
        assert isinstance(panel, DerivationPanel)
        assert panel.leaf.root.value == value


async def test_panels_of_other_things_do_not_answer_for_the_line_at_work() -> None:
    async with driving() as d:
        await d.type("s", "p")
        d.screen.query_one(Samples).focus()
        await d.type("enter")
        assert d.says == "there is no number to ask about here; tab goes to the next panel"
        assert d.screen.overlay is None
