"""What a model writes while it learns: after which batches, with which random numbers, and what of it stands in the text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tui_gru import Session
from tui_gru.analysis.drafts import (
    WINDOW,
    counted_pieces,
    first_words,
    overtaken_at,
    pieces_of,
    words_of,
)
from tui_gru.debugger.drafts import LENGTH, SEED, TEMPERATURE, TextDraft, is_drafted

TEXT = "the cat sat on the mat, the rat sat on the hat; "
SIZES = {"hidden_size": 8, "batch_size": 2, "seq_length": 8}


def learning(**options):
    return Session(text=TEXT * 4, **SIZES | options)


def with_drafts(session, batches):
    session.keep_draft()
    session.step("batch", batches, progress=lambda place: session.keep_draft())
    return session


def drafted(session):
    """The drafts on the current branch up to the position, by the batches before each."""
    return {draft.tick // session.program.ticks: draft for draft in session.snapshot().drafts}


def test_drafts_are_a_few_in_every_decade():
    assert [batches for batches in range(2001) if is_drafted(batches)] == [
        0, 1, 3, 10, 30, 100, 200, 300, 500, 700, 1000, 2000,
    ]  # fmt: skip
    assert [power for power in (7, 70, 700, 7 * 10**8, 4000, 2500, 10**9) if is_drafted(power)] == [700, 7 * 10**8, 10**9]


@pytest.mark.parametrize("options", [{}, {"cell": "lstm", "optimizer": "sgd"}])
def test_a_draft_is_the_sample_with_the_weights_of_its_batch_and_changes_nothing(options):
    session, plain = with_drafts(learning(**options), 40), learning(**options)
    plain.step("batch", 40)
    assert all(np.array_equal(session.parameter(name), plain.parameter(name)) for name in session.parameter_names)
    assert session.position == plain.position
    assert [*drafted(session)] == [0, 1, 3, 10, 30]
    for batches, draft in drafted(session).items():
        plain.seek(batches * plain.program.ticks)
        assert draft.primer + draft.text == plain.sample("the ", LENGTH, temperature=TEMPERATURE, seed=SEED)
        norms = [np.linalg.norm(plain.parameter(name).astype(np.float64)) for name in plain.parameter_names]
        assert np.allclose(draft.norms, norms, rtol=1e-12)  # the same numbers are added in the same order, in float64


def test_going_back_in_time_shows_those_up_to_there_also_in_a_file_and_on_a_branch(tmp_path):
    session = with_drafts(learning(), 40)
    session.seek("e1 b7")
    assert [*drafted(session)] == [0, 1, 3]
    session.save(tmp_path / "drafts.tui-gru")
    again = Session.open(tmp_path / "drafts.tui-gru")
    assert drafted(again) == drafted(session)
    again.seek(40 * again.program.ticks)
    assert [*drafted(again)] == [0, 1, 3, 10, 30]
    session.learning_rate = 0.5
    assert session.branch != "main"
    with_drafts(session, 10)
    assert [*drafted(session)] == [0, 1, 3, 10]
    assert drafted(session)[10].text != drafted(again)[10].text
    session.rename_branch(session.branch, "fast")
    assert [*drafted(session)] == [0, 1, 3, 10]
    session.switch("main")
    session.seek("e1 b7")
    assert [*drafted(session)] == [0, 1, 3]


def test_what_the_model_writes_now_is_drawn_at_the_end_of_every_batch_that_learns():
    session = learning()
    session.step("batch", 5)
    now = session.snapshot().draft
    assert now is not None
    assert now.primer + now.text == session.sample("the ", LENGTH, temperature=TEMPERATURE, seed=SEED)
    session.step("op")
    assert session.snapshot().draft is None


def test_a_model_that_does_not_write_has_no_drafts():
    for session in (learning(bidirectional=True), learning(loss="squared-error"), Session()):
        assert drafted(with_drafts(session, 3)) == {}
    overflowing = learning(optimizer="sgd", learning_rate=1e38, clip=0.0)
    assert [*drafted(with_drafts(overflowing, 12))][:1] == [0]


def test_words_of_the_text_count_and_the_cut_one_does_not():
    assert words_of(TEXT) == {"the", "cat", "sat", "on", "mat", "rat", "hat"}
    draft = "e cat 7 the catt ma on"
    assert [draft[piece.start : piece.end] for piece in pieces_of(draft, TEXT) if piece.stands] == ["cat", "the"]
    assert counted_pieces(draft, TEXT) == (2, 4)  # catt and ma do not stand there; on may be cut


def test_of_a_text_without_words_long_pieces_count():
    text = "GATTACACATTAGGATCCAGTACGATTAGACA"
    assert words_of(text) == frozenset()
    draft = "GATTACAGGGGGGGGCATTAGGA"
    pieces = pieces_of(draft, text)
    assert [draft[piece.start : piece.end] for piece in pieces] == ["GATTACA", "CATTAGGA"]
    assert all(piece.stands for piece in pieces)
    assert counted_pieces(draft, text) == (15, 23)
    assert counted_pieces("anything", ("a", "token")) is None


def test_words_are_listed_by_the_draft_that_has_them_first():
    drafts = [TextDraft(0, "the ", "xq "), TextDraft(1, "the ", "cat on cat xq "), TextDraft(2, "the ", "sat cat mat ")]
    assert first_words(drafts, [0, 10, 30], TEXT) == [(10, ("cat",)), (30, ("sat", "mat"))]


def test_a_level_is_overtaken_when_the_mean_of_some_batches_is_below_it():
    losses = np.array([4.0] * 30 + [2.0] * 30)
    assert overtaken_at(losses, 5.0) == WINDOW
    assert overtaken_at(losses, 3.0) == 30 + WINDOW // 2 + 1  # eleven of twenty are 2
    assert overtaken_at(losses, 2.0) is None
    assert overtaken_at(losses[: WINDOW - 1], 5.0) is None
    assert overtaken_at(np.array([math.nan] * 40), 5.0) is None
