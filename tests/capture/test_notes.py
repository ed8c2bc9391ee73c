"""Notes about common mistakes in scripts."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from tests.capture.scripts import IN, B, H, Model, T, loss_of, output_changed_in_place, reentrant_checkpointing
from tests.capture.test_borders import capture, forward, sgd
from tests.capture.test_scripts import captured
from tests.imported.recomputed import compare_gradients, compare_outputs
from tests.rounding import of_step
from tui_gru.capture.calls import Note
from tui_gru.errors import CaptureError
from tui_gru.imported.recompute import compiled_for


@pytest.fixture
def model():
    torch.manual_seed(3)
    return Model()


def one_step(model, between_backward_and_update=lambda: None, optimizer=None, loss=forward, after_update=lambda: None):
    optimizer = optimizer or sgd(model)
    steps, running = capture(model, optimizer)
    loss(model).backward()
    between_backward_and_update()
    optimizer.step()
    after_update()
    running.step()
    running.close()
    return steps[0]


def clip(model, norm=0.1):
    return nn.utils.clip_grad_norm_(model.parameters(), norm)


def test_a_clip_is_one_common_factor(model):
    total = []
    step = one_step(model, lambda: total.append(clip(model)))
    compared = compare_gradients(step)
    assert compared.cause == "clipped"
    assert compared.factor == pytest.approx(0.1 / (total[0].item() + 1e-6), rel=1e-5)
    assert compared.error < of_step(step)
    assert "one common factor, as of a clip; the norm was" in compared.sentence


def test_a_clip_after_the_update_is_named(model):
    step = one_step(model, after_update=lambda: clip(model))
    assert Note.SCALED_AFTER in step.notes
    assert "has no effect" in Note.SCALED_AFTER.sentence
    compared = compare_gradients(step)
    assert compared.cause == "equal"
    assert compared.norm == pytest.approx(np.sqrt(sum((g.astype(float) ** 2).sum() for g in step.gradients.values())), rel=1e-6)
    assert "neither clipped nor scaled" in compared.sentence


def test_a_scaler_and_a_clip_together_are_one_factor(model):
    def loss(model):
        return 2**20 * forward(model)

    def unscale():
        for value in model.parameters():
            value.grad /= 2**20
        clip(model)

    step = one_step(model, unscale, loss=loss)
    compared = compare_gradients(step)
    assert compared.cause == "scaled"
    assert compared.error < of_step(step)
    assert "one common factor, such as of a GradScaler with a clip" in compared.sentence


def test_what_else_changes_a_gradient_is_said(model):
    def decay():
        model.rnn.weight_hh_l0.grad += 0.01 * model.rnn.weight_hh_l0.detach()

    compared = compare_gradients(one_step(model, decay))
    assert compared.cause == "different"
    assert max(compared.differences, key=lambda one: one.worst).name == "rnn.weight_hh_l0"
    assert re.search("changed p.grad after the backward pass by a decay of the weights, which adds 0.01·W", compared.sentence)


def test_a_gradient_that_the_script_stores_itself_needs_no_zero_grad(model):
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    for _ in range(2):
        values = list(model.parameters())
        for value, gradient in zip(values, torch.autograd.grad(forward(model), values), strict=True):
            value.grad = gradient
        optimizer.step()
        running.step()
    running.close()
    assert [(step.notes, compare_gradients(step).cause) for step in steps] == [((), "equal")] * 2


def test_gradients_that_are_changed_after_a_pass_that_adds_nothing_to_them(model):
    """`torch.autograd.grad` adds nothing to p.grad; what was there is what the backward pass after it begins with."""
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    forward(model).backward()
    optimizer.step()
    running.step()
    loss, values = forward(model), list(model.parameters())
    torch.autograd.grad(loss, values, retain_graph=True)  # as of a penalty on the norm
    for value in values:
        value.grad *= 0.5
    loss.backward()
    optimizer.step()
    running.step()
    running.close()
    compared = compare_gradients(steps[1])
    assert (compared.cause, compared.added, compared.factor) == ("equal", True, 1)
    assert compared.error < of_step(steps[1])


def test_parameters_that_the_optimizer_does_not_hold(model):
    step = one_step(model, optimizer=sgd(model.head))
    assert Note.NOT_IN_OPTIMIZER in step.notes


def test_a_gru_in_evaluation_mode_that_learns(model):
    assert one_step(model.eval()).calls[0].notes == ()  # nothing in it depends on the mode
    assert one_step(Model(num_layers=2, dropout=0.5).eval()).calls[0].notes == (Note.EVALUATING,)


def test_weights_that_get_a_gradient_without_a_call(model):
    def by_hand(model):
        return forward(model) + (torch.gru_cell(torch.randn(B, IN), torch.zeros(B, H), *model.cell.parameters()) ** 2).sum()

    model.cell = nn.GRUCell(IN, H)
    with pytest.warns(UserWarning, match=r"cell received a gradient, but was not called; .*call the module itself"):
        assert Note.UNSEEN in one_step(model, loss=by_hand).notes
    model.zero_grad()
    assert Note.UNSEEN not in one_step(model).notes


def test_an_output_changed_in_place():
    steps, _ = captured(output_changed_in_place)
    assert all(call.notes == (Note.CHANGED_IN_PLACE,) for step in steps for call in step.calls)


def test_an_output_changed_after_the_backward_pass_has_changed_nothing(model):
    steps, running = capture(model)
    out, _ = model.rnn(torch.randn(T, B, IN))
    out.sum().backward()
    out.data.zero_()
    with torch.no_grad():
        out.zero_()
    running.step()
    running.close()
    assert steps[0].calls[0].notes == ()


def test_gradients_that_were_there_are_seen_whatever_entries_are_0(model):
    forward(model).backward()
    for value in model.parameters():
        value.grad.view(-1)[0] = 0
    step = one_step(model)
    assert Note.NOT_CLEARED in step.notes
    assert step.before.keys() == step.gradients.keys()


def test_checkpointing_that_computes_twice():
    steps, _ = captured(reentrant_checkpointing)
    assert [[call.number for call in step.calls] for step in steps] == [[0, 1]] * 3
    assert all(call.notes == (Note.RECOMPUTED,) for step in steps for call in step.calls)
    for step in steps:  # in the order of the forward passes: the second gets twice the numbers of the first
        first, second = step.calls
        assert np.abs(second.x).sum() > np.abs(first.x).sum()


def test_transforms_have_no_numbers_to_keep(model):
    weights = {name: value.detach() for name, value in model.named_parameters()}
    x = torch.randn(T, B, IN)
    steps, running = capture(model)
    torch.func.grad(lambda weights: loss_of(torch.func.functional_call(model, weights, (x,))[0]))(weights)
    running.step()
    assert (steps[0].calls, steps[0].notes) == ((), (Note.NOT_CAPTURED,))


def test_masks_that_are_not_known_are_not_guessed(model, monkeypatch):
    model = Model(num_layers=2, dropout=0.5)
    steps, running = capture(model)
    monkeypatch.setattr("tui_gru.capture.hooks.draws_on_cpu", lambda part: False)  # as on a GPU
    forward(model).backward()
    running.step()
    (call,) = steps[0].calls
    assert (call.notes, call.masks) == ((Note.NO_MASKS,), ())
    with pytest.raises(CaptureError, match="rnn: the masks of its dropout are not known; run it on the CPU, or with dropout 0"):
        compiled_for(call)


def test_wrong_numbers_are_seen(model):
    """One entry of the captured data is changed at a time; the comparisons detect each."""
    step = one_step(model)
    (call,) = step.calls
    for array in (call.x, call.h0, call.weights.values["weight_ih_l0"], call.weights.values["bias_hh_l0"]):
        kept = array.flat[0].copy()
        array.flat[0] += 0.1
        assert max(one.worst for one in compare_outputs(call)) > 1e-4
        array.flat[0] = kept
    call.dout.flat[0] += 0.1
    assert compare_gradients(step).cause == "different"


def test_every_note_has_a_sentence():
    for note in Note:
        assert len(note.sentence) > 20
        assert "\n" not in note.sentence
