"""Ranks that train together: each has its own calls, and all have the same gradient, the mean."""

import pickle

import numpy as np
import pytest

from tests.imported.recomputed import compare_gradients, compare_outputs
from tests.rounding import of_call, of_step
from tui_gru.imported.recompute import recompute


def trained(folder):
    """Return the steps of both processes."""
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(2)]


@pytest.fixture
def ranks(folder_of_ranks):
    return trained(folder_of_ranks / "ddp")


def test_sharded_ranks_show_the_gradients_of_their_own_calls(folder_of_ranks):
    for steps in trained(folder_of_ranks / "fsdp"):
        for step in steps:
            (call,) = step.calls
            assert (step.notes, step.gradients, len(call.weights.gradients)) == ((), {}, 8)
            assert max(one.worst for one in compare_outputs(call, recompute(call))) <= of_call(call)
            compared = compare_gradients(step)
            assert (compared.cause, len(compared.differences)) == ("equal", 8)
            assert compared.error <= of_step(step)


def test_two_ranks_have_the_mean_of_their_gradients(ranks):
    for together in zip(*ranks, strict=True):
        assert [(step.rank, step.ranks) for step in together] == [(0, 2), (1, 2)]
        for step in together:
            for call in step.calls:
                assert max(one.worst for one in compare_outputs(call, recompute(call))) <= of_call(call)
        compared = compare_gradients(together)
        assert (compared.cause, len(compared.differences)) == ("equal", 8)
        assert compared.error <= of_step(together)


def test_one_rank_alone_checks_its_outputs_and_not_its_gradients(ranks):
    assert compare_gradients(ranks[1][0]).cause == "incomplete"
    assert "not all of them are here" in compare_gradients(ranks[1][0]).sentence


def test_the_ranks_did_not_see_the_same(ranks):
    first, second = (steps[0].calls[0] for steps in ranks)
    assert not np.array_equal(first.x, second.x)
    assert np.array_equal(first.weights.values["weight_ih_l0"], second.weights.values["weight_ih_l0"])
