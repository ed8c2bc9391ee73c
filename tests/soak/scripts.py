"""Healthy training scripts of many kinds, each recorded: no finding may say what is not so.

`python -m tests.soak.scripts [NAME …]` prints the findings of each; exit code 1 if a finding is none of an observation.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as f
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tui_gru
from tui_gru import Session

STEPS, B, T, H, V = 60, 8, 10, 16, 6

#: A script trains its model for a number of steps with a recorder, which it is given as a function of model, optimizer and options.
Begin = Callable[..., Any]
SCRIPTS: dict[str, Callable[[Begin], None]] = {}


def script(run: Callable[[Begin], None]) -> Callable[[Begin], None]:
    SCRIPTS[run.__name__] = run
    return run


class Tagger(nn.Module):
    """An embedding, a recurrent module that is batch first, and a head at every timestep."""

    def __init__(self, kind: str = "GRU", out: int = V, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, H)
        self.rnn = getattr(nn, kind)(H, H, batch_first=True, **options)
        self.head = nn.Linear(H * (1 + self.rnn.bidirectional), out)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.rnn(self.embed(tokens))[0])
        return logits


def tokens(rows: int = B, length: int = T) -> Tensor:
    """Return rows that count up from a random start, with a mistake now and then, so that the next token can be learned."""
    start = torch.randint(V, (rows, 1))
    count = (start + torch.arange(length)) % V
    return torch.where(torch.rand(rows, length) < 0.05, torch.randint(V, (rows, length)), count)


def next_token_loss(model: nn.Module, read: Tensor) -> Tensor:
    logits = model(read[:, :-1])
    return f.cross_entropy(logits.flatten(0, 1), read[:, 1:].flatten())


def plainly(begin: Begin, model: nn.Module, optimizer: Any, loss_of: Callable[[], Tensor], **more: Any) -> None:
    """Train in the usual order; `clip` and `scheduler` are optional."""
    recorder = begin(model, optimizer)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()  # type: ignore[no-untyped-call]
        if "clip" in more:
            nn.utils.clip_grad_norm_(model.parameters(), more["clip"])
        optimizer.step()
        if "scheduler" in more:
            more["scheduler"].step()
        recorder.step(loss)
    recorder.close()


def adam(model: nn.Module, rate: float = 3e-3, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), rate, **options)


@script
def language_model(begin: Begin) -> None:
    model = Tagger("LSTM")
    plainly(begin, model, adam(model), lambda: next_token_loss(model, tokens()))


@script
def many_to_one_last_output(begin: Begin) -> None:
    model = Tagger()
    optimizer = adam(model)

    def loss() -> Tensor:
        read = tokens()
        return f.cross_entropy(model(read)[:, -1], read[:, 0])

    plainly(begin, model, optimizer, loss)


@script
def many_to_one_last_state(begin: Begin) -> None:
    rnn, head = nn.GRU(3, H, num_layers=2), nn.Linear(H, 1)
    model = nn.ModuleList([rnn, head])

    def loss() -> Tensor:
        x = torch.randn(T, B, 3)
        return f.mse_loss(head(rnn(x)[1][-1]).squeeze(1), x[:, :, 0].mean(dim=0))

    plainly(begin, model, adam(model), loss)


@script
def bidirectional_tagger(begin: Begin) -> None:
    model = Tagger("LSTM", bidirectional=True)

    def loss() -> Tensor:
        read = tokens()
        return f.cross_entropy(model(read).flatten(0, 1), read.flip(1).flatten())

    plainly(begin, model, adam(model), loss)


@script
def bidirectional_last_states(begin: Begin) -> None:
    rnn, head = nn.GRU(3, H, bidirectional=True), nn.Linear(2 * H, 3)
    model = nn.ModuleList([rnn, head])

    def loss() -> Tensor:
        x = torch.randn(T, B, 3)
        ends = rnn(x)[1]
        return f.cross_entropy(head(torch.cat([ends[-2], ends[-1]], 1)), x.mean(0).argmax(1))

    plainly(begin, model, adam(model), loss)


@script
def packed_rows_last_state(begin: Begin) -> None:
    model = Tagger()

    def loss() -> Tensor:
        read, lengths = tokens(), torch.randint(3, T + 1, (B,))
        packed = pack_padded_sequence(model.embed(read), lengths, batch_first=True, enforce_sorted=False)
        return f.cross_entropy(model.head(model.rnn(packed)[1][-1]), read[:, 0])

    plainly(begin, model, adam(model), loss)


@script
def packed_rows_masked_loss(begin: Begin) -> None:
    model = Tagger("LSTM")

    def loss() -> Tensor:
        read, lengths = tokens(), torch.randint(3, T + 1, (B,))
        lengths[0] = T
        packed = pack_padded_sequence(model.embed(read), lengths, batch_first=True, enforce_sorted=False)
        logits = model.head(pad_packed_sequence(model.rnn(packed)[0], batch_first=True)[0])
        target = read.roll(-1, 1).masked_fill(torch.arange(T) >= lengths[:, None] - 1, -100)
        return f.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)

    plainly(begin, model, adam(model), loss)


@script
def padded_rows_ignored_in_the_loss(begin: Begin) -> None:
    model = Tagger()

    def loss() -> Tensor:
        read, lengths = 1 + tokens() % (V - 1), torch.randint(3, T + 1, (B,))
        lengths[0] = T
        read[torch.arange(T) >= lengths[:, None]] = 0
        target = read.roll(-1, 1).masked_fill(torch.arange(T) >= lengths[:, None] - 1, 0)
        return f.cross_entropy(model(read).flatten(0, 1), target.flatten(), ignore_index=0)

    plainly(begin, model, adam(model), loss)


@script
def sequence_to_sequence(begin: Begin) -> None:
    model = nn.ModuleDict({
        "embed": nn.Embedding(V, H), "encoder": nn.GRU(H, H), "decoder": nn.GRU(H, H), "head": nn.Linear(H, V),
    })  # fmt: skip

    def loss() -> Tensor:
        read = tokens().T
        state = model["encoder"](model["embed"](read))[1]
        out, _ = model["decoder"](model["embed"](read.flip(0)[:-1]), state)
        return f.cross_entropy(model["head"](out).flatten(0, 1), read.flip(0)[1:].flatten())

    plainly(begin, model, adam(model), loss)


@script
def decoder_of_cells_with_attention(begin: Begin) -> None:
    model = nn.ModuleDict({
        "embed": nn.Embedding(V, H), "encoder": nn.GRU(H, H), "cell": nn.GRUCell(2 * H, H), "head": nn.Linear(H, V),
    })  # fmt: skip

    def loss() -> Tensor:
        read = tokens().T
        memory, state = model["encoder"](model["embed"](read))
        state, outs = state[0], []
        for token in read[:-1]:
            weights = torch.einsum("tbh,bh->tb", memory, state).softmax(0)
            context = torch.einsum("tb,tbh->bh", weights, memory)
            state = model["cell"](torch.cat([model["embed"](token), context], 1), state)
            outs.append(model["head"](state))
        return f.cross_entropy(torch.cat(outs), read[1:].flatten())

    plainly(begin, model, adam(model), loss)


@script
def weight_decay(begin: Begin) -> None:
    model = Tagger()
    plainly(begin, model, torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.1), lambda: next_token_loss(model, tokens()))


@script
def strong_weight_decay_in_sgd(begin: Begin) -> None:
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-2, nesterov=True)
    plainly(begin, model, optimizer, lambda: next_token_loss(model, tokens()))


@script
def warm_up_and_cosine(begin: Begin) -> None:
    model = Tagger("LSTM")
    optimizer = adam(model, 1e-2)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=20)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 20)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], [20])
    plainly(begin, model, optimizer, lambda: next_token_loss(model, tokens()), scheduler=scheduler)


@script
def one_cycle(begin: Begin) -> None:
    model = Tagger("RNN")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=STEPS + 1)
    plainly(begin, model, optimizer, lambda: next_token_loss(model, tokens()), scheduler=scheduler, clip=1.0)


@script
def gradient_accumulation(begin: Begin) -> None:
    model = Tagger()
    optimizer = adam(model)
    recorder = begin(model, optimizer)
    for _ in range(STEPS):
        optimizer.zero_grad()
        total = torch.zeros(())
        for _ in range(3):
            loss = next_token_loss(model, tokens()) / 3
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        optimizer.step()
        recorder.step(total)
    recorder.close()


@script
def gradient_accumulation_with_a_step_for_each_part(begin: Begin) -> None:
    model = Tagger()
    optimizer = adam(model)
    recorder = begin(model, optimizer)
    for number in range(STEPS):
        loss = next_token_loss(model, tokens())
        (loss / 4).backward()  # type: ignore[no-untyped-call]
        if number % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
        recorder.step(loss)
    recorder.close()


@script
def autocast_on_the_cpu(begin: Begin) -> None:
    model = Tagger()

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return next_token_loss(model, tokens())

    plainly(begin, model, adam(model), loss)


@script
def tied_weights(begin: Begin) -> None:
    model = Tagger("LSTM")
    model.head.weight = model.embed.weight
    plainly(begin, model, adam(model), lambda: next_token_loss(model, tokens()))


@script
def dropout_between_layers(begin: Begin) -> None:
    model = Tagger("LSTM", num_layers=3, dropout=0.3)
    plainly(begin, model, adam(model), lambda: next_token_loss(model, tokens()))


@script
def two_optimizers(begin: Begin) -> None:
    model = Tagger()
    first = torch.optim.Adam(model.rnn.parameters(), 3e-3)
    second = torch.optim.SGD([*model.embed.parameters(), *model.head.parameters()], 0.1)
    recorder = begin(model, [first, second])
    for _ in range(STEPS):
        first.zero_grad()
        second.zero_grad()
        loss = next_token_loss(model, tokens())
        loss.backward()  # type: ignore[no-untyped-call]
        first.step()
        second.step()
        recorder.step(loss)
    recorder.close()


@script
def generator_and_discriminator(begin: Begin) -> None:
    generator, critic = nn.GRU(4, H), nn.GRU(1, H)
    heads = nn.ModuleList([nn.Linear(H, 1), nn.Linear(H, 1)])
    model = nn.ModuleList([generator, critic, heads])
    first = torch.optim.Adam([*generator.parameters(), *heads[0].parameters()], 1e-3)
    second = torch.optim.Adam([*critic.parameters(), *heads[1].parameters()], 1e-3)
    recorder = begin(model, [first, second])
    for _ in range(STEPS):
        true = torch.sin(torch.linspace(0, 6, T)[:, None, None] + 6 * torch.rand(1, B, 1))
        made = heads[0](generator(torch.randn(T, B, 4))[0])
        second.zero_grad()
        judged = heads[1](critic(torch.cat([true, made.detach()], 1))[1][-1])
        of_critic = f.binary_cross_entropy_with_logits(judged, torch.cat([torch.ones(B, 1), torch.zeros(B, 1)]))
        of_critic.backward()  # type: ignore[no-untyped-call]
        second.step()
        first.zero_grad()
        loss = f.binary_cross_entropy_with_logits(heads[1](critic(made)[1][-1]), torch.ones(B, 1))
        loss.backward()  # type: ignore[no-untyped-call]
        first.step()
        recorder.step(loss)
    recorder.close()


@script
def binary_cross_entropy(begin: Begin) -> None:
    model = Tagger(out=1)

    def loss() -> Tensor:
        read = tokens()
        return f.binary_cross_entropy_with_logits(model(read).squeeze(2), (read > 2).float())

    plainly(begin, model, adam(model), loss)


@script
def connectionist_temporal_classification(begin: Begin) -> None:
    rnn, head = nn.LSTM(4, H, bidirectional=True), nn.Linear(2 * H, 5)
    model = nn.ModuleList([rnn, head])

    def loss() -> Tensor:
        labels = torch.randint(1, 5, (B, 3))
        x = f.one_hot(labels.repeat_interleave(5, 1) - 1, 4).float().transpose(0, 1)
        log_p = head(rnn(x)[0]).log_softmax(2)
        return f.ctc_loss(log_p, labels, torch.full((B,), 15), torch.full((B,), 3))

    plainly(begin, model, adam(model), loss)


@script
def forecasting_with_huber(begin: Begin) -> None:
    rnn, head = nn.GRU(1, H), nn.Linear(H, 1)
    model = nn.ModuleList([rnn, head])

    def loss() -> Tensor:
        x = torch.sin(torch.arange(T + 1) / 2 + 6 * torch.rand(B, 1)).T[:, :, None]
        return f.smooth_l1_loss(head(rnn(x[:-1])[0]), x[1:])

    plainly(begin, model, adam(model), loss)


@script
def state_carried_over(begin: Begin) -> None:
    model = Tagger("LSTM")
    optimizer = adam(model)
    recorder = begin(model, optimizer)
    state: Any = None
    text = tokens(length=10 * T + 1)
    for number in range(STEPS):
        part = number % 10
        state = tuple(h.detach() for h in state) if part else None
        read = text[:, part * T : (part + 1) * T + 1]
        out, state = model.rnn(model.embed(read[:, :-1]), state)
        optimizer.zero_grad()
        loss = f.cross_entropy(model.head(out).flatten(0, 1), read[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        recorder.step(loss)
    recorder.close()


@script
def label_smoothing_and_class_weights(begin: Begin) -> None:
    model = Tagger()

    def loss() -> Tensor:
        read = tokens()
        weight = torch.linspace(0.5, 2, V)
        return f.cross_entropy(model(read[:, :-1]).flatten(0, 1), read[:, 1:].flatten(), weight, label_smoothing=0.1)

    plainly(begin, model, adam(model), loss, clip=0.5)


@script
def sum_of_the_losses(begin: Begin) -> None:
    model = Tagger()

    def loss() -> Tensor:
        read = tokens()
        return f.cross_entropy(model(read[:, :-1]).flatten(0, 1), read[:, 1:].flatten(), reduction="sum")

    plainly(begin, model, adam(model), loss, clip=1.0)


@script
def layer_norm_and_residual(begin: Begin) -> None:
    rnn, norm, head, embed = nn.GRU(H, H), nn.LayerNorm(H), nn.Linear(H, V), nn.Embedding(V, H)
    model = nn.ModuleList([rnn, norm, head, embed])

    def loss() -> Tensor:
        read = tokens().T
        x = embed(read[:-1])
        return f.cross_entropy(head(norm(x + rnn(x)[0])).flatten(0, 1), read[1:].flatten())

    plainly(begin, model, adam(model), loss)


@script
def fine_tuning_of_a_head(begin: Begin) -> None:
    model = Tagger("LSTM", num_layers=2)
    for name, parameter in model.rnn.named_parameters():
        parameter.requires_grad_(name.endswith("l1"))
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], 3e-3)
    plainly(begin, model, optimizer, lambda: next_token_loss(model, tokens()))


@script
def rms_prop_and_validation(begin: Begin) -> None:
    model = Tagger("RNN", nonlinearity="relu")
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3)
    recorder = begin(model, optimizer)
    for number in range(STEPS):
        model.train()
        optimizer.zero_grad()
        loss = next_token_loss(model, tokens())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_value_(model.parameters(), 0.5)
        optimizer.step()
        recorder.step(loss)
        if number % 20 == 19:
            model.eval()
            with torch.no_grad():
                next_token_loss(model, tokens(64))
    recorder.close()


@script
def policy_gradient(begin: Begin) -> None:
    rnn, head = nn.GRU(3, H), nn.Linear(H, 3)
    model = nn.ModuleList([rnn, head])

    def loss() -> Tensor:
        x = torch.randn(T, B, 3)
        policy = torch.distributions.Categorical(logits=head(rnn(x)[0]))
        action = policy.sample()
        reward = (action == x.argmax(2)).float()
        return -(policy.log_prob(action) * (reward - reward.mean())).mean() - 0.01 * policy.entropy().mean()

    plainly(begin, model, adam(model), loss)


@script
def variational_autoencoder(begin: Begin) -> None:
    parts = {"encoder": nn.GRU(2, H), "latent": nn.Linear(H, 8), "first": nn.Linear(4, H), "decoder": nn.GRU(2, H)}
    model = nn.ModuleDict({**parts, "head": nn.Linear(H, 2)})

    def loss() -> Tensor:
        x = torch.randn(1, B, 2) + torch.arange(T)[:, None, None] / T
        mean, log_var = model["latent"](model["encoder"](x)[1][-1]).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (log_var / 2).exp()
        out, _ = model["decoder"](torch.zeros_like(x), model["first"](z).tanh()[None])
        divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
        return f.mse_loss(model["head"](out), x) + 0.01 * divergence

    plainly(begin, model, adam(model), loss)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *SCRIPTS], help="the scripts; default: all")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    blamed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or SCRIPTS:
            torch.manual_seed(options.seed)
            path = Path(folder) / f"{name}.gru"
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                SCRIPTS[name](lambda model, optimizer, path=path: tui_gru.record(path, model, optimizer, every=options.every))
            session = Session.open(path)
            findings = session.findings()
            blamed += any(not each.is_observation for each in findings)
            print(f"{name}: {'; '.join(f'{each.name} ({each.title})' for each in findings) or 'nothing'}", flush=True)
            for each in warned:
                print(f"    warned: {each.message}")
    print(f"{blamed} of {len(options.names or SCRIPTS)} scripts are blamed")
    return 1 if blamed else 0


if __name__ == "__main__":
    raise SystemExit(main())
