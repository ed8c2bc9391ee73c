"""Captures of every kind of script: NumPy recomputes each output and weight gradient, and the script's results do not change."""

from functools import cache

import numpy as np
import pytest
import torch

from tests.capture.scripts import HALF, ROUNDED, SCRIPTS
from tests.imported.recomputed import compare_gradients, compare_outputs, one_step_at_a_time
from tests.rounding import of_call, of_step
from tui_gru.capture.hooks import Capture
from tui_gru.imported.recompute import recompute, torch_gradients


class Nothing:
    def step(self, loss=None):
        pass


def run(script, begin):
    """Run a script. Returns what it trained, as bytes, and the final state of the generator."""
    torch.manual_seed(1)
    trained = script(begin)
    return [value.detach().double().numpy().tobytes() for value in trained], torch.get_rng_state().numpy().tobytes()


@cache
def captured(script):
    """The steps of a script, and what `run` gives: for whoever asks, so nobody may change them."""
    steps, captures = [], []

    def begin(module, optimizer, **more):
        captures.append(Capture(module, optimizer, on_step=steps.append, **more))
        return captures[0]

    result = run(script, begin)
    captures[0].close()
    return steps, result


def own_gradients(call):
    record = recompute(call)
    return torch_gradients(call, record.own_gradients, record.compiled)


def names(script):
    return script.__name__


@pytest.mark.parametrize("script", SCRIPTS, ids=names)
def test_everything_is_computed_again_from_the_capture_alone(script):
    steps, _ = captured(script)
    assert len(steps) >= 2
    for step in steps:
        assert step.calls
        assert step.updated
        assert np.isfinite(step.loss)
        for call in step.calls:
            bound = HALF.get(names(script), of_call(call))
            assert call.learned
            for difference in (*compare_outputs(call, recompute(call)), one_step_at_a_time(call)):
                assert difference.worst <= bound, (difference.name, difference.worst)
        compared, bound = compare_gradients(step, own_gradients), HALF.get(names(script), of_step(step))
        assert compared.differences
        assert compared.error <= bound, (compared.cause, compared.error)
        assert (compared.cause, compared.factor, compared.ignored, compared.added) == ("equal", 1, 0, False)


@pytest.mark.parametrize("script", SCRIPTS, ids=names)
def test_the_script_goes_on_as_it_was(script):
    steps, watched = captured(script)
    assert steps
    alone = run(script, lambda module, optimizer: Nothing())
    if script in ROUNDED:
        for ours, theirs in zip(watched[0], alone[0], strict=True):
            np.testing.assert_allclose(np.frombuffer(ours), np.frombuffer(theirs), rtol=1e-5, atol=1e-7)
    else:
        assert watched == alone
