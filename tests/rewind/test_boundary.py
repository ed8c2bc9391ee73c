"""What stays inside of a trial, and what has nothing to do with it."""

import gc
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch

import tui_gru
from tui_gru.rewind import loop
from tui_gru.rewind.boundary import closed_boundary


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_of_other_parts_of_the_program_is_collected_in_a_trial(collects):
    """What the garbage collector finds may own a file, which it deletes: that is not of the trial."""
    torch.manual_seed(0)
    model, inside = torch.nn.GRU(3, 2), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run = tui_gru.steps([torch.randn(4, 2, 3) for _ in range(4)], model, optimizer, screen=False)
    for x in run:
        optimizer.zero_grad()
        model(x)[0].pow(2).mean().backward()
        optimizer.step()

    @contextmanager
    def noting(*arguments):
        with closed_boundary(*arguments) as attempts:
            inside.append(gc.isenabled())
            yield attempts

    if not collects:
        gc.disable()
    try:
        with patch.object(loop, "closed_boundary", noting):
            trial = run.again()
        assert gc.isenabled() is collects
    finally:
        gc.enable()
    assert (len(trial.losses), trial.why) == (4, "")
    assert inside == [False] * 4
