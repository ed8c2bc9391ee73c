"""Causes by what the numbers of the steps show: rows and texts, marks and sizes, axes, lost losses, rates that have gone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as f

import tui_gru
from tests.analysis.test_causes import (
    STEPS,
    B,
    Carrying,
    H,
    Reader,
    Reading,
    Stepped,
    T,
    V,
    changed,
    diagnosis,
    numbers,
    of_tokens,
    rows,
    texts,
)
from tui_gru.analysis.causes import WatchedSteps, causes_of
from tui_gru.analysis.diagnosis import causes_first
from tui_gru.capture.facts import StepFacts, StepWatch
from tui_gru.capture.hooks import hook_calls, unhook
from tui_gru.capture.relations import TextMemory

STORED = list(rows(2, size=2 * B))


def _shuffled():
    """Few rows again and again, in another order each time."""
    x, y = (torch.cat([batch[i] for batch in STORED]) for i in range(2))
    for epoch in range(6):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for part in order.split(B):
            yield x[part], y[part]


class CarryingRows(Carrying):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Identity(), nn.GRU(3, H, batch_first=True), nn.Linear(H, 2)

    def forward(self, x):
        return super().forward(x)[:, -1]


def _text(across_rows):
    """A text in chunks, in which each token hardly depends on another but on the one before it."""
    chance = torch.Generator().manual_seed(1)
    steps, text = torch.randint(1, 3, (STEPS * (T + 1) * B,), generator=chance), [0]
    for step in steps.tolist():
        text.append((text[-1] * 3 + step) % V)
    text = torch.tensor(text[:-1])
    columns = text.view(-1, B) if across_rows else text.view(B, -1).t()
    for i in range(0, len(columns) - T, T):
        yield columns[i : i + T].t(), columns[i + 1 : i + T + 1].t()


def _steps(model, step, optimizer=None, data=texts):
    own = optimizer or torch.optim.Adam(model.parameters(), 1e-2)

    def run():
        for x, y in data():
            own.zero_grad()
            step(own, x, y)

    return tui_gru.diagnose(model, own, run)


def _last_loss_alone(model):
    def step(own, x, y):
        h = None
        for t in range(T):
            logits, h = model(x[:, t], h)
            loss = f.cross_entropy(logits, y[:, t])
        loss.backward()
        own.step()

    return _steps(model, step)


def _with_the_first_state(model):
    def step(own, x, y):
        h = torch.ones(1, B, H)
        outputs = [model(x[:, t], h)[0] for t in range(T)]
        of_tokens(torch.stack(outputs, 1), y).backward()
        own.step()

    return _steps(model, step)


def _clipped_before(model):
    def step(own, x, y):
        loss = of_tokens(model(x), y)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        loss.backward()
        own.step()

    return _steps(model, step)


def _decayed(model):
    own = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(own, 1e-3)

    def step(own, x, y):
        of_tokens(model(x), y).backward()
        own.step()
        schedule.step()

    return _steps(model, step, own)


def _ctc(logits, y):
    lengths = torch.full((B,), T), torch.full((B,), 2)
    return f.ctc_loss(logits.transpose(0, 1).log_softmax(-1), y[:, :2], *lengths, blank=1)


def _ctc_of_few_timesteps(logits, y):
    lengths = torch.full((B,), T - 3), torch.full((B,), T)
    return f.ctc_loss(logits[:, : T - 3].transpose(0, 1).log_softmax(-1), y.clamp(1), *lengths, zero_infinity=True)


def _scaled_in_place():
    x, y = next(rows(1))
    for _ in range(STEPS):
        yield x, y
        x *= 0.1


def _marked(x, y):
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.1] = -999.0
    return x, y


def _masked(z, y):
    valid = y == y
    return torch.where(valid, (z - y) ** 2, torch.zeros_like(z)).sum()


def _some_nan(x, y):
    y[::3] = math.nan
    return x, y


SCRIPTS = {
    "a state carried over shuffled rows": (
        "carried-over-shuffled", lambda: diagnosis(CarryingRows(), f.cross_entropy, data=_shuffled)
    ),
    "a text cut along the other axis": ("text-across-rows", lambda: diagnosis(Reader(), data=lambda: _text(True))),
    "one of several losses": ("losses-lost", lambda: _last_loss_alone(Stepped())),
    "a state that is not passed on": ("state-not-passed", lambda: _with_the_first_state(Stepped())),
    "a clip before backward": ("clipped-too-early", lambda: _clipped_before(Reader())),
    "a rate that falls to nothing": ("rate-decayed", lambda: _decayed(Reader())),
    "softmax over the rows": (
        "over-rows",
        lambda: diagnosis(
            Reading(lambda m, x: m.head((m.rnn(m.embed(x))[0].softmax(0)).sum(1)), classes=2), f.cross_entropy, data=rows
        ),
    ),
    "softmax over one number": (
        "softmax-over-one",
        lambda: diagnosis(Reader(classes=1), lambda z, y: f.mse_loss(z.softmax(1), y), data=numbers),
    ),
    "targets that are the inputs": (
        "target-is-input", lambda: diagnosis(Reader(), data=changed(texts, lambda x, y: (x, x.clone())))
    ),
    "the target in the input": (
        "target-in-input",
        lambda: diagnosis(Reader(classes=1), f.mse_loss, data=changed(rows, lambda x, y: (x, x[:, -1, 1:2].clone()))),
    ),
    "targets with the blank": ("blank-in-targets", lambda: diagnosis(Reader(), _ctc)),
    "fewer timesteps than targets": ("ctc-too-short", lambda: diagnosis(Reader(), _ctc_of_few_timesteps)),
    "steps below the rounding of the weights": (
        "steps-are-lost", lambda: diagnosis(m := Reader(), optimizer=torch.optim.SGD(m.parameters(), 1e-9))
    ),
    "marks of missing values": (
        "missing-as-number", lambda: diagnosis(Reader(classes=2), f.cross_entropy, data=changed(rows, _marked))
    ),
    "large inputs": (
        "input-scale", lambda: diagnosis(Reader(classes=2), f.cross_entropy, data=lambda: rows(scale=1e4))
    ),
    "large targets": (
        "target-scale",
        lambda: diagnosis(Reader(classes=1), f.mse_loss, data=changed(numbers, lambda x, y: (x, 3e5 + 1e5 * y))),
    ),
    "targets of which some are NaN": (
        "nan-target", lambda: diagnosis(Reader(classes=1), _masked, data=changed(numbers, _some_nan))
    ),
    "one input for all rows": (
        "rows-alike",
        lambda: diagnosis(Reader(classes=2), f.cross_entropy, data=changed(rows, lambda x, y: (x[:1].repeat(len(x), 1, 1), y))),
    ),
    "data scaled in place": (
        "inputs-shrink", lambda: diagnosis(Reader(classes=2), f.cross_entropy, data=_scaled_in_place)
    ),
    "a weight of each with each": (
        "broadcast",
        lambda: diagnosis(Reader(classes=1), lambda z, y: (z * y[:, 0]).pow(2).mean(), data=numbers),
    ),
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_the_numbers_show_comes_first(script):
    name, run = SCRIPTS[script]
    causes = run()
    assert causes, name
    assert causes[0].name == name
    assert causes[0].proof >= 2
    assert causes[0].cure
    assert causes[0].seen


def _of_microbatches(model):
    def step(own, x, y):
        for part, targets in zip(x.split(1), y.split(1), strict=True):
            of_tokens(model(part), targets).backward()
        own.step()

    return _steps(model, step)


def _clipped(model):
    def step(own, x, y):
        of_tokens(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        own.step()

    return _steps(model, step)


HEALTHY = {
    "a text cut along its time": lambda: diagnosis(Reader(), data=lambda: _text(False)),
    "a clip in its place that never acts": lambda: _clipped(Reader()),
    "small batches that are added up": lambda: _of_microbatches(Reader()),
    "softmax over the timesteps": lambda: diagnosis(
        Reading(lambda m, x: m.head((m.rnn(m.embed(x))[0].softmax(1)).sum(1)), classes=2), f.cross_entropy, data=rows
    ),
}


@pytest.mark.parametrize("script", HEALTHY)
def test_a_script_without_a_mistake_is_not_accused(script):
    assert not [finding for finding in HEALTHY[script]() if finding.proof]


def test_neighbours_along_the_rows_tell_more_only_in_a_text_cut_along_them():
    for across_rows in (True, False):
        memory = TextMemory()
        for x, _ in _text(across_rows):
            memory.add(np.array(x.t().tolist()))
        facts = memory.facts
        assert (facts.across_rows > facts.in_time) == across_rows
        assert (facts.around > 10 * facts.deviation_around) == across_rows


def test_the_watched_steps_do_not_fall_on_the_same_batches_of_each_epoch():
    watch = StepWatch(nn.GRU(2, 3), [], lambda *of: [], lambda *of: None)
    watched = [number for number in range(400) if watch._is_watched(number)]  # noqa: SLF001
    watch.close()
    assert watched[:4] == [0, 1, 2, 3]
    assert len(watched) == 4 + 2 * 19
    assert len({number % 20 for number in watched}) > 12
    pairs = [number for number in watched if number + 1 in watched]
    assert len(pairs) == 3 + 19


def test_facts_of_the_data_come_back_from_their_line_as_they_were():
    model = CarryingRows()
    own = torch.optim.Adam(model.parameters(), 1e-2)
    watch = StepWatch(model, [own], hook_calls, unhook, all_steps=True)
    for x, y in _shuffled():
        own.zero_grad()
        f.cross_entropy(model(x), y).backward()
        own.step()
        watch.end_step(None)
    watch.close()
    steps = watch.memory.steps
    again = tuple(StepFacts.decoded(step.encoded()) for step in steps)
    assert again == steps
    names = {cause.name for cause in causes_of(WatchedSteps(again))}
    assert names == {"carried-over-shuffled"}


def test_what_another_cause_explains_comes_after_it_whatever_its_proof():
    from tui_gru.analysis.causes import EXACT, PROVEN, ProvenCause

    late = ProvenCause("one-timestep", PROVEN, "one timestep", "", "")
    early = ProvenCause("input-scale", EXACT, "large inputs", "", "")
    assert [cause.name for cause in causes_first([late, early])] == ["input-scale", "one-timestep"]
    assert [cause.name for cause in causes_first([late])] == ["one-timestep"]


def test_units_that_rest_are_an_observation_in_the_recording_of_a_script(tmp_path):
    model = nn.Sequential(nn.RNN(3, H, nonlinearity="relu", batch_first=True))
    head = nn.Linear(H, 1)
    with torch.no_grad():
        model[0].bias_ih_l0[: H // 2] = -100.0
    own = torch.optim.SGD([*model.parameters(), *head.parameters()], 1e-3)
    recorder = tui_gru.record(tmp_path / "relu.gru", nn.ModuleList([model, head]), own)
    for x, y in numbers():
        own.zero_grad()
        loss = f.mse_loss(head(model(x)[0][:, -1]), y)
        loss.backward()
        own.step()
        recorder.step(loss)
    recorder.close()
    rest = [finding for finding in tui_gru.Session.open(tmp_path / "relu.gru").findings() if finding.name == "dead-unit"]
    assert rest
    assert all(finding.is_observation for finding in rest)


def test_a_step_that_holds_training_and_validation_shows_that_both_learn():
    model = Reader()
    own = torch.optim.Adam(model.parameters(), 1e-2)
    watch = StepWatch(model, [own], hook_calls, unhook, all_steps=True)
    watch.implicit = False
    for _ in range(4):
        for training in (True, False):
            model.train(training)
            for x, y in texts(2):
                own.zero_grad()
                of_tokens(model(x), y).backward()
                own.step()
        watch.end_step(None)
    watch.close()
    causes = causes_of(WatchedSteps(watch.memory.steps))
    assert causes[0].name == "learns-in-evaluation"
