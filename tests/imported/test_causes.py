"""Why p.grad is not the derived gradient: what is said of a script is proved, and a misread module is not blamed on it."""

import re

import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.handwritten import IN, H, parameter
from tests.capture.test_borders import capture
from tui_gru.imported import causes, recompute
from tui_gru.imported.module import forget

T, B, OUT = 5, 3, 2


class TwoStatesCell(nn.Module):
    """A cell of the script, whose equations are read off."""

    def __init__(self):
        super().__init__()
        self.W, self.U, self.V, self.K = parameter(IN, H), parameter(H, H), parameter(H, H), parameter(H, H)

    def forward(self, x, h, c):
        h = torch.tanh(x @ self.W + h @ self.U)
        return h, torch.tanh(h @ self.V + c @ self.K)


class Script(nn.Module):
    """A loss over a module of torch, or over a loop of a cell."""

    def __init__(self, kind):
        super().__init__()
        self.part, self.head = nn.GRU(IN, H) if kind == "nn.GRU" else TwoStatesCell(), nn.Linear(H, OUT)
        self.tied = nn.Linear(H, H)
        recurrent = self.part.weight_hh_l0[:H] if kind == "nn.GRU" else self.part.K
        self.is_cell = kind != "nn.GRU"
        if self.is_cell:
            self.tied.weight = recurrent

    def weights(self):
        return list(self.part.parameters())

    def forward(self, x):
        if not self.is_cell:
            return self.head(self.part(x)[0]).square().mean()
        h, c, outputs = torch.zeros(B, H, dtype=x.dtype), torch.zeros(B, H, dtype=x.dtype), []
        for one in x:
            h, c = self.part(one, h, c)
            outputs.append(self.head(c))
        return torch.stack(outputs).square().mean()


def plain(script, x, loss):
    loss.backward()


def twice(script, x, loss):
    loss.backward(retain_graph=True)
    loss.backward()


def scaled_loss(script, x, loss):
    (1024 * loss).backward()


def with_a_norm_by_autograd_grad(script, x, loss):
    torch.autograd.grad(loss, script.weights(), retain_graph=True)
    loss.backward()


def with_gradients_stored_by_hand(script, x, loss):
    for weight, gradient in zip(script.weights(), torch.autograd.grad(loss, script.weights()), strict=True):
        weight.grad = gradient


def divided(script, x, loss):
    loss.backward()
    for value in script.parameters():
        if value.grad is not None:
            value.grad /= 3


def clipped(script, x, loss):
    loss.backward()
    nn.utils.clip_grad_norm_(script.parameters(), 1e-3)


def clipped_by_value(script, x, loss):
    loss.backward()
    nn.utils.clip_grad_value_(script.parameters(), 1e-4)


def not_cleared(script, x, loss):
    loss.backward()
    script.twice = True


def not_cleared_and_clipped(script, x, loss):
    clipped(script, x, loss)
    script.twice = True


def a_factor_each(script, x, loss):
    loss.backward()
    for k, value in enumerate(script.weights(), 1):
        value.grad *= k / 8


def noise(script, x, loss):
    loss.backward()
    for value in script.weights():
        value.grad += 0.1 * torch.randn_like(value)


def decay(script, x, loss):
    loss.backward()
    for value in script.weights():
        value.grad += 0.25 * value.detach()


def squares(script, x, loss):
    (loss + 0.125 * sum(value.square().sum() for value in script.weights())).backward()


def sizes(script, x, loss):
    (loss + 0.125 * sum(value.abs().sum() for value in script.weights())).backward()


def squares_and_a_clip(script, x, loss):
    squares(script, x, loss)
    nn.utils.clip_grad_norm_(script.parameters(), 1e-3)


def another_penalty(script, x, loss):
    (loss + sum((value @ value.T).square().sum() for value in script.weights() if value.dim() == 2)).backward()


def a_penalty_on_the_gradient(script, x, loss):
    gradients = torch.autograd.grad(loss, script.weights(), create_graph=True)
    (loss + sum(gradient.square().sum() for gradient in gradients)).backward()


def forward_called(script, x, loss):
    states = (torch.zeros(B, H, dtype=x.dtype),) * 2
    out = script.part.forward(x[0], *states)[0] if script.is_cell else script.part.forward(x)[0]
    (loss + out.square().mean()).backward()


def with_hooks(script, hook):
    for value in script.weights():
        value.register_hook(hook)


def half(gradient):
    return 0.5 * gradient


def hooks_set_late(script, x, loss):
    with_hooks(script, half)
    loss.backward()


def hooks(script, x, loss):
    with_hooks(script, half)
    script(x).backward()


def hooks_that_limit(script, x, loss):
    with_hooks(script, lambda gradient: gradient.clamp(-1e-4, 1e-4))
    script(x).backward()


EQUAL = "p.grad is the derived gradient, neither clipped nor scaled"
AFTER, ELSEWHERE = "Autograd gave the derived gradient, but ", "Autograd gave another gradient than the derived one, "
SAID = {
    plain: EQUAL,
    twice: EQUAL,
    scaled_loss: EQUAL,
    with_a_norm_by_autograd_grad: EQUAL,
    with_gradients_stored_by_hand: EQUAL,
    divided: "p.grad is 0.333333 times the derived gradient, one common factor",
    clipped: r"p.grad is 0\.\d+ times the derived gradient, one common factor",
    clipped_by_value: f"{AFTER}each entry of p.grad was limited to ±0.0001 after the backward pass",
    not_cleared: "What the backward pass added to p.grad is the derived gradient.* zero_grad",
    not_cleared_and_clipped: f"{AFTER}p.grad was not empty before the backward pass, .* the sum was then multiplied by 0\\.",
    a_factor_each: f"{AFTER}p.grad of each parameter was multiplied by a factor of its own .* ×0.125, .* ×0.25, .* ×0.375, ",
    noise: f"{AFTER}the script changed p.grad after the backward pass, .* how is not known",
    decay: f"{AFTER}the script changed p.grad after the backward pass by a decay of the weights, which adds 0.25·W",
    squares: f"{ELSEWHERE}.* a penalty on the weights, which adds 0.25·W",
    sizes: f"{ELSEWHERE}.* a penalty on the weights, which adds 0.125·sign W",
    squares_and_a_clip: f"{ELSEWHERE}.* which adds 0.25·W .* besides, p.grad was multiplied by .* one common factor",
    another_penalty: f"{ELSEWHERE}.* uses these weights besides the captured calls, .* autograd through the module agrees with it",
    a_penalty_on_the_gradient: f"{ELSEWHERE}.* a graph of its own",
    forward_called: f"{ELSEWHERE}.* uses these weights besides the captured calls",
    hooks: f"{ELSEWHERE}.* a hook on .*, which multiplies the gradient by 0.5",
    hooks_that_limit: f"{ELSEWHERE}.* a hook on .*, which limits each entry to ±0.0001",
    hooks_set_late: "p.grad is the derived gradient divided by 2",
}


def debugged(script, act, dtype=torch.float32):
    """Train a script for a step; where it sets `twice`, for another one whose gradients add up. Returns the session."""
    script.to(dtype)
    optimizer = torch.optim.SGD(script.parameters(), 0.1)
    assert tui_gru.debug(script, optimizer, screen=False) is None
    script.twice = False
    for _ in range(2):
        x = torch.randn(T, B, IN, dtype=dtype)
        if act in (hooks, hooks_that_limit):  # before the first call of a step
            act(script, x, None)
        else:
            act(script, x, script(x))
        optimizer.step()
        session = tui_gru.debug(script, optimizer, screen=False)
        if not script.twice:
            break
    forget(script)
    return session


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["nn.GRU", "a cell"])
@pytest.mark.parametrize("act", SAID)
def test_a_difference_has_its_cause(act, kind, dtype):
    torch.manual_seed(3)
    session = debugged(Script(kind), act, dtype)
    assert re.match(SAID[act], session.remarks), session.remarks
    assert session.program.goes_back


def test_weights_of_another_module_are_named():
    def loss_of_both(script, x, loss):
        (loss + script.tied(torch.ones(1, H)).square().sum()).backward()

    torch.manual_seed(3)
    said = debugged(Script("a cell"), loss_of_both).remarks
    assert re.match(f"{ELSEWHERE}.* these weights are those of tied.weight as well, whose use adds to it", said), said


@pytest.mark.parametrize("kind", ["nn.GRU", "a cell"])
def test_a_misread_module_is_not_blamed_on_the_script(kind, monkeypatch):
    """A derivation with a fault in it: no number of it is shown."""

    def wrong(call, gradients, model):
        return {name: value * (1.3 if value.ndim == 2 else 1) for name, value in right(call, gradients, model).items()}

    right = recompute.torch_gradients
    monkeypatch.setattr("tui_gru.imported.captured.torch_gradients", wrong)
    torch.manual_seed(3)
    session = debugged(Script(kind), plain)
    assert session.remarks.startswith("tui_gru has misread the module: autograd through it")
    assert "Please send us the source of its class" in session.remarks
    assert not session.program.goes_back
    assert session.expected.agrees  # the forward pass is as it was


def test_a_module_that_gives_other_outputs_again_is_undecided():
    torch.manual_seed(3)
    script = Script("nn.GRU")
    steps, running = capture(script, may_repeat=True)
    squares(script, None, script(torch.randn(T, B, IN)))
    running.step()
    running.close()
    (step,) = steps
    assert step.made_again(False).keys() == step.handed.keys()
    (evidence,) = [recompute.compare_gradients([step], derived).evidence]
    none = causes.cause_of(causes.replace(evidence, steps=[causes.replace(step, made_again=lambda exact: None)]))
    assert none.origin is causes.Origin.UNDECIDED
    assert "does not give the same outputs" in none.sentence


def derived(call):
    record = recompute.recompute(call)
    return recompute.torch_gradients(call, record.own_gradients, record.compiled)
