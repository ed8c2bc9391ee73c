"""A loop over a GRUCell becomes one call with as many timesteps."""

import numpy as np
import torch
from torch import nn

from tests.capture.scripts import IN, B, H, Seq2seq, T, a_parametrized_cell, encoder_and_a_loop_of_a_cell, trained
from tests.capture.test_scripts import captured
from tests.imported.recomputed import compare_gradients, compare_outputs
from tests.rounding import of_call, of_step
from tui_gru.capture.calls import CapturedStep
from tui_gru.imported.recompute import recompute, sequences


def joined(step: CapturedStep) -> CapturedStep:
    from dataclasses import replace

    return replace(step, calls=sequences(step))


def test_the_calls_of_a_loop_are_one():
    steps, _ = captured(encoder_and_a_loop_of_a_cell)
    for step in steps:
        encoder, decoder = sequences(step)
        assert encoder is step.calls[0]
        assert decoder.x.shape == (4, B, 2)
        assert max(one.worst for one in compare_outputs(decoder, recompute(decoder))) <= of_call(decoder)
        compared = compare_gradients(joined(step))
        assert (compared.cause, compared.error < of_step(joined(step))) == ("equal", True)


def test_parametrized_cells_are_joined_where_they_used_the_same_weights():
    steps, _ = captured(a_parametrized_cell)
    assert [len(sequences(step)) for step in steps] == [5, 5, 5]  # each call computed weights of its own


def test_what_comes_from_outside_is_what_the_loss_gave():
    """The loss reads only the last state, so earlier timesteps get no gradient from outside."""

    def script(begin):
        def batch(model):
            h = model.encoder(torch.randn(T, B, IN))[1][0]
            for x in torch.randn(3, B, 2):
                h = model.cell(x, h)
            return h

        return trained(Seq2seq(), begin, batch)

    steps, _ = captured(script)
    for step in steps:
        decoder = sequences(step)[1]
        assert not decoder.dout[:2].any()
        np.testing.assert_array_equal(decoder.dout[2], step.calls[3].dout[0])
        assert step.calls[1].dout.any()


def test_a_detached_state_begins_a_sequence_of_its_own():
    def script(begin):
        def batch(cell):
            h, outs = torch.zeros(B, H), []
            for t, x in enumerate(torch.randn(6, B, IN)):
                h = cell(x, h.detach() if t == 3 else h)
                outs.append(h)
            return torch.stack(outs)

        return trained(nn.GRUCell(IN, H), begin, batch)

    steps, _ = captured(script)
    for step in steps:
        assert [call.timesteps for call in sequences(step)] == [3, 3]
        assert compare_gradients(joined(step)).error < of_step(joined(step))


def test_two_loops_side_by_side():
    def script(begin):
        def batch(model):
            h, g = torch.zeros(B, H), torch.zeros(B, H) + 1
            for x in torch.randn(4, B, IN):
                h, g = model[0](x, h), model[1](x, g)
            return h + g

        return trained(nn.ModuleList([nn.GRUCell(IN, H), nn.GRUCell(IN, H)]), begin, batch)

    steps, _ = captured(script)
    assert [(call.module.name, call.number, call.timesteps) for call in sequences(steps[0])] == [("0", 0, 4), ("1", 1, 4)]
    assert all(compare_gradients(joined(step)).error < of_step(joined(step)) for step in steps)
