"""Update rules of users: compared with PyTorch, and every mistake in one is an error at its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.engine.models import disagreements, filled, run
from tests.engine.test_optimizers import after, fresh
from tui_gru import Session, TuiGruError
from tui_gru.engine.model import Structure
from tui_gru.engine.reference import check_batch

RMS = r"""# RMSProp (torch.optim.RMSprop)
symbol learning_rate η \eta
setting η = 0.01
setting ρ = 0.9
state v : parameters

v = ρ ⊙ v + (1 − ρ) ⊙ dW ⊙ dW
W −= η ⊙ dW / (sqrt(v) + 0.00000001)
"""
RATE = "symbol learning_rate η\nsetting η = 0.1\n"
#: Lines that can be executed, by the kinds of their operations.
LINES = {
    "powers": "a = (dW ⊙ dW)^0.5\nW −= η ⊙ a^2 / (1 + 2^n)",
    "functions": "a = max(min(tanh(dW), 0.5), 0 − 0.5)\nW −= η ⊙ a ⊙ exp(0 − a) ⊙ log(2 + a)",
    "numbers": "a = 1 / sqrt(n)\nb = max(η, log(n) + 2^a)\nW −= a ⊙ dW / (1 + b)",
    "negative": "W = W − (−(η ⊙ dW) − η ⊙ W)",
    "state": "state m : parameters\nm −= 0.5 ⊙ dW\nW = m",
    "names": "x² = dW\nﬁ = x² + dW\nfi = 2 ⊙ ﬁ\nlambda = fi ⊙ ﬁ\nW −= η ⊙ lambda",
    "old and new": "state m : parameters\na = m ⊙ W\nm = dW\nW −= a + m",
}
MISTAKES = {
    "W = dW": "mine.update: an update rule has a learning rate: write symbol learning_rate η, and setting η = 0.01",
    RATE + "m = dW": "3:1: an update rule ends with the weights: W −= η ⊙ dW",
    RATE: "mine.update: an update rule ends with the weights: W −= η ⊙ dW",
    RATE + "W −= η dW": "3:6: an update rule has no matrices; write ⊙ (or *) between the factors of a product",
    RATE + "W += η ⊙ dW": "3:1: an equation is written W = formula; only an update rule has W −= formula",
    RATE + "W = 0.25": "3:5: W is (P), but its line gives a number",
    RATE
    + "W −= σ(dW)": "3:6: an update rule cannot use sigmoid; it can use tanh, erf, sin, cos, abs, log, exp, sqrt, min, max, sign",
    RATE + "W −= η ⊙ Σ dW over parameters": "3:10: an update rule computes each weight from its own gradient; the norm of all",
    RATE + "W −= (a: η ⊙ dW)": "the whole line already has the name W, so it cannot be labelled a",
    RATE + "W −= η ⊙ (a: 2 ⊙ dW)": "3:10: an update rule has no named parts; write a = … as a line of its own",
    RATE + "state m : H\nm = dW\nW −= m": "3:7: a state of an update rule has one entry for each weight: write state m : par",
    RATE + "state m : parameters\nm = m_prev\nW −= m": "4:5: an update rule reads a state by its own name; write m above the",
    RATE + "state m : parameters\nW −= dW": "3:7: no line computes the state m",
    RATE + "input x : I\nW −= dW": "3:7: an update rule reads W, dW, n, settings and states; remove the declaration of x",
    RATE + "setting n = 3\nW −= dW": "3:9: n is a name of every update rule; choose another one",
    RATE + "dW = W\nW −= dW": "3:1: dW is a name of every update rule; choose another one",
    RATE + "W −= η ⊙ dWz": "3:10: dWz is not a parameter, an input, a state or a line above; did you mean dW or W?",
    RATE + "W −= η ⊙ (dW": "mine.update:3:",
    RATE + "loss = 1 + n\nW −= loss ⊙ dW": "3:1: loss is also a name of the model; choose another one here",
    "\0": "mine.update:1:1",
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_rule_of_pytorch(dtype):
    structure = Structure(cell="mgu", update="rms.update", update_text=RMS)
    record = filled(structure, dtype=dtype)
    fresh(record)
    record.settings = {"learning_rate": 0.3, "ρ": 0.9}
    weights = [torch.nn.Parameter(torch.tensor(value)) for _, value in record.before.items()]
    optimizer = torch.optim.RMSprop(weights, lr=0.3, alpha=0.9)
    tolerance = {"rtol": 1e-12, "atol": 1e-13} if dtype == "float64" else {"rtol": 3e-6, "atol": 1e-6}
    run(record)
    for step in range(4):
        for weight, (_, gradient) in zip(weights, record.gradients.items(), strict=True):
            weight.grad = torch.tensor(gradient)
        optimizer.step()
        for (_, ours), theirs in zip(record.own_after.items(), weights, strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), **tolerance)
        settings, record = record.settings, after(record, structure, dtype, step + 1)
        record.settings = settings


@pytest.mark.parametrize("clip", [False, True], ids=["whole", "clipped"])
@pytest.mark.parametrize("lines", LINES)
def test_every_operation_of_a_rule(lines, clip):
    record = filled(Structure(cell="mgu", update="mine.update", update_text=RATE + LINES[lines], clip=clip), scale=0.5)
    run(record)
    assert not disagreements(check_batch(record))


@pytest.mark.parametrize("text", MISTAKES)
@pytest.mark.parametrize("clip", [0.0, 1.0], ids=["whole", "clipped"])
def test_a_mistake_is_an_error_at_its_place(text, clip, tmp_path):
    path = tmp_path / "mine.update"
    path.write_text(text)
    with pytest.raises(TuiGruError) as error:
        Session(optimizer=str(path), clip=clip)
    assert MISTAKES[text] in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.option == "optimizer"


def test_names_of_the_clipping_are_taken_while_it_is_on():
    text = RATE + "g = 2 ⊙ dW\nW −= g"
    Session(optimizer="mine.update", optimizer_text=text, clip=0.0)
    with pytest.raises(TuiGruError, match=r"mine.update:3:1: g is also a name of clip.update; choose another one here"):
        Session(optimizer="mine.update", optimizer_text=text, clip=1.0)


def test_an_optimizer_is_a_name_or_a_file(tmp_path):
    for wrong in ("adm", "", 3, None, "sgd.cell"):
        with pytest.raises(TuiGruError, match=r"optimizer must be sgd, momentum, adam or the name of an .update file, not "):
            Session(optimizer=wrong)
    with pytest.raises(TuiGruError, match=r"optimizer must be .* not 3"):
        Session(optimizer=3, optimizer_text=RMS)
    with pytest.raises(TuiGruError, match=r"missing.update: No such file or directory; check the name"):
        Session(optimizer=str(tmp_path / "missing.update"))


@pytest.mark.parametrize("name", ["beta1", "beta2"])
@pytest.mark.parametrize("value", [1e200, 1.0])
def test_no_number_of_a_rule_ends_the_run(name, value):
    session = Session(optimizer="adam")
    session.learning = True
    session.step("batch")
    session.edit(name, (), value)
    session.step("batch", 3)
    assert session.position.batch == 0
    assert session.position.epoch == 1


def test_a_number_divided_by_0_is_infinite():
    text = RATE + "a = 1 / (n − 1)\nb = (0 − n)^0.5\nW −= η ⊙ min(a, 2) ⊙ dW"
    session = Session(optimizer="mine.update", optimizer_text=text)
    session.learning = True
    session.step("batch")
    assert session.value("a") == np.inf
    assert np.isnan(session.value("b"))


def test_a_session_has_its_rule(tmp_path):
    path = tmp_path / "rms.update"
    path.write_text(RMS)
    session = Session(optimizer=str(path))
    path.unlink()
    session.learning = True
    session.step("batch", 2)
    session.save(tmp_path / "run.tui-gru")
    opened = Session.open(tmp_path / "run.tui-gru")
    for each in (session, opened):
        each.step("batch")
    assert opened.loss == session.loss
    assert "v_Wz = ρ⊙v_Wz + (1 − ρ)⊙dWz⊙dWz" in opened.program_text()
