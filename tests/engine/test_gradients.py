"""The whole engine against PyTorch and against finite differences, on random models with no symmetry to hide behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.engine.checking import ALL_WAYS, LEARNING_RATE, check, epoch, random_config, random_parameters, random_state
from tests.engine.torch_cell import cell_step
from tui_gru.engine.config import CARRIES, RESETS, Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.reference import DELTAS, VALUES
from tui_gru.engine.trainer import Trainer

way = pytest.mark.parametrize("config", ALL_WAYS, ids=lambda config: f"{config.reset}-{config.carry}")


@way
def test_every_number_of_an_epoch(config):
    check(config, entries=2)


@way
def test_every_number_of_an_epoch_in_float32(config):
    check(Config.of(**{**vars(config), "dtype": "float32"}))


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden": 1, "batch": 1, "length": 1, "vocab": 2},
        {"hidden": 6, "batch": 1, "length": 3, "vocab": 2},
        {"hidden": 1, "batch": 4, "length": 5, "vocab": 3},
        {"hidden": 19, "batch": 7, "length": 11, "vocab": 13},
    ],
    ids=lambda sizes: "-".join(map(str, sizes.values())),
)
def test_other_sizes(sizes, reset):
    check(random_config(3, reset=reset, dtype="float64", **sizes))


@pytest.mark.parametrize("carry", CARRIES)
def test_every_entry_by_finite_differences(carry):
    check(random_config(1, hidden=2, batch=2, length=3, vocab=3, carry=carry, dtype="float64"), entries=50)


@way
def test_float32_is_float64_rounded(config):
    single = Config.of(**{**vars(config), "dtype": "float32"})
    start = random_parameters(single)
    wide = start.like(start.flat.astype(np.float64))
    for (ours, _), (exact, _) in zip(epoch(single, start), epoch(config, wide), strict=True):
        for name in (*VALUES[config.reset], *DELTAS[config.reset]):
            assert ours.array(name).dtype == np.float32
            np.testing.assert_allclose(ours.array(name), exact.array(name), rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(ours.updated.flat, exact.updated.flat, rtol=1e-4, atol=1e-5)


def test_notebook_is_the_tutorials_loop_on_a_pytorch_that_lets_it():
    """The state keeps its graph, and the weights change in place behind autograd's back, as before PyTorch 1.5."""
    config = random_config(5, carry="notebook", dtype="float64")
    p = {name: torch.tensor(value, requires_grad=True) for name, value in random_parameters(config).items()}
    h = torch.tensor(random_state(config))
    for record, _ in epoch(config):
        losses = []
        for x, y in zip(record.activations.x, record.activations.y, strict=True):
            h = cell_step(p, torch.tensor(x), h)
            log_p = torch.log_softmax(h @ p["Wy"] + p["by"], -1)
            losses.append(-(torch.tensor(y) * log_p).sum(1).mean())
        for value in p.values():
            value.grad = None
        torch.stack(losses).mean().backward(retain_graph=True)
        for name, value in p.items():
            np.testing.assert_allclose(record.gradients[name], value.grad, rtol=1e-10, atol=1e-13, err_msg=name)
            value.data -= LEARNING_RATE * value.grad  # .data: autograd does not count this as a change


def test_notebook_differs_from_detach_in_the_recurrent_gradients_only():
    gradients = {
        carry: [record.gradients for record, _ in epoch(random_config(carry=carry, dtype="float64"))]
        for carry in ("detach", "notebook")
    }
    (first, detached, _), (same, carried, _) = gradients.values()
    np.testing.assert_array_equal(first.flat, same.flat)
    for name in detached.names:
        assert np.array_equal(detached[name], carried[name]) == (name in ("Wy", "by")), name


def test_reset_after_is_torchs_own_gru():
    config = random_config(7, reset="after", dtype="float64", hidden=4, batch=3, length=5, vocab=6)
    p = random_parameters(config)
    (record, _), *_ = epoch(config, p)
    gru, linear = torch.nn.GRU(config.vocab_size, config.hidden_size).double(), torch.nn.Linear(4, 6).double()
    order = "rzh"  # torch stacks its gates r, z, n, transposed
    stacked = {
        "weight_ih_l0": np.concatenate([p[f"W{gate}"].T for gate in order]),
        "weight_hh_l0": np.concatenate([p[f"U{gate}"].T for gate in order]),
        "bias_ih_l0": np.concatenate([p[f"b{gate}"] for gate in order]),
        "bias_hh_l0": np.concatenate([p["bhr"], p["bhz"], p["bhn"]]),
    }
    with torch.no_grad():
        for name, value in stacked.items():
            getattr(gru, name).copy_(torch.tensor(value))
        linear.weight.copy_(torch.tensor(p["Wy"].T))
        linear.bias.copy_(torch.tensor(p["by"]))
    s, g = record.activations, record.gradients
    hs, _ = gru(torch.tensor(s.x), torch.tensor(s.h_prev[:1]))
    loss = torch.nn.functional.cross_entropy(linear(hs).flatten(0, 1), torch.tensor(s.targets).flatten())
    loss.backward()
    close = {"rtol": 1e-10, "atol": 1e-13}
    np.testing.assert_allclose(s.h, hs.detach(), **close)
    np.testing.assert_allclose(record.loss, loss.item(), **close)
    np.testing.assert_allclose(np.concatenate([g[f"W{gate}"].T for gate in order]), gru.weight_ih_l0.grad, **close)
    np.testing.assert_allclose(np.concatenate([g[f"U{gate}"].T for gate in order]), gru.weight_hh_l0.grad, **close)
    np.testing.assert_allclose(np.concatenate([g[f"b{gate}"] for gate in order]), gru.bias_ih_l0.grad, **close)
    np.testing.assert_allclose(np.concatenate([g["bhr"], g["bhz"], g["bhn"]]), gru.bias_hh_l0.grad, **close)
    np.testing.assert_allclose(g["Wy"].T, linear.weight.grad, **close)
    np.testing.assert_allclose(g["by"], linear.bias.grad, **close)


@way
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_numbers_that_are_not_finite_are_results_not_crashes(config, bad):
    single = Config.of(**{**vars(config), "dtype": "float32"})
    parameters = random_parameters(single)
    for name in ("Uh", "Wz", "by"):
        parameters[name].flat[0] = bad
    *_, (last, _) = epoch(single, parameters)
    assert not np.isfinite([last.loss, *last.updated.flat]).all()


def test_a_batch_that_does_not_learn_has_only_its_forward_half():
    config = random_config()
    trainer, parameters = Trainer(config, Corpus(config)), random_parameters(config)
    learned, watched = trainer.new_record(), trainer.new_record()
    for record, learn in ((learned, True), (watched, True), (watched, False)):
        trainer.run(record, 1, parameters, random_state(config), learn=learn, learning_rate=0.1)
    assert watched.deltas is watched.gradients is None
    assert watched.updated is watched.parameters is parameters
    assert np.isnan(watched.grad_norm)
    assert watched.loss == learned.loss
    for name in VALUES["before"]:
        np.testing.assert_array_equal(watched.array(name), learned.array(name))


def test_a_batch_leaves_what_it_was_given_alone():
    config = random_config(carry="notebook")
    parameters = random_parameters(config)
    before = parameters.flat.copy()
    earlier = [record.activations for record, _ in epoch(config, parameters)][::-1]
    stored = [activations.copy() for activations in earlier]
    trainer = Trainer(config, Corpus(config))
    trainer.run(trainer.new_record(), 2, parameters, random_state(config), learn=True, learning_rate=1.0, earlier=earlier)
    np.testing.assert_array_equal(parameters.flat, before)
    for ours, kept in zip(earlier, stored, strict=True):
        for name in kept.owned:
            np.testing.assert_array_equal(getattr(ours, name), getattr(kept, name))
