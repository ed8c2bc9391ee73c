"""Checkpoints keep to their budget by spacing out, and can be found again."""

import gc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_gru.debugger.history import FEWEST, Budget, History
from tui_gru.debugger.records import Kept, Records
from tui_gru.engine.config import Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.initial import initial_parameters
from tui_gru.engine.trainer import Trainer

CONFIG = Config.of()
STATE = np.zeros((2, 2), np.float32)


def record(number):
    trainer = Trainer(CONFIG, Corpus(CONFIG))
    made = trainer.new_record()
    trainer.run(made, 0, initial_parameters(CONFIG), STATE, learn=False, learning_rate=0.0)
    made.loss = float(number)
    return made


RECORD = record(0)


def run(history, batches):
    """What a stretch does with its history: a checkpoint before a batch where one is due, the numbers after it."""
    for _ in range(batches):
        batch = history.first + history.length
        if history.length and history.is_due(batch):
            history.keep(batch, np.full(54, batch, np.float32), STATE)
        RECORD.loss = float(batch)
        history.add(RECORD)


@given(
    first=st.integers(0, 20), stride=st.integers(1, 4), batches=st.integers(1, 200), limit=st.sampled_from((0, 3000, 10**4, 10**6))
)
@settings(max_examples=60, deadline=None)
def test_checkpoints_are_evenly_spaced_and_found(first, stride, batches, limit):
    history = History(first, Budget(limit), stride)
    run(history, batches)
    kept = {}
    for batch in range(first, first + batches):
        found = history.before(batch)
        if found is not None:
            assert found[0] <= batch
            kept[found[0]] = np.frombuffer(found[1], np.float32)
    assert all(batch % stride == 0 and batch > first and (row[:54] == batch).all() for batch, row in kept.items())
    assert len(kept) == history.count
    starts = sorted(kept)
    assert all(b - a == history.spacing for a, b in pairwise(starts))
    if starts:
        assert first + batches - starts[-1] <= 2 * history.spacing
    if limit == 10**6:
        assert history.spacing == stride
    if limit == 0:
        assert history.count <= FEWEST + 1
    assert history.column("loss").tolist() == [float(batch) for batch in range(first, first + batches)]


def test_a_history_keeps_to_its_budget():
    budget = Budget(100_000)
    history = History(0, budget)
    for _ in range(20):
        run(history, 100)
        assert history.nbytes <= budget.limit
    assert history.count > 50


def test_the_densest_stretch_gives_way():
    budget = Budget(200_000)
    old, new = History(0, budget), History(0, budget)
    run(old, 1000)
    assert old.spacing == 2
    run(new, 1000)
    assert old.nbytes + new.nbytes <= budget.limit
    assert max(old.spacing, new.spacing) <= 2 * min(old.spacing, new.spacing)


def test_what_is_forgotten_gives_its_memory_back():
    budget = Budget(200_000)
    for _ in range(5):
        old = History(0, budget)
        run(old, 400)
        del old
        gc.collect()
    new = History(0, budget)
    run(new, 400)
    assert new.spacing == 1


def test_a_checkpoint_cannot_be_changed():
    history = History(0, Budget(10**6))
    parameters = np.ones(54, np.float32)
    run(history, 1)
    history.keep(1, parameters, STATE)
    parameters[...] = 2
    batch, row = history.before(1)
    assert batch == 1
    array = np.frombuffer(row, np.float32)
    assert (array[:54] == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 3


def test_a_column_that_was_handed_out_stays_as_it_is():
    history = History(0, Budget(10**6))
    run(history, 10)
    column = history.column("loss")
    run(history, 200)
    assert column.tolist() == [float(batch) for batch in range(10)]
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 1


def test_records_at_hand_are_of_all_stretches_together():
    records = Records(10**9)
    one, other = records.new_stretch(), records.new_stretch()
    kept = [Kept(RECORD) for _ in range(6)]
    assert records.nearest(one, 5) is None
    for batch, each in enumerate(kept[:3]):
        records.keep(one, batch, each)
    records.keep(other, 1, kept[3])
    assert records.nearest(one, 9) == (2, kept[2])
    assert records.nearest(one, 0) == (0, kept[0])
    assert records.nearest(other, 1) == (1, kept[3])
    assert records.nearest(other, 0) is None
    records.keep(other, 4, kept[4])  # the one not used for longest goes
    assert records.nearest(one, 1) == (0, kept[0])
