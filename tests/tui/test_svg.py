import re

from tui_gru.tui.export import mend

LINE = '<text class="r1" x="6" y="20" textLength="{}" clip-path="url(#line-0)">{}</text>'


def pieces(content, cells):
    """The texts of a corrected line of cells 10 wide, each with its left edge and its width."""
    drawn = re.findall(r'x="([^"]*)".*?textLength="([^"]*)".*?>([^<]*)<', mend(LINE.format(cells * 10, content)))
    return [(text, float(x), float(width)) for x, width, text in drawn]


def test_a_text_has_its_place_without_the_spaces_around_it():
    assert pieces("&#160;epoch&#160;1&#160;&#160;of&#160;", 13) == [("epoch&#160;1", 16, 70), ("of", 106, 20)]


def test_a_combining_character_takes_no_cell_and_is_not_clipped():
    assert pieces("dh\u0303&#160;=&#160;x", 7) == [("d", 6, 10), ("h\u0303", 16, 10), ("=&#160;x", 36, 30)]
    assert "clip-path" not in mend(LINE.format(20, "h\u0303"))
    assert "clip-path" in mend(LINE.format(10, "h"))


def test_a_sign_that_a_font_may_draw_wider_is_fitted_into_its_cell():
    assert pieces("①&lt;②", 3) == [("①", 6, 10), ("&lt;", 16, 10), ("②", 26, 10)]
    assert mend(LINE.format(10, "①")).count('lengthAdjust="spacingAndGlyphs"') == 1


def test_a_long_line_of_a_frame_is_placed_in_parts():
    assert pieces("─" * 40, 40) == [("─" * 16, 6, 160), ("─" * 16, 166, 160), ("─" * 8, 326, 80)]


def test_the_colour_and_the_height_stay():
    assert mend(LINE.format(20, "ab")) == LINE.format(20, "ab")
