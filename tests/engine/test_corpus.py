"""The batches of a text equal those of the tutorial."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.test_tutorial import PRINTED
from tui_gru.engine.config import LAYOUTS, Config
from tui_gru.engine.data import Corpus

CELLS = [(batch, row) for batch in range(3) for row in range(2)]


def test_the_tutorials_sequences():
    corpus = Corpus(Config.of())
    assert [corpus.row_text(corpus.inputs, *cell) for cell in CELLS] == PRINTED["sequences"]
    assert [corpus.row_text(corpus.targets, *cell) for cell in CELLS] == ["ath", "Mat", "hMa", "thM", "ath", "Mat"]


def test_shapes_are_batch_time_row():
    corpus = Corpus(Config.of(text="abcdefgh" * 5, batch_size=2, seq_length=5))
    assert corpus.inputs.shape == corpus.targets.shape == (3, 5, 2)


def test_indices_are_those_of_the_fixed_table():
    assert Corpus(Config.of()).inputs[0].tolist() == [[3, 0], [1, 3], [2, 1]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("extra", range(6))
def test_what_does_not_fill_a_batch_is_left_out(extra, layout):
    config = Config.of(text="abcdefg"[:7] + "abcdef"[:extra], batch_size=2, seq_length=3, layout=layout)
    assert Corpus(config).inputs.shape == (1, 3, 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_places_in_the_text(layout):
    config = Config.of(text="the quick brown fox jumps over it", batch_size=3, seq_length=4, layout=layout)
    corpus = Corpus(config)
    assert corpus.inputs.shape == (2, 4, 3)
    for batch, t, row in np.ndindex(corpus.inputs.shape):
        place = corpus.position_in_text(batch, t, row)
        assert config.text[place] == config.vocabulary[corpus.inputs[batch, t, row]]
        assert config.text[place + 1] == config.vocabulary[corpus.targets[batch, t, row]]


def test_rows_do_not_continue_each_other_but_where_there_is_one():
    tutorial = Corpus(Config.of())
    assert not any(tutorial.continues(*cell) for cell in CELLS)
    alone = Corpus(Config.of(batch_size=1))
    assert [alone.continues(batch, 0) for batch in range(6)] == [False, True, True, True, True, True]


def test_contiguous_rows_each_go_on_where_they_ended():
    corpus = Corpus(Config.of(text="the quick brown fox jumps over it", batch_size=3, seq_length=4, layout="contiguous"))
    rows = ["".join(corpus.row_text(corpus.inputs, batch, row) for batch in range(2)) for row in range(3)]
    assert rows == ["the quic", "k brown ", "fox jump"]
    assert [corpus.continues(batch, row) for batch in range(2) for row in range(3)] == [False] * 3 + [True] * 3


def test_nobody_can_change_it():
    with pytest.raises(ValueError, match="read-only"):
        Corpus(Config.of()).inputs[0, 0, 0] = 1
