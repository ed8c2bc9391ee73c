"""Features of a text: classes of characters, by name or by the characters themselves, numbers, and invalid ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_gru import TuiGruError
from tui_gru.analysis.units import CLASSES, FEATURES, feature_of

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
    return "".join(char for char, belongs in zip(text, feature_of(typed).values(text), strict=True) if belongs)


@pytest.mark.parametrize("name", CLASSES)
def test_every_named_class(name):
    assert chosen(name) == EXPECTED[name]


def test_there_is_an_example_of_every_class():
    assert EXPECTED.keys() == CLASSES.keys()


NUMBERS = {
    #                   a b \n ( x [ 1 ] , " )   A b " \n
    "line-position":   [1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0],
    "word-position":   [1, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0],
    "since-space":     [1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 0],
    "since-quote":     [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 0, 1],
    "bracket-depth":   [0, 0, 0, 0, 1, 1, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0],
    "next-spaces":     [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
    "next-newlines":   [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    "next-letters":    [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0],
    "next-capitals":   [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
    "next-vowels":     [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
    "next-digits":     [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "next-quotes":     [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0],
    "next-punctuation": [0, 0, 1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0],
    "after-spaces":    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
    "after-newlines":  [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "after-letters":   [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0],
    "after-capitals":  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    "after-vowels":    [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    "after-digits":    [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    "after-quotes":    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
    "after-punctuation": [0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 1],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FEATURES.keys() - CLASSES.keys()))
def test_every_feature_that_is_no_class(name):
    text = 'ab\n(x[1],") Ab"\n'
    assert feature_of(name).values(text).tolist() == NUMBERS[name]
    assert feature_of(name).values(tuple(text)).tolist() == NUMBERS[name]


def test_a_feature_counts_a_hundred_characters_at_most():
    assert feature_of("line-position").values("a" * 300).tolist() == [min(i + 1, 100) for i in range(300)]
    assert feature_of("word-position").values("a" * 300).max() == 100


@given(st.text(max_size=30))
def test_every_feature_has_a_number_for_every_character_of_any_text(text):
    for each in FEATURES.values():
        assert each.values(text).shape == (len(text),)
        assert np.isfinite(each.values(text).astype(float)).all()


@given(st.text(max_size=30))
def test_every_class_has_an_answer_for_every_character_of_any_text(text):
    for each in CLASSES.values():
        assert each.values(text).shape == (len(text),)
        assert each.values(text).dtype == bool


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("digit", "digits"),
        ("Digits", "digits"),
        (" in quotes ", "in-quotes"),
        ("first_letters", "first-letters"),
        ("space", "spaces"),
        ("next vowel", "next-vowels"),
        ("bracket depth", "bracket-depth"),
    ],
)
def test_spellings_of_a_name(typed, name):
    assert feature_of(typed) is FEATURES[name]


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
    assert feature_of("a \n").name == "[a␣⏎]"
    assert feature_of("[]").name == "[[]]"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("digts", r"there is no feature 'digts'; did you mean digits\? write \[digts\]"),
        ("Capitols", "did you mean capitals"),
        ("", "type the name of a feature, or characters; the features are spaces, newlines"),
    ],
)
def test_what_is_refused(typed, message):
    with pytest.raises(TuiGruError, match=message):
        feature_of(typed)
