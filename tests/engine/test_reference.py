"""The reference finds what is wrong, and says where."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.checking import ALL_WAYS, epoch, random_config, random_parameters
from tui_gru.engine.config import Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.reference import DELTAS, VALUES, check_batch
from tui_gru.engine.trainer import Trainer


@pytest.mark.parametrize("config", ALL_WAYS, ids=lambda config: f"{config.reset}-{config.carry}")
def test_every_name_is_compared_each_way(config):
    *_, (record, earlier) = epoch(config)
    found = check_batch(record, earlier=earlier, entries=3)
    slopes = [f"d{name}" for name in record.parameters.names] + list(DELTAS[config.reset])
    assert [c.name for c in found if c.against == "forward pass"] == [*VALUES[config.reset], "loss"]
    assert [c.name for c in found if c.against == "autograd"] == slopes
    assert [c.name for c in found if c.against == "finite differences"] == slopes
    sizes = {f"d{name}": value.size for name, value in record.gradients.items()}
    for c in found:
        assert c.checked == (3 if c.against == "finite differences" else sizes.get(c.name, c.checked))


@pytest.mark.parametrize("against", ["autograd", "finite differences"])
@pytest.mark.parametrize("name", ["dUr", "dby", "drh", "dh_reset"])
def test_a_wrong_entry_is_found_where_it_is(name, against):
    (record, _), *_ = epoch(random_config(dtype="float64"))
    array = record.gradients[name[1:]] if name[1:] in record.gradients.names else record.array(name)
    index = tuple(size - 1 for size in array.shape)
    array[index] += 1000
    (wrong,) = [c for c in check_batch(record) if c.against == against and not c.agrees]
    assert (wrong.name, wrong.index, wrong.ours) == (name, index, array[index])
    assert wrong.absolute == pytest.approx(1000)
    assert wrong.theirs == pytest.approx(wrong.ours - 1000, abs=1e-6)
    assert wrong.relative > 1000


@pytest.mark.parametrize("name", VALUES["after"][1:])  # h_prev is h, one timestep later
def test_a_wrong_value_is_found(name):
    (record, _), *_ = epoch(random_config(reset="after", dtype="float64"))
    array = record.array(name)
    array.flat[0] += 0.001
    wrong = [c.name for c in check_batch(record, entries=0) if c.against == "forward pass" and not c.agrees]
    assert name in wrong


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_that_explodes_still_agrees(dtype):
    config = random_config(hidden=48, batch=4, length=24, vocab=8, dtype=dtype)
    (record, _), *_ = epoch(config, random_parameters(config, scale=1.2))
    assert record.grad_norm > 1e4
    assert [c for c in check_batch(record) if not c.agrees] == []


def test_a_batch_without_gradients_is_refused():
    config = Config.of()
    trainer, parameters = Trainer(config, Corpus(config)), random_parameters(config)
    record = trainer.new_record()
    trainer.run(record, 0, parameters, trainer.initial_state(), learn=False, learning_rate=0.01)
    with pytest.raises(TuiGruError, match="turn learning on"):
        check_batch(record)
    parameters["Wy"][0, 0] = np.nan
    trainer.run(record, 0, parameters, trainer.initial_state(), learn=True, learning_rate=0.01)
    with pytest.raises(TuiGruError, match="NaN or Inf"):
        check_batch(record)
