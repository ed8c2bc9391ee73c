"""Hand-written cells that are no GRU, LSTM or RNN: their equations are read off their operations, or a warning says why not."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.capture.handwritten import IN, H, debugged_and_recorded, two_steps
from tests.capture.test_borders import capture
from tests.imported.recomputed import compare_gradients, compare_outputs
from tests.rounding import of_call
from tui_gru.capture.calls import Note
from tui_gru.capture.operations import NAMES_OF_RUNS
from tui_gru.debugger.program import CHARACTERS, COUNTERS, NUMBERS
from tui_gru.errors import CaptureError
from tui_gru.imported.module import forget
from tui_gru.imported.recompute import recompute, sequences

T, B = 6, 3


class NormedGatesLSTMCell(nn.Module):
    """As the layer-normalised LSTM of the fast RNNs of PyTorch: over all gates at once, and over the memory."""

    def __init__(self, affine=True):
        super().__init__()
        self.from_x, self.from_h = (nn.Parameter(torch.randn(4 * H, size) / 2) for size in (IN, H))
        self.norm_x, self.norm_h = (nn.LayerNorm(4 * H, elementwise_affine=affine) for _ in range(2))
        self.norm_c = nn.LayerNorm(H, elementwise_affine=affine)

    def forward(self, x, state):
        h, c = state
        gates = self.norm_x(torch.mm(x, self.from_x.t())) + self.norm_h(torch.mm(h, self.from_h.t()))
        i, f, g, o = gates.chunk(4, 1)
        c = self.norm_c(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class NormedEachGateCell(nn.Module):
    """A GRU that normalises the sum that reaches each gate, with numbers of its own below the root."""

    def __init__(self):
        super().__init__()
        self.x2h, self.h2h = nn.Linear(IN, 3 * H, bias=False), nn.Linear(H, 3 * H, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(H, eps=1e-3) for _ in range(3)])

    def forward(self, x, h):
        xr, xz, xn = self.x2h(x).split(H, dim=-1)
        hr, hz, hn = self.h2h(h).split(H, dim=-1)
        r = self.norms[0](xr + hr).sigmoid()
        z = self.norms[1](xz + hz).sigmoid()
        n = self.norms[2](xn + r * hn).tanh()
        return z * h + (1 - z) * n


class OwnNorm(nn.Module):
    """As layer norms were written before torch had one: the standard deviation of a sample, and a number added to it."""

    def __init__(self, size):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.rand(1, size) + 0.5), nn.Parameter(torch.randn(1, size) / 4)

    def forward(self, a):
        mean, std = a.mean(1, keepdim=True).expand_as(a), a.std(1, keepdim=True).expand_as(a)
        return (a - mean) / (std + 1e-5) * self.gain.expand_as(a) + self.shift.expand_as(a)


class OwnNormedLSTMCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.x2h, self.h2h = nn.Linear(IN, 4 * H), nn.Linear(H, 4 * H)
        self.norm_x, self.norm_h, self.norm_c = OwnNorm(4 * H), OwnNorm(4 * H), OwnNorm(H)

    def forward(self, x, h, c):
        gates = self.norm_x(self.x2h(x)) + self.norm_h(self.h2h(h))
        i, f, o = (torch.sigmoid(gates[:, k * H : (k + 1) * H] + bias) for k, bias in enumerate((0, 1, 0)))
        c = f * c + i * torch.tanh(gates[:, 3 * H :])
        return o * torch.tanh(self.norm_c(c)), c


class OneNorm(nn.LSTMCell):
    """A subclass of torch's cell that uses one norm, a function, for the products with x and with h."""

    def __init__(self):
        super().__init__(IN, H)
        self.gain = nn.Parameter(torch.rand(4 * H) + 0.5)

    def forward(self, x, states):
        h, c = states
        normed = [
            functional.layer_norm(a, (4 * H,), self.gain)
            for a in (functional.linear(x, self.weight_ih, self.bias_ih), h @ self.weight_hh.T)
        ]
        i, f, g, o = (normed[0] + normed[1] + self.bias_hh).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class RootMeanSquareCell(nn.Module):
    """Other operations: x and h in one matrix, a relu, lerp, a root of a mean of squares, a softmax, numbers made in the call."""

    def __init__(self):
        super().__init__()
        self.gate, self.new = nn.Linear(IN + H, H), nn.Linear(IN + H, H)
        self.gain = nn.Parameter(torch.rand(H) + 0.5)

    def forward(self, x, h):
        both = torch.cat([x, h], dim=-1)
        z = torch.sigmoid(self.gate(both))
        new = torch.relu(self.new(both)) + functional.softmax(h, -1) / 2
        new = new * torch.rsqrt(new.pow(2).mean(-1, keepdim=True) + 1e-2) * self.gain
        return torch.lerp(h, new, z) - 0.1 * (torch.ones_like(z) - z)


class MemoryFirstCell(nn.Module):
    """Takes and returns its memory before its state, both optional, and has a peephole."""

    def __init__(self):
        super().__init__()
        self.x2h, self.h2h, self.peep = nn.Linear(IN, 2 * H), nn.Linear(H, 2 * H), nn.Parameter(torch.randn(H))

    def forward(self, x, state=None):
        c, h = (x.new_zeros(len(x), H), x.new_zeros(len(x), H)) if state is None else state
        keep, new = (self.x2h(x) + self.h2h(h)).chunk(2, -1)
        keep = torch.sigmoid(keep + self.peep * c)
        c = keep * c + (1 - keep) * torch.tanh(new)
        return c, torch.tanh(c)


class MultiplicativeLSTMCell(nn.Module):
    """Multiplies the products with x and with h, whose sizes do not follow from the sum of either with another one."""

    def __init__(self):
        super().__init__()
        self.x, self.m, self.mx, self.mh = nn.Linear(IN, 4 * H), nn.Linear(H, 4 * H), nn.Linear(IN, H), nn.Linear(H, H)

    def forward(self, x, hc):
        h, c = hc
        i, f, o, u = torch.split(self.x(x) + self.m(self.mx(x) * self.mh(h)), H, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(u)
        return torch.sigmoid(o) * torch.tanh(c), c


class LowRankCell(nn.Module):
    """Two matrices in a row instead of one for h, and for x."""

    def __init__(self, rank=2):
        super().__init__()
        self.W, self.V = nn.Linear(IN, rank, bias=False), nn.Linear(rank, 2 * H)
        self.left, self.right = (nn.Parameter(torch.randn(*shape) / 2) for shape in ((H, rank), (rank, 2 * H)))

    def forward(self, x, h):
        z, new = (self.V(self.W(x)) + h @ self.left @ self.right).chunk(2, 1)
        z = torch.sigmoid(z)
        return z * h + (1 - z) * torch.tanh(new)


class ProductCell(LowRankCell):
    """Multiplies by the product of two matrices."""

    def forward(self, x, h):
        z, new = (functional.linear(x, self.V.weight @ self.W.weight, self.V.bias) + h @ (self.left @ self.right)).chunk(2, 1)
        z = torch.sigmoid(z)
        return z * h + (1 - z) * torch.tanh(new)


class InnerLayersCell(nn.Module):
    """As a closed-form continuous-time cell: its gates read the last of a few layers of x and h."""

    def __init__(self, sizes=(2 * H + 1, 3)):
        super().__init__()
        first, second = sizes
        self.inner = nn.Sequential(nn.Linear(IN + H, first), nn.ReLU(), nn.Linear(first, second), nn.Tanh())
        self.one, self.other, self.when = (nn.Linear(second, H) for _ in range(3))

    def forward(self, x, h):
        inner = self.inner(torch.cat([x, h], 1))
        t = torch.sigmoid(self.when(inner))
        return torch.tanh(self.one(inner)) * (1 - t) + t * torch.tanh(self.other(inner))


class MogrifierLSTMCell(nn.Module):
    """x and h scale each other before the gates read them."""

    def __init__(self, inputs=IN):
        super().__init__()
        self.x2h, self.h2h, self.q, self.r = (nn.Linear(*size) for size in ((inputs, 4 * H), (H, 4 * H), (H, inputs), (inputs, H)))

    def forward(self, x, hc):
        h, c = hc
        x = 2 * torch.sigmoid(self.q(h)) * x
        h = 2 * torch.sigmoid(self.r(x)) * h
        i, f, g, o = (self.x2h(x) + self.h2h(h)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


FORMS = {
    "low rank": LowRankCell,
    "low rank of the size of x": lambda: LowRankCell(IN),
    "low rank of one": lambda: LowRankCell(1),
    "low rank in one matrix": ProductCell,
    "inner layers": InnerLayersCell,
    "inner layers of the sizes of x and h": lambda: InnerLayersCell((IN, 2 * H)),
    "x and h scale each other": MogrifierLSTMCell,
    "over all gates": NormedGatesLSTMCell,
    "over all gates, without gains": lambda: NormedGatesLSTMCell(affine=False),
    "over each gate": NormedEachGateCell,
    "written by hand": OwnNormedLSTMCell,
    "one norm for both products": OneNorm,
    "root mean square": RootMeanSquareCell,
    "memory first": MemoryFirstCell,
    "multiplied products": MultiplicativeLSTMCell,
}


def loop(cell, x):
    """Return the states (T, B, H) of a loop over x (T, B, I), called as each cell of this file is."""
    h, c, outs = x.new_zeros(x.shape[1], H), x.new_zeros(x.shape[1], H), []
    for number, one in enumerate(x):
        match cell:
            case NormedGatesLSTMCell():
                h, (_, c) = cell(one, (h, c))
            case OwnNormedLSTMCell():
                h, c = cell(one, h, c)
            case OneNorm() | MultiplicativeLSTMCell() | MogrifierLSTMCell():
                h, c = cell(one, (h, c))
            case MemoryFirstCell():
                c, h = cell(one, (c, h)) if number else cell(one)
            case _:
                h = cell(one, h)
        outs.append(h)
    return torch.stack(outs)


class Script(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(H, 2)

    def forward(self, x):
        return self.head(loop(self.cell, x))


def trained(make, dtype=torch.float32, **options):
    """Train two steps, captured unless `options` is empty. Returns the model, the steps, and what was learned, as bytes."""
    torch.manual_seed(3)
    model = Script(make()).to(dtype)
    steps, learned = two_steps(model, lambda model: (model(torch.randn(T, B, IN, dtype=dtype)) + 1).pow(2).mean(), 0.1, **options)
    return model, steps, learned


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_outputs_and_gradients_are_those_of_the_script(make, dtype):
    model, steps, learned = trained(make, dtype, head=None)
    assert learned == trained(make, dtype)[2]
    for step in steps:
        (call,) = sequences(step)
        assert (call.module.name, call.module.equations.name, call.timesteps) == ("cell", type(model.cell).__name__, T)
        assert compare_outputs(call, recompute(call))[0].error < of_call(call)
        compared = compare_gradients(replace(step, calls=(call,)))
        assert compared.cause == "equal"
        assert compared.error < of_call(call)
        own = {name: value.numel() for name, value in model.cell.named_parameters()}
        assert sum(value.size for value in call.weights.values.values()) == sum(own.values())


class ActivatedCell(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.x2h, self.h2h, self.activation = nn.Linear(IN, H), nn.Linear(H, H), activation
        nn.init.normal_(self.x2h.weight, std=2)  # so that all parts of a function are met

    def forward(self, x, h):
        return 0.3 * h + torch.tanh(0.5 * self.activation(self.x2h(x) + self.h2h(h)))


ACTIVATIONS = {
    "softplus": nn.Softplus(), "softplus of beta": nn.Softplus(beta=3.0, threshold=90.0), "gelu": nn.GELU(),
    "gelu by tanh": nn.GELU("tanh"), "elu": nn.ELU(), "elu of alpha": nn.ELU(0.3), "selu": nn.SELU(), "celu": nn.CELU(0.7),
    "silu": nn.SiLU(), "mish": nn.Mish(),
    "leaky relu": nn.LeakyReLU(), "leaky relu of 0.2": nn.LeakyReLU(0.2), "prelu": nn.PReLU(H),
    "relu6": nn.ReLU6(), "hardsigmoid": nn.Hardsigmoid(), "hardtanh": nn.Hardtanh(), "hardtanh of bounds": nn.Hardtanh(-0.5, 2.0),
    "hardswish": nn.Hardswish(), "log-sigmoid": nn.LogSigmoid(), "softsign": nn.Softsign(), "tanhshrink": nn.Tanhshrink(),
    "clamp": lambda a: a.clamp(-1, 2), "clamp above": lambda a: a.clamp(max=0.5), "clamp below": lambda a: a.clamp(-0.5),
    "clamp in place": lambda a: a.clamp_(-0.4, 0.4), "sin and cos": lambda a: a.sin() + 2 * a.cos(), "abs": torch.abs,
    "exp and log": lambda a: torch.log1p(a.exp()) + torch.expm1(-a * a), "sqrt": lambda a: torch.sqrt(a * a + 1),
    "minimum and maximum": lambda a: torch.minimum(a, a * a) + torch.maximum(a, torch.sigmoid(a)),
    "where": lambda a: torch.where(a > 0.1, a, 0.1 * a) + a.masked_fill(a <= 0.5, 0.5), "erf": torch.erf,
    "product with a mask": lambda a: a * (a >= 0).float(), "addcmul and addcdiv": lambda a: torch.addcdiv(
        torch.addcmul(a, a, a, value=0.1), a, 1 + a * a, value=2.0),
}  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_functions_of_torch_and_their_gradients_are_those_of_the_script(activation):
    # Not in float64, in which some functions of torch have numbers that are rounded to float32: a sixth, the inverse of alpha.
    model, steps, _ = trained(lambda: ActivatedCell(activation), head=None)
    for step in steps:
        (call,) = sequences(step)
        assert call.module.equations.name == type(model.cell).__name__
        assert compare_outputs(call, recompute(call))[0].error < of_call(call)
        compared = compare_gradients(replace(step, calls=(call,)))
        assert compared.cause == "equal"
        assert compared.error < of_call(call)


class ScaledCell(nn.Module):
    """As FastGRNN: two numbers that all units read, of (1, 1) and of no axis, and constants, of the units and a matrix."""

    def __init__(self):
        super().__init__()
        self.W, self.U = nn.Parameter(torch.randn(IN, H) / 2), nn.Parameter(torch.randn(H, H) / 2)
        self.zeta, self.nu = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.tensor(-2.0))
        self.register_buffer("leak", torch.rand(H))
        self.register_buffer("fixed", torch.randn(H, H) / 4)

    def forward(self, x, h):
        both = x @ self.W + h @ self.U + torch.tanh(h @ self.fixed)
        z = torch.sigmoid(both + self.leak)
        return z * h + (torch.sigmoid(self.zeta) * (1 - z) + torch.sigmoid(self.nu)) * torch.tanh(both)


class PooledCell(OneNorm):
    """As a QRNN: its h is read by nothing, so that c is its state, which comes back in its place."""

    def forward(self, x, states):
        _, c = states
        z, f, o, _ = functional.linear(x, self.weight_ih, self.bias_ih).chunk(4, 1)
        c = f.sigmoid() * c + (1 - f.sigmoid()) * z.tanh()
        return o.sigmoid() * c, c


class ContextCell(OneNorm):
    """As the SCRN: its memory does not read its h."""

    def forward(self, x, states):
        h, c = states
        c = 0.05 * functional.linear(x, self.weight_ih[:H]) + 0.95 * c
        return torch.sigmoid(
            functional.linear(x, self.weight_ih[H : 2 * H]) + h @ self.weight_hh[:H] + c @ self.weight_hh[H : 2 * H]
        ), c


class GroupedCell(nn.Module):
    def __init__(self, groups):
        super().__init__()
        self.x2h, self.h2h, self.norm = nn.Linear(IN, 2 * H), nn.Linear(H, 2 * H), nn.GroupNorm(groups, 2 * H)

    def forward(self, x, h):
        z, n = self.norm(self.x2h(x) + self.h2h(h)).chunk(2, 1)
        return torch.lerp(h, n.tanh(), z.sigmoid())


class BatchNormedCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.x2h, self.h2h, self.norm = nn.Linear(IN, H), nn.Linear(H, H), nn.BatchNorm1d(H).eval()
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x, h):
        return 0.5 * h + torch.tanh(self.norm(self.x2h(x)) + self.h2h(h))


OTHERS = {
    "numbers and constants": (ScaledCell, {"zeta", "nu", "leak", "fixed"}),
    "a state that is read by nothing": (PooledCell, set()),
    "a memory of its own": (ContextCell, set()),
    "a group norm of all": (lambda: GroupedCell(1), set()),
    "a group norm of each gate": (lambda: GroupedCell(2), set()),
    "a batch norm in evaluation mode": (BatchNormedCell, {"norm.running_mean", "norm.running_var"}),
}


@pytest.mark.parametrize(("make", "without"), OTHERS.values(), ids=OTHERS)
def test_other_cells_are_read_off(make, without):
    model, steps, _ = trained(make, torch.float64, head=None)
    for step in steps:
        (call,) = sequences(step)
        assert compare_outputs(call, recompute(call))[0].error < of_call(call)
        compared = compare_gradients(replace(step, calls=(call,)))
        assert (compared.cause, compared.error < of_call(call)) == ("equal", True)
        assert len(call.weights.values) - len(compared.differences) == len(without)
        for constant in model.cell.buffers() if without else ():  # they are there, and have no gradient of the script
            assert constant.dim() == 0 or any(np.array_equal(value, constant) for value in call.weights.values.values())


class DroppingCell(GroupedCell):
    def forward(self, x, h):
        return functional.dropout(super().forward(x, h), 0.5, self.training)


@pytest.mark.parametrize("given", [{}, {"cell": "cell"}], ids=["found", "named"])
def test_a_cell_that_drops_out_is_captured_in_evaluation_mode_alone(given):
    torch.manual_seed(1)
    model = Script(DroppingCell(1)).eval()
    steps, running = capture(model, **given)
    for mode in (False, True, True, False):
        model.train(mode)
        with pytest.warns(UserWarning, match="it draws random numbers") if mode and len(steps) == 1 else nullcontext():
            model(torch.randn(T, B, IN)).sum().backward()
        running.step()
    running.close()
    assert [len(step.calls) for step in steps] == [1, 0, 0, 1]


def test_the_variables_of_the_script_name_the_lines_and_the_weights():
    _, steps, _ = trained(NormedEachGateCell, head=None)
    assert (
        sequences(steps[0])[0].module.equations.text
        == """reads x
state h : H
parameters Wxr Wxz Wxn Uhr Uhz Uhn gr br gz bz gn bn

xr = x Wxr
xz = x Wxz
xn = x Wxn
hr = hₜ₋₁ Uhr
hz = hₜ₋₁ Uhz
hn = hₜ₋₁ Uhn
ar = xr + hr
er = ar − mean ar over the units
r = σ(er/sqrt(mean er^2 over the units + 0.001)⊙gr + br)
az = xz + hz
ez = az − mean az over the units
z = σ(ez/sqrt(mean ez^2 over the units + 0.001)⊙gz + bz)
an = xn + r⊙hn
en = an − mean an over the units
n = tanh(en/sqrt(mean en^2 over the units + 0.001)⊙gn + bn)
h = z⊙hₜ₋₁ + (1 − z)⊙n
"""
    )


class LoopedRNN(nn.Module):
    """Computes the products with all x before its loop, and can return its states as a list; its norms are those of the gates."""

    def __init__(self, batch_first=False, listed=False):
        super().__init__()
        self.cell, self.batch_first, self.listed = NormedEachGateCell(), batch_first, listed

    def forward(self, x, h=None):
        outs, h = [], x.new_zeros(x.shape[not self.batch_first], H) if h is None else h
        for one in self.cell.x2h(x).unbind(1 if self.batch_first else 0):
            h = self.step(one, h)
            outs.append(h)
        return outs if self.listed else (torch.stack(outs, 1 if self.batch_first else 0), h)

    def step(self, one, h):
        (xr, xz, xn), (hr, hz, hn) = one.chunk(3, -1), self.cell.h2h(h).chunk(3, -1)
        r, z = (torch.sigmoid(norm(a)) for norm, a in zip(self.cell.norms[:2], (xr + hr, xz + hz), strict=True))
        return z * h + (1 - z) * torch.tanh(self.cell.norms[2](xn + r * hn))


class LoopedLSTMRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.x2h, self.h2h, self.norm, self.norm_c = nn.Linear(IN, 4 * H), nn.Linear(H, 4 * H), nn.LayerNorm(4 * H), nn.LayerNorm(H)

    def forward(self, x, states=None):
        h, c = (x.new_zeros(x.shape[1], H), x.new_zeros(x.shape[1], H)) if states is None else states
        outs = []
        for t in range(len(x)):
            i, f, g, o = self.norm(self.x2h(x[t]) + self.h2h(h)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self.norm_c(c).tanh()
            outs.append(h)
        return torch.stack(outs), (h, c)


LOOPS = {
    "rows second": LoopedRNN,
    "rows first": lambda: LoopedRNN(batch_first=True),
    "a list": lambda: LoopedRNN(listed=True),
    "with a memory": LoopedLSTMRNN,
}


@pytest.mark.parametrize("begins", [False, True], ids=["from zeros", "from states"])
@pytest.mark.parametrize("make", LOOPS.values(), ids=LOOPS)
def test_a_loop_is_read_off_from_its_second_timestep(make, begins):
    torch.manual_seed(3)
    model = nn.ModuleDict({"rnn": make()})
    steps, running = capture(model)
    rows_first = getattr(model["rnn"], "batch_first", False)
    state = torch.randn(B, H) if isinstance(model["rnn"], LoopedRNN) else (torch.randn(B, H), torch.randn(B, H))
    out = model["rnn"](torch.randn(*((B, T) if rows_first else (T, B)), IN), *([state] if begins else []))
    whole = torch.stack(out) if isinstance(out, list) else out[0]
    (whole.square().sum() + (out[-1][-1] if isinstance(out[-1], tuple) else out[-1]).sum()).backward()
    running.step()
    running.close()
    (call,) = sequences(steps[0])
    assert (call.module.equations.name, call.timesteps) == (type(model["rnn"]).__name__, T)
    assert compare_outputs(call, recompute(call))[0].error < of_call(call)
    compared = compare_gradients(replace(steps[0], calls=(call,)))
    assert (compared.cause, compared.error < of_call(call)) == ("equal", True)


class FadingRNN(LoopedRNN):
    """Computes another function in each timestep."""

    def forward(self, x, h=None):
        outs, h = [], x.new_zeros(x.shape[1], H)
        for t, one in enumerate(self.cell.x2h(x)):
            h = self.step(one, h) / (1 + t)
            outs.append(h)
        return torch.stack(outs), h


def test_another_loop_is_refused():
    torch.manual_seed(3)
    model = nn.ModuleDict({"rnn": FadingRNN()})
    steps, running = capture(model, cell="rnn")
    why = "its equations cannot be read off its operations: its timestep 3 is off by"
    with pytest.warns(UserWarning, match=f"is not captured: .*; {why}"):
        model["rnn"](torch.randn(T, B, IN))
    running.close()
    assert not any(step.calls for step in steps)


class ForeignNamesCell(nn.Module):
    """Its variables have names that equations have for something else."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(IN, H), nn.Linear(H, H)

    def forward(self, x, h):
        sum = self.one(x)
        exp = self.two(h)
        z = sum * exp
        dz = z + exp
        h_prev = dz * z
        return torch.tanh(h_prev + sum)


@pytest.mark.parametrize("call", ["unbatched", "keywords", "half"])
@pytest.mark.parametrize("make", [ForeignNamesCell, NormedEachGateCell])
def test_other_calls(make, call):
    torch.manual_seed(5)
    cell = make()
    steps, running = capture(cell, cell="")
    x, h = (torch.randn(IN), torch.zeros(H)) if call == "unbatched" else (torch.randn(B, IN), torch.zeros(B, H))
    with torch.autocast("cpu", enabled=call == "half"):
        for _ in range(3):
            h = cell(h=h, x=x) if call == "keywords" else cell(x, h)
    h.float().square().sum().backward()
    running.step()
    running.close()
    (found,) = sequences(steps[0])
    assert (found.module.equations.name, found.timesteps) == (make.__name__, 3)
    assert compare_gradients(replace(steps[0], calls=(found,))).cause in ("equal", "rounded" if call == "half" else "equal")


class Refused(NormedEachGateCell):
    """Computes one more operation on the new state."""

    def forward(self, x, h, more=None):
        return self.then(super().forward(x, h), more)


class DroppedCell(Refused):
    def then(self, h, more):
        return functional.dropout(h, 0.5)


class RoundedCell(Refused):
    def then(self, h, more):
        return h.round()


class MaskedCell(Refused):
    def then(self, h, more):
        return h * more


class RememberingCell(Refused):
    last = torch.zeros(1, H)

    def then(self, h, more):
        h, self.last = h + self.last, h.detach()
        return h


class CountingCell(Refused):
    """What is read off its second call and later ones computes something else than its first."""

    calls = 0

    def then(self, h, more):
        self.calls += 1
        return h * (1 if self.calls == 1 else 3)


class DetachedCell(Refused):
    def then(self, h, more):
        return h + self.h2h(h.detach())[:, :H]


class StraightThroughCell(Refused):
    """Its gradient is that of the sigmoid, as if it had not been rounded."""

    def then(self, h, more):
        p = torch.sigmoid(h)
        return ((p > 0.5).double() - p).detach() + p


class BatchNormCell(Refused):
    def then(self, h, more):
        return functional.batch_norm(h, None, None, training=True)


class OverRowsCell(Refused):
    def then(self, h, more):
        return h - h.mean(0, keepdim=True)


class NormedWeightCell(Refused):
    def then(self, h, more):
        return h @ (self.h2h.weight / self.h2h.weight.norm())[:H]


class TiedCell(Refused):
    def then(self, h, more):
        return h @ self.h2h.weight[:H] + h @ self.h2h.weight[1 : H + 1]


class SeveralCell(Refused):
    def then(self, h, more):
        return h, torch.tanh(h)


class TwiceCell(Refused):
    def then(self, h, more):
        return (h @ self.wide) @ self.wide.T

    def __init__(self):
        super().__init__()
        self.wide = nn.Parameter(torch.randn(H, 2 * H + 1))


class ShuffledCell(Refused):
    def then(self, h, more):
        return h[:, torch.arange(H).flip(0)]


WHY = {
    DroppedCell: "it draws random numbers",
    RoundedCell: "torch.round has no equation",
    MaskedCell: "its new state depends on 1 more argument besides x and h",
    RememberingCell: "it reads numbers that are none of its arguments, states or parameters",
    CountingCell: "its first call is off by",
    DetachedCell: "its backward pass is not the derivative of what it computes",
    StraightThroughCell: "its backward pass is not the derivative of what it computes",
    BatchNormCell: "a batch norm computes over the rows in training mode",
    OverRowsCell: "an operation is taken along the rows",
    NormedWeightCell: "it multiplies by a matrix that is no part of a parameter, but computed, as by weight_norm",
    TiedCell: "it uses a part of h2h.weight in several ways, whose gradients cannot be told apart",
    SeveralCell: "it returns several tensors that can be its new state; let it return h alone",
    TwiceCell: "it uses a part of wide in several ways, whose gradients cannot be told apart",
    ShuffledCell: "torch.index has no equation",
}


def called_twice(cell, running):
    """Call a cell in two steps: which of several results is the state is seen, if at all, in another call."""
    for _ in range(2):
        out = cell(torch.randn(B, IN), torch.zeros(B, H), torch.ones(B, H))
        (out[0] if isinstance(out, tuple) else out).sum().backward()
        running.step()


@pytest.mark.parametrize("make", WHY)
def test_what_has_no_equations_is_said_with_the_operation(make):
    torch.manual_seed(5)
    cell = make()
    steps, running = capture(cell)
    with pytest.warns(UserWarning, match=r"tui_gru: cell \(.*\) is not captured: ") as said:
        called_twice(cell, running)
    running.close()
    (message,) = [str(each.message) for each in said if "tui_gru" in str(each.message)]
    assert WHY[make] in message
    assert not steps[0].calls


class Normed(nn.Module):
    """Has no class with the name of a recurrent one."""

    def __init__(self):
        super().__init__()
        self.x2h, self.h2h, self.norm = nn.Linear(IN, H), nn.Linear(H, H), nn.LayerNorm(H)

    def forward(self, x, h):
        return torch.tanh(self.norm(self.x2h(x) + self.h2h(h)))


def test_another_class_is_read_off_if_it_is_named():
    def captured(**options):
        model = nn.ModuleDict({"step": Normed()})
        steps, running = capture(model, **options)
        model["step"](torch.randn(B, IN), torch.zeros(B, H)).sum().backward()
        running.step()
        running.close()
        return steps[0].calls

    with pytest.warns(UserWarning, match="; or name it with cell= to have its equations read off its operations"):
        assert not captured()
    (call,) = captured(cell="step")
    assert call.module.equations.name == "Normed"


def test_it_is_debugged_and_recorded(tmp_path):
    torch.manual_seed(4)
    model = Script(NormedGatesLSTMCell())
    session, opened = debugged_and_recorded(model, (T, B, IN), tmp_path)
    assert (
        "NormedGatesLSTMCell is hand-written, and its equations are read off its operations: the output is the same to"
        in session.notice
    )
    session.step("batch")
    assert session.check().agrees
    for name in ("i", "ec", "s1", "h", "dc", "dgi"):
        np.testing.assert_array_equal(opened.value(name), session.value(name))
    node = session.explain("s1", (0,))
    assert node.value == float(session.value("s1")[0])
    gradient = model.cell.norm_x.weight.grad[H : 2 * H].numpy()
    assert np.abs(session.gradient("gf") - gradient).max() < 1e-5 * np.abs(gradient).max()
    forget(model)


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.step, self.head = torch.jit.script(nn.Sequential(nn.Linear(IN, H))), nn.Linear(H, 2)


def test_names_of_every_run_are_no_lines():
    assert {*NAMES_OF_RUNS, *NUMBERS[:1], *COUNTERS[3:]} == {*NUMBERS, *COUNTERS, *CHARACTERS}


@pytest.mark.parametrize(("make", "shape"), [(LowRankCell, (2, H)), (InnerLayersCell, None), (MogrifierLSTMCell, None)])
def test_inner_sizes_are_debugged_and_recorded(make, shape, tmp_path):
    """One has a variable t, which is the timestep on the screen."""
    torch.manual_seed(4)
    model = Script(make())
    session, opened = debugged_and_recorded(model, (T, B, IN), tmp_path)
    assert "p.grad is the derived gradient" in session.notice
    session.step("batch")
    assert session.check().agrees
    assert shape is None or session.gradient("Uz").shape == shape
    for name in session.parameter_names:
        np.testing.assert_array_equal(opened.gradient(name), session.gradient(name))
    forget(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
@pytest.mark.parametrize("given", [{}, {"cell": "step"}], ids=["found", "named"])
def test_a_compiled_cell_is_refused_with_the_cure(given):
    model = Scripted()
    if not given:
        model.head = nn.Identity()
    with pytest.raises(CaptureError, match=r"step is compiled by TorchScript.*PYTORCH_JIT=0"):
        capture(model, **given)


def test_a_cell_under_vmap_is_not_kept():
    cell = NormedEachGateCell()
    steps, running = capture(nn.Sequential(cell))
    one = torch.vmap(lambda x: cell(x[None], torch.zeros(1, H))[0])
    one(torch.randn(B, IN)).sum().backward()
    running.step()
    running.close()
    assert not steps[0].calls
    assert Note.NOT_CAPTURED in steps[0].notes
