"""The reference check finds a wrong number, names its place, and compares each number in the right way."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.line_by_line import after
from tests.engine.models import SIZES, disagreements, epoch, filled, learned, run, settings_of
from tests.extent import examples
from tests.session.pairs.cells import random_cell
from tui_gru.engine.compiled import Compiled
from tui_gru.engine.config import DTYPES
from tui_gru.engine.model import Structure, model_of
from tui_gru.engine.reference import Slopes, check_batch, slopes_of
from tui_gru.engine.training import compute
from tui_gru.equations.page import names_of
from tui_gru.errors import TuiGruError

GRU = Structure(cell="gru", update="adam", clip=True)
DEEP = Structure(cell="lstm", layers=2, bidirectional=True, lengths=True, loss="", head="", input="dense")


def test_every_name_once_in_the_order_of_the_listing():
    record = learned(GRU)
    found = {against: [c.name for c in check_batch(record, entries=3) if c.against == against] for against in
             ("forward pass", "autograd", "finite differences", "update")}  # fmt: skip
    assert found["forward pass"] == [
        "hUz", "az", "z", "hUr", "ar", "r", "rh", "hUh", "ah", "h_tilde", "one_minus_z", "new", "h", "logits", "y_hat", "log_p",
        "term1", "term2", "term3", "loss",
    ]  # fmt: skip
    deltas = [
        "dlogits", "dh_output", "dh_future", "dh", "dz", "daz", "dh_tilde", "dah", "drh", "dr", "dar",
        "dh_carry", "dh_candidate", "dh_update", "dh_reset", "dh_prev",
    ]  # fmt: skip
    weights = list(record.before.names)
    assert found["autograd"] == found["finite differences"] == deltas + [f"d{name}" for name in weights]
    assert found["update"] == ["grad_norm", "clip"] + [
        name
        for weight in weights
        for name in (f"g_{weight}", f"m_{weight}", f"v_{weight}", f"m_hat_{weight}", f"v_hat_{weight}", weight)
    ]


def test_how_many_entries_were_compared():
    record = learned(GRU)
    for comparison in check_batch(record, entries=3):
        if comparison.against == "finite differences":
            assert comparison.checked == 3
        elif comparison.against == "autograd":
            assert comparison.checked == slopes_of(record)[comparison.name].size
    assert not [c for c in check_batch(record, entries=0) if c.against == "finite differences"]


@pytest.mark.parametrize("structure", [GRU, DEEP], ids=["gru", "lstm"])
def test_any_wrong_value_is_found_where_it_is(structure):
    """One entry of one array at a time is changed; each is found under its name, by the comparison that covers it."""
    record = learned(structure)
    names = [c.name for c in check_batch(record, entries=0) if c.against == "forward pass"]
    for name in names[:: 1 if structure is GRU else 9]:
        array = record.array(name)
        index = tuple(size - 1 for size in array.shape)
        kept = array[index]
        array[index] += 1e-6
        wrong = [c for c in disagreements(check_batch(record, entries=0)) if c.against == "forward pass" and c.name == name]
        assert [c.index for c in wrong] == [index], name
        array[index] = kept


@pytest.mark.parametrize("against", ["autograd", "finite differences"])
@pytest.mark.parametrize("structure", [GRU, DEEP], ids=["gru", "lstm"])
def test_any_wrong_slope_is_found_where_it_is(structure, against):
    record = learned(structure)
    names = list(slopes_of(record))
    for name in names[:: 1 if against == "autograd" and structure is GRU else 5 if structure is GRU else 23]:
        if name.startswith(("dh_future", "dc_future")):
            continue  # it is dh_prev, one timestep later
        array = slopes_of(record)[name]
        index = tuple(0 for _ in array.shape)
        kept = array[index]
        array[index] += 1000
        wrong = [
            c
            for c in disagreements(check_batch(record, entries=1 if against == "finite differences" else 0))
            if c.against == against
        ]
        (found,) = [c for c in wrong if c.name == name]
        assert (found.index, found.ours) == (index, array[index])
        assert found.absolute == pytest.approx(1000, rel=1e-6)
        assert found.theirs == pytest.approx(kept, abs=1e-4)
        array[index] = kept


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", names_of("cell"))
def test_a_gradient_that_is_wrong_by_one_in_ten_thousand_is_found_in_every_line(cell, dtype):
    record = learned(Structure(cell=cell), dtype=dtype, scale=0.5)
    page = record.compiled.model.page
    assert disagreements(check_batch(record, entries=0)) == []
    for name, array in slopes_of(record).items():
        if name in map(page.received, page.states):
            continue  # it is dh_prev, one timestep later
        correct = array.copy()
        array *= 1.0001
        wrong = {each.name for each in disagreements(check_batch(record, entries=0)) if each.against == "autograd"}
        assert name in wrong
        array[...] = correct


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_rounding_explains_follows_from_the_sizes_of_the_sums(dtype):
    """It is a few units in the last place of the terms, not a share of the largest entry."""
    record = learned(GRU, dtype=dtype)
    unit = float(np.finfo(dtype).eps)
    for each in check_batch(record, entries=0):
        if each.against != "update":  # v_hat is divided by 1 − β2^n, a small difference of large numbers
            assert each.allowed <= 200 * unit * max(1.0, abs(each.theirs)), each


@pytest.mark.parametrize("seed", range(examples(8, soak=400)))
def test_correct_batches_of_random_cells_raise_no_alarm(seed):
    draw = np.random.default_rng(seed)
    sizes = {"T": 1 + seed % 9, "B": int(draw.integers(1, 9)), "H": int(draw.choice([1, 3, 16])), "V": int(draw.integers(2, 30))}
    options = {"layers": 1 + seed % 3 // 2, "bidirectional": seed % 4 == 0, "update": ("sgd", "adam", "momentum")[seed % 3]}
    try:
        model = Compiled(
            model_of(Structure(cell="mine.cell", cell_text=random_cell(seed).equations, **options)),
            {**SIZES, **sizes},
            DTYPES[seed % 2],
        )
    except TuiGruError:
        return  # a cell in which something does not reach the loss
    with np.errstate(all="ignore"):
        record = learned(model, seed=seed, scale=(0.1, 0.5, 1.0, 2.0)[seed % 4])
        assert disagreements(check_batch(record, entries=seed % 5 == 0)) == []


@pytest.mark.parametrize("name", ["Wz", "m_Uh", "v_by", "g_Wr", "m_hat_bz", "v_hat_Wy"])
def test_a_wrong_number_of_the_update_is_found(name):
    record = learned(GRU, dtype="float32")
    array = after(record, name)
    array.flat[np.abs(array).argmax()] *= 1.0001
    assert next(c.name for c in disagreements(check_batch(record, entries=0)) if c.against == "update") == name


def test_a_wrong_loss_norm_or_setting_is_found():
    record = learned(GRU)
    record.numbers = {**record.numbers, "clip": record.numbers["clip"] * 1.001}
    assert "clip" in [c.name for c in disagreements(check_batch(record, entries=0))]
    record = learned(GRU)
    record.settings = {**record.settings, "learning_rate": 0.3001}
    assert {c.against for c in disagreements(check_batch(record, entries=0))} == {"update"}


def test_a_wrong_gain_of_an_earlier_batch_is_found():
    *earlier, record = epoch(Structure(cell="gru"), 3)
    assert disagreements(check_batch(record, earlier=earlier[::-1], entries=0)) == []
    wrong = disagreements(check_batch(record, earlier=earlier[-1:], entries=1))
    assert {c.against for c in wrong} == {"autograd", "finite differences"}
    assert {"dWz", "dUh"} <= {c.name for c in wrong}
    assert not {"dWy", "dby", "dh_prev", "daz"} & {c.name for c in wrong}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_that_explodes_still_agrees(dtype):
    record = learned(Structure(cell="gru"), {"T": 24, "B": 4, "H": 48, "V": 8}, dtype, scale=1.2)
    assert record.grad_norm > 1e4
    assert disagreements(check_batch(record)) == []


def test_a_probability_of_0_is_no_trouble():
    """log y_hat is computed from the logits, so it stays finite."""
    record = filled(Structure(cell="rnn"))
    record.before["by"][0] = 2000
    run(record)
    assert (record.array("y_hat") == 0).any()
    assert disagreements(check_batch(record, entries=1)) == []


def test_a_batch_without_an_update_is_checked_without_it():
    record = filled(GRU)
    compute(record, None, learn=True)
    found = check_batch(record, entries=1)
    assert disagreements(found) == []
    assert {c.against for c in found} == {"forward pass", "autograd", "finite differences"}


def test_batches_that_cannot_be_checked_are_refused():
    record = filled(GRU)
    compute(record, settings_of(record), learn=False)
    with pytest.raises(TuiGruError, match="turn learning on"):
        check_batch(record)
    record.before["Wy"][0, 0] = np.nan
    run(record)
    with pytest.raises(TuiGruError, match="NaN or Inf"):
        check_batch(record)


def test_the_same_entries_are_drawn_for_the_same_seed():
    record = learned(GRU)
    assert check_batch(record, seed=3) == check_batch(record, seed=3)


def test_many_rows_and_copies():
    """Finite differences of one row at a time equal those of the whole batch."""
    record = learned(Structure(cell="lstm", layers=2), {**SIZES, "B": 3})
    slopes = Slopes(record)
    where = {name: [tuple(0 for _ in array.shape)] for name, array in slopes_of(record).items()}
    alone = slopes.measured(where, 1.0)
    exact = slopes.gradients()
    for name, (index,) in where.items():
        np.testing.assert_allclose(alone[name][0, 0], exact[name][index], atol=1e-9, err_msg=name)
