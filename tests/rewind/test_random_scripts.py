"""Random scripts of a grammar are computed again bit for bit, and train on as the plain run; tests/soak/rewound.py does more."""

import pytest
import torch

from tests.rewind.grammar import CARRIED, script
from tests.rewind.run_scripts import checked


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_a_random_script_is_rewound_bit_for_bit(seed, tmp_path):
    assert checked(seed, tmp_path) == ("", "")


def test_the_grammar_has_each_kind_of_state_somewhere():
    assert {name for seed in range(200) for name in script(seed)[1][0]} == set(CARRIED)
