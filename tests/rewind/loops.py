"""Training loops as scripts have them. Each gets a function that may wrap its loader; it returns its losses and its model."""

import collections
import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as f

LOOPS = {}


def loop(function):
    LOOPS[function.__name__] = function
    return function


def batches(count=14, rows=4, times=5, inputs=3):
    generator = torch.Generator().manual_seed(5)
    inputs_of = [torch.randn(rows, times, inputs, generator=generator) for _ in range(count)]
    return [(x, x[:, -2:].sum((1, 2))[:, None] * 0.3) for x in inputs_of]


class Net(nn.Module):
    def __init__(self, kind="GRU", inputs=3, hidden=6, layers=1, dropout=0.0):
        super().__init__()
        self.rnn = getattr(nn, kind)(inputs, hidden, layers, batch_first=True, dropout=dropout)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x, h=None):
        out, h = self.rnn(x, h)
        return self.head(out[:, -1]), h


@loop
def plain(wrap):
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for x, y in wrap(batches(), model, optimizer):
        optimizer.zero_grad()
        loss = f.mse_loss(model(x)[0], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


@loop
def carried_state_and_dropout(wrap):
    model = Net("LSTM", layers=2, dropout=0.3)
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 14)
    losses, h, best = [], None, {"loss": 9.0, "mean": torch.zeros(())}
    for i, (x, y) in enumerate(wrap(batches(), model, optimizer), 1):
        if h is not None:
            h = tuple(each.detach() for each in h)
        p, h = model(x, h)
        loss = f.mse_loss(p, y) / i
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        best["loss"] = min(best["loss"], loss.item())
        best["mean"] += loss.detach() / 9
        losses.append(loss.item() + best["loss"] + best["mean"].item())
    return losses, model


@loop
def accumulates_gradients(wrap):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9)
    losses = []
    for i, (x, y) in wrap(enumerate(batches())):
        loss = f.mse_loss(model(x)[0], y) / 3
        loss.backward()
        losses.append(loss.item())
        if i % 3 == 2:
            optimizer.step()
            optimizer.zero_grad(set_to_none=i % 2 == 0)
    return losses, model


@loop
def closure_with_shared_names(wrap):
    model = Net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=3)
    losses, calls = [], 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = f.mse_loss(model(x)[0], y)
        loss.backward()
        return loss

    for x, y in wrap(batches()):  # noqa: B007  # the closure reads them
        losses.append(optimizer.step(closure).item())
    return [*losses, calls], model


@loop
def trainer_with_private_names(wrap):
    class Meter:
        seen = 0

        def add(self, value):
            type(self).seen += 1
            self.total = getattr(self, "total", 0.0) + value

    class Trainer:
        def __init__(self):
            self.model, self.meter, self.hidden, self.losses = Net(dropout=0.0), Meter(), None, collections.deque(maxlen=100)
            self.__optimizer = torch.optim.Adam(self.model.parameters(), 1e-2)

        def fit(self, loader):
            for x, y in wrap(loader):
                self.__optimizer.zero_grad()
                p, self.hidden = self.model(x, None if self.hidden is None else self.hidden.detach())
                loss = f.mse_loss(p, y)
                loss.backward()
                self.__optimizer.step()
                self.meter.add(loss.item())
                self.losses.append(loss.item() + self.meter.total / self.meter.seen)

    trainer = Trainer()
    trainer.fit(batches())
    return list(trainer.losses), trainer.model


COUNT = 0


@loop
def globals_that_are_rebound(wrap):
    global COUNT
    COUNT = 0
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for x, y in wrap(batches()):
        COUNT += 1
        optimizer.zero_grad()
        loss = f.mse_loss(model(x)[0], y) * (1 + COUNT % 3)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [*losses, COUNT], model


@loop
def epochs_with_a_function_each(wrap):
    model = Net("RNN")
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    losses = []

    def train_epoch(loader):
        h, total = None, 0.0
        for x, y in wrap(loader, model, optimizer):
            optimizer.zero_grad()
            p, h = model(x, None if h is None else h.detach())
            loss = f.mse_loss(p, y) + 0.1 * total
            loss.backward()
            optimizer.step()
            total += loss.item()
            losses.append(loss.item())
        return total

    for _ in range(3):
        losses.append(train_epoch(batches(5)))
        schedule.step()
    return losses, model


@loop
def two_networks(wrap):
    maker, judge = nn.GRU(2, 3, batch_first=True), Net()
    of_maker, of_judge = torch.optim.Adam(maker.parameters(), 1e-3), torch.optim.RMSprop(judge.parameters(), 1e-3)
    losses, average = [], copy.deepcopy(judge)
    for x, _ in wrap(batches()):
        made = maker(torch.randn(4, 5, 2))[0]
        of_judge.zero_grad()
        (loss := f.softplus(judge(made.detach())[0]).mean() + f.softplus(-judge(x)[0]).mean()).backward()
        of_judge.step()
        for weight, mean in zip(judge.parameters(), average.parameters(), strict=True):
            weight.data.clamp_(-0.1, 0.1)
            mean.data.mul_(0.9).add_(weight.data, alpha=0.1)
        of_maker.zero_grad()
        (other := f.softplus(-average(made)[0]).mean()).backward()
        of_maker.step()
        losses += [loss.item(), other.item()]
    return losses, nn.ModuleList([maker, judge, average])


@loop
def draws_and_buffers(wrap):
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses, memory, generator = [], np.zeros((400, 15)), np.random.default_rng(3)
    for i, (x, _) in wrap(enumerate(batches())):
        memory[4 * i : 4 * i + 4] = x.flatten(1).numpy()
        rows = generator.integers(0, 4 * i + 4, 4)
        drawn = torch.from_numpy(memory[rows]).float().view(4, 5, 3) + 0.1 * torch.randn(4, 5, 3)
        if i % 5 == 3:
            continue
        optimizer.zero_grad()
        loss = model(drawn)[0].pow(2).mean() * np.random.rand()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [*losses, float(memory.sum())], model


@loop
def changes_its_batches(wrap):
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for x, y in wrap(batches()):
        x.mul_(1.5)
        optimizer.zero_grad()
        loss = f.mse_loss(model(x)[0], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


@loop
def large_gradients_that_are_added_to(wrap):
    model, judge = Net(hidden=80), Net(hidden=80)
    optimizer, of_judge = torch.optim.SGD(model.parameters(), 1e-2), torch.optim.SGD(judge.parameters(), 1e-2)
    losses = []
    for x, _ in wrap(batches()):
        of_judge.zero_grad()
        loss = f.softplus(-judge(x)[0]).mean() + model(x)[0].pow(2).mean()
        loss.backward()
        of_judge.step()
        optimizer.step()
        optimizer.zero_grad()
        (other := (judge(x)[0] * model(x)[0]).mean()).backward()  # adds to the gradients of the judge
        optimizer.step()
        losses += [loss.item(), other.item()]
    return losses, nn.ModuleList([model, judge])
