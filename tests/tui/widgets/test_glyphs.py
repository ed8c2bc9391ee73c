import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_gru.tui.glyphs import ASCII, H_TILDE, UNICODE, glyphs_for, transliterate


def signs(glyphs):
    for name, value in glyphs._asdict().items():
        if name != "name" and not isinstance(value, bool):
            yield from [(name, value)] if isinstance(value, str) else [(name, one) for one in value]


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=lambda g: g.name)
def test_every_sign_is_one_cell(glyphs):
    for name, sign in signs(glyphs):
        expected = 2 if glyphs is ASCII and name in ("h_tilde", "y_hat") else 1
        assert cell_len(sign) == expected, name


def test_ascii_signs_are_ascii():
    assert all(sign.isascii() for _, sign in signs(ASCII))


def test_h_tilde_is_one_cell_of_two_code_points():
    assert len(H_TILDE) == 2
    assert cell_len(H_TILDE) == 1


def test_formula_in_ascii():
    assert transliterate(f"{H_TILDE} = tanh(x Wh + (r⊙h) Uh)ᵀ", ASCII) == "h~ = tanh(x Wh + (r*h) Uh)T"
    assert transliterate("ŷ − y → ⎛0.5⎞", ASCII) == "y^ - y > (0.5)"


@given(st.text())
def test_ascii_rendition_is_ascii_and_keeps_the_width(text):
    plain = transliterate(text, ASCII)
    assert plain.isascii()
    if not any(wider in text for wider in (H_TILDE, "ŷ")) and text.isprintable():
        assert cell_len(plain) == sum(cell_len(sign) for sign in text)


@given(st.text())
def test_unicode_rendition_is_the_text_itself(text):
    assert transliterate(text, UNICODE) is text


@pytest.mark.parametrize(
    ("encoding", "glyphs"),
    [("utf-8", UNICODE), ("UTF8", UNICODE), ("utf_16", UNICODE), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII)],
)
def test_choice_by_encoding(encoding, glyphs):
    assert glyphs_for(encoding) is glyphs
