"""Causes with their proof: what the watched steps of a script show, what its predictions read, and what trials on copies add."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as f

import tui_gru
from tests.analysis import test_findings as of_runs
from tui_gru import TuiGruError
from tui_gru.analysis.causes import WatchedSteps, causes_of
from tui_gru.capture.facts import StepFacts, StepWatch
from tui_gru.capture.hooks import hook_calls, unhook

V, B, T, H, STEPS = 8, 4, 6, 12, 14


class Reader(nn.Module):
    """Predicts the next token of a text, or with `classes` the class of each row of numbers."""

    def __init__(self, *, classes: int = 0, **options):
        super().__init__()
        torch.manual_seed(3)
        self.embed = nn.Identity() if classes else nn.Embedding(V, H)
        self.rnn = nn.GRU(3 if classes else H, H, batch_first=True, **options)
        self.head = nn.Linear(H * (1 + self.rnn.bidirectional), classes or V)
        self.classes = classes

    def forward(self, x):
        out = self.rnn(self.embed(x))[0]
        return self.head(out[:, -1] if self.classes else out)


class First(Reader):
    def forward(self, x):
        return self.head(self.rnn(x)[0][:, 0])


class Reading(Reader):
    """A reader whose output is `reads(reader, x)`."""

    def __init__(self, reads, **options):
        super().__init__(**options)
        self.reads = reads

    def forward(self, x):
        return self.reads(self, x)


class Carrying(Reader):
    """A reader that begins with what `between` makes of its last states."""

    def __init__(self, cell=nn.GRU, between=lambda state: state):
        super().__init__()
        self.rnn, self.between, self.state = cell(H, H, batch_first=True), between, None

    def forward(self, x):
        out, state = self.rnn(self.embed(x), None if self.state is None else self.between(self.state))
        self.state = state.detach() if isinstance(state, torch.Tensor) else tuple(h.detach() for h in state)
        return self.head(out)


class Alone(nn.Module):
    """A cell that begins anew at each timestep; with `detaches`, its state is passed on without its graph."""

    def __init__(self, *, detaches: bool = False):
        super().__init__()
        torch.manual_seed(3)
        self.embed, self.cell, self.head, self.detaches = nn.Embedding(V, H), nn.GRUCell(H, H), nn.Linear(H, V), detaches

    def forward(self, x):
        h, outputs = torch.zeros(len(x), H), []
        for t in range(x.shape[1]):
            outputs.append(state := self.cell(self.embed(x[:, t]), h))
            h = state.detach() if self.detaches else h
        return self.head(torch.stack(outputs, 1))


def modes():
    """Return how many modes of torch's functions are entered."""
    return torch._C._len_torch_function_stack()  # noqa: SLF001


def texts(count=STEPS):
    chance = torch.Generator().manual_seed(1)
    for _ in range(count):
        rows = (torch.randint(V, (B, 1), generator=chance) + 3 * torch.arange(T + 1)) % V
        yield rows[:, :-1], rows[:, 1:]


def passages(timesteps=T, count=STEPS):
    """Texts that go on in each row from one batch to the next."""
    begin = torch.randint(V, (B, 1), generator=torch.Generator().manual_seed(1))
    for passage in torch.arange(timesteps * count).split(timesteps):
        x = (begin + 3 * passage) % V
        yield x, (x + 3) % V


def numbers(count=STEPS):
    for x, _ in rows(count):
        yield x, x[:, :, 0].mean(1, keepdim=True)


def rows(count=STEPS, *, scale=1.0, size=8):
    chance = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(size, T, 3, generator=chance)
        yield x * scale, (x[:, :, 0].sum(1) > 0).long()


def of_tokens(logits, targets, **options):
    return f.cross_entropy(logits.reshape(-1, V), targets.reshape(-1), **options)


def trained(model, loss=of_tokens, *, data=texts, optimizer=None, clear=True, before_update=lambda: None):
    """Return a function that trains some steps, with the optimizer."""
    own = optimizer or torch.optim.Adam(model.parameters(), 1e-2)

    def run():
        for x, y in data():
            if clear:
                own.zero_grad()
            loss(model(x), y).backward()
            before_update()
            own.step()

    return own, run


def diagnosis(model, *args, **options):
    own, run = trained(model, *args, **options)
    return tui_gru.diagnose(model, own, run)


def changed(data, change):
    """Return a function of batches (x, y) changed by `change(x, y)`."""
    return lambda: (change(x, y) for x, y in data())


def diagnosis_of(model, step):
    """Diagnose a training whose steps are `step(optimizer, x, y)`."""
    own = torch.optim.Adam(model.parameters(), 1e-2)

    def run():
        for x, y in texts():
            step(own, x, y)

    return tui_gru.diagnose(model, own, run)


def sgd(model, rate, **options):
    return torch.optim.SGD(model.parameters(), rate, **options)


def _replaced():
    model = Reader()
    own = torch.optim.Adam(model.parameters(), 1e-2)
    model.rnn = nn.GRU(H, H, batch_first=True)
    nn.init.orthogonal_(model.rnn.weight_hh_l0)  # no longer as PyTorch draws it
    nn.init.orthogonal_(model.rnn.weight_ih_l0)
    return diagnosis(model, optimizer=own)


def _stepped_first(model):
    def step(own, x, y):
        own.zero_grad()
        loss = of_tokens(model(x), y)
        own.step()
        loss.backward()

    return diagnosis_of(model, step)


def _without_backward(model):
    def step(own, x, y):
        own.zero_grad()
        of_tokens(model(x), y)
        own.step()

    return diagnosis_of(model, step)


def _cleared_between_passes(model):
    def step(own, x, y):
        for part, targets in zip(x.split(2), y.split(2), strict=True):
            own.zero_grad()
            of_tokens(model(part), targets).backward()
        own.step()

    return diagnosis_of(model, step)


def _with_new_optimizers(model):
    def step(own, x, y):
        own = torch.optim.Adam(model.parameters(), 1e-2)
        own.zero_grad()
        of_tokens(model(x), y).backward()
        own.step()

    return diagnosis_of(model, step)


def _loaded_in_each_step(model):
    start = copy.deepcopy(model.state_dict())

    def step(own, x, y):
        model.load_state_dict(start)
        own.zero_grad()
        of_tokens(model(x), y).backward()
        own.step()

    return diagnosis_of(model, step)


def _with_a_list():
    model = Reading(lambda m, x: m.head(m.layers[0](m.rnn(m.embed(x))[0]).tanh()))
    model.layers = [nn.Linear(H, H)]
    return diagnosis(model)


class Stepped(Reader):
    """A reader of one token a call."""

    def forward(self, x, h):
        out, h = self.rnn(self.embed(x)[:, None], h)
        return self.head(out[:, 0]), h


def _detached_in_the_loop(model):
    def step(own, x, y):
        h = torch.zeros(1, B, H)
        own.zero_grad()
        for t in range(T):
            logits, h = model(x[:, t], h)
            h = h.detach()
        f.cross_entropy(logits, y[:, -1]).backward()
        own.step()

    return diagnosis_of(model, step)


def _learning_in_the_validation(model):
    count = iter(range(1000))

    def step(own, x, y):
        model.train(next(count) % 4 < 2)
        own.zero_grad()
        of_tokens(model(x), y).backward()
        own.step()

    return diagnosis_of(model, step)


def _set(model, change):
    with torch.no_grad():
        change(model)
    return model


class Ordered(Reader):
    """A reader that puts its rows into another order, and leaves the predictions in it."""

    def forward(self, x):
        return super().forward(x[torch.arange(len(x)).flip(0)])


def _of_the_first_rows():
    x, y = map(torch.cat, zip(*rows(), strict=True))
    return diagnosis(Reader(classes=2), f.cross_entropy, data=lambda: ((x[:8], y[:8]) for _ in range(STEPS)))


def _without_graph(model, x):
    with torch.no_grad():
        out = model.rnn(model.embed(x))[0]
    return model.head(out)


def _with_a_rate_of_0(model):
    groups = [{"params": model.embed.parameters(), "lr": 0.0}, {"params": [*model.rnn.parameters(), *model.head.parameters()]}]
    return diagnosis(model, optimizer=torch.optim.Adam(groups, 1e-2))


def _clipped(model):
    return diagnosis(model, optimizer=sgd(model, 0.5), before_update=lambda: nn.utils.clip_grad_norm_(model.parameters(), 1e-3))


#: The first cause, its proof, and the script.
SCRIPTS = {
    "softmax twice": ("softmax-twice", 2, lambda: diagnosis(Reader(), lambda z, y: of_tokens(z.softmax(-1), y))),
    "the negative loss": ("negated", 3, lambda: diagnosis(Reader(), lambda z, y: -of_tokens(z, y))),
    "minus the probability": (
        "no-log",
        2,
        lambda: diagnosis(Reader(), lambda z, y: -z.softmax(-1).gather(-1, y[..., None]).mean()),
    ),
    "nll of logits": ("nll-without-log", 2, lambda: diagnosis(Reader(), lambda z, y: f.nll_loss(z.flatten(0, 1), y.flatten()))),
    "zero_grad missing": ("gradient-not-cleared", 2, lambda: diagnosis(m := Reader(), optimizer=sgd(m, 0.1), clear=False)),
    "a part without optimizer": (
        "not-in-optimizer",
        2,
        lambda: diagnosis(m := Reader(), optimizer=torch.optim.Adam(m.head.parameters(), 1e-2)),
    ),
    "a part that was replaced after the optimizer was made": ("not-in-optimizer", 2, _replaced),
    "a rate of 0": ("rate-is-0", 2, lambda: diagnosis(m := Reader(), optimizer=sgd(m, 0.0))),
    "targets in another order": ("targets-in-other-order", 2, lambda: diagnosis(Reader(), lambda z, y: of_tokens(z, y.t()))),
    "the target is the input": ("target-is-input", 2, lambda: diagnosis(Reader(), data=lambda: ((x, x) for x, _ in texts()))),
    "both directions": ("reads-target", 2, lambda: diagnosis(Reader(bidirectional=True))),
    "a state that is not passed on": ("no-context", 3, lambda: diagnosis(Alone())),
    "a state that is detached": ("detached-at-every-timestep", 3, lambda: diagnosis(Alone(detaches=True))),
    "the first timestep": ("one-timestep", 3, lambda: diagnosis(First(classes=2), f.cross_entropy, data=rows)),
    "rows in the place of time": (
        "rows-mixed",
        2,
        lambda: diagnosis(_time_first(Reader(classes=2)), f.cross_entropy, data=rows),
    ),
    "a broadcast": (
        "broadcast",
        3,
        lambda: diagnosis(
            Reader(classes=1), f.mse_loss, data=lambda: ((x, x[:, :, 0].mean(1)) for x, _ in rows())
        ),
    ),
    "a clip to nothing": ("mostly-clipped", 3, lambda: _clipped(Reader())),
    "step before backward": ("cleared-before-step", 2, lambda: _stepped_first(Reader())),
    "a clip by value to nothing": (
        "mostly-clipped",
        3,
        lambda: diagnosis(
            m := Reader(),
            optimizer=sgd(m, 0.5),
            before_update=lambda: nn.utils.clip_grad_value_(m.parameters(), 1e-6),
        ),
    ),
    "a tiny rate": ("rate-too-small", 1, lambda: diagnosis(m := Reader(), optimizer=torch.optim.Adam(m.parameters(), 1e-7))),
    "a huge rate": (
        "rate-too-large",
        1,
        lambda: diagnosis(m := Reader(classes=2), f.cross_entropy, data=rows, optimizer=sgd(m, 300.0)),
    ),
    "an optimizer of another model": (
        "optimizer-of-other",
        2,
        lambda: diagnosis(Reader(), optimizer=torch.optim.Adam(Reader().parameters(), 1e-2)),
    ),
    "a state detached in the loop over the timesteps": (
        "detached-at-every-timestep", 2, lambda: _detached_in_the_loop(Stepped())
    ),
    "steps of the optimizer in the validation": ("learns-in-evaluation", 2, lambda: _learning_in_the_validation(Reader())),
    "weights that are all equal": (
        "equal-weights", 2, lambda: diagnosis(_set(Reader(), lambda m: [p.fill_(0.05) for p in m.rnn.parameters()]))
    ),
    "words without a vector": (
        "tokens-alike",
        2,
        lambda: diagnosis(
            m := _set(Reader(), lambda m: m.embed.requires_grad_(False).weight[:5].zero_()),
            optimizer=torch.optim.Adam([*m.rnn.parameters(), *m.head.parameters()], 1e-2),
        ),
    ),
    "log_softmax over the rows": (
        "softmax-over-other-axis",
        2,
        lambda: diagnosis(Reader(classes=3), lambda z, y: f.nll_loss(z.log_softmax(0), y), data=rows),
    ),
    "predictions in another order than the targets": (
        "rows-permuted", 3, lambda: diagnosis(Ordered(classes=2), f.cross_entropy, data=rows)
    ),
    "the root of 0": (
        "gradient-not-finite",
        3,
        lambda: diagnosis(Reader(classes=1), lambda z, y: (0 * (z - y)).sqrt().mean() + f.mse_loss(z, y), data=numbers),
    ),
    "a decay that holds the weights down": (
        "weight-decay", 1, lambda: diagnosis(m := Reader(), optimizer=torch.optim.Adam(m.parameters(), 1e-2, weight_decay=0.5))
    ),
    "no backward": ("no-backward", 2, lambda: _without_backward(Reader())),
    "zero_grad between two backward passes": ("accumulation-lost", 2, lambda: _cleared_between_passes(Reader())),
    "a gradient with the other sign": (
        "gradient-turned",
        2,
        lambda: diagnosis(m := Reader(), before_update=lambda: [p.grad.neg_() for p in m.parameters()]),
    ),
    "a new optimizer in each step": ("optimizer-recreated", 2, lambda: _with_new_optimizers(Reader())),
    "a part with a rate of 0": ("never-moves", 2, lambda: _with_a_rate_of_0(Reader())),
    "layers in a list": ("not-registered", 2, _with_a_list),
    "the network under no_grad": ("under-no-grad", 2, lambda: diagnosis(Reading(_without_graph))),
    "an output that is detached": ("detached", 2, lambda: diagnosis(Reading(lambda m, x: m.head(m.rnn(m.embed(x))[0].detach())))),
    "an embedding that is detached": (
        "detached",
        2,
        lambda: diagnosis(Reading(lambda m, x: m.head(m.rnn(m.embed(x).detach())[0]))),
    ),
    "the last state of the first layer": (
        "no-gradient",
        2,
        lambda: diagnosis(Reading(lambda m, x: m.head(m.rnn(x)[1][0]), classes=2, num_layers=2), f.cross_entropy, data=rows),
    ),
    "rounded predictions": (
        "all-gradients-0",
        2,
        lambda: diagnosis(Reader(classes=1), lambda z, y: f.mse_loss((10 * z).round(), 10 * y), data=numbers),
    ),
    "the weights of the start in each step": ("changed-outside", 2, lambda: _loaded_in_each_step(Reader())),
    "a dropout of nearly all": ("dropout", 2, lambda: diagnosis(Reader(num_layers=2, dropout=0.9))),
    "the logarithm of negative numbers": (
        "nan-input",
        2,
        lambda: diagnosis(Reader(classes=2), f.cross_entropy, data=changed(rows, lambda x, y: (x.log(), y))),
    ),
    "numbers cast to 0": (
        "zero-input",
        2,
        lambda: diagnosis(Reader(classes=2), f.cross_entropy, data=changed(rows, lambda x, y: ((x / 10).long().float(), y))),
    ),
    "unknown tokens alone": (
        "constant-input",
        2,
        lambda: diagnosis(Reader(), data=changed(texts, lambda x, y: (torch.ones_like(x), y))),
    ),
    "the first rows in each step": ("same-batch", 2, _of_the_first_rows),
    "targets of one class": (
        "constant-target",
        2,
        lambda: diagnosis(Reader(classes=2), f.cross_entropy, data=changed(rows, lambda x, y: (x, y // 2))),
    ),
    "sigmoid before cross-entropy": (
        "sigmoid-before-ce", 2, lambda: diagnosis(Reader(), lambda z, y: of_tokens(z.sigmoid(), y))
    ),
    "relu before cross-entropy": ("relu-before-ce", 2, lambda: diagnosis(Reader(), lambda z, y: of_tokens(z.relu(), y))),
    "tanh before cross-entropy": ("tanh-before-ce", 2, lambda: diagnosis(Reader(), lambda z, y: of_tokens(z.tanh(), y))),
    "kl_div of probabilities": (
        "kl-without-log",
        2,
        lambda: diagnosis(Reader(), lambda z, y: f.kl_div(z.softmax(-1), f.one_hot(y, V).float(), reduction="batchmean")),
    ),
    "targets beyond a sigmoid": (
        "target-out-of-range",
        2,
        lambda: diagnosis(Reader(classes=1), lambda z, y: f.mse_loss(z.sigmoid(), 10 * y), data=numbers),
    ),
    "class numbers for binary cross-entropy": (
        "target-out-of-range",
        2,
        lambda: diagnosis(
            Reader(classes=1), lambda z, y: f.binary_cross_entropy_with_logits(z[:, 0], 1.0 + y), data=rows
        ),
    ),
    "nearly all of the target smoothed": (
        "smoothing",
        3,
        lambda: diagnosis(Reader(), lambda z, y: of_tokens(z, y, label_smoothing=0.9)),
    ),
    "a view in the place of a transpose": (
        "view-not-transpose",
        2,
        lambda: diagnosis(
            _time_first(Reading(lambda m, x: m.head(m.rnn(x.view(T, -1, 3))[0][-1]), classes=2)), f.cross_entropy, data=rows
        ),
    ),
    "a random state": (
        "random-state",
        2,
        lambda: diagnosis(Reading(lambda m, x: m.head(m.rnn(m.embed(x), torch.randn(1, len(x), H))[0]))),
    ),
    "h and c exchanged": (
        "state-swapped",
        2,
        lambda: diagnosis(Carrying(nn.LSTM, lambda state: state[::-1]), data=passages),
    ),
    "a state carried to rows of other texts": ("carried-over-shuffled", 2, lambda: diagnosis(Carrying())),
}  # fmt: skip


class Pairs(nn.Module):
    """The loss of telling each row from the other rows of the batch."""

    def __init__(self):
        super().__init__()
        self.reader = Reader(classes=4)

    def forward(self, x):
        one, other = (f.normalize(self.reader(part), dim=1) for part in (x, x + 0.1))
        return f.cross_entropy(one @ other.T / 0.2, torch.arange(len(x)))


class WithTarget(nn.Module):
    """A network and a copy of it that follows, without a gradient."""

    def __init__(self):
        super().__init__()
        self.online, self.target = Reader(classes=2), Reader(classes=2)

    def forward(self, x):
        with torch.no_grad():
            aim = self.target(x)
        return self.online(x), aim


def _followed(model):
    return diagnosis(
        model, lambda z, y: f.mse_loss(z[0], 0.9 * z[1] + 1), data=rows, optimizer=torch.optim.Adam(model.online.parameters(), 1e-2)
    )


def _adversaries():
    """A generator and a discriminator, each with its optimizer, in one step."""
    torch.manual_seed(3)
    made, told = nn.GRU(3, 3, batch_first=True), Reader(classes=1)
    model = nn.ModuleList([made, told])
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3) for part in model]

    def run():
        for x, _ in rows():
            fake, (ones, zeros) = made(x)[0], (torch.ones(len(x), 1), torch.zeros(len(x), 1))
            optimizers[1].zero_grad()
            real_loss = f.binary_cross_entropy_with_logits(told(x.sin()), ones)
            (real_loss + f.binary_cross_entropy_with_logits(told(fake.detach()), zeros)).backward()
            optimizers[1].step()
            optimizers[0].zero_grad()
            f.binary_cross_entropy_with_logits(told(fake), ones).backward()
            optimizers[0].step()

    return tui_gru.diagnose(model, optimizers, run)


def _beside_another():
    """A part that is trained already, and is trained no further; the optimizer trains another one of its shapes."""
    model, other = Reader(), nn.GRU(H, H, batch_first=True)
    nn.init.orthogonal_(model.rnn.weight_hh_l0)
    nn.init.orthogonal_(model.rnn.weight_ih_l0)
    own = torch.optim.Adam([*model.embed.parameters(), *model.head.parameters(), *other.parameters()], 1e-2)

    def step(own, x, y):
        own.zero_grad()
        (of_tokens(model(x), y) + other(torch.ones(1, T, H))[0].square().mean()).backward()
        own.step()

    def run():
        for x, y in texts():
            step(own, x, y)

    return tui_gru.diagnose(model, own, run)


def _epochs():
    """A loop over epochs, whose steps begin with the same rows."""
    model, (inputs, targets) = Reader(), map(torch.cat, zip(*texts(4), strict=True))
    own = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in (loop := tui_gru.steps(range(9), model, own, screen=False)):
        for x, y in zip(inputs.split(B), targets.split(B), strict=True):
            own.zero_grad()
            of_tokens(model(x), y).backward()
            own.step()
    return tui_gru.diagnose(model, own, loop)


def _time_first(model):
    model.rnn.batch_first = False
    return model


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_cause_comes_first_with_its_proof(script):
    name, proof, run = SCRIPTS[script]
    first, *_ = run()
    assert (first.name, first.proof) == (name, proof)
    assert first.cause == first.title
    assert first.seen
    assert first.cure
    assert bool(first.tried) == (proof in (1, 3))


HEALTHY = {
    "a text": lambda: diagnosis(Reader()),
    "classes of rows": lambda: diagnosis(Reader(classes=2), f.cross_entropy, data=rows),
    "a clip at 1": lambda: diagnosis(m := Reader(), before_update=lambda: nn.utils.clip_grad_norm_(m.parameters(), 1.0)),
    "a state carried to rows that go on": lambda: diagnosis(Carrying(), data=passages),
    "two layers with dropout": lambda: diagnosis(Reader(num_layers=2, dropout=0.1)),
    "rows that are told from each other": lambda: diagnosis(Pairs(), lambda loss, y: loss, data=rows),
    "a network that another one follows": lambda: _followed(WithTarget()),
    "two adversaries": _adversaries,
    "an update after each sample of a stream": lambda: diagnosis(Carrying(), data=lambda: passages(1)),
    "a state of zeros, of as many numbers as the drawn inputs": lambda: diagnosis(
        Reading(lambda m, x: m.head(m.rnn(m.embed(x), torch.randn(1, len(x), H).new_zeros(1, len(x), H))[0]))
    ),
    "an epoch in each step of the loop": _epochs,
    "a trained part that another optimizer's tensors resemble": _beside_another,
}


@pytest.mark.parametrize("script", HEALTHY)
def test_a_healthy_script_has_no_cause(script):
    assert [finding.name for finding in HEALTHY[script]() if finding.proof] == []


def test_a_loss_that_nothing_explains_is_an_observation_with_numbers():
    chance = torch.Generator().manual_seed(7)
    model = Reader(classes=2)
    (only,) = diagnosis(model, f.cross_entropy, data=lambda: ((x, torch.randint(2, y.shape, generator=chance)) for x, y in rows()))
    assert (only.proof, only.cause, only.cure, only.tried) == (0, "", "", "")
    assert "one kept batch alone goes from" in only.seen


def test_missing_values_that_the_model_replaces_are_an_observation():
    def missing(x, y):
        return x.masked_fill(torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.3, torch.nan), y

    class Replacing(Reader):
        def forward(self, x):
            return super().forward(torch.nan_to_num(x))

    causes = diagnosis(Replacing(classes=2), f.cross_entropy, data=changed(rows, missing))
    assert [cause.name for cause in causes if cause.proof] == []
    assert "so the model replaces them" in next(cause.seen for cause in causes if cause.name == "nan-input")


def test_a_model_that_learns_from_each_sample_of_a_stream_is_observed():
    causes = diagnosis(Carrying(), data=lambda: passages(1))
    assert (causes[0].name, causes[0].proof, causes[0].cause) == ("one-timestep-chunks", 0, "")


def test_a_class_weight_of_0_is_an_observation_for_it_may_be_that_of_the_padding():
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    (only,) = diagnosis(Reader(), lambda z, y: of_tokens(z, y, weight=weight))
    assert (only.name, only.proof, only.cause) == ("class-weight-0", 0, "")
    assert "42 % of the targets" in only.seen
    assert only.title.startswith("the class weight of 1, 2, 3 is 0")


def test_nothing_of_the_script_changes():
    model = Reader()
    own, run = trained(model)
    run()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    moments = [value["exp_avg"].clone() for value in own.state.values()]
    state = torch.get_rng_state()
    tui_gru.diagnose(model, own, run)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value["exp_avg"], before) for value, before in zip(own.state.values(), moments, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())  # noqa: SLF001
    assert modes() == 0


def test_what_cannot_be_diagnosed_is_refused_with_its_argument():
    model = Reader()
    own, run = trained(model)
    with pytest.raises(TuiGruError, match="model must be") as refused:
        tui_gru.diagnose(3, own, run)
    assert refused.value.option == "model"
    with pytest.raises(TuiGruError, match="run must be"):
        tui_gru.diagnose(model, own, 3)
    with pytest.raises(TuiGruError, match="run trains nothing"):
        tui_gru.diagnose(model, own, lambda: None)


def test_the_results_of_findings_still_lead_to_their_causes():
    """`.cause` is a finding there, and a text in a diagnosis."""
    session = tui_gru.Session(learning_rate=1000.0)
    session.learning = True
    session.step("epoch", 60)
    assert any(isinstance(finding.cause, tui_gru.Finding) for finding in session.findings())
    results = session.diagnose()
    assert results
    assert [finding.proof for finding in results] == sorted((finding.proof for finding in results), reverse=True)
    for finding in results:
        assert isinstance(finding, tui_gru.Finding)
        texts = (finding.cause, finding.seen, finding.tried, finding.cure)
        assert all(isinstance(text, str) for text in texts)
        assert finding.proof in (0, 1, 2, 3)


def test_a_recording_has_the_facts_of_its_steps(tmp_path):
    model = Reader()
    own = torch.optim.Adam(model.parameters(), 1e-2)
    with tui_gru.record(tmp_path / "run.gru", model, own, every=1) as recorder:
        for x, y in texts():
            own.zero_grad()
            loss = of_tokens(model(x).softmax(-1), y)
            loss.backward()
            own.step()
            recorder.step(loss)
    session = tui_gru.Session.open(tmp_path / "run.gru")
    first, *_ = session.findings()
    assert (first.name, first.cause) == ("softmax-twice", None)
    first, *_ = session.diagnose()
    assert (first.name, first.proof, first.tried) == ("softmax-twice", 2, "")


def test_a_session_in_a_script_is_diagnosed_and_the_script_stays_as_it_was():
    model = Reader()
    own = torch.optim.Adam(model.parameters(), 1e-2)
    tui_gru.debug(model, own, screen=False)
    for x, y in texts(24):
        own.zero_grad()
        (-of_tokens(model(x), y)).backward()
        own.step()
    session = tui_gru.debug(model, own, screen=False)
    weights, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    first, *_ = session.diagnose()
    assert (first.name, first.proof) == ("negated", 2)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_facts_come_back_from_their_line_as_they_were():
    model = Reader()
    watch = StepWatch(model, [], hook_calls, unhook)
    _, run = trained(model)
    run()
    watch.close()
    steps = watch.memory.steps
    assert len(steps) >= 4
    again = tuple(StepFacts.decoded(step.encoded()) for step in steps)
    assert again == steps
    assert causes_of(WatchedSteps(again)) == []


def test_a_mode_of_the_script_outlives_that_of_the_watch():
    """`with torch.device(...)` is a mode, too: one that the script enters in a watched step goes on after it."""
    model = Reader()
    watch = StepWatch(model, [], hook_calls, unhook)
    own = torch.optim.Adam(model.parameters(), 1e-2)
    x, y = next(iter(texts()))
    logits = model(x)
    with torch.device("cpu"):
        of_tokens(logits, y).backward()
        own.step()
        watch.end_step(math.nan)
        watch.close()
        assert modes() == 1
    assert modes() == 0


def test_the_last_steps_of_a_loop_are_run_again():
    model = Reader()
    own = torch.optim.Adam(model.parameters(), 1e-2)
    results = []
    for x, y in (
        loop := tui_gru.steps(
            list(texts(20)),
            model,
            own,
            pause=18,
            screen=lambda run: results.append((tui_gru.diagnose(model, own, run), run.session().diagnose())),
        )
    ):
        own.zero_grad()
        of_tokens(model(x).softmax(-1), y).backward()
        own.step()
    ((at_pause, of_session),) = results
    after = tui_gru.diagnose(model, own, loop)
    assert [each[0].name for each in (at_pause, of_session, after)] == ["softmax-twice"] * 3


def test_the_answers_of_diagnose_have_their_proof():
    from tui_gru.session.answers import PlainResults

    session = tui_gru.Session(learning_rate=1000.0)
    session.learning = True
    session.step("epoch", 60)
    data = PlainResults(session.program).plain(session.diagnose())
    assert {"cause", "seen", "tried", "cure", "proof"} <= data[0].keys()
    assert data[0]["proof"] == 3
    assert "without it" in data[0]["tried"]


def _recorded(folder, step):
    """Record some steps in which no gradient comes to the recurrent module: `step(model, x, y)` returns the loss."""
    model = Reader()
    own = torch.optim.Adam(model.parameters(), 1e-2)
    with tui_gru.record(folder, model, own, every=1) as recorder:
        for x, y in texts(6):
            own.zero_grad()
            loss = step(model, x, y)
            own.step()
            recorder.step(loss)
    return tui_gru.Session.open(folder)


def _no_grad_step(model, x, y):
    loss = of_tokens(_without_graph(model, x), y)
    loss.backward()
    return loss


UNTRAINED = {
    "under no_grad": ("under-no-grad", "its output had no graph in 4 watched steps: it was called under no_grad", _no_grad_step),
    "no backward pass": (
        "no-backward",
        "no backward pass came before 4 watched steps of the optimizer",
        lambda model, x, y: of_tokens(model(x), y),
    ),
}


@pytest.mark.parametrize("script", UNTRAINED)
def test_a_recording_in_which_nothing_is_learned_opens_and_says_so(tmp_path, script):
    name, reason, step = UNTRAINED[script]
    session = _recorded(tmp_path / "run.gru", step)
    assert session.steps == (0, 1, 2, 3, 4, 5)
    assert f"rnn received no gradient in any step: {reason}" in session.notice
    assert [finding.name for finding in session.findings()] == [name]
    session.step("batch")
    assert session.value("h").shape == (B, H)
    assert session.gradient("Wz") is None


def test_calls_without_a_gradient_are_not_recorded_once_something_is_learned(tmp_path):
    model = Reader()
    own = torch.optim.Adam(model.parameters(), 1e-2)
    with tui_gru.record(tmp_path / "run.gru", model, own, every=1) as recorder:
        for x, y in texts(3):
            with torch.no_grad():
                model(x[:2])
            own.zero_grad()
            loss = of_tokens(model(x), y)
            loss.backward()
            own.step()
            with torch.no_grad():
                model(x[:1])
            recorder.step(loss)
    session = tui_gru.Session.open(tmp_path / "run.gru")
    assert "no gradient" not in session.notice
    for _ in session.steps:
        session.step("batch")
        assert session.value("h").shape == (B, H)


def test_the_settings_of_all_groups_of_an_optimizer_are_read():
    model = Reader()
    groups = [
        {"params": model.embed.parameters()},
        {"params": [*model.rnn.parameters(), *model.head.parameters()], "weight_decay": 9.0},
    ]
    own = torch.optim.SGD(groups, 0.1)
    watch = StepWatch(model, [own], hook_calls, unhook)
    _, run = trained(model, optimizer=own)
    run()
    watch.close()
    assert WatchedSteps(watch.memory.steps).own_updates[-1].settings["weight_decay"] == 9.0


def test_an_average_of_gradients_of_the_scripts_own_is_no_clip_that_comes_too_late():
    model = Reader()

    def step(own, x, y):
        of_tokens(model(x), y).backward()
        own.step()
        for parameter in model.parameters():
            parameter.grad.mul_(0.9)

    assert "clipped-too-late" not in [finding.name for finding in diagnosis_of(model, step)]


def test_no_more_is_tried_than_a_user_waits_for(monkeypatch):
    monkeypatch.setattr("tui_gru.analysis.experiments.MOST_WORK", 0)
    model = Reader()
    (only,) = diagnosis(model, optimizer=torch.optim.Adam(model.parameters(), 1e-7))
    assert (only.proof, only.tried) == (0, "")
    assert only.is_observation
    assert "not more was tried: the model is so large" in only.seen


def test_a_large_model_is_watched_without_copies_of_its_parameters(monkeypatch):
    monkeypatch.setattr("tui_gru.capture.facts.MOST_COPIED", 100)
    model = Reader()
    watch = StepWatch(model, [], hook_calls, unhook)
    _, run = trained(model, lambda z, y: of_tokens(z.softmax(-1), y))
    run()
    assert not watch.start
    assert [cause.name for cause in causes_of(WatchedSteps(watch.memory.steps))] == ["softmax-twice"]
    watch.close()


def test_a_fact_of_the_model_stays_one_where_its_cure_cannot_lower_the_loss():
    session = of_runs.run(200, **{**of_runs.LEARNED, "bidirectional": True})
    (read,) = [finding for finding in session.diagnose() if finding.name == "target-is-read"]
    assert read.proof == 2
    assert read.cure
    assert "not lower with --no-bidirectional" in read.tried
