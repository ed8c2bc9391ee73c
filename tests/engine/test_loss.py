"""The loss stays finite and exact where the tutorial's form of it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tui_gru.engine.loss import dlogits, softmax_and_terms, tutorial_term1
from tui_gru.engine.record import Activations

from tests.engine.checking import random_config


def with_logits(logits, targets, dtype="float32"):
    """Activations (T, B, V) with these logits and targets."""
    logits = np.asarray(logits, dtype)
    T, B, V = logits.shape
    s = Activations(random_config(hidden=2, batch=B, length=T, vocab=V, dtype=dtype))
    s.logits[...], s.targets[...] = logits, targets
    s.y[...] = np.eye(V)[np.array(targets)]
    return s


@pytest.mark.parametrize("gap", [0, 1, 50, 88, 103, 104, 105, 1000, 1e30])
def test_any_gap_between_logits(gap):
    s = with_logits([[[gap, 0]], [[0, gap]]], [[1], [1]])
    loss = softmax_and_terms(s)
    assert loss == pytest.approx(np.logaddexp(0, gap) / 2 + np.logaddexp(0, -gap) / 2, rel=1e-6)
    assert np.isfinite(s.term1).all()
    assert (np.isfinite(tutorial_term1(s.y, s.y_hat)).all()) == (gap < 104)
    dlogits(s, out := np.empty_like(s.logits))
    assert np.isfinite(out).all()


def test_a_large_common_logit_changes_nothing():
    logits = np.array([[[1, 2, 4], [0, -1, 3]]])
    plain, high = with_logits(logits, [[0, 2]]), with_logits(logits + 4096, [[0, 2]])
    assert softmax_and_terms(plain) == softmax_and_terms(high)
    np.testing.assert_array_equal(plain.y_hat, high.y_hat)


def test_the_two_forms_of_term_1_agree_where_both_are_finite():
    s = with_logits(np.random.default_rng(0).normal(0, 3, (5, 4, 6)), np.random.default_rng(1).integers(0, 6, (5, 4)))
    softmax_and_terms(s)
    np.testing.assert_allclose(tutorial_term1(s.y, s.y_hat), s.term1, rtol=1e-5, atol=1e-6)


def test_zero_times_minus_infinity_is_shown_as_the_tutorial_computes_it():
    term = tutorial_term1(np.array([0, 1, 1], np.float32), np.array([0, 0, 1], np.float32))
    assert np.isnan(term[0])
    assert term[1:].tolist() == [-np.inf, 0]


def test_the_terms_are_those_of_pytorchs_cross_entropy():
    generator = np.random.default_rng(2)
    logits, targets = generator.normal(0, 2, (5, 3, 7)), generator.integers(0, 7, (5, 3))
    s = with_logits(logits, targets, "float64")
    loss, tensor = softmax_and_terms(s), torch.tensor(logits, requires_grad=True)
    cells = torch.nn.functional.cross_entropy(tensor.flatten(0, 1), torch.tensor(targets).flatten(), reduction="none")
    cells.mean().backward()
    dlogits(s, out := np.empty_like(logits))
    np.testing.assert_allclose(loss, cells.mean().item(), rtol=1e-14)
    np.testing.assert_allclose(-s.term2, cells.detach().reshape(5, 3), rtol=1e-14)
    np.testing.assert_allclose(s.term3, -s.term2.mean(1), rtol=1e-14)
    np.testing.assert_allclose(out, tensor.grad, rtol=1e-12, atol=1e-16)


def test_from_a_timestep_on_the_earlier_ones_stay():
    generator = np.random.default_rng(3)
    s = with_logits(generator.normal(size=(4, 3, 5)), generator.integers(0, 5, (4, 3)))
    loss = softmax_and_terms(s)
    whole = {name: getattr(s, name).tobytes() for name in ("y_hat", "log_p", "term1", "term2", "term3")}
    for start in range(4):
        for name in whole:
            getattr(s, name)[start:] = np.nan
        assert softmax_and_terms(s, start) == loss
        assert {name: getattr(s, name).tobytes() for name in whole} == whole
