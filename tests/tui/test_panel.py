import pytest
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView

from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.draw import text_box
from tui_gru.tui.headless import headless, until_idle
from tui_gru.tui.panel import Panel
from tui_gru.tui.terminal import drawn_lines
from tui_gru.tui.theme import ASCII


class Page(Panel):
    DEFAULT_CSS = "Page { width: 20; height: 6; }"

    def __init__(self, content="one"):
        super().__init__()
        self.content, self.builds, self.rows = content, [], []

    def build(self, width, height):
        self.builds.append((width, height))
        return text_box(self.palette, self.content)

    def render_line(self, y):
        self.rows.append(y)
        return super().render_line(y)


def shown(panel):
    return [panel.render_line(y).text for y in range(panel.content_size.height)]


async def test_content_is_built_once_until_something_changes(board):
    page = Page()
    async with board(page).run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        assert page.builds == [(16, 4)]
        page.refresh()
        await pilot.pause()
        assert len(page.builds) == 1
        page.refresh_content()
        assert len(page.builds) == 2
        await pilot.pause()
        assert len(page.builds) == 2
        page.styles.width = 30
        await pilot.pause()
        assert page.builds[2:] == [(26, 4)]
        pilot.app.theme = "whiteboard"
        await pilot.pause()
        assert len(page.builds) == 4


async def test_a_panel_out_of_sight_builds_nothing(board):
    page = Page()
    page.display = False
    async with board(page).run_test(size=(40, 12)) as pilot:
        page.refresh_content()
        await pilot.pause()
        assert page.builds == []


async def test_content_that_fits_has_no_scroll_bars_and_larger_content_scrolls(board):
    page = Page("one\ntwo")
    async with board(page).run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        assert not page.show_vertical_scrollbar
        page.content = "\n".join(f"line {i} which is rather long" for i in range(9))
        page.refresh_content()
        await pilot.pause()
        assert page.show_vertical_scrollbar
        assert page.show_horizontal_scrollbar
        page.focus()
        await pilot.press("end")
        await pilot.wait_for_scheduled_animations()
        assert page.scroll_offset.y > 0
        page.content = "short"
        page.refresh_content()
        await pilot.pause()
        assert not page.show_vertical_scrollbar
        assert page.scroll_offset == (0, 0)
        assert shown(page)[0].rstrip() == "short"


async def test_titles_are_never_markup_and_the_same_titles_draw_nothing(board, monkeypatch):
    page = Page()
    async with board(page, glyphs=ASCII).run_test(size=(40, 12)):
        page.set_titles("[red]h\u0303[/]", Content("[1, 2] = 3"))
        assert Content.from_markup(page.border_title).plain == "[red]h_tilde[/]"
        assert page.subheading == "[1, 2] = 3"
        drawn = []
        monkeypatch.setattr(page, "refresh", lambda *_, **__: drawn.append(page.heading))
        page.set_titles("[red]h\u0303[/]", Content("[1, 2] = 3"))
        assert drawn == []
        page.set_titles("z")
        assert set(drawn) == {"z"}


@pytest.mark.parametrize("lines", [1, 3])
async def test_auto_height_is_that_of_the_content(board, lines):
    page = Page("\n".join("x" * lines))
    page.styles.height = "auto"
    async with board(page).run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        assert page.content_size == Size(16, lines)


async def test_rows_are_kept_in_view_with_as_little_scrolling_as_it_takes(board):
    page = Page("\n".join(f"line {i}" for i in range(20)))
    async with board(page).run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        seen = []
        for first, last in ((0, 1), (5, 6), (4, 6), (3, 3), (18, 19), (2, 9)):
            page.scroll_to_rows(first, last)
            await pilot.pause()
            seen.append(page.scroll_offset.y)
        assert seen == [0, 3, 3, 3, 16, 2]


async def test_only_the_rows_that_differ_are_drawn(board):
    page = Page("one\ntwo\nthree")
    async with board(page).run_test(size=(40, 12)) as pilot:

        async def drawn():
            await pilot.pause()
            drawn_lines(pilot.app.screen)
            rows, page.rows = page.rows, []
            return rows

        await drawn()
        page.content = "one\nzwei\nthree\nfour"
        page.refresh_content()
        assert await drawn() == [1, 3]
        page.refresh_content()
        assert await drawn() == []
        page.set_titles("a title", "a subtitle")
        assert await drawn() == []
        page.refresh()
        assert await drawn() == [0, 1, 2, 3]
        assert [line.rstrip() for line in shown(page)] == ["one", "zwei", "three", "four"]


@pytest.mark.parametrize(
    ("theme", "ascii", "variables"),
    [
        ("blackboard", False, {}),
        ("whiteboard", True, {}),
        ("ansi-dark", False, {}),
        ("nord", False, {}),
        ("blackboard", False, {"NO_COLOR": "1"}),
        ("ansi-light", False, {"NO_COLOR": "1"}),
    ],
)
async def test_rows_are_drawn_as_textual_draws_them(theme, ascii, variables, monkeypatch):
    """Both are drawn: what the keys have left, and then everything anew, by Textual."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = make_app(Config.of(), theme=theme, ascii=ascii)
    async with headless(app, (120, 36)) as pilot:
        for keys in ("oos", "sn", ["tab", "down", "z", "right"], ["z", "tab", "r", "a"], ["h", "down"], ["escape", "!", "down"]):
            for key in keys:  # each is drawn
                await pilot.press(key)
                await until_idle(pilot)
            await pilot.pause()
            panels = [panel for panel in app.screen.query(Panel) if panel.region]
            assert panels
            drawn = [lines(panel.render_lines(panel.outer_size.region)) for panel in panels]
            for panel in panels:
                panel.refresh()
            assert drawn == [lines(ScrollView.render_lines(panel, panel.outer_size.region)) for panel in panels]


def lines(strips):
    return [[(segment.text, segment.style) for segment in strip.simplify()] for strip in strips]


async def test_what_changed_out_of_sight_is_drawn_when_it_is_shown_again(board):
    page = Page("one")
    async with board(page).run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        page.display = False
        await pilot.pause()
        page.content = "two"
        page.refresh_content()
        await pilot.pause()
        page.rows.clear()
        page.display = True
        await pilot.pause()
        drawn_lines(pilot.app.screen)
        assert page.rows == [0, 1, 2, 3]
        assert shown(page)[0].rstrip() == "two"


async def test_keys_alone_are_followed_by_the_line_of_the_border_to_its_end(board):
    panel = Page()
    panel.styles.width, panel.styles.height = 40, 5
    async with board(panel).run_test(size=(40, 5)) as pilot:
        for data, end in ((None, "─" * 20 + "╯"), ("data", "─ data ─╯"), (None, "─" * 20 + "╯")):
            panel.set_titles("a title", data, keys="i what if")
            await pilot.pause()
            below = "".join(segment.text for segment in drawn_lines(panel.screen)[4])
            assert below.startswith("╰─ i what if ─")
            assert below.endswith(end)
