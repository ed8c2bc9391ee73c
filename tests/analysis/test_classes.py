"""Classes of characters, by name or by the characters themselves, and invalid ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_gru import TuiGruError
from tui_gru.analysis.units import CLASSES, class_of

TEXT = 'He said: "No, (not [42])".\n\n    x = "a\n\nb" + 7'
EXPECTED = {
    "spaces": " " * 12,
    "newlines": "\n\n\n\n",
    "letters": "HesaidNonotxab",
    "capitals": "HN",
    "vowels": "eaiooa",
    "digits": "427",
    "quotes": '""""',
    "brackets": "([])",
    "punctuation": ':",([])".""',
    "first-letters": 'Hs"([x="b+7',
    "in-words": "eaidoot",
    "indentation": "    ",
    "in-quotes": "No, (not [42])a + 7",  # an unclosed quotation ends with its paragraph
    "in-brackets": "not [42]",
}


def chosen(typed, text=TEXT):
    return "".join(char for char, belongs in zip(text, class_of(typed).mask(text), strict=True) if belongs)


@pytest.mark.parametrize("name", CLASSES)
def test_every_named_class(name):
    assert chosen(name) == EXPECTED[name]


def test_there_is_an_example_of_every_class():
    assert EXPECTED.keys() == CLASSES.keys()


@given(st.text(max_size=30))
def test_every_class_has_an_answer_for_every_character_of_any_text(text):
    for each in CLASSES.values():
        assert each.mask(text).shape == (len(text),)
        assert each.mask(text).dtype == bool


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("digit", "digits"),
        ("Digits", "digits"),
        (" in quotes ", "in-quotes"),
        ("first_letters", "first-letters"),
        ("space", "spaces"),
    ],
)
def test_spellings_of_a_name(typed, name):
    assert class_of(typed) is CLASSES[name]


@pytest.mark.parametrize(
    ("typed", "belong"),
    [
        ("ad", "ada"),
        ("[digits]", "sidt"),
        ("=+", "=+"),
        ("\\n", "\n\n\n\n"),
        ("x\\n\\\\", "\n\nx\n\n"),
        (" ", " " * TEXT.count(" ")),
        ("[]", "[]"),
        ('"', '""""'),
    ],
)
def test_the_characters_themselves(typed, belong):
    assert chosen(typed) == belong


def test_the_name_of_a_set_can_be_read():
    assert class_of("a \n").name == "[a␣⏎]"
    assert class_of("[]").name == "[[]]"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("digts", r"there is no class 'digts'; did you mean digits\? write \[digts\]"),
        ("Capitols", "did you mean capitals"),
        ("", "type the name of a class, or characters; the classes are spaces, newlines"),
    ],
)
def test_what_is_refused(typed, message):
    with pytest.raises(TuiGruError, match=message):
        class_of(typed)
