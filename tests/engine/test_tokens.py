"""Tokens that are longer than a character, from the text to the sample."""

import numpy as np
import pytest

from tui_gru import Session, TuiGruError
from tui_gru.analysis.losses import baselines
from tui_gru.analysis.report import WRITERS
from tui_gru.engine.config import Config, as_string, tokenized

TEXT = "the cat sat on the mat and the dog sat on the log . " * 6
WORDS = ("the", "cat", "sat", "on", "mat", "and", "dog", "log", ".")
SIZES = {"hidden_size": 8, "batch_size": 2, "seq_length": 4}


@pytest.fixture
def session():
    session = Session(text=TEXT, vocabulary=WORDS, **SIZES)
    session.learning = True
    return session


def test_a_text_is_cut_into_the_longest_tokens():
    assert tokenized("ababc", ("a", "b", "ab", "c")) == ("ab", "ab", "c")
    assert tokenized(" the\n cat", ("the", "cat")) == ("the", "cat")
    assert tokenized("the cat", ("the", " cat", "c", "a", "t")) == ("the", " cat")
    assert tokenized("the cat", "the ca") == "the cat"
    assert as_string(("the", "cat"), WORDS) == "the cat"
    assert as_string(("the", " cat"), ("the", " cat")) == "the cat"
    with pytest.raises(TuiGruError, match="no token of the vocabulary begins at character 5 of the text, 'cow'"):
        tokenized("the cow", WORDS)


def test_tokens_of_one_character_are_a_string():
    config = Config.of(text=list("abcabcabc"), vocabulary=list("cba"))
    assert (config.text, config.vocabulary) == ("abcabcabc", "cba")
    assert config == Config.of(text="abcabcabc", vocabulary="cba")


def test_a_text_of_tokens_stays_as_it_is_where_it_could_be_cut_otherwise():
    config = Config.of(text=["a", "b"] * 4 + ["ab"])
    assert config.text == ("a", "b") * 4 + ("ab",)
    text = ["a", "b"] * 4
    assert Config.of(text=text, vocabulary=["a", "b", "ab"]).text == tuple(text)


def test_every_token_is_an_index_as_a_character_is(session):
    letters = dict(zip(WORDS, "tcsnmadl.", strict=True))
    other = Session(text="".join(letters[word] for word in TEXT.split()), vocabulary="tcsnmadl.", **SIZES)
    other.learning = True
    for s in (session, other):
        s.step("epoch", 3)
    assert session.loss == other.loss
    assert np.array_equal(session.parameter("Uz"), other.parameter("Uz"))
    assert [letters[word] for word in session.value("target")] == list(other.value("target"))
    drawn, chars = session.sample("the cat", 12, seed=3), other.sample("tc", 12, seed=3)
    assert [letters[word] for word in drawn.split()] == list(chars)
    assert session.influence(0, 3).gradient.tolist() == other.influence(0, 3).gradient.tolist()
    assert session.influence(0, 3, character="dog").value == other.influence(0, 3, character="d").value
    assert session.units().values.tolist() == other.units().values.tolist()
    assert session.losses().values.tolist() == other.losses().values.tolist()
    ours, theirs = (baselines(s.config.text, 9).lines for s in (session, other))
    assert [value for _, value in ours] == pytest.approx([value for _, value in theirs])


def test_conditions_compare_tokens(session):
    assert session.run_until('target[0] == "dog"')
    assert session.value("target")[0] == "dog"
    with pytest.raises(TuiGruError, match="there is no token 'doge' in the vocabulary; did you mean 'dog'"):
        session.run_until('target[0] == "doge"')
    with pytest.raises(TuiGruError, match="2 characters; text is compared one character at a time"):
        Session().run_until('target[0] == "th"')


def test_a_token_of_the_text_is_changed(session):
    session.edit("text", (6,), "dog")
    assert session.branch == "main"
    session.step("epoch")
    assert session.snapshot().corpus.text[6] == "dog"
    with pytest.raises(TuiGruError, match=r"a token of the text must be in the vocabulary .*, not 'cow'"):
        session.edit("text", (0,), "cow")


def test_a_session_is_saved(session, tmp_path):
    session.step("epoch", 2)
    session.sample("the cat", 5)
    session.save(tmp_path / "s.tui-gru")
    again = Session.open(tmp_path / "s.tui-gru")
    assert again.config == session.config
    assert again.samples[0].text == session.samples[0].text
    assert again.samples[0].tokens == session.samples[0].tokens
    assert again.position == session.position


@pytest.mark.parametrize("write", WRITERS.values())
def test_a_report_has_words(session, write):
    session.step("epoch", 2)
    written = write(session.report(held_out="the dog sat on the mat and the cat"))
    assert "the cat" in written
    assert "84 tokens, of 9 kinds" in written or write is WRITERS[".svg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": TEXT, "vocabulary": [*WORDS, ""]}, "the vocabulary must be characters or longer tokens, not ''"),
        ({"text": ["a", "bb", 3]}, "the text must be characters or longer tokens, not 3"),
        ({"text": ["aa", "b"] * 9, "vocabulary": "ab"}, "token 'aa' at position 1 of the text is not in the vocabulary 'a b'"),
        ({"text": TEXT, "vocabulary": [*WORDS, "the"]}, "the vocabulary has 'the' twice, at 1 and 10"),
        (
            {"text": "the cat", "vocabulary": WORDS, **SIZES},
            "the text has 2 tokens; 2 rows of 4 timesteps need 9",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(TuiGruError) as caught:
        Session(**options)
    assert str(caught.value).startswith(message)


def test_what_is_sampled_after_must_be_tokens(session):
    for primer, message in (("the cow", "no token of the vocabulary begins at character 5"), (" ", "the primer is empty")):
        with pytest.raises(TuiGruError, match=message):
            session.sample(primer)


def test_branches_are_compared_by_tokens(session):
    session.step("epoch", 3)
    session.seek("e2 b1 t1")
    session.edit("bz", (0,), 3.0)
    session.step("epoch", 2)
    apart = session.apart("main")
    assert apart.samples.primer[:2] == ("the", "cat")
    assert set(apart.samples.mine) <= set(WORDS)
