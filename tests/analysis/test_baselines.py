"""The baselines of the loss, compared with counts of one pair of characters at a time."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_gru.analysis.losses import baselines, bits, perplexity


def cross_entropy(predicted):
    return -math.fsum(map(math.log, predicted)) / len(predicted)


@given(st.text("abcd ß🎈", min_size=2, max_size=60))
def test_they_are_the_cross_entropies_of_tables_counted_in_the_text(text):
    single, pairs, firsts = Counter(text[1:]), Counter(pairwise(text)), Counter(text[:-1])
    found = baselines(text, 9)
    assert found.uniform == math.log(9)
    assert found.unigram == pytest.approx(cross_entropy([single[char] / (len(text) - 1) for char in text[1:]]), abs=1e-12)
    assert found.bigram == pytest.approx(cross_entropy([pairs[a, b] / firsts[a] for a, b in pairwise(text)]), abs=1e-12)
    assert found.bigram <= found.unigram + 1e-12


def test_the_tutorials_text_is_known_once_its_pairs_are():
    found = baselines("MathMathMathMathMath", 4)
    assert found.lines == (("blind guess", math.log(4)), ("unigram", found.unigram), ("bigram", 0.0))
    assert found.unigram == pytest.approx(1.3820, abs=1e-4)


@pytest.mark.parametrize("text", ["", "a"])
def test_nothing_to_predict(text):
    found = baselines(text, 1)
    assert found.uniform == 0
    assert math.isnan(found.unigram)
    assert math.isnan(found.bigram)


def test_perplexity_and_bits():
    assert perplexity(math.log(12)) == pytest.approx(12)
    assert perplexity(1e4) == math.inf
    assert math.isnan(perplexity(math.nan))
    assert bits(math.log(8)) == pytest.approx(3)
