"""Several optimizers, wrappers of optimizers, and what is no optimizer."""

import warnings

import pytest
import torch

from tests.capture.scripts import Seq2seq, T
from tests.capture.test_borders import capture
from tests.imported.recomputed import compare_gradients
from tui_gru.capture.calls import Note
from tui_gru.errors import CaptureError


class Wrapper:
    """As of Lightning: it has the optimizer, and what else it has is of the optimizer."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def __getattr__(self, name):
        return getattr(self.optimizer, name)


class Inherited(torch.optim.Optimizer):
    """As of Accelerate: an optimizer by its class, whose own `__init__` was never run."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def zero_grad(self):
        self.optimizer.zero_grad()

    def step(self):
        self.optimizer.step()


class Own:
    """An optimizer of the script, of no class of torch."""

    def __init__(self, parameters):
        self.param_groups = [{"params": list(parameters), "lr": 0.1}]

    def zero_grad(self):
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    def step(self):
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter -= 0.1 * parameter.grad


def of_encoder_and_decoder(model):
    decoder = [*model.cell.parameters(), *model.head.parameters()]
    return torch.optim.Adam(model.encoder.parameters(), 0.01), torch.optim.SGD(decoder, 0.5)


def train(model, optimizers, running, explicit=True):
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(torch.randn(T, 3, 4)).pow(2).mean().backward()
        for optimizer in optimizers:
            optimizer.step()
        if explicit:
            running.step()
    running.close()


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("form", [list, tuple, lambda pair: dict(enumerate(pair))], ids=["list", "tuple", "dict"])
def test_two_optimizers_end_a_step_together(explicit, form):
    model = Seq2seq()
    pair = of_encoder_and_decoder(model)
    steps, running = capture(model, form(pair))
    assert running.optimizer == "Adam, SGD"
    train(model, pair, running, explicit)
    assert [(step.number, step.updated, step.notes) for step in steps] == [(n, True, ()) for n in range(3)]
    assert {step.settings["lr"] for step in steps} == {0.01}  # of the first that has a GRU
    assert all(compare_gradients(step).cause == "equal" for step in steps)


def test_gradients_cleared_by_the_first_of_two_optimizers_are_those_that_it_used():
    """An optimizer that clears its gradients after its step does so before the other one runs."""
    model = Seq2seq()
    encoder, decoder = of_encoder_and_decoder(model)
    encoder.register_step_post_hook(lambda *_: encoder.zero_grad())
    steps, running = capture(model, [encoder, decoder])
    train(model, [encoder, decoder], running)
    assert all("encoder.weight_hh_l0" in step.gradients for step in steps)
    assert all(compare_gradients(step).cause == "equal" for step in steps)


def test_a_parameter_of_no_optimizer_is_still_said():
    model = Seq2seq()
    pair = [torch.optim.SGD(part.parameters(), 0.1) for part in (model.encoder, model.head)]
    steps, running = capture(model, pair)
    train(model, pair, running)
    assert Note.NOT_IN_OPTIMIZER in steps[0].notes


@pytest.mark.parametrize("wrap", [Wrapper, Inherited, lambda one: Wrapper(Inherited(one))], ids=["wrapper", "subclass", "both"])
def test_a_wrapper_is_followed_to_its_optimizer(wrap):
    model = Seq2seq()
    optimizer = wrap(torch.optim.SGD(model.parameters(), 0.1))
    steps, running = capture(model, optimizer)
    train(model, [optimizer], running, explicit=False)
    assert [(step.updated, step.settings["lr"], step.notes) for step in steps] == [(True, 0.1, ())] * 3


def test_an_optimizer_that_is_not_understood_is_said_and_the_training_goes_on():
    model = Seq2seq()
    optimizer = Own(model.parameters())
    with pytest.warns(
        UserWarning, match=r"the updates by Own cannot be seen, .*; training continues, and a step ends at rec\.step"
    ):
        steps, running = capture(model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, [optimizer], running)
    assert [(step.updated, len(step.calls), step.notes) for step in steps] == [(False, 2, ())] * 3


@pytest.mark.parametrize("wrong", ["adam", 3, ["adam"], torch.optim.SGD], ids=str)
def test_what_is_no_optimizer_is_refused_at_once(wrong):
    with pytest.raises(CaptureError, match=r"optimizer must be a torch\.optim\.Optimizer, or a list of them, not \w+$"):
        capture(Seq2seq(), wrong)
