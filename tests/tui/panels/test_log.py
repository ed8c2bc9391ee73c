import pytest

from tests.tui.panels.sessions import at, with_state
from tui_gru.debugger.stops import LogLine
from tui_gru.tui.panel import View
from tui_gru.tui.panels.listing import Log

TICKS = [at("loss", batch=batch).position.tick for batch in range(40)]
LINES = tuple(LogLine(tick, 1, f"loss of batch {batch}") for batch, tick in enumerate(TICKS))


@pytest.fixture
def panel():
    log = Log()
    log.styles.width, log.styles.height = 48, "auto"
    log.styles.max_height = 8
    return log


async def shown(pilot, panel, snapshot, log=LINES):
    panel.show(with_state(snapshot, log=log), View())
    for _ in range(3):
        await pilot.pause()
    return [panel.render_line(y).text.rstrip(" ") for y in range(panel.content_size.height)]


async def test_each_line_with_its_place_and_an_arrow_at_the_last_passed(board, panel):
    async with board(panel).run_test(size=(60, 12)) as pilot:
        assert await shown(pilot, panel, at("z", 0), ()) == ["nothing logged yet"]
        lines = await shown(pilot, panel, at("loss", batch=1), LINES[:3])
        assert lines == ["  e1 b1 t3  loss of batch 0", "▶ e1 b2 t3  loss of batch 1", "  e1 b3 t3  loss of batch 2"]
        assert panel.size.height == 3
        assert next(iter(panel.render_line(1))).style == panel.rich_style + panel.palette.line
        lines = await shown(pilot, panel, at("z", 0, batch=2), LINES[:3])
        assert lines[1] == "▶ e1 b2 t3  loss of batch 1"
        assert next(iter(panel.render_line(1))).style.color == panel.palette.plain.color
        ahead = list(panel.render_line(2))[1]
        assert (ahead.text, ahead.style.color) == ("loss of batch 2", panel.palette.dim.color)


async def test_where_one_is_is_in_view_wherever_one_goes(board, panel):
    async with board(panel).run_test(size=(60, 12)) as pilot:
        for batch in (39, 20, 0, 38, 3):
            lines = await shown(pilot, panel, at("loss", batch=batch))
            assert sum(f"loss of batch {batch}" == line[12:].strip("▁▂▃▄▅▆▇█ ").strip() for line in lines) == 1, (batch, lines)
            assert panel.vertical_scrollbar.position == panel.scroll_offset.y
        assert str(panel.border_subtitle) == "40 lines"


def test_a_text_that_would_break_the_screen_is_written_out_and_cut(content):
    logged = with_state(at("loss"), log=(LogLine(TICKS[0], 1, "[b]\x1b" + "日本" * 20),))
    assert content(Log(), logged, 44, 6).lines == ["▶ e1 b1 t3  [b]␛日本日本日本日本日本日本日…"]


def test_of_a_long_log_only_what_is_near_is_kept_at_hand(content):
    logged = with_state(at("loss", batch=20), log=tuple(LogLine(tick, 1, str(tick)) for tick in range(5000)))
    drawn = content(Log(), logged, 44, 6)
    assert any(line.startswith("▶") and str(TICKS[20]) in line for line in drawn.lines)
    assert len(drawn.lines) == 400
    assert drawn.note == "5,000 lines"
