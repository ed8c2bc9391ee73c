"""Ranks that train together: each has its own calls, and all have the same gradient, the mean."""

import pickle
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest

from tui_gru.interop.recomputing import compare_gradients, compare_outputs, recompute

ROOT = Path(__file__).parents[3]


def run_ranks(kind, folder):
    """Run two processes that train together; each writes a file named for its rank, or records, into the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-W", "ignore", "-m", "tests.interop.capture.ranks", kind]
    with ExitStack() as both:
        started = [
            both.enter_context(Popen([*command, str(rank), port, str(folder)], cwd=ROOT, stderr=PIPE, text=True))
            for rank in range(2)
        ]
        for process in started:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors


def trained(folder, kind):
    """The steps of each of the two."""
    run_ranks(kind, folder)
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("ranks"), "ddp")


def test_sharded_ranks_show_the_gradients_of_their_own_calls(tmp_path):
    for steps in trained(tmp_path, "fsdp"):
        for step in steps:
            (call,) = step.calls
            assert (step.notes, step.gradients, len(call.weights.gradients)) == ((), {}, 8)
            assert max(one.worst for one in compare_outputs(call, recompute(call))) <= 5e-7
            compared = compare_gradients(step)
            assert (compared.cause, len(compared.differences)) == ("equal", 8)
            assert compared.error <= 5e-7


def test_two_ranks_have_the_mean_of_their_gradients(ranks):
    for together in zip(*ranks, strict=True):
        assert [(step.rank, step.ranks) for step in together] == [(0, 2), (1, 2)]
        for step in together:
            for call in step.calls:
                assert max(one.worst for one in compare_outputs(call, recompute(call))) <= 5e-7
        compared = compare_gradients(together)
        assert (compared.cause, len(compared.differences)) == ("equal", 8)
        assert compared.error <= 5e-7


def test_one_rank_alone_checks_its_outputs_and_not_its_gradients(ranks):
    assert compare_gradients(ranks[1][0]).cause == "incomplete"
    assert "not all of them are here" in compare_gradients(ranks[1][0]).sentence


def test_the_ranks_did_not_see_the_same(ranks):
    first, second = (steps[0].calls[0] for steps in ranks)
    assert not np.array_equal(first.x, second.x)
    assert np.array_equal(first.weights.values["weight_ih_l0"], second.weights.values["weight_ih_l0"])
