"""The update rules compared with torch.optim, with and without clipping, over several steps; and their lines for each weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.engine.models import disagreements, fill, filled, learned, run, settings_of
from tests.engine.test_against_torch_layers import LAYERS, as_rows, layer_of, suffixes
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.model import Structure, model_of
from tui_gru.engine.reference import check_batch
from tui_gru.engine.training import compute
from tui_gru.engine.weights import Weights

OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.3),
    "momentum": lambda weights: torch.optim.SGD(weights, lr=0.3, momentum=0.9),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.3, betas=(0.9, 0.999), eps=1e-8),
}


def fresh(record: BatchRecord) -> None:
    """Set the states of the update rule and the count of updates to 0."""
    record.before = record.before.copy()
    record.before.flat[record.compiled.layout.count :] = 0
    record.before.updates = 0


def after(record: BatchRecord, structure: Structure, dtype: str, seed: int) -> BatchRecord:
    """Return the next record of a run: with other inputs, and the weights after the one before."""
    following = filled(structure, dtype=dtype, seed=seed)
    following.before = record.own_after
    return run(following)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("clip", [False, True], ids=["whole", "clipped"])
@pytest.mark.parametrize("update", OPTIMIZERS)
def test_steps_of_an_optimizer(update, clip, dtype):
    """Given the same gradients, the weights after every step are equal, and so is the norm of the gradient before clipping."""
    structure = Structure(cell="mgu", update=update, clip=clip)
    record = filled(structure, dtype=dtype)
    fresh(record)
    weights = [torch.nn.Parameter(torch.tensor(value)) for _, value in record.before.items()]
    optimizer = OPTIMIZERS[update](weights)
    tolerance = {"rtol": 1e-12, "atol": 1e-13} if dtype == "float64" else {"rtol": 3e-6, "atol": 1e-6}
    run(record)
    for step in range(6):
        for weight, (_, gradient) in zip(weights, record.gradients.items(), strict=True):
            weight.grad = torch.tensor(gradient)
        norm = torch.nn.utils.clip_grad_norm_(weights, 1.0) if clip else torch.nn.utils.get_total_norm([w.grad for w in weights])
        assert record.grad_norm == pytest.approx(float(norm), rel=1e-6)
        optimizer.step()
        for (_, ours), theirs in zip(record.own_after.items(), weights, strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), **tolerance)
        assert record.own_after.updates == step + 1
        record = after(record, structure, dtype, step + 1)
    states = {"momentum": {"m": "momentum_buffer"}, "adam": {"m": "exp_avg", "v": "exp_avg_sq"}}.get(update, {})
    for ours, theirs in states.items():
        for (name, _), weight in zip(record.before.items(), weights, strict=True):
            np.testing.assert_allclose(record.before[f"{ours}_{name}"], optimizer.state[weight][theirs].numpy(), **tolerance)


def test_clipping_shortens_what_is_long_and_nothing_else():
    long = learned(Structure(clip=True), scale=2)
    assert long.grad_norm > 1
    assert long.numbers["clip"] == pytest.approx(1 / (long.grad_norm + 1e-6))
    assert np.linalg.norm(long.vectors["g"]) == pytest.approx(1, abs=1e-5)
    short = learned(Structure(clip=True), scale=0.05)
    assert short.grad_norm < 1
    assert short.numbers["clip"] == 1
    np.testing.assert_array_equal(short.vectors["g"], short.own_gradients.flat)


def test_training_beside_pytorch():
    """Five steps of Adam with clipping on an LSTM and its head; PyTorch uses its own gradients."""
    structure = Structure(cell="lstm", layers=2, input="dense", update="adam", clip=True)
    record = filled(structure, scale=0.5)
    fresh(record)
    layer = layer_of(record)
    for name, value in layer.named_parameters():
        value.requires_grad_("bias_hh" not in name)  # the project's LSTM has one bias
    head = torch.nn.Parameter(torch.tensor(record.before["Wy"])), torch.nn.Parameter(torch.tensor(record.before["by"]))
    weights = [value for value in (*layer.parameters(), *head) if value.requires_grad]
    optimizer = OPTIMIZERS["adam"](weights)
    for step in range(5):
        run(record)
        states = [torch.tensor(np.stack([record.border(f"{s}_l{i}", end=False) for i in range(2)])) for s in "hc"]
        out, _ = layer(torch.tensor(record.array("x")), tuple(states))
        targets = torch.tensor(record.ids("y"))
        loss = torch.nn.functional.cross_entropy((out @ head[0] + head[1]).flatten(0, 1), targets.flatten())
        assert record.loss == pytest.approx(loss.item(), rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        for number, suffix in suffixes(structure):
            for kind, letter in (("weight_ih", "W"), ("weight_hh", "U"), ("bias_ih", "b")):
                ours = torch.cat([as_rows(record.own_after, letter, gate, suffix, 0) for gate in LAYERS["lstm"][1]])
                np.testing.assert_allclose(ours.numpy(), getattr(layer, f"{kind}{number}").detach().numpy(), rtol=1e-8, atol=1e-9)
        following = BatchRecord(record.compiled)
        fill(following, seed=step + 1)
        following.before = record.own_after
        record = following


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("update", OPTIMIZERS)
def test_lines_are_executed_numbers_once_and_vectors_for_each_weight(update, clip):
    rule = model_of(Structure(cell="rnn", update=update, clip=clip)).rule
    own = {"sgd": ["W"], "momentum": ["m", "W"], "adam": ["m", "v", "m_hat", "v_hat", "W"]}[update]
    names = ["Wh", "Uh", "bh"]
    block = [name if line == "W" else f"{line}_{name}" for name in names for line in (["g"] if clip else []) + own]
    assert [line.target for line in rule.lines_of(names)] == (["grad_norm", "clip"] if clip else []) + block
    reads = {line.target: set(line.formula.names()) for line in rule.lines_of(names)}
    assert ("g_Uh" if clip else "dUh") in reads["Uh" if update == "sgd" else "m_Uh"]


@pytest.mark.parametrize("update", OPTIMIZERS)
def test_every_line_gives_what_it_says(update):
    record = learned(Structure(cell="rnn", layers=2, update=update, clip=True), dtype="float32")
    found = [c for c in check_batch(record, entries=0) if c.against == "update"]
    assert disagreements(found) == []
    assert [c.name for c in found] == [line.target for line in record.compiled.model.rule.lines_of(record.before.names)]


def test_settings_can_change_from_batch_to_batch():
    record = filled(Structure(update="momentum"))
    settings = settings_of(record)
    compute(record, {**settings, "learning_rate": 0.0}, learn=True)
    np.testing.assert_array_equal(record.own_after.parameters, record.before.parameters)
    compute(record, {**settings, "mu": 0.0}, learn=True)
    np.testing.assert_allclose(record.own_after.parameters, record.before.parameters - 0.3 * record.own_gradients.flat)
    assert record.settings["mu"] == 0.0


def test_the_states_of_a_rule_lie_behind_the_weights():
    layout = compiled(Structure(cell="rnn", update="adam"), {"T": 2, "B": 2, "H": 3, "V": 4}, "float32").layout
    assert layout.state_names[:2] == ("m_Wh", "m_Uh")
    weights = Weights.zeros(layout, "float32")
    weights["v_by"][...] = 1
    assert weights.flat[-4:].tolist() == [1, 1, 1, 1]
    assert weights.parameters.size == layout.count == layout.size // 3
    data = weights.tobytes() + np.float32(7).tobytes()
    again, rest = Weights.from_bytes(layout, data, "float32")
    assert (again.flat.tolist(), again.updates, rest.tolist()) == (weights.flat.tolist(), 0, [7])
