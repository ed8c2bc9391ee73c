"""The screen on a GRU from a file: every panel and key for a model without a text, a loss and an update."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

import tui_gru
from tests.session.test_imported_derivations import of_a_module, of_a_recording, of_another_convention, of_tokens
from tests.tui.test_main_screen import Driver, driving_app
from tui_gru.session.session import Session
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import until_checked, until_idle
from tui_gru.tui.keys import execute
from tui_gru.tui.panel import SnapshotPanel
from tui_gru.tui.panels.imported import batch_size_in_cells, difference_shown, imported_sequence, worst_difference
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.sequence import Samples, Sequence
from tui_gru.tui.panels.time import Header, LossCurve
from tui_gru.tui.panels.values import Gates, LossTerms, Softmax, ValueMatrix
from tui_gru.tui.panels.weights import ParameterMatrix, WeightsPanel
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.theme import BLACKBOARD, palette_for

SIZES = [(160, 50), (120, 36), (80, 24), (40, 12)]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Session]:
    def opened(layers: int = 2, bidirectional: bool = True, **options: object) -> Session:
        torch.manual_seed(1)
        gru = torch.nn.GRU(3, 4, layers, bidirectional=bidirectional)
        torch.save(gru.state_dict(), tmp_path / "model.pt")
        x = torch.randn(6, 2, 3)
        expect = {} if options else {"expect": gru(x)[0].detach().numpy()}
        return tui_gru.load(tmp_path / "model.pt", inputs=x.numpy(), **expect, **options)

    return opened


def driving(session: Session, size: tuple[int, int] = (160, 50)) -> AbstractAsyncContextManager[Driver]:
    return driving_app(make_app(session), size)


def text_of(d: Driver, panel: type[Sequence]) -> str:
    return d.screen.query_one(panel).plain_text()


LENGTHS = {"layers": 1, "bidirectional": False, "lengths": [6, 3]}


@pytest.mark.parametrize(("size", "options"), list(zip(SIZES, [{}, LENGTHS, {}, LENGTHS], strict=True)), ids=str)
async def test_every_key_is_answered(opened: Callable[..., Session], size: tuple[int, int], options: dict[str, object]) -> None:
    """A panel that cannot draw, or a key that fails, writes a report, which fails the test."""
    async with driving(opened(**options), size) as d:
        for key in "sofnNeESOFvvvxxxrRLLzz":
            await d.type(key)
        await d.type(*"allpGbcC")
        for keys in ("B", "J", "escape n enter", "escape i", "escape tab tab enter", "escape k"):
            await d.type(*keys.split())
        await until_checked(d.pilot)
        await d.type("escape", "?", "escape", "q")


OTHERS = [of_another_convention, of_tokens, of_a_module, of_a_recording]


@pytest.mark.parametrize(
    ("size", "make"),
    list(zip([*SIZES[:3], SIZES[0]], OTHERS, strict=True)),
    ids=lambda each: getattr(each, "__name__", str(each)),
)
async def test_every_key_is_answered_in_other_imported_runs(
    tmp_path: Path, size: tuple[int, int], make: Callable[[Path], Session]
) -> None:
    """Drawn where the keys before it have come to; each single key is drawn above and in the soak."""
    async with driving(make(tmp_path), size) as d:
        for keys in ("s", "o", "nNe", "ESO", "v", "vv", "x", "xx", "r", "LL", "z", "z", "M"):
            await d.type(*keys)
        await d.type(":step phase", ":step -1 phase", ":go nan")
        for keys in (
            "o enter right", "escape s o o enter", "escape i", "escape tab tab enter", "escape r tab tab i", "escape tab i",
            "escape b c C B", "J", "escape e x x k",
        ):  # fmt: skip
            await d.type(*keys.split())
        await until_checked(d.pilot)
        await d.type("escape", "?", "escape", "q")


async def test_the_sequence_has_the_sizes_of_inputs_and_outputs(opened: Callable[..., Session]) -> None:
    session = opened()
    async with driving(session) as d:
        await d.type("n")
        lines = text_of(d, Sequence).splitlines()
        x = session.value("x", t=0)
        norm = f"{float((x[0] ** 2).sum()) ** 0.5:.2f}"
        row = next(line for line in lines if line.startswith("row 1"))
        assert row.replace("⋮", "").split()[:4] == ["row", "1", "|x|", norm]
        assert any(line.split()[:2] == ["off", "by"] for line in lines)


def test_rows_of_the_batch_stand_side_by_side_where_not_all_fit_below_each_other(opened: Callable[..., Session]) -> None:
    session = opened()
    session.step("timestep", 2)
    snapshot, palette = session.snapshot(), palette_for(BLACKBOARD)
    rows, each = snapshot.config.batch_size, batch_size_in_cells(palette, snapshot)
    assert rows > 1
    for width, height, shown in (
        (each.width, each.height, rows),
        (each.width, each.height - 1, rows - 1),
        (2 * each.width + 4, each.height - 1, rows),
    ):
        box = imported_sequence(palette, snapshot, None, width, height)
        assert box.width <= width
        assert box.height <= height
        assert len(re.findall(r"row \d", box.text)) == shown
        assert ("⋮" in box.text) is (shown < rows)


async def test_the_header_says_what_it_is(opened: Callable[..., Session]) -> None:
    async with driving(opened()) as d:
        await d.type("s")
        shown = "".join(segment.text for segment in d.screen.query_one(Header).render_line(0))
        assert "gru of model.pt" in shown
        assert "learning" not in shown
        assert "batch" not in shown


async def test_a_key_reads_the_file_in_the_other_convention(opened: Callable[..., Session]) -> None:
    async with driving(opened(layers=1, bidirectional=False)) as d:
        await d.type("4s")
        await d.type("M")
        assert d.says.startswith("read with reset before, z keeps: the output is not the expected one")
        assert "(r⊙hₜ₋₁) Uh" in d.screen.session.program_text()
        assert d.screen.session.position.t == 3
        await d.type("M", "M", "M")
        assert d.says.startswith("read with reset after, z keeps: the output is the expected one")


async def test_a_key_goes_to_the_first_number_that_is_not_finite(opened: Callable[..., Session]) -> None:
    async with driving(opened(layers=1, bidirectional=False, h0=[[[0.0] * 4, [float("inf")] * 4]])) as d:
        await d.type("n", ":go nan")
        assert d.says.startswith("the first number that is not finite is hₜ₋₁[row 2, unit 1] at t 1")


async def test_what_needs_training_is_refused_and_the_convention_is_said(opened: Callable[..., Session]) -> None:
    async with driving(opened()) as d:
        assert "the output is the expected one" in d.says
        for key, words in (("a", "without a head and a loss"), ("l", "without a head and a loss"), ("p", "nothing to sample")):
            await d.type(key)
            assert words in d.says, key
        execute(d.screen, ":set text[0] a")
        await until_idle(d.pilot)
        await d.pilot.pause()
        assert "text cannot be changed" in d.says


async def test_the_footer_has_no_word_for_what_this_run_refuses(opened: Callable[..., Session]) -> None:
    async with driving(opened()) as d:
        await d.type("escape")
        bottom = d.screen.query_one(BottomLine)
        words = bottom.render_line(bottom.size.height - 1).text.split()
        assert {"timestep", "explain", "quit"} <= set(words)
        assert not {"full", "learning", "sample"} & set(words)
        await d.type("a")
        assert "cannot be trained" in d.says


@pytest.mark.parametrize(("options", "title"), [({}, ", difference from the expected output"), ({"order": "rzn"}, ", weights")])
async def test_the_words_of_a_page_are_those_of_its_panels(
    opened: Callable[..., Session], options: dict[str, str], title: str
) -> None:
    async with driving(opened(**options), (80, 24)) as d:
        await d.type("v")
        assert d.says.startswith(f"page 2 of 3: gates{title} · 1: sequence")


@pytest.mark.parametrize("size", SIZES[:3], ids=str)
async def test_panels_that_a_model_does_not_fill_give_their_room_away(
    opened: Callable[..., Session], size: tuple[int, int]
) -> None:
    """A file has no loss, no gradient and no samples, and a prediction only if an output is expected."""
    async with driving(opened(layers=1, bidirectional=False, order="rzn"), size) as d:
        for page in range(d.screen.panels.pages):
            on_screen = {type(panel) for panel in d.screen.query(SnapshotPanel) if panel.is_on_screen}
            assert not on_screen & {LossTerms, LossCurve, Samples, Softmax}, page
            for panel in d.screen.query(Sequence):
                assert not panel.is_on_screen or panel.region.right == size[0]
            await d.type("v")
        await d.type("s", "M")  # the output of the first reading is expected
        assert d.screen.query_one(Softmax).plain_text()
        for panel in (LossTerms, LossCurve, Samples):
            assert not d.screen.query(panel)


@pytest.mark.parametrize("kind", [torch.nn.GRU, torch.nn.LSTM])
async def test_a_model_without_losses_gives_their_room_to_the_numbers_of_gates_and_weights(kind: type, tmp_path: Path) -> None:
    torch.save(kind(6, 16 if kind is torch.nn.GRU else 24).state_dict(), tmp_path / "model.pt")
    async with driving(tui_gru.load(tmp_path / "model.pt")) as d:
        await d.type("2s", "o")
        before, weights = d.screen.query_one(ValueMatrix), d.screen.query_one(ParameterMatrix)
        written = [len(re.findall(r"\d\.\d+|\de-\d", panel.plain_text())) for panel in (before, weights)]
        assert d.screen.query_one(Gates).region.bottom == weights.region.y
        if kind is torch.nn.GRU:
            assert written == [2 * 16, 6 * 16]
        else:  # too wide for numbers: the gates take a row each, and the weights what they leave
            assert before.mapped
            assert weights.size.height >= 8


async def test_the_difference_from_the_expected_output_has_rows(opened: Callable[..., Session]) -> None:
    async with driving(opened(layers=1, bidirectional=False)) as d:
        await d.type("n")
        panel = d.screen.query_one(Softmax)
        assert panel.size.height >= 2
        assert len(re.findall(r"(?m)^t \d ", panel.plain_text())) >= 2


async def test_panels_come_with_a_session_that_fills_them(opened: Callable[..., Session]) -> None:
    async with driving(opened(layers=1, bidirectional=False)) as d:
        gates = d.screen.query_one(Gates).size.height
        d.screen.session = Session()
        d.screen.show_now()
        await until_idle(d.pilot)
        await d.pilot.pause()
        assert [type(panel) for panel in d.screen.query("#middle > *")] == [Softmax, LossCurve]
        assert [type(panel) for panel in d.screen.query("#bottom > *")] == [WeightsPanel]
        await d.type("p")
        assert [type(panel) for panel in d.screen.query("#program > *") if panel.size.width] == [Listing, Samples]
        assert all(panel.size.width for panel in d.screen.query("#middle > *, #bottom > *, #top > *"))
        assert d.screen.query_one(Gates).size.height <= gates


async def test_zoomed_the_difference_is_shown_number_by_number(opened: Callable[..., Session]) -> None:
    session = opened(layers=1, bidirectional=False, z="takes", expect=np.ones((6, 2, 4), np.float32))
    async with driving(session) as d:
        await d.type("n", "M")
        d.screen.query_one(Softmax).focus()
        await d.type("z")
        session = d.screen.session
        h, t = session.value("h"), session.position.t
        off = h - session.config.source.batches[0].expected[t]
        row, unit = np.unravel_index(np.abs(off).argmax(), off.shape)
        lines = iter(d.screen.query_one(Softmax).plain_text().splitlines())
        assert any(line.split()[-4:] == ["here", "expected", "off", "by"] for line in lines)
        numbers = f"{h[row, unit]:+.4f} +1.0000 {off[row, unit]:+.1e}"
        assert next(lines).partition("h[")[2].split() == f"row {row + 1}, unit {unit + 1}] {numbers}".split()


def test_a_difference_is_told_in_four_cells() -> None:
    shown = {0.0: "0", 5e-10: "~0", 1e-9: "1e-9", 3e-7: "3e-7", 0.25: "2e-1", np.nan: "nan"}
    assert {number: difference_shown(number) for number in shown} == shown


@pytest.mark.parametrize(
    ("here", "there", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([np.nan, 2.0], [np.nan, 2.5], 0.5),
        ([np.nan, 2.0], [1.0, 2.0], np.nan),
        ([np.nan, np.nan], [np.nan, np.nan], np.nan),
        ([np.inf, 2.0], [np.inf, 2.0], np.nan),
    ],
)
def test_a_difference_between_numbers_that_are_not_known_is_not_zero(
    here: list[float], there: list[float], difference: float
) -> None:
    np.testing.assert_equal(worst_difference(np.array(here), np.array(there)), difference)
