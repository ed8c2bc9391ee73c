import pytest

from tests.tui.panels.sessions import at, every_line, large, start, with_state
from tui_gru.debugger.stops import Breakpoint, Stops
from tui_gru.tui.panel import Panel, View
from tui_gru.tui.panels.listing import Listing, arrow_row, folded_rows
from tui_gru.tui.theme import ASCII, UNICODE


class Heard(Listing):
    """A listing that stores the lines that were clicked."""

    DEFAULT_CSS = "Heard { width: 48; height: 36; }"

    def __init__(self):
        super().__init__()
        self.chosen, self.beside = [], []

    def on_request(self, message):
        {"line": self.chosen, "line.gutter": self.beside}[message.name].extend(message.arguments)


def with_stops(snapshot, *breakpoints):
    return with_state(snapshot, stops=Stops(breakpoints))


def lines_of(panel):
    return [panel.render_line(y).text.rstrip() for y in range(panel.content_size.height)]


async def shown(pilot, panel, snapshot):
    panel.show(snapshot, View())
    await pilot.pause()
    await pilot.pause()
    return lines_of(panel)


async def test_at_the_start_the_arrow_is_at_the_top(board):
    panel = Heard()
    async with board(panel).run_test(size=(60, 40)) as pilot:
        lines = await shown(pilot, panel, start())
        assert lines[0] == " ▶ for epoch in 1, 2, …:               epoch 1"
        assert lines[3] == "     for t in 1…3:"
        assert panel.subheading == "42 lines"


async def test_the_line_just_executed(board):
    panel = Heard()
    async with board(panel).run_test(size=(60, 40)) as pilot:
        lines = await shown(pilot, panel, with_stops(at("h_tilde", 1), Breakpoint(1, "r"), Breakpoint(2, "h_tilde")))
        assert lines[3:8] == [
            "     for t in 1…3:                         t 2",
            " │    z = σ(x Wz + hₜ₋₁ Uz + bz)",
            "●│    r = σ(x Wr + hₜ₋₁ Ur + br)",
            "●▶    h̃ = tanh(x Wh + (r⊙hₜ₋₁) Uh + bh)",
            "      h = z⊙hₜ₋₁ + (1 − z)⊙h̃",
        ]
        assert panel.subheading == "line 3 of 42"
        assert all("●" not in line for line in await shown(pilot, panel, at("h_tilde", 1)))


async def test_the_timestep_is_said_by_the_loop_one_is_in(board):
    panel = Heard()
    async with board(panel).run_test(size=(60, 60)) as pilot:
        panel.styles.height = 58
        for target, t, heading in (("z", 1, "for t in 1…3:"), ("dz", 0, "for t in 3…1:")):
            lines = [line for line in await shown(pilot, panel, at(target, t)) if line.endswith(f" t {t + 1}")]
            assert [heading in line for line in lines] == [True]
        assert not any(line.endswith(" t 3") for line in await shown(pilot, panel, at("loss")))


def test_what_is_folded_is_written_once_for_all_lines():
    program = start().program
    one, other = ([row for row in folded_rows(program, arrow) if row.lines > 1] for arrow in (0, 5))
    assert len(one) == 2
    assert all(row is again for row, again in zip(one, other, strict=True))


@pytest.mark.parametrize("size", [(14, 4), (24, 5), (40, 10), (48, 36), (48, 60)])
@pytest.mark.parametrize("carry", ["notebook", "reset"])
async def test_the_arrow_is_in_view_with_context(board, size, carry):
    panel = Heard()
    panel.styles.width, panel.styles.height = size
    async with board(panel).run_test(size=(60, 64)) as pilot:
        for snapshot in list(every_line(carry=carry, reset="after"))[::7]:
            lines = await shown(pilot, panel, snapshot)
            place = next(i for i, line in enumerate(lines) if "▶" in line)
            rows = folded_rows(snapshot.program, arrow_row(snapshot))
            index = next(i for i, folded in enumerate(rows) if folded.row.line is snapshot.line)
            assert panel.scroll_offset.y + place == index
            context = min(4, (size[1] - 3) // 2)
            assert place >= min(context, index)
            assert len(lines) - 1 - place >= min(context, len(rows) - 1 - index)
            assert max(map(len, lines)) <= size[0] - 2 + 3  # three combining characters take no cell
            assert not panel.show_horizontal_scrollbar


async def test_it_scrolls_back_where_time_goes_back(board):
    panel = Heard()
    panel.styles.height = 12
    async with board(panel).run_test(size=(60, 40)) as pilot:
        await shown(pilot, panel, at("Wz"))
        assert "▶   Wz −= η⊙dWz" in "\n".join(lines_of(panel))
        assert "▶" in (await shown(pilot, panel, start()))[0]


async def test_a_click_chooses_a_line_and_a_heading_none(board):
    panel = Heard()
    panel.styles.height = 12
    async with board(panel).run_test(size=(60, 40)) as pilot:
        await shown(pilot, panel, start())
        for y in (4, 3, 30):
            await pilot.click(panel, offset=(12, 1 + y))
        await shown(pilot, panel, at("by"))
        await pilot.click(panel, offset=(12, 10))
        assert panel.chosen == ["z", "by"]


async def test_a_click_beside_a_line_is_for_its_breakpoint(board):
    panel = Heard()
    async with board(panel).run_test(size=(60, 40)) as pilot:
        await shown(pilot, panel, start())
        for x, y in ((1, 4), (2, 5), (3, 6), (1, 3)):
            await pilot.click(panel, offset=(x, 1 + y))
        assert panel.beside == ["z", "r"]
        assert panel.chosen == ["h_tilde"]


STOPS = (
    Breakpoint(1, "z"),
    Breakpoint(2, "r", enabled=False),
    Breakpoint(3, "h_tilde", condition="any(h > 0.9)"),
    Breakpoint(4, "h", hits="%5"),
    Breakpoint(5, "logits", log="{loss}"),
    Breakpoint(6, "y_hat", log="{loss}", enabled=False),
    Breakpoint(7, "term1", condition="loss < 1", enabled=False),
    Breakpoint(8, "", condition="loss < 1"),
)


@pytest.mark.parametrize(("glyphs", "signs"), [(UNICODE, "●○◐◐◆◇○ "), (ASCII, "*o%%+-o ")], ids=["unicode", "ascii"])
async def test_each_kind_of_stop_has_a_sign(board, glyphs, signs):
    panel = Heard()
    async with board(panel, glyphs=glyphs).run_test(size=(60, 40)) as pilot:
        lines = await shown(pilot, panel, with_stops(at("h", 1), *STOPS))
        assert "".join(line[0] for line in lines[4:12]) == signs
        colours = [next(iter(panel.render_line(y))).style.color for y in range(4, 11)]
        on, off = panel.palette.warning.color, panel.palette.dim.color
        assert colours == [on, off, on, on, on, off, off]


async def test_of_several_stops_on_a_line_the_one_that_stops_is_seen(board):
    panel = Heard()
    stops = (Breakpoint(1, "z", log="{z}"), Breakpoint(2, "z", condition="t == 2"), Breakpoint(3, "z", enabled=False))
    async with board(panel).run_test(size=(60, 40)) as pilot:
        for count, sign in ((1, "◆"), (2, "◐"), (3, "◐")):
            assert (await shown(pilot, panel, with_stops(start(), *stops[:count])))[4][0] == sign
        await pilot.hover(panel, offset=(2, 1 + 4))
        said = ["log point 1 on z: {z}", "breakpoint 2 on z if t == 2", "breakpoint 3 on z, disabled"]
        assert panel.tooltip.plain.split("\n") == said
        await pilot.hover(panel, offset=(2, 1 + 5))
        assert panel.tooltip.plain == "click to set a breakpoint"


async def test_a_line_that_is_cut_is_said_under_the_mouse_and_what_it_is_for(board):
    panel = Heard()
    panel.styles.width = 28
    async with board(panel).run_test(size=(60, 40)) as pilot:
        lines = await shown(pilot, panel, at("h_tilde", 1))
        assert lines[6].endswith("…")
        await pilot.hover(panel, offset=(10, 1 + 6))
        assert panel.tooltip.plain.split("\n") == [
            "h̃ = tanh(x Wh + (r⊙hₜ₋₁) Uh + bh)",
            "candidate: what the new state could be",
        ]
        await pilot.hover(panel, offset=(10, 1 + 1))
        assert panel.tooltip is None


async def test_without_learning_what_comes_after_the_loss_is_quiet(board):
    panel = Heard()
    async with board(panel).run_test(size=(60, 40)) as pilot:
        for learning in (False, True):
            await shown(pilot, panel, at("z", 0, learning=learning))
            styles = {segment.style.color for segment in panel.render_line(16) if segment.text.strip().startswith("dh")}
            assert ({panel.palette.dim.color} == styles) == (not learning)


async def test_an_empty_panel(board):
    panel = Heard()
    async with board(panel).run_test(size=(60, 40)):
        assert isinstance(panel, Panel)
        assert not any(lines_of(panel))


async def test_a_large_model(board):
    panel = Heard()
    async with board(panel).run_test(size=(60, 40)) as pilot:
        lines = await shown(pilot, panel, at("z", 4, make=large))
        assert panel.subheading.startswith("line 1 of ")
        assert any(line.endswith(" lines") for line in lines)


async def test_what_is_done_for_every_parameter_is_one_row_until_one_is_there(board):
    panel = Heard()
    panel.styles.height = 54
    async with board(panel).run_test(size=(60, 56)) as pilot:
        lines = await shown(pilot, panel, with_stops(at("dh", 1), Breakpoint(1, "dUr")))
        gradients = next(line for line in lines if "dWz" in line)
        assert gradients == "●     dWz dWr dWh dUz … dby += …      11 lines"
        assert [line for line in lines if "−= " in line] == ["     Wz Wr Wh Uz … by −= η⊙d…         11 lines"]
        assert len(list(filter(None, lines))) == 27
        inside = await shown(pilot, panel, at("dUr", 1))
        assert sum("+= " in line for line in inside) == 11
        assert sum("−= " in line for line in inside) == 1


@pytest.mark.parametrize("width", [40, 48])
async def test_the_line_of_the_four_paths_is_whole(board, width):
    panel = Heard()
    panel.styles.width = width
    async with board(panel).run_test(size=(60, 40)) as pilot:
        lines = await shown(pilot, panel, at("dh_prev", 1))
        assert any(line.replace(" ", "").endswith("dhₜ₋₁=dh⊙z+drh⊙r+dazUzᵀ+darUrᵀ") for line in lines)
