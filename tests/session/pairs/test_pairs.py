"""Random models, and every public name of a session, against an independent training loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.extent import share
from tests.session.pairs import script_verbs
from tests.session.pairs.modules import ScriptSweep
from tests.session.pairs.sweep import Sweep
from tests.session.pairs.verbs import CHECKS, public_names

#: Seven random cells, of one, two and three states, two whose rows mix, one in both directions; an LSTM with two layers in both
#: directions; and an RNN: every loss, update rule, carry and dtype, edits and pauses.
SEEDS = (0, 10, 4, 7, 9, 3, 13, 23, 31)
#: Scripts: an RNN whose state is detached, random cells with one and two states, called in a loop outside and inside of a module,
#: and a GRU of torch.
SCRIPTS = (12, 1, 3, 54, 0, 5)
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


@pytest.mark.parametrize("number", range(len(SCRIPTS)), ids=map(str, SCRIPTS))
def test_what_a_session_says_of_a_script_is_what_autograd_of_its_module_says(number, tmp_path):
    sweep = ScriptSweep(SCRIPTS[number], tmp_path)
    for check in share(list(script_verbs.CHECKS), number, SHARES):
        check(sweep)
    assert sweep.session.parameter_names


def test_every_public_name_of_a_session_on_a_script_is_examined():
    examined = {name for names in script_verbs.CHECKS.values() for name in names}
    assert not examined & script_verbs.ELSEWHERE
    assert examined | script_verbs.ELSEWHERE == public_names()
