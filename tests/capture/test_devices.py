"""What is particular to devices: graphs of CUDA, TF32, and a device without float64. They are played on the CPU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.handwritten import IN, H
from tests.capture.scripts import Model
from tests.capture.test_borders import capture, forward, sgd
from tests.device import let_copies_be_late, reads_in
from tests.gpu import InLoop, Whole
from tui_gru.capture import pending
from tui_gru.capture.calls import Note, in_float64
from tui_gru.capture.facts import FIRST_WATCHED
from tui_gru.capture.hooks import Capture
from tui_gru.imported.module import forget

T, B = 5, 3


def test_nothing_is_copied_while_a_cuda_graph_is_captured(monkeypatch):
    torch.manual_seed(3)
    model = Model()
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    monkeypatch.setattr(pending, "_warned", set())
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(pending, "to_array", None)

    def train():
        optimizer.zero_grad()
        forward(model).backward()
        optimizer.step()

    with pytest.warns(UserWarning, match="a CUDA graph is captured") as warned:
        train()
    assert len(warned) == 1
    monkeypatch.undo()
    train()
    running.close()
    (step,) = [step for step in steps if step.calls]
    assert step.updated


class InSequences(nn.Module):
    """A module that reads sequences of several lengths."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        lengths = torch.arange(len(x), len(x) - x.shape[1], -1).flip(0)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        return self.rnn(packed)[0].data


READERS = {
    "GRU": lambda: Whole(nn.GRU(IN, H)),
    "LSTM of two layers": lambda: Whole(nn.LSTM(IN, H, 2)),
    "GRU of packed rows": lambda: InSequences(nn.GRU(IN, H, bidirectional=True)),
    "GRUCell in a loop": lambda: InLoop(nn.GRUCell(IN, H)),
    "LSTMCell in a loop": lambda: InLoop(nn.LSTMCell(IN, H)),
}


class Training:
    """A module that is trained. `reads` has what made Python wait in a step: the names of the methods of tensors."""

    def __init__(self, reader, *, accumulates=False):
        torch.manual_seed(3)
        self.model = READERS[reader]()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 0.01)
        self.accumulates = accumulates
        self.inputs = torch.Generator(torch.get_default_device()).manual_seed(4)

    def step(self):
        """Train one step, and return its loss."""
        self.optimizer.zero_grad()
        for _ in range(1 + self.accumulates):
            loss = self.model(torch.randn(T, B, IN, generator=self.inputs)).square().mean()
            loss.backward()
        self.optimizer.step()
        return loss.detach()


@pytest.mark.parametrize("accumulates", [False, True], ids=["one pass", "two passes"])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("way", ["record", "debug"])
def test_a_step_reads_no_number_of_a_device(way, reader, accumulates, monkeypatch, tmp_path):
    """To read one, Python would wait for the device. All that is copied has arrived when the step ends."""
    let_copies_be_late(monkeypatch)
    training, alone = Training(reader, accumulates=accumulates), Training(reader, accumulates=accumulates)
    follower = (
        tui_gru.record(tmp_path / "run.gru", training.model, training.optimizer, every=1)
        if way == "record"
        else Capture(training.model, training.optimizer, may_repeat=True)
    )
    for _ in range(FIRST_WATCHED + 1):
        follower.step(training.step())
        alone.step()
    loss, reads = reads_in(training.step)
    follower.step(loss)
    follower.close()
    of_sizes = ["numpy"] * (1 + accumulates) * ("packed" in reader)  # which PyTorch keeps on the CPU
    assert sorted(reads) == sorted([*reads_in(alone.step)[1], *of_sizes])  # what PyTorch and the script read themselves


@pytest.mark.parametrize("reader", READERS)
def test_steps_reads_no_number_of_a_device(reader, monkeypatch):
    let_copies_be_late(monkeypatch)
    training, alone = Training(reader), Training(reader)
    run = iter(tui_gru.steps(range(FIRST_WATCHED + 3), training.model, training.optimizer, screen=False))

    def step_of_loop():
        training.step()
        next(run)

    next(run)
    for _ in range(FIRST_WATCHED + 1):
        step_of_loop()
        alone.step()
    assert reads_in(step_of_loop)[1] == reads_in(alone.step)[1]


@pytest.mark.parametrize("reader", READERS)
def test_a_recording_whose_copies_arrive_late_has_the_same_numbers(reader, tmp_path):
    """Each array of it is read only when it is complete."""
    steps = []
    for folder in ("at once", "late"):
        captured, training = [], Training(reader, accumulates=True)
        with pytest.MonkeyPatch.context() as patch:
            if folder == "late":
                let_copies_be_late(patch)
            with Capture(training.model, training.optimizer, on_step=captured.append) as follower:
                for _ in range(2):
                    follower.step(training.step())
        steps.append(captured)
    for at_once, late in zip(*steps, strict=True):
        for one, other in zip(at_once.calls, late.calls, strict=True):
            for name in ("x", "h0", "out", "hn", "dout", "dhn"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
            assert one.notes == other.notes
            for name, weight in one.weights.values.items():
                np.testing.assert_array_equal(weight, other.weights.values[name], name)
        assert at_once.gradients.keys() == late.gradients.keys()
        for name, gradient in at_once.gradients.items():
            np.testing.assert_array_equal(gradient, late.gradients[name], name)
        assert at_once.notes == late.notes


def test_numbers_that_are_not_finite_are_told_of_once_they_arrive(monkeypatch):
    """Also if the script stops inside of the step."""
    let_copies_be_late(monkeypatch)
    training, reports = Training("GRU"), []
    follower = Capture(training.model, training.optimizer, on_not_finite=reports.append)
    follower.step(training.step())
    x = torch.randn(T, B, IN)
    x[2] = torch.nan
    training.model(x).mean().backward()
    assert not reports
    follower.close(stopped=True)
    (report,) = reports
    assert np.isnan(report.calls[0].out[2:]).all()
    assert np.isfinite(report.calls[0].out[:2]).all()


def test_weights_that_change_on_a_device_between_two_calls_are_noted(monkeypatch):
    let_copies_be_late(monkeypatch)
    model, steps = nn.GRU(IN, H), []
    follower = Capture(model, sgd(model), on_step=steps.append)
    loss = model(torch.randn(T, B, IN))[0].mean()
    model.weight_hh_l0.data.mul_(2)
    (loss + model(torch.randn(T, B, IN))[0].mean()).backward()
    follower.step()
    follower.close()
    assert [Note.CHANGED_WEIGHTS in call.notes for call in steps[0].calls] == [True, True]


class Fused(torch.optim.SGD):
    """An optimizer that gets a scale from a GradScaler, as those do that PyTorch calls fused."""

    grad_scale = None

    def step(self, closure=None):
        """Leave the weights as they are."""


def test_p_grad_is_divided_by_the_scale_of_the_moment_of_the_update(monkeypatch):
    let_copies_be_late(monkeypatch)
    model, steps = nn.GRU(IN, H), []
    optimizer = Fused(model.parameters(), 0.1)
    optimizer.grad_scale = torch.tensor(8.0)
    follower = Capture(model, optimizer, on_step=steps.append)
    (8 * model(torch.randn(T, B, IN))[0].mean()).backward()
    gradient = model.bias_hh_l0.grad.clone()
    optimizer.step()
    optimizer.grad_scale.mul_(2)
    follower.step()
    follower.close()
    np.testing.assert_allclose(steps[0].gradients["bias_hh_l0"], gradient.numpy() / 8)


class WithoutFloat64(torch.Tensor):
    """A tensor of a device that has no float64."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function.__name__ == "cpu":
            return args[0].as_subclass(torch.Tensor)
        result = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(result, cls) and result.dtype == torch.float64:
            raise TypeError("the device has no float64")
        return result


def test_a_copy_in_float64_is_made_on_the_cpu():
    tensor = torch.randn(3).as_subclass(WithoutFloat64)
    with pytest.raises(TypeError):
        tensor.double()
    assert in_float64(tensor).dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "capability", "dtype", "expected"),
    [
        (nn.GRU, (8, 0), torch.float32, "tf32"),
        (nn.GRU, (7, 5), torch.float32, ""),
        (nn.GRU, (8, 0), torch.float64, ""),
        (nn.GRUCell, (8, 0), torch.float32, ""),
    ],
)
def test_tf32_is_seen_by_device_and_flag(kind, capability, dtype, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    output = SimpleNamespace(device=torch.device("cuda"), dtype=dtype)
    assert pending.type_of_products(kind(IN, H), output) == expected
    assert pending.type_of_products(kind(IN, H), torch.zeros(1)) == ""


class Rounded(torch.autograd.Function):
    """A product whose factors are rounded to the 10 bits of TF32, forwards and backwards."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return ten_bits(a) @ ten_bits(b)

    @staticmethod
    def backward(ctx, gradient):
        a, b = ctx.saved_tensors
        return ten_bits(gradient) @ ten_bits(b.T), ten_bits(a.T) @ ten_bits(gradient)


def ten_bits(value):
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp(torch.round(mantissa * 2**11) / 2**11, exponent)


class Linear(nn.Linear):
    def forward(self, x):
        return Rounded.apply(x, self.weight.T) + self.bias


class WrittenRNNCell(nn.RNNCell):
    """Computes as torch's cell does, with products of a GPU."""

    def forward(self, x, h):
        products = Rounded.apply(x, self.weight_ih.T) + Rounded.apply(h, self.weight_hh.T)
        return torch.tanh(products + self.bias_ih + self.bias_hh)


def test_tf32_is_a_remark_and_accuses_nobody(monkeypatch):
    monkeypatch.setattr(pending, "type_of_products", lambda part, output: "tf32")
    torch.manual_seed(3)
    cell = WrittenRNNCell(IN, H)
    model = nn.ModuleDict({"cell": cell, "head": nn.Linear(H, 2)})
    tui_gru.debug(model, screen=False)
    h, outputs = torch.zeros(B, H), []
    for x in torch.randn(T, B, IN):
        h = cell(x, h)
        outputs.append(model["head"](h))
    torch.stack(outputs).square().mean().backward()
    session = tui_gru.debug(model, screen=False)
    forget(model)
    assert "p.grad is the derived gradient, neither clipped nor scaled" in session.remarks
    assert Note.TF32.sentence[1:] in session.remarks
    session.seek(session.end)
    largest, worst = 0.0, 0.0
    for name in session.parameter_names:
        recorded = session.recorded_gradient(name)
        if recorded is not None:
            largest = max(largest, abs(recorded).max())
            worst = max(worst, abs(session.gradient(name) - recorded).max())
    assert worst > 1e-5 * largest  # it is far more than the rounding of float32
