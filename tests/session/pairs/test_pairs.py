"""Random models, and every public name of a session, against an independent training loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.extent import share
from tests.session.pairs.sweep import Sweep
from tests.session.pairs.verbs import CHECKS, public_names

#: Seven random cells, of one, two and three states, two whose rows mix, one in both directions; an LSTM with two layers in both
#: directions; and an RNN: every loss, update rule, carry and dtype, edits and pauses.
SEEDS = (0, 10, 4, 7, 9, 3, 13, 23, 31)
SHARES = 3  # each check is run on a third of these models


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("number", range(len(SEEDS)), ids=map(str, SEEDS))
def test_what_a_session_says_is_what_the_loop_says(number):
    sweep = Sweep(SEEDS[number])
    with np.errstate(all="ignore"):
        for check in share(list(CHECKS), number, SHARES):
            check(sweep)
    assert sweep.comparisons > 100


def test_every_public_name_of_a_session_is_examined():
    """A new one needs a row in tests/session/pairs/verbs.py that says what an independent loop states about it."""
    assert {name for names in CHECKS.values() for name in names} == public_names()
