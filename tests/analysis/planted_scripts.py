"""Training scripts with one mistake each, and scripts that nearly have it. Each returns its recording.

The task: a row begins with one of a few marks, which the model says after the row.
"""

from __future__ import annotations

import atexit
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tui_gru

T, B, H, MARKS = 12, 8, 16, 5
_folder = tempfile.TemporaryDirectory()
atexit.register(_folder.cleanup)


class Model(nn.Module):
    def __init__(self, padding_idx: int | None = None, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.embed = nn.Embedding(MARKS + 1, H, padding_idx=padding_idx)
        self.rnn = nn.GRU(H, H, **options)
        self.head = nn.Linear(H * (1 + self.rnn.bidirectional), MARKS)


def batches(timesteps: int, lengths: Sequence[int] = ()) -> Iterator[Tensor]:
    """Yield batches of rows (T, B) of marks; 0 is the padding of rows of other lengths."""
    chance = torch.Generator().manual_seed(5)
    while True:
        read = 1 + torch.randint(MARKS, (timesteps, B), generator=chance)
        if lengths:
            read[torch.arange(timesteps)[:, None] >= torch.tensor(lengths)] = 0
        yield read


def last(model: Model, read: Tensor) -> Tensor:
    logits: Tensor = model.head(model.rnn(model.embed(read))[0][-1])
    return logits


def sgd(parameters: Any, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, rate)


def trained(
    answer: Callable[[Model, Tensor], Tensor] = last,
    *,
    model: Model | None = None,
    steps: int = 20,
    rate: float = 3e-3,
    timesteps: int = T,
    lengths: Sequence[int] = (),
    optimizer: Callable[[Any, float], torch.optim.Optimizer] = torch.optim.Adam,
    learning: Callable[[Model], Any] = lambda model: model.parameters(),
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    update_every: int = 1,
    clear: bool = True,
    before_update: Callable[[Model], object] = lambda model: None,
    after_update: Callable[[Model], object] = lambda model: None,
    every: int = 1,
    on: str = "nan or loss > 3*mean(loss)",
    with_head: bool = False,
    negated: bool = False,
) -> Path:
    """Train, and return the recording. The targets are the marks with which the rows begin."""
    model = model or Model()
    own = optimizer([*learning(model)], rate)
    folder = Path(tempfile.mkdtemp(dir=_folder.name)) / "run.gru"
    with tui_gru.record(folder, model, own, every=every, on=on, head=model.head if with_head else None) as recorder:
        for number, read in zip(range(steps), batches(timesteps, lengths), strict=False):
            if clear and number % update_every == 0:
                own.zero_grad()
            value = loss(answer(model, read), read[0] - 1)
            (-value if negated else value).backward()
            if (number + 1) % update_every == 0:
                before_update(model)
                own.step()
                after_update(model)
            recorder.step(value)
    return folder


def maximizing(parameters: Any, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, rate, maximize=True)


# ------------------------------------------------------------------------------
# The update.


def without_biases_of_rnn(model: Model) -> Any:
    return (value for name, value in model.named_parameters() if not name.startswith("rnn"))


def frozen(whole: bool) -> Model:
    model = Model()
    (model.rnn if whole else model.rnn.weight_hh_l0).requires_grad_(False)
    return model


def clip(model: Model) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def clip_to(limit: float) -> Callable[[Model], object]:
    return lambda model: nn.utils.clip_grad_norm_(model.parameters(), limit)


def rounded(model: Model) -> Model:
    """Round all weights to bfloat16, and return the model."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model


# ------------------------------------------------------------------------------
# What the loss reads.


def of_a_row(model: Model, read: Tensor) -> Tensor:
    """Read the last row of the batch at each timestep, where the last timestep of each row was meant."""
    read = read if model.rnn.batch_first else read.T
    out = model.rnn(model.embed(read))[0]
    logits: Tensor = model.head(out[-1] if model.rnn.batch_first else out[:, -1])
    return logits


def padded(answer: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Model, Tensor], Tensor]:
    """Return a function of a model that packs its rows; `answer` selects from the output (T, B, H) and the lengths."""

    def logits(model: Model, read: Tensor) -> Tensor:
        lengths = (read > 0).sum(dim=0)
        packed = pack_padded_sequence(model.embed(read), lengths, enforce_sorted=False)
        found: Tensor = model.head(answer(pad_packed_sequence(model.rnn(packed)[0])[0], lengths))
        return found

    return logits


def of_all_timesteps(masked: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss of logits (T, B, MARKS), with or without those after the end of a row."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        each = cross_entropy(logits.permute(1, 2, 0), target[:, None].expand(B, T), reduction="none").T
        return (each * (torch.arange(T)[:, None] < torch.tensor(LENGTHS))).mean() if masked else each.mean()

    return loss


def everywhere(model: Model, read: Tensor) -> Tensor:
    logits: Tensor = model.head(model.rnn(model.embed(read))[0])
    return logits


LENGTHS = (12, 7, 9, 12, 4, 6, 8, 5)


# ------------------------------------------------------------------------------
# The state, the gradient and the loss.


class Carried:
    """A model that carries its state from batch to batch; `keeps(n)` says after which steps the new state is kept."""

    def __init__(self, keeps: Callable[[int], bool], streams: int = 1) -> None:
        self.keeps, self.states, self.number = keeps, [torch.zeros(1, B, H)] * streams, -1

    def __call__(self, model: Model, read: Tensor) -> Tensor:
        self.number += 1
        stream = self.number % len(self.states)
        out, state = model.rnn(model.embed(read), self.states[stream])
        if self.keeps(self.number):
            self.states[stream] = state.detach()
        logits: Tensor = model.head(out[-1])
        return logits


def in_a_loop(detach: Callable[[int], bool]) -> Callable[[Model, Tensor], Tensor]:
    def logits(model: Model, read: Tensor) -> Tensor:
        h, outs = torch.zeros(1, B, H), []
        for t, x in enumerate(model.embed(read)):
            out, h = model.rnn(x[None], h.detach() if detach(t) else h)
            outs.append(out)
        found: Tensor = model.head(torch.cat(outs).mean(dim=0))
        return found

    return logits


def with_gain(gain: float) -> Model:
    """Return a model whose recurrent weights are larger: with 1, its gradient hardly grows."""
    model = Model()
    with torch.no_grad():
        model.rnn.weight_hh_l0 *= 4 * gain
        model.rnn.bias_ih_l0[H : 2 * H] -= 2  # z near 0: the state is replaced at each timestep
    return model


def of_squares(logits: Tensor, target: Tensor) -> Tensor:
    return (logits - nn.functional.one_hot(target, MARKS)).pow(2).mean()


def undefined_from(step: int, what: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss that is NaN from a step on, with NaN as the gradient, or without a NaN in the gradient."""
    count = [0]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        count[0] += 1
        value = cross_entropy(logits, target)
        if count[0] <= step:
            return value
        return value + (0 * logits.detach().sum() / 0 if what == "loss" else (0 * logits.sum()).sqrt() * 0)

    return loss


def failing_from(step: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss that raises an error from a step on."""
    count = [0]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        count[0] += 1
        return cross_entropy(logits, target if count[0] <= step else target[:-1])

    return loss


def ending(train: Callable[[], object]) -> Path:
    """Train until an error, and return the newest recording."""
    with contextlib.suppress(ValueError):
        train()
    return max(Path(_folder.name).glob("*/run.gru"), key=lambda folder: folder.stat().st_mtime_ns)


def softmax_before(logits: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(logits.softmax(dim=-1), target)


def sigmoid_twice(logits: Tensor, target: Tensor) -> Tensor:
    wanted = nn.functional.one_hot(target, MARKS).float()
    return nn.functional.binary_cross_entropy_with_logits(logits.sigmoid(), wanted)


def softmax_of_all(logits: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(logits.softmax(dim=-1).permute(1, 2, 0), target[:, None].expand(B, T))


def unlearnable(logits: Tensor, target: Tensor) -> Tensor:
    """A cross-entropy with targets that have nothing to do with the rows."""
    return cross_entropy(logits, torch.randint(MARKS, target.shape))


def already_trained() -> Model:
    model = Model()
    own = torch.optim.Adam(model.parameters(), 1e-2)
    for _, read in zip(range(400), batches(T), strict=False):
        own.zero_grad()
        cross_entropy(last(model, read), read[0] - 1).backward()  # type: ignore[no-untyped-call]
        own.step()
    return model
