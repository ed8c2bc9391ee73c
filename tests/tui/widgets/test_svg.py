from tui_gru.tui.look.svg import mend

LINE = '<text class="r1" x="0" y="20" textLength="{}" clip-path="url(#line-0)">{}</text>'


def test_a_combining_character_takes_no_cell_and_is_not_clipped():
    mended = mend(LINE.format("60", "h\u0303&#160;=&#160;x"))
    assert 'textLength="50"' in mended
    assert "clip-path" not in mended
    assert ">h\u0303&#160;=&#160;x<" in mended


def test_all_else_is_left_alone():
    line = LINE.format("24.4", "&lt;ŷ")
    assert mend(line) == line
