import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_gru.debugger.program import program_of, shown_char
from tui_gru.engine.config import Config
from tui_gru.equations.page import names_of
from tui_gru.tui.theme import ASCII, UNICODE, flattened, glyphs_for, operator, transliterate, written_char


def signs(glyphs):
    for name, value in glyphs._asdict().items():
        if name != "name" and not isinstance(value, bool):
            yield from [(name, value)] if isinstance(value, str) else [(name, one) for one in value]


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=lambda g: g.name)
def test_every_sign_is_one_cell(glyphs):
    for name, sign in signs(glyphs):
        assert cell_len(sign) == 1, name


def test_ascii_signs_are_ascii():
    assert all(sign.isascii() for _, sign in signs(ASCII))


def test_a_formula_in_ascii_is_written_as_it_is_typed():
    assert transliterate("h\u0303 = tanh(x Wh + (r⊙hₜ₋₁) Uh)ᵀ", ASCII) == "h_tilde = tanh(x Wh + (r*h_prev) Uh).T"
    assert transliterate("ŷ − y → ⎛0.5⎞", ASCII) == "y_hat - y > (0.5)"
    assert transliterate("② = Σ ① over the vocabulary", ASCII) == "term2 = sum term1 over the vocabulary"
    assert transliterate("z = σ(x Wz)", ASCII) == "z = sigmoid(x Wz)"
    assert transliterate("dhₜ₋₁ dh← dh̃ η⊙dWz", ASCII) == "dh_prev dh_future dh_tilde learning_rate*dWz"
    assert transliterate("−1.5·0.25 + ŷ/(B·T) · x", ASCII) == "-1.5*0.25 + y_hat/(B*T) . x"
    assert [operator(sign, ASCII) for sign in ("σ", "Σ", "ᵀ", "⊙", "tanh")] == ["sigmoid", "sum", ".T", "*", "tanh"]
    assert [operator(sign, UNICODE) for sign in ("σ", "Σ", "ᵀ", "⊙")] == ["σ", "Σ", "ᵀ", "⊙"]


@pytest.mark.parametrize("cell", names_of("cell"))
def test_names_in_ascii_are_those_of_the_code(cell):
    program = program_of(Config.of(cell=cell, layers=2, optimizer="adam"))
    for name in program.names:
        shown = program.writer.name(name)
        assert transliterate(shown, ASCII) in (name, shown)
        assert program.code_name(transliterate(shown, ASCII)) == name


@given(st.text())
def test_ascii_rendition_is_ascii_and_a_users_own_text_keeps_its_width(text):
    assert transliterate(text, ASCII).isascii()
    plain = "".join(written_char(char, ASCII) for char in text)
    assert plain.isascii()
    assert cell_len(plain) == sum(cell_len(shown_char(char)) for char in text)


@given(st.text())
def test_what_is_flattened_keeps_its_width(text):
    assert flattened(text).isascii()
    if text.isprintable():
        assert cell_len(flattened(text)) == sum(cell_len(sign) for sign in text)


@given(st.text())
def test_unicode_rendition_is_the_text_itself(text):
    assert transliterate(text, UNICODE) is text


@pytest.mark.parametrize(
    ("encoding", "glyphs"),
    [("utf-8", UNICODE), ("UTF8", UNICODE), ("utf_16", UNICODE), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII)],
)
def test_choice_by_encoding(encoding, glyphs):
    assert glyphs_for(encoding) is glyphs
