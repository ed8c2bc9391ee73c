"""The data of a captured call."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.capture.scripts import IN, B, H, Model, T
from tests.capture.test_borders import capture
from tests.imported.recomputed import compare_gradients, compare_outputs, one_step_at_a_time
from tests.rounding import of_call, of_step
from tui_gru.capture.calls import Buffers, Note
from tui_gru.imported.recompute import compiled_for, recompute, recorded_gradients, torch_gradients


def one_call(module, run, **options):
    """Return the only call of one step, and the step."""
    torch.manual_seed(4)
    steps, running = capture(module, **options)
    run(module)
    running.step()
    running.close()
    (call,) = steps[0].calls
    return call, steps[0]


def test_the_numbers_of_a_call_time_first():
    x, h0 = torch.randn(B, T, IN), torch.randn(4, B, H)
    out = []

    def run(gru):
        out.extend(gru(x, hx=h0))
        (out[0].sum() + out[1].pow(2).sum()).backward()

    call, step = one_call(nn.GRU(IN, H, 2, bidirectional=True, batch_first=True), run)
    np.testing.assert_array_equal(call.x, x.transpose(0, 1))
    np.testing.assert_array_equal(call.h0, h0)
    np.testing.assert_array_equal(call.out, out[0].detach().transpose(0, 1))
    np.testing.assert_array_equal(call.hn, out[1].detach())
    np.testing.assert_array_equal(call.dout, np.ones((T, B, 2 * H)))
    np.testing.assert_array_equal(call.dhn, 2 * out[1].detach())
    assert (call.h0_given, call.h0_attached, call.training, call.dtype, call.lengths) == (True, False, True, "float32", None)
    assert list(call.weights.values) == list(call.weights.parameters) == list(call.module.weight_names)
    assert sorted(step.gradients) == sorted(call.weights.parameters.values())


def test_rows_of_different_lengths_are_in_the_scripts_order():
    x, lengths = torch.randn(T, B, IN), torch.tensor([2, 6, 4])
    padded = []

    def run(gru):
        out, hn = gru(pack_padded_sequence(x, lengths, enforce_sorted=False))
        padded.extend([pad_packed_sequence(out)[0], hn])
        (padded[0] * torch.arange(T)[:, None, None]).sum().backward()

    call, _ = one_call(nn.GRU(IN, H), run)
    np.testing.assert_array_equal(call.lengths, lengths)
    np.testing.assert_array_equal(call.out, padded[0].detach())
    np.testing.assert_array_equal(call.hn, padded[1].detach())
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(call.x[:length, row], x[:length, row])
        assert not call.x[length:, row].any()
        np.testing.assert_array_equal(
            call.dout[:, row], np.where(np.arange(T) < int(length), np.arange(T), 0)[:, None] * np.ones(H)
        )


def test_the_weights_come_back_under_torchs_names():
    call, step = one_call(nn.GRU(IN, H, 2, bidirectional=True), lambda gru: gru(torch.randn(T, B, IN))[0].sum().backward())
    model = compiled_for(call)
    recorded = recorded_gradients(step, call, model)
    assert np.isfinite(recorded.parameters).all()
    back = torch_gradients(call, recorded, model)
    for weight, parameter in call.weights.parameters.items():
        np.testing.assert_array_equal(back[weight], step.gradients[parameter])
    H3 = np.split(step.gradients["weight_hh_l1_reverse"], 3)
    np.testing.assert_array_equal(recorded["Uz_l1_reverse"], H3[1].T)
    np.testing.assert_array_equal(recorded["bhn_l0"], np.split(step.gradients["bias_hh_l0"], 3)[2])


def test_a_gradient_that_is_not_recorded_is_no_number():
    gru = nn.GRU(IN, H)
    gru.weight_hh_l0.requires_grad_(False)
    call, step = one_call(gru, lambda gru: gru(torch.randn(T, B, IN))[0].sum().backward())
    recorded = recorded_gradients(step, call, compiled_for(call))
    assert np.isnan(recorded["Uz"]).all()
    assert np.isfinite(recorded["Wz"]).all()
    assert [one.name for one in compare_gradients(step).differences] == ["weight_ih_l0", "bias_ih_l0", "bias_hh_l0"]


def test_a_difference_shows_how_it_grows():
    call, _ = one_call(nn.GRU(IN, H), lambda gru: gru(torch.randn(20, B, IN))[0].sum().backward())
    call.h0[...] += 1e-3
    end_to_end = compare_outputs(call)[0]
    assert end_to_end.over_time.shape == (20,)
    assert end_to_end.over_time[0] > 10 * end_to_end.over_time[-1] > 0
    stepwise = one_step_at_a_time(call)
    assert stepwise.over_time[0] > 1e-4
    assert stepwise.over_time[1:].max() < of_call(call)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bidirectional": True, "num_layers": 2}])
def test_a_head_that_reads_the_whole_output_belongs_to_the_model(options, bias):
    model = Model(**options)
    model.head = nn.Linear(model.head.in_features, 3, bias=bias)
    shape = (B, T, IN) if options.get("batch_first") else (T, B, IN)
    call, step = one_call(model, lambda model: model(torch.randn(shape))[0].pow(2).sum().backward(), head=model.head)
    assert step.notes == ()
    assert (call.head.name, call.head.logits.shape) == ("head", (T, B, 3))
    structure = compiled_for(call).model.structure
    assert (structure.head, structure.loss) == ("linear", "")
    record = recompute(call)
    assert max(one.worst for one in compare_outputs(call, record)) <= of_call(call)
    assert [one.name for one in compare_outputs(call, record)] == ["out", "hn", "logits"]
    np.testing.assert_allclose(record.own_gradients["Wy"].T, model.head.weight.grad, rtol=1e-5, atol=1e-6)
    assert compare_gradients(step).error < of_step(step)


def test_a_head_of_flattened_rows():
    model = Model()
    call, _ = one_call(
        model, lambda m: m.head(m.rnn(torch.randn(T, B, IN))[0].reshape(-1, H)).pow(2).sum().backward(), head=model.head
    )
    assert call.head.logits.shape == (T, B, 2)
    assert compiled_for(call).model.structure.head == "linear"


def test_a_head_beside_other_readers_does_not_end_the_model():
    model = Model()

    def run(model):
        out, _ = model.rnn(torch.randn(T, B, IN))
        (model.head(out).sum() + out.pow(2).sum()).backward()

    call, step = one_call(model, run, head=model.head)
    assert call.head is not None
    assert compiled_for(call).model.structure.head == ""
    assert compare_gradients(step).error < of_step(step)


def test_a_head_that_reads_something_else_is_said():
    model = Model()
    call, step = one_call(model, lambda m: m.head(m.rnn(torch.randn(T, B, IN))[0].mean(0)).sum().backward(), head=model.head)
    assert (call.head, step.notes) == (None, (Note.HEAD_APART,))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_head_that_reads_the_last_timestep(batch_first):
    model = Model()
    model.rnn.batch_first = batch_first

    def run(model):
        out = model.rnn(torch.randn((B, T, IN) if batch_first else (T, B, IN)))[0]
        model.head(out[:, -1] if batch_first else out[-1]).pow(2).sum().backward()

    call, step = one_call(model, run, head=model.head)
    assert step.notes == ()
    assert call.head.logits.shape == (T, B, 2)
    assert not call.head.dlogits[:-1].any()
    assert call.head.dlogits[-1].all()
    assert compiled_for(call).model.structure.head == "linear"
    assert compare_gradients(step).error < of_step(step)


def test_a_gradient_that_comes_in_two_passes_is_their_sum():
    def run(gru):
        out, _ = gru(torch.randn(T, B, IN))
        out.sum().backward(retain_graph=True)
        out.pow(2).sum().backward()

    call, step = one_call(nn.GRU(IN, H), run)
    assert call.backward_passes == 2
    np.testing.assert_allclose(call.dout, 1 + 2 * call.out, rtol=1e-6)
    assert compare_gradients(step).error < of_step(step)


def test_buffers_are_used_again_once_nobody_holds_them():
    take = Buffers()
    first = take((100, 1000), np.float32)
    where = first.ctypes.data
    second = take((100, 1000), np.float32)
    assert second.ctypes.data != where
    view = first[3]
    del first
    assert take((100, 1000), np.float32).ctypes.data != where
    del view
    third = take((99, 1001), np.float32)  # about the same size
    assert third.ctypes.data == where
    held = take.nbytes
    for _ in range(10):
        take((100, 1000), np.float32)
    assert take.nbytes == held


def test_buffers_of_sizes_that_are_gone_are_let_go():
    take = Buffers()
    arrays = [take((1 << 20,), np.float32) for _ in range(4)]
    del arrays
    small = [take((1 << 16,), np.float32) for _ in range(4)]
    assert take.nbytes < 3 << 20
    assert len(small) == 4
