"""Cells as people write them by hand, and what each of them computes."""

import torch
from torch import nn
from torch.nn import functional

import tui_gru
from tests.capture.test_borders import capture
from tests.capture.test_putting_back import hooks
from tui_gru.files.kinds import Convention

IN, H = 4, 5


def parameter(*shape):
    return nn.Parameter(0.4 * torch.randn(*shape))


class Chunked(nn.Module):
    """x2h and h2h, each with all gates."""

    def __init__(self, inputs=IN, bias=True):
        super().__init__()
        self.x2h, self.h2h = nn.Linear(inputs, 3 * H, bias=bias), nn.Linear(H, 3 * H, bias=bias)

    def forward(self, x, h):
        i_r, i_z, i_n = self.x2h(x).chunk(3, 1)
        h_r, h_z, h_n = self.h2h(h).chunk(3, 1)
        r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
        n = torch.tanh(i_n + r * h_n)
        return n + z * (h - n)


class Concatenated(nn.Module):
    """A Linear for each gate, over x and h side by side; z takes the new state."""

    def __init__(self, inputs=IN, last=True):
        super().__init__()
        self.last = last
        self.W_z, self.W_r, self.W_h = (nn.Linear(inputs + H, H) for _ in range(3))

    def forward(self, x, h):
        both = (lambda state: (x, state)) if self.last else (lambda state: (state, x))
        z, r = torch.sigmoid(self.W_z(torch.cat(both(h), 1))), torch.sigmoid(self.W_r(torch.cat(both(h), 1)))
        return (1 - z) * h + z * torch.tanh(self.W_h(torch.cat(both(r * h), 1)))


class GatesTogether(nn.Module):
    """One Linear for both gates, one for the candidate; called with h first, and returns an output as well."""

    def __init__(self):
        super().__init__()
        self.gates, self.candidate, self.out = nn.Linear(IN + H, 2 * H), nn.Linear(IN + H, H), nn.Linear(H, H)

    def forward(self, hidden, inputs):
        r, u = torch.sigmoid(self.gates(torch.cat([inputs, hidden], 1))).split(H, 1)
        hidden = u * hidden + (1 - u) * torch.tanh(self.candidate(torch.cat([inputs, r * hidden], 1)))
        return self.out(hidden), hidden


class SixLinears(nn.Module):
    """fc_ir … fc_hn, in no order, with a bias here and there."""

    def __init__(self, inputs=IN):
        super().__init__()
        self.fc_hn, self.fc_in = nn.Linear(H, H), nn.Linear(inputs, H, bias=False)
        self.fc_iz, self.fc_ir = nn.Linear(inputs, H, bias=False), nn.Linear(inputs, H)
        self.fc_hr, self.fc_hz = nn.Linear(H, H), nn.Linear(H, H)

    def forward(self, x, h):
        r = torch.sigmoid(self.fc_hr(h) + self.fc_ir(x))
        n = torch.tanh(self.fc_in(x) + r * self.fc_hn(h))
        z = torch.sigmoid(self.fc_iz(x) + self.fc_hz(h))
        return (1 - z) * n + z * h


class Raw(nn.Module):
    """Parameters and products, as in a textbook; x and h have the same size."""

    def __init__(self):
        super().__init__()
        for gate in "zrh":
            setattr(self, f"W_x{gate}", parameter(H, H))
            setattr(self, f"W_h{gate}", parameter(H, H))
            setattr(self, f"b_{gate}", parameter(H))

    def forward(self, X, state):
        Z = torch.sigmoid(X @ self.W_xz + state @ self.W_hz + self.b_z)
        R = torch.sigmoid(X @ self.W_xr + state @ self.W_hr + self.b_r)
        candidate = torch.tanh(X @ self.W_xh + (R * state) @ self.W_hh + self.b_h)
        return Z * state + (1 - Z) * candidate


class Einsum(nn.Module):
    """One parameter for all, of which parts are used; hard sigmoid as in old Keras."""

    def __init__(self):
        super().__init__()
        self.kernel, self.recurrent, self.bias = parameter(IN, 3 * H), parameter(H, 3 * H), parameter(3 * H)

    def forward(self, x, h):
        def gate(a):
            return (0.2 * a + 0.5).clamp(0, 1)

        z_x, r_x, h_x = (torch.einsum("bi,ij->bj", x, self.kernel) + self.bias).split(H, -1)
        z = gate(z_x + torch.einsum("bi,ij->bj", h, self.recurrent[:, :H]))
        r = gate(r_x + torch.einsum("bi,ij->bj", h, self.recurrent[:, H : 2 * H]))
        return z * h + (1 - z) * torch.tanh(h_x + torch.einsum("bi,ij->bj", r * h, self.recurrent[:, 2 * H :]))


class Functional(nn.Module):
    """Weights as torch has them, with gates in the order of Keras, and h that may be left out."""

    def __init__(self):
        super().__init__()
        self.weight_ih, self.weight_hh = parameter(3 * H, IN), parameter(3 * H, H)
        self.bias_ih, self.bias_hh = parameter(3 * H), parameter(3 * H)

    def forward(self, input, hx=None):
        hx = input.new_zeros(len(input), H) if hx is None else hx
        i_z, i_r, i_n = functional.linear(input, self.weight_ih, self.bias_ih).chunk(3, 1)
        h_z, h_r, h_n = functional.linear(hx, self.weight_hh, self.bias_hh).chunk(3, 1)
        z = torch.sigmoid(i_z + h_z)
        return z * hx + (1 - z) * torch.tanh(i_n + torch.sigmoid(i_r + h_r) * h_n)


class NamedRNN(nn.Module):
    """As the classification tutorial of torch has it: its head is inside."""

    def __init__(self):
        super().__init__()
        self.i2h, self.h2h, self.h2o = nn.Linear(IN, H), nn.Linear(H, H), nn.Linear(H, 3)

    def forward(self, input, hidden):
        hidden = torch.tanh(self.i2h(input) + self.h2h(hidden))
        return functional.log_softmax(self.h2o(hidden), dim=1), hidden


class WrittenLSTM(nn.Module):
    """One Linear over x and h; c comes first; 1 is added to the forget gate."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(IN + H, 4 * H)

    def forward(self, x, state):
        c, h = state
        i, j, f, o = self.linear(torch.cat([x, h], 1)).chunk(4, 1)
        c = c * torch.sigmoid(f + 1) + torch.sigmoid(i) * torch.tanh(j)
        h = torch.tanh(c) * torch.sigmoid(o)
        return c, h


class EightMatrices(nn.Module):
    def __init__(self):
        super().__init__()
        for gate in "fioc":
            setattr(self, f"W{gate}", nn.Linear(IN, H))
            setattr(self, f"U{gate}", nn.Linear(H, H, bias=False))

    def forward(self, x, h, c):
        f, i, o = (torch.sigmoid(getattr(self, f"W{gate}")(x) + getattr(self, f"U{gate}")(h)) for gate in "fio")
        c = f * c + i * torch.tanh(self.Wc(x) + self.Uc(h))
        h = o * torch.tanh(c)
        return h, (h, c)


class Expanded(nn.Module):
    """Its bias is expanded to all rows, and added by addmm."""

    def __init__(self):
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias = parameter(IN, 4 * H), parameter(H, 4 * H), parameter(4 * H)

    def forward(self, x, h, c):
        bias = self.bias.unsqueeze(0).expand(len(h), -1)
        f, i, o, g = torch.split(torch.addmm(bias, h, self.weight_hh) + x @ self.weight_ih, H, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class OwnLSTMCell(nn.LSTMCell):
    """A cell of torch with another forward, which computes the same with gates in another order."""

    def __init__(self):
        super().__init__(IN, H)

    def forward(self, x, states):
        h, c = states
        gates = functional.linear(x, self.weight_ih, self.bias_ih) + functional.linear(h, self.weight_hh, self.bias_hh)
        f, i, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class SideBySide(nn.Module):
    """x and h are one argument."""

    def __init__(self):
        super().__init__()
        self.W_z, self.W_r, self.W_h = (nn.Linear(IN + H, H) for _ in range(3))

    def forward(self, both):
        x, h = both[:, :IN], both[:, IN:]
        z, r = torch.sigmoid(self.W_z(both)), torch.sigmoid(self.W_r(both))
        return (1 - z) * torch.tanh(self.W_h(torch.cat([x, r * h], 1))) + z * h


def loop(cell, x, start=None):
    """Return the states (T, B, H) of a loop over x (T, B, I), called as each cell of this file is."""
    B = x.shape[1]
    h, c, outs = x.new_zeros(B, H) if start is None else start, x.new_zeros(B, H), []
    for one in x:
        match cell:
            case GatesTogether():
                h = cell(h, one)[1]
            case NamedRNN():
                h = cell(one, hidden=h)[1]
            case WrittenLSTM():
                c, h = cell(one, (c, h))
            case EightMatrices():
                _, (h, c) = cell(one, h, c)
            case Expanded():
                h, c = cell(one, h, c)
            case nn.LSTMCell():
                h, c = cell(one, (h, c))
            case SideBySide():
                h = cell(torch.cat([one, h], 1))
            case Functional():
                h = cell(one, h) if outs else cell(one)
            case _:
                h = cell(one, h)
        outs.append(h)
    return torch.stack(outs)


def gru(reset, z, gate="sigmoid"):
    return Convention("rzn", reset, z, gate)


LSTM = Convention("ifgo", z="", kind="lstm")
#: A cell, the size of x, and its convention.
FORMS = {
    "x2h and h2h": (Chunked, IN, gru("after", "keeps")),
    "x2h and h2h without biases": (lambda: Chunked(bias=False), IN, gru("after", "keeps")),
    "x2h and h2h of equal sizes": (lambda: Chunked(H), H, gru("after", "keeps")),
    "W_z W_r W_h": (Concatenated, IN, gru("before", "takes")),
    "W_z W_r W_h with h first, equal sizes": (lambda: Concatenated(H, last=False), H, gru("before", "takes")),
    "gates in one": (GatesTogether, IN, gru("before", "keeps")),
    "six linears": (SixLinears, IN, gru("after", "keeps")),
    "six linears of equal sizes": (lambda: SixLinears(H), H, gru("after", "keeps")),
    "parameters": (Raw, H, gru("before", "keeps")),
    "parts of parameters": (Einsum, IN, gru("before", "keeps", "hard_sigmoid")),
    "functional": (Functional, IN, gru("after", "keeps")),
    "a plain RNN": (NamedRNN, IN, Convention("h", z="", gate="tanh", kind="rnn")),
    "an LSTM": (WrittenLSTM, IN, Convention("ifgo", z="", kind="lstm", forget_bias=1)),
    "an LSTM of eight matrices": (EightMatrices, IN, LSTM),
    "an LSTM with an expanded bias": (Expanded, IN, LSTM),
    "an LSTMCell with a forward of its own": (OwnLSTMCell, IN, LSTM),
    "x and h side by side": (SideBySide, IN, gru("before", "keeps")),
}


def two_steps(model, loss, rate, **options):
    """Train two steps of a loss, captured unless `options` is empty. Returns the steps, and what was learned, as bytes."""
    optimizer = torch.optim.SGD(model.parameters(), rate)
    steps, running = capture(model, optimizer, **options) if options else ([], None)
    for _ in range(2):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        if running is not None:
            running.step()
    if running is not None:
        running.close()
        assert not hooks(model)
    return steps, [value.detach().numpy().tobytes() for value in model.parameters()]


def debugged_and_recorded(model, shape, folder, **cell):
    """Train two steps on x of a shape. Returns the session of the second, at its start, and that of its recording, at its end."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    rec, said = (
        tui_gru.record(folder / "run.gru", model, optimizer, every=1, **cell),
        {key: str(path) for key, path in cell.items()},
    )
    assert tui_gru.debug(model, optimizer, screen=False, **said) is None
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(torch.randn(shape)).square().sum()
        loss.backward()
        optimizer.step()
        rec.step(loss)
        session = tui_gru.debug(model, optimizer, screen=False, **said)
    rec.close()
    opened = tui_gru.Session.open(folder / "run.gru")
    opened.seek(opened.program.ticks)
    opened.step("batch")
    return session, opened
