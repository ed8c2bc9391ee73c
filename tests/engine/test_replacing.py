"""A number put in the place of one that was computed: what follows from it is as the listing says, and nothing else changes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from tui_gru.engine.record import BACKWARD_NAMES, FORWARD_NAMES
from tui_gru.engine.replacing import REPLACEABLE, replace_gradient, replace_parameter, replace_value

from tests.engine.checking import LEARNING_RATE, epoch, random_config
from tests.engine.interpreter import BACKWARD, FORWARD, WRITES, finish, sigmoid
from tests.engine.test_resume import SINGLE, VALUES, bits, last_batch
from tui_gru.engine.config import RESETS
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.reference import DELTAS
from tui_gru.engine.trainer import Trainer

WRITTEN_BY = {name: line for line, names in WRITES.items() for name in names}
PATHS = ("dh_carry", "dh_candidate", "dh_update", "dh_reset")


def replaceable(reset):
    """Every (name, timestep) that can be replaced, of a batch of four timesteps."""
    names = [name for name in REPLACEABLE if name != ("dm" if reset == "before" else "drh")]
    return [(name, t) for name, t in product(names, range(4)) if (name, t) != ("dh_future", 3)]


def as_listed(m, name, t, index, value):
    """The interpreter's memory with a number put in and the rest of its line done; where it goes on: phase, t, done."""
    if name == "h_prev":
        m["h_prev"][t][index] = value
        if t:
            m["h"][t - 1][index] = value
        return "forward", t, 0
    if name == "dh_future":
        m["dh_prev"][t + 1][index] = value
        return "backward", t, 1
    m[name][t : t + 1][(0, *index)] = value
    if name in ("az", "ar"):
        m[name[1]][t] = sigmoid(m[name][t])
    elif name == "ah":
        m["h_tilde"][t] = np.tanh(m["ah"][t])
    elif name == "h" and t + 1 < len(m["h"]):
        m["h_prev"][t + 1] = m["h"][t]
    elif name == "dh_output":
        m["dh"][t] = m["dh_output"][t] + m["dh_future"][t]
    elif name in PATHS:
        m["dh_prev"][t] = sum(m[path][t] for path in PATHS)
    line = WRITTEN_BY[name]
    phase, lines = ("forward", FORWARD) if line in FORWARD else ("backward", BACKWARD)
    return phase, t, lines.index(line) + 1


@pytest.mark.parametrize("reset", RESETS)
def test_what_follows_is_as_the_listing_says(reset):
    config = random_config(reset=reset, dtype="float64")
    record, _ = last_batch(config)
    trainer, names, deltas = Trainer(config, Corpus(config)), record.parameters.names, DELTAS[reset]
    begun = bits(record)
    for name, t in replaceable(reset):
        index = tuple(size - 1 for size in record.array(name).shape[1:])
        memory = {each: record.array(each).copy() for each in (*VALUES, *deltas)} | dict(record.parameters.items())
        memory["loss"] = record.loss
        finish(memory, names, *as_listed(memory, name, t, index, 0.3), LEARNING_RATE)
        copy = record.copy()
        trainer.resume(copy, record.parameters, replace_value(copy, name, t, index, 0.3), learn=True)
        assert copy.array(name)[t : t + 1][(0, *index)] == 0.3, (name, t)
        for each in (*VALUES, *deltas):
            np.testing.assert_allclose(copy.array(each), memory[each], rtol=1e-10, atol=1e-13, err_msg=f"{each}: {name} {t}")
        for each in names:
            np.testing.assert_allclose(copy.updated[each], memory[each], rtol=1e-10, atol=1e-13, err_msg=f"{each}: {name} {t}")
        assert copy.loss == pytest.approx(memory["loss"], rel=1e-12)
    assert bits(record) == begun


@pytest.mark.parametrize("config", SINGLE, ids=lambda config: f"{config.reset}-{config.carry}")
def test_the_same_number_changes_nothing_to_the_bit(config):
    record, earlier = last_batch(config)
    trainer, whole = Trainer(config, Corpus(config)), bits(record)
    for name, t in replaceable(config.reset):
        copy, index = record.copy(), (0,) * (record.array(name).ndim - 1)
        value = record.array(name)[t : t + 1][(0, *index)]
        trainer.resume(copy, record.parameters, replace_value(copy, name, t, index, value), learn=True, earlier=earlier)
        assert bits(copy) == whole, (name, t)
    for name, gradient in record.gradients.items():
        copy, index = record.copy(), (0,) * gradient.ndim
        at = replace_gradient(copy, name, index, gradient[index])
        trainer.resume(copy, record.parameters, at, learn=True, earlier=earlier)
        assert bits(copy) == whole, name


def test_a_gradient_that_is_replaced_is_what_the_update_goes_on_with():
    config = random_config(dtype="float64")
    record, _ = last_batch(config)
    copy = record.copy()
    at = replace_gradient(copy, "Uh", (1, 2), 5.0)
    Trainer(config, Corpus(config)).resume(copy, record.parameters, at, learn=True)
    assert copy.updated["Uh"][1, 2] == record.parameters["Uh"][1, 2] - LEARNING_RATE * 5
    assert np.flatnonzero(copy.updated.flat != record.updated.flat).size == 1
    assert copy.grad_norm == pytest.approx(np.sqrt(record.grad_norm**2 - record.gradients["Uh"][1, 2] ** 2 + 25))
    assert record.gradients["Uh"][1, 2] != 5


def test_a_parameter_that_is_replaced_is_there_from_the_beginning():
    config = random_config(dtype="float64")
    (record, _), *_ = epoch(config)
    trainer, parameters = Trainer(config, Corpus(config)), record.parameters.copy()
    copy, afresh = record.copy(), trainer.new_record()
    trainer.resume(copy, parameters, replace_parameter(parameters, "Wz", (1, 2), 0.5), learn=True)
    trainer.run(afresh, 0, parameters, record.activations.h_prev[0], learn=True, learning_rate=LEARNING_RATE)
    assert bits(copy) == bits(afresh)


def test_nothing_comes_back_from_beyond_the_last_timestep():
    record, _ = last_batch(random_config())
    with pytest.raises(TuiGruError, match="change dh there"):
        replace_value(record, "dh_future", 3, (0, 0), 1.0)


def test_every_name_can_be_replaced_but_the_characters():
    assert set(REPLACEABLE) == {*FORWARD_NAMES, *BACKWARD_NAMES} - {"x", "y"}
