"""What is particular to devices: graphs of CUDA, TF32, and a device without float64. They are played on the CPU."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.handwritten import IN, H
from tests.capture.scripts import Model
from tests.capture.test_borders import capture, forward, sgd
from tui_gru.capture import hooks, pending
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


@pytest.mark.parametrize("records", [True, False], ids=["record", "debug"])
def test_the_hooks_of_a_loop_read_no_number_in_each_timestep(records, monkeypatch, tmp_path):
    """To read one, Python would wait for the device."""
    reads = []

    def step(timesteps):
        optimizer.zero_grad()
        h, outputs = torch.zeros(B, H), []
        for x in torch.randn(timesteps, B, IN):
            h = model["cell"](x, h)
            outputs.append(h)
        loss = torch.stack(outputs).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    def counted(name):
        original = getattr(torch.Tensor, name)
        return lambda tensor, *args: (reads.append(name), original(tensor, *args))[1]

    torch.manual_seed(3)
    model = nn.ModuleDict({"cell": nn.GRUCell(IN, H)})
    optimizer = sgd(model)
    follower = tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1) if records else Capture(model, optimizer)
    monkeypatch.setattr(hooks, "reading_waits", lambda tensor: True)
    for _ in range(FIRST_WATCHED + 1):
        follower.step(step(8))
    counts = []
    for timesteps in (8, 40):
        with pytest.MonkeyPatch.context() as patch:
            for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
                patch.setattr(torch.Tensor, name, counted(name))
            loss = step(timesteps)
        follower.step(loss)
        counts.append(sorted(reads))
        reads.clear()
    follower.close()
    assert counts[0] == counts[1]
    assert counts[0].count("__float__") == records  # once a backward pass, since the script can stop in it


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
