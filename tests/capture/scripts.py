"""Training scripts of many kinds, each a few steps long.

A script gets `begin(module, optimizer, …)`, which starts the capture (or nothing at all) and returns an object with `step(loss)`.
The script returns everything that it trained, so that two runs can be compared.
"""

import warnings

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

torch.set_num_threads(1)
T, B, IN, H = 6, 3, 4, 5


class Model(nn.Module):
    """An embedding of numbers, a GRU (or a module of another `kind`) and a head."""

    def __init__(self, kind=nn.GRU, **options):
        super().__init__()
        self.embed = nn.Linear(IN, IN)
        self.rnn = kind(IN, H, **options)
        self.head = nn.Linear(H * (2 if self.rnn.bidirectional else 1), 2)

    def forward(self, x, h=None):
        out, h = self.rnn(self.embed(x), h)
        return self.head(out), h


def loss_of(y):
    return (y + 1).pow(2).mean()


def trained(model, begin, batch=lambda model: model(torch.randn(T, B, IN))[0], steps=3, between=lambda: None, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.5)
    run = begin(model, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(batch(model))
        loss.backward()
        optimizer.step()
        run.step(loss)
        between()
    return list(model.parameters())


def plain(begin):
    return trained(Model(), begin)


def batch_first(begin):
    return trained(Model(batch_first=True), begin, lambda model: model(torch.randn(B, T, IN))[0])


def without_a_batch(begin):
    return trained(Model(), begin, lambda model: model(torch.randn(T, IN), torch.randn(1, H))[0])


def without_biases(begin):
    return trained(Model(bias=False), begin)


def three_layers_in_both_directions(begin):
    return trained(Model(num_layers=3, bidirectional=True), begin)


def dropout_between_layers(begin):
    return trained(Model(num_layers=3, dropout=0.4), begin)


def dropout_in_both_directions_batch_first(begin):
    model = Model(num_layers=2, dropout=0.3, bidirectional=True, batch_first=True)
    return trained(model, begin, lambda model: model(torch.randn(B, T, IN))[0])


def dropout_of_everything(begin):
    return trained(Model(num_layers=2, dropout=1.0), begin)


def _packed(model):
    lengths = torch.tensor([4, 6, 2])
    packed = pack_padded_sequence(model.embed(torch.randn(T, B, IN)), lengths, enforce_sorted=False)
    out, h = model.rnn(packed)
    return torch.cat([model.head(pad_packed_sequence(out)[0]).flatten(), h.flatten()])


def packed_rows_that_are_not_sorted(begin):
    return trained(Model(), begin, _packed)


def packed_with_layers_directions_and_dropout(begin):
    return trained(Model(num_layers=2, bidirectional=True, dropout=0.5), begin, _packed)


def packed_rows_that_are_sorted(begin):
    def batch(model):
        packed = pack_padded_sequence(torch.randn(B, T, IN), torch.tensor([6, 5, 1]), batch_first=True)
        return model.rnn(packed, torch.randn(1, B, H))[0].data

    return trained(Model(batch_first=True), begin, batch)


def only_the_last_state(begin):
    return trained(Model(num_layers=2), begin, lambda model: model(torch.randn(T, B, IN))[1])


def only_the_last_timestep(begin):
    return trained(Model(), begin, lambda model: model(torch.randn(T, B, IN))[0][-1])


def h_detached_across_chunks(begin):
    state = [None]

    def batch(model):
        y, h = model(torch.randn(T, B, IN), state[0])
        state[0] = h.detach()
        return y

    return trained(Model(), begin, batch)


def h_attached_across_chunks(begin):
    def batch(model):
        h, outs = None, []
        for chunk in torch.randn(3 * T, B, IN).chunk(3):
            y, h = model(chunk, h)
            outs.append(y)
        return torch.cat(outs)

    return trained(Model(), begin, batch)


def gradient_accumulation(begin):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    run = begin(model, optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        for _ in range(3):
            loss = loss_of(model(torch.randn(T, B, IN))[0]) / 3
            loss.backward()
        optimizer.step()
        run.step(loss)
    return list(model.parameters())


def the_same_gru_twice(begin):
    return trained(Model(), begin, lambda model: torch.cat([model(torch.randn(T, B, IN))[0], model(torch.randn(2, B, IN))[0]]))


class Seq2seq(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.encoder = nn.GRU(IN, H, bidirectional=False)
        self.cell = nn.GRUCell(2, H, bias=bias)
        self.head = nn.Linear(H, 2)

    def forward(self, x, steps=4):
        h = self.encoder(x)[1][0]
        y, ys = x.new_zeros(x.shape[1], 2), []
        for _ in range(steps):
            h = self.cell(y, h)
            y = self.head(h)
            ys.append(y)
        return torch.stack(ys)


def encoder_and_a_loop_of_a_cell(begin):
    return trained(Seq2seq(), begin, lambda model: model(torch.randn(T, B, IN)))


def an_lstm(begin):
    return trained(Model(nn.LSTM), begin)


def an_lstm_of_two_layers_in_both_directions(begin):
    return trained(Model(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True), begin, lambda m: m(torch.randn(B, T, IN))[0])


def an_lstm_without_biases(begin):
    return trained(Model(nn.LSTM, bias=False), begin)


def all_states_of_an_lstm_read_and_given(begin):
    def batch(model):
        out, (h, c) = model.rnn(torch.randn(T, B, IN), (torch.randn(2, B, H), torch.randn(2, B, H)))
        return torch.cat([out.flatten(), h.flatten(), 3 * c.flatten()])

    return trained(Model(nn.LSTM, num_layers=2), begin, batch)


def only_the_last_c_of_an_lstm(begin):
    return trained(Model(nn.LSTM, num_layers=2), begin, lambda model: model(torch.randn(T, B, IN))[1][1])


def an_lstm_of_packed_rows_with_dropout(begin):
    def batch(model):
        packed = pack_padded_sequence(model.embed(torch.randn(T, B, IN)), torch.tensor([4, 6, 2]), enforce_sorted=False)
        out, (h, c) = model.rnn(packed)
        return torch.cat([pad_packed_sequence(out)[0].flatten(), h.flatten(), c.flatten()])

    return trained(Model(nn.LSTM, num_layers=2, dropout=0.5), begin, batch)


def an_lstm_without_a_batch(begin):
    return trained(Model(nn.LSTM), begin, lambda model: model(torch.randn(T, IN))[0])


def a_loop_of_an_lstm_cell(begin):
    def batch(cell):
        h, c = torch.zeros(B, H), torch.zeros(B, H)
        outs = []
        for x in torch.randn(T, B, IN):
            h, c = cell(x, (h, c))
            outs.append(h)
        return torch.stack(outs)

    return trained(nn.LSTMCell(IN, H), begin, batch)


def an_lstm_cell_whose_c_is_read(begin):
    def batch(cell):
        h, c = cell(torch.randn(B, IN))
        return h + c * c

    return trained(nn.LSTMCell(IN, H), begin, batch)


def an_rnn_of_two_layers(begin):
    return trained(Model(nn.RNN, num_layers=2), begin)


def an_rnn_of_rectified_units_in_both_directions(begin):
    return trained(Model(nn.RNN, nonlinearity="relu", bidirectional=True), begin)


def a_loop_of_an_rnn_cell(begin):
    def batch(cell):
        h, outs = torch.zeros(B, H), []
        for x in torch.randn(T, B, IN):
            h = cell(x, h)
            outs.append(h)
        return torch.stack(outs)

    return trained(nn.RNNCell(IN, H, nonlinearity="relu"), begin, batch)


def a_cell_without_a_batch(begin):
    return trained(nn.GRUCell(IN, H), begin, lambda cell: cell(torch.randn(IN), cell(torch.randn(IN))))


def old_weight_norm(begin):
    model = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(model.rnn, "weight_hh_l0")
        nn.utils.weight_norm(model.rnn, "bias_hh_l0")
    return trained(model, begin)


def weight_norm_of_a_parametrization(begin):
    model = Model(num_layers=2)
    nn.utils.parametrizations.weight_norm(model.rnn, "weight_hh_l0")
    nn.utils.parametrizations.weight_norm(model.rnn, "weight_ih_l1", dim=1)
    return trained(model, begin)


def orthogonal_and_spectral_parametrizations(begin):
    model = Model()
    nn.utils.parametrizations.orthogonal(model.rnn, "weight_hh_l0")
    nn.utils.parametrizations.spectral_norm(model.rnn, "weight_ih_l0")
    return trained(model, begin)


def a_parametrized_cell(begin):
    model = Seq2seq()
    nn.utils.parametrizations.spectral_norm(model.cell, "weight_hh")
    nn.utils.parametrizations.weight_norm(model.cell, "weight_ih")
    return trained(model, begin, lambda model: model(torch.randn(T, B, IN)))


def functional_call_with_computed_weights(begin):
    def batch(model):
        weights = {name: value * 0.9 for name, value in model.named_parameters()}
        return torch.func.functional_call(model, weights, (torch.randn(T, B, IN),))[0]

    return trained(Model(), begin, batch)


def functional_call_with_other_leaves(begin):
    model = Model()
    weights = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(weights.values(), 0.5)
    run = begin(model, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_of(torch.func.functional_call(model, weights, (torch.randn(T, B, IN),))[0])
        loss.backward()
        optimizer.step()
        run.step(loss)
    return list(weights.values())


def _checkpointed(reentrant):
    def batch(model):
        x = torch.randn(T, B, IN, requires_grad=True)
        first = checkpoint(lambda x: model(x)[0], x, use_reentrant=reentrant)
        second = checkpoint(lambda x: model(x)[0], 2 * x, use_reentrant=reentrant)
        return torch.cat([first, second])

    return batch


def checkpointing(begin):
    return trained(Model(num_layers=2, dropout=0.5), begin, _checkpointed(False))


def reentrant_checkpointing(begin):
    return trained(Model(num_layers=2, dropout=0.5), begin, _checkpointed(True))


def float64(begin):
    return trained(Model(num_layers=2).double(), begin, lambda model: model(torch.randn(T, B, IN).double())[0])


def bfloat16(begin):
    return trained(Model().bfloat16(), begin, lambda model: model(torch.randn(T, B, IN).bfloat16())[0])


def autocast_to_bfloat16(begin):
    def batch(model):
        with torch.autocast("cpu", torch.bfloat16):
            return model(torch.randn(T, B, IN))[0].float()

    return trained(Model(), begin, batch)


def validation_between_steps(begin):
    model = Model(num_layers=2, dropout=0.5)

    def validate():
        model.eval()
        with torch.no_grad():
            model(torch.randn(T, B, IN))
        model(torch.randn(T, B, IN))  # no_grad is missing
        model.train()

    return trained(model, begin, between=validate)


def output_changed_in_place(begin):
    def batch(model):
        out, h = model.rnn(model.embed(torch.randn(T, B, IN)))
        out.mul_(2)
        h.add_(1)
        return torch.cat([model.head(out).flatten(), h.flatten()])

    return trained(Model(), begin, batch)


def weights_changed_behind_autograd(begin):
    model = Model()

    def clamp():
        for value in model.parameters():
            value.data.clamp_(-0.2, 0.2)

    return trained(model, begin, between=clamp)


def frozen_weights(begin):
    model = Model()
    model.rnn.weight_hh_l0.requires_grad_(False)
    return trained(model, begin)


def an_expanded_input(begin):
    return trained(Model(), begin, lambda model: model.head(model.rnn(torch.randn(1, 1, IN).expand(T, B, IN))[0]))


def _compile(model):
    """Compile again for each call; dynamo's own warnings are ignored."""
    torch.compiler.reset()
    faster = torch.compile(model, backend="aot_eager")

    def run(x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return faster(x)

    return run


def compiled(begin):
    model = Seq2seq()
    faster = _compile(model)
    return trained(model, begin, lambda model: faster(torch.randn(T, B, IN)), 2)


def a_compiled_loop_of_a_cell(begin):
    """Only the capture breaks the graph."""

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(IN, H)

        def forward(self, x):
            h = x.new_zeros(x.shape[1], H)
            return torch.stack([h := self.cell(x[t], h) for t in range(len(x))])

    model = Loop()
    faster = _compile(model)
    return trained(model, begin, lambda model: faster(torch.randn(3, B, IN)), 2)


def an_optimizer_with_a_closure(begin):
    model = Model()
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=1)
    run = begin(model, optimizer)
    for _ in range(3):
        x = torch.randn(T, B, IN)

        def closure(x=x):
            optimizer.zero_grad()
            loss = loss_of(model(x)[0])
            loss.backward()
            return loss

        run.step(optimizer.step(closure))
    return list(model.parameters())


SCRIPTS = [value for value in list(globals().values()) if "begin" in getattr(value, "__code__", loss_of.__code__).co_varnames[:1]]
ROUNDED = [a_compiled_loop_of_a_cell]  # the hooks break its graph; without them the order of the sums differs
HALF = {"bfloat16": 2e-2, "autocast_to_bfloat16": 2e-2}
