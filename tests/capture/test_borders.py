"""The beginning and end of a step of a script, given by the script or detected from the optimizer and p.grad."""

import gc

import numpy as np
import pytest
import torch

from tests.capture.scripts import IN, B, Model, T, loss_of
from tests.imported.recomputed import compare_gradients
from tests.rounding import of_step
from tui_gru.capture.calls import Note
from tui_gru.capture.criterion import MOST_BEGUN
from tui_gru.capture.hooks import Capture, OpenCall
from tui_gru.capture.pending import PendingCall
from tui_gru.errors import CaptureError


@pytest.fixture
def model():
    torch.manual_seed(3)
    return Model()


def capture(model, optimizer=None, **options):
    steps = []
    return steps, Capture(model, optimizer, on_step=steps.append, **options)


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


def entries():
    """Return the number of entries for calls in memory."""
    return sum(isinstance(each, OpenCall) for each in gc.get_objects())


def forward(model):
    return loss_of(model(torch.randn(T, B, IN))[0])


def test_a_script_that_never_says_where_a_step_ends(model):
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        forward(model).backward()
        optimizer.step()
    running.close()
    assert [(step.number, len(step.calls), step.updated, step.loss) for step in steps] == [(n, 1, True, None) for n in range(3)]
    assert all(compare_gradients(step).cause == "equal" for step in steps)


def test_the_first_step_may_end_with_a_call_before_the_script_says_so(model):
    """The script runs a validation without no_grad between the update and `step`."""
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    for number in range(3):
        optimizer.zero_grad()
        forward(model).backward()
        optimizer.step()
        forward(model)
        assert running.step(float(number)).number == number
    running.close()
    assert [(step.loss, len(step.calls), step.not_kept) for step in steps] == [(0, 1, 0), (1, 1, 2), (2, 1, 1)]


def test_a_step_that_a_scaler_skips(model):
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    steps, running = capture(model, optimizer)
    for number in range(4):
        optimizer.zero_grad()
        loss = forward(model) * (np.inf if number == 1 else 1)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        running.step(loss)
    running.close()
    assert [step.updated for step in steps] == [True, False, True, True]
    assert [step.notes for step in steps] == [(), (Note.NOT_UPDATED,), (), ()]
    compared = [compare_gradients(step) for step in steps]
    assert [(one.cause, one.scale) for one in compared[::2]] == [("unscaled", 1024), ("unscaled", 512)]
    assert not np.isfinite(steps[1].gradients["rnn.weight_hh_l0"]).all()
    assert (compared[1].cause, compared[1].sentence[:30]) == ("not finite", "p.grad has NaN or infinities: ")
    assert "the derived gradient divided by 512" in compared[2].sentence


@pytest.mark.parametrize("scale", [65536.0, 1000.0], ids=["a power of two", "another scale"])
@pytest.mark.parametrize("fused", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_a_scaler_hands_its_scale_to_a_fused_optimizer(model, fused, scale):
    """Then the kernel of the update divides p.grad by it."""
    optimizer, scaler = fused(model.parameters(), lr=0.01, fused=True), torch.amp.GradScaler("cpu", init_scale=scale)
    steps, running = capture(model, optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        loss = forward(model)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        running.step(loss)
    running.close()
    for step in steps:
        compared = compare_gradients(step)
        assert step.notes == ()
        assert compared.factor == pytest.approx(1 / scale, rel=of_step(step))
        assert (compared.cause == "unscaled") == (scale == 65536)


@pytest.mark.parametrize("order", ["clear first", "clear before backward"])
def test_a_skipped_step_is_seen_without_being_told(model, order):
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=2.0)
    steps, running = capture(model, optimizer)
    for number in range(4):
        if order == "clear first":
            optimizer.zero_grad()
        loss = forward(model) * (np.inf if number == 1 else 1)
        if order != "clear first":
            optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    running.close()
    assert [(step.updated, len(step.calls), step.notes) for step in steps] == [
        (True, 1, ()),
        (False, 1, (Note.CLEARED,)),
        (True, 1, ()),
        (True, 1, ()),
    ]
    assert [compare_gradients(step).cause for step in steps] == ["unscaled", "nothing", "equal", "equal"]


def test_accumulation_that_the_script_reports_in_pieces(model):
    """`step` is called after every backward pass, the optimizer after every second."""
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    for number in range(4):
        forward(model).backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
        running.step()
    assert [step.updated for step in steps] == [False, True, False, True]
    compared = [compare_gradients(step) for step in steps]
    assert [(one.cause, one.added) for one in compared] == [("equal", False), ("equal", True)] * 2
    assert Note.NOT_CLEARED in steps[1].notes


def test_gradients_that_are_never_cleared(model):
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    for _ in range(3):
        forward(model).backward()
        optimizer.step()
        running.step()
    assert [step.notes for step in steps] == [(), (Note.NOT_CLEARED,), (Note.NOT_CLEARED,)]
    assert [compare_gradients(step).added for step in steps] == [False, True, True]
    assert "zero_grad() is missing" in Note.NOT_CLEARED.sentence


def test_without_an_optimizer(model):
    steps, running = capture(model)
    for _ in range(2):
        model.zero_grad()
        forward(model).backward()
        with torch.no_grad():
            for value in model.parameters():
                value -= 0.1 * value.grad
        running.step()
    assert [(step.updated, step.notes) for step in steps] == [(False, ())] * 2
    assert [compare_gradients(step).cause for step in steps] == ["equal"] * 2


def test_a_step_without_a_call_is_counted(model):
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    running.step(1.0)
    forward(model).backward()
    optimizer.step()
    running.step(2.0)
    running.close()
    assert [(step.number, len(step.calls), step.loss) for step in steps] == [(0, 0, 1.0), (1, 1, 2.0)]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_calls_without_a_gradient_are_kept_where_that_is_wanted(model, mode):
    steps, running = capture(model, without_gradient=2)
    model.eval()
    with mode():
        for _ in range(3):
            model(torch.randn(T, B, IN))
    model(torch.randn(T, B, IN))
    running.step()
    assert [(call.number, call.learned) for call in steps[0].calls] == [(0, False), (1, False)]
    assert steps[0].not_kept == 2


def test_validation_with_a_graph_takes_no_memory(model):
    """A call that can receive no more gradients is released at once, but for the few of which one loss may be."""
    gc.collect()  # captures of other tests that nobody has closed
    steps, running = capture(model, sgd(model))
    alive = []
    for _ in range(50):
        loss = forward(model)
        alive.append(sum(isinstance(each, PendingCall) for each in gc.get_objects()))
    assert max(alive) <= MOST_BEGUN + 1
    running.watch.close()
    del loss
    gc.collect()
    alive = []
    for _ in range(5):
        loss = forward(model)
        alive.append(sum(isinstance(each, PendingCall) for each in gc.get_objects()))
    assert set(alive[1:]) == {1}
    del loss
    running.step()
    assert (steps[0].calls, steps[0].not_kept) == ((), 55)


def test_a_long_validation_takes_no_room(model, monkeypatch):
    monkeypatch.setattr("tui_gru.capture.hooks.MOST_ENTRIES", 20)
    gc.collect()
    before = entries()
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    loss = forward(model)
    with torch.inference_mode():
        for _ in range(75):
            model(torch.randn(T, B, IN))
    assert 0 < entries() - before <= 20
    loss.backward()
    optimizer.step()
    running.step()
    assert (len(steps[0].calls), steps[0].not_kept) == (1, 75)
    assert compare_gradients(steps[0]).cause == "equal"


def test_a_gradient_that_comes_to_a_step_that_is_over(model):
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    out, h = model.rnn(torch.randn(T, B, IN))
    running.step()
    out, h = model.rnn(torch.randn(T, B, IN), h)
    out.sum().backward()
    optimizer.step()
    running.step()
    assert [step.notes for step in steps] == [(), (Note.LATE,)]
    assert steps[1].calls[0].h0_attached


def test_what_is_no_loss_is_refused_and_ends_no_step(model):
    steps, running = capture(model)
    for loss in ("a", torch.ones(2), [1, 2]):
        with pytest.raises(CaptureError, match="loss must be one number, not "):
            running.step(loss)
    assert steps == []
    assert running.step(torch.ones((), requires_grad=True)).loss == 1
    running.close()
    assert running.step(1.0) is None


def test_steps_that_are_not_wanted_have_no_calls():
    torch.manual_seed(3)
    model = Model(num_layers=2, dropout=0.5)
    optimizer = sgd(model)
    steps, running = capture(model, optimizer, wanted=lambda number: number % 2 == 1)
    for _ in range(4):
        optimizer.zero_grad()
        forward(model).backward()
        optimizer.step()
    running.close()
    assert [(step.number, len(step.calls), step.updated) for step in steps] == [
        (0, 0, True),
        (1, 1, True),
        (2, 0, True),
        (3, 1, True),
    ]
    assert [compare_gradients(step).cause for step in steps] == ["nothing", "equal", "nothing", "equal"]
