"""Runs on series of numbers: how they are cut into batches, what they compute, and every mistake in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tui_gru import Session, TuiGruError
from tui_gru.engine.config import Config
from tui_gru.engine.data import SeriesCorpus, config_from, cut_into_batches, series_of
from tui_gru.engine.training import corpus_of

X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.random.default_rng(1).normal(size=(40, 2))
CLASSES = np.arange(40) % 4
SEVERAL = np.random.default_rng(2).normal(size=(6, 20, 3))
TARGETS = np.random.default_rng(3).normal(size=(6, 20))
FLOAT64 = {"dtype": "float64"}


def corpus(**options) -> SeriesCorpus:
    config = config_from(options)
    found = corpus_of(config)
    assert isinstance(found, SeriesCorpus)
    return found


def test_one_series_is_cut_as_a_text_is():
    numbers = np.arange(41)
    for layout in ("contiguous", "tutorial"):
        text = corpus_of(Config.of(text="".join(map(chr, numbers + 100)), batch_size=2, seq_length=5, layout=layout))
        ours = corpus(input=numbers[:-1, None], target=numbers[1:, None] / 2, batch_size=2, seq_length=5, layout=layout)
        np.testing.assert_array_equal(ours.inputs[..., 0], text.inputs)
        np.testing.assert_array_equal(ours.targets[..., 0], text.targets / 2)
        for batch in range(1, ours.num_batches):
            assert ours.continues(batch, 1) == text.continues(batch, 1)


def test_several_series_are_rows_that_continue_until_the_next_ones_begin():
    own = corpus(input=SEVERAL, target=TARGETS, batch_size=2, seq_length=5)
    assert own.inputs.shape == (12, 5, 2, 3)  # 3 pairs of series in 4 pieces each
    for batch in range(12):
        pair, piece = divmod(batch, 4)
        for row in range(2):
            np.testing.assert_array_equal(own.inputs[batch, :, row], SEVERAL[2 * pair + row, 5 * piece : 5 * piece + 5])
            np.testing.assert_array_equal(own.targets[batch, :, row, 0], TARGETS[2 * pair + row, 5 * piece : 5 * piece + 5])
        assert own.continues(batch, 0) == (piece > 0)
    assert own.place(5, 2, 1) == "timestep 8 of series 4"


def test_without_sizes_several_series_are_one_batch():
    config = config_from({"input": SEVERAL, "target": TARGETS})
    assert (config.batch_size, config.seq_length, config.num_batches) == (6, 20, 1)
    config = config_from({"input": SEVERAL, "target": TARGETS, "layout": "tutorial", "batch_size": 5, "seq_length": 7})
    assert config.num_batches == 6 * 2 // 5


@pytest.mark.parametrize("carry", ["detach", "reset"])
def test_states_are_zero_where_other_series_begin(carry):
    s = Session(input=SEVERAL, target=TARGETS, batch_size=2, seq_length=5, carry=carry)
    s.learning = True
    s.step("epoch", 2)
    for batch in range(12):
        s.seek(f"e2 b{batch + 1} t1")
        begins_anew = carry == "reset" or batch % 4 == 0
        assert (np.abs(s.value("h_prev")).max() == 0) == begins_anew
        words = s.explain("h_prev", (0, 0)).derivation.note
        where = "epoch" if batch == 0 else "batch" if carry == "reset" else "series"
        assert (words == f"every {where} begins with h = 0") == begins_anew
    s.seek("e2 b5 t2")
    with pytest.raises(TuiGruError, match="this batch begins with h = 0, which the run does not compute"):
        s.adopt(s.what_if("h_prev", (0, 0), 0.5, 0))
    assert set(s.influence(0, 0).batch) == {16}  # of this batch alone: the batches before are of other series


def test_the_squared_error_of_torch():
    s = Session(
        input=X, target=Y, batch_size=4, seq_length=5, hidden_size=6, cell="gru-reset-after", optimizer="sgd", clip=0.0, **FLOAT64
    )
    gru, head = torch.nn.GRU(3, 6).double(), torch.nn.Linear(6, 2).double()
    order = {"r": 0, "z": 1, "h": 2}
    with torch.no_grad():
        for gate, i in order.items():
            rows, way = slice(6 * i, 6 * i + 6), "n" if gate == "h" else gate
            for name, into in ((f"W{gate}", gru.weight_ih_l0), (f"U{gate}", gru.weight_hh_l0)):
                into[rows] = torch.tensor(s.parameter(name).T)
            gru.bias_ih_l0[rows], gru.bias_hh_l0[rows] = (
                torch.tensor(s.parameter(f"b{gate}")),
                torch.tensor(s.parameter(f"bh{way}")),
            )
        head.weight[:], head.bias[:] = torch.tensor(s.parameter("Wy").T), torch.tensor(s.parameter("by"))
    optimizer = torch.optim.SGD([*gru.parameters(), *head.parameters()], lr=0.01)
    x, y = (torch.tensor(each.reshape(4, 2, 5, -1).transpose(1, 2, 0, 3)) for each in (X, Y))
    s.learning, state = True, None
    for batch in range(2):
        out, state = gru(x[batch], state)
        loss = torch.nn.functional.mse_loss(head(out), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state = state.detach()
        s.step("batch")
        assert s.loss == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(s.parameter("Wy"), head.weight.detach().numpy().T, rtol=1e-12)


def test_whole_numbers_are_classes():
    s = Session(input=X, target=CLASSES, batch_size=2, seq_length=5, **FLOAT64)
    assert (s.config.loss, s.config.sizes["V"], s.config.vocabulary) == ("cross-entropy", 4, ("0", "1", "2", "3"))
    s.learning = True
    s.step("batch", 2)
    assert s.value("target", t=1).tolist() == [str(CLASSES[6]), str(CLASSES[26])]
    logits = torch.tensor(np.stack([s.value("logits", t=t) for t in range(5)])).flatten(0, 1)
    wanted = torch.tensor(CLASSES.reshape(2, 4, 5)[:, 1].T.copy()).flatten()
    assert s.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, wanted).item(), rel=1e-12)
    assert config_from({"input": X, "target": CLASSES + 0.0}).loss == "squared-error"
    assert config_from({"input": X, "target": CLASSES[:, None]}).loss == "squared-error"


def test_one_number_of_a_timestep_needs_no_axis():
    config = config_from({"input": X[:, 0], "target": Y[:, 0]})
    assert (config.sizes["I"], config.sizes["V"]) == (1, 1)


def test_the_arrays_are_copied():
    x, y = X.copy(), Y.copy()
    s = Session(input=x, target=y)
    x[:], y[:] = 9, 9
    s.step("timestep")
    np.testing.assert_array_equal(s.value("x")[0], X[0].astype("float32"))


def test_files_are_read(tmp_path):
    np.save(tmp_path / "x.npy", X.astype("float16"))
    np.save(tmp_path / "y.npy", Y)
    s = Session(input=tmp_path / "x.npy", target=str(tmp_path / "y.npy"))
    np.testing.assert_array_equal(s.config.source.inputs[0], X.astype("float16"))
    s = Session(input=torch.tensor(X, requires_grad=True), target=torch.tensor(Y))
    np.testing.assert_array_equal(s.config.source.targets[0], Y)


def put(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"input": X}, "input", "input is given without target; give both, as arrays or .npy files"),
        ({"target": Y}, "target", "target is given without input; give both"),
        ({"input": X, "target": Y, "text": "abc"}, "text", "text belongs to a text, but the run reads numbers"),
        ({"input": X, "target": Y, "vocabulary": "abc"}, "vocabulary", "vocabulary belongs to a text, but the run reads numbers"),
        (
            {"input": X, "target": Y, "embedding": 3},
            "embedding",
            "an embedding is a table of characters, but the input",
        ),
        ({"input": X, "target": Y, "depth": 3}, "depth", "unknown option 'depth'"),
        (
            {"input": X[None, None], "target": Y},
            "input",
            "the input has the shape (1, 1, 40, 3); give (time, features)",
        ),
        ({"input": X[:0], "target": Y[:0]}, "input", "the input has the shape (0, 3), so it is empty"),
        (
            {"input": X, "target": Y[1:]},
            "target",
            "the target has the shape (39, 2), but the input has (40, 3); give one",
        ),
        ({"input": SEVERAL, "target": TARGETS.T}, "target", "(6, 20,) or (6, 20, outputs); swap its first two axes"),
        ({"input": SEVERAL, "target": TARGETS[:, 0]}, "target", "the target has the shape (6,), but the input has (6, 20, 3)"),
        ({"input": X, "target": "nowhere.npy"}, "target", "nowhere.npy: no such file or directory; check the name"),
        ({"input": np.array(["a"] * 40), "target": Y}, "input", "input has the type <U1; give real numbers"),
        ({"input": X * 1j, "target": Y}, "input", "input has the type complex128; give real numbers"),
        ({"input": put(X, (7, 1), np.nan), "target": Y}, "input", "input[7, 1] is nan; give finite numbers only"),
        (
            {"input": X, "target": put(Y, (slice(3, 5), 0), -np.inf)},
            "target",
            "target[3, 0] is -inf, and 1 more; give finite",
        ),
        ({"input": put(X, (7, 1), 1e39), "target": Y}, "input", "input[7, 1] is 1e+39, too large for float32; use dtype float64"),
        ({"input": X, "target": put(CLASSES, 5, -2)}, "target", "target[5] is -2; classes are whole numbers from 0"),
        ({"input": X, "target": put(CLASSES, 5, 10**9)}, "target", "target[5] is 1000000000; there can be 100,000 classes"),
        (
            {"input": X, "target": Y, "loss": "cross-entropy"},
            "target",
            "the loss cross-entropy compares with classes",
        ),
        (
            {"input": X, "target": CLASSES, "loss": "squared-error"},
            "target",
            "the loss squared-error compares with numbers",
        ),
        ({"input": X, "target": Y, "seq_length": 41}, "seq_length", "the input has 40 timesteps, fewer than a batch of 41"),
        ({"input": X, "target": Y, "batch_size": 20}, "batch_size", "20 rows of 3 timesteps need 60 (batch_size x seq_length)"),
        ({"input": SEVERAL, "target": TARGETS, "batch_size": 4}, "batch_size", "6 series cannot be divided into batches of 4 rows"),
        (
            {"input": SEVERAL, "target": TARGETS, "batch_size": 3, "carry": "notebook"},
            "carry",
            "carry notebook continues the gradient into the epoch's earlier batches, but after 3 of 6 series the next begin",
        ),
        ({"input": X, "target": Y, "hidden_size": 0}, "hidden_size", "hidden_size must be at least 1, not 0"),
        ({"input": X, "target": Y, "dtype": "float16"}, "dtype", "dtype must be one of float32, float64, not 'float16'"),
    ],
)
def test_a_mistake_is_refused_in_one_line(options, option, message):
    with pytest.raises(TuiGruError) as error:
        Session(**options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.option == option


def test_numbers_beyond_float32_need_float64():
    s = Session(input=put(X, (7, 1), 1e39), target=Y, **FLOAT64)
    assert s.config.source.inputs[0, 7, 1] == 1e39


def test_the_notebook_carry_takes_all_series_at_once():
    s = Session(input=SEVERAL, target=TARGETS, seq_length=5, carry="notebook", **FLOAT64)
    s.learning = True
    s.step("batch", 3)
    check = s.check()
    assert check.agrees


def test_cutting_uses_every_whole_piece():
    config = config_from({"input": SEVERAL, "target": TARGETS, "batch_size": 2, "seq_length": 6})
    cut = cut_into_batches(np.arange(6 * 20).reshape(6, 20), config)
    assert cut.shape == (9, 6, 2)
    assert np.unique(cut).size == cut.size
    assert series_of(SEVERAL, TARGETS).title == "6 series of 20 timesteps, 3 inputs"
