"""Consecutive calls of one timestep, of a cell or of a module, become one call with as many timesteps."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.capture.scripts import IN, B, H, Seq2seq, T, a_parametrized_cell, encoder_and_a_loop_of_a_cell, trained
from tests.capture.test_borders import capture
from tests.capture.test_scripts import captured
from tests.imported.recomputed import compare_gradients, compare_outputs, one_step_at_a_time
from tests.rounding import of_call, of_step
from tui_gru.capture.calls import CapturedStep
from tui_gru.capture.hooks import Capture
from tui_gru.equations.syntax import with_word
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
        np.testing.assert_array_equal(decoder.dout[2], step.calls[1].dout[2])
        assert step.calls[1].dout[0].any()


class Decoder(nn.Module):
    """Calls a module of several timesteps, or a cell, for one timestep at a time, as char-rnn and most decoders do.

    `between(t, h)` returns the state for the next call; `reads(out, h)` what the loss reads of a call.
    """

    def __init__(self, rnn, between=lambda t, h: h, reads=lambda out, h: out, steps=9):
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(H, 2)
        self.between, self.reads, self.steps = between, reads, steps

    def forward(self, x, h=None):
        outs = []
        for t in range(self.steps):
            if isinstance(self.rnn, nn.RNNCellBase):
                h = self.rnn(x[t], h)
                out = h[0] if isinstance(h, tuple) else h
            else:
                one = x[t][None] if not self.rnn.batch_first else x[t][:, None]
                out, h = self.rnn(one, h)
            outs.append(self.head(self.reads(out, h)).reshape(B, 2))
            h = self.between(t, h)
        return torch.stack(outs)


def script(rnn, **options):
    def of(begin):
        return trained(Decoder(rnn(), **options), begin, lambda model: model(torch.randn(9, B, IN)))

    return of


def every_third(t, h):
    return h.detach() if t % 3 == 2 else h


def each(change):
    """Do to both states of an LSTM what is done to one."""
    return lambda t, h: tuple(change(t, one) for one in h) if isinstance(h, tuple) else change(t, h)


def in_place(t, h):
    with torch.no_grad():
        if t == 3:
            h = h.detach()
            h[..., 1, :] = 0
    return h


def by_copy(t, h):
    if t == 3:
        h = h.clone()
        h[..., 1, :] = 0.5
    return h


def by_mask(t, h):
    return h * torch.tensor([1.0, 0.0, 1.0])[:, None] if t == 3 else h


def with_other_zeros(t, h):
    """0 and -0 are equal; a mask that is 1 everywhere can make one of the other."""
    return h * torch.where(h == 0, -1.0, 1.0)


KINDS = {
    "GRU": lambda: nn.GRU(IN, H),
    "GRU of two layers": lambda: nn.GRU(IN, H, 2),
    "GRU of two layers with dropout": lambda: nn.GRU(IN, H, 2, dropout=0.4),
    "GRU, batch first": lambda: nn.GRU(IN, H, batch_first=True),
    "LSTM of two layers": lambda: nn.LSTM(IN, H, 2),
    "RNN": lambda: nn.RNN(IN, H, nonlinearity="relu"),
    "GRUCell": lambda: nn.GRUCell(IN, H),
    "LSTMCell": lambda: nn.LSTMCell(IN, H),
    "RNNCell": lambda: nn.RNNCell(IN, H),
    "RNNCell with relu": lambda: nn.RNNCell(IN, H, nonlinearity="relu"),
}
BETWEEN = {
    "attached": (lambda t, h: h, 0),
    "cloned": (lambda t, h: h.clone(), 0),
    "detached": (lambda t, h: h.detach(), 8 * B),
    "detached sometimes": (every_third, 2 * B),
    "in place": (in_place, B),
    "by copy": (by_copy, 1),
    "by mask": (by_mask, 1),
    "with other zeros": (with_other_zeros, 0),
}


# The output of a cell is needed for its gradient, so that autograd refuses a change in place.
FORMS = [(kind, between) for between in BETWEEN for kind in KINDS if not (between == "in place" and "Cell" in kind)]


@pytest.mark.parametrize(("kind", "between"), FORMS)
def test_calls_of_one_timestep_are_one_sequence(kind, between):
    change, zeros = BETWEEN[between]
    steps, _ = captured(script(KINDS[kind], between=each(change)))
    for step in steps:
        (whole,) = sequences(step)
        assert (whole.timesteps, whole.number) == (9, 0)
        assert (0 if whole.keep is None else int((whole.keep == 0).sum())) == zeros
        record = recompute(whole)
        for difference in (*compare_outputs(whole, record), one_step_at_a_time(whole)):
            assert difference.worst <= of_call(whole), (difference.name, difference.worst)
        compared = compare_gradients(joined(step))
        assert (compared.cause, compared.error <= of_step(joined(step))) == ("equal", True), compared.error


def test_a_loop_with_weights_that_are_nan_is_one_sequence():
    def of(begin):
        model = nn.GRU(IN, H)
        nn.init.constant_(model.weight_hh_l0, torch.nan)
        return trained(Decoder(model), begin, lambda model: model(torch.randn(9, B, IN)))

    steps, _ = captured(of)
    assert [[call.timesteps for call in sequences(step)] for step in steps] == [[9]] * 3


def test_no_gradient_flows_back_over_a_state_that_was_set():
    steps, _ = captured(script(KINDS["GRU"], between=by_mask))
    (whole,) = sequences(steps[0])
    record = recompute(whole)
    assert not record.array("dh_prev")[4, 1].any()
    assert record.array("dh_prev")[4, 0].any()
    assert record.array("h_in")[4, 1].tolist() == [0] * H


READS = {
    "GRU of two layers": (lambda out, h: h[0], ["h_l0"]),
    "LSTM of two layers": (lambda out, h: h[1][-1] + h[0][0], ["c_l1", "h_l0"]),
    "LSTMCell": (lambda out, h: h[0] + h[1], ["c"]),
}


@pytest.mark.parametrize("kind", READS)
def test_a_state_that_something_else_reads_between_the_calls_gets_its_gradient_from_outside(kind):
    reads, names = READS[kind]
    steps, _ = captured(script(KINDS[kind], reads=reads))
    for step in steps:
        (whole,) = sequences(step)
        record = recompute(whole)
        assert whole.timesteps == 9
        given = {name: record.array(with_word(f"d{name}", "given")) for name in record.compiled.model.page.outputs[1:]}
        assert sorted(name for name, value in given.items() if value.any()) == sorted(names)
        compared = compare_gradients(joined(step))
        assert (compared.cause, compared.error <= of_step(joined(step))) == ("equal", True), compared.error


@pytest.mark.parametrize("between", ["detached", "attached"])
@pytest.mark.parametrize("kind", ["GRU", "GRUCell", "LSTMCell", "GRU of two layers"])
def test_beams_with_equal_states_are_not_mixed_up(kind, between):
    """Two loops begin alike, are read with different weights, and change places from one timestep to the next."""

    def of(begin):
        rnn = KINDS[kind]()
        is_cell, change = isinstance(rnn, nn.RNNCellBase), each(BETWEEN[between][0])

        def batch(model):
            beams, read = [None, None], 0
            for t, x in enumerate(torch.randn(6, B, IN)):
                for beam in (0, 1) if t % 2 else (1, 0):
                    x = x if t < 3 else x + beam
                    out = rnn(x if is_cell else x[None], beams[beam])
                    h = out if is_cell else out[1]
                    top = h if is_cell else h[0] if isinstance(h, tuple) else h
                    read = read + (1 + beam) * (top[0] if isinstance(top, tuple) else top if is_cell else top[-1]).sum()
                    beams[beam] = change(t, h) if t == 2 else h
            return read / (100 * B * H)

        return trained(rnn, begin, batch)

    steps, _ = captured(of)
    for step in steps:
        loops = sequences(step)
        assert [loop.timesteps for loop in loops] == [6, 6]
        for loop in loops:
            weights = loop.dout[:-1, 0, 0] / loop.dout[0, 0, 0]
            np.testing.assert_allclose(weights, 1, rtol=1e-3)
        assert compare_gradients(joined(step)).cause == "equal"


def test_a_decoder_that_reads_the_last_state_of_its_top_layer_is_joined():
    """As attention does."""
    steps, _ = captured(script(KINDS["GRU of two layers"], reads=lambda out, h: out[0] + h[-1]))
    for step in steps:
        assert [call.timesteps for call in sequences(step)] == [9]
        assert compare_gradients(joined(step)).cause == "equal"


def test_one_module_with_two_chains_in_turn():
    def of(begin):
        def batch(model):
            h, g, outs = torch.zeros(1, B, H), torch.zeros(1, B, H) + 1, []
            for x in torch.randn(6, 2, B, IN):
                (out, h), (other, g) = model(x[:1], h), model(x[1:], g)
                outs.append(out + other)
            return torch.cat(outs)

        return trained(nn.GRU(IN, H), begin, batch)

    steps, _ = captured(of)
    for step in steps:
        assert [call.timesteps for call in sequences(step)] == [6, 6]
        assert compare_gradients(joined(step)).cause == "equal"


def test_calls_without_a_gradient_are_one_sequence_too():
    steps = []
    model = nn.GRU(IN, H)
    with Capture(model, on_step=steps.append, without_gradient=20) as capture, torch.no_grad():
        h = None
        for x in torch.randn(9, 1, B, IN):
            _, h = model(x, h)
        capture.step()
    (whole,) = sequences(steps[0])
    assert (whole.timesteps, whole.keep, whole.learned) == (9, None, False)


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


@pytest.mark.parametrize("module", [nn.GRU(IN, H), nn.GRUCell(IN, H), nn.LSTM(IN, H, 2)])
def test_nan_in_a_loop_is_told_within_a_few_calls(module):
    told, x = [], torch.randn(30, 1, B, IN)
    x[3] = torch.nan
    capture = Capture(module, on_not_finite=told.append)
    h, at = None, None
    for t in range(30):
        if isinstance(module, nn.GRUCell):
            h = module(x[t, 0], h)
        else:
            _, h = module(x[t], h)
        at = t if told and at is None else at
    assert at is not None
    assert 3 <= at <= 11
    assert np.isnan(sequences(told[0])[0].out[3]).any()
    capture.close()


def test_a_gradient_that_is_not_finite_in_a_loop_is_told_in_the_backward_pass():
    told, module = [], nn.GRU(IN, H)
    capture = Capture(module, on_not_finite=told.append)
    h, outs = None, []
    for one in torch.randn(30, 1, B, IN):
        out, h = module(one, h)
        outs.append(out)
    loss = torch.cat(outs).sum() + (outs[20] * torch.inf - outs[20] * torch.inf).nansum() + torch.sqrt(outs[20] * 0).sum()
    assert not told
    loss.backward()
    assert len(told) == 1
    assert told[0].calls
    capture.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_gradient_from_outside_is_no_rounding(dtype):
    """Of a loss that reads all outputs, but the last one by far the most: the smaller, the more exact the type is."""
    torch.manual_seed(4)
    cell = nn.LSTMCell(4, 5).to(dtype)
    steps, running = capture(cell)
    states, loss = None, 0
    for k, x in enumerate(torch.randn(9, 3, 4, dtype=dtype)):
        states = cell(x, states)
        loss = loss + (1 if k == 8 else torch.finfo(dtype).eps * 1000) * states[0].sum()
    loss.backward()
    running.step()
    running.close()
    compared = compare_gradients(steps)
    assert compared.cause == "equal"
    assert compared.error <= of_step(steps[0])
    (call,) = sequences(steps[0])
    assert call.dout.any(axis=(1, 2)).all()
