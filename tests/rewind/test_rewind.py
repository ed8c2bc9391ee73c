"""The last steps of a loop are computed again bit for bit, and the training after any trial is the plain run, bit for bit."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.rewind.loops import LOOPS


def seed():
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def outcome(loop, wrap):
    """Return the losses, the weights, and the state of all generators after a loop."""
    seed()
    losses, model = loop(wrap)
    numbers = [value.detach().clone() for value in model.state_dict().values()]
    return losses, numbers, torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()


def is_same(a, b):
    same = all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))
    return a[0] == b[0] and same and torch.equal(a[2], b[2]) and a[3:] == b[3:]


def spoil(names):
    for module in [value for value in names.values() if isinstance(value, nn.Module)]:
        for parameter in module.parameters():
            parameter.data.fill_(float("nan"))


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_is_computed_again_and_trains_on_as_if_nothing_was_tried(name):
    loop, seen = LOOPS[name], {}

    def attempt(run):
        again = run.again()
        seen["equal"], seen["count"], seen["why"] = again.is_equal, len(again.losses), again.why
        seen["losses"] = again.losses == again.own
        run.again(rate=10)
        run.again(lr=0.3, skip=run.step - 1)
        run.again(seed=7, clip=0.01, weight_decay=0.5)
        run.again(edit=spoil)
        seen["error"] = run.again(edit=lambda names: 1 / 0).why
        seen["rates"] = len(run.rates())

    plain = outcome(loop, lambda loader, *stateful: loader)
    watched = outcome(loop, lambda loader, *stateful: tui_gru.steps(loader, *stateful, screen=False))
    assert is_same(plain, watched)
    rewound = outcome(loop, lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=12, keep=6, screen=attempt))
    assert seen["equal"], seen
    assert seen["losses"]
    assert seen["rates"] == 7
    assert seen["count"] == 6
    assert seen["error"] == "ZeroDivisionError in step 7: division by zero"
    assert is_same(plain, rewound)
