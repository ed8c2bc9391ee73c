"""Training scripts in the forms of well-known public ones: what each computes is captured, and p.grad is the derived gradient."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tui_gru
from tests.imported.recomputed import compare_gradients, compare_outputs
from tests.rounding import of_call, of_step
from tui_gru.capture.calls import CapturedStep
from tui_gru.capture.hooks import Capture
from tui_gru.imported.module import forget
from tui_gru.imported.recompute import recompute, sequences
from tui_gru.session.opening import on_recording, other_module

LETTERS, B = 20, 4


class CharRNN(nn.Module):
    """As char-rnn.pytorch: its GRU or LSTM of two layers is called for one character at a time, in a loop of the script."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model
        self.encoder = nn.Embedding(LETTERS, 8)
        self.rnn = (nn.GRU if model == "gru" else nn.LSTM)(8, 8, 2)
        self.decoder = nn.Linear(8, LETTERS)

    def forward(self, input: torch.Tensor, hidden: object) -> tuple[torch.Tensor, object]:
        output, hidden = self.rnn(self.encoder(input).view(1, len(input), -1), hidden)
        return self.decoder(output.view(len(input), -1)), hidden

    def init_hidden(self) -> object:
        zeros = torch.zeros(2, B, 8)
        return zeros if self.model == "gru" else (zeros, torch.zeros(2, B, 8))


def char_rnn(model: str, begin: object) -> list[torch.Tensor]:
    decoder = CharRNN(model)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.01)
    capture = begin(decoder, optimizer)  # type: ignore[operator]
    for _ in range(2):
        text = torch.randint(LETTERS, (B, 13))
        hidden, loss = decoder.init_hidden(), torch.zeros(())
        decoder.zero_grad()
        for c in range(12):
            output, hidden = decoder(text[:, c], hidden)
            loss = loss + functional.cross_entropy(output, text[:, c + 1])
        loss.backward()
        optimizer.step()
        capture.step(loss / 12)
    return list(decoder.parameters())


class AttentionDecoder(nn.Module):
    """As the translation tutorial: Bahdanau's attention over the encoder's outputs, batch first, one token at a time."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, hidden)
        self.Wa, self.Ua, self.Va = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.gru, self.out = nn.GRU(2 * hidden, hidden, batch_first=True), nn.Linear(hidden, LETTERS)
        self.dropout = nn.Dropout(0.1)

    def forward(self, encoded: torch.Tensor, hidden: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
        token, outputs = torch.zeros(len(encoded), 1, dtype=torch.long), []
        for i in range(7):
            embedded = self.dropout(self.embedding(token))
            query = hidden.permute(1, 0, 2)
            scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(encoded))).squeeze(2).unsqueeze(1)
            context = torch.bmm(functional.softmax(scores, dim=-1), encoded)
            output, hidden = self.gru(torch.cat((embedded, context), dim=2), hidden)
            outputs.append(self.out(output))
            token = outputs[-1].topk(1)[1].squeeze(-1).detach() if target is None else target[:, i].unsqueeze(1)
        return functional.log_softmax(torch.cat(outputs, dim=1), dim=-1)


class Translation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.encoder, self.decoder = nn.Embedding(LETTERS, 9), nn.GRU(9, 9, batch_first=True), AttentionDecoder(9)

    def forward(self, source: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
        return torch.as_tensor(self.decoder(*self.encoder(self.embedding(source)), target))


def translation(teaches: bool, begin: object) -> list[torch.Tensor]:
    """Two optimizers, one of the encoder and one of the decoder."""
    model = Translation()
    optimizers = [
        torch.optim.Adam([*model.embedding.parameters(), *model.encoder.parameters()], lr=0.01),
        torch.optim.Adam(model.decoder.parameters(), lr=0.01),
    ]
    capture = begin(model, optimizers)  # type: ignore[operator]
    for _ in range(2):
        source, target = torch.randint(LETTERS, (B, 6)), torch.randint(LETTERS, (B, 7))
        for optimizer in optimizers:
            optimizer.zero_grad()
        outputs = model(source, target if teaches else None)
        loss = functional.nll_loss(outputs.view(-1, LETTERS), target.view(-1))
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        capture.step(loss)
    return list(model.parameters())


class LanguageModel(nn.Module):
    """As word_language_model of torch's examples: tied weights, dropout, a state that is carried and detached."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.drop, self.encoder = nn.Dropout(0.2), nn.Embedding(LETTERS, 8)
        if kind in ("LSTM", "GRU"):
            self.rnn = getattr(nn, kind)(8, 8, 2, dropout=0.2)
        else:
            self.rnn = nn.RNN(8, 8, 2, nonlinearity={"RNN_TANH": "tanh", "RNN_RELU": "relu"}[kind], dropout=0.2)
        self.decoder = nn.Linear(8, LETTERS)
        self.decoder.weight = self.encoder.weight

    def forward(self, input: torch.Tensor, hidden: object) -> tuple[torch.Tensor, object]:
        output, hidden = self.rnn(self.drop(self.encoder(input)), hidden)
        return functional.log_softmax(self.decoder(self.drop(output)).view(-1, LETTERS), dim=1), hidden


def repackage_hidden(h: object) -> object:
    return h.detach() if isinstance(h, torch.Tensor) else tuple(map(repackage_hidden, h))  # type: ignore[call-overload]


def word_language_model(kind: str, begin: object, path: Path | None = None) -> list[torch.Tensor]:
    """It has no optimizer: the script changes p.data itself, after clipping."""
    model = LanguageModel(kind)
    capture = begin(model, None)  # type: ignore[operator]
    hidden: object = None
    for _ in range(3):
        data, targets = torch.randint(LETTERS, (11, B)), torch.randint(LETTERS, (11 * B,))
        model.zero_grad()
        hidden = None if hidden is None else repackage_hidden(hidden)
        output, hidden = model(data, hidden)
        loss = functional.nll_loss(output, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-2.0)
        capture.step(loss)
        if path is not None:
            torch.save(model, path)
    return list(model.parameters())


def mixed_precision(begin: object) -> list[torch.Tensor]:
    """As torch's AMP recipe: autocast, a scaler, unscaled before clipping."""
    model = nn.ModuleDict({"rnn": nn.GRU(6, 8), "head": nn.Linear(8, LETTERS)})
    optimizer, scaler = torch.optim.SGD(model.parameters(), 0.1), torch.amp.GradScaler("cpu", init_scale=256.0)
    capture = begin(model, optimizer)  # type: ignore[operator]
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model["head"](model["rnn"](torch.randn(9, B, 6))[0]).float().pow(2).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
        capture.step(loss)
    return list(model.parameters())


def compiled(begin: object) -> list[torch.Tensor]:
    torch.compiler.reset()
    model = nn.ModuleDict({"rnn": nn.GRU(6, 8), "head": nn.Linear(8, 2)})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    capture = begin(model, optimizer)  # type: ignore[operator]
    step = torch.compile(lambda x: model["head"](torch.tanh(model["rnn"](2 * x)[0])).pow(2).mean(), backend="aot_eager")
    for _ in range(2):
        optimizer.zero_grad()
        loss = step(torch.randn(9, B, 6))
        loss.backward()
        optimizer.step()
        capture.step(loss)
    return list(model.parameters())


FORMS = {
    "char-rnn, GRU": (lambda begin: char_rnn("gru", begin), {"rnn": 12}),
    "char-rnn, LSTM": (lambda begin: char_rnn("lstm", begin), {"rnn": 12}),
    "translation, teacher forcing": (lambda begin: translation(True, begin), {"encoder": 6, "decoder.gru": 7}),
    "translation, own words": (lambda begin: translation(False, begin), {"encoder": 6, "decoder.gru": 7}),
    **{
        f"word_language_model, {kind}": (lambda begin, kind=kind: word_language_model(kind, begin), {"rnn": 11})
        for kind in ("LSTM", "GRU", "RNN_TANH", "RNN_RELU")
    },
    "compiled": (compiled, {"rnn": 9}),
}


class Alone:
    def step(self, loss: object = None) -> None:
        pass


def run(form: object, begin: object) -> tuple[list[bytes], bytes]:
    torch.manual_seed(7)
    random.seed(7)
    trained = form(begin)  # type: ignore[operator]
    return [parameter.detach().numpy().tobytes() for parameter in trained], torch.get_rng_state().numpy().tobytes()


def captured(form: object) -> tuple[list[CapturedStep], tuple[list[bytes], bytes]]:
    steps, captures = list[CapturedStep](), list[Capture]()

    def begin(module: nn.Module, optimizer: object) -> Capture:
        captures.append(Capture(module, optimizer, on_step=steps.append))  # type: ignore[arg-type]
        return captures[0]

    result = run(form, begin)
    captures[0].close()
    return steps, result


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("ignore")  # of dynamo
def test_each_form_is_captured_and_goes_on_as_it_was(name: str) -> None:
    form, timesteps = FORMS[name]
    steps, result = captured(form)
    assert len(steps) >= 2
    for step in steps:
        whole = replace(step, calls=sequences(step))
        assert {call.module.name: call.timesteps for call in whole.calls} == timesteps  # one sequence of each module
        for call in whole.calls:
            assert max(each.error for each in compare_outputs(call, recompute(call))) <= of_call(call)
        compared = compare_gradients(whole)
        assert compared.cause in ("equal", "clipped" if "word" in name else "")
        assert compared.error <= of_step(whole)
        assert step.loss is not None
        assert math.isfinite(step.loss)
    assert result == run(form, lambda module, optimizer: Alone())


class Adversaries(nn.Module):
    """A generator and a discriminator, each with an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.g, self.d = nn.GRU(5, 6), nn.LSTM(6, 4, bidirectional=True)
        self.head = nn.Linear(8, 1)

    def judged(self, made: torch.Tensor) -> torch.Tensor:
        return self.head(self.d(made)[0]).mean()


@pytest.mark.parametrize("first", ["generator", "discriminator"])
def test_what_the_loss_of_a_generator_leaves_in_the_discriminator_does_not_count(first: str, tmp_path: Path) -> None:
    def train(begin: object) -> list[torch.Tensor]:
        models = Adversaries()
        of_g = torch.optim.SGD(models.g.parameters(), 0.1)
        of_d = torch.optim.SGD([*models.d.parameters(), *models.head.parameters()], 0.1)
        capture = begin(models, [of_g, of_d])  # type: ignore[operator]
        for _ in range(3):
            made = models.g(torch.randn(7, B, 5))[0]

            def generate(made: torch.Tensor = made) -> None:
                of_g.zero_grad()
                models.judged(made).square().backward()  # type: ignore[no-untyped-call]
                of_g.step()

            def discriminate(made: torch.Tensor = made) -> torch.Tensor:
                of_d.zero_grad()
                loss = (models.judged(torch.randn(7, B, 6)) - 1).square() + (models.judged(made.detach()) + 1).square()
                loss.backward()  # type: ignore[no-untyped-call]
                of_d.step()
                return loss

            if first == "generator":
                generate()
            loss = discriminate()
            if first == "discriminator":
                generate()
            capture.step(loss)
        return list(models.parameters())

    steps, result = captured(train)
    for step in steps:
        assert step.notes == ()
        assert [call.counts for call in step.calls if call.module.name == "d"].count(False) == 1
        compared = compare_gradients(step)
        assert (compared.cause, compared.error <= of_step(step)) == ("equal", True)
    assert result == run(train, lambda module, optimizer: Alone())
    recorders = list[tui_gru.Recorder]()

    def recorded(module: nn.Module, optimizer: object) -> tui_gru.Recorder:
        recorders.append(tui_gru.record(tmp_path / "run.gru", module, optimizer, every=1))  # type: ignore[arg-type]
        return recorders[0]

    train(recorded)
    recorders[0].close()
    for name, rows in (("g", B), ("d", 2 * B)):
        s = on_recording(tmp_path / "run.gru", name)
        s.seek(s.end)
        assert s.config.batch_size == rows
        assert "p.grad is the derived gradient" in s.remarks
        assert not [found for found in s.findings() if found.name == "gradient-not-cleared"]


def test_mixed_precision_is_captured_and_goes_on_as_it_was() -> None:
    steps, result = captured(mixed_precision)
    for step in steps:
        compared = compare_gradients(step)
        assert compared.cause in ("scaled", "clipped", "unscaled")
        assert compared.error <= 2e-2  # of bfloat16
    assert result == run(mixed_precision, lambda module, optimizer: Alone())


def test_the_checkpoint_of_a_recorded_language_model_still_loads(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.manual_seed(7)
    recorders = list[tui_gru.Recorder]()

    def begin(module: nn.Module, optimizer: object) -> tui_gru.Recorder:
        recorders.append(tui_gru.record(tmp_path / "run.gru", module, every=1))
        return recorders[0]

    trained = word_language_model("LSTM", begin, path)
    loaded = torch.load(path, weights_only=False)
    loaded.rnn.flatten_parameters()
    for ours, theirs in zip(trained, loaded.parameters(), strict=True):
        np.testing.assert_array_equal(ours.detach(), theirs.detach())
    assert b"tui_gru" not in path.read_bytes()
    recorders[0].close()
    assert tui_gru.Session.open(tmp_path / "run.gru").steps == (0, 1, 2)


def test_a_translation_is_debugged_from_module_to_module() -> None:
    sessions, debugged = list[tui_gru.Session | None](), list[nn.Module]()

    class Debugged:
        def __init__(self, module: nn.Module, optimizer: object) -> None:
            debugged.append(module)
            self.debug = partial(tui_gru.debug, module, optimizer, screen=False)  # type: ignore[arg-type]
            assert self.debug() is None

        def step(self, loss: object) -> None:
            sessions.extend(self.debug(name=name) for name in (None, "encoder", "decoder.gru"))

    torch.manual_seed(7)
    translation(True, Debugged)
    assert [s and s.config.source.module for s in sessions] == ["decoder.gru", "encoder", "decoder.gru"] * 2
    decoder = sessions[-1]
    assert decoder is not None
    decoder.seek(decoder.end)
    encoder = other_module(decoder)
    np.testing.assert_allclose(encoder.value("h", t=5), decoder.value("h_prev", t=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(decoder.gradient("Uz"), decoder.recorded_gradient("Uz"), rtol=1e-4, atol=1e-7)
    forget(debugged[0])
