"""The engine reproduces the numbers that the tutorial prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tui_gru.engine.config import Config
from tui_gru.engine.data import Corpus
from tui_gru.engine.sampling import sample_text
from tui_gru.engine.training import Trainer, initial_weights, train

PRINTED = json.loads(Path(__file__).with_name("tutorial.json").read_text())


def printed(value):
    return pytest.approx(np.array(value), abs=5.001e-5)  # four decimals


@pytest.fixture(scope="module")
def first_batch():
    config = Config.of()
    trainer = Trainer(config, Corpus(config))
    record = trainer.new_record()
    trainer.run(record, 0, initial_weights(config), trainer.initial_state(), learn=False, settings=config.settings)
    return record


@pytest.mark.parametrize(("name", "key"), [("y_hat", "outputs"), ("h", "hidden_states"), ("term2", "term_2"), ("term3", "term_3")])
def test_first_batch(first_batch, name, key):
    assert first_batch.array(name) == printed(PRINTED["batch_1"][key])


def test_first_batch_term_1_is_zero_but_at_the_targets(first_batch):
    term1, y = first_batch.array("term1"), first_batch.array("y")
    assert term1[y == 1].reshape(3, 2) == printed(PRINTED["batch_1"]["term_1_nonzero"])
    assert not term1[y == 0].any()


def test_first_batch_loss(first_batch):
    assert first_batch.loss == printed(PRINTED["batch_1"]["loss"])


def last_losses(epochs, **options):
    """Yield the loss of the last batch of each epoch, and the weights after each."""
    for _, batch, record in train(Config.of(**options), epochs=epochs):
        if batch == 2:
            yield record.loss, record.after


def test_a_fresh_models_first_epoch():
    assert [loss for loss, _ in last_losses(1)] == [printed(1.3024)]


RIGHT = {"detach": 718, "notebook": 658, "reset": 570}  # the epoch after which the greedy sample is right


def greedy(carry, parameters):
    return sample_text(Config.of(carry=carry), parameters, "Ma", 10, temperature=0).text


@pytest.fixture(scope="module")
def trained():
    """The losses of the printed table's run, its last weights, and the greedy sample after each epoch until it is right."""
    table = PRINTED["training_table"]
    carry, rows = table["carry"], len(table["loss_of_the_last_batch"])
    epochs = table["epochs_before_the_first_row"] + 1 + (rows - 1) * table["epochs_between_rows"]
    losses, texts = [], []
    for loss, parameters in last_losses(epochs, carry=carry):
        losses.append(loss)
        if len(texts) < RIGHT[carry]:
            texts.append(greedy(carry, parameters))
    return losses, parameters, texts


def test_printed_training_losses(trained):
    table = PRINTED["training_table"]
    ours = trained[0][table["epochs_before_the_first_row"] :: table["epochs_between_rows"]]
    np.testing.assert_allclose(ours, table["loss_of_the_last_batch"], rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize(("sampler", "key"), [("tutorial", "tutorial_sampler"), ("fed-back", "fed_back_greedy")])
def test_samples_after_training(trained, sampler, key):
    expected = PRINTED["sample_after_training"]
    drawn = sample_text(Config.of(), trained[1], expected["primer"], expected["length"], sampler=sampler, temperature=0)
    assert drawn.text == expected[key]


@pytest.mark.parametrize("carry", RIGHT)
def test_the_epoch_after_which_the_greedy_sample_is_right(trained, carry):
    if carry == PRINTED["training_table"]["carry"]:
        texts = trained[2]
    else:
        texts = [greedy(carry, parameters) for _, parameters in last_losses(RIGHT[carry], carry=carry)]
    assert texts.index("MathMathMath") == RIGHT[carry] - 1
