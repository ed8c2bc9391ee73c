"""A batch can be taken up at any line: with nothing changed to the same bits, with a change as its listing says."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from tui_gru.engine.record import BACKWARD_NAMES, FORWARD_NAMES, BatchRecord

from tests.engine.checking import ALL_WAYS, LEARNING_RATE, epoch, random_config, random_parameters
from tests.engine.interpreter import BACKWARD, FORWARD, WRITES, finish
from tui_gru.engine.config import RESETS, Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.reference import DELTAS
from tui_gru.engine.trainer import Resume, Trainer

VALUES = (*FORWARD_NAMES, "hUh")


def last_batch(config: Config):
    """The last batch of an epoch, and the activations of those before it."""
    *_, (record, earlier) = epoch(config)
    return record, earlier


def places(config: Config) -> list[Resume]:
    """Every place within the loops over the timesteps."""
    forward = product(["forward"], range(config.seq_length), range(len(FORWARD) + 1))
    backward = product(["backward"], range(config.seq_length), range(len(BACKWARD) + 1))
    return [Resume(*place) for place in (*forward, *backward)]


def ahead(config: Config, at: Resume) -> set[tuple[str, int]]:
    """The (name, timestep) of every value that has not been computed at a place."""
    names: set[tuple[str, int]] = set()
    for t in range(config.seq_length):
        if at.phase == "forward":
            lines = FORWARD[at.done if t == at.t else 0 :] if t >= at.t else ()
            names |= {(name, t) for line in (*lines, *BACKWARD) for name in WRITES[line]}
        elif t <= at.t:
            names |= {(name, t) for line in BACKWARD[at.done if t == at.t else 0 :] for name in WRITES[line]}
    return {(name, t) for name, t in names if name in (*VALUES, *DELTAS[config.reset])}


def bits(record: BatchRecord) -> dict[str, bytes]:
    arrays = {name: record.array(name) for name in (*VALUES, *DELTAS[record.activations.config.reset])}
    numbers = {"loss": np.float64(record.loss), "norm": np.float64(record.grad_norm)}
    flats = {"gradients": record.gradients.flat, "updated": record.updated.flat}
    return {name: value.tobytes() for name, value in (arrays | numbers | flats).items()}


def forget(record: BatchRecord, at: Resume) -> None:
    """Overwrite what has not been computed yet, so that only computing it brings it back.

    But not dlogits in the backward pass: no parameter is in it, so it is computed for all timesteps at its beginning.
    """
    for name, t in ahead(record.activations.config, at):
        if at.phase == "forward" or name != "dlogits":
            record.array(name)[t] = np.nan
    record.gradients.flat[...] = record.grad_norm = np.nan
    if at.phase == "forward":
        record.loss = np.nan


SINGLE = [Config.of(**{**vars(config), "dtype": "float32"}) for config in ALL_WAYS]


@pytest.mark.parametrize("config", SINGLE, ids=lambda config: f"{config.reset}-{config.carry}")
def test_unchanged_it_is_the_same_batch_to_the_bit(config):
    record, earlier = last_batch(config)
    trainer, whole = Trainer(config, Corpus(config)), bits(record)
    for at in places(config):
        copy = record.copy()
        forget(copy, at)
        trainer.resume(copy, record.parameters, at, learn=True, earlier=earlier)
        assert bits(copy) == whole, at
    assert bits(record) == whole


@pytest.mark.parametrize("reset", RESETS)
def test_odd_sizes_are_the_same_to_the_bit_too(reset):
    """Vector instructions treat the ends of rows apart: sizes that no register fits."""
    config = random_config(4, hidden=37, batch=5, length=3, vocab=19, reset=reset)
    record, _ = last_batch(config)
    trainer, whole = Trainer(config, Corpus(config)), bits(record)
    for at in places(config):
        copy = record.copy()
        forget(copy, at)
        trainer.resume(copy, record.parameters, at, learn=True)
        assert bits(copy) == whole, at


@pytest.mark.parametrize("config", SINGLE, ids=lambda config: f"{config.reset}-{config.carry}")
def test_the_update_goes_on_from_any_parameter(config):
    record, earlier = last_batch(config)
    trainer, names = Trainer(config, Corpus(config)), record.parameters.names
    for reached in range(len(names) + 1):
        copy, now = record.copy(), record.parameters.copy()
        for name in names[:reached]:
            now[name][...] = record.updated[name]
        trainer.resume(copy, now, Resume("update", updated=frozenset(names[:reached])), learn=True, earlier=earlier)
        assert bits(copy) == bits(record)


@pytest.mark.parametrize("reset", RESETS)
def test_changed_the_rest_is_as_the_listing_says(reset):
    config = random_config(reset=reset, dtype="float64")
    record, _ = last_batch(config)
    trainer, names = Trainer(config, Corpus(config)), record.parameters.names
    changed = random_parameters(random_config(9, reset=reset, dtype="float64"))
    deltas = DELTAS[reset]
    for at in places(config):
        memory = {name: record.array(name).copy() for name in (*VALUES, *deltas)} | dict(changed.items()) | {"loss": record.loss}
        finish(memory, names, at.phase, at.t, at.done, LEARNING_RATE)
        copy, begun = record.copy(), bits(record)
        trainer.resume(copy, changed, at, learn=True)
        for name in (*VALUES, *deltas):
            np.testing.assert_allclose(copy.array(name), memory[name], rtol=1e-10, atol=1e-13, err_msg=f"{name} {at}")
        for name in names:
            np.testing.assert_allclose(copy.gradients[name], memory[f"d{name}"], rtol=1e-10, atol=1e-13, err_msg=f"d{name} {at}")
            np.testing.assert_allclose(copy.updated[name], memory[name], rtol=1e-10, atol=1e-13, err_msg=f"{name} {at}")
        assert copy.loss == pytest.approx(memory["loss"], rel=1e-12)
        written = set(product((*FORWARD_NAMES, *deltas), range(config.seq_length)))
        neighbours = set(product(("h_prev", "dh_future"), range(config.seq_length)))
        for name, t in written - neighbours - ahead(config, at):
            assert copy.array(name)[t].tobytes() == record.array(name)[t].tobytes(), (name, t, at)
        assert bits(record) == begun


@pytest.mark.parametrize("reset", RESETS)
def test_changed_in_the_update_what_was_reached_stays(reset):
    config = random_config(reset=reset, dtype="float64")
    record, _ = last_batch(config)
    trainer, names = Trainer(config, Corpus(config)), record.parameters.names
    now = random_parameters(random_config(9, reset=reset, dtype="float64"))
    for reached in range(len(names) + 1):
        copy = record.copy()
        trainer.resume(copy, now, Resume("update", updated=frozenset(names[:reached])), learn=True)
        for i, name in enumerate(names):
            expected = now[name] if i < reached else now[name] - LEARNING_RATE * record.gradients[name]
            np.testing.assert_allclose(copy.updated[name], expected, rtol=1e-14, err_msg=name)
        assert copy.gradients.flat.tobytes() == record.gradients.flat.tobytes()


def test_an_edited_state_is_what_the_backward_pass_goes_on_with():
    config = random_config(dtype="float64")
    record, _ = last_batch(config)
    names = record.parameters.names
    memory = {name: record.array(name).copy() for name in (*VALUES, *DELTAS["before"])} | dict(record.parameters.items())
    copy = record.copy()
    copy.array("h")[1] = memory["h"][1] = memory["h_prev"][2] = 0.5
    finish(memory, names, "backward", 2, 2, LEARNING_RATE)
    Trainer(config, Corpus(config)).resume(copy, record.parameters, Resume("backward", 2, 2), learn=True)
    for name in DELTAS["before"]:
        np.testing.assert_allclose(copy.array(name), memory[name], rtol=1e-10, atol=1e-13, err_msg=name)


def test_learning_can_begin_and_end_on_the_way():
    config = random_config()
    record, _ = last_batch(config)
    trainer = Trainer(config, Corpus(config))
    watched = record.copy()
    trainer.resume(watched, record.parameters, Resume("forward", 2, 4), learn=False)
    assert watched.deltas is watched.gradients is None
    assert watched.updated is watched.parameters is record.parameters
    assert watched.loss == record.loss
    for end in (Resume("forward", config.seq_length - 1, len(FORWARD)), Resume("update")):
        learned = watched.copy()
        trainer.resume(learned, record.parameters, end, learn=True)
        assert bits(learned) == bits(record)


def test_the_interpreter_knows_every_name():
    written = {name for names in WRITES.values() for name in names}
    assert written == {*FORWARD_NAMES, *BACKWARD_NAMES} - {"x", "y", "h_prev", "dh_future"}
