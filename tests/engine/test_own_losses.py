"""Losses and heads of users: compared with PyTorch, and every mistake in one is an error at its place."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.engine.models import disagreements, filled, run
from tui_gru import Session, TuiGruError
from tui_gru.engine.config import Config
from tui_gru.engine.model import Structure, model_of
from tui_gru.engine.reference import check_batch
from tui_gru.equations.page import names_of, shipped, text_of

SMOOTHED = """# Cross-entropy with a tenth of each target spread over all characters
reads logits
target y : V
y_hat = softmax(logits)
term1 = (0.9 ⊙ y + 0.025) ⊙ log(y_hat)
term2 = Σ term1 over the vocabulary
term3 = −mean term2 over the rows
loss = mean term3 over the timesteps
"""
FOCAL = """# Focal loss (Lin et al. 2017)
reads logits
target y : one-hot V
p = softmax(2 ⊙ logits)
term1 = y ⊙ (1 − p)^2 ⊙ log p
term2 = Σ term1 over the vocabulary
term3 = −mean term2 over the rows
loss = Σ term3 over the timesteps
"""
LOG_COSH = """# Logarithm of the hyperbolic cosine
reads scores
target wanted : V
e = scores − wanted
row = mean (log((exp(e) + exp(−e)) / 2)) over the vocabulary
loss = mean (mean row over the rows) over the timesteps
"""
DEEP = """# A hidden layer
reads out
parameters V1(H H) c1 Wy by(V)
a = tanh(out V1 + c1)
scores = a Wy + by
"""
LOSSES = {"smoothed": SMOOTHED, "focal": FOCAL, "log cosh": LOG_COSH}
HEADS = {"linear": {}, "deep": {"head": "deep.head", "head_text": DEEP}}
READ = "reads logits\ntarget y : V\n"
MISTAKES = {
    "reads logits\nloss = mean logits over the rows": "mine.loss: a loss needs a target to compare with; declare it, target y",
    READ + "term = logits − y": "3:1: the last line of a loss is loss = …, not term = …",
    READ: "mine.loss: a loss needs at least one equation",
    READ + "e = logits − y\nloss = mean e over the rows": "4:8: loss is a number, but its line gives (V)",
    READ + "e = mean (mean (logits − y) over the rows) over V\nloss = 2 ⊙ e": "a number for each timestep; write its mean over the",
    READ + "target u : V\nloss = Σ (logits − y) over the rows": "3:8: a loss has one target, and y is already declared; remove u",
    "reads logits\ntarget y : H\nloss = Σ y over H": "2:8: a target has the axis of the predictions: target y : V, or target y",
    READ + "input u : I\nloss = Σ y over V": "3:7: u is declared as an input, but a loss reads the output of the head:",
    READ + "state s : H\ns = s_prev": "3:7: s is declared as a state, but a loss cannot declare one; a state belongs into a cell",
    READ + "setting β = 2\nloss = Σ y over V": "3:9: β is declared as a setting, but a loss cannot declare one; write the number",
    READ + "output e\ne = y": "4:1: e is declared as an output, but a loss cannot declare one; the last line of a loss",
    READ + "e = logits − z\nloss = Σ e over V": "3:5: o − z does not fit: −z is (B, H)",
    READ + "z = logits − y\nloss = Σ z over V": "3:1: z is also a name of gru.cell; choose another one here",
    READ + "e = logts − y\nloss = Σ e over V": "3:5: logts is not a parameter, an input, a state or a line above; did you",
    READ + "loss = (logits": "mine.loss:3:",
    READ + "loss = Σ (Σ (Σ (logits ^ y) over V) over B) over T": "power has no derivative here",
}
HEAD_MISTAKES = {
    "reads h": "mine.head: a head needs at least one equation",
    "reads h\nparameters Wy(H H)\nlogits = h Wy": "3:10: logits is (B, V), but its line gives (B, H)",
    "reads h\ninput u : I\nlogits = h": "2:7: u is declared as an input, but a head cannot declare one; it reads the output of",
    "reads h\nstate s : H\nlogits = h": "2:7: s is declared as a state, but a head cannot declare one",
    "reads h\nparameters Wz by(V)\nlogits = h Wz + by": "2:12: Wz is also a name of gru.cell; choose another one here",
    "reads h\nlogits = h Wy": "2:12: Wy is not a parameter, an input, a state or a line above; declare it (parameters Wy)",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("loss", LOSSES)
def test_an_own_loss_and_head_agree_with_autograd(loss, head):
    record = filled(Structure(cell="mgu", loss="mine.loss", loss_text=LOSSES[loss], **HEADS[head]), dtype="float64", scale=0.5)
    run(record)
    assert not disagreements(check_batch(record))


def test_the_value_of_an_own_loss_is_that_of_pytorch():
    s = Session(loss="mine.loss", loss_text=SMOOTHED, dtype="float64")
    s.step("batch")
    logits = torch.tensor(np.stack([s.value("logits", t=t) for t in range(3)])).flatten(0, 1)
    targets = torch.tensor(np.stack([s.value("y", t=t) for t in range(3)])).flatten(0, 1).argmax(-1)
    # as in torch, the smoothing is spread over all V = 4 characters
    assert s.loss == pytest.approx(functional.cross_entropy(logits, targets, label_smoothing=0.1).item(), rel=1e-12)


def test_the_squared_error_of_a_text_is_that_of_its_one_hot_rows():
    s = Session(loss="squared-error", dtype="float64")
    s.learning = True
    s.step("batch", 5)
    logits = torch.tensor(np.stack([s.value("logits", t=t) for t in range(3)]))
    rows = np.stack([np.eye(4)[["hatM".index(char) for char in s.value("char", t=t)]] for t in range(1, 3)])
    assert np.array_equal(np.stack([s.value("y", t=t) for t in range(2)]), rows)  # the next timestep reads the target
    wanted = torch.tensor(np.stack([s.value("y", t=t) for t in range(3)]))
    assert s.loss == pytest.approx(functional.mse_loss(logits, wanted).item(), rel=1e-12)


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_loss_is_an_error_at_its_place(text, tmp_path):
    _refused("loss", text, MISTAKES[text], tmp_path)


@pytest.mark.parametrize("text", HEAD_MISTAKES)
def test_a_mistake_in_a_head_is_an_error_at_its_place(text, tmp_path):
    _refused("head", text, HEAD_MISTAKES[text], tmp_path)


def _refused(kind, text, message, folder):
    path = folder / f"mine.{kind}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TuiGruError) as error:
        Session(**{kind: str(path)})
    assert str(error.value).startswith(f"mine.{kind}:")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.option == kind


def test_a_name_that_an_own_cell_and_an_own_loss_both_have_is_an_error_in_the_cell():
    cell = "state h : H\nparameters W U\ne = x W + h_prev U\nh = tanh(e)"
    with pytest.raises(TuiGruError, match=r"^mine.cell:3:1: e is also a name of mine.loss; choose another one here$"):
        Session(cell="mine.cell", cell_text=cell, loss="mine.loss", loss_text=LOG_COSH)


@pytest.mark.parametrize("option", ["loss", "head"])
def test_a_loss_and_a_head_are_a_name_or_a_file(option, tmp_path):
    for wrong in (3, "", None):
        with pytest.raises(TuiGruError, match=rf"^{option} must be the name of a {option} or of a .{option} file, not "):
            Config.of(**{option: wrong})
    with pytest.raises(TuiGruError, match=rf"^there is no {option} 'crossentropy'; ") as error:
        Config.of(**{option: "crossentropy"})
    assert error.value.option == option
    with pytest.raises(TuiGruError, match=rf"missing.{option}: No such file or directory; check the name"):
        Config.of(**{option: str(tmp_path / f"missing.{option}")})


def test_a_copy_of_a_built_in_piece_computes_the_same():
    copies = {kind: f"copy.{kind}" for kind in ("head", "loss")}
    own = Session(**copies, **{f"{kind}_text": text_of(kind, *names_of(kind)[:1]) for kind in copies})
    built_in = Session()
    for s in (own, built_in):
        s.learning = True
        s.step("batch", 3)
    assert own.loss == built_in.loss
    assert own.config.model.is_cross_entropy  # so its curve is compared with log V
    assert own.sample("Ma", 5) == built_in.sample("Ma", 5)


def test_an_own_loss_and_head_are_saved_with_the_session(tmp_path):
    s = Session(loss="mine.loss", loss_text=FOCAL, head="deep.head", head_text=DEEP)
    s.learning = True
    s.step("batch", 4)
    s.save(tmp_path / "own.tui-gru")
    again = Session.open(tmp_path / "own.tui-gru")
    assert (again.config, again.loss, again.program_text()) == (s.config, s.loss, s.program_text())
    again.step("batch", -2)
    s.step("batch", -2)
    assert again.loss == s.loss
    assert again.explain("p", (0, 1), t=0).value == s.value("p", t=0)[0, 1]


def test_text_is_sampled_from_the_softmax_of_an_own_loss():
    # its argument, 2 ⊙ logits, has no name, so the probabilities are those of the record
    s = Session(loss="mine.loss", loss_text=FOCAL, dtype="float64")
    s.sample("M", 1)
    doubled = 2 * _logits_after(s)
    expected = np.exp(doubled - doubled.max())
    np.testing.assert_allclose(s.samples[-1].draws[0].y_hat, expected / expected.sum(), rtol=1e-12)


def _logits_after(s):
    """The logits after the M of the text, from zero states: what the first timestep of row 1 computes."""
    s.seek("e1 b1 t1")
    assert s.value("char")[0] == "M"
    return s.value("logits")[0]


def test_the_influence_on_the_prediction_of_an_own_loss_and_head():
    s = Session(loss="mine.loss", loss_text=LOG_COSH, head="deep.head", head_text=DEEP, dtype="float64")
    s.step("batch")
    value, scores = s.influence(1, 2).value, s.value("scores", t=2)[1]
    assert value == pytest.approx(scores.max(), rel=1e-12)  # it predicts numbers
    s = Session(loss="mine.loss", loss_text=SMOOTHED, dtype="float64")
    s.step("batch")
    assert s.influence(1, 2).value == pytest.approx(math.log(s.value("y_hat", t=2)[1].max()), rel=1e-9)  # and this one characters


def test_a_model_without_a_softmax_says_why_it_cannot_sample():
    s = Session(loss="squared-error")
    with pytest.raises(TuiGruError, match="the loss squared-error has no softmax, so this model predicts no") as error:
        s.sample("Ma", 5)
    assert error.value.option == "loss"


def test_a_loss_in_other_units_has_no_findings_of_a_cross_entropy():
    s = Session(loss="squared-error", init="torch", layout="contiguous", batch_size=1)
    s.learning = True
    s.step("batch", 3)
    assert not s.findings()
    report = s.report()
    assert (report.unit, report.lines, report.samples) == ("", (), ())
    assert s.what_if("Wy", (0, 0), 2.0).prediction is None


def test_each_matrix_of_a_head_begins_as_a_layer_of_pytorch():
    s = Session(head="deep.head", head_text=DEEP, hidden_size=16, init="torch", text="abcdefgh" * 8, batch_size=2)
    for name in ("V1", "c1", "Wy", "by"):
        array = s.parameter(name)
        assert 0.7 / math.sqrt(16) < np.abs(array).max() <= 1 / math.sqrt(16)


def test_the_prediction_of_every_built_in_loss_is_known():
    assert {name: model_of(Structure(loss=name)).prediction for name in names_of("loss")} == {
        "cross-entropy": "y_hat",
        "squared-error": "logits",
    }
    assert [shipped("loss", name).output for name in names_of("loss")] == ["loss", "loss"]
