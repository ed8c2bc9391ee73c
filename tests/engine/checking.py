"""The checks that a correct engine passes and a faulty one must not: an epoch of a random model, every number of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from tui_gru.engine.parameters import Parameters
from tui_gru.engine.record import Activations, BatchRecord

from tui_gru.engine import trainer
from tui_gru.engine.config import CARRIES, RESETS, Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.reference import check_batch

LEARNING_RATE = 0.3


def random_config(seed: int = 0, *, hidden=3, batch=2, length=4, vocab=5, **options) -> Config:
    """Three batches of a random text; the sizes all differ, so that no two axes can be taken for each other."""
    generator = np.random.default_rng(seed)
    vocabulary = "".join(chr(ord("a") + i) for i in range(vocab))
    text = "".join(generator.choice(list(vocabulary), 3 * batch * length + 1))
    sizes = {"hidden_size": hidden, "batch_size": batch, "seq_length": length}
    return Config.of(text=text, vocabulary=vocabulary, seed=seed, **sizes, **options)


ALL_WAYS = [random_config(dtype="float64", reset=reset, carry=carry) for reset, carry in product(RESETS, CARRIES)]


def random_parameters(config: Config, scale: float = 1.0) -> Parameters:
    """Normal weights and biases: none is zero, no matrix is symmetric."""
    values = np.random.default_rng(config.seed + 1).normal(0, scale, config.parameter_count)
    return Parameters(values.astype(config.dtype), config.vocab_size, config.hidden_size, config.reset)


def random_state(config: Config) -> np.ndarray:
    """A state (B, H) that is not zero."""
    return np.random.default_rng(config.seed + 2).normal(size=(config.batch_size, config.hidden_size)).astype(config.dtype)


def epoch(config: Config, parameters: Parameters | None = None) -> Iterator[tuple[BatchRecord, Sequence[Activations]]]:
    """The batches of an epoch that begins with a random state: each record, and the activations of those before it."""
    runner = trainer.Trainer(config, Corpus(config))
    parameters = parameters or random_parameters(config)
    state, earlier = random_state(config), []
    for batch in range(config.num_batches):
        record = runner.new_record()
        runner.run(record, batch, parameters, state, learn=True, learning_rate=LEARNING_RATE, earlier=earlier)
        yield record, tuple(earlier)
        if config.carry == "notebook":
            earlier.insert(0, record.activations)
        parameters, state = record.updated, runner.carried(batch + 1, record.activations.h[-1])


def check(config: Config, *, entries: int = 0) -> None:
    """Run an epoch and hold all that it computes to what it should be; `AssertionError` at the first thing that is not.

    `entries` of each array are also checked by finite differences.
    """
    tolerance = {"rtol": 1e-12 if config.dtype == "float64" else 1e-5, "atol": 1e-12 if config.dtype == "float64" else 1e-6}
    state = random_state(config)
    for batch, (record, earlier) in enumerate(epoch(config)):
        _check_characters(config, batch, record)
        np.testing.assert_array_equal(record.activations.h_prev[0], state)
        for comparison in check_batch(record, earlier=earlier, entries=entries):
            assert comparison.agrees, comparison
        for name, before in record.parameters.items():
            np.testing.assert_allclose(record.updated[name], before - LEARNING_RATE * record.gradients[name], **tolerance)
        np.testing.assert_allclose(record.grad_norm, np.linalg.norm(record.gradients.flat.astype(float)), **tolerance)
        state = record.activations.h[-1] if config.carry != "reset" else np.zeros_like(state)


def _check_characters(config: Config, batch: int, record: BatchRecord) -> None:
    T, B = config.seq_length, config.batch_size
    for t, row in product(range(T), range(B)):
        place = (batch * B + row) * T + t
        for one_hot, char in ((record.activations.x, config.text[place]), (record.activations.y, config.text[place + 1])):
            assert "".join(c for c, on in zip(config.vocabulary, one_hot[t, row], strict=True) if on) == char
            assert one_hot[t, row].sum() == 1
